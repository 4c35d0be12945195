"""Is it worth it? python tests/benchmarks/search_quality.py [repeats] [loss ...]

For every repeat (a sampler seed) three searches of 30 trials on `digits`: TPE with pruning, TPE without, random search
without. All are scored alike, so that the comparisons are paired: the best robust validation accuracy that meets the
constraint, and the epochs that were spent. A net that was trained with the same knobs before is not trained again:
trials of the three searches that coincide (the random starts) cost nothing, and nothing else changes.
"""

import os
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))
os.environ["OMP_NUM_THREADS"] = "1"

from pipeline import config, stages
from pipeline.report.statistics import estimate
from pipeline.search import objective, storage, worker
from pipeline.search.record import Record, facts
from pipeline.search.task import SearchTask

KINDS = {"pruned": ("tpe", True), "tpe": ("tpe", False), "random": ("random", False)}
TRIALS = 30


@dataclass(frozen=True)
class Search:
    """One repeat of one kind."""

    loss: str
    kind: str
    seed: int


def run(search: Search) -> tuple[float, int]:
    """Best robust score of the search, and its epochs."""
    sampler, prunes = KINDS[search.kind]
    task = SearchTask(
        study=config.read("digits"),
        loss=search.loss,
        trials=TRIALS,
        sampler=sampler,
        prunes=prunes,
        seed=search.seed,
        url=f"{search.loss}-{search.kind}-{search.seed}.log",
    )
    worker.slots.fresh = without_present  # else every search begins with what the study states: no fair start
    worker.run_trials(task)
    record = Record.of(task, storage.open_study(task))
    return (facts(record.best)["robust"] if record.best else 0.0), record.epochs_used


def without_present(task: SearchTask, number: int, real=worker.slots.fresh):  # type: ignore[no-untyped-def]
    """A trial whose values the sampler chooses, in the first slot too."""
    trial = real(task, number)
    trial.params, trial.distributions = {}, {}
    return trial


def said(values: list[float]) -> str:
    """Mean and 95 % interval."""
    found = estimate(pd.Series(values))
    return f"{found.mean:+.3f} [{found.low:+.3f}, {found.high:+.3f}], n = {found.n}"


if __name__ == "__main__":
    repeats = int(sys.argv[1]) if len(sys.argv) > 1 else 10
    losses = sys.argv[2:] or ["gradient_norm", "fgsm"]
    text = (ROOT / "experiments" / "digits.yaml").read_text()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        Path("experiments").mkdir()
        Path("experiments/digits.yaml").write_text(text)
        stages.prepare("digits")
        study = config.read("digits")
        objective.standard(study, objective.read(study))
        todo = [Search(loss, kind, seed) for seed, loss, kind in product(range(repeats), losses, KINDS)]
        with ProcessPoolExecutor(2) as pool:
            results = dict(zip(todo, pool.map(run, todo), strict=True))
        for loss in losses:
            best, epochs = (
                {k: np.array([results[Search(loss, k, s)][part] for s in range(repeats)]) for k in KINDS}
                for part in (0, 1)
            )
            saved = 1 - epochs["pruned"] / epochs["tpe"]
            for kind in KINDS:
                print(f"{loss}: best of {kind}: {best[kind].mean():.3f} ({', '.join(f'{b:.3f}' for b in best[kind])})")
            print(f"{loss}: epochs saved by pruning: {said(list(saved))}; change of the best value by it:", end=" ")
            print(said(list(best["pruned"] - best["tpe"])))
            print(f"{loss}: TPE against random search, same budget: {said(list(best['tpe'] - best['random']))}")
