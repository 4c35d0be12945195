"""How much faster are two workers than one? python -m benchmarks.search_throughput [pairs] [trials]

The same trials of `digits`, `gradient_norm` (random search, nothing pruned), by one worker and by two of one thread
each, in turn, so that a slow moment of the machine hits both. Time is taken between the start of the first trial and
the end of the last: what a long search sees.
"""

import os
import sys

import numpy as np

os.environ["OMP_NUM_THREADS"] = "1"

from benchmarks.elsewhere import elsewhere
from pipeline.search.loop import Loop
from pipeline.search.record import Record
from pipeline.search.storage import opened
from pipeline.search.task import SearchTask
from pipeline.stages import runner
from pipeline.study.read import read_study
from pipeline.workers import local, process

process.fresh = True  # this process runs nothing of torch: its workers are forked from it, as the command's are


def rate(workers: int, name: str, trials: int) -> float:
    """Trials per second of one search."""
    task = SearchTask(
        study=read_study("digits"), loss="gradient_norm", trials=trials, sampler="random", prunes=False, url=name
    )
    with local.Processes(workers) as executor, opened(task) as study:
        Loop(task, study, executor).run()
        done = Record.of(task, study).finished
    started, ended = min(t.datetime_start for t in done), max(t.datetime_complete for t in done)
    return trials / (ended - started).total_seconds()


def main(pairs: int, trials: int) -> None:
    """Print the figures."""
    runner.prepare("digits")
    ratios = []
    for pair in range(pairs):
        order = (1, 2) if pair % 2 == 0 else (2, 1)
        rates = {workers: rate(workers, f"{pair}-{workers}.log", trials) for workers in order}
        ratios.append(rates[2] / rates[1])
        print(f"1 worker {60 * rates[1]:.1f}/min, 2 workers {60 * rates[2]:.1f}/min: {ratios[-1]:.2f} x", flush=True)
    low, middle, high = np.quantile(ratios, [0.25, 0.5, 0.75])
    print(f"2 workers against 1: {middle:.2f} x [{low:.2f}, {high:.2f}], n = {pairs} pairs of {trials} trials")


if __name__ == "__main__":
    with elsewhere():
        pairs, trials = [*sys.argv[1:], *["5", "8"][len(sys.argv) - 1 :]]
        main(int(pairs), int(trials))
