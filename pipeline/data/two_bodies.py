"""Two bodies of mass 1 that attract each other, on orbits that are nearly circles: states and their exact motion."""

from typing import Annotated, Any

import numpy as np
from pydantic import Field
from torch import nn

from pipeline.data import Arrays, Dataset, Facts, _trajectories
from pipeline.data._trajectories import System, Target

TASK = "regression"
MEASURES = _trajectories.MEASURES
NOISE = 0.05
"""Standard deviation of the factor on the velocity of a circular orbit."""
POINTS, SECONDS = 50, 20
"""Of an orbit."""
TEST, VALIDATION = 0.2, 0.02
"""Share of the orbits for the test split, which comes first; how many more there are for validation, as a share."""


def energy(states: np.ndarray) -> np.ndarray:
    """H = (‖p₁‖² + ‖p₂‖²)/2 - 1/‖q₁ - q₂‖, (...), of states (q₁, q₂, p₁, p₂) in a plane, (..., 8)."""
    apart = np.linalg.norm(states[..., 0:2] - states[..., 2:4], axis=-1)
    total: np.ndarray = np.square(states[..., 4:]).sum(-1) / 2 - 1 / apart
    return total


def gradient(states: np.ndarray) -> np.ndarray:
    """∇H, (..., 8)."""
    apart = states[..., 0:2] - states[..., 2:4]
    pull = apart / np.linalg.norm(apart, axis=-1, keepdims=True) ** 3
    return np.concatenate([pull, -pull, states[..., 4:]], -1)


SYSTEM = System(energy=energy, gradient=gradient)


def facts(target: Target = "derivatives", **_: Any) -> Facts:
    return _trajectories.facts(TASK, target)


def load(*, target: Target = "derivatives", orbits: Annotated[int, Field(ge=5)] = 50, split_seed: int = 0) -> Arrays:
    """States (n, 8) without noise; their `derivatives`, (n, 8), or their `energy`, (n, 1).

    `orbits` is the number of those for training and test, of 50 points each; published is 1,000. With `energy`,
    `target_gradient` is the exact ∇H. See `_trajectories`.
    """
    draws, times = np.random.RandomState(split_seed), np.linspace(0, SECONDS, POINTS)
    more = max(1, round(VALIDATION * orbits))
    starts = [start(draws) for _ in range(orbits + more)]
    paths = [_trajectories.path(lambda state: _trajectories.motion(gradient(state)), s, times, 1e-10) for s in starts]
    test = int(TEST * orbits)
    which = {"train": slice(test, orbits), "validation": slice(orbits, None), "test": slice(test)}
    states = {split: np.concatenate(paths[part]) for split, part in which.items()}
    names = [f"{kind}{axis}{body}" for kind in ("", "p") for body in (1, 2) for axis in ("x", "y")]
    return _trajectories.arrays(SYSTEM, states, states, target, names)


def start(draws: np.random.RandomState) -> np.ndarray:
    """A state, (8,): a body at (0.5 to 1.5, 0.5 to 1.5), at nearly the speed of a circle, the other one opposite."""
    place = draws.rand(2) + 0.5
    velocity = np.array([-place[1], place[0]]) / (2 * np.linalg.norm(place) ** 1.5)
    velocity *= 1 + NOISE * draws.randn()
    return np.concatenate([place, -place, velocity, -velocity])


def measures(model: nn.Module, dataset: Dataset) -> dict[str, float]:
    """What `MEASURES` says, of a net with outputs (n, 8) or (n, 1); the paths are orbits of their own."""
    starts = np.stack([start(np.random.RandomState(seed)) for seed in range(_trajectories.STARTS)])
    paths = _trajectories.followed(model, starts, np.linspace(0, 25, 500), 1e-9)
    return _trajectories.scores(SYSTEM, model, dataset, paths)
