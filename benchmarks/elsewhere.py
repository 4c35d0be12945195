"""A study in a folder of its own, so that a benchmark leaves nothing behind."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

EXPERIMENTS = Path(__file__).parents[1] / "experiments"


@contextmanager
def elsewhere(study: str = "digits", old: str = "", new: str = "") -> Iterator[None]:
    """The current folder is one that holds this study alone, with a piece of its text replaced."""
    text = (EXPERIMENTS / f"{study}.yaml").read_text()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        Path("experiments").mkdir()
        Path(f"experiments/{study}.yaml").write_text(text.replace(old, new) if old else text)
        yield
