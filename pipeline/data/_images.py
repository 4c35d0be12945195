"""Image sets that torchvision knows: from a folder, or downloaded with torchvision's checksums."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import PositiveInt

from inputgrad.errors import UserError
from pipeline.data import Arrays
from pipeline.data._split import stratified

DOWNLOADS = Path("data/downloads")
PACKAGED = "usr/share/datasets"
"""Where Debian's packages of data sets have their files, below the system's root or below `data/debian`."""
IDX = {
    f"{part}_{kind}": f"{file}-{kind}-idx{3 if kind == 'images' else 1}-ubyte"
    for part, file in (("train", "train"), ("test", "t10k"))
    for kind in ("images", "labels")
}


def published(name: str, held_back: int, packaged: str = "") -> Callable[..., Arrays]:
    """The `load` of a set of torchvision.

    Args:
        name: of torchvision's class.
        held_back: images of the published training split that are held back for validation, unless a study says more.
        packaged: folder of a Debian package.
    """

    def load(
        *,
        folder: str | None = None,
        validation: PositiveInt = held_back,
        train: PositiveInt | None = None,
        split_seed: int = 0,
    ) -> Arrays:
        """Images (n, C, H, W) as bytes and labels (n,); the direction is the mean training image of every class.

        Args:
            folder: that holds the files, as IDX files or as torchvision lays them out; None: a Debian package's, else
                they are downloaded.
            validation: images of the published training split that are held back, every class in its share.
            train: of the rest, so many; None: all.
            split_seed: of that choice; the test split is the published one.
        """
        images, labels, test_images, test_labels = read(name, folder, packaged)
        chosen = stratified(labels, {"validation": validation, "train": train}, split_seed)
        x = {split: images[index] for split, index in chosen.items()} | {"test": test_images}
        y = {split: labels[index] for split, index in chosen.items()} | {"test": test_labels}
        classes = range(int(labels.max()) + 1)
        means = np.stack([x["train"][y["train"] == c].mean(0, dtype=np.float64) for c in classes]) / 255
        return Arrays(x=x, y=y, direction=means.astype(np.float32))

    return load


def read(name: str, folder: str | None, packaged: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Training images and labels, test images and labels."""
    where = Path(folder) if folder is not None else found(packaged)
    if where is not None and not where.is_dir():
        raise UserError(f"data.folder: there is no folder {where}; fix: correct it, or leave it out to download")
    if where is not None and has_idx(where):
        return tuple(idx(where, part) for part in IDX)  # type: ignore[return-value]
    train, test = (through_torchvision(name, where, part) for part in (True, False))
    return *train, *test


def found(packaged: str) -> Path | None:
    places = [Path(root) / PACKAGED / packaged for root in ("/", "data/debian")] if packaged else []
    return next((place for place in places if place.is_dir()), None)


def has_idx(folder: Path) -> bool:
    return any((folder / f"{IDX['train_images']}{end}").is_file() for end in ("", ".gz"))


def idx(folder: Path, part: str) -> np.ndarray:
    """The array in an IDX file: images (n, 1, H, W) as bytes, or labels (n,)."""
    file = next((f for end in ("", ".gz") if (f := folder / f"{IDX[part]}{end}").is_file()), None)
    if file is None:
        raise UserError(f"{folder} has no {IDX[part]} or {IDX[part]}.gz; fix: put all four files there")
    try:
        contents = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
        if contents[:3] != b"\0\0\x08":
            raise ValueError("it does not begin as an IDX file of bytes")
        shape = np.frombuffer(contents, ">u4", contents[3], 4)
        values = np.frombuffer(contents, np.uint8, offset=4 + 4 * contents[3]).reshape(shape)
    except (OSError, EOFError, ValueError) as error:
        raise UserError(f"{file} is damaged ({error}); fix: get it again") from error
    return values[:, None] if part.endswith("images") else values.astype(np.int64)


def through_torchvision(name: str, folder: Path | None, train: bool) -> tuple[np.ndarray, np.ndarray]:
    """Images (n, C, H, W) as bytes, and labels."""
    from torchvision import datasets

    make: Callable[..., Any] = getattr(datasets, name)
    part: dict[str, Any] = {"split": "train" if train else "test"} if name == "SVHN" else {"train": train}
    try:
        data = make(DOWNLOADS if folder is None else folder, download=folder is None, **part)
    except Exception as error:  # whatever the network, the disk or the archive raises
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        if folder is not None:
            fix = "fix: put the files there as torchvision or the publisher lays them out, or leave data.folder out"
            raise UserError(f"data.folder: {folder} does not hold {name} ({reason}); {fix}") from error
        fix = "fix: get the files elsewhere and name their folder: data: {…, folder: PATH}"
        raise UserError(f"{name} cannot be downloaded here ({reason}); {fix}") from error
    images, labels = np.asarray(data.data), np.asarray(data.labels if name == "SVHN" else data.targets, dtype=np.int64)
    if images.ndim == 3:
        return images[:, None], labels
    return images if images.shape[1] == 3 else np.ascontiguousarray(images.transpose(0, 3, 1, 2)), labels
