"""The verdict: what the loss's value does when derivatives are bent, against what autograd says that it does."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch

from inputgrad.audit.blame import short
from inputgrad.audit.cuts import Constant
from inputgrad.audit.gaps import NotMeasuredError
from inputgrad.audit.probe import Call
from inputgrad.audit.slopes import Part, Slopes, lines_inside, total
from inputgrad.audit.subject import Run, Subject
from inputgrad.audit.tensors import tensors

Kind = Literal[
    "depends",
    "moves its inputs along the gradient",
    "partly detached",
    "detached",
    "independent",
    "wrong gradient",
    "not finite",
]
TRAINS = ("depends", "moves its inputs along the gradient")
"""The verdicts with which training follows the input gradient."""

FAR = 1e4
"""A bend so large that it decides the sign of almost every derivative."""

ALIKE = 0.002
"""Slopes by a bend that differ by less are equal."""


@dataclass(frozen=True)
class Answer:
    """How a loss answers when derivatives are bent and the points it asks are held.

    Attributes:
        difference: the slope of its value, by a central difference.
        autograd: the same slope by autograd: what an optimiser would see.
        moved: whether the value changed at all.
        steps: whether the points it asks change with the bend, when they are not held.
        agrees: whether both slopes are equal, within the precision.
        loud: whether a second call gives another value, so that nobody can say.
        bend: which instrument: "s" bends the models, "t" the derivatives given out.
    """

    difference: float
    autograd: float
    moved: bool
    steps: bool
    agrees: bool
    loud: bool
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
    if not found.agrees and found.autograd:  # points that follow a bent derivative see the bend twice, except at 0
        straight = measure(subject, bend, subject.run(backward=True, **other | {bend: 0.0}))
        return straight if straight.agrees and straight.autograd else found
    return found


def measure(subject: Subject, bend: str, base: Run) -> Answer:
    at, held = getattr(base.probe, bend), base.probe
    eps, here = torch.finfo(subject.precision).eps, total(base, base.inside)
    step, bound = eps**0.25 * max(1.0, abs(at)), max(ALIKE, eps**0.2)
    other: dict[str, Any] = {"s": base.probe.s, "t": base.probe.t}
    up, down = (total(subject.run(held=held, **other | {bend: at + h}), base.inside) for h in (step, -step))
    again, far = subject.run(**other), subject.run(**other | {bend: FAR})
    noise = 10 * abs(total(again, base.inside) - here)
    steps = differ(far.probe.calls, held.calls) and not differ(again.probe.calls, held.calls)
    far = subject.run(held=held, **other | {bend: FAR}) if steps or held.fixed else far
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
        loud=loud,
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


def close_calls(calls: Sequence[Call]) -> bool:
    """Whether a model was called at points that lie one small step apart, the same for all examples."""
    points = [(call.module, z) for call in calls for z in tensors(call.given)[:1] if z.is_floating_point() and z.dim()]
    for k, (module, z) in enumerate(points):
        for other, w in points[k + 1 :]:
            step = w - z if other is module and w.shape == z.shape else torch.zeros(1)
            near = 0 < float(step.abs().max()) < 0.1 * float(z.std()) if step.numel() and len(step) > 1 else False
            if near and torch.allclose(step, step[:1].expand_as(step), atol=1e-6 * float(step.abs().max())):
                return True
    return False


def bent(subject: Subject, base: Run) -> Answer:
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


@dataclass(frozen=True)
class Found:
    """The verdict and what it rests on.

    Attributes:
        kind: the verdict.
        answer: how the value follows bent derivatives.
        gap: the parameter gradient against a difference: whether it is right, and the figure; or why it has none.
        parts: the lines that make constants of what follows the weights; or why they were not measured.
        dead: the lines whose derivatives are exactly 0, at other weights too.
    """

    kind: Kind
    answer: Answer
    gap: tuple[bool | None, str] | str
    parts: list[Part] | str
    dead: list[Constant]

    @property
    def voids(self) -> list[Part]:
        """Input gradients that are constants and change the loss with the weights."""
        return [part for part in self.parts if part.derivative] if isinstance(self.parts, list) else []


def decide(subject: Subject, base: Run, exact: Run) -> Found:
    """Bends explain; slopes along the weights decide, where they can be measured.

    Args:
        subject: what is audited.
        base: an evaluation with its last backward, at s = 1.
        exact: one that is not bent.
    """
    seen = bent(subject, base)
    inside_lines = lines_inside(subject, exact)
    step = Slopes(subject, exact, exact.left, inside_lines)
    term = step if base.inside == exact.left else replace(step, inside=base.inside)
    gap, parts = reasoned(lambda: step.parameter_gradient(seen.steps)), reasoned(lambda: term.parts(base))
    found = Found(seen.kind, seen, gap, parts, dead_lines(subject, exact))
    right = isinstance(gap, tuple) and gap[0]
    kind: Kind = seen.kind
    if seen.kind in ("depends", "partly detached"):
        measured = right and isinstance(parts, list)
        kind = "partly detached" if found.voids else "depends" if measured else seen.kind
    elif found.voids:
        kind = "detached"
    elif seen.kind == "independent" and subject.scripted and isinstance(gap, tuple):  # it asks where Python is blind
        kind = "depends" if right else "detached"
    if kind == "depends" and found.dead and trains_nothing(subject, exact):
        kind = "independent"
    if kind in TRAINS and isinstance(gap, tuple) and gap[0] is False:
        kind = "wrong gradient"
    return replace(found, kind=kind)


def dead_lines(subject: Subject, exact: Run) -> list[Constant]:
    """Lines that ask for derivatives and get zeros alone, whatever the weights: a second one of a ReLU net."""
    dead = zeros(exact)
    dead = dead & zeros(subject.run(shift=subject.noise())) if dead else dead
    return list(dict.fromkeys(a.line for a in exact.probe.asked if a.path in dead))


def zeros(run: Run) -> set[tuple[tuple[str, int], ...]]:
    """Where derivatives were asked that are zeros alone."""
    asked = run.probe.asked
    return {a.path for a in asked} - {a.path for a in asked if a.empty < 1}


def trains_nothing(subject: Subject, exact: Run) -> bool:
    """Whether nothing of the parameter gradient comes through what the loss makes of its derivatives."""
    rest = subject.run(backward=True, mute=True).grads
    return all(torch.equal(one, other) for one, other in zip(exact.grads, rest, strict=True))


def reasoned(measure: Callable[[], Any]) -> Any:
    """What is measured, or in words why it is not."""
    try:
        return measure()
    except NotMeasuredError as reason:
        return str(reason)
    except Exception as error:  # whatever the user's code does at other weights
        return f"{type(error).__name__}: {short(' '.join(str(error).split()))}"
