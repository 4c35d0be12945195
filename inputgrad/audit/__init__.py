"""Does a loss really depend on the input gradient? Measured on one batch, with a verdict in one sentence.

import inputgrad
assert inputgrad.audit(my_loss, model, x, y).depends      # my_loss(model, x, y) -> scalar
"""

from __future__ import annotations

import inspect
import math
import sys
import textwrap
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from inputgrad.audit import explain
from inputgrad.audit.blame import running
from inputgrad.audit.checks import Facts, First, Row, rows
from inputgrad.audit.cuts import Constant
from inputgrad.audit.forms import Form, forms, refuse
from inputgrad.audit.inside import own_functions
from inputgrad.audit.subject import AnyLoss, Subject
from inputgrad.audit.verdict import TRAINS, Kind, close_calls, decide
from inputgrad.errors import UserError
from inputgrad.gradients.forward import Context
from inputgrad.losses import Loss

SENTENCES: dict[Kind, str] = {
    "depends": "The loss depends on the input gradient, and training follows it.",
    "moves its inputs along the gradient": "The loss moves its inputs along the gradient, and training follows the pass"
    " at the moved inputs; the gradient itself is only a direction, as in FGSM, PGD and finite differences.",
    "partly detached": "The loss depends on the input gradient, but only a part of it is trained:"
    " another part is a constant.",
    "detached": "The loss prints the input gradient but does not train on it: the gradient is a constant.",
    "independent": "The loss does not depend on the input gradient.",
    "wrong gradient": "The loss depends on the input gradient, but its parameter gradient is wrong: it is not"
    " that of the printed value.",
    "not finite": "The loss or its parameter gradient is nan or infinite: one step destroys the model.",
}

CALLS = 64
"""So many calls are made where a loss counts its steps and has no derivative in the first."""
WIDTH = 100
"""Of the table; a longer figure goes on in the next line."""
STATES = {True: "ok", False: "FAILS", None: "-"}


@dataclass(frozen=True)
class Audit:
    """The verdict, and the rows that were measured for it; it prints as a table.

    Attributes:
        kind: the verdict in one word or a few.
        rows: what was measured.
        called: how the loss was called.
        explanation: what was written, why it is wrong, what to write; '' where there is nothing to say.
    """

    kind: Kind
    rows: list[Row]
    called: str
    explanation: str

    @property
    def depends(self) -> bool:
        """Whether training with this loss follows the input gradient: exit code 0."""
        return self.kind in TRAINS

    @property
    def verdict(self) -> str:
        """One sentence; it names the rows that failed besides."""
        failed = [row.name for row in self.rows if row.ok is False] if self.depends else []
        return SENTENCES[self.kind] + (f" Failed besides: {'; '.join(failed)}." if failed else "")

    def as_json(self) -> dict[str, Any]:
        """For the run folder."""
        return {"kind": self.kind, "verdict": self.verdict, "rows": [asdict(row) for row in self.rows]}

    def __str__(self) -> str:
        return table(self)


def audit(loss: AnyLoss, model: Any, x: Any, y: Any = None, context: Context | None = None) -> Audit:
    """Audit one loss on one batch; model, batch and random state are left as they were.

    Args:
        loss: one of ours, or any callable (model, x, y), (model, batch) or (outputs, y) that gives one number.
        model: a module, or several in a tuple or a dict, as the loss takes them.
        x: inputs: a tensor, a tuple, a dict.
        y: targets of any kind, or None.
        context: direction, mask and bounds, for a loss of ours that uses them.

    Raises:
        UserError: the loss cannot run: what is wrong, where, and the fix.
    """
    refuse(loss, model)
    if isinstance(loss, Loss):
        # the whole batch, since what a part of it shows is chance; at full strength in every call
        loss = loss.whole()
    ways = list(forms(loss, model, x, y))
    subject = Subject(loss, ways[0], model, x, y, context or Context())
    if not subject.learnt:
        raise UserError("no weight of the model is trained; fix: give a model with requires_grad=True somewhere")
    with subject.borrowed():
        first = first_call(subject, ways)
        if first.bad:
            return Audit("not finite", [first.bad], subject.form.text, explain.text(["nan"], []))
        with running("the audit's own evaluation", subject.models):
            facts = measured(subject, first)
            found = list(rows(facts))
            called = subject.form.text + (f", the {subject.calls + 1}th time" if subject.calls else "")
            return Audit(facts.kind, found, called, explanation(facts, found))


