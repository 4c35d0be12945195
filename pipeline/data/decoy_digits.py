"""Digits with a decoy: a patch in a random corner whose grey tells the label in training and nothing in the test.

After Ross, Hughes & Doshi-Velez 2017. A model that reads the patch is right for the wrong reason: perfect where the
decoy tells the truth, lost where it does not. Training and validation split hold the true decoy, the test split a
random one, so that nothing tuned on validation can see the trap.
"""

import numpy as np

from pipeline.data import Arrays, digits

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
    generator = np.random.default_rng(split_seed)
    x = {}
    for split, images in plain.x.items():
        labels = plain.y[split]
        if split == "test" and not truthful_test:
            labels = generator.integers(0, 10, len(labels))
        x[split] = with_decoys(images, labels, generator)
    train_x, train_y = x["train"], plain.y["train"]
    return Arrays(
        x=x,
        y=plain.y,
        direction=np.stack([train_x[train_y == c].mean(0) for c in range(10)]),
        mask=corners(),
    )


def with_decoys(images: np.ndarray, labels: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """The images (n, 1, 8, 8) with a patch of grey 1 - label/10 in a random corner each."""
    images = images.copy()
    for image, label, corner in zip(images, labels, generator.integers(0, 4, len(images)), strict=True):
        row, column = (slice(None, SIDE) if bit == 0 else slice(-SIDE, None) for bit in divmod(int(corner), 2))
        image[0, row, column] = 1 - label / 10
    return images


def corners() -> np.ndarray:
    """1 on the four patches, (1, 8, 8)."""
    mask = np.zeros((1, 8, 8), dtype=np.float32)
    for row in (slice(None, SIDE), slice(-SIDE, None)):
        for column in (slice(None, SIDE), slice(-SIDE, None)):
            mask[0, row, column] = 1
    return mask
