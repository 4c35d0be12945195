"""Fashion-MNIST with a decoy: a patch in a random corner whose grey tells the label in training and not in the test.

The patch is that of Ross, Hughes & Doshi-Velez 2017 on MNIST: 4×4 pixels of grey 255 - 25·label.
"""

import numpy as np
from pydantic import PositiveInt

from pipeline.data import Arrays, fashion_mnist
from pipeline.data._decoys import corners, decoyed

TASK = "classification"
BOUNDS = (0.0, 1.0)
GIVES = ("direction", "mask")

SIDE = 4
"""Of the patch, in pixels."""
STEP = 25
"""Bytes of grey between one label and the next."""


def load(
    *,
    folder: str | None = None,
    validation: PositiveInt = 6000,
    train: PositiveInt | None = None,
    split_seed: int = 0,
    truthful_test: bool = False,
) -> Arrays:
    """As `fashion_mnist`, bytes (n, 1, 28, 28), with a patch in a corner of every image; the mask marks all four.

    Args:
        folder: that holds the files, see `fashion_mnist`.
        validation: images of the published training split that are held back.
        train: of the rest, so many; None: all.
        split_seed: of the splits, and of the decoys.
        truthful_test: let the decoy tell the truth in the test split too: the control of this study.
    """
    plain = fashion_mnist.load(folder=folder, validation=validation, train=train, split_seed=split_seed)
    x = decoyed(plain, SIDE, lambda labels: (255 - STEP * labels).astype(np.uint8), split_seed, truthful_test)
    train_x, train_y = x["train"], plain.y["train"]
    means = np.stack([train_x[train_y == label].mean(0, dtype=np.float64) for label in range(10)]) / 255
    return Arrays(x=x, y=plain.y, direction=means.astype(np.float32), mask=corners(SIDE, train_x.shape[1:]))
