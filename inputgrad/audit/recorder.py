"""What a loss asks of autograd, recorded wherever it asks, and changed where an evaluation wants it so."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import BackwardHook

from inputgrad.audit.blame import caller, callers
from inputgrad.audit.cuts import Constant
from inputgrad.audit.tensors import (
    is_batched,
    is_wrapped,
    leaves,
    made_of,
    mapped,
    plain,
    reaches,
    unwrapped,
)


@dataclass(frozen=True)
class Asked:
    """A derivative that was asked of autograd, for a tensor that is no weight.

    Attributes:
        graph: whether it carries the graph: `create_graph=True`.
        retained: whether `retain_graph=True` was written.
        backward: by `.backward()`, so that it lies in `.grad`.
        inside: by the model's own forward, as force fields do.
        lives: whether a weight that is trained is in its graph.
        root: what it is the derivative of, summed up.
        gradient: its numbers.
        where: file and line of the code that asked.
        path: that line, and those that called it: a helper asks for many derivatives.
    """

    graph: bool
    retained: bool
    backward: bool
    inside: bool
    lives: bool
    root: float
    gradient: Tensor
    where: tuple[str, int]
    path: tuple[tuple[str, int], ...]

    @property
    def line(self) -> Constant:
        return Constant("a derivative", self.where)

    @property
    def empty(self) -> float:
        """The share of examples whose gradient is exactly 0."""
        rows = self.gradient.flatten(1) if self.gradient.dim() > 1 else self.gradient.reshape(-1, 1)
        return float((rows == 0).all(1).double().mean()) if rows.numel() else 0.0


@dataclass
class Recorder:
    """Records the derivatives that are asked of autograd for tensors that are no weights, wherever the code asks.

    A derivative g is given out as g + t·r, with r a constant; t is in the graph if a weight that is trained is in that
    of g. It sees what the first instrument cannot reach: a hidden layer, a force that is computed inside a model.

    Attributes:
        modules: of the models, all of them.
        like: gives device and precision.
        s, t: how far to bend; t None: derivatives are given out as they are.
        cut: give derivatives out without graph: what is left is the rest of the loss.
        held: another evaluation, whose constants are given out again: the weights of what is differentiated, since they
            are but a direction, and with `free` weights the derivatives without graph too.
        free: leaves; what depends on one of them by its graph is not held (by default s and t).
        released: the one line whose constants are not held.
        inside_lines: the lines inside models whose constants are held.
        mute: the last backward does not go through the derivatives that were given out.
        asked: what was recorded.
        missing: where a derivative by a tensor was asked that the outputs do not depend on.
        seeds: the weights of what was differentiated, call by call.
        fixed: derivatives by the models' weights or outputs that have no graph.
        inner: the sum of what `.backward()` was called on inside the loss.
        unseen: whether a derivative was asked whose numbers cannot be seen.
        narrow: whether some part works in fewer bits than `like`, as a softmax in float32 does.
    """

    modules: Sequence[nn.Module]
    like: Tensor
    s: float = 0.0
    t: float | None = None
    cut: bool = False
    held: Recorder | None = None
    free: Sequence[Tensor] = ()
    released: Constant | None = None
    inside_lines: Container[Constant] = ()
    mute: bool = False
    asked: list[Asked] = field(default_factory=list)
    missing: list[tuple[str, int]] = field(default_factory=list)
    seeds: list[Any] = field(default_factory=list)
    fixed: list[Tensor] = field(default_factory=list)
    inner: float = 0.0
    unseen: bool = False
    narrow: bool = False

    def __post_init__(self) -> None:
        self.bends = [torch.full_like(self.like, v or 0.0).requires_grad_(True) for v in (self.s, self.t)]
        self.weights = {id(p): p for m in self.modules for p in m.parameters()}
        self.learnt = {key: p for key, p in self.weights.items() if p.requires_grad}
        self.watched: list[Tensor] = []  # those that the loss asked to keep their .grad
        self.depth, self.busy, self.done = 0, False, False

    def patches(self) -> Iterator[tuple[Any, str, Any]]:
        """What stands in for what, while an evaluation is watched."""
        engine = torch.autograd._engine_run_backward  # type: ignore[attr-defined]  # grad and backward both end there
        yield torch.autograd, "_engine_run_backward", self._engine(engine)
        yield Tensor, "retain_grad", self._retain(Tensor.retain_grad)
        yield Tensor, "register_hook", self._hook(Tensor.register_hook)
        yield BackwardHook, "__init__", self._module_hooks(BackwardHook.__init__)

    @property
    def precise(self) -> bool:
        """Whether all is computed in float64; a part in float32 makes a loss a staircase of 1e-7."""
        return self.like.dtype == torch.float64 and not self.narrow

    def backward(self, total: Tensor) -> None:
        """The last backward, that of the training loop."""
        self.busy = self.done = True
        total.backward()
        self.busy = False

    def _engine(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def run(roots: Any, *args: Any, **kwargs: Any) -> Any:
            if self.busy:
                return original(roots, *args, **kwargs)
            if any(is_batched(t) for t in [*roots, *args[0]]):  # is_grads_batched: tensors that cannot be looked into
                self.unseen = True
                return original(roots, *args, **kwargs)
            self.busy = True
            try:
                weights, retained, graph, inputs = self._same_direction(args[0]), *args[1:4]
                found = original(roots, weights, *args[1:], **kwargs)
                root = sum(weighted(r, w) for r, w in zip(roots, weights, strict=True))
                asked = functools.partial(self._ask, graph=bool(graph), retained=bool(retained), root=root, roots=roots)
                if not (kwargs.get("accumulate_grad") or True in args[5:]):
                    return tuple(asked(z, g, backward=False) for z, g in zip(inputs, found, strict=True))
                self.inner += 0.0 if inputs else root
                for z in inputs or dict.fromkeys([*leaves(roots), *self.watched]):
                    if z.grad is not None and not any(z is bend for bend in self.bends):
                        z.grad = asked(z, z.grad, backward=True)
                return found
            finally:
                self.busy = False

        return run

    def _same_direction(self, weights: Any) -> Any:
        """The weights of what is differentiated; constant ones of an evaluation that is held are given again."""
        turn = len(self.seeds)
        self.seeds.append([None if w is None or w.requires_grad or is_wrapped(w) else w.clone() for w in weights])
        if self.held is None or turn >= len(self.held.seeds):
            return weights
        before = self.held.seeds[turn]
        if [None if w is None else w.shape for w in self.seeds[-1]] != [None if w is None else w.shape for w in before]:
            return weights
        return tuple(w if old is None else old.to(w) for w, old in zip(weights, before, strict=True))

    def _ask(
        self,
        z: Any,
        g: Any,
        *,
        graph: bool,
        retained: bool,
        backward: bool,
        root: float = 0.0,
        roots: Sequence[Tensor] = (),
    ) -> Any:
        """Record a derivative that was asked for, and give it out as this evaluation wants it."""
        if self.done or not isinstance(z, Tensor):
            return g
        if self.is_weight(z) or self.is_output(z, roots):
            return g if g is None or backward or g.requires_grad else self._same_weights_gradient(g)
        if g is None:
            self.missing.append(caller())
            return g
        if g.layout != torch.strided:
            return g
        numbers = plain(g)
        lives = reaches(unwrapped(g), self.learnt.values())
        one = Asked(graph, retained, backward, self.depth > 0, lives, root, numbers, caller(), callers())
        self.asked.append(one)
        if self.cut:
            return g.detach()
        if self.mute and g.requires_grad:
            g.register_hook(lambda d: 0 * d if self.done else d)
        if self.held is not None and self.free and not g.requires_grad and one.line != self.released:
            return again(g, [a.gradient for a in self.held.asked], len(self.asked) - 1)
        if self.t is None:
            return g
        size = numbers.abs().mean()
        step = bearing(g) * (size if size > 0 else 1)
        t = self.bends[1].to(g)
        return g + (t if lives else t.detach()) * step

    def _same_weights_gradient(self, g: Tensor) -> Tensor:
        """A constant derivative by weights or outputs: what is made of it stands still where constants are held."""
        self.fixed.append(plain(g))
        return g if self.held is None else again(g, self.held.fixed, len(self.fixed) - 1)

    def _retain(self, original: Callable[[Tensor], None]) -> Callable[[Tensor], None]:
        def retain_grad(t: Tensor) -> None:
            self.watched.append(t)
            original(t)

        return retain_grad

    def _hook(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def register_hook(t: Tensor, hook: Callable[[Tensor], Any]) -> Any:
            return original(
                t,
                lambda g: hook(self._ask(t, g, graph=g.requires_grad, retained=False, backward=True)),
            )

        return register_hook

    def _module_hooks(self, original: Callable[..., None]) -> Callable[..., None]:
        """The gradients that `register_full_backward_hook` gives to its hooks."""

        def ask(g: Tensor) -> Any:
            return self._ask(g, g, graph=g.requires_grad, retained=False, backward=True)

        def init(made: Any, module: nn.Module, hooks: Any, before: Any) -> None:
            bent = [lambda m, *gs, hook=hook: hook(m, *mapped(ask, gs)) for hook in hooks]
            original(made, module, bent, before)

        return init

    def is_output(self, t: Tensor, roots: Sequence[Tensor]) -> bool:
        """Whether no weight lies between a tensor and what is differentiated: loss balancing, no input gradient."""
        if not roots or t.grad_fn is None or not reaches(t, self.learnt.values()):
            return False
        between = leaves(roots, lambda node: node is not t.grad_fn)
        return not any(id(leaf) in self.weights for leaf in between)

    def is_weight(self, t: Tensor) -> bool:
        """Whether a tensor is a weight of the models, or one that was made of a weight, as MAML's inner steps do."""
        if id(t) in self.weights:
            return True
        alike = [p for p in self.weights.values() if p.shape == t.shape]
        return made_of(t, alike)


