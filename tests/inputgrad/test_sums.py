"""Terms alone and sums of them: the task counts once, a term keeps its strength, points, every, ramp and share."""

import copy
import pickle

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from inputgrad import (
    PGD,
    Adversary,
    CompiledStep,
    Context,
    DetachedNorm,
    Draws,
    GradientNorm,
    JacobianNorm,
    Standard,
    Step,
    Sum,
    UserError,
    audit,
)
from tests.inputgrad.losses.bench import gradients

D = torch.float64


def net(outputs=4):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, outputs)).to(D)


def batch(n=10):
    generator = torch.Generator().manual_seed(1)
    return torch.rand(n, 6, generator=generator, dtype=D), torch.randint(4, (n,), generator=generator)


def test_a_term_alone_needs_no_targets_and_no_task():
    critic, (x, _) = net(1), batch()
    leaf = x.clone().requires_grad_()
    (g,) = torch.autograd.grad(critic(leaf).sum(), leaf, create_graph=True)
    wanted = (g.norm(dim=1) - 1).square()
    penalty = GradientNorm(10.0, of="outputs", target=1)
    assert torch.equal(penalty.each(critic, x), wanted)
    assert torch.equal(penalty.penalty(critic, x), 10 * wanted.mean())
    torch.testing.assert_close(
        gradients(penalty.penalty(critic, x), critic), gradients(10 * wanted.mean(), critic), rtol=1e-12, atol=0
    )


def test_a_term_of_the_task_loss_says_that_it_needs_targets():
    with pytest.raises(UserError, match="y is missing, and what is asked here needs it; fix: give y"):
        GradientNorm().each(net(), batch()[0])
    with pytest.raises(UserError, match=r"y is missing: the task loss needs it; fix: .*loss\.penalty\(model, x\)"):
        GradientNorm()(net(), batch()[0])


def test_in_a_sum_the_task_is_counted_once():
    model, (x, y) = net(), batch()
    both = GradientNorm(0.3) + JacobianNorm(0.2, projections=-1)
    parts = GradientNorm(0.3).penalty(model, x, y) + JacobianNorm(0.2, projections=-1).penalty(model, x)
    wanted = F.cross_entropy(model(x), y) + parts
    torch.testing.assert_close(both(model, x, y), wanted, rtol=1e-14, atol=0)
    torch.testing.assert_close(gradients(both(model, x, y), model), gradients(wanted, model), rtol=1e-12, atol=1e-15)


def test_standard_adds_nothing_and_a_second_one_of_a_kind_has_a_number():
    three = Standard() + GradientNorm(0.1) + GradientNorm(0.2, of="outputs") + JacobianNorm(0.1)
    assert {name: term.strength for name, term in three.terms.items()} == {
        "gradient_norm": 0.1,
        "gradient_norm_2": 0.2,
        "jacobian_norm": 0.1,
    }
    assert (three + GradientNorm(0.5)).terms["gradient_norm_3"].strength == 0.5
    assert pickle.loads(pickle.dumps(three)) == three == copy.deepcopy(three)
    assert hash(three) == hash(copy.deepcopy(three))


def test_what_the_task_is_taken_on_is_that_of_the_term_that_says_it():
    model, (x, y) = net(), batch()
    moved = GradientNorm(0.3, on=Adversary(epsilon=0.1)) + JacobianNorm(0.2, projections=-1)
    wanted = GradientNorm(0.3, on=Adversary(epsilon=0.1))(model, x, y)
    torch.testing.assert_close(moved(model, x, y), wanted + JacobianNorm(0.2, projections=-1).penalty(model, x))
    without = PGD(epsilon=0.1) + GradientNorm(0.3)  # trains on moved inputs alone
    draws = [Draws(torch.Generator().manual_seed(0)) for _ in range(2)]
    wanted = PGD(epsilon=0.1)(model, x, y, draws=draws[0]) + GradientNorm(0.3).penalty(model, x, y)
    torch.testing.assert_close(without(model, x, y, draws=draws[1]), wanted)
    with pytest.raises(UserError, match="weigh the task, or move its inputs, in two ways; fix"):
        GradientNorm(on=Adversary(epsilon=0.1)) + GradientNorm(on=Adversary(epsilon=0.2))


def test_a_sum_is_audited_at_full_strength_and_each_term_counts():
    model, (x, y) = net(), batch()
    loss = DetachedNorm(0.5) + GradientNorm(0.3, every=4, ramp=3, share=0.5)
    assert audit(loss, model, x, y).kind == "partly detached"
    assert audit(DetachedNorm(0.5) + Standard(), model, x, y).kind == "detached"
    assert audit(GradientNorm(0.3, every=4) + JacobianNorm(0.2), model, x, y).kind == "depends"


def test_only_losses_can_be_added():
    with pytest.raises(UserError, match="a loss and a float cannot be added; fix: add the number"):
        GradientNorm() + 0.5


