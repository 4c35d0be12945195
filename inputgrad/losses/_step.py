"""One training step of a loss: its gradient put where an optimiser looks, eagerly or as one compiled graph."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from inputgrad.errors import UserError
from inputgrad.gradients.forward import Context, Draws

if TYPE_CHECKING:
    from inputgrad.losses import Loss


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
        model: maps (N, *input) to (N, C) logits or (N, k) predictions. Frozen parameters are left alone.
        context: direction, mask and bounds of the data, where the loss uses them.
        draws: the random numbers of the term; by default the global ones.
        steps_per_epoch: for a loss with a `ramp`, which is counted in epochs.

    The steps are counted, so that `every` and `ramp` of the loss work.
    """

    def __init__(
        self,
        loss: Loss,
        model: nn.Module,
        context: Context | None = None,
        draws: Draws | None = None,
        steps_per_epoch: int | None = None,
    ) -> None:
        self.loss, self.model, self.context, self.draws = loss, model, context, draws
        self.steps_per_epoch, self.steps = steps_per_epoch, 0
        self.parameters = [p for p in model.parameters() if p.requires_grad]

    def __call__(
        self, x: Tensor, y: Tensor, strength: float | None = None, examples: Mapping[str, Tensor] | None = None
    ) -> Taken:
        """One batch: inputs (N, *input) in the data's own units, N labels or targets, `examples` of the `Context`.

        What lies in front of an x that requires a gradient (an encoder) gets its gradient too; there it is added to
        what `.grad` holds, as by any backward.
        """
        strength = self.count(strength)
        for parameter in self.parameters:
            parameter.grad = None
        at = self.loss.forward(self.model, x, y, with_examples(self.context, examples), self.draws, strength)
        parts = self.loss.parts(at, strength)
        # one joint backward; into the parameters alone where x is a leaf of ours: its own .grad would be wasted work
        parts.total.backward(inputs=None if x.requires_grad else self.parameters)
        return Taken(parts.total.detach(), parts.task.detach().mean(), mean(parts.term), at.notes)

    def count(self, strength: float | None) -> float:
        """The strength of this step, the given one or that of its number; the next call is the next step."""
        if strength is None:
            if self.loss.ramp and not self.steps_per_epoch:
                raise UserError("a ramp is counted in epochs; fix: Step(..., steps_per_epoch=len(loader))")
            strength = self.loss.strength_at(self.steps, self.steps / (self.steps_per_epoch or 1))
        self.steps += 1
        return strength


class CompiledStep(Step):
    """The same as one graph of loss, input gradients and parameter gradients, by `torch.compile`.

    Compiling takes some seconds for every shape of a batch and needs torch 2.13 and a C++ compiler. Random numbers are
    the global ones. Values equal those of `Step` up to rounding.

    Raises:
        UserError: the loss, the model or this machine cannot compile it, with the reason; from the first call.
    """

    def __init__(self, loss: Loss, model: nn.Module, context: Context | None = None) -> None:
        super().__init__(loss, model, context, Draws(None))
        if torch.__version__ < COMPILES:
            fix = "take Step, or install a newer torch"
            raise UserError(f"CompiledStep needs torch {COMPILES}, this is {torch.__version__}; fix: {fix}")
        if loss.ramp:
            raise UserError(
                "a ramp changes the strength, and so the graph, at every step; fix: ramp: 0, or no compiling"
            )
        if loss.subtracts_passes and any(isinstance(m, _DropoutNd) and m.p > 0 for m in model.modules()):
            fix = "fix: do not compile, or leave Dropout out"
            raise UserError(f"this term compares passes that must drop the same units, which no graph can hold; {fix}")
        # eager random numbers: the same with and without compiling, and resumable with the global generator
        self.compiled = torch.compile(self.gradients, fullgraph=True, dynamic=False, options={"fallback_random": True})

    def __call__(
        self, x: Tensor, y: Tensor, strength: float | None = None, examples: Mapping[str, Tensor] | None = None
    ) -> Taken:
        import torch._dynamo

        if x.requires_grad:
            fix = "put what lies in front of x into the model, or take Step"
            raise UserError(f"a compiled step gives gradients to the weights of the model alone; fix: {fix}")
        strength = self.count(strength)
        try:
            with torch._dynamo.config.patch(trace_autograd_ops=True, **LIMITS):
                taken, gradients = self.compiled(x, y, strength, dict(examples or {}))
        except (RuntimeError, NotImplementedError) as error:  # PyTorch's own errors of compiling among them
            said = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__).strip()
            raise UserError(
                f"this loss and model cannot be compiled here: {said[:200]}; fix: do not compile"
            ) from error
        for parameter, gradient in zip(self.parameters, gradients, strict=True):
            if gradient is not None and gradient.stride() != parameter.stride():
                gradient = torch.empty_like(parameter).copy_(gradient)  # as fused optimisers want it
            parameter.grad = gradient
        return taken

    def gradients(
        self, x: Tensor, y: Tensor, strength: float, examples: dict[str, Tensor]
    ) -> tuple[Taken, list[Tensor | None]]:
        """The step, and the gradient of every parameter; None where the loss does not reach it."""
        at = self.loss.forward(self.model, x, y, with_examples(self.context, examples), self.draws, strength)
        parts = self.loss.parts(at, strength)
        found = torch.autograd.grad(parts.total, self.parameters, allow_unused=True)
        notes = {name: value.detach() for name, value in at.notes.items()}
        taken = Taken(parts.total.detach(), parts.task.detach().mean(), mean(parts.term), notes)
        return taken, [None if g is None else g.detach() for g in found]


def with_examples(context: Context | None, examples: Mapping[str, Tensor] | None) -> Context | None:
    if not examples:
        return context
    known = context or Context()
    return replace(known, examples={**known.examples, **examples})


def mean(term: Tensor | None) -> Tensor | None:
    return None if term is None else term.detach().mean()
