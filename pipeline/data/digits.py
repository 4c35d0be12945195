"""1,797 handwritten digits of 8×8 pixels in [0, 1], ten classes (UCI, shipped with scikit-learn)."""

import numpy as np

from pipeline.data import Arrays
from pipeline.data._split import split

TASK = "classification"
BOUNDS = (0.0, 1.0)
GIVES = ("direction", "mask")


def load(*, split_seed: int = 0, shares: tuple[float, float, float] = (0.6, 0.2, 0.2)) -> Arrays:
    """Images (n, 1, 8, 8) and labels (n,); the direction is the mean training image of every class, (10, 1, 8, 8).

    The mask marks the pixels that no training image ever inks: whatever they hold must not matter.
    """
    from sklearn.datasets import load_digits  # a second of import that only `prepare` needs

    images, labels = load_digits(return_X_y=True)
    x = (images / 16).astype(np.float32).reshape(-1, 1, 8, 8)
    y = labels.astype(np.int64)
    part = split(len(y), seed=split_seed, shares=shares, strata=y)
    train_x, train_y = x[part["train"]], y[part["train"]]
    return Arrays(
        x={s: x[i] for s, i in part.items()},
        y={s: y[i] for s, i in part.items()},
        direction=np.stack([train_x[train_y == c].mean(0) for c in range(10)]),
        mask=(train_x.max(0) == 0).astype(np.float32),
    )
