"""The rows, one small function each: what was measured, whether that is right, and why it matters."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from inputgrad.audit.blame import short
from inputgrad.audit.cuts import Constant
from inputgrad.audit.gaps import NotMeasuredError
from inputgrad.audit.inside import model_gradient, wrong_layers
from inputgrad.audit.slopes import size
from inputgrad.audit.subject import Run, Subject
from inputgrad.audit.verdict import Answer, Found, Kind


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
        found: the verdict, and how it was measured.
        exact: an evaluation that is not bent, with its last backward.
        base: one that is bent by 1.
        first: what the loss did when it was called as a training loop calls it.
    """

    subject: Subject
    found: Found
    exact: Run
    base: Run
    first: First

    @property
    def kind(self) -> Kind:
        return self.found.kind

    @property
    def answer(self) -> Answer:
        return self.found.answer


def at(line: Constant) -> str:
    """'.detach() in file.py, line 12'"""
    return f"{line.written} in {Path(line.where[0]).name}, line {line.where[1]}" if line.where[0] else line.written


Check = Callable[[Facts], tuple[bool | None, str]]


def follows(f: Facts) -> tuple[bool | None, str]:
    """Does the value move when the input gradient turns and the outputs stay?"""
    if f.kind == "moves its inputs along the gradient":
        return True, "its inputs move along the gradient; at the same inputs it does not change"
    if f.kind == "independent" and f.found.dead:
        return False, "it would, but the derivatives are exactly 0"
    return f.kind != "independent", f"slope {f.answer.difference:.3g}"


def times(share: float) -> str:
    """'0.05 × '; of a gradient that is 0, all is missing."""
    return f"{share:.2g} × " if share < 1e6 else "all of "


def trains(f: Facts) -> tuple[bool | None, str]:
    """Does an optimiser see the same slope?"""
    if f.kind == "moves its inputs along the gradient":
        return True, "by the pass at the moved inputs; the step itself is a constant"
    if voids := f.found.voids:
        return False, "; ".join(f"{at(v.line)}: {times(v.share)}the parameter gradient is missing" for v in voids)
    if f.kind == "independent" and f.found.dead:
        return False, "nothing of the parameter gradient comes through them"
    if f.answer.loud:
        raise NotMeasuredError("a second call gives another value: the loss keeps a state that cannot be put back")
    both = f"autograd {f.answer.autograd:.3g}, difference {f.answer.difference:.3g}"
    part = " (a part is a constant)" if f.kind == "partly detached" else ""
    return f.kind in ("depends", "wrong gradient"), both + part


def weights_difference(f: Facts) -> tuple[bool | None, str]:
    """The parameter gradient along directions of the weights, against a difference; constants are held still."""
    if isinstance(f.found.gap, str):
        raise NotMeasuredError(f.found.gap)
    ok, figure = f.found.gap
    layers = wrong_layers(f.subject) if ok is False else []
    return ok, figure + (f"; the second derivative is wrong in {', '.join(layers[:3])}" if layers else "")


def constants(f: Facts) -> tuple[bool | None, str]:
    """What else follows the weights, and autograd does not know it: a target, a weight."""
    if isinstance(f.found.parts, str):
        raise NotMeasuredError(f.found.parts)
    meant = [p for p in f.found.parts if not p.derivative]
    if not meant:
        return True, "none"
    return None, "told: " + "; ".join(f"{at(p.line)}: {p.share:.2g} × the parameter gradient" for p in meant)


def term_size(f: Facts) -> tuple[bool | None, str]:
    """How large is the part of the parameter gradient that comes through input gradients?"""
    if f.kind == "moves its inputs along the gradient":
        raise NotMeasuredError("there is no term of its own, the pass at the moved inputs is the loss")
    if f.kind == "wrong gradient":
        raise NotMeasuredError("the parameter gradient is wrong")
    if not f.exact.probe.asked:
        if f.kind != "independent":
            raise NotMeasuredError(nothing_asked(f))
        return False, nothing_asked(f)
    try:
        rest = f.subject.run(backward=True, cut=True).grads
    except RuntimeError as error:
        raise NotMeasuredError("the loss cannot run without the graph of its derivatives") from error
    term = size([one - other for one, other in zip(f.exact.grads, rest, strict=True)])
    base = size(rest)
    if term == 0 and f.kind != "depends":
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
        raise NotMeasuredError("the bend of derivatives does not reach a term of its own")
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
    """Examples without any input gradient give a term nothing to work on; a line that gives zeros alone, nothing."""
    asked = f.exact.probe.asked
    if not asked:
        raise NotMeasuredError(nothing_asked(f))
    if f.found.dead:
        return False, f"exactly 0 for every example, at other weights too: {'; '.join(map(at, f.found.dead))}"
    share = asked[0].empty
    return True if share < 0.5 else None, f"{'' if share < 0.5 else 'told: '}{share:.0%} of the batch without"


def nothing_asked(f: Facts) -> str:
    """Why there is no derivative to look at."""
    if f.kind == "independent" and not f.exact.probe.unseen:
        return "no input gradient was asked for"
    if f.exact.probe.unseen:
        return "several derivatives were asked at once (is_grads_batched): their numbers cannot be seen"
    return "the derivative was not asked of autograd.grad or backward (torch.func, forward mode, TorchScript)"


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
    ("targets and weights that follow the net", constants, "constants by design: training does not follow them"),
    (
        "the model's input gradient is right",
        lambda f: model_gradient(f.subject, f.exact),
        "against a central difference: a detach in the model?",
    ),
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
