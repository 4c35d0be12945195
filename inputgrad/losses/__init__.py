"""Losses that depend on the input gradient, one file each; the name of the file is the name in a study.

loss = GradientNorm(0.3)              # a task loss plus a term
loss(model, x, y).backward()
GradientNorm(of="outputs").penalty(model, points)   # the term alone, times its strength, at any points
GradientNorm(0.1) + TRADES(6)         # one task, two terms
"""

from __future__ import annotations

import inspect
import sys
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, Self, cast

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from torch import Tensor

from inputgrad import registry
from inputgrad.errors import UserError
from inputgrad.gradients.ascent import Adversary
from inputgrad.gradients.double_backward import computing
from inputgrad.gradients.forward import Context, Draws, Forward, Model
from inputgrad.losses._help import ABOUT as ABOUT
from inputgrad.losses._help import Shown, explain
from inputgrad.losses._published import Published as Published
from inputgrad.losses._published import Setting as Setting
from inputgrad.losses._refuse import outside_inference, refuse_wrong_knobs, refuse_wrong_use
from inputgrad.tasks import Classification, Regression

Norm = Literal[1, 2, "inf"]
"""p of an Lp norm."""


torch.serialization.add_safe_globals([Adversary])


class Range(NamedTuple):
    """Where a hyperparameter search looks, both ends included."""

    low: float
    high: float
    log: bool = True


Strength = float | Sequence[float]
"""Of one step; a sum has one for each of its terms."""


class Parts(NamedTuple):
    """total = task_weight * mean(task) + strength * mean(term); `task` is (N,), `term` (N,) or what `share` left of it.

    `term` is None on a step that leaves it out.
    """

    total: Tensor
    task: Tensor
    term: Tensor | None


