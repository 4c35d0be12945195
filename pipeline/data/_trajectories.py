"""Trajectories of systems whose energy is known, and how well a net has learned their motion.

A state is (q, p), places and then momenta, (..., d). The energy H gives the motion, dq/dt = ∂H/∂p and dp/dt = -∂H/∂q:
dx/dt = S∇H. S is orthogonal, so (dx/dt - S∇F)² = (∇H - ∇F)²: a net F learns the motion where its input gradient is
matched to ∇H, by `gradient_target` with `task_weight: 0` and `mean: component`.

Source: Greydanus, Dzamba & Yosinski 2019 (Hamiltonian neural networks).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.data import Arrays, Dataset, Facts

Target = Literal["derivatives", "energy"]
"""What y holds: dx/dt, (n, d), which a net gives directly; or H, (n, 1), for a net whose gradient gives the motion."""
Field = Callable[[np.ndarray], np.ndarray]
"""A function of states (..., d)."""
MEASURES = {
    "test_loss": "Squared error of the predicted dx/dt on the test split, the mean over all components.",
    "energy_error": "Squared change of the true energy along 15 paths that the net predicts, the mean over all points.",
}
STARTS = 15
"""Paths of `energy_error`."""
NOISE, TRAJECTORIES, VALIDATION, SECONDS = 0.1, 50, 10, 3
"""Of an oscillator: noise on q and p, trajectories for training and test, for validation, and how long they are."""
TIMES = 100
"""At which a predicted path of an oscillator is compared."""


class System(NamedTuple):
    """An energy, (..., d) -> (...), and its gradient, (..., d) -> (..., d)."""

    energy: Field
    gradient: Field


def facts(task: str, target: Target = "derivatives") -> Facts:
    """∇H is a gradient of what the net gives only where that is the energy."""
    return Facts(task, None, ("target_gradient",) if target == "energy" else ())


def motion(gradient: np.ndarray) -> np.ndarray:
    """S∇H, the derivatives of states by time, (..., d), from the gradient of the energy, (..., d)."""
    by_place, by_momentum = np.split(gradient, 2, axis=-1)
    return np.concatenate([by_momentum, -by_place], axis=-1)


def path(field: Field, start: np.ndarray, times: np.ndarray, tolerance: float) -> np.ndarray:
    """The states at `times`, (times, *start), on the way from `start` along `field`, the derivatives by time.

    It ends early where the solver finds no step that is small enough.
    """
    from scipy.integrate import solve_ivp

    def flat(_: float, state: np.ndarray) -> np.ndarray:
        return field(state.reshape(start.shape)).ravel()

    found = solve_ivp(flat, (times[0], times[-1]), start.ravel(), t_eval=times, rtol=tolerance)
    states: np.ndarray = found.y.T.reshape(-1, *start.shape)
    return states


def oscillator(system: System, rate: int, radii: tuple[float, float], target: Target, split_seed: int) -> Arrays:
    """States (q, p) of one body, (n, 2), with noise, and the exact derivatives of the states without it.

    Half of the trajectories are the training split, half the test split; those of the validation split come after them.

    Args:
        system: its energy.
        rate: points of a trajectory per second.
        radii: between which the distance of a start from (0, 0) is drawn.
        target: what y holds.
        split_seed: of NumPy's legacy generator, as published: 0 gives the published points.
    """
    draws, times = np.random.RandomState(split_seed), np.linspace(0, SECONDS, rate * SECONDS)
    clean, noisy = [], []
    for _ in range(TRAJECTORIES + VALIDATION):
        start = draws.rand(2) * 2 - 1
        start *= (radii[0] + (radii[1] - radii[0]) * draws.rand()) / np.linalg.norm(start)
        clean.append(path(lambda state: motion(system.gradient(state)), start, times, 1e-10))
        noisy.append(clean[-1] + NOISE * draws.randn(2, len(times)).T)
    half = TRAJECTORIES // 2
    which = {"train": slice(half), "validation": slice(TRAJECTORIES, None), "test": slice(half, TRAJECTORIES)}
    states, x = ({s: np.concatenate(found[part]) for s, part in which.items()} for found in (clean, noisy))
    return arrays(system, x, states, target, ["q", "p"])


def arrays(
    system: System, x: dict[str, np.ndarray], states: dict[str, np.ndarray], target: Target, features: list[str]
) -> Arrays:
    """Inputs x (n, d), with dx/dt of the exact `states` (n, d), or their energy and its gradient, `target_gradient`."""
    gradients = {split: system.gradient(exact) for split, exact in states.items()}
    if target == "energy":
        y = {split: system.energy(exact)[:, None] for split, exact in states.items()}
    else:
        y = {split: motion(gradient) for split, gradient in gradients.items()}
    return Arrays(
        x={split: values.astype(np.float32) for split, values in x.items()},
        y={split: values.astype(np.float32) for split, values in y.items()},
        examples={"target_gradient": gradients} if target == "energy" else {},
        features=features,
    )


def predicted(model: nn.Module, x: Tensor) -> np.ndarray:
    """The dx/dt that a net gives at x, (n, d): its outputs, or S∇F where it has one output F, (n, 1)."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        outputs = model(x)
        if outputs.shape[1] > 1:
            return np.asarray(outputs.detach())
        (gradient,) = torch.autograd.grad(outputs.sum(), x)
    return motion(gradient.numpy())


def followed(model: nn.Module, starts: np.ndarray, times: np.ndarray, tolerance: float) -> np.ndarray:
    """The paths that a net predicts from `starts`, (paths, d), all of them together: (times, paths, d)."""
    return path(lambda at: predicted(model, torch.from_numpy(at.astype(np.float32))), starts, times, tolerance)


def oscillator_paths(model: nn.Module, seconds: float) -> np.ndarray:
    """`followed` on the published starts, away from both axes; a net that learned from noise is slower by a little."""
    starts = np.random.RandomState(0).rand(STARTS, 2) * 1.6 - 0.8
    times = np.linspace(0, seconds * (1 + 0.9 * NOISE), TIMES)
    return followed(model, starts + 0.2 * np.sign(starts), times, 1e-12)


def scores(system: System, model: nn.Module, dataset: Dataset, paths: np.ndarray) -> dict[str, float]:
    """The two `MEASURES` of a trained net.

    Args:
        system: its true energy.
        model: gives dx/dt, (n, d), or F, (n, 1).
        dataset: with the test split, whose targets or `target_gradient` give the true dx/dt.
        paths: that the net predicts, (times, paths, d), from the start on.
    """
    gradient, y = dataset.known("test").get("target_gradient"), dataset.y["test"].double().numpy()
    wanted = y if gradient is None else motion(gradient.double().numpy())
    error = predicted(model, dataset.inputs("test")) - wanted
    change = system.energy(paths) - system.energy(paths[0])
    return {"test_loss": float(np.square(error).mean()), "energy_error": float(np.square(change).mean())}
