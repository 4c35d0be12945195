"""What a trial's storage and tracking cost: python -m benchmarks.search_overhead [rounds]

Three figures, each taken in one process: the trial as the search runs it against the same training with nothing around
it (in turn, paired, so that a slow moment hits both); the seconds that claiming, reporting and telling take, with
training left out; and the seconds that MLflow takes for a trial, which the command spends beside the workers.
"""

import os
import sys
import time

import numpy as np

from pipeline.quiet import NO_TELEMETRY

os.environ.update(NO_TELEMETRY, OMP_NUM_THREADS="1")

from benchmarks.elsewhere import elsewhere
from pipeline.search import objective, slots, storage, worker
from pipeline.search.record import Record
from pipeline.search.task import SearchTask
from pipeline.stages import commands
from pipeline.study.read import read_study
from pipeline.tracking import search as tracking

LONG = 10.0
"""Seconds of the trial that the overhead is compared with."""


def seconds(action) -> float:
    """How long it takes."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def main(rounds: int) -> None:
    """Print the figures."""
    commands.prepare("digits")
    study = read_study("digits")
    task = SearchTask(study=study, loss="gradient_norm", trials=1000, sampler="tpe", prunes=False)
    dataset = objective.read(study)
    optuna_study = storage.open_study(task)
    scores = worker.standard(task, optuna_study, dataset)

    def trial() -> None:
        worker.run_trial(task, optuna_study, slots.claim(task, optuna_study), dataset)

    def bare() -> None:
        objective.train(task.run, dataset, lambda *_: None)

    trial(), bare()  # warm
    pairs = np.array([[seconds(action) for action in (bare, trial)] for _ in range(rounds)])
    low, middle, high = np.quantile(pairs[:, 1] / pairs[:, 0], [0.25, 0.5, 0.75])
    print(f"a trial against its bare training: {middle:.3f} x [{low:.3f}, {high:.3f}], n = {rounds} pairs in turn")

    def looked(run, dataset, look):
        for epoch in objective.rungs(run.epochs):
            look(epoch, scores)
        return scores

    worker.objective.train = looked  # type: ignore[assignment]
    alone = [seconds(trial) for _ in range(100)]
    record = Record.of(task, optuna_study)
    record.write()
    tracking.mirror(task.folder)  # imports MLflow and makes its tables: once, however many trials
    more = [seconds(trial) for _ in range(50)]
    Record.of(task, optuna_study).write()
    mirrored = seconds(lambda: tracking.mirror(task.folder)) / len(more)
    kept = float(np.median(alone + more))
    print(
        f"storage {1000 * kept:.0f} ms a trial (median of {len(alone + more)}), MLflow {1000 * mirrored:.0f} ms a trial"
    )
    print(f"both together: {(kept + mirrored) / LONG:.2%} of a trial of {LONG:.0f} s")


if __name__ == "__main__":
    with elsewhere():
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 10)
