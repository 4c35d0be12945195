"""A study whose trials take a tenth of a second."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.search import storage
from pipeline.search.task import SearchTask
from pipeline.stages import commands
from pipeline.study.read import read_study
from tests.conftest import edit

ROOT = Path(__file__).parents[3]


@pytest.fixture
def searchable(project: Path) -> Path:
    """The study `tiny` with its data; eight epochs, so that trials may be pruned after 2 and 4."""
    edit(project / "experiments/tiny.yaml", "epochs: 3", "epochs: 8")
    commands.prepare("tiny")
    return project


def task(loss: str = "gradient_norm", trials: int = 6, **options: object) -> SearchTask:
    """A search of the study `tiny` as its file is now."""
    return SearchTask(study=read_study("tiny"), loss=loss, trials=trials, **options)  # type: ignore[arg-type]


def found(of: SearchTask) -> list[tuple[object, ...]]:
    """What every finished slot holds, without times and numbers."""
    from pipeline.search import slots

    study = storage.open_study(of)
    return [(slots.slot(t), t.state.name, t.params, t.values) for t in slots.finished(of, study)]


def start(*arguments: str) -> subprocess.Popen[str]:
    """`python -m pipeline search tiny …` in a process and a session of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "pipeline", "search", "tiny", *arguments],
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
