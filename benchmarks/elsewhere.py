"""The study `digits` in a folder of its own, so that a benchmark leaves nothing behind."""

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.study.params import write_params
from pipeline.study.read import read_study

DIGITS = Path(__file__).parents[1] / "experiments" / "digits.yaml"


@contextmanager
def elsewhere(**training: object) -> Iterator[None]:
    """The current folder is one that holds this study alone, with other values under `training:`."""
    text = DIGITS.read_text(encoding="utf-8")
    for key, value in training.items():
        text, found = re.subn(rf"\b{key}: (\[[^]]*\]|[^,}}]+)", f"{key}: {value}", text, count=1)
        assert found, f"{DIGITS} has no {key}"
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        Path("experiments").mkdir()
        Path("experiments/digits.yaml").write_text(text, encoding="utf-8")
        Path("params.yaml").write_text("studies: [digits]\n", encoding="utf-8")
        write_params([read_study("digits")])
        yield
