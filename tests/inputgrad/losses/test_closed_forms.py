"""Every loss against what can be worked out by hand on a linear model."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from inputgrad.errors import UserError
from inputgrad.gradients import norms
from inputgrad.gradients.ascent import ascend
from inputgrad.gradients.forward import Context, Draws, Forward, one_minus_cosine
from inputgrad.losses.fgsm import FGSM
from inputgrad.losses.gradient_direction import GradientDirection
from inputgrad.losses.gradient_norm import GradientNorm

N, D, C = 7, 5, 4


def softmax_regression():
    """x, y, the model, and by hand: J = W, the gradient of cross-entropy is Wᵀ(p - e_y)."""
    torch.manual_seed(0)
    model = nn.Linear(D, C).double()
    x, y = torch.randn(N, D, dtype=torch.float64), torch.randint(C, (N,))
    p = (x @ model.weight.T + model.bias).softmax(1)
    return model, x, y, p


@pytest.mark.parametrize("p_norm", [1, 2, "inf"])
@pytest.mark.parametrize("squared", [True, False])
def test_gradient_norm_of_the_loss(p_norm, squared):
    model, x, y, p = softmax_regression()
    g = (p - F.one_hot(y, C)) @ model.weight
    expected = {1: g.abs().sum(1), 2: (g * g).sum(1) ** 0.5, "inf": g.abs().max(1).values}[p_norm]
    loss = GradientNorm(p=p_norm, squared=squared)
    torch.testing.assert_close(loss.term(Forward(model, x, y)), expected**2 if squared else expected)


@pytest.mark.parametrize("of", ["outputs", "true_logit", "log_probabilities"])
def test_gradient_norm_of_other_scalars(of):
    model, x, y, p = softmax_regression()
    w = model.weight
    g = {"outputs": w.sum(0).expand(N, D), "true_logit": w[y], "log_probabilities": (1 - C * p) @ w}[of]
    torch.testing.assert_close(GradientNorm(of=of).term(Forward(model, x, y)), (g * g).sum(1))


def test_the_norm_is_not_divided_by_the_batch():
    model, x, y, _ = softmax_regression()
    whole = GradientNorm().term(Forward(model, x, y))
    alone = torch.cat([GradientNorm().term(Forward(model, x[i : i + 1], y[i : i + 1])) for i in range(N)])
    torch.testing.assert_close(whole, alone)


def test_an_unsquared_norm_survives_a_zero_gradient():
    model = nn.Linear(D, 1).double()
    nn.init.zeros_(model.weight)
    x, y = torch.randn(N, D, dtype=torch.float64), torch.zeros(N, 1, dtype=torch.float64)
    GradientNorm(of="outputs", squared=False)(model, x, y).backward()
    assert torch.isfinite(model.weight.grad).all()


def test_gradient_direction_of_a_class():
    model, x, y, p = softmax_regression()
    means = torch.randn(C, D, dtype=torch.float64)
    seed = torch.Generator().manual_seed(5)
    c = torch.randint(C, (N,), generator=torch.Generator().manual_seed(5))
    g = (F.one_hot(c, C) - p) @ model.weight
    expected = 1 - F.cosine_similarity(g, means[c] - x)
    at = Forward(model, x, y, context=Context(direction=means), draws=Draws(seed))
    torch.testing.assert_close(GradientDirection().term(at), expected)


def test_rows_without_a_direction_are_left_out_and_counted():
    a = torch.randn(N, D, dtype=torch.float64)
    a[2] = 0
    a.requires_grad_(True)
    b = torch.randn(N, D, dtype=torch.float64)
    term, share = one_minus_cosine(a, b)
    (gradient,) = torch.autograd.grad(term.sum(), a)
    assert term[2] == 0
    assert torch.isfinite(gradient).all()
    assert float(share) == pytest.approx(1 / N)
    keep = torch.arange(N) != 2
    torch.testing.assert_close(term[keep], 1 - F.cosine_similarity(a[keep], b[keep]))


def test_gradient_direction_without_a_direction_is_a_clear_error():
    model, x, y, _ = softmax_regression()
    with pytest.raises(UserError, match="direction"):
        GradientDirection()(model, x, y)


def test_fgsm_moves_a_linear_model_by_the_l1_norm():
    """Squared error of w·x: the worst point of the Linf ball raises |residual| by ε‖w‖₁ exactly."""
    torch.manual_seed(0)
    model = nn.Linear(D, 1).double()
    x, y = torch.randn(N, D, dtype=torch.float64), torch.randn(N, 1, dtype=torch.float64)
    residual = (model(x) - y)[:, 0].abs()
    expected = (residual + 0.1 * model.weight.abs().sum()) ** 2
    torch.testing.assert_close(FGSM(epsilon=0.1).term(Forward(model, x, y)), expected)


def test_fgsm_stays_inside_the_bounds_and_the_graph_holds_no_clamp():
    """On a pixel that sits on the bound the moved input stays there, and the parameters still learn from it."""
    model = nn.Linear(1, 1, bias=False).double()
    nn.init.ones_(model.weight)
    x, y = torch.ones(1, 1, dtype=torch.float64), torch.zeros(1, 1, dtype=torch.float64)
    loss = FGSM(epsilon=0.3, task_weight=0.0)
    value = loss(model, x, y, Context(bounds=(0.0, 1.0)))
    assert float(value) == 1.0  # moved to 1.3, projected to 1
    value.backward()
    assert float(model.weight.grad) == 2.0


def test_fgsm_random_start_is_wongs():
    """Uniform start, step 1.25 ε, projected: every coordinate of a linear model ends within ε."""
    torch.manual_seed(0)
    model = nn.Linear(D, 1).double()
    x, y = torch.randn(N, D, dtype=torch.float64), torch.randn(N, 1, dtype=torch.float64)
    start = (2 * torch.rand(N, D, generator=torch.Generator().manual_seed(9), dtype=torch.float64) - 1) * 0.1
    sign = ((model(x + start) - y).sign() * model.weight.sign()).detach()
    expected = (model(x + (start + 0.125 * sign).clamp(-0.1, 0.1)) - y)[:, 0] ** 2
    at = Forward(model, x, y, draws=Draws(torch.Generator().manual_seed(9)))
    torch.testing.assert_close(FGSM(epsilon=0.1, random_start=True).term(at), expected)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_ascent_reaches_the_corner_of_the_ball(norm):
    """On a linear objective the optimum is known: ε·sign(w) in Linf, ε·w/‖w‖ in L2."""
    w = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    x = torch.zeros(2, 3, dtype=torch.float64)
    moved = ascend(lambda z: z @ w, x, norm=norm, epsilon=0.3, step=0.1, steps=10)
    best = 0.3 * (w.sign() if norm == "linf" else w / w.norm())
    torch.testing.assert_close(moved, best.expand(2, 3))


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_random_start_fills_the_ball(norm):
    x = torch.zeros(4000, 3, dtype=torch.float64)
    start = norms.named(norm).uniform(Draws(torch.Generator().manual_seed(0)), x, 0.5)
    length = start.abs().max(1).values if norm == "linf" else start.norm(dim=1)
    assert float(length.max()) <= 0.5
    assert float((length < 0.25).double().mean()) == pytest.approx(1 / 8, abs=0.02)  # volume grows as r³ in both
