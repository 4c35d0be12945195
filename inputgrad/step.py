"""One training step of a loss, of one net or of several: its gradient put where an optimiser looks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from inputgrad.errors import UserError
from inputgrad.gradients.containers import modules_of
from inputgrad.gradients.double_backward import computing, is_distributed, leaves_of, saying
from inputgrad.gradients.forward import Context, Draws, Forward, Model, evaluating
from inputgrad.losses import Loss, Strength
from inputgrad.losses._refuse import refuse_wrong_use

LIMITS: dict[str, Any] = {"recompile_limit": 4096, "accumulated_recompile_limit": 4096}
"""A process may train many models: PyTorch counts the graphs of all of them together, and stops at eight."""

COMPILES = "2.13"
"""The oldest torch that traces an input gradient inside a compiled graph and that our tests have seen do it."""


class Taken(NamedTuple):
    """What a step has seen, all of it without graph: the loss, its two parts in the mean, and what the term noted.

    `term` is None on a step that leaves it out.
    """

    total: Tensor
    task: Tensor
    term: Tensor | None
    notes: dict[str, Tensor]


class Step:
    """A step of your own loop: `step(x, y)` puts the gradient of the loss into the parameters' `.grad`.

    Args:
        loss: one of ours.
        model: maps (N, *input) to (N, C) logits or (N, k) predictions. Which of its parameters are trained is looked up
            at every step; frozen ones are left alone. Weights that the loss or a plain function uses besides are
            trained too.
        context: direction, mask, bounds and task, where the loss uses them.
        draws: the random numbers of the term; by default the global ones.
        steps_per_epoch: for a loss with a `ramp`, which is counted in epochs.
        accumulate: micro-batches of a step: the gradients of so many calls add up to that of their mean, and are
            cleared before the next. Micro-batches of different sizes: say their `weight`.
        scaler: a `torch.amp.GradScaler`: the loss is scaled, `scaler.unscale_` and `scaler.step` are yours.

    The steps are counted, so that `every` and `ramp` of the loss work.
    """

    def __init__(
        self,
        loss: Loss,
        model: Model,
        context: Context | None = None,
        draws: Draws | None = None,
        steps_per_epoch: int | None = None,
        accumulate: int = 1,
        scaler: torch.amp.GradScaler | None = None,
    ) -> None:
        refuse_wrong_step(loss, model, accumulate)
        self.loss, self.model, self.context, self.draws = loss, model, context, draws
        self.others: dict[Any, list[Tensor]] = {}
        self.seen: Any = None
        self.steps_per_epoch, self.accumulate, self.scaler = steps_per_epoch, accumulate, scaler
        self.calls = 0

    @property
    def steps(self) -> int:
        """How many steps were begun."""
        return -(-self.calls // self.accumulate)

    @property
    def parameters(self) -> list[nn.Parameter]:
        """Those that are trained now."""
        return [p for one in modules_of(self.model) for p in one.parameters() if p.requires_grad]

    def __call__(
        self,
        x: Any,
        y: Any = None,
        strength: Strength | None = None,
        examples: Mapping[str, Tensor] | None = None,
        points: Mapping[str, Any] | None = None,
        weight: float | None = None,
    ) -> Taken:
        """One batch.

        What lies in front of an x that requires a gradient (an encoder) gets its gradient too; there it is added to
        what `.grad` holds, as by any backward.

        Args:
            x: inputs (N, *input) in the data's own units, or a container, see `Context`.
            y: N labels or targets.
            strength: of this step; by default that of its number.
            examples: what is known of every example of this batch, see `Context`.
            points: of this step, see `Context`.
            weight: of this micro-batch, its share of the step's examples; by default 1 / accumulate.
        """
        context = with_known(self.context, examples, points)
        self.look_once(x, y, context)
        if weight is not None and not 0 < weight <= 1:
            raise UserError(f"weight {weight:g} is no share of a step; fix: weight=len(x) / examples of the whole step")
        strength, weights = self.count(strength), [p for one in modules_of(self.model) for p in one.parameters()]
        if (self.calls - 1) % self.accumulate == 0:  # of frozen layers too: an optimiser goes on with what lies there
            for tensor in (*weights, *(t for found in self.others.values() for t in found)):
                tensor.grad = None
        with computing(self.model, x):
            at = self.loss.forward(self.model, x, y, context, self.draws, strength)
            parts = self.loss.parts(at, strength)
        total = parts.total if self.accumulate == 1 else parts.total * (weight or 1 / self.accumulate)
        parameters = [p for p in weights if p.requires_grad]
        others = self.found_besides(at, parts.total, strength)
        if not parameters and not others:
            raise UserError("the model has no weights that are trained; fix: give the module itself, or unfreeze some")
        # one joint backward; into the parameters alone where x is a leaf of ours: its own .grad would be wasted work
        only = None if at.in_graph or is_distributed() else [*parameters, *others]
        with saying(self.model, at.x):
            (total if self.scaler is None else self.scaler.scale(total)).backward(inputs=only)
        return Taken(parts.total.detach(), parts.task.detach().mean(), mean(parts.term), noted(at))

    def look_once(self, x: Any, y: Any, context: Context | None) -> None:
        """Refuse what cannot be right. Of batches of one kind the first is looked at: it is a tenth of a small step."""
        kind = [(type(t), getattr(t, "shape", None), getattr(t, "dtype", None)) for t in (x, y)]
        use = kind, [*(context.points if context else ())]
        if use != self.seen:
            refuse_wrong_use(self.loss, self.model, x, y, context)
            self.seen = use

    def found_besides(self, at: Forward, total: Tensor, strength: Strength) -> list[Tensor]:
        """What the loss trains besides the model's own weights: a coefficient of an equation, a dict of weights, …

        Looked for once for every set of terms that are on: the walk through the graph takes longer than a small step.
        """
        if at.in_graph:
            return []
        on = tuple(one != 0 for one in strength) if isinstance(strength, tuple | list) else strength != 0
        if on not in self.others:
            own = {*map(id, at.made), *(id(p) for one in modules_of(self.model) for p in one.parameters())}
            self.others[on] = [leaf for leaf in leaves_of(total) if id(leaf) not in own]
        return self.others[on]

    def count(self, strength: Strength | None) -> Strength:
        """The strength of this step, the given one or that of its number; the next call is the next step."""
        if strength is None:
            if self.loss.counts_epochs and not self.steps_per_epoch:
                raise UserError("a ramp is counted in epochs; fix: Step(..., steps_per_epoch=len(loader))")
            number = self.calls // self.accumulate
            strength = self.loss.strength_at(number, number / (self.steps_per_epoch or 1))
        self.calls += 1
        return strength


class CompiledStep(Step):
    """The same as one graph of loss, input gradients and parameter gradients, by `torch.compile`.

    The first batch is compiled, which takes some seconds and needs torch 2.13 and a C++ compiler; one of another shape,
    such as the last of an epoch, takes the step of `Step`. Random numbers are the global ones. Values equal those of
    `Step` up to rounding.

    Raises:
        UserError: the loss, the model or this machine cannot compile it, with the reason; from the first call.
    """

    def __init__(self, loss: Loss, model: Model, context: Context | None = None, accumulate: int = 1) -> None:
        super().__init__(loss, model, context, Draws(None), accumulate=accumulate)
        if torch.__version__ < COMPILES:
            fix = "take Step, or install a newer torch"
            raise UserError(f"CompiledStep needs torch {COMPILES}, this is {torch.__version__}; fix: {fix}")
        if loss.counts_epochs:
            raise UserError(
                "a ramp changes the strength, and so the graph, at every step; fix: ramp: 0, or no compiling"
            )
        layers = [m for one in modules_of(model) for m in one.modules()]
        if loss.compares_passes(loss.strength) and any(isinstance(m, _DropoutNd) and m.p > 0 for m in layers):
            fix = "fix: do not compile, or leave Dropout out"
            raise UserError(f"this term compares passes that must drop the same units, which no graph can hold; {fix}")
        from torch._dynamo import config

        self.shape: torch.Size | None = None
        self.tracing = config.patch(trace_autograd_ops=True, **LIMITS)  # once: a patch is a class
        # eager random numbers: the same with and without compiling, and resumable with the global generator
        self.compiled = torch.compile(self.gradients, fullgraph=True, dynamic=False, options={"fallback_random": True})

    def __call__(
        self,
        x: Any,
        y: Any = None,
        strength: Strength | None = None,
        examples: Mapping[str, Tensor] | None = None,
        points: Mapping[str, Any] | None = None,
        weight: float | None = None,
    ) -> Taken:
        self.look_once(x, y, self.context)
        if isinstance(x, Tensor) and x.requires_grad:
            fix = "put what lies in front of x into the model, or take Step"
            raise UserError(f"a compiled step gives gradients to the weights of the model alone; fix: {fix}")
        shape = x.shape if isinstance(x, Tensor) else None
        if self.shape is None:
            self.shape = shape
            self.refuse_other_weights(x, y, with_known(self.context, examples, points))
        if shape != self.shape:  # compiling it would take longer than most batches of that size ever save
            return super().__call__(x, y, strength, examples, points, weight)
        strength, self.trained = self.count(strength), self.parameters
        try:
            with self.tracing:
                taken, gradients = self.compiled(x, y, strength, dict(examples or {}), dict(points or {}))
        except (RuntimeError, NotImplementedError) as error:  # PyTorch's own errors of compiling among them
            fix = "fix: do not compile"
            raise UserError(f"this loss and model cannot be compiled here: {said(error)}; {fix}") from error
        first, scale = (self.calls - 1) % self.accumulate == 0, weight or 1 / self.accumulate
        for parameter, gradient in zip(self.trained, gradients, strict=True):
            if gradient is not None and gradient.stride() != parameter.stride():
                gradient = torch.empty_like(parameter).copy_(gradient)  # as fused optimisers want it
            if gradient is not None and self.accumulate > 1:
                gradient = gradient * scale if first or parameter.grad is None else parameter.grad + gradient * scale
            if first or gradient is not None:
                parameter.grad = gradient
        return taken

    def refuse_other_weights(self, x: Any, y: Any, context: Context | None) -> None:
        """Raise a UserError where the loss trains more than the weights of the model, which no graph would know."""
        with evaluating(self.model), torch.random.fork_rng(), computing(self.model, x):
            at = self.loss.forward(self.model, x, y, context, self.draws)
            total = self.loss.parts(at).total
        if found := self.found_besides(at, total, self.loss.strength):
            shapes = ", ".join(str(tuple(one.shape)) for one in found[:3])
            raise UserError(f"a compiled step trains the weights of the model alone, not {shapes}; fix: take Step")

    def gradients(
        self, x: Any, y: Any, strength: Strength, examples: dict[str, Tensor], points: dict[str, Any]
    ) -> tuple[Taken, list[Tensor | None]]:
        """The step, and the gradient of every parameter; None where the loss does not reach it."""
        context = with_known(self.context, examples, points)
        at = self.loss.forward(self.model, x, y, context, self.draws, strength)
        parts = self.loss.parts(at, strength)
        found = torch.autograd.grad(parts.total, self.trained, allow_unused=True)
        taken = Taken(parts.total.detach(), parts.task.detach().mean(), mean(parts.term), noted(at))
        return taken, [None if g is None else g.detach() for g in found]


def refuse_wrong_step(loss: Any, model: Any, accumulate: Any) -> None:
    if isinstance(loss, type) or not isinstance(loss, Loss):
        name = loss.__name__ if isinstance(loss, type) else type(loss).__name__
        fix = f"Step({name}(0.1), model)" if isinstance(loss, type) else "Step(loss, model), in this order"
        raise UserError(f"{name} is no loss that was made; fix: {fix}")
    if not callable(model):
        raise UserError(f"the model is a {type(model).__name__}; fix: Step(loss, model)")
    if not isinstance(accumulate, int) or accumulate < 1:
        raise UserError(f"accumulate is {accumulate!r}; fix: the number of micro-batches, 1 or more")


def said(error: Exception) -> str:
    """The first line of an error of PyTorch's compiler, and its own explanation where it has one."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    why = next((line.removeprefix("Explanation:").strip() for line in lines if line.startswith("Explanation:")), "")
    return f"{lines[0][:200].rstrip(':.')}{f' ({why[:200]})' if why else ''}"


def with_known(
    context: Context | None, examples: Mapping[str, Tensor] | None, points: Mapping[str, Any] | None
) -> Context | None:
    if not examples and not points:
        return context
    known = context or Context()
    return replace(known, examples={**known.examples, **(examples or {})}, points={**known.points, **(points or {})})


def noted(at: Forward) -> dict[str, Tensor]:
    return {name: value.detach() for name, value in at.notes.items()}


def mean(term: Tensor | None) -> Tensor | None:
    return None if term is None else term.detach().mean()