def test_each_term_is_on_at_its_own_steps():
    model, (x, y) = net(), batch()
    step = Step(GradientNorm(0.3, every=2) + JacobianNorm(0.2, projections=-1, every=3), model)
    task = F.cross_entropy(model(x), y)
    norm, jacobian = (
        0.6 * GradientNorm().each(model, x, y).mean(),
        0.6 * JacobianNorm(projections=-1).each(model, x).mean(),
    )
    wanted = [task + norm + jacobian, task, task + norm, task + jacobian]
    for total in wanted:
        taken = step(x, y)
        torch.testing.assert_close(taken.total, total.detach(), rtol=1e-10, atol=0)
    assert {"term_jacobian_norm"} == taken.notes.keys()
    assert step.loss.period == 6


def test_a_term_of_a_sum_has_its_share_and_its_ramp():
    model, (x, y) = net(), batch()
    loss = GradientNorm(0.3, share=0.5, ramp=2) + JacobianNorm(0.2, projections=-1)
    with pytest.raises(UserError, match="every and ramp need the number of the step"):
        loss(model, x, y)
    step = Step(loss, model, draws=Draws(torch.Generator().manual_seed(0)), steps_per_epoch=2)
    chosen = [torch.randperm(10, generator=g)[:5] for g in [torch.Generator().manual_seed(0)] for _ in range(2)]
    plain = F.cross_entropy(model(x), y) + JacobianNorm(0.2, projections=-1).penalty(model, x)
    torch.testing.assert_close(step(x, y).total, plain.detach())
    norm = (
        GradientNorm().each(model, x[chosen[0]], y[chosen[0]]).mean()
    )  # without strength the first step draws nothing
    torch.testing.assert_close(step(x, y).total, (plain + 0.3 * 0.25 * norm).detach())


@pytest.mark.parametrize("kind", [Step, pytest.param(CompiledStep, marks=pytest.mark.compiles)])
def test_a_term_has_points_of_its_own(kind):
    model, (x, y) = net(), batch()
    inside = torch.rand(33, 6, dtype=D)
    loss = GradientNorm(0.3, of="outputs", points="inside", share=0.5) + GradientNorm(0.1)
    step = kind(loss, model)
    wanted = GradientNorm(0.1)(model, x, y) + GradientNorm(0.3, of="outputs").penalty(model, inside)
    torch.testing.assert_close(step(x, y, points={"inside": inside}).total, wanted.detach(), rtol=1e-10, atol=0)
    found = torch.cat([p.grad.flatten() for p in model.parameters()])
    torch.testing.assert_close(found, gradients(wanted, model), rtol=1e-9, atol=1e-12)


def test_the_points_of_a_term_do_not_have_the_index_of_the_batch():
    """Two rows an example in the batch, and points of their own with one."""
    model, x = net(1), batch()[0]
    index, inside = torch.arange(10) // 2, torch.rand(7, 6, dtype=D)
    y = torch.rand(5, 1, dtype=D)

    def pairs(points):
        return model(points).reshape(-1, 2).sum(1, keepdim=True) if len(points) == 10 else model(points)

    loss = GradientNorm(0.5, of="outputs") + GradientNorm(0.3, of="outputs", points="inside")
    g = [torch.autograd.grad(model(p.requires_grad_()).sum(), p)[0] for p in (x.clone(), inside.clone())]
    wanted = F.mse_loss(pairs(x), y) + 0.5 * g[0].square().sum() / 5 + 0.3 * g[1].square().sum(1).mean()
    torch.testing.assert_close(loss(pairs, x, y, Context(index=index, points={"inside": inside})), wanted)


def test_points_that_are_missing_or_have_another_name_are_one_line():
    model, (x, y) = net(), batch()
    loss = GradientNorm(points="inside")
    with pytest.raises(UserError, match=r"the points 'inside' are missing; there is none; fix: Context\(points="):
        loss(model, x, y)
    with pytest.raises(UserError, match=r"no term asks for the points 'insides'; did you mean 'inside'"):
        loss(model, x, y, Context(points={"insides": (x, y)}))
    torch.testing.assert_close(loss(model, x, y, Context(points={"inside": (x, y)})), GradientNorm()(model, x, y))


def test_the_sum_is_a_loss_of_names():
    assert Sum(terms={"norm": GradientNorm(0.1)}).model_dump()["terms"]["norm"]["p"] == 2


def test_the_penalty_of_a_sum_keeps_the_points_and_the_share_of_each_term():
    model, (x, y), inside = net(), batch(), torch.rand(33, 6, dtype=D)
    known = Context(points={"inside": inside})
    loss = GradientNorm(0.3, of="outputs", points="inside") + JacobianNorm(0.2, projections=-1, share=0.5)
    chosen = torch.randperm(10, generator=torch.Generator().manual_seed(0))[:5]
    wanted = GradientNorm(0.3, of="outputs").penalty(model, inside)
    wanted = wanted + JacobianNorm(0.2, projections=-1).penalty(model, x[chosen])
    found = loss.penalty(model, x, y, known, Draws(torch.Generator().manual_seed(0)))
    torch.testing.assert_close(found, wanted)
