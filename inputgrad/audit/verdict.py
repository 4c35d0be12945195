"""The verdict: what the loss's value does when derivatives are bent, against what autograd says that it does."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch

from inputgrad.audit.containers import tensors
from inputgrad.audit.probe import Call
from inputgrad.audit.subject import Run, Subject

Kind = Literal[
    "depends", "moves its inputs along the gradient", "partly detached", "detached", "independent", "not finite"
]

FAR = 1e4
"""A bend so large that it decides the sign of almost every derivative."""


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
    at = getattr(base.probe, bend)
    eps = torch.finfo(subject.precision).eps
    step, bound = eps**0.25, max(1e-3, eps**0.2)
    held = base.probe.calls
    other: dict[str, Any] = {"s": base.probe.s, "t": base.probe.t}
    up, down = (subject.run(held=held, **other | {bend: at + h}).value for h in (step, -step))
    again, far = subject.run(**other), subject.run(**other | {bend: FAR})
    noise = 10 * abs(again.value - base.value)
    steps = differ(far.probe.calls, held) and not differ(again.probe.calls, held)
    value = subject.run(held=held, **other | {bend: FAR}).value if steps else far.value
    slope, autograd = (up - down) / (2 * step), base.slopes["st".index(bend)]
    rounding = (noise + 4 * eps * abs(base.value)) / step
    return Answer(
        difference=slope,
        autograd=autograd,
        moved=any(not math.isclose(v, base.value, rel_tol=0, abs_tol=noise) for v in (up, down, value)),
        steps=steps,
        agrees=abs(slope - autograd) <= bound * max(abs(slope), abs(autograd)) + rounding,
        bend=bend,
    )


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
