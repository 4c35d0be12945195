"""The measurement that decides: slopes of a loss along its weights, by autograd and by a difference.

Nothing here knows how a derivative is written. A constant that depends on the weights shows itself: a difference
follows it, autograd does not.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from inputgrad.audit.cuts import Constant, differs
from inputgrad.audit.gaps import Gaps, NotMeasuredError
from inputgrad.audit.inside import wrong_layers
from inputgrad.audit.subject import Run, Subject

LINES = 8
"""So many lines that make constants are measured one by one; a loss with more is said to be too long."""
SEEN = 1e-6
"""A part of the slope that is smaller than this is rounding."""


@dataclass(frozen=True)
class Part:
    """A part of the loss that follows the weights without autograd's knowledge.

    Attributes:
        line: what makes it a constant, and where.
        share: the length of the parameter gradient that is missing, relative to the one that autograd gives.
        derivative: whether it holds an input gradient; else it is a target or a weight.
    """

    line: Constant
    share: float
    derivative: bool


def total(run: Run, inside: bool) -> float:
    """The value that is trained on: with what the loss called `.backward()` on, where that trains on derivatives."""
    return run.value + run.inner if inside else run.value


def size(grads: list[Tensor]) -> float:
    return math.sqrt(dot(grads, grads))


def dot(one: list[Tensor], two: list[Tensor]) -> float:
    return sum(float((a * b).sum()) for a, b in zip(one, two, strict=True))


@dataclass(frozen=True)
class Slopes:
    """Differences of one loss along directions of its weights; what the evaluation `exact` made constant is held.

    Attributes:
        subject: what is audited.
        exact: an evaluation that is not bent.
        inside: whether a backward inside the loss is a part of the training, and so of the value.
        inside_lines: lines inside the models that make derivatives constant.
    """

    subject: Subject
    exact: Run
    inside: bool
    inside_lines: frozenset[Constant]

    @property
    def here(self) -> float:
        return total(self.exact, self.inside)

    @property
    def still(self) -> dict[str, Any]:
        return {"held": self.exact.probe, "free": self.subject.learnt, "inside_lines": self.inside_lines}

    def value(self, shift: Any = (), released: Constant | None = None) -> float:
        run = self.subject.run(**self.still, shift=shift, released=released)
        return total(run, self.inside)

    def along(self, way: list[Tensor], h: float, released: Constant | None = None) -> float:
        up, down = (self.value((w * step for w in way), released) for step in (h, -h))
        return (up - down) / (2 * h)

    @cached_property
    def repeats(self) -> bool:
        """Whether calls give one value: a counter may change every second one."""
        return all(abs(self.value() - self.here) <= 1e-6 * abs(self.here) for _ in range(2))

    def directions(self, seed: int) -> Iterator[list[Tensor]]:
        """Random directions of length about 1, one after another."""
        generator = torch.Generator().manual_seed(seed)
        width = math.sqrt(sum(g.numel() for g in self.exact.grads))
        while True:
            yield [torch.randn(g.shape, generator=generator).to(g) / width for g in self.exact.grads]

    def parameter_gradient(self, steps: bool) -> tuple[bool | None, str]:
        """Along directions of the weights, against a difference; constants are held still.

        What an inner `.backward()` leaves in `.grad` counts as trained, as it does in the step.

        Args:
            steps: whether the loss moves its inputs along derivatives.
        """
        s, precise = self.subject, self.exact.probe.precise
        if not self.repeats:
            raise NotMeasuredError("a second call gives another value: the loss keeps a state of its own")
        length = size(self.exact.grads)
        if length == 0:
            raise NotMeasuredError("nothing is trained")
        gaps = Gaps(0.02, small=1e-4) if precise else Gaps(0.1)  # the constant vectors of a spectral norm: a small gap
        # a long step crosses kinks, a short one rounds
        for relative, random in zip((1e-7, 1e-9, 1e-5) if precise else (1e-3, 1e-2), self.directions(4), strict=False):
            way = [r + g / length for r, g in zip(random, self.exact.grads, strict=True)]
            along = dot(self.exact.grads, way)
            h = relative * max(1.0, abs(self.here)) / abs(along)
            if h > 1:
                raise NotMeasuredError("the parameter gradient is almost 0: a difference is rounding")
            up, down = (self.value(w * step for w in way) for step in (h, -h))

            def nearby(way: list[Tensor] = way, h: float = h) -> list[float]:
                ends = (s.run(True, shift=(w * step for w in way), **self.still).grads for step in (h, -h))
                return [dot(end, way) for end in ends]

            if gaps.add(up, down, h, along, nearby):
                return gaps.found(s)
        if steps and min(gaps.smooth, default=1.0) > gaps.bound:
            raise NotMeasuredError("the moved inputs change with the weights, as a difference sees, training does not")
        return gaps.found(s, lambda: bool(wrong_layers(s)))

    def share(self, line: Constant) -> float | None:
        """Of the parameter gradient, what is missing since that line makes a constant; None where kinks hide it."""
        scale = 1e-8 * max(1.0, size([p.detach() for p in self.subject.learnt]))
        missing, seen = [], []
        for way, steps in zip(self.directions(6), ((1, 100), (100,)), strict=False):
            along = dot(self.exact.grads, way)
            gaps = [self.along(way, scale * step, line) - along for step in steps]
            if abs(gaps[0] - gaps[-1]) <= 0.2 * max(map(abs, gaps)) + SEEN * abs(along):
                missing.append(gaps[-1])
                seen.append(along)
        if not missing:
            return None
        return math.sqrt(sum(m * m for m in missing) / (sum(v * v for v in seen) or 1e-300))

    def parts(self, base: Run) -> list[Part]:
        """Every line that makes a constant of something that follows the weights, and what is missing by it.

        Args:
            base: a bent evaluation, by which is seen whether a constant holds a derivative.

        Raises:
            NotMeasuredError: a difference cannot be taken.
        """
        probe = self.exact.probe
        asked = dict.fromkeys(a.line for a in probe.asked if not a.graph)
        seen = (c.line for c in probe.tape if not c.inside or c.line in self.inside_lines)
        cuts = [line for line in dict.fromkeys(seen) if line not in asked]
        if not (asked or cuts):
            return []
        if not self.exact.probe.precise:
            raise NotMeasuredError("a part of the loss or the net works in float32 or less: a difference is too rough")
        if not self.repeats:
            raise NotMeasuredError("a second call gives another value: the loss keeps a state of its own")
        if len(asked) + len(cuts) > LINES:
            raise NotMeasuredError(f"more than {LINES} lines make constants")
        turned = bent_lines(base, self.subject.run(s=base.probe.s + 0.5, held=base.probe)) if cuts else set()
        found = []
        for line in [*asked, *cuts]:
            share = self.share(line)
            if share is None:
                raise NotMeasuredError("every step crosses a kink, as of a ReLU")
            if share > SEEN:
                found.append(Part(line, share, line in asked or line in turned or line in self.inside_lines))
        return found


def lines_inside(subject: Subject, exact: Run) -> frozenset[Constant]:
    """Lines inside the models that make a constant of a derivative that the model asked for."""
    if not any(a.inside for a in exact.probe.asked) or not any(c.inside for c in exact.probe.tape):
        return frozenset()
    return frozenset(bent_lines(exact, subject.run(t=1.0), inside=True))


def bent_lines(one: Run, other: Run, inside: bool = False) -> set[Constant]:
    """Lines whose constants change when derivatives are bent and all outputs stay: they hold a derivative."""
    pairs = zip(one.probe.tape, other.probe.tape, strict=False)
    same = ((a, b) for a, b in pairs if a.line == b.line and a.inside == inside)
    return {a.line for a, b in same if differs(a.value, b.value)}
