"""A pendulum: noisy angles and momenta, and the exact motion that belongs to the energy H = 3(1 - cos q) + p²."""

from typing import Any

import numpy as np
from torch import nn

from pipeline.data import Arrays, Dataset, Facts, _trajectories
from pipeline.data._trajectories import System, Target

TASK = "regression"
MEASURES = _trajectories.MEASURES | {
    "radius_error": "Squared error of q² + p² along these paths, held against the true ones, as published.",
}
SYSTEM = System(
    energy=lambda states: 3 * (1 - np.cos(states[..., 0])) + np.square(states[..., 1]),
    gradient=lambda states: np.stack([3 * np.sin(states[..., 0]), 2 * states[..., 1]], -1),
)
FOLLOWED = 20.0
"""Seconds of a predicted path."""


def facts(target: Target = "derivatives", **_: Any) -> Facts:
    return _trajectories.facts(TASK, target)


def load(*, target: Target = "derivatives", split_seed: int = 0) -> Arrays:
    """States (q, p), (n, 2), with noise 0.1; `derivatives` (dq/dt, dp/dt), (n, 2), or the `energy`, (n, 1), without it.

    With `energy`, `target_gradient` is the exact ∇H. See `_trajectories`.
    """
    return _trajectories.oscillator(SYSTEM, 15, (1.3, 2.3), target, split_seed)


def measures(model: nn.Module, dataset: Dataset) -> dict[str, float]:
    """What `MEASURES` says, of a net with outputs (n, 2) or (n, 1).

    q² + p² is the energy of a spring, and a pendulum does not keep it, so `radius_error` also grows where the net is
    ahead or behind. The published "energy" of the pendulum is reproduced by it, and not by the true energy.
    """
    paths = _trajectories.oscillator_paths(model, FOLLOWED)
    times = np.linspace(0, FOLLOWED, len(paths))
    true = _trajectories.path(lambda at: _trajectories.motion(SYSTEM.gradient(at)), paths[0], times, 1e-12)
    error = np.square(paths).sum(-1) - np.square(true).sum(-1)
    return _trajectories.scores(SYSTEM, model, dataset, paths) | {"radius_error": float(np.square(error).mean())}
