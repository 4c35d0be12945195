"""Data sets: one file each, `load` gives the splits; `prepare` writes them to data/STUDY.npz once.

Tests and attacks see the splits through `read_data` only, so the test split leaves the file in one place alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from inputgrad import registry, tasks
from inputgrad.errors import UserError
from inputgrad.gradients.forward import Context
from inputgrad.tasks import Task
from pipeline import layout
from pipeline.data import _file
from pipeline.fingerprint import FILES, Origin, code_of, files_of, hash_of_path

SPLITS = ("train", "validation", "test")
KNOWN = "known_"
"""What stands before the names of what is known of every example, in a prepared file."""


@dataclass(frozen=True, kw_only=True)
class Arrays:
    """Everything of one data set as NumPy arrays, before it is written.

    x, y: for each split, inputs (n, *input), float32 or bytes (0 to 255 stand for 0 to 1), and class numbers (n,) int64
        or targets (n, k) float32.
    direction: regression: shaped as an input; classification: the mean input of every class, (C, *input).
    mask: shaped as an input, 1 where an input must not matter.
    features: names of the inputs of a table, empty for images.
    examples: name -> split -> what is known of every example, (n, ...) float32; see `Context.examples`.
    """

    x: dict[str, np.ndarray]
    y: dict[str, np.ndarray]
    direction: np.ndarray | None = None
    mask: np.ndarray | None = None
    features: list[str] = field(default_factory=list)
    examples: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)

    @property
    def known(self) -> set[str]:
        """What a loss may need of the data."""
        return {name for name in ("direction", "mask") if getattr(self, name) is not None} | set(self.examples)


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """One data set as tensors, restricted to the splits that were asked for.

    Attributes:
        x: split -> inputs in the data's own units, (n, *input), or their bytes; see `inputs`.
        y: split -> class numbers (n,) or targets (n, k).
        context: direction, mask and bounds.
        task: what a score is.
        outputs: number of classes, or of targets.
        features: names of the inputs of a table; empty for images.
        examples: split -> name -> what is known of every example, (n, ...).
        counts: split -> how many examples it has; of all splits, those that were not asked for too.
    """

    x: dict[str, Tensor]
    y: dict[str, Tensor]
    context: Context
    task: Task
    outputs: int
    features: tuple[str, ...] = ()
    examples: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def to(self, device: torch.device | str) -> Dataset:
        """The same on `device`; inputs that would fill more than half of it stay, and are moved batch by batch."""
        x = self.x if sum(t.nbytes for t in self.x.values()) > room(device) else to(self.x, device)
        examples = {split: to(known, device) for split, known in self.examples.items()}
        return replace(self, x=x, y=to(self.y, device), context=self.context.to(device), examples=examples)

    def inputs(self, split: str, which: slice | Tensor = slice(None)) -> Tensor:
        """Inputs of a split as floating-point numbers; images lie in memory as bytes."""
        x = self.x[split]
        chosen = x[which.to(x.device)] if isinstance(which, Tensor) else x[which]
        return as_numbers(chosen.to(self.y[split].device))

    def first(self, split: str, n: int) -> tuple[Tensor, Tensor, Context]:
        """The first n examples of a split, and what is known of them."""
        known = {name: t[:n] for name, t in self.known(split).items()}
        return self.inputs(split, slice(n)), self.y[split][:n], replace(self.context, examples=known)

    def known(self, split: str) -> dict[str, Tensor]:
        """What is known of every example of a split, by name."""
        return self.examples.get(split, {})

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(next(iter(self.x.values())).shape[1:])


def repeated(dataset: Dataset) -> int:
    """How many test examples have, byte for byte, the input of a training example."""
    train, test = ([hash(row.tobytes()) for row in dataset.x[split].numpy()] for split in ("train", "test"))
    known = {*train}
    return sum(row in known for row in test)


def to(tensors: Mapping[str, Tensor], device: torch.device | str) -> dict[str, Tensor]:
    return {name: tensor.to(device) for name, tensor in tensors.items()}


def room(device: torch.device | str) -> float:
    """Bytes that inputs may take on a device: half of what is free on a GPU, the rest is the net's; else any number."""
    return torch.cuda.mem_get_info(device)[0] / 2 if torch.device(device).type == "cuda" else float("inf")


class Facts(NamedTuple):
    """What a data set states: its task, the range of its inputs, and what a loss may need that it gives.

    gives: direction, mask, or the name of something known of every example; None: not stated.
    """

    task: str
    bounds: tuple[float, float] | None
    gives: tuple[str, ...] | None


