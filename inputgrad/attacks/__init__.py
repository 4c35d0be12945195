"""Attacks: one file each; `perturb` gives inputs inside the threat model that raise the loss most.

`TRAITS` says what the attack stage must know of it. A minimal-norm attack also has `nearest`, which asks for no ε: it
is run once for a norm, and its points are judged at every ε.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from pydantic import PositiveInt
from torch import Tensor, nn

from inputgrad import tasks
from inputgrad.errors import UserError
from inputgrad.gradients import norms
from inputgrad.gradients.forward import Draws, expand
from inputgrad.gradients.norms import BallNorm, ThreatNorm

Count = PositiveInt
"""Of steps, restarts, queries, …"""


@dataclass(frozen=True, kw_only=True)
class Traits:
    """What the attack stage must know of an attack.

    sees_all_examples: cheap; it is run on every example at every ε, so that it can be judged by itself. The others are
        run only on the examples that are not broken yet.
    black_box: it uses no gradient of the model it attacks.
    classes: it crosses a decision boundary, so it is not defined for a regression.
    least_classes: how many classes it needs.
    least_side: pixels that the sides of an image must have; 0: inputs of any shape.
    """

    sees_all_examples: bool = False
    black_box: bool = False
    classes: bool = False
    least_classes: int = 2
    least_side: int = 0

    def refuse(self, name: str, shape: Sequence[int], outputs: int) -> None:
        """Raise a UserError where the attack is not defined for inputs of this shape, or for so few classes."""
        if self.classes and outputs < self.least_classes:
            raise UserError(
                f"attack {name} needs {self.least_classes} classes or more, the model has {outputs}; take it out of the"
                " study"
            )
        if self.least_side and (len(shape) != 3 or min(shape[1:]) < self.least_side):
            raise UserError(
                f"attack {name} needs images (C, H, W) of {self.least_side} pixels a side or more, not {tuple(shape)};"
                " use random_search instead"
            )


@dataclass(frozen=True, kw_only=True)
class Threat:
    """What an attacker may do: move an input by at most `epsilon` in `norm`, and not out of the bounds."""

    norm: BallNorm
    epsilon: float
    bounds: tuple[float, float] | None = None

    @property
    def ball(self) -> ThreatNorm:
        return norms.named(self.norm)

    def project(self, moved: Tensor, x: Tensor) -> Tensor:
        return self.ball.project(moved, x, self.epsilon, self.bounds)

    def uniform(self, draws: Draws, x: Tensor) -> Tensor:
        return self.ball.uniform(draws, x, self.epsilon)

    def on_surface(self, draws: Draws, x: Tensor) -> Tensor:
        """A random displacement of length ε, shaped as x."""
        drawn = self.ball.direction(draws, x)
        return drawn * expand(self.epsilon / self.ball.size(drawn).clamp_min(1e-12), x)


class Worst:
    """The worst admissible input seen so far for every example: a broken one before any other, then the largest loss.

    Args:
        model: in eval mode, its parameters frozen.
        x: clean inputs, (N, *input).
        y: class numbers or targets.
    """

    def __init__(self, model: nn.Module, x: Tensor, y: Tensor) -> None:
        self.model, self.y, self.x, self.task = model, y, x.clone(), tasks.of(y)
        self.loss = torch.full((len(x),), -torch.inf, dtype=x.dtype, device=x.device)
        self.broken = torch.zeros(len(x), dtype=torch.bool, device=x.device)
        with torch.no_grad():
            self.measure(x, torch.arange(len(x), device=x.device))

    def measure(self, moved: Tensor, index: Tensor) -> Tensor:
        """The losses at `moved` (candidates for the examples `index`), differentiable; remembers what is worse."""
        if not len(moved):
            return moved.flatten(1).sum(1)  # none; many a model cannot take an empty batch
        outputs, y = self.outputs(moved, index), self.y[index]
        losses = self.task.losses(outputs, y)
        now = self.task.broken(outputs.detach(), y)
        before, loss = self.broken[index], losses.detach()
        worse = (now & ~before) | ((now == before) & (loss > self.loss[index]))
        better_index = index[worse]
        self.x[better_index] = moved.detach()[worse]
        self.loss[better_index] = loss[worse]
        self.broken[better_index] = now[worse]
        return losses

    def outputs(self, moved: Tensor, index: Tensor) -> Tensor:
        """What the model makes of candidates for the examples `index`."""
        found: Tensor = self.model(moved)
        return found

    def unbroken(self) -> Tensor:
        """Indices of the examples that still stand."""
        return (~self.broken).nonzero()[:, 0]

    def watching(self, index: Tensor) -> Callable[[Tensor], Tensor]:
        """The objective of an ascent over the examples `index`, which remembers every point it passes."""
        return lambda moved: self.measure(moved, index)
