"""Columns of a table as numbers: what cannot be one is refused with its name and a count."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import pandas as pd

from inputgrad.errors import UserError, nearest

Text = Literal["refuse", "one_hot"]


def chosen(frame: pd.DataFrame, names: Sequence[str], where: str) -> pd.DataFrame:
    """These columns, once all of them are there."""
    for name in names:
        if name not in frame.columns:
            raise UserError(f"{where}: no column '{name}'; {nearest(name, [str(c) for c in frame.columns])}")
    return frame[list(names)]


def refuse_missing(frame: pd.DataFrame, where: str) -> None:
    counts = frame.isna().sum()
    if bad := {str(name): int(n) for name, n in counts.items() if n}:
        named = ", ".join(f"'{name}' {n}" for name, n in list(bad.items())[:3])
        raise UserError(f"{where}: missing values ({named} of {len(frame)} rows); fix: fill or drop these rows")


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
            fix = "fix: leave it out of columns, or write text: one_hot"
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
