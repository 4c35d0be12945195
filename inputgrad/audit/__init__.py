"""Does a loss really depend on the input gradient? Ten measured checks on one batch, and a verdict in one sentence.

import inputgrad
assert inputgrad.audit(my_loss, model, x, y).depends      # my_loss(model, x, y) -> scalar
"""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass
from types import ModuleType
from typing import Any, Literal

from torch import Tensor, nn

from inputgrad.audit.checks import CheckResult, all_checks
from inputgrad.audit.subject import AnyLoss, Subject
from inputgrad.errors import UserError
from inputgrad.gradients.forward import Context
from inputgrad.gradients.layers import refuse_without_double_backward

Kind = Literal["depends", "detached", "independent"]

SENTENCES: dict[Kind, str] = {
    "depends": "The loss depends on the input gradient, and training follows it.",
    "detached": "The loss prints the input gradient but does not train on it: the gradient is a constant.",
    "independent": "The loss does not depend on the input gradient.",
}

EXPLANATION = """\
What was written   a gradient taken by backward(retain_graph=True) and x.grad.clone(), or by
                   autograd.grad without create_graph, or detached on the way.
Why it is constant such a gradient is a plain tensor of numbers: how it was computed from the
                   weights is not recorded. The penalty is added to the printed loss, and its
                   derivative with respect to every weight is 0. And if that first backward ran
                   on the task loss, the task's own gradient stays in .grad and counts twice.
What to write      x = x.detach().requires_grad_(True)
                   losses = F.cross_entropy(model(x), y, reduction="none")
                   g, = torch.autograd.grad(losses.sum(), x, create_graph=True)
                   loss = losses.mean() + strength * g.flatten(1).square().sum(1).mean()
                   loss.backward()                      # once"""


@dataclass(frozen=True)
class Audit:
    """The rows and what follows from them."""

    checks: list[CheckResult]

    @property
    def kind(self) -> Kind:
        """`detached`: the value sees the input gradient, the parameters do not."""
        sees, trains = self.checks[0].ok, self.checks[1].ok
        return "depends" if trains else "detached" if sees else "independent"

    @property
    def depends(self) -> bool:
        """Whether training with this loss follows the input gradient."""
        return self.kind == "depends"

    @property
    def verdict(self) -> str:
        """One sentence; it names the checks that failed beside the main one."""
        failed = [c.name for c in self.checks[2:] if not c.ok] if self.depends else []
        return SENTENCES[self.kind] + (f" Failed beside that: {'; '.join(failed)}." if failed else "")

    def as_json(self) -> dict[str, Any]:
        """For the run folder."""
        return {"kind": self.kind, "verdict": self.verdict, "checks": [asdict(c) for c in self.checks]}


def audit(loss: AnyLoss, model: nn.Module, x: Tensor, y: Tensor, context: Context | None = None) -> Audit:
    """Audit one loss on one batch; the model given is copied and left alone.

    Args:
        loss: one of ours, or any callable (model, x, y) -> scalar that a user would call `.backward()` on.
        model: maps (N, *input) to (N, C) logits or (N, k) predictions.
        x: inputs, (N, *input), at least two examples.
        y: class numbers (N,), or floating-point targets.
        context: direction, mask and bounds, for a loss of ours that uses them.

    Raises:
        UserError: the loss cannot run on the batch; a layer without double backward is named.
    """
    if len(x) != len(y):
        raise UserError(f"x holds {len(x)} examples and y {len(y)}; fix: give one y for every x")
    if len(x) < 2:
        raise UserError(f"the audit needs a batch of at least two examples, not {len(x)}")
    subject = Subject.of(loss, model, x, y, context)
    try:
        return Audit([check(subject) for check in all_checks(len(x))])
    except UserError:
        raise
    except (RuntimeError, NotImplementedError) as error:
        refuse_without_double_backward(subject.model, subject.x, error)
        said = str(error).splitlines()[0]
        fix = "make loss(model.double(), x.double(), y) run"
        raise UserError(f"the loss cannot run on this batch in float64: {said}; fix: {fix}") from error


class _Callable(ModuleType):
    """This package, which can be called: `inputgrad.audit(...)` is `inputgrad.audit.audit(...)`.

    A name in inputgrad/__init__.py would not do: importing any module of this package sets the attribute `audit` of
    `inputgrad` to the package itself, so that what one gets would depend on what was imported before.
    """

    def __call__(self, loss: AnyLoss, model: nn.Module, x: Tensor, y: Tensor, context: Context | None = None) -> Audit:
        return audit(loss, model, x, y, context)


sys.modules[__name__].__class__ = _Callable
