"""What a worker does: train one trial up to a rung, and score the weights that the study would keep by then.

A rung is the whole task, so it may be run again at any time: the training resumes from its state, which never goes
beyond the next rung.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path

from inputgrad import files
from pipeline import layout, store
from pipeline.data import Dataset
from pipeline.search import objective
from pipeline.search.objective import Scores
from pipeline.search.task import SearchTask
from pipeline.stages.train import Diverged, train
from pipeline.study.run import Run


@dataclass(frozen=True)
class TrialRun(Run):
    """The training of a trial. `place` is the trial's alone: two trials with equal values must not share a state."""

    place: Path

    @property
    def state(self) -> Path:
        return self.place / self.fingerprint


@dataclass(frozen=True)
class Rung:
    """The task: train this run until it has that many epochs behind it."""

    run: TrialRun
    epoch: int

    @property
    def name(self) -> str:
        knobs = ", ".join(f"{name} {getattr(self.run.loss, name):g}" for name in type(self.run.loss).search)
        return f"{self.run.name} ({knobs})"


@dataclass(frozen=True)
class RungResult:
    """What was seen at a rung. `scores` is None where the training diverged; then `reason` says it."""

    scores: Scores | None
    epochs: int
    seconds: float
    reason: str = ""


def measure(rung: Rung) -> RungResult:
    run, start = rung.run, time.monotonic()
    dataset, reason = objective.read_splits(run.study), ""
    scores: Scores | None = None
    try:
        folder = trained(run, dataset, rung.epoch)
        scores = objective.scores(objective.kept(run, dataset, folder), run, dataset.to(run.device))
        if not (math.isfinite(scores.clean) and math.isfinite(scores.robust)):
            scores, reason = None, f"{run.name}: a validation score is not finite after epoch {rung.epoch}"
    except Diverged as error:
        reason = str(error)
    return RungResult(scores, epochs_of(run), round(time.monotonic() - start, 3), reason)


def trained(run: TrialRun, dataset: Dataset, epoch: int) -> Path:
    """The run's folder with exactly that many epochs; a state that went further (of a lost look) begins anew."""
    if epochs_of(run) > epoch:
        files.remove(run.state)
    return train(run, dataset, until=epoch)


def epochs_of(run: TrialRun) -> int:
    last = run.state / layout.LAST
    return int(store.load_checkpoint(last, f"delete {run.state}")["epoch"]) if last.exists() else 0


def reference(task: SearchTask) -> Scores:
    """The first task of a search: refuse what no strength could fix, and score `standard`."""
    dataset = objective.read_splits(task.study)
    objective.refuse_unusable(task.run, dataset)
    return objective.standard(task.study, dataset)
