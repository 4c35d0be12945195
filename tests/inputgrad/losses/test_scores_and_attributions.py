"""Score matching against Gaussians, whose optimum is known, and attributions against what they have to add up to."""

import pytest
import torch
from torch import nn

from inputgrad import AttributionPrior, Context, Draws, ScoreMatching, UserError, testing
from inputgrad.gradients.forward import Forward

D = torch.float64
G = torch.Generator().manual_seed(0)
X = torch.randn(9, 3, generator=G, dtype=D)
A = torch.randn(3, 3, generator=G, dtype=D)
PRECISION = A @ A.T + torch.eye(3, dtype=D)


class Gaussian(nn.Module):
    """An energy ½ xᵀPx, or its score -Px."""

    def __init__(self, of):
        super().__init__()
        self.of, self.p = of, nn.Parameter(PRECISION.clone())

    def forward(self, x):
        return (x @ self.p * x).sum(1) / 2 if self.of == "energy" else -x @ self.p


@pytest.mark.parametrize("of", ["energy", "score"])
def test_the_exact_score_matching_of_a_gaussian(of):
    wanted = (X @ PRECISION).square().sum(1) / 2 - PRECISION.trace()
    torch.testing.assert_close(ScoreMatching(of=of).each(Gaussian(of), X), wanted)


@pytest.mark.parametrize("of", ["energy", "score"])
def test_sliced_it_is_the_same_in_the_mean(of):
    draws = Draws(torch.Generator().manual_seed(1))
    found = ScoreMatching(of=of, projections=3000).each(Gaussian(of), X[:2], draws=draws)
    torch.testing.assert_close(found, ScoreMatching(of=of).each(Gaussian(of), X[:2]), rtol=0.05, atol=0.1)


@pytest.mark.parametrize("of", ["energy", "score"])
def test_denoising_score_matching_by_hand(of):
    z = torch.randn(9, 3, generator=torch.Generator().manual_seed(2), dtype=D)
    wanted = (-(X + 0.3 * z) @ PRECISION + z / 0.3).square().sum(1) / 2
    found = ScoreMatching(of=of, noise=0.3).each(Gaussian(of), X, draws=Draws(torch.Generator().manual_seed(2)))
    torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize("knobs", [{}, {"projections": 2}, {"noise": 0.5}])
def test_its_gradient_is_a_central_difference(knobs):
    torch.manual_seed(0)
    energy = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1)).to(D)
    loss = ScoreMatching(**knobs)
    testing.assert_equals_finite_difference(lambda model, x, y: loss.penalty(model, x), energy, X, None)


def test_the_precision_of_the_data_is_the_minimum():
    x = (
        torch.randn(2000, 3, generator=torch.Generator().manual_seed(3), dtype=D)
        @ torch.linalg.cholesky(PRECISION.inverse()).T
    )
    model = Gaussian("energy")
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=50)

    def closure():
        optimizer.zero_grad()
        total = ScoreMatching().penalty(model, x)
        total.backward()
        return total

    optimizer.step(closure)
    found = (model.p + model.p.T).detach() / 2
    torch.testing.assert_close(found, (x.T @ x / len(x)).inverse(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("loss", "said"),
    [
        (ScoreMatching(), "of: energy needs a model with one output"),
        (ScoreMatching(of="score"), "needs outputs shaped as x"),
    ],
)
def test_a_model_of_another_shape_is_refused(loss, said):
    with pytest.raises(UserError, match=said):
        loss.penalty(nn.Linear(3, 2).to(D), X)


BASE = torch.randn(4, 3, generator=G, dtype=D)
KNOWN = Context(mask=torch.ones(3, dtype=D), points={"baselines": BASE})


def attribution(loss, context=KNOWN):
    at = Forward(Gaussian("energy"), X, context=context, draws=Draws(torch.Generator().manual_seed(4)))
    return loss.attribution(at)


def test_integrated_gradients_add_up_to_the_difference_of_the_outputs():
    """Exactly for a quadratic function: the midpoint rule is exact for its gradient."""
    model, found = Gaussian("energy"), attribution(AttributionPrior(steps=3))
    torch.testing.assert_close(found.sum(1), (model(X) - model(BASE.mean(0)[None])).detach())


def test_input_times_gradient_by_hand():
    plain = Context(mask=torch.ones(3, dtype=D))
    symmetric = (PRECISION + PRECISION.T) / 2
    torch.testing.assert_close(attribution(AttributionPrior(method="input_gradient"), plain), X * (X @ symmetric))


def test_expected_gradients_are_integrated_ones_in_the_mean_over_the_baselines():
    found = attribution(AttributionPrior(method="expected", steps=4000)).mean(0)
    each = [
        attribution(AttributionPrior(steps=4), Context(points={"baselines": one[None]}, mask=KNOWN.mask))
        for one in BASE
    ]
    torch.testing.assert_close(found, torch.stack(each).mean(0).mean(0), rtol=0.1, atol=0.1)


@pytest.mark.parametrize("method", ["input_gradient", "integrated", "expected"])
def test_the_prior_trains(method):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1)).to(D)
    y, known = X[:, :1].sin(), Context(mask=torch.tensor([0.0, 1.0, 1.0], dtype=D), points={"baselines": BASE})
    loss = AttributionPrior(method=method, steps=3)
    testing.assert_trains_on_input_gradient(loss, model, X, y, known)
    testing.assert_equals_finite_difference(loss, model, X, y, known)


def test_baselines_of_another_shape_are_refused():
    with pytest.raises(
        UserError, match=r"the baselines have shape \(4, 2\); fix: give them shaped as inputs, \(M, 3\)"
    ):
        attribution(AttributionPrior(), Context(points={"baselines": BASE[:, :2]}, mask=KNOWN.mask))
