"""Does a loss really depend on the input gradient? Measured on one batch, with a verdict in one sentence.

import inputgrad
assert inputgrad.audit(my_loss, model, x, y).depends      # my_loss(model, x, y) -> scalar
"""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass
from types import ModuleType
from typing import Any

from inputgrad.audit import explain
from inputgrad.audit.blame import running
from inputgrad.audit.checks import rows
from inputgrad.audit.facts import TRAINS, Row
from inputgrad.audit.forms import forms, refuse
from inputgrad.audit.steps import explanation, first_call, measured
from inputgrad.audit.subject import AnyLoss, Subject
from inputgrad.audit.verdict import Kind
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
    "not finite": "The loss or its parameter gradient is nan or infinite: one step destroys the model.",
}


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

    @property
    def checks(self) -> list[Row]:
        """The rows, by their former name."""
        return self.rows

    def as_json(self) -> dict[str, Any]:
        """For the run folder."""
        return {"kind": self.kind, "verdict": self.verdict, "rows": [asdict(row) for row in self.rows]}

    def __str__(self) -> str:
        from inputgrad.audit import table

        return table.text(self)


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
        loss = loss.model_copy(update={"share": 1.0, "every": 1, "ramp": 0})
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
            return Audit(facts.answer.kind, found, subject.form.text, explanation(facts, found))


class _Callable(ModuleType):
    """This package, which can be called: `inputgrad.audit(...)` is `inputgrad.audit.audit(...)`.

    A name in inputgrad/__init__.py would not do: importing any module of this package sets the attribute `audit` of
    `inputgrad` to the package itself, so that what one gets would depend on what was imported before.
    """

    def __call__(self, loss: AnyLoss, model: Any, x: Any, y: Any = None, context: Context | None = None) -> Audit:
        return audit(loss, model, x, y, context)


sys.modules[__name__].__class__ = _Callable
