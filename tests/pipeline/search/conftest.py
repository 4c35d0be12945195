"""A study whose trials take a tenth of a second."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import optuna
import pytest

from pipeline.search import loop, rung, storage
from pipeline.search.loop import Loop
from pipeline.search.objective import Scores
from pipeline.search.record import Record
from pipeline.search.task import SearchTask
from pipeline.stages import runner
from pipeline.study.read import read_study
from pipeline.workers.local import Here
from tests.conftest import edit

ROOT = Path(__file__).parents[3]


@pytest.fixture
def searchable(project: Path) -> Path:
    """The study `tiny` with its data; eight epochs, so that trials may be pruned after 2 and 4."""
    edit(project / "experiments/tiny.yaml", "epochs: 3", "epochs: 8")
    runner.prepare("tiny")
    return project


@pytest.fixture
def untrained(searchable: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Trials take no time at all: their scores are a function of the knobs and the epoch."""

    def measure(task: rung.Rung) -> rung.RungResult:
        strength = task.run.loss.strength
        robust = 0.5 + 0.01 * task.epoch - 0.1 * abs(strength - 0.2) ** 0.5
        return rung.RungResult(Scores(0.9 - 0.02 * strength, robust), task.epoch, 0.0)

    monkeypatch.setattr(rung, "measure", measure)
    monkeypatch.setattr(rung, "reference", lambda _: Scores(0.9, 0.1))
    return searchable


def task(loss: str = "gradient_norm", trials: int = 6, **options: object) -> SearchTask:
    """A search of the study `tiny` as its file is now."""
    return SearchTask(study=read_study("tiny"), loss=loss, trials=trials, **options)  # type: ignore[arg-type]


def search(of: SearchTask) -> Record:
    """The whole search in this process, with one worker."""
    with storage.opened(of) as study:
        Loop(of, study, Here()).run()
        return Record.of(of, study)


def stored(of: SearchTask) -> optuna.Study:
    """The search as its storage has it now; nothing is written there."""
    return optuna.load_study(study_name=of.name, storage=storage.connect(of.storage))


def found(of: SearchTask) -> list[tuple[object, ...]]:
    """What every finished slot holds, without times and numbers; empty while there is no search."""
    try:
        study = stored(of)
    except KeyError:
        return []
    return [(loop.slot(t), t.state.name, t.params, t.values) for t in loop.finished(of, study)]


def check_complete(of: SearchTask) -> None:
    """Every slot exactly once, nothing left over, every lost trial tried again with its values."""
    study = stored(of)
    done = [t for t in study.get_trials() if t.state in loop.FINISHED]
    assert sorted(loop.slot(t) for t in done) == list(range(of.trials))
    assert {t.state.name for t in study.get_trials()} <= {"COMPLETE", "PRUNED", "FAIL"}
    for lost in study.get_trials(states=(optuna.trial.TrialState.FAIL,)):
        again = next(t for t in done if loop.slot(t) == loop.slot(lost))
        assert not lost.params or again.params == lost.params
    assert not of.state.exists()  # no training of a trial is left


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
