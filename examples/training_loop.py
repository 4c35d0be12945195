"""A penalty on the input gradient in a plain training loop: the same accuracy, a smaller gradient.

Two half-moons, two equal nets; one is trained with the task loss alone, one with `GradientNorm` added to it.
"""

import torch
from torch import Tensor, nn

from inputgrad.gradients.descriptors import describe
from inputgrad.losses import Loss
from inputgrad.losses.gradient_norm import GradientNorm
from inputgrad.losses.standard import Standard


def moons(n: int) -> tuple[Tensor, Tensor]:
    """Points on two half-moons with noise, and which moon each is on."""
    y = torch.arange(n) % 2
    angle = torch.pi * torch.rand(n)
    upper = torch.stack([angle.cos(), angle.sin()], 1)
    lower = torch.stack([1 - angle.cos(), 0.5 - angle.sin()], 1)
    return torch.where(y[:, None] == 0, upper, lower) + 0.1 * torch.randn(n, 2), y


def train(loss: Loss, x: Tensor, y: Tensor) -> nn.Module:
    """The loop that everybody writes; only the line with `loss` is ours."""
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(2, 32), nn.SiLU(), nn.Linear(32, 32), nn.SiLU(), nn.Linear(32, 2))
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for step in range(200):
        batch = slice(step % 4 * 64, step % 4 * 64 + 64)
        optimizer.zero_grad()
        loss(model, x[batch], y[batch]).backward()  # once: no retain_graph, no x.grad
        optimizer.step()
    return model


torch.manual_seed(0)
x, y = moons(256)
for loss in (Standard(), GradientNorm(strength=0.3)):
    outputs, _, gradients = describe(train(loss, x, y), x, y)
    accuracy = (outputs.argmax(1) == y).double().mean()
    print(f"{type(loss).__name__}: accuracy {accuracy:.2f}, mean ‖g‖² {gradients.square().sum(1).mean():.4f}")