def facts(source: Mapping[str, Any]) -> Facts:
    """Of a study's `data:`, from the module's TASK, BOUNDS and GIVES, or from its `facts` where options decide."""
    module = module_of(source)
    if hasattr(module, "facts"):
        return Facts(*module.facts(**registry.options(source)))
    return Facts(module.TASK, module.BOUNDS, getattr(module, "GIVES", None))


def sources(source: Mapping[str, Any]) -> list[Path]:
    """The files and folders of one's own that a study's `data:` names.

    Raises:
        UserError: one of them is missing.
    """
    for key in FILES["data"]:
        if isinstance(source.get(key), str) and not Path(source[key]).exists():
            raise UserError(f"data.{key}: {source[key]} is missing; fix: correct the name, or put it there")
    return files_of("data", source)


def as_numbers(x: Tensor) -> Tensor:
    """Bytes as floating-point numbers from 0 to 1; anything else as it is."""
    return x.float() / 255 if x.dtype == torch.uint8 else x


def origin(source: Mapping[str, Any]) -> Origin:
    """What the prepared data of a study are made from; `source` is its `data:`, the name and the options."""
    code, versions = code_of(__name__, source.get("use") or f"{__name__}.{source['name']}")
    hashes = {file.as_posix(): hash_of_path(file) for file in sources(source)}
    return Origin(settings={"data": dict(source)}, data=hashes, code=code, versions=versions)


def module_of(source: Mapping[str, Any]) -> ModuleType:
    """The module of a data set: TASK and BOUNDS, or `facts`, and `load`."""
    found: ModuleType = registry.find("pipeline.data", source["name"], source.get("use"))
    return found


def prepare(study: str, source: Mapping[str, Any]) -> Path:
    """Load, check and write the data of one study; the file appears whole or not at all."""
    name, before = source["name"], origin(source)
    stated, arrays = facts(source), module_of(source).load(**registry.options(source))
    if origin(source) != before:
        raise UserError(f"data set {name!r}: {sources(source)[0]} changed while it was read; fix: run it again")
    for part, values in {"x": arrays.x, "y": arrays.y, **arrays.examples}.items():
        for split in SPLITS:
            refuse_non_finite(values[split], f"data set {name!r}, {split} split, {part}", "fix or drop these rows")
            if len(values[split]) != len(arrays.x[split]):
                rows = f"{len(values[split])} rows of {part} for {len(arrays.x[split])} examples"
                raise UserError(f"data set {name!r}, {split} split: {rows}; fix: give one row for each")
    gives, bounds, task = stated.gives, stated.bounds, tasks.named(stated.task)
    refuse_other_forms(name, arrays, task, bounds)
    if gives is not None and set(gives) != arrays.known:
        raise UserError(f"data set {name!r} gives {sorted(arrays.known)}, its GIVES says {sorted(gives)}; fix: GIVES")
    largest = 255 if arrays.x["train"].dtype == np.uint8 else 1
    lowest, highest = (float(f([f(v) for v in arrays.x.values()])) / largest for f in (np.min, np.max))
    if bounds and not bounds[0] <= lowest <= highest <= bounds[1]:
        raise UserError(f"data set {name!r}: inputs lie in [{lowest:g}, {highest:g}], its module says {list(bounds)}")
    outputs = task.count_outputs(arrays.y["train"])
    if task.has_classes:
        refuse_missing_classes(name, arrays.y, outputs)
    contents = {"features": np.array(arrays.features, dtype=str), "outputs": np.array(outputs)}
    for split in SPLITS:
        contents[f"x_{split}"], contents[f"y_{split}"] = arrays.x[split], arrays.y[split]
        contents |= {f"{KNOWN}{name}_{split}": a[split].astype(np.float32) for name, a in arrays.examples.items()}
    for key in ("direction", "mask"):
        if (value := getattr(arrays, key)) is not None:
            contents[key] = value.astype(np.float32)
    contents["origin"] = np.array(json.dumps(asdict(origin(source)), sort_keys=True))
    _file.write(layout.data(study), contents)
    return layout.data(study)


