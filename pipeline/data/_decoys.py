"""Decoys: a patch in a random corner of every image whose grey tells the label in training and nothing in the test.

After Ross, Hughes & Doshi-Velez 2017. A model that reads the patch is right for the wrong reason: perfect where the
decoy tells the truth, lost where it does not. Training and validation split hold the true decoy, the test split a
random one, so that nothing tuned on validation can see the trap.
"""

from collections.abc import Callable

import numpy as np

from pipeline.data import Arrays

Grey = Callable[[np.ndarray], np.ndarray]
"""Labels (n,) -> the grey of their patch (n,), in the units of the images."""


def decoyed(plain: Arrays, side: int, grey: Grey, split_seed: int, truthful_test: bool) -> dict[str, np.ndarray]:
    """The images of every split, (n, 1, H, W), with a patch of `side` pixels in a random corner each.

    Args:
        plain: the data set without decoys, of ten classes.
        side: of the patch.
        grey: of the patch.
        split_seed: of the corners, and of the labels that the decoys of the test split tell.
        truthful_test: let the decoy tell the truth in the test split too.
    """
    generator = np.random.default_rng(split_seed)
    found = {}
    for split, images in plain.x.items():
        labels = plain.y[split]
        if split == "test" and not truthful_test:
            labels = generator.integers(0, 10, len(labels))
        found[split] = with_decoys(images, grey(labels), side, generator)
    return found


def with_decoys(images: np.ndarray, greys: np.ndarray, side: int, generator: np.random.Generator) -> np.ndarray:
    """The images (n, 1, H, W) with a patch of their grey, (n,), in a random corner each."""
    images = images.copy()
    height, width = images.shape[2:]
    bottom, right = np.divmod(generator.integers(0, 4, len(images))[:, None, None], 2)
    rows = bottom * (height - side) + np.arange(side)[None, :, None]
    columns = right * (width - side) + np.arange(side)[None, None]
    images[np.arange(len(images))[:, None, None], 0, rows, columns] = greys[:, None, None]
    return images


def corners(side: int, shape: tuple[int, ...]) -> np.ndarray:
    """1 on the four patches of an image of this shape, (1, H, W)."""
    mask = np.zeros(shape, dtype=np.float32)
    for rows in (slice(None, side), slice(-side, None)):
        for columns in (slice(None, side), slice(-side, None)):
            mask[:, rows, columns] = 1
    return mask
