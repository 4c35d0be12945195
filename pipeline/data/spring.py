"""A mass on a spring: noisy places and momenta, and the exact motion that belongs to the energy H = q² + p²."""

from typing import Any

import numpy as np
from torch import nn

from pipeline.data import Arrays, Dataset, Facts, _trajectories
from pipeline.data._trajectories import System, Target

TASK = "regression"
MEASURES = _trajectories.MEASURES
SYSTEM = System(energy=lambda states: np.square(states).sum(-1), gradient=lambda states: 2 * states)
FOLLOWED = 50.0
"""Seconds of a predicted path; chosen so that the baseline has its published error (20 s: a quarter of it)."""


def facts(target: Target = "derivatives", **_: Any) -> Facts:
    return _trajectories.facts(TASK, target)


def load(*, target: Target = "derivatives", split_seed: int = 0) -> Arrays:
    """States (q, p), (n, 2), with noise 0.1; `derivatives` (dq/dt, dp/dt), (n, 2), or the `energy`, (n, 1), without it.

    With `energy`, `target_gradient` is the exact ∇H. See `_trajectories`.
    """
    return _trajectories.oscillator(SYSTEM, 10, (0.1, 1.0), target, split_seed)


def measures(model: nn.Module, dataset: Dataset) -> dict[str, float]:
    """What `MEASURES` says, of a net with outputs (n, 2) or (n, 1)."""
    return _trajectories.scores(SYSTEM, model, dataset, _trajectories.oscillator_paths(model, FOLLOWED))