class Loss(BaseModel, ABC, metaclass=Shown):
    """A task loss plus a term, both averaged over the batch. A new loss fills one hole: `term`.

    Calling it gives the scalar to call `.backward()` on, once: no second backward, nothing to zero. `a + b` is the task
    once, with both terms.

    strength: λ, the weight of the term.
    ramp: epochs over which the strength rises linearly from 0; 0: full strength from the first step.
    every: lazy regularisation: the term is evaluated on every k-th step, k times stronger (unbiased over steps).
    share: the part of the batch, drawn at random, that the term is evaluated on (its mean is unbiased).
    on: an adversarial task loss: l_i is taken at the moved input instead of at x_i.
    points: the name of points of the term's own, in `Context.points`; by default those of the batch.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    strength: float = Field(default=1.0, ge=0)
    ramp: int = Field(default=0, ge=0)
    every: int = Field(default=1, ge=1)
    share: float = Field(default=1.0, gt=0, le=1)
    on: Adversary | None = None
    points: str | None = None

    example: ClassVar[str] = ""
    """How to make one, for `help`, where that takes more than the name."""
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

    if not TYPE_CHECKING:  # type checkers know the knobs from the fields

        def __init__(self, *strength: float, **knobs: Any) -> None:
            takes_equation = "equation" in type(self).model_fields and callable(next(iter(strength), 0))
            unnamed = "equation" if takes_equation else "strength"
            refuse_wrong_knobs(type(self), unnamed, strength, knobs)
            try:
                super().__init__(**dict(zip((unnamed,), strength, strict=False)), **knobs)
            except ValidationError as error:
                first = error.errors()[0]
                where = ".".join(map(str, first["loc"]))
                said = first["msg"].removeprefix("Value error, ")
                raise UserError(f"{type(self).__name__}: {where + ': ' if where else ''}{said}") from None

        __init__.__pydantic_base_init__ = True  # YAML is validated without it, under its own messages

    def __setattr__(self, name: str, value: Any) -> None:
        fix = f"make another one, {type(self).__name__}({name}=…), or give loss(model, x, y, strength=…)"
        raise UserError(f"a loss does not change once it is made; fix: {fix}")

    def __add__(self, other: Loss) -> Loss:
        """The task once, with the terms of both."""
        from inputgrad.losses._sum import Sum

        return Sum.of(self, other)

    def __radd__(self, other: Any) -> Loss:
        return self if isinstance(other, int) and other == 0 else self.__add__(other)  # sum([...]) begins with 0

    def __mul__(self, factor: Any) -> Loss:
        name = type(self).__name__
        raise UserError(f"{name} times a number may mean its term or all of it; fix: {name}(strength=…)")

    __rmul__ = __mul__

    @property
    def asks_points(self) -> set[str]:
        """The names in `Context.points` that it asks for."""
        return set() if self.points is None else {self.points}

    @abstractmethod
    def term(self, at: Forward) -> Tensor:
        """The term of every example, shape (N,), finite and >= 0, differentiable with respect to the parameters."""

    @property
    def weight_of_task(self) -> float:
        """c, the weight of the task loss: 1 except where a paper trains on perturbed inputs alone."""
        return 1.0

    @classmethod
    def __pydantic_init_subclass__(cls, **_: Any) -> None:
        explain(cls, inspect.cleandoc(Loss.__doc__ or ""))
        if cls.__module__.startswith("inputgrad."):  # a checkpoint with one of ours loads with weights_only=True
            torch.serialization.add_safe_globals([cls])

    @model_validator(mode="after")
    def _trains_on_something(self) -> Self:
        if self.weight_of_task == 0 and (self.strength == 0 or self.every > 1 or self.ramp):
            raise ValueError("with task_weight 0 the term is all there is: it needs a strength > 0, every 1 and ramp 0")
        return self

    @property
    def counts_steps(self) -> bool:
        """Whether its strength is another one at other steps."""
        return self.every > 1 or self.ramp > 0

    @property
    def counts_epochs(self) -> bool:
        """Whether its strength is another one in other epochs."""
        return self.ramp > 0

    @property
    def period(self) -> int:
        """After so many steps the strengths come again."""
        return self.every

    def whole(self) -> Loss:
        """The same at full strength in every step, on the whole batch."""
        return self.model_copy(update={"share": 1.0, "every": 1, "ramp": 0})

    def strength_at(self, step: int, epoch: float) -> Strength:
        """The weight of the term on one step: 0 on the steps that `every` leaves out.

        Args:
            step: steps taken so far.
            epoch: epochs done so far, a fraction within an epoch.
        """
        if step % self.every:
            return 0.0
        ramp = min(1.0, epoch / self.ramp) if self.ramp else 1.0
        return self.strength * self.every * ramp

    def parts(self, at: Forward, strength: Strength | None = None) -> Parts:
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
            term = self._term(at)
            with torch.set_grad_enabled(self.weight_of_task > 0):
                task = self._task(at)
        weighted = cast("float", strength) * term.mean()
        return Parts(weighted + self.weight_of_task * task.mean() if self.weight_of_task else weighted, task, term)

    def _task(self, at: Forward) -> Tensor:
        return at.losses if self.on is None else self.on.losses(at)

    def _term(self, at: Forward) -> Tensor:
        """The term where it is wanted: at points of its own, or on the part of the batch that `share` leaves."""
        if self.points is not None:
            return self.term(at.elsewhere(self.points))
        if self.share == 1:
            return self.term(at)
        return self.term(at.part(at.draws.subset(at.x, max(1, round(self.share * at.size)))))

    def follows_input(self, strength: Strength, size: int) -> bool:
        """Whether the pass at the batch has to follow the input's gradient."""
        whole = self.share == 1 or max(1, round(self.share * size)) == size
        return self.tracks_input and strength != 0 and self.points is None and whole

    def compares_passes(self, strength: Strength) -> bool:
        """Whether passes are subtracted: they then run in float32."""
        return self.subtracts_passes and strength != 0

    def forward(
        self,
        model: Model,
        x: Any,
        y: Any = None,
        context: Context | None = None,
        draws: Draws | None = None,
        strength: Strength | None = None,
    ) -> Forward:
        """The forward pass this loss wants: it follows the input's gradient only where the term needs it."""
        strength = self.strength if strength is None else strength
        track = self.follows_input(strength, len(x) if isinstance(x, Tensor) else 0)
        return Forward(model, x, y, context=context, draws=draws, track=track, exact=self.compares_passes(strength))

    def __call__(
        self,
        model: Model,
        x: Any,
        y: Any = None,
        context: Context | None = None,
        draws: Draws | None = None,
        strength: Strength | None = None,
    ) -> Tensor:
        """The loss of one batch, a scalar.

        Args:
            model: maps (N, *input) to (N, C) logits or (N, k) predictions: a module, or a plain function.
            x: inputs in the data's own units, (N, *input); or what else the model takes, see `Context`.
            y: class numbers (N,) for cross-entropy, floating-point targets for squared error; `Context.task` says
                what else they are.
            context: direction, mask, bounds and task, where the loss uses them.
            draws: the random numbers of this step, where the loss uses any; by default the global ones.
            strength: of this step, from `strength_at`; by default the loss's own.

        Raises:
            UserError: the loss cannot be taken here, with the fix. `every` or `ramp` is set and no strength is given: a
                plain call counts no steps.
        """
        if strength is None and self.counts_steps:
            fix = "take step = inputgrad.Step(loss, model), or give strength=loss.strength_at(step, epoch)"
            raise UserError(f"every and ramp need the number of the step, which a plain call does not know; fix: {fix}")
        refuse_wrong_use(self, model, x, y, context)
        if y is None and not callable(context and context.task):
            fix = "the term alone, which needs no y, is loss.penalty(model, x)"
            raise UserError(f"y is missing: the task loss needs it; fix: give loss(model, x, y); {fix}")
        with computing(model, x), outside_inference(x, y) as (x, y), torch.enable_grad():
            total = self.parts(self.forward(model, x, y, context, draws, strength), strength).total
        return total if torch.is_grad_enabled() else total.detach()

    def each(
        self,
        model: Model,
        x: Any,
        y: Any = None,
        context: Context | None = None,
        draws: Draws | None = None,
    ) -> Tensor:
        """The term alone, of every example, (N,): no task, no strength.

        Args: those of a call; y only where the term asks for the gradient of the task loss.
        """
        refuse_wrong_use(self, model, x, y, context)
        with computing(model, x), outside_inference(x, y) as (x, y), torch.enable_grad():
            at = self.forward(model, x, y, context, draws, strength=1.0)
            with at.precision():
                term = self._term(at)
        return term if torch.is_grad_enabled() else term.detach()

    def penalty(
        self,
        model: Model,
        x: Any,
        y: Any = None,
        context: Context | None = None,
        draws: Draws | None = None,
    ) -> Tensor:
        """The term alone, a scalar: the strength times the mean of `each`, to be added to a loss of your own."""
        return self.strength * self.each(model, x, y, context, draws).mean()


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
