"""A text file of separated values: read as the study says, refused where the file itself speaks against it.

Nothing is guessed. Every option has one default; a file that does not fit it is refused in one line, with the option
and the value that fit what is in the file.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from io import StringIO
from itertools import islice
from pathlib import Path
from typing import Any, Literal, get_args

import pandas as pd

from inputgrad.errors import UserError

Separator = Literal[",", ";", "|", "tab", "space"]
Decimal = Literal[".", ","]
Thousands = Literal[",", ".", "'", "space"]
SIGNS = {"tab": "\t", "space": " "}
"""Words for what cannot be seen in a YAML file."""
SUFFIXES = (".csv", ".tsv", ".txt")
LINES = 50
"""From the start of a file, by which its separator and its header are judged."""


@dataclass(frozen=True, kw_only=True)
class Form:
    """How a file is written; None: not stated, so that a file that can be read in two ways is refused."""

    separator: Separator | None = None
    decimal: Decimal | None = None
    thousands: Thousands | None = None
    encoding: str | None = None
    names: tuple[str, ...] = ()
    missing_as: tuple[str, ...] | None = None

    @property
    def stated(self) -> list[str]:
        return [name for name, value in vars(self).items() if value not in (None, ())]

    @property
    def sign(self) -> str:
        """Between two values."""
        return SIGNS.get(self.separator or ",", self.separator or ",")

    @property
    def group(self) -> str | None:
        """Between thousands."""
        return SIGNS.get(self.thousands, self.thousands) if self.thousands else None

    @property
    def point(self) -> str:
        """The decimal sign: a point that is between thousands leaves the comma."""
        return self.decimal or ("," if self.thousands == "." else ".")

    @property
    def options(self) -> dict[str, Any]:
        """The same in the words of pandas."""
        found: dict[str, Any] = {"sep": self.sign, "decimal": self.point, "thousands": self.group}
        if self.names:
            found |= {"header": None, "names": list(self.names)}
        if self.missing_as is not None:
            found |= {"keep_default_na": False, "na_values": ["", *self.missing_as]}
        return found


def from_text(file: Path, form: Form, target: str, index: bool) -> tuple[pd.DataFrame, str]:
    """The table, and the text that it was made from; `index`: the first column numbers the rows, it may lack a name."""
    if form.point == form.group:
        raise UserError(f"data.thousands and data.decimal are both '{form.point}'; fix: leave one of them out")
    raw = file.read_bytes()
    text = decoded(gzip.decompress(raw) if file.suffix.lower() == ".gz" else raw, file, form.encoding)
    refuse_other_layout(text, file, form, target, index)
    frame = pd.read_csv(StringIO(text), **form.options)
    start = rows(text, form.sign)[:2]
    if (
        not form.names and len(start) == 2 and len(start[1]) > len(start[0])
    ):  # pandas has put what numbers the rows aside
        frame = frame.reset_index(names="")
    empty = [c for c in frame.columns if str(c).startswith("Unnamed: ") and frame[c].isna().all()]
    return frame.drop(columns=empty), text  # such a column is made by a separator at the end of every line


def decoded(raw: bytes, file: Path, encoding: str | None) -> str:
    """The text of a file; the encoding that is stated must be one that it can be."""
    stated = encoding or "utf-8"
    try:
        name = codecs.lookup(stated).name
    except LookupError as error:
        raise UserError(f"data.encoding: there is no '{stated}'; fix: utf-8, cp1252, latin-1 or utf-16") from error
    plain = readable(raw, "utf-8-sig")
    text = plain if name == "utf-8" else readable(raw, name)
    if text is None or "\0" in text:
        fix = f"data.encoding: {likely_encoding(raw)}"
        raise UserError(f"data.file: {file} is not readable as {name}; fix: {fix}{example(raw)}")
    if name != "utf-8" and plain is not None and not plain.isascii() and "\0" not in plain:
        raise UserError(f"data.encoding: {stated}: {file} is UTF-8; fix: leave it out")
    return text


def readable(raw: bytes, encoding: str) -> str | None:
    try:
        return raw.decode(encoding)
    except ValueError:
        return None


def likely_encoding(raw: bytes) -> str:
    """By its first bytes and its zeros; a file of one byte a letter is taken for the commonest such encoding."""
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    if b"\0" in raw:
        return "utf-16-le" if raw[1::2].count(0) > raw[::2].count(0) else "utf-16-be"
    return "cp1252" if readable(raw, "cp1252") is not None else "latin-1"


def example(raw: bytes) -> str:
    """A word that shows whether an encoding is the right one: another of one byte a letter cannot be told from it."""
    words = re.findall(r"\w*[^\x00-\x7f]\w*", readable(raw, likely_encoding(raw)) or "")
    return f" ('{words[0][:20]}' is then a word of it; is it right?)" if words else ""


def rows(text: str, sign: str) -> list[list[str]]:
    """The first lines that are not empty, as their values."""
    try:
        return list(islice((row for row in csv.reader(StringIO(text), delimiter=sign) if row), LINES))
    except csv.Error:  # pandas says what is wrong
        return []


def refuse_other_layout(text: str, file: Path, form: Form, target: str, index: bool) -> None:
    """Raise a UserError where separator or header are not what the study says."""
    if text.startswith("sep="):
        fix = f"fix: delete this line, and write data.separator: '{text[4:5]}'"
        raise UserError(f"{file}: its first line '{text[:5]}' is for Excel alone; {fix}")
    first = rows(text, form.sign)
    if len(first) < 2:
        return
    header, width = first[0], len(first[1])
    if form.names:
        if len(form.names) != width:
            given = f"data.names gives {len(form.names)} names, {file} has {width} columns"
            raise UserError(f"{given}; fix: one name for each")
        return
    if target not in [name.strip() for name in header] or len(header) == 1:
        refuse_other_separator(text, file, form, target)
    # pandas would take what the first line does not name for row numbers, and every name for the column beside it
    if width > len(header):
        if not any(row[-1].strip() for row in first[1:] if len(row) == width):
            raise UserError(f"{file}: every line but the first ends with '{form.sign}'; fix: write it there too")
        said = f"{file}: its first line names {len(header)} columns, the next has {width}"
        if width > len(header) + 1:
            raise UserError(f"{said}; fix: begin the file with the names of its columns")
        if not index:
            fix = "fix: name them all, or data.index: true if the first column numbers the rows"
            raise UserError(f"{said}; {fix}")
    if is_data(header, target):
        fix = f"fix: data.names: [a, b, …], one name for each of its {len(header)} columns"
        raise UserError(f"{file}: its first line holds values ({', '.join(header)[:40]}), no names; {fix}")
    for name, count in Counter(header).items():
        if name and count > 1:
            raise UserError(
                f"{file}: {count} columns are called '{name}'; fix: give each a name of its own in the file"
            )


def refuse_other_separator(text: str, file: Path, form: Form, target: str) -> None:
    """Raise a UserError that names the separator by which the first lines fall into columns, if there is one."""
    found = {}
    for name in get_args(Separator):
        tried = rows(text, SIGNS.get(name, name))
        widths = {len(row) for row in tried}
        if name != (form.separator or ",") and widths and min(widths) > 1 and (len(widths) == 1 or target in tried[0]):
            found[name] = (target in tried[0], len(tried[0]))
    if not found:
        return
    name, (has_target, width) = max(found.items(), key=lambda item: item[1])
    if has_target or len(rows(text, form.sign)[0]) == 1:
        shown = name if name in SIGNS else f"'{name}'"
        fix = f"fix: data.separator: {shown} (then it has {width} columns)"
        raise UserError(f"{file}: its values are not separated by '{form.separator or ','}'; {fix}")


def is_data(header: Sequence[str], target: str) -> bool:
    """Whether a first line holds values. Numbers may be names, such as of pixels, but they count then."""
    numbers = [field for field in header if re.fullmatch(r"[-+]?\d*[.,]?\d+(e[-+]?\d+)?", field.strip(), re.IGNORECASE)]
    if target not in header:
        return 2 * len(numbers) > len(header)
    counted = [[str(i + first) for i in range(len(header))] for first in (0, 1)]
    return len(numbers) == len(header) and list(header) not in counted
