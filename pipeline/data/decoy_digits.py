"""Digits with a decoy: a patch in a random corner whose grey tells the label in training and nothing in the test."""

import numpy as np

from pipeline.data import Arrays, digits
from pipeline.data._decoys import corners, decoyed

TASK = "classification"
BOUNDS = (0.0, 1.0)
GIVES = ("direction", "mask")

SIDE = 2
"""Of the patch, in pixels: two of eight, as four of 28 in the paper's MNIST, rounded up to be seen by a 3×3 filter."""


def load(
    *, split_seed: int = 0, shares: tuple[float, float, float] = (0.6, 0.2, 0.2), truthful_test: bool = False
) -> Arrays:
    """As `digits`, with a patch of grey 1 - label/10; the mask marks the four corners.

    Args:
        split_seed: of the splits, and of the decoys.
        shares: of train, validation and test.
        truthful_test: let the decoy tell the truth in the test split too: the control of this study.
    """
    plain = digits.load(split_seed=split_seed, shares=shares)
    x = decoyed(plain, SIDE, lambda labels: 1 - labels / 10, split_seed, truthful_test)
    train_x, train_y = x["train"], plain.y["train"]
    return Arrays(
        x=x,
        y=plain.y,
        direction=np.stack([train_x[train_y == c].mean(0) for c in range(10)]),
        mask=corners(SIDE, train_x.shape[1:]),
    )
