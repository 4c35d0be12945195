"""Numbers that are written in another way than a study says: as text, in groups of three, with a sign for none."""

from __future__ import annotations

import re
from collections.abc import Sequence
from io import StringIO

import numpy as np
import pandas as pd

from inputgrad.errors import UserError
from pipeline.data._delimited import SIGNS, Form

FORMS = tuple((point, group) for point in (".", ",") for group in (None, ",", ".", "space", "'") if point != group)
"""Decimal sign and what is between thousands, as an option names them."""
NONE = 3
"""Different texts that may stand for a missing value in a column of numbers."""


def pattern(point: str, group: str | None) -> re.Pattern[str]:
    whole = rf"\d{{1,3}}(?:{re.escape(SIGNS.get(group, group))}\d{{3}})+|\d+" if group else r"\d+"
    return re.compile(rf"\s*[-+]?(?:(?:{whole})(?:{re.escape(point)}\d*)?|{re.escape(point)}\d+)(?:[eE][-+]?\d+)?\s*")


def advice(column: pd.Series, form: Form) -> str:
    """What a study says of a column that should hold numbers and holds text; empty where nothing is likely."""
    values = column.dropna().astype(str)
    fits = [one for one in FORMS if all(pattern(*one).fullmatch(value) for value in values)]
    stated = (form.point, form.thousands)
    simple = [one for one in fits if one[1] is None] or fits
    both = [one for one in fits if one[1] is not None and one[0] == stated[0]]
    if fits and stated not in fits:
        return " or ".join(dict.fromkeys(named(*one, form) for one in (*simple[:1], *both[:1])))
    return missing_advice(values, form)


def named(point: str, group: str | None, form: Form) -> str:
    """The options that say so, as far as the study does not say them."""
    parts = [f"data.decimal: '{point}'"] if point != form.point else []
    if group != form.thousands:
        parts.append(f"data.thousands: {group if group in SIGNS else repr(group)}" if group else "no data.thousands")
    return " with ".join(parts)


def missing_advice(values: pd.Series, form: Form) -> str:
    """Where most values are numbers, and the others are a few signs such as '?'."""
    number = pattern(form.point, form.thousands)
    others = sorted({value for value in values if not number.fullmatch(value)})
    few = len(others) <= NONE and 2 * sum(values.isin(others)) < len(values)
    if not others or not few or any(re.search(r"\d", other) for other in others):
        return ""
    return f"data.missing_as: {[*(form.missing_as or ()), *others]} if it stands for a missing value"


def refuse_two_readings(frame: pd.DataFrame, text: str, where: str, form: Form) -> None:
    """Raise a UserError for numbers of a text file that may mean another: 20.971 beside 912; 1,5 where , groups."""
    numeric = [name for name, column in frame.items() if column.dtype.kind in "iuf"]
    if form.thousands is None:
        numeric = [name for name in numeric if form.decimal is None and may_be_grouped(frame[name])]
    if not numeric:
        return
    # all columns, for without the first one pandas would not see what numbers the rows
    written = pd.read_csv(StringIO(text), **{**form.options, "dtype": str, "thousands": None})[numeric].dropna()
    for name in numeric:
        values = written[name]
        if form.thousands is not None:
            refuse_other_groups(values, where, form)
        elif values.str.fullmatch(r"[-+]?(?:[1-9]\d{0,2}(?:\.\d{3})?|0)").all():
            with_point = values.str.contains(".", regex=False)
            said = f"column '{name}' holds {values[with_point].iloc[0]} and {values[~with_point].iloc[0]}"
            fix = "fix: data.decimal: '.' or data.thousands: '.', whichever it is"
            raise UserError(f"{where}: {said}: is its point a decimal sign or between thousands? {fix}")


def may_be_grouped(column: pd.Series) -> bool:
    """Whether numbers read with a decimal point are whole ones below 1000 and others of three decimals."""
    values = column.dropna().to_numpy(np.float64)
    whole = values == np.round(values)
    thousandths = np.abs(values * 1000 - np.round(values * 1000)) < 1e-6
    return bool(whole.any() and not whole.all() and thousandths.all() and (np.abs(values) < 1000).all())


def refuse_other_groups(values: pd.Series, where: str, form: Form) -> None:
    number = pattern(form.point, form.thousands)
    for value in values:
        if re.search(r"\d", value) and not number.fullmatch(value):
            fix = f"fix: leave data.thousands out, or data.decimal: '{form.group}' if that is its decimal sign"
            raise UserError(f"{where}: column '{values.name}' holds '{value}', no groups of three digits; {fix}")


def row_numbers(column: pd.Series, columns: Sequence[str]) -> str:
    """Why a column is likely no input: it has no name, or counts the rows."""
    name = str(column.name)
    counts = pd.api.types.is_integer_dtype(column) and any(
        np.array_equal(column.to_numpy(), np.arange(len(column)) + first) for first in (0, 1)
    )
    if re.fullmatch(r"Unnamed: \d+(\.\d+)*", name):
        return f"column {columns.index(name) + 1} has no name{' and counts the rows' if counts else ''}"
    return f"column '{name}' counts the rows" if counts else ""
