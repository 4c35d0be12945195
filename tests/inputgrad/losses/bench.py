"""The test bench that every loss is put on: small smooth nets, batches, and random draws that can be replayed."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from inputgrad import losses, registry
from inputgrad.gradients.draws import RowDraws
from inputgrad.gradients.forward import Context, Draws
from inputgrad.losses import Loss

SHAPE, CLASSES, N = (1, 4, 4), 3, 6
EVERY_LOSS = registry.names("inputgrad.losses")
CONTROLS = {"standard", "detached_norm", "detached_target", "detached_derivative"}
"""The baseline and the negative controls: those whose term reaches no parameter, on purpose."""
ASKS_NO_GRADIENT = CONTROLS | {"elle"}
"""What trains without the input gradient: the controls, and a loss of differences between random points."""


def cases() -> list[tuple[str, str]]:
    """(loss, task) for every loss of inputgrad/losses and every task that it is defined for."""
    return [(name, task) for name in EVERY_LOSS for task in losses.load(name).tasks]


def make(name: str, **knobs: object) -> Loss:
    """The loss with its own defaults and a strength of 0.5, where it has one."""
    strength = {} if name == "standard" else {"strength": 0.5}
    return losses.load(name)(**strength | knobs)


def net(task: str, dtype: torch.dtype = torch.float64) -> nn.Module:
    """A smooth net with a normalisation that does not couple examples."""
    torch.manual_seed(1)
    outputs = CLASSES if task == "classification" else 1
    layers = [nn.Conv2d(1, 4, 3, padding=1), nn.GroupNorm(2, 4), nn.SiLU(), nn.Flatten(), nn.Linear(64, outputs)]
    return nn.Sequential(*layers).to(dtype)


def batch(task: str, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Context]:
    """Inputs in [0.2, 0.8], targets, and everything a data set may know."""
    g = torch.Generator().manual_seed(2)
    x = torch.rand(N, *SHAPE, generator=g, dtype=torch.float64) * 0.6 + 0.2
    means = torch.rand(CLASSES, *SHAPE, generator=g, dtype=torch.float64)
    mask = (torch.rand(SHAPE, generator=g) > 0.5).to(dtype)
    if task == "classification":
        y = torch.randint(CLASSES, (N,), generator=g)
        return x.to(dtype), y, Context(direction=means.to(dtype), mask=mask, bounds=(0.0, 1.0))
    y = torch.randn(N, 1, generator=g, dtype=torch.float64)
    shapes = {"target_gradient": x.shape, "derivative_direction": x.shape, "derivative": (N,)}
    examples = {name: torch.randn(s, generator=g, dtype=torch.float64).to(dtype) for name, s in shapes.items()}
    return x.to(dtype), y.to(dtype), Context(direction=means[0].to(dtype), mask=mask, examples=examples)


def row_draws(index: Tensor) -> Draws:
    """The draws of the examples `index` of the plain batch."""
    return RowDraws(index, N)


def draws() -> Draws:
    """The draws of the plain batch."""
    return row_draws(torch.arange(N))


def gradients(value: Tensor, model: nn.Module) -> Tensor:
    """All parameter gradients of `value` in one vector."""
    found = torch.autograd.grad(value, list(model.parameters()), allow_unused=True)
    return torch.cat(
        [(torch.zeros_like(p) if g is None else g).flatten() for p, g in zip(model.parameters(), found, strict=True)]
    )
