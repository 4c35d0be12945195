"""Data sets: one file each, `load` gives the splits; `prepare` writes them to data/STUDY.npz once.

Tests and attacks see the splits through `read` only, so the test split leaves the file in one place alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor

from inputgrad import files, registry, tasks
from inputgrad.errors import UserError
from inputgrad.gradients.forward import Context
from inputgrad.tasks import Task

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True, kw_only=True)
class Arrays:
    """Everything of one data set as NumPy arrays, before it is written.

    x, y: for each split, inputs (n, *input) float32 and class numbers (n,) int64 or targets (n, k) float32.
    direction: regression: shaped as an input; classification: the mean input of every class, (C, *input).
    mask: shaped as an input, 1 where an input must not matter.
    features: names of the inputs of a table, empty for images.
    """

    x: dict[str, np.ndarray]
    y: dict[str, np.ndarray]
    direction: np.ndarray | None = None
    mask: np.ndarray | None = None
    features: list[str] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """One data set as tensors, restricted to the splits that were asked for.

    Attributes:
        x: split -> inputs in the data's own units, (n, *input).
        y: split -> class numbers (n,) or targets (n, k).
        context: direction, mask and bounds.
        task: what a score is.
        outputs: number of classes, or of targets.
        features: names of the inputs of a table; empty for images.
    """

    x: dict[str, Tensor]
    y: dict[str, Tensor]
    context: Context
    task: Task
    outputs: int
    features: tuple[str, ...] = ()

    def to(self, device: torch.device | str) -> Dataset:
        """The same with its tensors on `device`."""
        x, y = ({s: t.to(device) for s, t in part.items()} for part in (self.x, self.y))
        return replace(self, x=x, y=y, context=self.context.to(device))

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one input."""
        return tuple(next(iter(self.x.values())).shape[1:])


def path(study: str) -> Path:
    """Where `prepare` writes the data of a study."""
    return Path("data") / f"{study}.npz"


def prepare(study: str, name: str, options: dict[str, object]) -> Path:
    """Load, check and write the data of one study; the file appears whole or not at all."""
    module = registry.module("pipeline.data", name)
    arrays: Arrays = module.load(**options)
    for part, values in {"x": arrays.x, "y": arrays.y}.items():
        for split in SPLITS:
            refuse_non_finite(values[split], f"data set {name!r}, {split} split, {part}", "fix or drop these rows")
    bounds = module.BOUNDS
    lowest, highest = (f([f(v) for v in arrays.x.values()]) for f in (np.min, np.max))
    if bounds and not bounds[0] <= lowest <= highest <= bounds[1]:
        raise UserError(f"data set {name!r}: inputs lie in [{lowest:g}, {highest:g}], its module says {list(bounds)}")
    targets = arrays.y["train"]
    outputs = tasks.named(module.TASK).count_outputs(targets)
    contents = {"features": np.array(arrays.features, dtype=str), "outputs": np.array(outputs)}
    for split in SPLITS:
        contents[f"x_{split}"], contents[f"y_{split}"] = arrays.x[split], arrays.y[split]
    for key in ("direction", "mask"):
        if (value := getattr(arrays, key)) is not None:
            contents[key] = value.astype(np.float32)
    with files.replacing(path(study)) as temporary, temporary.open("wb") as f:
        np.savez(f, allow_pickle=False, **contents)
    return path(study)


def read(study: str, name: str, splits: tuple[str, ...]) -> Dataset:
    """The prepared splits of one study.

    Raises:
        UserError: the file is missing, unreadable or holds numbers that are not finite.
    """
    file = path(study)
    if not file.exists():
        raise UserError(f"{file} is missing; write it with: dvc repro prepare@{study}")
    module = registry.module("pipeline.data", name)
    try:
        with np.load(file, allow_pickle=False) as f:
            contents = {key: f[key] for key in f.files}
        x = {s: contents[f"x_{s}"] for s in splits}
        y = {s: contents[f"y_{s}"] for s in splits}
    except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
        raise UserError(f"{file} is not readable ({error}); delete it and run: dvc repro prepare@{study}") from error
    for s in splits:
        for values in (x[s], y[s]):
            refuse_non_finite(values, f"{file}, {s} split", f"write it again with: dvc repro -f prepare@{study}")
    tensors = {key: torch.from_numpy(contents[key]) for key in ("direction", "mask") if key in contents}
    return Dataset(
        x={s: torch.from_numpy(v) for s, v in x.items()},
        y={s: torch.from_numpy(v) for s, v in y.items()},
        context=Context(bounds=module.BOUNDS, **tensors),
        task=tasks.named(module.TASK),
        outputs=int(contents["outputs"]),
        features=tuple(contents["features"].tolist()),
    )


def refuse_non_finite(values: np.ndarray, where: str, fix: str) -> None:
    """Raise a UserError that counts the NaN and infinite numbers in `values`, if there are any."""
    bad = int(values.size - np.isfinite(values).sum())
    if bad:
        raise UserError(f"{where}: {bad} of {values.size} numbers are NaN or infinite; {fix}")
