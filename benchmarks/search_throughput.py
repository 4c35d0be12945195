"""How much faster are two workers than one? python -m benchmarks.search_throughput [pairs]

The same trials of `digits`, `gradient_norm` (random search, nothing pruned), by one worker and by two of one thread
each, in turn, so that a slow moment of the machine hits both. Time is taken between the start of the first trial and
the end of the last: what a long search sees.
"""

import os
import sys

import numpy as np

os.environ["OMP_NUM_THREADS"] = "1"

from pipeline.workers import local

local.fresh = True

from pipeline.search.crew import Crew

from benchmarks.elsewhere import elsewhere
from pipeline.search import objective, storage
from pipeline.search.record import Record
from pipeline.search.task import SearchTask
from pipeline.stages import commands
from pipeline.study.read import read_study

TRIALS = 8


def rate(workers: int, name: str) -> float:
    """Trials per second of one search."""
    task = SearchTask(
        study=read_study("digits"), loss="gradient_norm", trials=TRIALS, sampler="random", prunes=False, url=name
    )
    crew = Crew(task, storage.open_study(task))
    crew.start(workers)
    crew.watch(lambda: None)
    done = Record.of(task, crew.study).finished
    started, ended = min(t.datetime_start for t in done), max(t.datetime_complete for t in done)
    return TRIALS / (ended - started).total_seconds()


if __name__ == "__main__":
    pairs = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    with elsewhere():
        if pid := os.fork():  # this process must not use autograd: its workers are forked from it
            os.waitpid(pid, 0)
        else:
            commands.prepare("digits")
            study = read_study("digits")
            objective.standard(study, objective.read(study))
            os._exit(0)
        ratios = []
        for pair in range(pairs):
            order = (1, 2) if pair % 2 == 0 else (2, 1)
            rates = {workers: rate(workers, f"{pair}-{workers}.log") for workers in order}
            ratios.append(rates[2] / rates[1])
            print(f"1 worker {60 * rates[1]:.1f}/min, 2 workers {60 * rates[2]:.1f}/min: {ratios[-1]:.2f} x")
        low, middle, high = np.quantile(ratios, [0.25, 0.5, 0.75])
        print(f"2 workers against 1: {middle:.2f} x [{low:.2f}, {high:.2f}], n = {pairs} pairs of {TRIALS} trials")