def again(g: Tensor, before: Sequence[Tensor], turn: int) -> Tensor:
    """What another evaluation had in the same turn; what is here where that one was shorter, or of another shape."""
    return before[turn].to(g) if turn < len(before) and before[turn].shape == g.shape else g


def weighted(root: Tensor, weights: Tensor | None) -> float:
    """What is differentiated, summed up; 0 where several are at once (vmap, `is_grads_batched`)."""
    if weights is None:
        return float(plain(root).sum())
    here, by = plain(root), plain(weights)
    return float((here * by).sum()) if here.shape == by.shape else 0.0


def bearing(like: Tensor) -> Tensor:
    """A fixed direction of length about 1 for one example of `like`, the same for all; no random number is drawn."""
    shape = tuple(like.shape[1:])
    n = max(1, math.prod(shape))
    wave: Tensor = torch.cos(0.7 + 2.4 * torch.arange(n, device=like.device)) / n**0.5
    return wave.to(like.dtype).reshape(shape)


@contextmanager
def replaced(thing: Any, name: str, value: Any) -> Iterator[None]:
    """Another attribute of a module, a class or a package, for a time."""
    thing = vars(thing).get("_actual_script_module", thing)  # a traced module only passes on what is set
    own, before = name in vars(thing), getattr(thing, name)
    setattr(thing, name, value)
    try:
        yield
    finally:
        if own:
            setattr(thing, name, before)
        elif name in vars(thing):
            delattr(thing, name)
