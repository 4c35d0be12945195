"""The contract table against the bugs that published code has: each of them must fail in it."""

import pytest
import torch
from torch import Tensor
from torch.nn.functional import hardtanh

from inputgrad import tasks
from inputgrad.gradients.forward import Forward, rows
from inputgrad.losses import Loss, Parts
from tests.inputgrad.losses import test_contract as table

BATCH_OF_TWO = torch.tensor([*range(table.N), *range(table.N)])


class Penalty(Loss):
    """A correct gradient penalty: it passes, so that what fails below fails for its bug."""

    def term(self, at: Forward) -> Tensor:
        return rows(at.gradient()).square().sum(1)


class Detached(Penalty):
    """The copied recipe."""

    def term(self, at: Forward) -> Tensor:
        return rows(at.gradient().detach()).square().sum(1)


class WeighedByALoss(Penalty):
    """A constant gradient times the loss: the term reaches the parameters, the gradient does not."""

    def term(self, at: Forward) -> Tensor:
        return at.losses * rows(at.x * at.constant_gradient()).sum(1).abs()


class OneOverNTooMany(Penalty):
    """The gradient of the *mean* loss."""

    def term(self, at: Forward) -> Tensor:
        (g,) = torch.autograd.grad(at.losses.mean(), at.x, create_graph=True)
        return rows(g).square().sum(1)


class TaskTwice(Penalty):
    """The task loss is in the total once more."""

    def parts(self, at: Forward, strength: float | None = None) -> Parts:
        parts = super().parts(at, strength)
        return parts._replace(total=parts.total + parts.task.mean())


class TaskGradientLeftBehind(Penalty):
    """A first backward on the task loss: its gradient stays in `.grad` and is counted twice."""

    def term(self, at: Forward) -> Tensor:
        at.losses.mean().backward(retain_graph=True, create_graph=True)
        return rows(at.x.grad).square().sum(1)


class FirstExampleOnly(Penalty):
    """The gradient of the first example stands for the batch."""

    def term(self, at: Forward) -> Tensor:
        (g,) = torch.autograd.grad(at.losses[0], at.x, create_graph=True)
        return rows(g).square().sum(1)[:1].expand(len(at.y))


class AccumulatedAttack(Penalty):
    """An attack by `.backward()`: gradients add up over its steps and in the parameters."""

    def term(self, at: Forward) -> Tensor:
        delta = torch.zeros_like(at.x, requires_grad=True)
        for _ in range(3):
            tasks.losses(at.model(at.x.detach() + delta), at.y).sum().backward()
            delta.data += 0.01 * delta.grad.sign()
        return tasks.losses(at.model(at.x.detach() + delta.detach()), at.y)


class ClampInTheGraph(Penalty):
    """The attack's gradient runs through a clamp to the bounds, one that on a bound is 0 in every version of torch."""

    def term(self, at: Forward) -> Tensor:
        delta = torch.zeros_like(at.x, requires_grad=True)
        bounds = at.context.bounds
        inside = hardtanh(at.x.detach() + delta, *bounds)
        (g,) = torch.autograd.grad(tasks.losses(at.model(inside), at.y).sum(), delta)
        return tasks.losses(at.model((at.x.detach() + 0.1 * g.sign()).clamp(*bounds)), at.y)


CAUGHT = [
    (Detached, table.test_2_the_audit_finds_what_the_term_is_and_the_controls_are_not, {}),
    (WeighedByALoss, table.test_2_the_audit_finds_what_the_term_is_and_the_controls_are_not, {}),
    (OneOverNTooMany, table.test_4_the_batch_repeated_or_permuted_changes_nothing, {"index": BATCH_OF_TWO.tolist()}),
    (TaskTwice, table.test_1_the_total_is_the_task_once_plus_strength_times_the_term, {}),
    (TaskGradientLeftBehind, table.test_6_nothing_else_changes, {}),
    (FirstExampleOnly, table.test_4_the_batch_repeated_or_permuted_changes_nothing, {"index": [3, 1, 5, 0, 2, 4]}),
    (AccumulatedAttack, table.test_6_nothing_else_changes, {}),
    (ClampInTheGraph, table.test_5_inputs_on_the_bounds_are_moved_like_any_other, {}),
]


@pytest.mark.filterwarnings("ignore:Using backward")
@pytest.mark.parametrize(("bug", "check", "arguments"), CAUGHT, ids=[bug.__name__ for bug, _, _ in CAUGHT])
def test_the_table_catches(bug, check, arguments, monkeypatch):
    monkeypatch.setattr(table, "make", lambda name, **knobs: Penalty(**{"strength": 0.5} | knobs))
    check("gradient_norm", "classification", **arguments)  # the correct one passes
    monkeypatch.setattr(table, "make", lambda name, **knobs: bug(**{"strength": 0.5} | knobs))
    with pytest.raises(AssertionError):
        check("gradient_norm", "classification", **arguments)
