"""A call on a basket of assets in Bachelier's model: payoffs with pathwise derivatives, tested with exact prices."""

from math import sqrt

import numpy as np
import torch
from scipy.special import ndtr
from torch import Tensor, nn

from inputgrad.errors import UserError
from pipeline.data import Arrays, Dataset

TASK = "regression"
BOUNDS = None
GIVES = ("target_gradient", "gradient_weight", "units")
MEASURES = {
    "value_error": "RMSE × 100 of the prices on the test split, in the option's own units.",
    "delta_error": "RMSE × 100 of the deltas to the first asset on the test split, in the option's own units.",
}
TODAY, STRIKE, VOLATILITY = 1.0, 1.1, 0.2
"""Spot of every asset now, strike of the option, volatility of the basket in one year."""
WIDER = 1.5
"""Factor on the volatilities up to T1 = 1, for more spots far from the strike. From T1 to the payoff, T2 = 2: 1."""
WEIGHTS, VOLATILITIES = (1.0, 10.0), (5.0, 50.0)
"""Ranges of the uniform draws, before the scaling that makes the weights' sum 1 and the basket's volatility 0.2."""
LOW, HIGH = 0.5, 1.5
"""Test spots of one asset; with more assets the range is wider, see `spots`."""
SIMULATED, VALIDATION, TEST = 16384, 1024, 4096


def load(*, dimension: int = 7, points: int = 4096, split_seed: int = 0) -> Arrays:
    """Spots at T1 (n, dimension) and payoffs (n, 1), both standardised with the training split.

    Training and validation payoffs are means of an antithetic pair of paths, unbiased but noisy; `target_gradient` are
    their derivatives by the spots. The test split has spots of its own, with the exact price and its exact gradient.
    `gradient_weight` is 1/rms of every component of the training gradients. `units` (n, 1 + dimension) are, in every
    row, one standardised value and one standardised slope of each asset in the option's own units, for `measures`.

    `split_seed` draws the basket too: its correlations, weights and volatilities, so errors differ between seeds by a
    factor of two or more, of deltas above all, since that of an asset is at most its weight.

    Source: Huge & Savine 2020, arXiv 2005.02347, and the notebook of the authors, which has every number above. Draws
    come from NumPy's legacy generator in its order: a seed printed there is the same basket and the same spots here.
    The training splits of 4,096, 8,192 and 16,384 points are the first rows of one simulation, as there. The notebook
    has no validation split: here it is fresh paths.
    """
    if not 2 <= points <= SIMULATED or dimension < 1:
        raise UserError(f"data: dimension {dimension}, points {points}; fix: 1 or more, and 2 to {SIMULATED}")
    generator = np.random.RandomState(split_seed)
    weights, root = basket(dimension, generator)
    simulated = {"train": simulation(weights, root, SIMULATED, generator)}
    at = spots(dimension, generator)
    simulated["validation"] = simulation(weights, root, VALIDATION, generator)
    x, y, slopes = ({split: values[i] for split, values in simulated.items()} for i in range(3))
    x["train"], y["train"], slopes["train"] = (part["train"][:points] for part in (x, y, slopes))
    x["test"], (y["test"], slopes["test"]) = at, exact(at, weights)
    x_mean, x_unit, y_mean, y_unit = x["train"].mean(0), x["train"].std(0), y["train"].mean(), y["train"].std()
    units = np.concatenate([[y_unit], y_unit / x_unit])
    gradients = {split: slope * x_unit / y_unit for split, slope in slopes.items()}
    weight = 1 / np.sqrt(np.square(gradients["train"]).mean(0))
    return Arrays(
        x={split: ((s - x_mean) / x_unit).astype(np.float32) for split, s in x.items()},
        y={split: ((v - y_mean) / y_unit)[:, None].astype(np.float32) for split, v in y.items()},
        examples={
            "target_gradient": gradients,
            "gradient_weight": {split: np.tile(weight, (len(s), 1)) for split, s in x.items()},
            "units": {split: np.tile(units, (len(s), 1)) for split, s in x.items()},
        },
        features=[f"asset {i}" for i in range(1, dimension + 1)],
    )


def basket(n: int, generator: np.random.RandomState) -> tuple[np.ndarray, np.ndarray]:
    """Weights (n,) with sum 1, and a root L (n, n) of the assets' covariance in one year, L·Lᵀ.

    The correlations are those of UᵀU, U uniform in [-1, 1]: (2n, n).
    """
    uniform = generator.uniform(-1.0, 1.0, (2 * n, n))
    covariance = uniform.T @ uniform
    deviations = np.sqrt(np.diag(covariance))
    correlation = covariance / np.outer(deviations, deviations)
    weights = generator.uniform(*WEIGHTS, n)
    weights /= weights.sum()
    volatilities = generator.uniform(*VOLATILITIES, n)
    exposed = weights * volatilities
    volatilities *= VOLATILITY / np.sqrt(exposed @ correlation @ exposed)
    return weights, np.linalg.cholesky(correlation * np.outer(volatilities, volatilities))


def simulation(
    weights: np.ndarray, root: np.ndarray, m: int, generator: np.random.RandomState
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Spots at T1 (m, n), the mean payoff (m,) of two paths with opposite steps from there, and its gradient (m, n)."""
    before, after = generator.normal(size=(2, m, len(weights))) @ root.T
    at = TODAY + WIDER * before
    ends = np.stack([(at + after) @ weights, (at - after) @ weights]) - STRIKE
    return at, np.maximum(ends, 0.0).mean(0), (ends > 0).mean(0)[:, None] * weights


def spots(n: int, generator: np.random.RandomState) -> np.ndarray:
    """Test spots (4096, n), uniform around 1: the mean of n of them varies less, so each has a wider range."""
    widening = 1 + 0.5 * sqrt((n - 1) * (HIGH - LOW) / 12)
    return generator.uniform(TODAY - (TODAY - LOW) * widening, TODAY + (HIGH - TODAY) * widening, (TEST, n))


def exact(at: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Bachelier's prices (m,) of the option at spots (m, n), one year before its payoff, and their deltas (m, n)."""
    d = (at @ weights - STRIKE) / VOLATILITY
    density = np.exp(-0.5 * np.square(d)) / sqrt(2 * np.pi)
    return VOLATILITY * (d * ndtr(d) + density), ndtr(d)[:, None] * weights


def measures(model: nn.Module, dataset: Dataset) -> dict[str, float]:
    """The errors of a trained net that the paper prints, of the values and of the deltas to the first asset."""
    x = dataset.inputs("test").clone().requires_grad_()
    values = model(x)
    (slopes,) = torch.autograd.grad(values.sum(), x)
    known = dataset.known("test")
    wrong_value = known["units"][:, 0] * (values.detach() - dataset.y["test"])[:, 0]
    wrong_delta = known["units"][:, 1] * (slopes - known["target_gradient"])[:, 0]
    return {"value_error": error(wrong_value), "delta_error": error(wrong_delta)}


def error(differences: Tensor) -> float:
    """The root of their mean square, × 100."""
    return 100 * float(differences.square().mean().sqrt())
