"""A cluster of three atoms in a plane: energies and their exact gradients from a Morse potential between pairs."""

import numpy as np

from pipeline.data import Arrays

TASK = "regression"
BOUNDS = None
GIVES = ("target_gradient",)
DEPTH, STIFFNESS, LENGTH = 1.0, 2.0, 1.0
"""Of the potential: depth of its well, how steep it is, distance of two atoms at rest."""
SPREAD = 0.15
"""Standard deviation of every coordinate around the triangle at rest."""
VALIDATION, TEST = 300, 1000


def load(*, points: int = 60, split_seed: int = 0) -> Arrays:
    """Coordinates (n, 6), less those at rest, in units of their spread; energies (n, 1), standardised.

    `points` is the number of training examples. `target_gradient` is the gradient of the standardised energy in the
    units of x: the forces are its negative.
    """
    generator = np.random.default_rng(split_seed)
    rest = LENGTH * np.array([[0.0, 0.0], [1.0, 0.0], [0.5, np.sqrt(3) / 2]])
    sizes = {"train": points, "validation": VALIDATION, "test": TEST}
    moved = {s: generator.normal(size=(n, 3, 2)) for s, n in sizes.items()}
    found = {s: energy_and_gradient(rest + SPREAD * u) for s, u in moved.items()}
    mean, deviation = found["train"][0].mean(), found["train"][0].std()
    return Arrays(
        x={s: u.reshape(-1, 6).astype(np.float32) for s, u in moved.items()},
        y={s: ((e - mean) / deviation)[:, None].astype(np.float32) for s, (e, _) in found.items()},
        examples={"target_gradient": {s: g.reshape(-1, 6) * SPREAD / deviation for s, (_, g) in found.items()}},
        features=[f"{axis}{atom}" for atom in (1, 2, 3) for axis in ("x", "y")],
    )


def energy_and_gradient(positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Energies (n,) of positions (n, 3, 2), the sum over pairs of D·(1 - exp(-a·(r - r₀)))², and their gradients."""
    energy, gradient = np.zeros(len(positions)), np.zeros_like(positions)
    for i, j in ((0, 1), (0, 2), (1, 2)):
        apart = positions[:, i] - positions[:, j]
        r = np.linalg.norm(apart, axis=1)
        decay = np.exp(-STIFFNESS * (r - LENGTH))
        energy += DEPTH * (1 - decay) ** 2
        slope = 2 * DEPTH * STIFFNESS * (1 - decay) * decay
        pull = (slope / r)[:, None] * apart
        gradient[:, i] += pull
        gradient[:, j] -= pull
    return energy, gradient
