"""The first instrument: bend the derivatives of a model while its outputs stay, about the points really asked."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from inputgrad.audit.containers import mapped, plain, tensors, unwrapped
from inputgrad.audit.graph import nodes, reaches
from inputgrad.audit.recorder import Recorder, bearing, replaced


@dataclass(frozen=True)
class Call:
    """A model call that the loss made itself; `outputs` are kept where it ran under `torch.no_grad()`."""

    module: nn.Module
    given: Any
    outputs: Any


@dataclass
class Probe(Recorder):
    """One evaluation of a loss, watched and bent.

    A model that the loss calls gives f(z) + s·v·(exp(w·d) - 1), d = z - z.detach(): d is 0, so that the outputs are
    f(z) for every s, at every point asked, while derivatives of every order turn with s.

    Attributes:
        held: the calls of another evaluation, whose points are asked again: steps along a gradient stand still.
        free: leaves; a point that depends on one of them is not held (by default s and t).
        tape: what the loss itself detached, recorded and given out again where `free` holds weights.
        calls: the model calls that the loss made.
    """

    held: Sequence[Call] = ()
    free: Sequence[Tensor] = ()
    tape: list[Tensor] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.outermost: set[nn.Module] = set()

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Bend the models and autograd for the time of one evaluation."""
        with ExitStack() as undo:
            for thing, name, value in self.patches():
                undo.enter_context(replaced(thing, name, value))
            yield

    def patches(self) -> Iterator[tuple[Any, str, Any]]:
        yield from super().patches()
        yield Tensor, "detach", self._detach(Tensor.detach)
        for module in self.modules:
            yield module, "forward", self._forward(module, module.forward)

    def _forward(self, module: nn.Module, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def forward(*args: Any, **kwargs: Any) -> Any:
            again = self.busy  # a checkpoint computes a second time, as the first time
            if self.depth or (again and module not in self.outermost):
                return original(*args, **kwargs)
            self.depth += 1
            try:
                weights = list(module.parameters())  # functional_call brings others
                self.weights |= {id(p): p for p in weights}
                trains = any(id(p) in self.learnt or reaches(unwrapped(p), self.learnt.values()) for p in weights)
                args, kwargs = (args, kwargs) if again else self._hold((args, kwargs))
                given = None if again else mapped(plain, (args, kwargs))  # now: a layer may overwrite its input
                pieces = self._pieces((args, kwargs)) if trains else []
                outputs = self._bend(original(*args, **kwargs), pieces)
                return outputs if again else self._keep(module, given, outputs)
            finally:
                self.depth -= 1

        return forward

    def _hold(self, given: Any) -> Any:
        """The inputs of this call, or those of the same call of the evaluation that is held."""
        if len(self.calls) >= len(self.held):
            return given
        here, there = tensors(given), tensors(self.held[len(self.calls)].given)
        if [z.shape for z in here] != [z.shape for z in there] or all(map(torch.equal, map(plain, here), there)):
            return given
        points, free = iter(there), [*self.free] or self.bends

        def still(z: Tensor) -> Tensor:
            point = next(points)
            if not z.is_floating_point():
                return point
            return z if self._follows(z, free) else point.to(z) + (z - z.detach())  # exactly the point

        return mapped(still, given)

    def _follows(self, z: Tensor, wanted: Sequence[Tensor]) -> bool:
        """Whether autograd knows how a tensor changes with one of `wanted`, by a slope that is not 0."""
        if not reaches(z, wanted):
            return False
        busy, self.busy = self.busy, True  # this derivative is ours
        found = torch.autograd.grad((z * bearing(z)).sum(), wanted, retain_graph=True, allow_unused=True)
        self.busy = busy
        return any(g is not None and bool(g.count_nonzero()) for g in found)

    def _keep(self, module: nn.Module, given: Any, outputs: Any) -> Any:
        """Record a call; a constant that came from a call under no_grad is given out again where calls are held."""
        constant = not torch.is_grad_enabled()
        if constant and self.free and len(self.calls) < len(self.held):
            outputs = self.held[len(self.calls)].outputs
        self.calls.append(Call(module, given, mapped(plain, outputs) if constant else None))
        self.outermost.add(module)
        return outputs

    def _pieces(self, given: Any) -> list[Tensor]:
        """w·d of every input: for each row of it (N,), or one number; its sign is another for each example."""
        found = []
        for z in tensors(given):
            if z.is_floating_point() and not self.is_weight(z):
                still = z.detach()
                both = [(d * bearing(d)).flatten(1).sum(1) if d.dim() > 1 else d for d in (z - still, still)]
                found.append(both[0] * torch.cos(100 * both[1] + 0.3))
        return found

    def _bend(self, outputs: Any, pieces: list[Tensor]) -> Any:
        """Bend what a model gives, except what other outputs are made of: the loss may differentiate by that one."""
        given = tensors(outputs) if pieces else []
        inner = {id(o) for o in given if any(node is o.grad_fn for node in nodes(p for p in given if p is not o))}
        return mapped(lambda o: o if id(o) in inner else self._bent(o, pieces), outputs) if pieces else outputs

    def _bent(self, outputs: Tensor, pieces: list[Tensor]) -> Tensor:
        if not (outputs.is_floating_point() or outputs.is_complex()) or (outputs.requires_grad and outputs.is_leaf):
            return outputs
        n = len(outputs) if outputs.dim() else -1
        total = sum((p if p.dim() and len(p) == n else p.sum()) for p in pieces)
        turn = torch.expm1(torch.as_tensor(total))
        turn = turn.reshape(n, *(1,) * (outputs.dim() - 1)) if turn.dim() else turn
        return outputs + (self.bends[0].to(turn) * turn * bearing(turn.new_empty(outputs.shape))).to(outputs)

    def _detach(self, original: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        """Give out the constants of the evaluation that is held: a difference over the weights must not follow them."""
        replay = iter(self.tape if self.held else [])

        def detach(t: Tensor) -> Tensor:
            if self.depth or self.busy or not self.free:
                return original(t)
            if self.held:
                return next(replay, t).clone()
            self.tape.append(original(t).clone())
            return original(t)

        return detach
