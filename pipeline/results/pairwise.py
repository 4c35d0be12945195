"""Every loss against every other on the same examples and seeds."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from inputgrad.robustness.scores import CONFIDENCE, scores
from pipeline.results.quantity import BASELINE
from pipeline.results.statistics import Estimate, estimate, holm, p_value, paired_difference
from pipeline.study.schema import Study

COLUMNS = [
    *("loss", "other", "difference", "low", "high", "p", "q", "holm", "n_seeds", "n_examples"),
    *("examples_low", "examples_high", "beyond_luck"),
]


def compare(harm: pd.DataFrame, study: Study, losses: list[str]) -> pd.DataFrame:
    """Paired differences of the headline robust score, loss − other, a row per pair.

    low, high, p: Student's t over the seeds that both losses have (chance in training). q: p after Benjamini and
    Hochberg over all pairs. holm: p of the pairs with `standard` after Holm over them alone. examples_low,
    examples_high: Student's t over the examples, each the mean over seeds of its difference (chance in the test split):
    in whether it stands, or for a regression in its squared error.
    beyond_luck: q is small and neither interval holds 0.

    Args:
        harm: a row per loss and seed, a column per example: 1 where it is broken, or its squared error.
        study: says which.
        losses: in the order of the pairs.
    """
    score = scores(harm, study.task)
    good = study.task.parts_of_score(harm)
    rows = [pair(score, good, loss, other) for loss, other in combinations(losses, 2)]
    table = pd.DataFrame(rows, columns=[name for name in COLUMNS if name not in ("q", "holm", "beyond_luck")])
    bounds = ["low", "high", "examples_low", "examples_high"]
    table[bounds] = table[bounds].astype(float)  # None where there is one seed
    tested = table["p"].notna()
    table["q"] = np.nan
    if tested.any():
        table.loc[tested, "q"] = stats.false_discovery_control(table.loc[tested, "p"], method="bh")
    with_baseline = tested & ((table["loss"] == BASELINE) | (table["other"] == BASELINE))
    table["holm"] = np.nan
    table.loc[with_baseline, "holm"] = holm(table.loc[with_baseline, "p"].to_numpy(float))
    same_sign = (table["examples_low"] > 0) & (table["low"] > 0) | (table["examples_high"] < 0) & (table["high"] < 0)
    table["beyond_luck"] = same_sign & (table["q"] < 1 - CONFIDENCE)
    return table[COLUMNS]


def pair(score: pd.Series[float], good: pd.DataFrame, loss: str, other: str) -> dict[str, Any]:
    mine, theirs = (score.xs(name, level="loss") for name in (loss, other))
    seeds = mine.index.intersection(theirs.index)
    mine, theirs = mine[seeds], theirs[seeds]
    over_seeds = paired_difference(mine, theirs)
    by_example = pd.Series((good.loc[loss].loc[seeds] - good.loc[other].loc[seeds]).to_numpy().mean(0))
    over_examples = estimate(by_example)
    return {
        "loss": loss,
        "other": other,
        "difference": over_seeds.mean,
        "low": over_seeds.low,
        "high": over_seeds.high,
        "p": p_value(mine, theirs),
        "n_seeds": over_seeds.n,
        "n_examples": over_examples.n,
        "examples_low": over_examples.low,
        "examples_high": over_examples.high,
    }


def against_baseline(table: pd.DataFrame) -> dict[str, tuple[Estimate, float]]:
    """Of every loss, its difference from the baseline and Holm's p, from the table of `compare`."""
    found = {}
    for row in table.to_dict("records"):
        mean, low, high = row["difference"], row["low"], row["high"]
        if row["loss"] == BASELINE:
            mean, low, high = -mean, -high, -low
        elif row["other"] != BASELINE:
            continue
        if np.isnan(low):
            low = high = None
        loss = row["other"] if row["loss"] == BASELINE else row["loss"]
        found[str(loss)] = (Estimate(mean, low, high, row["n_seeds"]), row["holm"])
    return found
