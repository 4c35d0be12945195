"""A transported, decaying wave: noisy values of the solution of u_t + c·u_x = -u, and the equation at every point."""

import numpy as np

from pipeline.data import Arrays

TASK = "regression"
BOUNDS = None
GIVES = ("target_gradient", "derivative_direction", "derivative")
SPEED, NOISE = 0.5, 0.3
"""Of the wave; standard deviation of the noise on the training values, whose own is about 0.45."""
VALIDATION, TEST = 300, 1000


def load(*, points: int = 80, split_seed: int = 0) -> Arrays:
    """Points (x, t) in [0, 1]², (n, 2), and values u = sin(2π(x - c·t))·exp(-t), (n, 1), noisy in the training split.

    The equation is `derivative` = -u(x, t), known without noise, along `derivative_direction` = (c, 1).
    `target_gradient` is the true gradient of u, for the score of the derivative alone: no loss of the study may use it.
    """
    generator = np.random.default_rng(split_seed)
    sizes = {"train": points, "validation": VALIDATION, "test": TEST}
    x = {s: generator.uniform(size=(n, 2)) for s, n in sizes.items()}
    true = {s: solution(p) for s, p in x.items()}
    values = {s: u for s, (u, _) in true.items()}
    noisy = {**values, "train": values["train"] + NOISE * generator.normal(size=points)}
    along = np.array([SPEED, 1.0])
    return Arrays(
        x={s: p.astype(np.float32) for s, p in x.items()},
        y={s: u[:, None].astype(np.float32) for s, u in noisy.items()},
        examples={
            "target_gradient": {s: g for s, (_, g) in true.items()},
            "derivative_direction": {s: np.broadcast_to(along, p.shape) for s, p in x.items()},
            "derivative": {s: -u for s, u in values.items()},
        },
        features=["x", "t"],
    )


def solution(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """U (n,) and its gradient (n, 2) at points (n, 2)."""
    x, t = points.T
    phase, decay = 2 * np.pi * (x - SPEED * t), np.exp(-t)
    u = np.sin(phase) * decay
    u_x = 2 * np.pi * np.cos(phase) * decay
    return u, np.stack([u_x, -SPEED * u_x - u], 1)
