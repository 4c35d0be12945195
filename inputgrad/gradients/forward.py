"""One forward pass, and every input gradient that a loss may ask of it.

Convention of the whole project: a term is computed per example and then averaged over the batch, so that a strength
means the same at every batch size. g_i is the gradient of example i's own loss, never divided by N.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from inputgrad import tasks
from inputgrad.errors import UserError

Of = Literal["loss", "outputs", "true_logit", "log_probabilities"]
"""Which scalar per example is differentiated with respect to the input."""


def per_example_loss(outputs: Tensor, y: Tensor) -> Tensor:
    """The task loss l_i of every example, shape (N,).

    Cross-entropy where `y` holds class numbers (an integer type, shape (N,)); squared error, averaged over the outputs
    of an example as `nn.MSELoss` does, where `y` is floating point (as many numbers as `outputs`).
    """
    return tasks.of(y).losses(outputs, y)


def scalar(outputs: Tensor, y: Tensor, of: Of) -> Tensor:
    """The per-example scalar that `of` names, (N,), from outputs (N, C) or (N, k)."""
    if of == "loss":
        return per_example_loss(outputs, y)
    if of == "outputs":
        return outputs.flatten(1).sum(1)
    task = tasks.of(y)
    if of not in task.scalars:
        raise UserError(f"of: {of} needs classes; for {task.name} use {' or '.join(map(repr, task.scalars))}")
    if of == "true_logit":
        return outputs.gather(1, y[:, None])[:, 0]
    return F.log_softmax(outputs, 1).sum(1)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Eval mode for an inner pass; every submodule gets its own mode back, buffers stay as they are."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


class Draws:
    """Random numbers for a term, from one generator of its own: the global random state is never touched.

    generator: None: the global one, which alone can be compiled.
    """

    def __init__(self, generator: torch.Generator | None) -> None:
        self.generator = generator

    def uniform(self, like: Tensor) -> Tensor:
        """Uniform in [0, 1), shaped as `like`, on its device and in its type."""
        return torch.rand(like.shape, generator=self.generator, device=like.device, dtype=like.dtype)

    def normal(self, like: Tensor) -> Tensor:
        """Standard normal, shaped as `like`."""
        return torch.randn(like.shape, generator=self.generator, device=like.device, dtype=like.dtype)

    def subset(self, like: Tensor, size: int) -> Tensor:
        """`size` different rows of `like`, their indices."""
        return torch.randperm(len(like), generator=self.generator, device=like.device)[:size]

    def integers(self, like: Tensor, high: int) -> Tensor:
        """Integers in [0, high), one per row of `like`, shape (N,)."""
        return torch.randint(high, (len(like),), generator=self.generator, device=like.device)


class RowDraws(Draws):
    """Draws that belong to examples: row i gets what example `index[i]` of a batch of `size` would get.

    With them a batch that is repeated or permuted can be compared with the plain one, whatever a loss draws. Drawn in
    float64 on the CPU, so that precisions and devices can be compared too.
    """

    def __init__(self, index: Tensor, size: int) -> None:
        super().__init__(torch.Generator().manual_seed(3))
        self.index, self.size = index.cpu(), size

    def uniform(self, like: Tensor) -> Tensor:
        return super().uniform(self._whole(like))[self.index].to(like)

    def normal(self, like: Tensor) -> Tensor:
        return super().normal(self._whole(like))[self.index].to(like)

    def integers(self, like: Tensor, high: int) -> Tensor:
        return super().integers(self._whole(like), high)[self.index].to(like.device)

    def _whole(self, like: Tensor) -> Tensor:
        return torch.empty(self.size, *like.shape[1:], dtype=torch.float64)


@dataclass(frozen=True, kw_only=True)
class Context:
    """What a data set knows besides x and y; all of it optional.

    direction: regression: one vector shaped as an input, along which the output should rise;
        classification: the mean input of every class, shape (C, *input).
    mask: shaped as an input, 1 where the input must not matter, else 0.
    bounds: lowest and highest admissible value of an input, e.g. (0, 1) for images; None: unbounded.
    examples: what is known of every example of the batch, by name, each with one row per example: `target_gradient`
        (N, *input), or (N, k, *input) for k outputs; `gradient_weight`, shaped as it; `mask`, (N, *input).
    task_loss: (outputs, y) -> (N,), in the place of cross-entropy or squared error: class weights, a robust loss, …
    """

    direction: Tensor | None = None
    mask: Tensor | None = None
    bounds: tuple[float, float] | None = None
    examples: Mapping[str, Tensor] = field(default_factory=dict)
    task_loss: Callable[[Tensor, Tensor], Tensor] | None = None

    def to(self, device: torch.device | str) -> Context:
        """The same with its tensors on `device`."""
        moved = {k: None if (t := getattr(self, k)) is None else t.to(device) for k in ("direction", "mask")}
        return replace(self, examples={k: t.to(device) for k, t in self.examples.items()}, **moved)

    def of(self, index: Tensor) -> Context:
        """What is known of some examples of the batch."""
        return replace(self, examples={k: t[index] for k, t in self.examples.items()}) if self.examples else self


class Forward:
    """The outputs and per-example losses of `model` at `x`, computed once, and their input gradients, with graph.

    Args:
        model: maps (N, *input) to (N, C) logits or (N, k) predictions.
        x: inputs in the data's own units, (N, *input); the caller's tensor is never modified.
        y: class numbers (N,) or floating-point targets.
        context: what the data set knows (direction, mask, bounds).
        draws: random numbers for terms that need them; by default a generator seeded from 0.
        track: False where no gradient with respect to x is wanted: the pass is then as cheap as a plain one.
    """

    def __init__(
        self,
        model: nn.Module,
        x: Tensor,
        y: Tensor,
        *,
        context: Context | None = None,
        draws: Draws | None = None,
        track: bool = True,
    ) -> None:
        self.model, self.y = model, y
        self.x = x.detach().requires_grad_(track)  # a leaf of our own: the caller's x keeps its flags and its .grad
        self.context = context or Context()
        self.draws = draws or Draws(torch.Generator(x.device).manual_seed(0))
        self.notes: dict[str, Tensor] = {}  # figures a term wants recorded, averaged over the epoch
        self._gradients: dict[str, Tensor] = {}
        self._outputs: Tensor | None = None  # no cached_property: its lock cannot be compiled
        self._losses: Tensor | None = None

    @property
    def outputs(self) -> Tensor:
        """f(x), (N, C) or (N, k); in float32 at least, also under autocast: a penalty never lives in 16 bits."""
        if self._outputs is None:
            outputs: Tensor = self.model(self.x)
            self._outputs = outputs.float() if outputs.dtype in (torch.float16, torch.bfloat16) else outputs
        return self._outputs

    @property
    def losses(self) -> Tensor:
        """l_i, shape (N,)."""
        if self._losses is None:
            self._losses = self.losses_of(self.outputs)
        return self._losses

    def losses_of(self, outputs: Tensor) -> Tensor:
        """l_i of other outputs for the same targets, (N,)."""
        if self.context.task_loss is None:
            return per_example_loss(outputs, self.y)
        losses = self.context.task_loss(outputs, self.y)
        if losses.shape != self.y.shape[:1]:
            fix = "fix: return one number per example, such as reduction='none' gives"
            raise UserError(f"task_loss gives shape {tuple(losses.shape)} for {len(self.y)} examples; {fix}")
        return losses

    def values_of(self, outputs: Tensor, of: Of) -> Tensor:
        """The scalar `of` of every example, (N,), at other outputs."""
        return self.losses_of(outputs) if of == "loss" else scalar(outputs, self.y, of)

    def gradient_of(self, values: Tensor) -> Tensor:
        """The input gradient of every example's own value, shaped as x, with graph.

        The sum over the batch gives all of them at once: values[i] depends on x[i] alone (a BatchNorm in train mode
        breaks this: it couples the examples).

        Args:
            values: one scalar per example, (N,), computed from this pass.
        """
        (gradient,) = torch.autograd.grad(values.sum(), self.x, create_graph=True)
        return gradient

    def constant_gradient(self) -> Tensor:
        """g_i without graph, shaped as x: a direction to step in, never something to penalise."""
        (gradient,) = torch.autograd.grad(self.losses.sum(), self.x, retain_graph=True)
        return gradient.detach()

    def at(self, x: Tensor, track: bool = True) -> Forward:
        """Another pass of the same model on the same targets, at other inputs."""
        moved = Forward(self.model, x, self.y, context=self.context, draws=self.draws, track=track)
        moved.notes = self.notes
        return moved

    def part(self, index: Tensor) -> Forward:
        """A pass of its own for some examples of the batch."""
        context = self.context.of(index)
        part = Forward(self.model, self.x[index], self.y[index], context=context, draws=self.draws)
        part.notes = self.notes
        return part

    def gradient(self, of: Of = "loss") -> Tensor:
        """g_i, shaped as x, with graph: a loss built from it changes the parameters. Computed once per pass."""
        if of not in self._gradients:
            values = self.losses if of == "loss" else scalar(self.outputs, self.y, of)
            self._gradients[of] = self.gradient_of(values)
        return self._gradients[of]


def rows(t: Tensor) -> Tensor:
    """(N, *input) as (N, d)."""
    return t.flatten(1)


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


def describe(model: nn.Module, x: Tensor, y: Tensor, chunk: int = 512) -> tuple[Tensor, Tensor, Tensor]:
    """Outputs, per-example losses and their input gradients as constants, in eval mode, without side effects.

    Returns:
        outputs (N, C) or (N, k), losses (N,), gradients shaped as x.
    """
    found: list[tuple[Tensor, Tensor, Tensor]] = []
    with evaluating(model), torch.enable_grad():
        for x_part, y_part in zip(x.split(chunk), y.split(chunk), strict=True):
            leaf = x_part.detach().requires_grad_(True)
            outputs = model(leaf)
            losses = per_example_loss(outputs, y_part)
            (gradient,) = torch.autograd.grad(losses.sum(), leaf)
            found.append((outputs.detach(), losses.detach(), gradient))
    outputs, losses, gradients = (torch.cat(parts) for parts in zip(*found, strict=True))
    return outputs, losses, gradients