def first_call(subject: Subject, ways: Sequence[Form]) -> First:
    """Call the loss in the model's own precision, with its backward, and find the way in which it is called.

    Raises:
        UserError: it fails, in every way in which it may be meant.
    """
    failed: UserError | None = None
    for subject.form in ways:
        try:
            with running(subject.form.text, subject.models, subject.again):
                return called(subject)
        except UserError as error:
            failed = failed or error
    subject.form = ways[0]
    raise failed or UserError("the loss cannot be called")


def called(subject: Subject) -> First:
    subject.fresh()
    before = snapshot(subject)
    total = subject.call()
    touched = [key for key, value in snapshot(subject).items() if not same(before[key], value)]
    left = math.sqrt(sum(float(p.grad.double().square().sum()) for p in subject.learnt if p.grad is not None))
    if left > 0:
        touched.insert(0, f".grad of the weights (norm {left:.3g}, which is added to the step)")
    if total.requires_grad:
        total.backward()
    names = {id(p): name for model in subject.models for name, p in model.named_parameters()}
    spoilt = [names[id(p)] for p in subject.learnt if p.grad is not None and not torch.isfinite(p.grad).all()]
    bad = None
    if spoilt or not torch.isfinite(total):
        what = "the loss" if not torch.isfinite(total) else f"the gradient of {', '.join(spoilt[:3])}"
        figure = f"{what} is nan or infinite{operation(subject)}"
        bad = Row("loss and parameter gradient are finite", False, figure, "one step with it destroys the model")
    return First(tuple(touched), total.requires_grad, bad)


def operation(subject: Subject) -> str:
    """Where nan appears first in the backward, as PyTorch's anomaly mode says."""
    subject.fresh()
    try:
        with warnings.catch_warnings(), torch.autograd.set_detect_anomaly(True):
            warnings.simplefilter("ignore")
            subject.call().backward()
    except RuntimeError as error:
        return f" ({str(error).splitlines()[0]})"
    return ""


def snapshot(subject: Subject) -> dict[str, list[Any]]:
    """What a loss must not change, by what a user would call it."""
    still = not any(m.training for m in subject.modules)  # in train mode a pass moves BatchNorm's statistics
    return {
        "the weights": [p.detach().clone() for p in subject.parameters],
        "buffers": [b.clone() for m in subject.modules for b in m.buffers(recurse=False) if still],
        "train or eval mode": [m.training for m in subject.modules],
        "requires_grad of the weights": [p.requires_grad for p in subject.parameters],
    }


def same(a: list[Any], b: list[Any]) -> bool:
    return all(torch.equal(x, y) if isinstance(x, Tensor) else x == y for x, y in zip(a, b, strict=True))


def refuse_kept_graphs(subject: Subject) -> None:
    """A second step from the same state runs as the first one did, or something of the first was kept.

    Raises:
        UserError: it was: the training loop would fail as well.
    """
    try:
        total = subject.again()
        if total.requires_grad:
            total.backward()
    except RuntimeError as error:
        if "second time" not in str(error):
            raise
        fix = "clear at the start of a call what an earlier one kept (a derivative, outputs in a dict)"
        raise UserError(f"the second call uses a graph of an earlier call again, which is gone; fix: {fix}") from error


def measured(subject: Subject, first: First) -> Facts:
    """The bent evaluations, in float64 if the loss runs in it, else in the model's own precision."""
    refuse_kept_graphs(subject)
    try:
        subject.dtype = torch.float64
        base = subject.run(backward=True, s=1.0)
    except Exception:  # constants of the user's own are often float32; float64 is our choice, not theirs
        subject.dtype = None
        base = subject.run(backward=True, s=1.0)
    if not base.probe.asked and subject.counts() and subject.wait_for(CALLS):
        base = subject.run(backward=True, s=1.0)
    exact = subject.run(backward=True, free=subject.learnt)
    return Facts(subject, decide(subject, base, exact), exact, replace(base, grads=[]), first)


