"""Is a search worth its epochs? python -m benchmarks.search_quality [loss] [repeats] [values]

First a table: a loss with one knob (`gradient_norm`) on `digits`, really trained at every one of `values` values of it,
evenly spaced on the log scale of its range, with the scores at every rung and at the end. Then, for every repeat (a
sampler seed), three whole searches of 30 trials through the search's own code, in which a trial looks its scores up at
the nearest trained value: TPE with pruning, TPE without, random search without. Repeats are paired: they share their
random starts. The slot that tries what the study states is left out, so that all start alike.
"""

import os
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd

os.environ["OMP_NUM_THREADS"] = "1"

from benchmarks.elsewhere import elsewhere
from pipeline.results.statistics import estimate
from pipeline.search import objective, space, storage, worker
from pipeline.search.record import Record, facts
from pipeline.search.task import SearchTask
from pipeline.stages import commands
from pipeline.study.read import read_study

KINDS = {"pruned": ("tpe", True), "tpe": ("tpe", False), "random": ("random", False)}
TRIALS = 30
DEFAULTS = ["gradient_norm", "10", "80"]


def search(loss: str, kind: str = "tpe", seed: int = 0) -> SearchTask:
    """One repeat of one kind."""
    sampler, prunes = KINDS[kind]
    url = f"{kind}-{seed}.log"
    study = read_study("digits")
    return SearchTask(study=study, loss=loss, trials=TRIALS, sampler=sampler, prunes=prunes, seed=seed, url=url)


def knob(task: SearchTask) -> str:
    """The only one that is searched."""
    (name,) = task.space
    return name


def trained(loss: str, value: float) -> list[tuple[int, objective.Scores]]:
    """Scores at the rungs and at the end of a real training."""
    task, found = search(loss), []
    run = task.run
    run = replace(run, study=space.with_knobs(run.study, loss, {knob(task): value}))
    last = objective.train(run, objective.read(run.study), lambda epoch, scores: found.append((epoch, scores)))
    return [*found, (run.epochs, last)]


def looked_up(name: str, table: dict[float, list[tuple[int, objective.Scores]]]):
    """In the place of `objective.train`."""
    values = np.array(sorted(table))

    def train(run, dataset, look):
        nearest = values[np.abs(np.log(values / getattr(run.loss, name))).argmin()]
        *rungs, (_, last) = table[float(nearest)]
        for epoch, scores in rungs:
            look(epoch, scores)
        return last

    return train


def result(loss: str, kind: str, seed: int) -> tuple[float, int]:
    """Best robust score that meets the constraint, and the epochs spent."""
    task = search(loss, kind, seed)
    worker.run_trials(task)
    record = Record.of(task, storage.open_study(task))
    return (facts(record.best)["robust"] if record.best else 0.0), record.epochs_used


def said(values: np.ndarray) -> str:
    """Mean and 95 % interval."""
    found = estimate(pd.Series(values))
    return f"{found.mean:+.3f} [{found.low:+.3f}, {found.high:+.3f}], n = {found.n}"


def main(loss: str, repeats: int, count: int) -> None:
    """Print the figures."""
    commands.prepare("digits")
    study = read_study("digits")
    objective.standard(study, objective.read(study))
    name = knob(search(loss))
    low, high, _ = space.ranges(study, loss)[name]
    values = [space.rounded(value) for value in np.geomspace(low, high, count)]
    with ProcessPoolExecutor(2) as pool:
        table = dict(zip(values, pool.map(partial(trained, loss), values), strict=True))
    worker.objective.train = looked_up(name, table)  # type: ignore[assignment]
    worker.slots.space.present = lambda *_: None
    limit = search(loss).limit(objective.standard(study, objective.read(study)).clean)
    reachable = max(ends[-1][1].robust for ends in table.values() if ends[-1][1].clean >= limit - 1e-9)
    best, epochs = {}, {}
    for kind in KINDS:
        found = np.array([result(loss, kind, seed) for seed in range(repeats)])
        best[kind], epochs[kind] = found[:, 0], found[:, 1]
        print(f"best of {kind}: mean {best[kind].mean():.3f} of {reachable:.3f} reachable; each: {best[kind].round(3)}")
    print(f"epochs saved by pruning (share): {said(1 - epochs['pruned'] / epochs['tpe'])}")
    print(f"best value with pruning less without: {said(best['pruned'] - best['tpe'])}")
    print(f"best value of TPE less random search, same trials: {said(best['tpe'] - best['random'])}")
    print(f"best value of pruned TPE less random search, fewer epochs: {said(best['pruned'] - best['random'])}")


if __name__ == "__main__":
    with elsewhere():
        loss, repeats, count = [*sys.argv[1:], *DEFAULTS[len(sys.argv) - 1 :]]
        main(loss, int(repeats), int(count))
