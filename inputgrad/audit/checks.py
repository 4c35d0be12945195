"""The rows, one small function each: what was measured, whether that is right, and why it matters."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from inputgrad.audit.blame import short
from inputgrad.audit.probe import Call, Probe, bearing
from inputgrad.audit.subject import Run, Subject
from inputgrad.audit.tensors import mapped, tensors
from inputgrad.audit.verdict import Answer, total

TRAINS = ("depends", "moves its inputs along the gradient")
"""The verdicts with which training follows the input gradient."""


@dataclass(frozen=True)
class Row:
    """One row: its name, whether it is as it must be (None: not measured, or only told), the figure, what it means."""

    name: str
    ok: bool | None
    figure: str
    why: str


@dataclass(frozen=True)
class First:
    """What the loss did when it was called as a training loop calls it.

    Attributes:
        touched: what it changed for good, in the user's words.
        alive: whether it has a graph.
        bad: the row that says what is nan or infinite.
    """

    touched: tuple[str, ...]
    alive: bool
    bad: Row | None


@dataclass(frozen=True)
class Facts:
    """What was found before any row is written.

    Attributes:
        subject: what was audited.
        answer: how its value follows the derivatives.
        exact: an evaluation that is not bent, with its last backward.
        base: one that is bent by 1.
        first: what the loss did when it was called as a training loop calls it.
    """

    subject: Subject
    answer: Answer
    exact: Run
    base: Run
    first: First


Check = Callable[[Facts], tuple[bool | None, str]]


class NotMeasuredError(Exception):
    """The reason why a row has no figure."""


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


def follows(f: Facts) -> tuple[bool | None, str]:
    """Does the value move when the input gradient turns and the outputs stay?"""
    if f.answer.kind == "moves its inputs along the gradient":
        return True, "its inputs move along the gradient; at the same inputs it does not change"
    return f.answer.kind != "independent", f"slope {f.answer.difference:.3g}"


def trains(f: Facts) -> tuple[bool | None, str]:
    """Does an optimiser see the same slope?"""
    if f.answer.kind == "moves its inputs along the gradient":
        return True, "by the pass at the moved inputs; the step itself is a constant"
    both = f"autograd {f.answer.autograd:.3g}, difference {f.answer.difference:.3g}"
    part = " (a part is a constant)" if f.answer.kind == "partly detached" else ""
    return f.answer.kind == "depends", both + part


def term_size(f: Facts) -> tuple[bool | None, str]:
    """How large is the part of the parameter gradient that comes through input gradients?"""
    if f.answer.kind == "moves its inputs along the gradient":
        raise NotMeasuredError("there is no term of its own, the pass at the moved inputs is the loss")
    if not f.exact.probe.asked:
        if f.answer.kind in TRAINS:
            raise NotMeasuredError("the derivative was not asked of autograd.grad or backward (forward mode?)")
        return False, "no input gradient was asked for"
    try:
        rest = f.subject.run(backward=True, cut=True).grads
    except RuntimeError as error:
        raise NotMeasuredError("the loss cannot run without the graph of its derivatives") from error
    term = size([one - other for one, other in zip(f.exact.grads, rest, strict=True)])
    base = size(rest)
    if term == 0 and f.answer.kind != "depends":
        return False, "the term adds nothing to the parameter gradient"
    if base == 0:
        return True, f"norm {term:.3g}: all of the parameter gradient"
    figure = f"norm {term:.3g}, {term / base:.3g} × that of the rest"
    if 1e-9 < term / base < 1e4:
        return True, figure
    root = max(abs(asked.root) for asked in f.exact.probe.asked) / max(1, f.subject.size)
    return (False, figure) if term > base and root > 1e3 else (None, f"told: {figure}")


def repeated(f: Facts) -> tuple[bool | None, str]:
    """Does the loss weigh its term equally at twice the batch size?"""
    half = [*range(f.subject.size // 2)]  # of the batch: twice as many as a training step has may not fit
    once, twice = examples(f, half), examples(f, [*half, *half])
    a, b = (run.slopes[f.answer.bend == "t"] for run in (once, twice))
    if a == 0:
        raise NotMeasuredError("no term of its own is trained")
    if abs(b / a - 1) < (1e-6 if f.subject.precision == torch.float64 else 0.05):
        return True, f"the value changes by {abs(twice.value - once.value):.1e}"
    if 0 <= b / a < 0.3:
        return False, f"at twice the batch the term weighs × {b / a:.2g}: the gradient of a mean, 1/N too many"
    return None, f"told: at twice the batch size the term weighs × {b / a:.2g}"


def permuted(f: Facts) -> tuple[bool | None, str]:
    """Does the order of the examples matter?"""
    change = abs(examples(f, [*reversed(range(f.subject.size))], False).value - f.base.value)
    if change <= 1e-6 * abs(f.base.value):
        return True, f"the value changes by {change:.1e}"
    return None, f"told: the loss couples the examples, its value changes by {change:.1e}"


def examples(f: Facts, index: list[int], backward: bool = True) -> Run:
    """The bent evaluation on other examples."""
    if f.subject.size < 2:
        raise NotMeasuredError("x has no two examples")
    if f.base.drew:
        raise NotMeasuredError("the loss or the net draws random numbers")
    return f.subject.run(backward=backward, index=index, s=f.base.probe.s, t=f.base.probe.t)


def examples_mix(f: Facts) -> tuple[bool | None, str]:
    """BatchNorm in train mode: g_i is then no example's own."""
    kinds = nn.modules.batchnorm._BatchNorm
    names = [
        name
        for model in f.subject.models
        for name, m in model.named_modules()
        if isinstance(m, kinds) and (m.training or not m.track_running_stats)
    ]
    if not names:
        return True, "no layer couples them"
    shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    return None, f"told: BatchNorm in train mode couples them ({shown}); GroupNorm does not"


