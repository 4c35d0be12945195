"""The basket option: exact prices, paths that are unbiased for them, units of the option, and both measured errors."""

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from torch import nn

from inputgrad.errors import UserError
from pipeline import data
from pipeline.data import basket

N = 3


def drawn(split_seed=0, n=N):
    generator = np.random.RandomState(split_seed)
    return *basket.basket(n, generator), generator


def test_a_basket_has_its_volatility_and_weights():
    weights, root, _ = drawn()
    assert weights.sum() == pytest.approx(1)
    assert weights @ root @ root.T @ weights == pytest.approx(basket.VOLATILITY**2)
    correlation = root @ root.T
    deviations = np.sqrt(np.diag(correlation))
    assert np.abs(correlation / np.outer(deviations, deviations)).max() == pytest.approx(1)


def test_exact_prices_are_those_of_an_integral_and_deltas_those_of_a_difference():
    weights, _, generator = drawn()
    at = generator.uniform(0.6, 1.8, (5, N))
    prices, deltas = basket.exact(at, weights)
    for spot, price in zip(at @ weights, prices, strict=True):

        def paid(z, spot=spot):
            return max(spot + basket.VOLATILITY * z - basket.STRIKE, 0) * np.exp(-z * z / 2) / np.sqrt(2 * np.pi)

        kink = (basket.STRIKE - spot) / basket.VOLATILITY
        assert quad(paid, kink, kink + 20)[0] == pytest.approx(price, abs=1e-9)
    for j, step in enumerate(1e-5 * np.eye(N)):
        slope = (basket.exact(at + step, weights)[0] - basket.exact(at - step, weights)[0]) / 2e-5
        np.testing.assert_allclose(slope, deltas[:, j], atol=1e-8)


def test_payoffs_and_their_derivatives_are_exact_in_the_mean():
    """Paths from many spots: noise apart, their means are those of the exact prices and deltas at the same spots."""
    weights, root, generator = drawn()
    at, payoffs, slopes = basket.simulation(weights, root, 200_000, generator)
    prices, deltas = basket.exact(at, weights)
    for found, wanted in ((payoffs, prices), *zip(slopes.T, deltas.T, strict=True)):
        wrong = found - wanted
        assert abs(wrong.mean()) < 4 * wrong.std() / np.sqrt(len(wrong))
        assert wrong.std() > 0.1 * wanted.std()  # noisy
    above = at @ weights > basket.STRIKE  # and so they are in either half
    assert abs((slopes - deltas)[above, 0].mean()) < 4 * slopes[above, 0].std() / np.sqrt(above.sum())
    both = np.isclose(slopes.sum(1), 1)  # where both paths of a pair are paid, their opposite steps cancel
    np.testing.assert_allclose(payoffs[both], (at @ weights - basket.STRIKE)[both], atol=1e-12)
    deviation = basket.WIDER * np.sqrt(np.square(root).sum(1))
    np.testing.assert_allclose(at.std(0), deviation, rtol=0.02)
    np.testing.assert_allclose(at.mean(0), 1, atol=0.02)


def test_test_spots_are_wider_for_more_assets():
    one, seven = (basket.spots(n, np.random.RandomState(0)) for n in (1, 7))
    assert one.min() == pytest.approx(0.5, abs=1e-3)
    assert seven.max() == pytest.approx(1 + 0.5 * (1 + 0.5 * np.sqrt(0.5)), abs=1e-3)


def test_standardised_with_the_training_split_and_undone_by_the_units():
    weights, root, generator = drawn(4)
    at, payoffs, slopes = (part[:600] for part in basket.simulation(weights, root, basket.SIMULATED, generator))
    spots = basket.spots(N, generator)
    prices, deltas = basket.exact(spots, weights)
    arrays = basket.load(dimension=N, points=600, split_seed=4)
    known = {name: parts["test"] for name, parts in arrays.examples.items()}
    np.testing.assert_allclose(arrays.x["train"].mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(arrays.y["train"].std(), 1, atol=1e-5)
    np.testing.assert_allclose(arrays.x["test"], (spots - at.mean(0)) / at.std(0), atol=1e-5)
    np.testing.assert_allclose(arrays.y["test"][:, 0] * known["units"][:, 0] + payoffs.mean(), prices, atol=1e-6)
    np.testing.assert_allclose(known["target_gradient"] * known["units"][:, 1:], deltas, atol=1e-12)
    in_training = arrays.examples["target_gradient"]["train"] * known["units"][0, 1:]
    np.testing.assert_allclose(in_training, slopes, atol=1e-12)
    weighed = arrays.examples["target_gradient"]["train"] * arrays.examples["gradient_weight"]["train"]
    np.testing.assert_allclose(np.square(weighed).mean(0), 1)


def test_smaller_training_splits_are_the_first_rows_of_larger_ones():
    small, large = (basket.load(dimension=2, points=points) for points in (50, 100))
    unit = [part.examples["units"]["train"][0, 0] for part in (small, large)]
    steps = [np.diff(part.y["train"][:50, 0]) * one for part, one in zip((small, large), unit, strict=True)]
    np.testing.assert_allclose(*steps, atol=1e-6)


@pytest.mark.parametrize("options", [{"dimension": 0}, {"points": 1}, {"points": 16385}])
def test_sizes_that_are_refused(options):
    with pytest.raises(UserError, match=r"^data: dimension \d+, points \d+; fix: 1 or more, and 2 to 16384$"):
        basket.load(**options)


class Exact(nn.Module):
    """Prices of standardised spots, standardised, off by a constant and a multiple of the first asset's spot."""

    def __init__(self, weights, mean, deviation, y_mean, units, value=0.0, slope=0.0):
        super().__init__()
        self.weights, self.mean, self.deviation = (torch.from_numpy(t).double() for t in (weights, mean, deviation))
        self.y_mean, self.unit, self.value, self.slope = y_mean, units[0], value, slope

    def forward(self, x):
        at = x.double() * self.deviation + self.mean
        d = (at @ self.weights - basket.STRIKE) / basket.VOLATILITY
        normal = torch.distributions.Normal(0.0, 1.0)
        price = basket.VOLATILITY * (d * normal.cdf(d) + normal.log_prob(d).exp()) + self.value + self.slope * at[:, 0]
        return ((price - self.y_mean) / self.unit)[:, None]


@pytest.mark.parametrize(("value", "slope"), [(0.0, 0.0), (0.02, 0.0), (0.0, 0.03)])
def test_the_measures_of_a_net_that_is_exact_or_off_by_a_known_amount(project, value, slope):
    source = {"name": "basket", "dimension": N, "points": 300, "split_seed": 1}
    data.prepare("option", source)
    dataset = data.read_data("option", source, ("train", "test"))
    weights, root, generator = drawn(1)
    at, payoffs, _ = basket.simulation(weights, root, basket.SIMULATED, generator)
    at, payoffs = at[:300], payoffs[:300]
    units = dataset.known("test")["units"][0].double().numpy()
    net = Exact(weights, at.mean(0), at.std(0), payoffs.mean(), units, value, slope)
    found = basket.measures(net, dataset)
    assert set(found) == set(basket.MEASURES)
    assert found["delta_error"] == pytest.approx(100 * slope, abs=1e-4)
    spots = dataset.inputs("test").double().numpy() * at.std(0) + at.mean(0)
    wrong = value + slope * spots[:, 0]
    assert found["value_error"] == pytest.approx(100 * np.sqrt(np.square(wrong).mean()), abs=1e-3)
