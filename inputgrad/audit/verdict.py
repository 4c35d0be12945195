"""The verdict: what the loss's value does when derivatives are bent, against what autograd says that it does."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch

from inputgrad.audit.probe import Call
from inputgrad.audit.subject import Run, Subject
from inputgrad.audit.tensors import tensors

Kind = Literal[
    "depends", "moves its inputs along the gradient", "partly detached", "detached", "independent", "not finite"
]

FAR = 1e4
"""A bend so large that it decides the sign of almost every derivative."""

ALIKE = 0.1
"""Slopes that differ by less are equal: the constant vectors of a power iteration, for instance, are no fault."""


@dataclass(frozen=True)
class Answer:
    """How a loss answers when derivatives are bent and the points it asks are held.

    Attributes:
        difference: the slope of its value, by a central difference.
        autograd: the same slope by autograd: what an optimiser would see.
        moved: whether the value changed at all.
        steps: whether the points it asks change with the bend, when they are not held.
        agrees: whether both slopes are equal, within the precision.
        bend: which instrument: "s" bends the models, "t" the derivatives given out.
    """

    difference: float
    autograd: float
    moved: bool
    steps: bool
    agrees: bool
    bend: str

    @property
    def kind(self) -> Kind:
        if abs(self.autograd) > 1e-7 * abs(self.difference):
            return "depends" if self.agrees else "partly detached"
        if self.moved:
            return "detached"
        return "moves its inputs along the gradient" if self.steps else "independent"


def answer(subject: Subject, bend: str, base: Run) -> Answer:
    """Measure around the bend of `base`, an evaluation with its last backward."""
    found = measure(subject, bend, base)
    other: dict[str, Any] = {"s": base.probe.s, "t": base.probe.t}
    if found.moved and not found.difference and not found.autograd:  # a hinge that is closed here?
        far = measure(subject, bend, subject.run(backward=True, **other | {bend: FAR}))
        return far if far.autograd else found
    if not found.agrees:  # points that follow a bent derivative see the bend twice, except at 0
        straight = measure(subject, bend, subject.run(backward=True, **other | {bend: 0.0}))
        return straight if straight.agrees and straight.autograd else found
    return found


def measure(subject: Subject, bend: str, base: Run) -> Answer:
    at, held = getattr(base.probe, bend), base.probe.calls
    eps, here = torch.finfo(subject.precision).eps, total(base, base.inside)
    step, bound = eps**0.25 * max(1.0, abs(at)), max(ALIKE, eps**0.2)
    other: dict[str, Any] = {"s": base.probe.s, "t": base.probe.t}
    up, down = (total(subject.run(held=held, **other | {bend: at + h}), base.inside) for h in (step, -step))
    again, far = subject.run(**other), subject.run(**other | {bend: FAR})
    noise = 10 * abs(total(again, base.inside) - here)
    steps = differ(far.probe.calls, held) and not differ(again.probe.calls, held)
    far = subject.run(held=held, **other | {bend: FAR}) if steps else far
    slope, autograd = (up - down) / (2 * step), base.slopes["st".index(bend)]
    if loud := noise > 1e-5 * abs(here):  # a counter or random numbers of its own: a later call may be another one
        more = [subject.run(backward=True, **other).slopes["st".index(bend)] for _ in range(2)]
        autograd = max(autograd, *more, key=abs)
    rounding = (noise + 4 * eps * abs(here)) / step
    values = (up, down, total(far, base.inside))
    return Answer(
        difference=slope,
        autograd=autograd,
        moved=any(not math.isclose(value, here, rel_tol=0, abs_tol=noise) for value in values),
        steps=steps,
        agrees=abs(slope - autograd) <= bound * max(abs(slope), abs(autograd)) + rounding or loud,
        bend=bend,
    )


def total(run: Run, inside: bool) -> float:
    """The value that is trained on: with what the loss called `.backward()` on, where that trains on derivatives."""
    return run.value + run.inner if inside else run.value


def differ(a: Sequence[Call], b: Sequence[Call]) -> bool:
    """Whether two evaluations asked the models at different points."""
    if len(a) != len(b):
        return True
    pairs = [(tensors(one.given), tensors(two.given)) for one, two in zip(a, b, strict=True)]
    return any(
        len(one) != len(two) or not all(z.shape == w.shape and torch.equal(z, w) for z, w in zip(one, two, strict=True))
        for one, two in pairs
    )


def decide(subject: Subject, base: Run) -> Answer:
    """Bend the models; where they show nothing, bend the derivatives that were given out.

    Args:
        subject: what is audited.
        base: an evaluation with its last backward, at s = 1.
    """
    found = answer(subject, "s", base)
    asked = base.probe.asked
    if found.kind in ("independent", "moves its inputs along the gradient") and asked:
        second = answer(subject, "t", subject.run(backward=True, s=1.0, t=0.5))
        return second if second.kind != "independent" else found
    return found
