"""Losses that depend on the input gradient, one file each; the name of the file is the name in a study.

loss = GradientNorm(strength=0.3)
loss(model, x, y).backward()
"""

from __future__ import annotations

import inspect
import sys
from abc import ABC, abstractmethod
from typing import ClassVar, Literal, NamedTuple, Self, cast

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn

from inputgrad import registry
from inputgrad.errors import UserError
from inputgrad.gradients.ascent import Adversary
from inputgrad.gradients.forward import Context, Draws, Forward
from inputgrad.losses._published import Published as Published
from inputgrad.losses._published import Setting as Setting
from inputgrad.tasks import Classification, Regression

Norm = Literal[1, 2, "inf"]
"""p of an Lp norm."""


class Range(NamedTuple):
    """Where a hyperparameter search looks, both ends included."""

    low: float
    high: float
    log: bool = True


class Parts(NamedTuple):
    """total = task_weight * mean(task) + strength * mean(term); `task` is (N,), `term` (N,) or what `share` left of it.

    `term` is None on a step that leaves it out.
    """

    total: Tensor
    task: Tensor
    term: Tensor | None


class Loss(BaseModel, ABC):
    """A task loss plus a term, both averaged over the batch. A new loss fills one hole: `term`.

    Calling it gives the scalar to call `.backward()` on, once: no second backward, nothing to zero.

    strength: λ, the weight of the term.
    ramp: epochs over which the strength rises linearly from 0; 0: full strength from the first step.
    every: lazy regularisation: the term is evaluated on every k-th step, k times stronger (unbiased over steps).
    share: the part of the batch, drawn at random, that the term is evaluated on (its mean is unbiased).
    on: an adversarial task loss: l_i is taken at the moved input instead of at x_i.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    strength: float = Field(default=1.0, ge=0)
    ramp: int = Field(default=0, ge=0)
    every: int = Field(default=1, ge=1)
    share: float = Field(default=1.0, gt=0, le=1)
    on: Adversary | None = None

    search: ClassVar[dict[str, Range]] = {}
    """Knobs worth searching, with their ranges."""
    published: ClassVar[dict[str, Published]] = {}
    """Source -> how its strength becomes ours."""
    needs: ClassVar[tuple[str, ...]] = ()
    """What of the `Context` it cannot do without: direction, mask, or the name of something known of every example."""
    tasks: ClassVar[tuple[str, ...]] = (Classification.name, Regression.name)
    tracks_input: ClassVar[bool] = True
    """False where the term takes its input gradients in passes of its own: the task's pass is then a plain one."""
    subtracts_passes: ClassVar[bool] = False
    """True where the term is a difference of two passes: they then run in float32, also under autocast."""

    @abstractmethod
    def term(self, at: Forward) -> Tensor:
        """The term of every example, shape (N,), finite and >= 0, differentiable with respect to the parameters."""

    @property
    def weight_of_task(self) -> float:
        """c, the weight of the task loss: 1 except where a paper trains on perturbed inputs alone."""
        return 1.0

    @model_validator(mode="after")
    def _trains_on_something(self) -> Self:
        if self.weight_of_task == 0 and (self.strength == 0 or self.every > 1 or self.ramp):
            raise ValueError("with task_weight 0 the term is all there is: it needs a strength > 0, every 1 and ramp 0")
        return self

    def strength_at(self, step: int, epoch: float) -> float:
        """The weight of the term on one step: 0 on the steps that `every` leaves out.

        Args:
            step: steps taken so far.
            epoch: epochs done so far, a fraction within an epoch.
        """
        if step % self.every:
            return 0.0
        ramp = min(1.0, epoch / self.ramp) if self.ramp else 1.0
        return self.strength * self.every * ramp

    def parts(self, at: Forward, strength: float | None = None) -> Parts:
        """The total with its two parts, from one forward pass at the given point.

        Args:
            at: the pass, from `forward`.
            strength: of this step, from `strength_at`; by default the loss's own.
        """
        strength = self.strength if strength is None else strength
        if strength == 0:  # exactly the task loss, and as cheap
            task = self._task(at)
            return Parts(self.weight_of_task * task.mean(), task, None)
        with at.precision():
            term = self.term(self._part(at))
            with torch.set_grad_enabled(self.weight_of_task > 0):
                task = self._task(at)
        weighted = strength * term.mean()
        return Parts(weighted + self.weight_of_task * task.mean() if self.weight_of_task else weighted, task, term)

    def _task(self, at: Forward) -> Tensor:
        return at.losses if self.on is None else self.on.losses(at)

    def _part(self, at: Forward) -> Forward:
        """The pass of a random part of the batch, where `share` asks for one; its mean estimates the batch's."""
        chosen = self._rows_of_term(at.y)
        return at if chosen == len(at.y) else at.part(at.draws.subset(at.x, chosen))

    def _rows_of_term(self, y: Tensor) -> int:
        return max(1, round(self.share * len(y))) if self.share < 1 else len(y)

    def forward(
        self,
        model: nn.Module,
        x: Tensor,
        y: Tensor,
        context: Context | None = None,
        draws: Draws | None = None,
        strength: float | None = None,
    ) -> Forward:
        """The forward pass this loss wants: it follows the input's gradient only where the term needs it."""
        strength = self.strength if strength is None else strength
        track = self.tracks_input and strength > 0 and self._rows_of_term(y) == len(y)
        exact = self.subtracts_passes and strength > 0
        return Forward(model, x, y, context=context, draws=draws, track=track, exact=exact)

    def __call__(
        self,
        model: nn.Module,
        x: Tensor,
        y: Tensor,
        context: Context | None = None,
        draws: Draws | None = None,
        strength: float | None = None,
    ) -> Tensor:
        """The loss of one batch, a scalar.

        Args:
            model: maps (N, *input) to (N, C) logits or (N, k) predictions.
            x: inputs in the data's own units, (N, *input).
            y: class numbers (N,) for cross-entropy, floating-point targets for squared error; `Context.task` says
                what else they are.
            context: direction, mask, bounds and task, where the loss uses them.
            draws: the random numbers of this step, where the loss uses any; by default the global ones.
            strength: of this step, from `strength_at`; by default the loss's own.

        Raises:
            UserError: `every` or `ramp` is set and no strength is given: a plain call counts no steps.
        """
        if strength is None and (self.every > 1 or self.ramp):
            fix = "take step = inputgrad.Step(loss, model), or give strength=loss.strength_at(step, epoch)"
            raise UserError(f"every and ramp need the number of the step, which a plain call does not know; fix: {fix}")
        with torch.enable_grad():  # a value is wanted in validation too, where gradients are switched off
            total = self.parts(self.forward(model, x, y, context, draws, strength), strength).total
        return total if torch.is_grad_enabled() else total.detach()


def load(name: str, use: str | None = None) -> type[Loss]:
    """The loss class of inputgrad/losses/NAME.py: the one `Loss` that it defines; or the class that `use` names."""
    thing = registry.find("inputgrad.losses", name, use)
    if use is not None:
        if not (inspect.isclass(thing) and issubclass(thing, Loss)) or inspect.isabstract(thing):
            raise UserError(f"{use} is no class of a loss; fix: name a class of inputgrad.losses.Loss with a `term`")
        if getattr(sys.modules[thing.__module__], thing.__qualname__, None) is not thing:
            raise UserError(f"{use} cannot be found in another process; fix: define the class at the top of a module")
        return cast("type[Loss]", thing)
    found = [
        one
        for one in vars(thing).values()
        if inspect.isclass(one) and issubclass(one, Loss) and one.__module__ == thing.__name__
    ]
    if len(found) != 1:
        raise TypeError(f"inputgrad/losses/{name}.py must define exactly one Loss, it defines {len(found)}")
    return found[0]
