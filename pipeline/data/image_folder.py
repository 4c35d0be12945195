"""Images of one's own in a folder for each class: `data: {name: image_folder, folder: flowers, size: 32}`."""

from mimetypes import guess_type
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from inputgrad.errors import UserError
from pipeline.data import Arrays
from pipeline.data._pixels import Background, pixels, scaled
from pipeline.data._split import split

TASK = "classification"
BOUNDS = (0.0, 1.0)
GIVES = ("direction",)
Size = Annotated[int, Field(ge=5)]
White = Annotated[float, Field(gt=0)]
READ = (".jpg", ".jpeg", ".jfif", ".png", ".apng", ".ppm", ".pgm", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".jp2")
PARTS = ("train", "training", "val", "valid", "validation", "dev", "test", "testing")
"""Names of folders that are splits of a data set, and no classes."""


def load(
    *,
    folder: str,
    size: Size | None = None,
    channels: Literal[1, 3] | None = None,
    white: White | None = None,
    background: Background | None = None,
    split_seed: int = 0,
    shares: tuple[float, float, float] = (0.6, 0.2, 0.2),
) -> Arrays:
    """Images (n, C, H, W) as bytes, or as numbers where they have 16 bits; classes are the folders' names in order.

    With `size` every image is scaled so that its shorter side is as long, and cut to a square in its centre; without
    it all must be of one size. `channels: 1` makes all grey, 3 makes all coloured; without it all must be alike.
    `white` is the number in the files that stands for 1, where they have more than 8 bits and do not say it;
    `background` is put behind what is see-through.
    """
    files, y, classes = listed(Path(folder))
    found = [pixels(file, channels, size, background) for file in files]
    images = np.stack(of_one_size(scaled(found, files, white), files))
    part = split(len(y), seed=split_seed, shares=shares, strata=y, mixed=True)
    x = {s: images[i] for s, i in part.items()}
    train_y = y[part["train"]]
    one = 255 if images.dtype == np.uint8 else 1
    means = [x["train"][train_y == c].mean(0, dtype=np.float64) / one for c in range(len(classes))]
    return Arrays(x=x, y={s: y[i] for s, i in part.items()}, direction=np.stack(means).astype(np.float32))


def listed(folder: Path) -> tuple[list[Path], np.ndarray, list[str]]:
    """Every image, its class number, and the names of the classes."""
    from torchvision.datasets import ImageFolder

    try:
        found = ImageFolder(str(folder), is_valid_file=lambda file: is_read(Path(file)))
    except (FileNotFoundError, NotADirectoryError) as error:
        reason = " ".join(str(error).split())[:160]
        raise UserError(f"data.folder: {folder}: {reason}; fix: one folder for each class, with its images") from error
    if all(name.lower() in PARTS for name in found.classes):
        fix = f"fix: data.folder: {folder / found.classes[-1]}, which is split here, or one folder for each class"
        raise UserError(f"data.folder: {folder} holds the splits {', '.join(found.classes)}, no classes; {fix}")
    y = np.array(found.targets, dtype=np.int64)
    counts = np.bincount(y)
    if len(counts) < 2:
        raise UserError(f"data.folder: {folder} holds one class only; fix: a folder for each of two classes or more")
    if counts.min() < 5:
        rare = found.classes[int(counts.argmin())]
        raise UserError(f"data.folder: {folder / rare} holds {counts.min()} images; fix: five or more of every class")
    return [Path(file) for file, _ in found.samples], y, list(found.classes)


def is_read(file: Path) -> bool:
    """Whether a file is one of the images; other files are passed over, but no image is, which nobody would notice."""
    if file.suffix.lower() in READ:
        return True
    kind, _ = guess_type(file.name.lower())
    if kind is not None and kind.startswith("image/"):
        raise UserError(f"{file}: images of this kind are not read ({kind}); fix: save it as PNG, or remove it")
    return False


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
