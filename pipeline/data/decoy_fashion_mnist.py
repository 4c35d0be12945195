"""Fashion-MNIST with a decoy: a patch in a random corner whose grey tells the label in training and not in the test.

The patch is that of Ross, Hughes & Doshi-Velez 2017 on MNIST: 4×4 pixels of grey 255 - 25·label. As in `decoy_digits`,
training and validation split hold the true decoy, the test split a random one.
"""

import numpy as np
from pydantic import PositiveInt

from pipeline.data import Arrays, fashion_mnist

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
    generator = np.random.default_rng(split_seed)
    x = {}
    for split, images in plain.x.items():
        labels = plain.y[split]
        if split == "test" and not truthful_test:
            labels = generator.integers(0, 10, len(labels))
        x[split] = with_decoys(images, labels, generator)
    train_x, train_y = x["train"], plain.y["train"]
    means = np.stack([train_x[train_y == label].mean(0, dtype=np.float64) for label in range(10)]) / 255
    return Arrays(x=x, y=plain.y, direction=means.astype(np.float32), mask=corners(*train_x.shape[1:]))


def with_decoys(images: np.ndarray, labels: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """The images (n, 1, 28, 28) as bytes, with a patch of grey 255 - 25·label in a random corner each."""
    images = images.copy()
    grey = (255 - STEP * labels).astype(np.uint8)
    bottom, right = generator.integers(0, 2, (2, len(images), 1, 1))
    height, width = images.shape[2:]
    rows = bottom * (height - SIDE) + np.arange(SIDE)[None, :, None]
    columns = right * (width - SIDE) + np.arange(SIDE)[None, None]
    images[np.arange(len(images))[:, None, None], 0, rows, columns] = grey[:, None, None]
    return images


def corners(channels: int, height: int, width: int) -> np.ndarray:
    """1 on the four patches, (channels, height, width)."""
    mask = np.zeros((channels, height, width), dtype=np.float32)
    for rows in (slice(None, SIDE), slice(-SIDE, None)):
        for columns in (slice(None, SIDE), slice(-SIDE, None)):
            mask[:, rows, columns] = 1
    return mask
