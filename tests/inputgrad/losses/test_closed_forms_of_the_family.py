"""The rest of the family by hand: J = W exactly on a linear model, references written out from the papers elsewhere."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from inputgrad.errors import UserError
from inputgrad.gradients.forward import Context, Draws, Forward
from inputgrad.losses.curvature import Curvature
from inputgrad.losses.finite_difference import FiniteDifference
from inputgrad.losses.gradient_alignment import GradientAlignment
from inputgrad.losses.gradient_norm import GradientNorm
from inputgrad.losses.jacobian_norm import JacobianNorm
from inputgrad.losses.local_linearity import LocalLinearity
from inputgrad.losses.pgd import PGD
from inputgrad.losses.right_reasons import RightReasons
from inputgrad.losses.trades import TRADES
from tests.inputgrad.losses.test_closed_forms import C, D, N, softmax_regression


def generator():
    return torch.Generator().manual_seed(7)


def smooth(outputs=C):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(D, 8), nn.Tanh(), nn.Linear(8, outputs)).double()


def quadratic():
    """l(x) = (w·x)², a regression on 0: everything about it is known."""
    torch.manual_seed(0)
    model = nn.Linear(D, 1, bias=False).double()
    return model, torch.randn(N, D, dtype=torch.float64), torch.zeros(N, 1, dtype=torch.float64), model.weight[0]


def test_the_exact_jacobian_of_a_linear_model_is_its_weight():
    model, x, y, _ = softmax_regression()
    term = JacobianNorm(projections=-1).term(Forward(model, x, y))
    torch.testing.assert_close(term, (model.weight.square().sum() / 2).expand(N))


def test_the_random_projection_is_unbiased_with_its_factor_c():
    model, x, y, _ = softmax_regression()
    at = Forward(model, x, y, draws=Draws(generator()))
    term = JacobianNorm(projections=4000).term(at)
    exact = float(model.weight.square().sum() / 2)
    # 4,000 projections of spread below the mean itself: four standard errors are under 7 %
    assert term.detach().numpy() == pytest.approx(exact, rel=0.07)
    wrong = exact / C
    assert abs(float(term.mean()) - wrong) > 0.5 * exact


def test_one_projection_of_one_output_is_exact():
    model, x, y, w = quadratic()
    torch.testing.assert_close(JacobianNorm().term(Forward(model, x, y)), (w.square().sum() / 2).expand(N))


def test_no_projections_is_an_error():
    model, x, y, _ = softmax_regression()
    with pytest.raises(UserError, match="projections"):
        JacobianNorm(projections=0)(model, x, y)


@pytest.mark.parametrize(("p", "limit"), [(2, lambda g: (g * g).sum(1)), (1, lambda g: g.abs().sum(1) ** 2 / D)])
def test_the_finite_difference_tends_to_the_norm(p, limit):
    model, x, y = smooth(), *softmax_regression()[1:3]
    g = GradientNorm(p=2, squared=True)
    at = Forward(model, x, y)
    term = FiniteDifference(p=p, h=1e-5).term(at)
    torch.testing.assert_close(term, limit(at.gradient()) / 2, rtol=1e-3, atol=1e-9)
    if p == 2:
        torch.testing.assert_close(term, g.term(Forward(model, x, y)) / 2, rtol=1e-3, atol=1e-9)


def test_the_finite_difference_of_the_largest_coordinate():
    model, x, y, _ = softmax_regression()
    at = Forward(model, x, y)
    limit = at.gradient().abs().max(1).values.square() / 2
    torch.testing.assert_close(FiniteDifference(p="inf", h=1e-5).term(at), limit, rtol=1e-3, atol=1e-9)


def test_the_finite_difference_of_a_quadratic_by_hand():
    """l(x + h·v) with v = ±w/‖w‖ on (w·x)²: the quotient is 2|w·x|‖w‖ + h‖w‖² exactly."""
    model, x, y, w = quadratic()
    expected = (2 * (x @ w).abs() * w.norm() + 0.1 * w.square().sum()).square() / 2
    torch.testing.assert_close(FiniteDifference(h=0.1).term(Forward(model, x, y)), expected)


def test_the_finite_difference_in_float32_is_near_its_limit():
    model, x, y = smooth().float(), *softmax_regression()[1:3]
    exact = GradientNorm().term(Forward(smooth(), x, y)) / 2
    term = FiniteDifference().term(Forward(model, x.float(), y))
    assert term.detach().numpy() == pytest.approx(exact.detach().numpy(), rel=0.05)


def test_a_zero_gradient_has_no_direction_and_the_term_zero():
    model, x, y, _ = quadratic()
    nn.init.zeros_(model.weight)
    for loss in (FiniteDifference(), Curvature(), GradientAlignment()):
        total = loss(model, x, y)
        total.backward()
        assert float(total.detach()) == 0
        assert torch.isfinite(model.weight.grad).all()


def test_curvature_of_a_quadratic_by_hand():
    """g = 2(w·x)w, so g(x + hz) - g(x) = 2h(w·z)w, and w·z = ±‖w‖₁/√d."""
    model, x, y, w = quadratic()
    expected = (2 * 0.3 * w.abs().sum() / D**0.5) ** 2 * w.square().sum()
    torch.testing.assert_close(Curvature(h=0.3).term(Forward(model, x, y)), expected.expand(N))


def test_alignment_is_zero_where_the_gradient_keeps_its_direction():
    """On a quadratic in w·x the gradient stays on ±w: the cosine is ±1."""
    model, x, y, w = quadratic()
    at = Forward(model, x, y, draws=Draws(generator()))
    eta = 0.5 * (2 * torch.rand(N, D, generator=generator(), dtype=torch.float64) - 1)
    flips = ((x @ w).sign() != ((x + eta) @ w).sign()).double()
    torch.testing.assert_close(GradientAlignment(epsilon=0.5).term(at), 2 * flips, atol=1e-12, rtol=0)


def test_alignment_on_fgsm_is_the_papers():
    """Task loss at the FGSM input, g(x) a constant, g(x + η) with graph."""
    model, x, y = smooth(), *softmax_regression()[1:3]
    loss = GradientAlignment(strength=0.2, epsilon=0.1, on={"epsilon": 0.1})
    value = loss(model, x, y, draws=Draws(generator()))
    theirs = smooth()
    leaf = x.clone().requires_grad_(True)
    (g,) = torch.autograd.grad(F.cross_entropy(theirs(leaf), y, reduction="sum"), leaf)
    eta = 0.1 * (2 * torch.rand(N, D, generator=generator(), dtype=torch.float64) - 1)
    there = (x + eta).requires_grad_(True)
    (h,) = torch.autograd.grad(F.cross_entropy(theirs(there), y, reduction="sum"), there, create_graph=True)
    expected = F.cross_entropy(theirs(x + 0.1 * g.sign()), y) + 0.2 * (1 - F.cosine_similarity(g, h)).mean()
    torch.testing.assert_close(value, expected)
    value.backward()
    expected.backward()
    for a, b in zip(model.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad)


def test_right_reasons_by_hand():
    model, x, y, p = softmax_regression()
    mask = torch.tensor([1.0, 0, 0, 1, 0], dtype=torch.float64)
    g = (1 - C * p) @ model.weight
    term = RightReasons().term(Forward(model, x, y, context=Context(mask=mask)))
    torch.testing.assert_close(term, (g * mask).square().sum(1))
    with pytest.raises(UserError, match="mask"):
        RightReasons()(model, x, y)


def test_pgd_by_hand():
    """Three projected sign steps from a uniform start, written out."""
    model, x, y = smooth(), *softmax_regression()[1:3]
    start = 0.3 * (2 * torch.rand(N, D, generator=generator(), dtype=torch.float64) - 1)
    moved = x + start
    for _ in range(3):
        leaf = moved.clone().requires_grad_(True)
        (g,) = torch.autograd.grad(F.cross_entropy(model(leaf), y), leaf)
        moved = x + (moved + 0.25 * g.sign() - x).clamp(-0.3, 0.3)
    expected = F.cross_entropy(model(moved), y)
    value = PGD(epsilon=0.3, steps=3)(model, x, y, draws=Draws(generator()))
    torch.testing.assert_close(value, expected)  # the default trains on perturbed inputs alone


def test_restarts_keep_the_highest_end_of_every_example():
    model, x, y = smooth(), *softmax_regression()[1:3]
    ends = {}
    for restarts in (1, 2, 5):
        at = Forward(model, x, y, draws=Draws(generator()))
        ends[restarts] = PGD(epsilon=2.0, steps=1, restarts=restarts).term(at)
    assert (ends[2] >= ends[1]).all()
    assert (ends[5] >= ends[2]).all()
    assert (ends[5] > ends[1]).any()
    with pytest.raises(UserError, match="random_start"):
        PGD(restarts=2, random_start=False)


def test_trades_by_hand():
    model, x, y = smooth(), *softmax_regression()[1:3]
    p = model(x).softmax(1).detach()
    moved = x + 0.001 * torch.randn(N, D, generator=generator(), dtype=torch.float64)
    for _ in range(2):
        leaf = moved.clone().requires_grad_(True)
        kl = (p * (p.log() - model(leaf).log_softmax(1))).sum()
        moved = x + (moved + 0.125 * torch.autograd.grad(kl, leaf)[0].sign() - x).clamp(-0.1, 0.1)
    clean = model(x).softmax(1)  # with graph: p(x) learns too
    divergence = (clean * (clean.log() - model(moved).log_softmax(1))).sum(1).mean()
    expected = F.cross_entropy(model(x), y) + 6 * divergence
    value = TRADES(epsilon=0.1, steps=2)(model, x, y, draws=Draws(generator()))
    torch.testing.assert_close(value, expected)
    for a, b in zip(
        torch.autograd.grad(value, list(model.parameters())),
        torch.autograd.grad(expected, list(model.parameters())),
        strict=True,
    ):
        torch.testing.assert_close(a, b)


def test_local_linearity_of_a_quadratic_by_hand():
    """l(x+δ) - l(x) - δ·g = (w·δ)², largest at a corner of the box: (ε‖w‖₁)²; and |δ·g| = 2|w·x|·ε‖w‖₁ there."""
    model, x, y, w = quadratic()
    at = Forward(model, x, y, draws=Draws(generator()))
    reach = 0.1 * w.abs().sum()
    expected = reach**2 + 0.5 * 2 * (x @ w).abs() * reach
    torch.testing.assert_close(LocalLinearity(epsilon=0.1, steps=4, mu=0.5).term(at), expected)


def test_ramp_raises_the_strength_over_epochs():
    loss = GradientNorm(strength=2.0, ramp=4)
    assert [loss.strength_at(0, e) for e in (0, 1, 2.5, 4, 9)] == [0, 0.5, 1.25, 2, 2]


def test_every_kth_step_is_k_times_stronger():
    loss = GradientNorm(strength=2.0, every=3)
    assert [loss.strength_at(s, 0) for s in range(7)] == [6, 0, 0, 6, 0, 0, 6]
    assert sum(loss.strength_at(s, 0) for s in range(300)) == pytest.approx(300 * 2.0)


def test_a_step_without_the_term_is_a_plain_step():
    model, x, y, _ = softmax_regression()
    loss = GradientNorm(strength=2.0, every=3)
    at = loss.forward(model, x, y, strength=0.0)
    parts = loss.parts(at, 0.0)
    assert parts.term is None
    assert not at.x.requires_grad
    torch.testing.assert_close(parts.total, F.cross_entropy(model(x), y))


def test_a_random_part_of_the_batch_is_unbiased():
    model, x, y, _ = softmax_regression()
    whole = float(GradientNorm().term(Forward(model, x, y)).mean().detach())
    loss, draws = GradientNorm(share=0.4), Draws(generator())
    values = []
    for _ in range(2000):
        parts = loss.parts(loss.forward(model, x, y, draws=draws))
        assert len(parts.term) == 3
        values.append(float(parts.term.mean().detach()))
    values = torch.tensor(values)
    assert float(values.mean()) == pytest.approx(whole, abs=4 * float(values.std()) / 2000**0.5)
    assert float(values.std()) > 0


def test_without_a_task_something_must_be_left_to_train_on():
    with pytest.raises(UserError, match="the term is all there is"):
        PGD(strength=0.0)
    with pytest.raises(UserError, match="the term is all there is"):
        PGD(every=2)


def test_any_term_may_stand_on_an_adversarial_task():
    model, x, y = smooth(), *softmax_regression()[1:3]
    loss = GradientNorm(strength=0.5, on={"epsilon": 0.2, "steps": 3})
    parts = loss.parts(loss.forward(model, x, y))
    assert (parts.task > Forward(model, x, y).losses).all()
    torch.testing.assert_close(parts.term, GradientNorm().term(Forward(model, x, y)))
