"""A table of one's own, text or Parquet: `data: {name: table, file: mine.csv, target: price, task: regression}`."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from inputgrad.errors import UserError, nearest
from pipeline.data import Arrays, Facts
from pipeline.data._delimited import SUFFIXES, Decimal, Form, Separator, Thousands, from_text
from pipeline.data._numbers import advice, refuse_two_readings, row_numbers
from pipeline.data._split import split

Text = Literal["refuse", "one_hot"]
Missing = Literal["refuse", "drop"]


def facts(task: str, direction: Mapping[str, float], mask: tuple[str, ...], **_: Any) -> Facts:
    return Facts(task, None, (*(["direction"] if direction else []), *(["mask"] if mask else [])))


def load(
    *,
    file: str,
    target: str,
    task: Literal["classification", "regression"],
    columns: tuple[str, ...] = (),
    text: Text = "refuse",
    direction: dict[str, float] = {},  # noqa: B006  never changed
    mask: tuple[str, ...] = (),
    index: bool = False,
    missing: Missing = "refuse",
    separator: Separator | None = None,
    decimal: Decimal | None = None,
    thousands: Thousands | None = None,
    encoding: str | None = None,
    names: tuple[str, ...] = (),
    missing_as: tuple[str, ...] | None = None,
    split_seed: int = 0,
    shares: tuple[float, float, float] = (0.6, 0.2, 0.2),
) -> Arrays:
    """Inputs (n, d) and targets, standardised with the mean and deviation of the training split.

    `columns` are the inputs, by default all but the target. A column of text is refused, or becomes a column of 0 and 1
    for each of its values (`text: one_hot`). `direction` gives columns along which the output should rise, each with
    its weight (a regression only); `mask` names columns that must not matter. A column that is constant in the
    training split is 0 everywhere. Classes are numbered in the order of their values.

    `index` leaves out the first column, which numbers the rows; `missing: drop` leaves out rows with a missing value.
    The rest says how a text file is written, see `Form`: `names` of the columns, where its first line has none,
    `missing_as`: the texts that stand for a missing value, in the place of those of pandas.
    """
    form = Form(
        separator=separator,
        decimal=decimal,
        thousands=thousands,
        encoding=encoding,
        names=names,
        missing_as=missing_as,
    )
    frame, written = read(Path(file), form, target, index)
    here = columns or tuple(str(name) for name in frame.columns if name != target)
    inputs, targets = chosen(frame, here, file), chosen(frame, [target], file)
    if target in here:
        raise UserError(f"{file}: the target '{target}' is among columns; fix: leave it out")
    if not columns:
        refuse_row_numbers(inputs, file, index)
    used = without_missing(inputs.assign(**{target: targets[target]}), file, missing)
    inputs, targets = used[list(here)], used[[target]]
    if written:
        refuse_two_readings(used, written, file, form)
        refuse_hidden_numbers(used, text, task == "classification", target, file, form)
    x, features, origins = encoded(inputs, text, file)
    y, strata = classes(targets[target], file) if task == "classification" else numbers(targets, file)
    part = split(len(x), seed=split_seed, shares=shares, strata=strata, mixed=True)
    x = standardised(x, part["train"])
    y = y if task == "classification" else standardised(y, part["train"]).astype(np.float32)
    if direction and task == "classification":
        raise UserError(f"{file}: direction is one for a regression; fix: leave it out for classes")
    chosen(inputs, [*direction, *mask], file)
    return Arrays(
        x={s: x[i].astype(np.float32) for s, i in part.items()},
        y={s: y[i] for s, i in part.items()},
        direction=np.array([direction.get(name, 0.0) for name in origins], np.float32) if direction else None,
        mask=np.array([name in mask for name in origins], np.float32) if mask else None,
        features=features,
    )


def read(file: Path, form: Form, target: str, index: bool) -> tuple[pd.DataFrame, str]:
    """The table, and its text where it is a text file."""
    packed = file.suffix.lower() == ".gz"
    suffix = (Path(file.stem) if packed else file).suffix.lower()
    if suffix not in SUFFIXES and (suffix != ".parquet" or packed):
        known = f"{', '.join(SUFFIXES)} (or each of them with .gz) or .parquet"
        raise UserError(f"data.file: {file} is no {known} file; fix: write it as one of these")
    if suffix == ".parquet" and form.stated:
        raise UserError(f"data.{form.stated[0]}: {file} is no text file; fix: leave it out")
    try:
        frame, text = (pd.read_parquet(file), "") if suffix == ".parquet" else from_text(file, form, target, index)
    except UserError:
        raise
    except Exception as error:  # parsers raise a dozen types
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        raise UserError(f"data.file: {file} is not readable ({reason}); fix: correct the file") from error
    if len(frame) < 10:
        raise UserError(f"data.file: {file} has {len(frame)} rows; fix: give ten or more")
    return (without_index(frame, file) if index else frame), text


def without_index(frame: pd.DataFrame, file: Path) -> pd.DataFrame:
    """The table without its first column, which numbers the rows or names them."""
    labels = frame.iloc[:, 0]
    if not labels.is_unique:
        said = (
            f"the first column of {file} does not number the rows, it holds {labels[labels.duplicated()].iloc[0]} twice"
        )
        raise UserError(f"data.index: true: {said}; fix: leave data.index out")
    return frame.iloc[:, 1:]


def refuse_row_numbers(inputs: pd.DataFrame, file: str, index: bool) -> None:
    """Raise a UserError for an input that is likely none; one that is named in `columns` is one."""
    for place, (name, column) in enumerate(inputs.items()):
        if why := row_numbers(column, list(inputs.columns)):
            rest = [str(other) for other in inputs.columns if other != name]
            if index or place > 0:
                fix = f"fix: data.columns names the inputs, such as [{', '.join(rest[:6])}{', …' * (len(rest) > 6)}]"
            else:
                fix = "fix: data.index: true leaves it out, or data.columns names it among the inputs"
            raise UserError(f"{file}: {why}; {fix}")


def classes(column: pd.Series, file: str) -> tuple[np.ndarray, np.ndarray]:
    """Class numbers, (n,), twice: they are the strata of the split too."""
    values, counts = np.unique(column.astype(str) if column.dtype == object else column, return_counts=True)
    if len(values) < 2:
        raise UserError(f"{file}: the target '{column.name}' is constant; fix: name another column as target")
    if len(values) > max(2, len(column) // 5):
        fix = "fix: task: regression, or another column as target"
        raise UserError(f"{file}: the target '{column.name}' has {len(values)} classes in {len(column)} rows; {fix}")
    if counts.min() < 5:
        rare = values[counts.argmin()]
        fix = "fix: five or more rows of every class"
        raise UserError(f"{file}: the target '{column.name}' has {counts.min()} rows of class '{rare}'; {fix}")
    numbered = pd.Categorical(column.astype(type(values[0])), categories=values).codes.astype(np.int64)
    return numbered, numbered


def numbers(targets: pd.DataFrame, file: str) -> tuple[np.ndarray, np.ndarray]:
    """Targets (n, 1), and the quarter of them that each row is in."""
    y, _, _ = encoded(targets, "refuse", file)
    if y.std() == 0:
        raise UserError(f"{file}: the target '{targets.columns[0]}' is constant; fix: name another column as target")
    return y, np.searchsorted(np.quantile(y, [0.25, 0.5, 0.75]), y[:, 0])


def standardised(values: np.ndarray, train: np.ndarray) -> np.ndarray:
    """With mean and deviation of the training split; 0 everywhere where that split holds one value alone.

    Told by the values, not by a deviation of 0: that of a constant 0.1 is 1e-17, and another value elsewhere 1e15.
    """
    seen = values[train]
    constant = seen.min(0) == seen.max(0)
    found: np.ndarray = np.where(constant, 0.0, (values - seen.mean(0)) / np.where(constant, 1.0, seen.std(0)))
    return found


def chosen(frame: pd.DataFrame, names: Sequence[str], where: str) -> pd.DataFrame:
    """These columns, once all of them are there."""
    for name in names:
        if name not in frame.columns:
            raise UserError(f"{where}: no column '{name}'; {nearest(name, [str(c) for c in frame.columns])}")
    return frame[list(names)]


def without_missing(frame: pd.DataFrame, where: str, missing: Missing) -> pd.DataFrame:
    """The rows that are whole; those that are not are refused, or left out and counted on stderr."""
    counts = frame.isna().sum()
    if not (bad := {str(name): int(n) for name, n in counts.items() if n}):
        return frame
    named = ", ".join(f"'{name}' {n}" for name, n in list(bad.items())[:3])
    whole = frame.dropna()
    if missing == "refuse":
        fix = "fix: fill or drop these rows, or data.missing: drop"
        raise UserError(f"{where}: missing values ({named} of {len(frame)} rows); {fix}")
    if len(whole) < 10:
        raise UserError(f"{where}: {len(whole)} of {len(frame)} rows have no missing value; fix: leave columns out")
    print(f"note: {where}: {len(frame) - len(whole)} of {len(frame)} rows are left out ({named})", file=sys.stderr)
    return whole.reset_index(drop=True)


def refuse_hidden_numbers(
    frame: pd.DataFrame, text: Text, has_classes: bool, target: str, where: str, form: Form
) -> None:
    """Raise a UserError for text that would be numbers if the study said how they are written.

    Classes may be called anything but '?'. Who states `decimal` or `missing_as` has looked at them.
    """
    for name, column in frame.items():
        if pd.api.types.is_numeric_dtype(column) or pd.api.types.is_datetime64_any_dtype(column):
            continue
        unknown = int((column.astype(str).str.strip() == "?").sum())
        is_class = name == target and has_classes
        found = "" if is_class else advice(column, form)
        if unknown and form.missing_as is None and not found:
            found = "data.missing_as: ['?'] if it stands for a missing value, [] if not"
        confirmed = text == "one_hot" and name != target and (form.decimal or form.missing_as is not None)
        if found and not confirmed:
            example = next((v for v in column.astype(str) if not is_number(v)), column.iloc[0])
            shown = "?" if unknown else str(example)[:40]
            as_text = "; if it is text: data.decimal: '.'" if text == "one_hot" and name != target else ""
            raise UserError(f"{where}: column '{name}' holds text such as '{shown}'; fix: {found}{as_text}")


def encoded(frame: pd.DataFrame, text: Text, where: str) -> tuple[np.ndarray, list[str], list[str]]:
    """The columns as float64, (n, d), the name of each, and the column that each comes from.

    Numbers and truth values are themselves; a column of text is refused, or becomes a column of 0 and 1 for each value.
    """
    parts, names, origins = [], [], []
    for name, column in frame.items():
        if pd.api.types.is_datetime64_any_dtype(column):
            raise UserError(f"{where}: column '{name}' holds dates; fix: leave it out of columns, or make it a number")
        if pd.api.types.is_numeric_dtype(column):
            values, here = column.to_numpy(np.float64)[:, None], [str(name)]
        elif text == "one_hot":
            dummies = pd.get_dummies(column.astype(str), prefix=str(name), dtype=float)
            values, here = dummies.to_numpy(), [str(c) for c in dummies.columns]
        else:
            example = str(next((v for v in column if not is_number(v)), column.iloc[0]))[:40]
            several = column.nunique() > max(2, len(column) // 5)
            fix = f"fix: leave it out of columns{'' if several else ', or write text: one_hot'}"
            raise UserError(f"{where}: column '{name}' holds text such as '{example}'; {fix}")
        if infinite := int(np.isinf(values).sum()):
            raise UserError(
                f"{where}: column '{name}' holds {infinite} infinite values; fix: replace or drop these rows"
            )
        parts.append(values)
        names += here
        origins += [str(name)] * len(here)
    return np.concatenate(parts, 1), names, origins


def is_number(value: object) -> bool:
    try:
        float(str(value))
    except ValueError:
        return False
    return True
