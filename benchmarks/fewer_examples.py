"""What attacking fewer examples costs: how wide the intervals become, from the outcomes of a study on all of them.

    python -m benchmarks.fewer_examples [STUDY]    # digits; after a run without `attack.examples`

For each number the first so many examples count, as in a study that says so. The width is that of the 95 % interval
over seeds of a loss's difference from `standard` in robust score at the headline ε, mean over losses; `moved` is how
far the differences themselves are from those on all examples, mean over losses, in points.
"""

from __future__ import annotations

import sys

import numpy as np
import pandas as pd
from scipy import stats

from pipeline import layout
from pipeline.study.read import read_study
from pipeline.study.schema import Study

SHARES = (1 / 6, 1 / 4, 1 / 3, 1 / 2, 2 / 3, 1)


def standing(study: Study, loss: str, seed: int) -> pd.Series:
    """Whether nothing has broken an example inside the headline ball, by example."""
    attack = study.attack
    outcomes = pd.read_parquet(layout.stage(study.name, loss, "attack") / f"seed-{seed}" / "outcomes.parquet")
    inside = outcomes["norm"].isin(["none", attack.norm]) & (outcomes["epsilon"] <= attack.epsilon)
    return ~outcomes[inside].groupby("example")["broken"].any()


def width(values: np.ndarray) -> float:
    n = len(values)
    return float(2 * stats.t.ppf(0.975, n - 1) * values.std(ddof=1) / np.sqrt(n))


if __name__ == "__main__":
    study = read_study(sys.argv[1] if len(sys.argv) > 1 else "digits")
    seeds = study.training.seeds
    found = {loss: np.stack([standing(study, loss, seed) for seed in seeds]) for loss in study.losses}
    total = found["standard"].shape[1]
    rows = []
    for n in (round(share * total) for share in SHARES):
        differences = {
            loss: 100 * (flags[:, :n].mean(1) - found["standard"][:, :n].mean(1))
            for loss, flags in found.items()
            if not (flags == found["standard"]).all()
        }
        rows.append(
            (n, np.mean([width(d) for d in differences.values()]), {k: d.mean() for k, d in differences.items()})
        )
    whole = rows[-1]
    print("| examples | interval, points | × that on all | moved, points |\n|---:|---:|---:|---:|")
    for n, wide, means in rows:
        moved = np.mean([abs(means[loss] - whole[2][loss]) for loss in means])
        print(f"| {n} | {wide:.2f} | {wide / whole[1]:.2f} | {moved:.2f} |")
    print(f"\n{len(whole[2])} losses that differ from `standard`, {len(seeds)} seeds, {total} examples in all.")
