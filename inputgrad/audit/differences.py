"""The rows that hold a gradient against a central difference: over the weights, and over the inputs of the model."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from inputgrad.audit.containers import mapped, tensors
from inputgrad.audit.facts import TRAINS, Facts, NotMeasuredError
from inputgrad.audit.probe import Call, Probe
from inputgrad.audit.recorder import bearing
from inputgrad.audit.subject import Subject
from inputgrad.audit.verdict import total


def size(grads: list[Tensor]) -> float:
    return math.sqrt(dot(grads, grads))


def dot(one: list[Tensor], two: list[Tensor]) -> float:
    return sum(float((a * b).sum()) for a, b in zip(one, two, strict=True))


def weights_difference(f: Facts) -> tuple[bool | None, str]:
    """The parameter gradient along directions of the weights, against a difference; constants are held still."""
    s, precise = f.subject, f.subject.precision == torch.float64
    if f.answer.kind not in (*TRAINS, "partly detached"):
        raise NotMeasuredError("nothing of the gradient is trained")
    still: dict[str, Any] = {"held": f.exact.probe.calls, "free": s.learnt, "tape": f.exact.probe.tape}
    here, inside = f.exact.value + f.exact.inner, f.exact.inner != 0
    if abs(total(s.run(**still), inside) - here) > 1e-6 * abs(here):
        raise NotMeasuredError("a second call gives another value: the loss keeps a state of its own")
    length, width = size(f.exact.grads), math.sqrt(sum(g.numel() for g in f.exact.grads))
    gaps = Gaps(0.02 if precise else 0.1)  # spectral norm holds the vectors of its power iteration: a small gap
    generator = torch.Generator().manual_seed(4)
    for relative in (1e-7, 1e-9, 1e-5) if precise else (1e-3, 1e-2):  # a long step crosses kinks, a short one rounds
        way = [torch.randn(g.shape, generator=generator).to(g) / width + g / length for g in f.exact.grads]
        along = dot(f.exact.grads, way)
        h = relative * max(1.0, abs(here)) / abs(along)
        if h > 1:
            raise NotMeasuredError("the parameter gradient is almost 0: a difference is rounding")
        up, down = (total(s.run(shift=(w * step for w in way), **still), inside) for step in (h, -h))

        def nearby(way: list[Tensor] = way, h: float = h) -> list[float]:
            ends = (s.run(True, shift=(w * step for w in way), **still).grads for step in (h, -h))
            return [dot(end, way) for end in ends]

        if gaps.add(up, down, h, along, nearby):
            return gaps.found(s)
    if f.answer.steps:
        raise NotMeasuredError("the moved inputs change with the weights, as a difference sees and training does not")
    return gaps.found(s)


@dataclass
class Gaps:
    """Slopes by autograd against differences, over several directions; those that cross a kink do not count."""

    bound: float
    smooth: list[float] = field(default_factory=list)

    def add(self, up: float, down: float, h: float, along: float, nearby: Callable[[], list[float]]) -> bool:
        """Whether this direction settles it: both slopes agree. `nearby` gives those by autograd at the ends."""
        slope = (up - down) / (2 * h)
        largest = max(abs(slope), abs(along), 1e-9)
        gap = abs(slope - along) / largest
        if gap < self.bound or all(abs(near - along) < self.bound * largest for near in nearby()):
            self.smooth.append(gap)
        return gap < self.bound

    def found(self, s: Subject) -> tuple[bool | None, str]:
        if not self.smooth:
            raise NotMeasuredError("every step crosses a kink, as of a ReLU")
        precise = s.precision == torch.float64
        gap = min(self.smooth)
        return gap < self.bound, f"relative gap {gap:.1e}" + ("" if precise else f", in {name_of(s.precision)}")


def name_of(precision: torch.dtype) -> str:
    return str(precision).removeprefix("torch.")


def model_gradient(f: Facts) -> tuple[bool | None, str]:
    """The input gradient that the model gives, against a difference of what it was taken of, in the input."""
    calls: dict[nn.Module, Call] = {}
    for call in f.exact.probe.calls:
        if any(z.is_floating_point() for z in tensors(call.given)):
            calls.setdefault(call.module, call)
    if not calls:
        raise NotMeasuredError("the model is called with whole numbers only")
    h, bound = (1e-6, 1e-3) if f.subject.precision == torch.float64 else (1e-2, 0.1)
    found = [gaps_of(f.subject, call, h, bound) for call in calls.values()]
    return max(found, key=lambda gaps: min(gaps.smooth, default=0.0)).found(f.subject)


def gaps_of(s: Subject, call: Call, h: float, bound: float) -> Gaps:
    """Of one model call, along directions of length 1."""
    gaps, generator = Gaps(bound), torch.Generator().manual_seed(5)
    for _ in range(3):
        ways = [torch.randn(z.shape, generator=generator, dtype=torch.float64).to(z) for z in tensors(call.given)]
        unit = math.sqrt(sum(float(w.square().sum()) for w in ways)) or 1.0
        ways = [w / unit for w in ways]
        (up, above), (_, along), (down, below) = (scalar(s, call, ways, step) for step in (h, 0.0, -h))
        if gaps.add(up, down, h, along, lambda ends=(above, below): [*ends]):  # type: ignore[misc]
            break
    return gaps


def scalar(s: Subject, call: Call, ways: list[Tensor], step: float) -> tuple[float, float]:
    """A sum of the outputs of one model call, moved by `step`, and its slope by autograd.

    Where the model takes a derivative itself, of an energy for instance, that derivative and that energy are meant.
    """
    s.fresh()
    moved, leaves = iter(ways), []

    def place(z: Tensor) -> Tensor:
        way = next(moved)
        if not z.is_floating_point():
            return z
        leaf = (z + step * way).requires_grad_(True)
        leaves.append((leaf, way))
        return leaf

    args, kwargs = mapped(place, call.given)
    inner = Probe([], s.learnt[0].detach().new_zeros(()))
    with inner.watching():
        outputs = call.module(*args, **kwargs)
    for asked in inner.asked:
        for _, way in leaves:
            if asked.gradient.shape == way.shape:
                return asked.root, float((asked.gradient * way).sum())
    value = sum(((o * bearing(o)).sum() for o in tensors(outputs) if o.is_floating_point()), s.learnt[0].new_zeros(()))
    grads: Sequence[Tensor | None] = [None] * len(leaves)
    if value.requires_grad:
        grads = torch.autograd.grad(value, [leaf for leaf, _ in leaves], allow_unused=True)
    if all(g is None for g in grads):
        raise NotMeasuredError("the model cuts its input off: derivatives are by what it makes of it")
    slope = sum(float((g * way).sum()) for g, (_, way) in zip(grads, leaves, strict=True) if g is not None)
    return float(value.detach()), slope
