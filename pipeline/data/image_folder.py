"""Images of one's own in a folder for each class: `data: {name: image_folder, folder: flowers, size: 32}`."""

from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from inputgrad.errors import UserError
from pipeline.data import Arrays
from pipeline.data._split import split

TASK = "classification"
BOUNDS = (0.0, 1.0)
GIVES = ("direction",)
GREY = ("1", "L", "LA", "I", "I;16", "F")
"""What Pillow calls images without colours."""
Size = Annotated[int, Field(ge=5)]


def load(
    *,
    folder: str,
    size: Size | None = None,
    channels: Literal[1, 3] | None = None,
    split_seed: int = 0,
    shares: tuple[float, float, float] = (0.6, 0.2, 0.2),
) -> Arrays:
    """Images (n, C, H, W) as bytes; classes are the folders' names in their order.

    With `size` every image is scaled so that its shorter side is as long, and cut to a square in its centre; without
    it all must be of one size. `channels: 1` makes all grey, 3 makes all coloured; without it all must be alike.
    """
    files, y, classes = listed(Path(folder))
    images = np.stack(of_one_size([decoded(file, channels, size) for file in files], files))
    part = split(len(y), seed=split_seed, shares=shares, strata=y, mixed=True)
    x = {s: images[i] for s, i in part.items()}
    train_y = y[part["train"]]
    means = [x["train"][train_y == c].mean(0, dtype=np.float64) / 255 for c in range(len(classes))]
    return Arrays(x=x, y={s: y[i] for s, i in part.items()}, direction=np.stack(means).astype(np.float32))


def listed(folder: Path) -> tuple[list[Path], np.ndarray, list[str]]:
    """Every image, its class number, and the names of the classes."""
    from torchvision.datasets import ImageFolder

    try:
        found = ImageFolder(str(folder))
    except (FileNotFoundError, NotADirectoryError) as error:
        reason = " ".join(str(error).split())[:160]
        raise UserError(f"data.folder: {folder}: {reason}; fix: one folder for each class, with its images") from error
    y = np.array(found.targets, dtype=np.int64)
    counts = np.bincount(y)
    if len(counts) < 2:
        raise UserError(f"data.folder: {folder} holds one class only; fix: a folder for each of two classes or more")
    if counts.min() < 5:
        rare = found.classes[int(counts.argmin())]
        raise UserError(f"data.folder: {folder / rare} holds {counts.min()} images; fix: five or more of every class")
    return [Path(file) for file, _ in found.samples], y, list(found.classes)


def decoded(file: Path, channels: int | None, size: int | None) -> np.ndarray:
    """An image as bytes, (C, H, W)."""
    from PIL.Image import DecompressionBombError
    from PIL.Image import open as open_image
    from torchvision.transforms import functional

    try:
        with open_image(file) as opened:
            grey = opened.mode in GREY if channels is None else channels == 1
            image = opened.convert("L" if grey else "RGB")
    except (OSError, SyntaxError, ValueError, DecompressionBombError) as error:
        reason = " ".join(str(error).split())[:120]
        raise UserError(f"{file} is no readable image ({reason}); fix: remove or replace it") from error
    if size is not None:
        image = functional.center_crop(functional.resize(image, size), size)
    values = np.asarray(image)
    return values[None] if grey else np.ascontiguousarray(values.transpose(2, 0, 1))


def of_one_size(images: list[np.ndarray], files: list[Path]) -> list[np.ndarray]:
    for image, file in zip(images, files, strict=True):
        if len(image) != len(images[0]):
            one, other = ("grey" if len(i) == 1 else "coloured" for i in (image, images[0]))
            raise UserError(
                f"{file} is {one}, {files[0]} is {other}; fix: data.channels: 3 makes all coloured, 1 makes all grey"
            )
        if image.shape != images[0].shape:
            (h, w), (first_h, first_w) = image.shape[1:], images[0].shape[1:]
            raise UserError(
                f"{file} is {w}×{h}, {files[0]} is {first_w}×{first_h}; fix: data.size makes all of one size"
            )
    return images
