"""Small pictures of inputs and their gradients as arrays of bytes, for slide shows over the epochs."""

from __future__ import annotations

import numpy as np

Array = np.ndarray

CELL, WIDTH, ROW, GAP = 72, 320, 12, 6
"""Pixels: the side of an example's image, the width of a table, the least height of its rows, the white between."""


def gradient_picture(x: Array, gradients: Array) -> Array:
    """Inputs above, their signed gradients below, as (height, width, 3) uint8.

    Red raises the loss, blue lowers it, white does nothing. Every example has its own scale, up to its largest |g|:
    gradients of one picture differ a thousandfold. Their size is the metric `input_gradient_norm`.

    Args:
        x: (k, channels, height, width) images; anything else is drawn as a table, an example a row.
        gradients: same shape.
    """
    if x.ndim != 4:
        tables = [diverging(to_one(v.reshape(len(v), -1))) for v in (x, gradients)]
        return stacked([enlarged(table, width=WIDTH, lowest=ROW) for table in tables])
    low, high = x.min(), x.max()
    grey = (x - low) / ((high - low) or 1)
    inputs = grey.transpose(0, 2, 3, 1) if x.shape[1] == 3 else np.repeat(grey.mean(1)[..., None], 3, axis=3)
    rows = (inputs, diverging(to_one(gradients.mean(1))))
    return stacked([side_by_side([enlarged(image, width=CELL) for image in row]) for row in rows])


def to_one(values: Array) -> Array:
    """Every example divided by its largest absolute value."""
    largest = np.abs(values).reshape(len(values), -1).max(axis=1)
    scale = np.where(largest > 0, largest, 1).reshape(-1, *[1] * (values.ndim - 1))
    return values / scale


def diverging(values: Array) -> Array:
    """[-1, 1] to blue, white, red: (...) to (..., 3) in [0, 1]."""
    blue, red = np.clip(-values, 0, 1), np.clip(values, 0, 1)
    return np.stack([1 - blue, 1 - blue - red, 1 - red], axis=-1)


def enlarged(image: Array, width: int, lowest: int = 1) -> Array:
    """Every pixel of (h, w, 3) as a block of whole pixels, so that 8×8 images are visible; as uint8."""
    size = max(1, width // image.shape[1])
    return (255 * image).round().astype(np.uint8).repeat(max(size, lowest), axis=0).repeat(size, axis=1)


def side_by_side(images: list[Array]) -> Array:
    padded = [np.pad(image, ((0, 0), (0, GAP), (0, 0)), constant_values=255) for image in images]
    return np.concatenate(padded, axis=1)[:, :-GAP]


def stacked(rows: list[Array]) -> Array:
    return side_by_side([row.swapaxes(0, 1) for row in rows]).swapaxes(0, 1)
