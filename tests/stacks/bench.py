"""What the tests of training stacks share: nets in float64, textbook losses written out, the distance of gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

D = torch.float64
BOUND = 1e-6
"""How far a gradient may be from the textbook's, relative; 16-bit numbers have a bound of their own."""


def mlp(dtype: torch.dtype = D) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 4)).to(dtype)


def batch(n: int = 8, dtype: torch.dtype = D) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(1)
    return torch.rand(n, 6, generator=g, dtype=D).to(dtype), torch.randint(4, (n,), generator=g)


def gradient_norm(model: Callable[[Tensor], Tensor], x: Tensor, y: Tensor, strength: float = 0.5) -> Tensor:
    x = x.detach().clone().requires_grad_()
    losses = F.cross_entropy(model(x), y, reduction="none")
    (g,) = torch.autograd.grad(losses.sum(), x, create_graph=True)
    return losses.mean() + strength * g.flatten(1).square().sum(1).mean()


def jacobian_norm(model: Callable[[Tensor], Tensor], x: Tensor, y: Tensor, strength: float = 0.5) -> Tensor:
    x = x.detach().clone().requires_grad_()
    outputs, total = model(x), torch.zeros(())
    for k in range(outputs.shape[1]):
        (g,) = torch.autograd.grad(outputs[:, k].sum(), x, create_graph=True)
        total = total + g.flatten(1).square().sum(1).mean()
    return F.cross_entropy(outputs, y) + strength * total / 2


def fgsm(model: Callable[[Tensor], Tensor], x: Tensor, y: Tensor, strength: float = 0.5) -> Tensor:
    leaf = x.detach().clone().requires_grad_()
    (g,) = torch.autograd.grad(F.cross_entropy(model(leaf), y, reduction="sum"), leaf)
    return F.cross_entropy(model(x), y) + strength * F.cross_entropy(model((x + 0.1 * g.sign()).detach()), y)


def gradients_of(model: nn.Module, total: Tensor | None = None) -> list[Tensor | None]:
    """Of every weight, after a backward of `total` where it is given."""
    if total is not None:
        model.zero_grad(set_to_none=True)
        total.backward()
    return [None if p.grad is None else whole(p.grad).detach().clone() for p in model.parameters()]


def whole(t: Tensor) -> Tensor:
    return t.full_tensor() if hasattr(t, "full_tensor") else t


def gap(found: Iterable[Tensor | None], wanted: Iterable[Tensor | None]) -> float:
    """The distance of all numbers, relative to the length of the wanted ones."""
    off, length = 0.0, 0.0
    for a, b in zip(found, wanted, strict=True):
        assert (a is None) == (b is None), "a weight has no gradient"
        if a is not None and b is not None:
            off += float((a.to(D) - b.to(D)).square().sum())
            length += float(b.to(D).square().sum())
    return (off / length) ** 0.5
