"""A loss that prints the input gradient and does not train on it, the audit that finds it, and the loss put right."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from inputgrad.audit import audit


def void(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """The recipe that is copied everywhere: `x.grad.clone()` is a constant, so its penalty trains nothing.

    And where nothing clears the weights' gradients between the two `backward`, the task counts twice.
    """
    x = x.detach().requires_grad_(True)
    task = F.cross_entropy(model(x), y)
    task.backward(retain_graph=True)
    return task + 0.1 * x.grad.clone().square().sum()


def right(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """The same with `create_graph=True`, and per example: the penalty reaches the weights."""
    x = x.detach().requires_grad_(True)
    losses = F.cross_entropy(model(x), y, reduction="none")
    (g,) = torch.autograd.grad(losses.sum(), x, create_graph=True)
    return losses.mean() + 0.1 * g.square().sum(1).mean()


torch.manual_seed(0)
model = nn.Sequential(nn.Linear(5, 16), nn.SiLU(), nn.Linear(16, 3))
x, y = torch.randn(12, 5), torch.arange(12) % 3
for loss in (void, right):
    found = audit(loss, model, x, y)
    print(f"{loss.__name__}: {found.verdict}")