def read_data(study: str, source: Mapping[str, Any], splits: tuple[str, ...]) -> Dataset:
    """The prepared splits of one study, once they are known to be whole and made from `source` by the code as it is."""
    file, again = layout.data(study), f"fix: {layout.again('prepare', study)}"
    contents = _file.read(file, again)
    wanted, found = origin(source), json.loads(str(contents.pop("origin")))
    if found != asdict(wanted):
        raise UserError(f"{file} is {wanted.difference(found)}; {again}")
    x = {s: contents[f"x_{s}"] for s in splits}
    y = {s: contents[f"y_{s}"] for s in splits}
    for s in splits:
        for values in (x[s], y[s]):
            refuse_non_finite(values, f"{file}, {s} split", again)
    names = [k[len(KNOWN) : -len("_train")] for k in contents if k.startswith(KNOWN) and k.endswith("_train")]
    examples = {s: {name: torch.from_numpy(contents[f"{KNOWN}{name}_{s}"]) for name in names} for s in splits}
    direction, mask = (torch.from_numpy(contents[k]) if k in contents else None for k in ("direction", "mask"))
    stated = facts(source)
    return Dataset(
        x={s: torch.from_numpy(v) for s, v in x.items()},
        y={s: torch.from_numpy(v) for s, v in y.items()},
        context=Context(bounds=stated.bounds, direction=direction, mask=mask, task=tasks.named(stated.task).loss),
        task=tasks.named(stated.task),
        outputs=int(contents["outputs"]),
        features=tuple(contents["features"].tolist()),
        examples=examples,
        counts={s: len(contents[f"y_{s}"]) for s in SPLITS if f"y_{s}" in contents},
    )


SORTED = 4
"""Examples of every class from which on chance does not put them class by class: four of each of two, 1 in 35."""


def refuse_other_forms(name: str, arrays: Arrays, task: Task, bounds: tuple[float, float] | None) -> None:
    """Raise a UserError for arrays that would be taken for something else than the module states."""
    for split in SPLITS:
        y = arrays.y[split]
        fits = y.ndim == 1 and y.dtype.kind in "iu" if task.has_classes else y.ndim == 2 and y.dtype.kind == "f"
        if not fits:
            fix = "class numbers (n,) int64" if task.has_classes else "targets (n, k) float32"
            stated = f"y is {y.dtype} {y.shape}, which is no {task}"
            raise UserError(f"data set {name!r}, {split} split: {stated}; fix: {fix}")
    if arrays.x["train"].dtype == np.uint8 and bounds not in (None, (0, 1)):
        raise UserError(f"data set {name!r}: bytes stand for 0 to 1, its BOUNDS are {list(bounds)}; fix: (0.0, 1.0)")
    shape = arrays.x["train"].shape[1:]
    classes = (task.count_outputs(arrays.y["train"]),) if task.has_classes else ()
    for part, wanted in (("direction", (*classes, *shape)), ("mask", shape)):
        if (value := getattr(arrays, part)) is not None:
            refuse_non_finite(value, f"data set {name!r}, {part}", "correct them")
            if value.shape != wanted:
                raise UserError(f"data set {name!r}: its {part} has shape {value.shape}; fix: {wanted}")


def refuse_missing_classes(name: str, y: Mapping[str, np.ndarray], classes: int) -> None:
    """Raise a UserError where there is one class only, or a split has not the classes of the training split."""
    if classes < 2:
        raise UserError(f"data set {name!r} has one class only; fix: give examples of two classes or more")
    for split in SPLITS:
        there, counts = np.unique(y[split], return_counts=True)
        if there[0] < 0 or there[-1] >= classes:
            label = there[0] if there[0] < 0 else there[-1]
            fix = "fix: number the classes from 0, and give examples of each to the training split"
            raise UserError(f"data set {name!r}, {split} split: no class {label} in the training split; {fix}")
        if missing := sorted(set(range(classes)) - set(there.tolist())):
            raise UserError(
                f"data set {name!r}, {split} split: no example of class {missing[0]}; fix: more examples of it, or"
                " another split"
            )
        if counts.min() >= SORTED and np.count_nonzero(np.diff(y[split])) == classes - 1:
            fix = "fix: shuffle it, for the first examples are attacked, audited and shown"
            raise UserError(f"data set {name!r}, {split} split: it lies class by class; {fix}")


def refuse_non_finite(values: np.ndarray, where: str, fix: str) -> None:
    """Raise a UserError that counts the NaN and infinite numbers in `values`, if there are any."""
    if values.dtype.kind != "f":
        return
    bad = int(values.size - np.isfinite(values).sum())
    if bad:
        raise UserError(f"{where}: {bad} of {values.size} numbers are NaN or infinite; {fix}")
