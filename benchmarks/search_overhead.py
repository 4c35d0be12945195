"""What a trial's storage and tracking cost: python -m benchmarks.search_overhead [rounds] [epochs]

Three figures, each taken in one process: the trial as the search runs it against the same training and scoring with
nothing around them (in turn, paired, so that a slow moment hits both); the seconds that asking, reporting and telling
take, with training left out; and the seconds that MLflow takes for a trial, which the command spends next to its
workers.
"""

import copy
import os
import sys
import time

import numpy as np

from pipeline.quiet import NO_TELEMETRY

os.environ.update(NO_TELEMETRY, OMP_NUM_THREADS="1")

from benchmarks.elsewhere import elsewhere
from pipeline.search import objective, rung
from pipeline.search.loop import Loop
from pipeline.search.record import Record
from pipeline.search.storage import opened
from pipeline.search.task import SearchTask
from pipeline.stages import runner
from pipeline.stages.train import Trainer, train_epoch, validate
from pipeline.study.read import read_study
from pipeline.tracking import search as tracking
from pipeline.workers.local import Here

LONG = 10.0
"""Seconds of the trial that the overhead is compared with."""


def seconds(action) -> float:
    """How long it takes."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def one_more(loop: Loop) -> None:
    """The search runs until it has one trial more."""
    object.__setattr__(loop.task, "trials", loop.task.trials + 1)  # frozen, but what it has worked out stays true
    loop.run()


def bare(task: SearchTask) -> None:
    """A trial's training and scores, in memory alone."""
    run, dataset = task.run, objective.read_splits(task.study)
    trainer = Trainer.fresh(run, dataset)
    for epoch in range(1, run.epochs + 1):
        train_epoch(trainer), validate(trainer)
        if epoch in objective.rungs(run.epochs):
            objective.scores(copy.deepcopy(trainer.model), run, trainer.dataset)


def main(rounds: int) -> None:
    """Print the figures."""
    runner.prepare("digits")
    task = SearchTask(study=read_study("digits"), loss="gradient_norm", trials=0, prunes=False)
    with opened(task) as study:
        loop = Loop(task, study, Here())
        one_more(loop), bare(task)  # warm
        pairs = np.array([[seconds(lambda: bare(task)), seconds(lambda: one_more(loop))] for _ in range(rounds)])
        low, middle, high = np.quantile(pairs[:, 1] / pairs[:, 0], [0.25, 0.5, 0.75])
        print(f"a trial against its bare training: {middle:.3f} x [{low:.3f}, {high:.3f}], n = {rounds} pairs in turn")

        scores = rung.reference(task)
        rung.measure = lambda at: rung.RungResult(scores, at.epoch, 0.0)  # type: ignore[assignment]
        kept = [seconds(lambda: one_more(loop)) for _ in range(100)]
        Record.of(task, study).write()
        tracking.mirror(task.folder)  # imports MLflow and makes its tables: once, however many trials
        more = [seconds(lambda: one_more(loop)) for _ in range(50)]
        Record.of(task, study).write()
    mirrored = seconds(lambda: tracking.mirror(task.folder)) / len(more)
    count, alone = len(kept + more), float(np.median(kept + more))
    print(f"storage {1000 * alone:.0f} ms a trial (median of {count}), MLflow {1000 * mirrored:.0f} ms a trial")
    print(f"both together: {(alone + mirrored) / LONG:.2%} of a trial of {LONG:.0f} s")


if __name__ == "__main__":
    rounds, epochs = [*sys.argv[1:], *["10", "40"][len(sys.argv) - 1 :]]
    with elsewhere(epochs=epochs):
        main(int(rounds))
