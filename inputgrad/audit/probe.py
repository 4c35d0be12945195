"""One evaluation of a loss, watched and bent: the derivatives of the models turn while all their outputs stay."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx.experimental.proxy_tensor import get_proxy_mode

from inputgrad.audit.cuts import Cut, Cuts
from inputgrad.audit.recorder import Recorder, bearing, replaced
from inputgrad.audit.tensors import (
    mapped,
    nodes,
    plain,
    reaches,
    tensors,
    unwrapped,
)


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
        held: another evaluation; the points that it asked are asked again too: steps along a gradient stand still.
        tape: what the loss itself made a constant, recorded and given out again where `free` holds weights.
        calls: the model calls that the loss made.
    """

    held: Probe | None = None
    tape: list[Cut] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.outermost: set[nn.Module] = set()
        self.places = {p.data_ptr() for p in self.learnt.values()}  # a detached copy of a weight shares it

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Bend the models and autograd for the time of one evaluation."""
        with ExitStack() as undo:
            for thing, name, value in self.patches():
                undo.enter_context(replaced(thing, name, value))
            undo.enter_context(Cuts(self))
            yield

    def patches(self) -> Iterator[tuple[Any, str, Any]]:
        yield from super().patches()
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
                with self._ours():
                    weights = list(module.parameters())  # functional_call brings others
                    self.weights |= {id(p): p for p in weights}
                    args, kwargs = (args, kwargs) if again else self._hold((args, kwargs))
                    given = None if again else mapped(plain, (args, kwargs))  # now: a layer may overwrite its input
                    s = self._turning(weights)
                    pieces = [] if s is None else self._pieces((args, kwargs))
                outputs = original(*args, **kwargs)
                with self._ours():
                    outputs = self._bend(outputs, pieces, s)
                    return outputs if again else self._keep(module, given, outputs)
            finally:
                self.depth -= 1

        return forward

    @contextmanager
    def _ours(self) -> Iterator[None]:
        """In here the audit computes, and nothing is the loss's own."""
        busy, self.busy = self.busy, True
        try:
            yield
        finally:
            self.busy = busy

    def _turning(self, weights: Sequence[Tensor]) -> Tensor | None:
        """By what derivatives by such weights are bent; a constant where detached copies of trained ones are given."""
        if any(id(p) in self.learnt or reaches(unwrapped(p), self.learnt.values()) for p in weights):
            return self.bends[0]
        return self.bends[0].detach() if any(p.data_ptr() in self.places for p in weights) else None

    def _hold(self, given: Any) -> Any:
        """The inputs of this call, or those of the same call of the evaluation that is held."""
        if self.held is None or len(self.calls) >= len(self.held.calls) or get_proxy_mode() is not None:
            return given  # torch.func.linearize traces: numbers cannot be compared in there
        here, there = tensors(given), tensors(self.held.calls[len(self.calls)].given)
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
        found = torch.autograd.grad((z * bearing(z)).sum(), wanted, retain_graph=True, allow_unused=True)
        return any(g is not None and bool(g.count_nonzero()) for g in found)

    def _keep(self, module: nn.Module, given: Any, outputs: Any) -> Any:
        """Record a call; a constant that came from a call under no_grad is given out again where calls are held."""
        constant = not torch.is_grad_enabled()
        if constant and self.free and self.held is not None and len(self.calls) < len(self.held.calls):
            outputs = self.held.calls[len(self.calls)].outputs
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

    def _bend(self, outputs: Any, pieces: list[Tensor], s: Tensor | None) -> Any:
        """Bend what a model gives, except what other outputs are made of: the loss may differentiate by that one."""
        given = tensors(outputs) if pieces else []
        inner = {id(o) for o in given if any(node is o.grad_fn for node in nodes(p for p in given if p is not o))}
        return mapped(lambda o: o if id(o) in inner else self._bent(o, pieces, s), outputs) if pieces else outputs

    def _bent(self, outputs: Tensor, pieces: list[Tensor], s: Tensor | None) -> Tensor:
        if s is None or not (outputs.is_floating_point() or outputs.is_complex()):
            return outputs
        if outputs.requires_grad and outputs.is_leaf:
            return outputs
        n = len(outputs) if outputs.dim() else -1
        total = sum((p if p.dim() and len(p) == n else p.sum()) for p in pieces)
        turn = torch.expm1(torch.as_tensor(total))
        turn = turn.reshape(n, *(1,) * (outputs.dim() - 1)) if turn.dim() else turn
        return outputs + (s.to(turn) * turn * bearing(turn.new_empty(outputs.shape))).to(outputs)
