"""One forward pass, and every input gradient that a loss may ask of it.

Convention of the whole project: a term is computed per example and then averaged over the batch, so that a strength
means the same at every batch size. g_i is the gradient of example i's own loss, never divided by N.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from inputgrad import tasks
from inputgrad.errors import UserError, nearest
from inputgrad.gradients.containers import Inputs, Layer, checked, index_of, modules_of, output_of, position
from inputgrad.gradients.context import Context as Context
from inputgrad.gradients.double_backward import refuse_dead_ends
from inputgrad.gradients.draws import Draws as Draws
from inputgrad.gradients.draws import random_state, restore_random_state
from inputgrad.tasks import Task
from inputgrad.tasks import rows as rows

Model = nn.Module | Callable[..., Any]
"""Anything that can be called with the inputs: a module, a compiled one, a plain function around one."""

Of = Literal["loss", "outputs", "true_logit", "log_probabilities"]
"""Which scalar per example is differentiated with respect to the input."""
HALF = (torch.float16, torch.bfloat16)
"""Types in which no penalty may live: squares of small gradients and differences of losses vanish in them."""


@contextmanager
def evaluating(model: Model) -> Iterator[None]:
    """Eval mode for an inner pass; every submodule gets its own mode back, buffers stay as they are.

    Of a plain function: in the modules that it uses.
    """
    modes = [(module, module.training) for one in modules_of(model) for module in one.modules()]
    for module, _ in modes:
        module.training = False
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


class Forward:
    """The outputs and per-example losses of `model` at `x`, computed once, and their input gradients, with graph.

    Args:
        model: maps (N, *input) to (N, C) logits or (N, k) predictions.
        x: inputs in the data's own units, (N, *input), or a container with them. One that requires a gradient (the
            output of an encoder, a trainable embedding) stays in its graph, so that what lies in front of it is trained
            too; any other one is left as it is.
        y: class numbers (N,) or floating-point targets; None where only gradients of the outputs are asked.
        context: what the data set knows (direction, mask, bounds).
        draws: random numbers for terms that need them; by default the global ones.
        track: False where no gradient with respect to x is wanted: the pass is then as cheap as a plain one.
        exact: all passes in float32 at least, for a term that subtracts one pass from another: see `precision`.
    """

    def __init__(
        self,
        model: Model,
        x: Any,
        y: Any = None,
        *,
        context: Context | None = None,
        draws: Draws | None = None,
        track: bool = True,
        exact: bool = False,
    ) -> None:
        self.context = context or Context()
        self.inputs = opened(model, x, self.context)
        index = index_of(x, self.context.index)
        if self.inputs is not None:
            x = self.inputs.point
        self.index = None if index is None else checked(index, len(x))
        self.model, self.y, self.exact = model, y, exact
        self.in_graph = x.requires_grad
        # else a leaf of our own: the caller's x keeps its flags and its .grad
        self.x: Tensor = x if self.in_graph else x.detach().requires_grad_(track)
        self.draws = draws or Draws()
        self.made = [self.x]  # all points that this pass and those from it have made
        self.notes: dict[str, Tensor] = {}  # figures a term wants recorded, averaged over the epoch
        self._random: list[Tensor | None] = []  # the random state before the first pass, None where it draws nothing
        self._gradients: dict[str, Tensor] = {}
        self._outputs: Tensor | None = None  # no cached_property: its lock cannot be compiled
        self._losses: Tensor | None = None

    @property
    def outputs(self) -> Tensor:
        """f(x), (N, C) or (N, k); in float32 at least, also under autocast: a penalty never lives in 16 bits."""
        if self._outputs is None:
            self._outputs = self.call(self.x)
        return self._outputs

    def call(self, points: Tensor) -> Tensor:
        """The outputs at other points, as they are, in float32 at least."""
        if not self.exact:
            return self._outputs_at(points)
        refuse_half(self.model)
        return self.replayed(wide(points))

    def _outputs_at(self, points: Tensor) -> Tensor:
        outputs = self.model(points) if self.inputs is None else self.inputs.call(points)
        return wide(output_of(outputs, self.context.output))

    @property
    def size(self) -> int:
        """The number of examples."""
        return len(self.y) if isinstance(self.y, Tensor) else len(self.outputs)

    def rows(self, t: Tensor) -> Tensor:
        """What is shaped as x, by example: (N, d); where examples have several rows, filled up with zeros to the most.

        Raises:
            UserError: x has other rows than there are examples, and nothing says whose they are.
        """
        if self.index is None:
            if len(t) != self.size:
                said = f"x has {len(t)} rows for {self.size} examples"
                raise UserError(f"{said}; fix: Context(index=...) says which example a row belongs to")
            return rows(t)
        place = position(self.index, self.size)
        most = int(torch.bincount(self.index, minlength=self.size).max())
        filled: Tensor = t.new_zeros(self.size, most, t[0].numel()).index_put((self.index, place), rows(t))
        return filled.flatten(1)

    def shaped(self, flat: Tensor) -> Tensor:
        """What is by example, as `rows` gives it, shaped as x."""
        if self.index is None:
            return flat.reshape(self.x.shape)
        by_row: Tensor = flat.unflatten(1, (-1, self.x[0].numel()))[self.index, position(self.index, self.size)]
        return by_row.reshape(self.x.shape)

    @property
    def numbers(self) -> Tensor:
        """How many input numbers every example has, (N,)."""
        if self.index is None:
            return torch.full((len(self.x),), self.x[0].numel(), device=self.x.device)
        return torch.bincount(self.index, minlength=self.size) * self.x[0].numel()

    def expand(self, v: Tensor) -> Tensor:
        """A number per example, (N,), shaped so that it multiplies what is shaped as x."""
        return expand(v if self.index is None else v[self.index], self.x)

    def replayed(self, points: Tensor) -> Tensor:
        """One of several passes that are compared: all of them drop the same units, where the model draws any.

        Else a finite difference would be that of two Dropout masks, thousands of times larger than the gradient.
        """
        if torch.compiler.is_compiling():  # `CompiledStep` refuses Dropout here
            return self._outputs_at(points)
        if not self._random:
            state = random_state(points.device)
            outputs = self._outputs_at(points)
            self._random.append(None if torch.equal(state, random_state(points.device)) else state)
            return outputs
        if (state_or_none := self._random[0]) is None:
            return self._outputs_at(points)
        with torch.random.fork_rng(devices=[points.device] if points.is_cuda else []):
            restore_random_state(points.device, state_or_none)
            return self._outputs_at(points)

    @property
    def draws_in_model(self) -> bool:
        """Whether the passes of the model draw random numbers; known once there was one."""
        return bool(self._random) and self._random[0] is not None

    @property
    def takes_any_batch(self) -> bool:
        """Whether the model can be called with more rows than x has: a plain function may hold what belongs to them."""
        return isinstance(self.model, nn.Module) and self.inputs is None and self.index is None

    def precision(self) -> AbstractContextManager[object]:
        """In here passes and gradients are those of float32, where the pass has to be exact."""
        return torch.autocast(self.x.device.type, enabled=False) if self.exact else nullcontext()

    @property
    def task(self) -> Task:
        """What the targets are: as the context says, else by their type."""
        if self.context.task in ("ce", "bce"):
            return tasks.Classification
        return tasks.Regression if self.context.task == "mse" else tasks.of(self._targets)

    @property
    def _targets(self) -> Tensor:
        if self.y is None:
            fix = 'fix: give y, or ask a gradient that needs none, such as of="outputs"'
            raise UserError(f"y is missing, and what is asked here needs it; {fix}")
        return cast("Tensor", self.y)

    def log_probabilities(self, outputs: Tensor) -> Tensor:
        """The logarithm of the probability of every class, (N, C), or more where an example has many labels."""
        return tasks.log_probabilities(outputs, independent=self.context.task == "bce")

    @property
    def losses(self) -> Tensor:
        """l_i, shape (N,)."""
        if self._losses is None:
            self._losses = self.losses_of(self.outputs)
        return self._losses

    def losses_of(self, outputs: Tensor) -> Tensor:
        """l_i of other outputs for the same targets, (N,)."""
        task = self.context.task
        if not callable(task):
            return tasks.losses(outputs, self._targets, task)
        losses = task(outputs, self.y)
        if losses.shape != outputs.shape[:1]:
            if losses.dim() > 1 and len(losses) == len(outputs):
                return rows(losses).mean(1)  # a number for every output, as `reduction="none"` gives
            fix = "fix: return one number per example, such as reduction='none' gives"
            raise UserError(f"task gives shape {tuple(losses.shape)} for {len(outputs)} examples; {fix}")
        return losses

    def values_of(self, outputs: Tensor, of: Of) -> Tensor:
        """The scalar `of` of every example, (N,), at other outputs; where an example has many pixels, their mean."""
        if of == "loss":
            return self.losses_of(outputs)
        if of == "outputs":
            return rows(outputs).sum(1)
        if of not in (task := self.task).scalars:
            raise UserError(f"of: {of} needs classes; for {task.name} use {' or '.join(map(repr, task.scalars))}")
        if of == "true_logit":
            return tasks.true_logits(outputs, self._targets)
        return rows(self.log_probabilities(outputs).sum(1)).mean(1)

    def gradient_of(self, values: Tensor) -> Tensor:
        """The input gradient of every example's own value, shaped as x, with graph.

        The sum over the batch gives all of them at once: values[i] depends on x[i] alone (a BatchNorm in train mode
        breaks this: it couples the examples).

        Args:
            values: one scalar per example, (N,), computed from this pass.
        """
        (gradient,) = torch.autograd.grad(values.sum(), self.x, create_graph=True)
        if not torch.compiler.is_compiling():
            refuse_dead_ends(self.model, gradient)
        return wide(gradient)

    def constant_gradient(self) -> Tensor:
        """g_i without graph, shaped as x: a direction to step in, never something to penalise."""
        (gradient,) = torch.autograd.grad(self.losses.sum(), self.x, retain_graph=True)
        return wide(gradient.detach())

    def at(self, x: Tensor, track: bool = True) -> Forward:
        """Another pass of the same model on the same targets, at inputs that were moved from x by a constant."""
        x, context, draws = self.moved(x), self.context, self.draws
        plain = context
        if self.inputs is not None or self.index is not None:
            plain = replace(context, wrt=None, layer=None, index=None)  # the pass takes those of this one
        moved = Forward(self.model, x, self.y, context=plain, draws=draws, track=track, exact=self.exact)
        moved.notes, moved._random, moved.inputs, moved.index = self.notes, self._random, self.inputs, self.index
        moved.made = self.joined(moved)
        return moved

    def joined(self, other: Forward) -> list[Tensor]:
        """The points that this pass and another one have made, one list for both."""
        self.made += other.made
        return self.made

    def elsewhere(self, name: str) -> Forward:
        """A pass at the points that the context has under that name."""
        if name not in self.context.points:
            known = nearest(name, self.context.points)
            raise UserError(f"the points {name!r} are missing; {known}; fix: Context(points={{{name!r}: …}})")
        found = self.context.points[name]
        x, y = found if isinstance(found, tuple) else (found, None)
        index = self.context.index if isinstance(self.context.index, str) else None  # else it is that of the batch
        context = replace(self.context, examples={}, index=index)
        other = Forward(self.model, x, y, context=context, draws=self.draws, exact=self.exact)
        other.notes, other.made = self.notes, self.joined(other)
        return other

    def moved(self, points: Tensor) -> Tensor:
        """Constant points next to x, with the graph in front of x where there is one: x + a constant displacement."""
        return points + (self.x - self.x.detach()) if self.in_graph else points

    def part(self, index: Tensor) -> Forward:
        """A pass of its own for some examples of the batch."""
        if self.inputs is not None or len(self.x) != self.size:
            raise UserError("share: a part of a batch needs one tensor with a row per example; fix: share: 1")
        context = self.context.of(index)
        part = Forward(self.model, self.x[index], self.y[index], context=context, draws=self.draws, exact=self.exact)
        part.notes, part.made = self.notes, self.joined(part)
        return part

    def gradient(self, of: Of = "loss") -> Tensor:
        """g_i, shaped as x, with graph: a loss built from it changes the parameters. Computed once per pass."""
        if of not in self._gradients:
            values = self.losses if of == "loss" else self.values_of(self.outputs, of)
            self._gradients[of] = self.gradient_of(values)
        return self._gradients[of]


def wide(t: Tensor) -> Tensor:
    """In float32 where it is in 16 bits."""
    return t.float() if t.dtype in HALF else t


def opened(model: Model, x: Any, context: Context) -> Inputs | Layer | None:
    """How a model is called at other points of a container, or of a layer; None for a plain tensor."""
    if context.layer is not None:
        return Layer(model, context.layer, x)
    return None if isinstance(x, Tensor) else Inputs(model, x, context.wrt)


def refuse_half(model: Model) -> None:
    """Raise a UserError where the weights are in 16 bits: a difference of two passes would be their rounding."""
    if any(p.dtype in HALF for one in modules_of(model) for p in one.parameters()):
        fix = "fix: keep the weights in float32, under torch.autocast if you like, or take gradient_norm"
        raise UserError(f"this term subtracts one pass of the net from another, which its 16 bits round away; {fix}")


def one_minus_cosine(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """1 - cos per example, (N,), and the share of examples left out because either vector is zero (their value is 0).

    Written as ½‖a/‖a‖ - b/‖b‖‖², which is 1 - cos but neither negative by rounding nor in need of a clamp in the graph.
    The zero rows are replaced *before* the division: the cosine of a zero vector has a gradient of about 1e7 in
    `F.cosine_similarity` and nan in the plain formula, and a mask after the fact would still multiply it by zero.
    """
    a, b = rows(a), rows(b)
    tiny = torch.finfo(a.dtype).tiny
    usable = (a.detach().square().sum(1) > tiny) & (b.detach().square().sum(1) > tiny)
    a, b = (torch.where(usable[:, None], t, torch.ones_like(t)) for t in (a, b))
    difference = a / a.norm(dim=1, keepdim=True) - b / b.norm(dim=1, keepdim=True)
    value = torch.where(usable, difference.square().sum(1) / 2, torch.zeros_like(a[:, 0]))
    return value, 1 - usable.to(a.dtype).mean()


def expand(v: Tensor, like: Tensor) -> Tensor:
    """(N,) shaped (N, 1, 1, …) so that it multiplies examples shaped as `like`."""
    return v.reshape(-1, *(1,) * (like.dim() - 1))
