"""Is a search worth its epochs? python -m benchmarks.search_quality [loss] [repeats] [values]

First a table: a loss with one knob (`gradient_norm`) on `digits`, really trained at every one of `values` values of it,
evenly spaced on the log scale of its range, with the scores at every rung and at the end. Then, for every repeat (a
sampler seed), three whole searches of 30 trials through the search's own code, in which a trial looks its scores up at
the nearest trained value: TPE with pruning, TPE without, random search without. Repeats are paired: they share their
random starts. The slot that tries what the study states is left out, so that all start alike.
"""

import os
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

os.environ["OMP_NUM_THREADS"] = "1"

from benchmarks.elsewhere import elsewhere
from pipeline.results.statistics import estimate
from pipeline.search import objective, rung, space, storage
from pipeline.search.loop import Loop
from pipeline.search.record import Record, facts
from pipeline.search.rung import Rung, RungResult, TrialRun
from pipeline.search.task import SearchTask
from pipeline.stages import runner
from pipeline.study.read import read_study
from pipeline.workers.local import Here, each, local

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


def trained(loss: str, value: float) -> list[RungResult]:
    """What a real training shows at every rung and at its end."""
    task = search(loss)
    study = space.with_knobs(task.run.study, loss, {knob(task): value})
    run = TrialRun(study, loss, task.run.seed, Path(f"trained-{value}"))
    return [rung.measure(Rung(run, epoch)) for epoch in objective.rungs(run.epochs)]


def looked_up(name: str, table: dict[float, list[RungResult]]):
    """In the place of `rung.measure`."""
    values = np.array(sorted(table))

    def measure(at: Rung) -> RungResult:
        nearest = values[np.abs(np.log(values / getattr(at.run.loss, name))).argmin()]
        return table[float(nearest)][objective.rungs(at.run.epochs).index(at.epoch)]

    return measure


def result(loss: str, kind: str, seed: int) -> tuple[float, int]:
    """Best robust score that meets the constraint, and the epochs spent."""
    task = search(loss, kind, seed)
    with storage.opened(task) as study:
        Loop(task, study, Here()).run()
        record = Record.of(task, study)
    return (facts(record.best)["robust"] if record.best else 0.0), record.epochs_used


def said(values: np.ndarray) -> str:
    """Mean and 95 % interval."""
    found = estimate(pd.Series(values))
    return f"{found.mean:+.3f} [{found.low:+.3f}, {found.high:+.3f}], n = {found.n}"


def main(loss: str, repeats: int, count: int) -> None:
    """Print the figures."""
    runner.prepare("digits")
    task = search(loss)
    name = knob(task)
    values = [space.rounded(value) for value in np.geomspace(task.space[name].low, task.space[name].high, count)]
    with local() as workers:
        table = {value: future.result() for value, future in each(workers, partial(trained, loss), values)}
        standard = workers.submit(rung.reference, task).result()
    rung.measure = looked_up(name, table)  # type: ignore[assignment]
    rung.reference = lambda _: standard  # type: ignore[assignment]
    space.present = lambda *_: None  # type: ignore[assignment]
    limit = task.limit(standard.clean)
    last = [ends[-1].scores for ends in table.values() if ends[-1].scores]
    reachable = max(scores.robust for scores in last if scores.clean >= limit - 1e-9)
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