def side_effects(f: Facts) -> tuple[bool | None, str]:
    """What one call of the loss changes for good."""
    return not f.first.touched, ", ".join(f.first.touched) or "none"


def zero_rows(f: Facts) -> tuple[bool | None, str]:
    """Examples without any input gradient give a term nothing to work on."""
    if not f.exact.probe.asked:
        raise NotMeasuredError("no input gradient was asked for")
    share = f.exact.probe.asked[0].empty
    return True if share < 0.5 else None, f"{'' if share < 0.5 else 'told: '}{share:.0%} of the batch without"


def second_derivatives(f: Facts) -> tuple[bool | None, str]:
    """The loss's own second backward ran, or it needs none."""
    if any(asked.graph for asked in f.exact.probe.asked):
        return True, "the second backward of the loss ran"
    raise NotMeasuredError("this loss takes no second derivative")


CHECKS: list[tuple[str, Check, str]] = [
    ("the value follows the input gradient", follows, "derivatives are turned while all outputs stay the same"),
    ("training follows it too", trains, "0 by autograd where the value moves: the input gradient is a constant"),
    ("size of the term", term_size, "its part of the parameter gradient: neither nothing nor 10,000 times the rest"),
    ("the parameter gradient is right", weights_difference, "against a central difference; constants are held still"),
    ("the model's input gradient is right", model_gradient, "against a central difference: a detach in the model?"),
    ("batch repeated", repeated, "a strength means the same at every batch size: per example first, then the mean"),
    ("batch permuted", permuted, "the order of the examples does not matter, unless a loss couples them"),
    ("examples do not mix", examples_mix, "the gradient of an example's loss touches that example alone"),
    ("no side effects", side_effects, "what an inner backward() leaves in .grad is added to the step"),
    ("examples have an input gradient", zero_rows, "a confident or a dead example gives a term nothing to work on"),
    ("every layer supports double backward", second_derivatives, "fused attention and cuDNN's RNNs do not"),
]


def rows(facts: Facts) -> Iterator[Row]:
    """All rows; one that fails itself says why, and the next one follows."""
    for name, check, why in CHECKS:
        try:
            ok, figure = check(facts)
        except NotMeasuredError as reason:
            ok, figure = None, f"not measured: {reason}"
        except Exception as error:  # whatever the user's code does on other examples or weights
            ok, figure = None, f"not measured: {type(error).__name__}: {short(' '.join(str(error).split()))}"
        yield Row(name, ok, figure, why)
