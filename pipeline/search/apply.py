"""The best trial back into the study: one line of experiments/STUDY.yaml changes, everything else stays as it is."""

from __future__ import annotations

import re
from collections.abc import Mapping
from io import StringIO
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap

from inputgrad import files
from inputgrad.errors import UserError

MARK = re.compile(r"(\s*#|;) search: trial \d+ of \d+")
"""What an earlier search has written at the end of the line."""


def line(file: Path, loss: str, knobs: Mapping[str, float], comment: str) -> str:
    text = edited(file, loss, knobs, comment)
    return text.splitlines()[line_of(text, loss)].strip()


def apply(file: Path, loss: str, knobs: Mapping[str, float], comment: str) -> None:
    """Write the knobs of one loss into a study.

    Args:
        file: of the study.
        loss: whose line is changed.
        knobs: the values.
        comment: goes behind the line, in the place of an earlier search's.
    """
    text = edited(file, loss, knobs, comment)
    with files.replacing(file) as temporary:
        temporary.write_text(text, encoding="utf-8")


def edited(file: Path, loss: str, knobs: Mapping[str, float], comment: str) -> str:
    yaml, before = layout(), file.read_text(encoding="utf-8")
    study = yaml.load(before)
    if dumped(yaml, study) != before:
        stated = ", ".join(f"{name}: {value!r}" for name, value in knobs.items())
        raise UserError(f"{file}: its layout would not survive; write it yourself: losses.{loss}: {{{stated}}}")
    if not study["losses"][loss]:
        study["losses"][loss] = CommentedMap()
        study["losses"][loss].fa.set_flow_style()
    for name, value in knobs.items():
        study["losses"][loss][name] = value
    lines = dumped(yaml, study).splitlines(keepends=True)
    number = line_of("".join(lines), loss)
    content = MARK.sub("", lines[number].rstrip("\n"))
    lines[number] = f"{content}{';' if ' #' in content else '  #'} {comment}\n"
    return "".join(lines)


def line_of(text: str, loss: str) -> int:
    return int(layout().load(text)["losses"].lc.key(loss)[0])


def layout() -> YAML:
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 10**6
    return yaml


def dumped(yaml: YAML, value: Any) -> str:
    text = StringIO()
    yaml.dump(value, text)
    return text.getvalue()