def explanation(f: Facts, found: Sequence[Row]) -> str:
    """What was written, why it is wrong, what to write: for the verdict, and for the rows that failed."""
    failed = {row.name for row in found if row.ok is False}
    ways, lines = reasons(f)
    if f.base.inside:
        ways.append("own backward")
    elif "no side effects" in failed and f.first.touched[0].startswith(".grad") and "backward" not in ways:
        ways.append("left in .grad")
    if "batch repeated" in failed:
        ways.append("mean")
    if "size of the term" in failed and f.kind == "depends":
        ways.append("scale")
    if "examples have an input gradient" in failed:
        ways.append("zeros")
        lines += f.found.dead
    if "the model's input gradient is right" in failed and f.kind != "independent":
        ways.append("model")
    return explain.text(ways, lines) if ways else ""


def reasons(f: Facts) -> tuple[list[str], list[Constant]]:
    """The ways in which a verdict comes about, and the lines that are to blame."""
    asked, voids = f.exact.probe.asked, [part.line for part in f.found.voids]
    constant = [a.line for a in asked if not a.graph]
    if f.kind == "detached":
        if f.subject.scripted and not asked:
            return ["script"], []
        return explain.way_of(asked, f.first.alive, in_training(f)), voids or constant
    if f.kind == "partly detached":
        return ["partly"], voids or constant
    if f.kind == "wrong gradient":
        return ["wrong"], [Constant("a function", place_of(one)) for one in own_functions(f.subject, f.exact)]
    if f.kind == "independent" and f.exact.probe.missing:
        return ["not connected"], [Constant("a derivative", where) for where in f.exact.probe.missing]
    if f.kind == "independent" and close_calls(f.exact.probe.calls):
        return ["numbers"], []
    return [], []


def place_of(thing: type) -> tuple[str, int]:
    """Where a class is written; ('', 0) where its source is not there."""
    try:
        return inspect.getsourcefile(thing) or "", inspect.getsourcelines(thing)[1]
    except (OSError, TypeError):
        return "", 0


def in_training(f: Facts) -> bool:
    """Whether derivatives that are constants here carry the graph when the model is in train mode."""
    if all(m.training for m in f.subject.modules) or all(a.graph for a in f.exact.probe.asked):
        return False
    try:
        return all(a.graph for a in f.subject.run(training=True).probe.asked)
    except Exception:  # BatchNorm may refuse a small batch, for instance
        return False


def table(found: Audit) -> str:
    """The rows, the verdict, the explanation."""
    names = max(len(row.name) for row in found.rows)
    width = WIDTH - names - len("  FAILS  ")
    lines = [f"called as {found.called}", ""]
    for row in found.rows:
        figure = textwrap.wrap(row.figure, width)
        lines.append(f"{row.name:{names}}  {STATES[row.ok]:5}  {figure[0]}")
        rest = figure[1:] + (textwrap.wrap(f"({row.why})", width) if row.ok is False else [])
        lines += [" " * (WIDTH - width) + line for line in rest]
    lines += ["", *textwrap.wrap(found.verdict, WIDTH)]
    return "\n".join([*lines, "", found.explanation] if found.explanation else lines)


class _Callable(ModuleType):
    """This package, which can be called: `inputgrad.audit(...)` is `inputgrad.audit.audit(...)`.

    A name in inputgrad/__init__.py would not do: importing any module of this package sets the attribute `audit` of
    `inputgrad` to the package itself, so that what one gets would depend on what was imported before.
    """

    def __call__(self, loss: AnyLoss, model: Any, x: Any, y: Any = None, context: Context | None = None) -> Audit:
        return audit(loss, model, x, y, context)


sys.modules[__name__].__class__ = _Callable
