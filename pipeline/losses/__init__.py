"""Losses that depend on the input gradient, one file each; the name of the file is the name in a study.

loss = GradientNorm(strength=0.3)
loss(model, x, y).backward()
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from typing import ClassVar, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from pipeline import rooms
from pipeline.forward import Context, Draws, Forward


class Range(NamedTuple):
    """Where a hyperparameter search looks, both ends included."""

    low: float
    high: float
    log: bool = True


class Parts(NamedTuple):
    """total = task_weight * mean(task) + strength * mean(term); `task` and `term` are per example, shape (N,)."""

    total: Tensor
    task: Tensor
    term: Tensor


class Loss(BaseModel, ABC):
    """A task loss plus a term, both averaged over the batch. A new loss fills one hole: `term`.

    Calling it gives the scalar to call `.backward()` on, once: no second backward, nothing to zero.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    strength: float = Field(default=1.0, ge=0)
    """λ, the weight of the term."""

    search: ClassVar[dict[str, Range]] = {}
    """Knobs worth searching, with their ranges."""
    tasks: ClassVar[tuple[str, ...]] = ("classification", "regression")
    tracks_input: ClassVar[bool] = True
    """False where the term takes its input gradients in passes of its own: the task's pass is then a plain one."""

    @abstractmethod
    def term(self, at: Forward) -> Tensor:
        """The term of every example, shape (N,), finite and >= 0, differentiable with respect to the parameters."""

    @property
    def weight_of_task(self) -> float:
        """c, the weight of the task loss: 1 except where a paper trains on perturbed inputs alone."""
        return 1.0

    def parts(self, at: Forward) -> Parts:
        """The total with its two parts, from one forward pass at the given point."""
        if self.strength == 0:  # exactly `standard`, and as cheap
            return Parts(self.weight_of_task * at.losses.mean(), at.losses, at.losses.new_zeros(len(at.y)))
        term = self.term(at)
        total = self.weight_of_task * at.losses.mean() + self.strength * term.mean()
        return Parts(total, at.losses, term)

    def forward(
        self, model: nn.Module, x: Tensor, y: Tensor, context: Context | None = None, draws: Draws | None = None
    ) -> Forward:
        """The forward pass this loss wants: it follows the input's gradient only where the term needs it."""
        track = self.tracks_input and self.strength > 0
        return Forward(model, x, y, context=context, draws=draws, track=track)

    def __call__(
        self, model: nn.Module, x: Tensor, y: Tensor, context: Context | None = None, draws: Draws | None = None
    ) -> Tensor:
        """The loss of one batch, a scalar.

        Args:
            model: maps (N, *input) to (N, C) logits or (N, k) predictions.
            x: inputs in the data's own units, (N, *input).
            y: class numbers (N,) for cross-entropy, floating-point targets for squared error.
            context: direction, mask and bounds of the data, where the loss uses them.
            draws: the random numbers of this step, where the loss uses any.
        """
        return self.parts(self.forward(model, x, y, context, draws)).total


def load(name: str) -> type[Loss]:
    """The loss class of pipeline/losses/NAME.py: the one `Loss` that the file defines."""
    module = rooms.module("losses", name)
    found = [
        thing
        for thing in vars(module).values()
        if inspect.isclass(thing) and issubclass(thing, Loss) and thing.__module__ == module.__name__
    ]
    if len(found) != 1:
        raise TypeError(f"pipeline/losses/{name}.py must define exactly one Loss, it defines {len(found)}")
    return found[0]


Norm = Literal[1, 2, "inf"]
"""p of an Lp norm."""
