"""The one definition of harm, worst case, score, what each attack adds, distance and a share's interval.

Input is what `inputgrad.robustness.attacking.attacked` returns, a row per example, attack, norm and ε.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from inputgrad.robustness.settings import Attack, ThreatModel
from inputgrad.tasks import Task

CLEAN = ("none", 0.0, "clean")
"""Norm, epsilon and attack of the rows without an attack."""
SMALLER = "smaller ε"
"""A step of its own: what the attacks of every ε found inside a smaller ball, and not at the headline ε itself."""
CONFIDENCE = 0.95


def worst_of(rows: pd.DataFrame, task: Task) -> pd.Series[Any]:
    """Of every example in `rows`, the harm of its worst row."""
    found: pd.Series[Any] = rows.groupby("example")[task.harm].max()
    return found


def harm(outcomes: pd.DataFrame, task: Task) -> pd.DataFrame:
    """How bad it got: a row per norm, epsilon and attack, a column per example, NaN where an attack was not needed.

    Broken (1) or not (0); for a regression the squared error. Doing nothing is always admissible, so that a clean
    mistake counts under every attack.
    """
    index = ["norm", "epsilon", "attack"]
    rows = outcomes.astype({task.harm: float})
    table = rows.pivot_table(index=index, columns="example", values=task.harm, aggfunc="max")
    return table.clip(lower=at(table, CLEAN), axis=1)


def at(table: pd.DataFrame, key: tuple[object, ...]) -> pd.Series[float]:
    found: pd.Series[float] = table.loc[[key]].iloc[0]
    return found


def worst(table: pd.DataFrame) -> pd.DataFrame:
    """The worst case over attacks, a row per norm and epsilon, a column per example; `table` is from `harm`.

    A point inside a ball is inside every larger one of the same norm: what was found at a smaller ε counts.
    """
    attacked = table.drop(index=[CLEAN]).groupby(level=["norm", "epsilon"]).max()
    return attacked.groupby(level="norm").cummax()


def worst_at(table: pd.DataFrame, norm: str, epsilon: float) -> pd.Series[float]:
    """The worst case inside one ball, by example: that of the largest ε tried in it, or doing nothing."""
    found = worst(table)
    inside = found[
        (found.index.get_level_values("norm") == norm) & (found.index.get_level_values("epsilon") <= epsilon)
    ]
    return inside.iloc[-1] if len(inside) else at(table, CLEAN)


def scores(rows: pd.DataFrame, task: Task) -> pd.Series[float]:
    """The score of every row of harms, each over all its examples."""
    return task.score_of_harm(rows.mean(axis=1))


def score(harms: pd.Series[float], task: Task) -> float:
    return float(scores(harms.to_frame().T, task).item())


def waterfall(table: pd.DataFrame, attack: Attack, task: Task) -> pd.DataFrame:
    """What each attack adds at the headline ε of every threat model, in order: norm, step, score, change of score.

    Args:
        table: from `harm`.
        attack: whose threat models are followed.
        task: says what a score is.
    """
    frames = [steps(table, attack, task, threat) for threat in attack.threat_models]
    return pd.concat(frames, ignore_index=True)[["norm", "step", "score", "change"]]


def steps(table: pd.DataFrame, attack: Attack, task: Task, threat: ThreatModel) -> pd.DataFrame:
    """The steps under one threat model; an attack without rows, where nothing was left to break, changes nothing."""
    norm, epsilon = threat.norm, threat.epsilon
    of_norm = table[table.index.get_level_values("norm") == norm].droplevel("norm")
    radius = of_norm.index.get_level_values("epsilon")
    here = of_norm[radius == epsilon].droplevel("epsilon")
    found = here.reindex(order(list(here.index), attack, threat))
    found.loc["clean"] = at(table, CLEAN)
    found.loc[SMALLER] = of_norm[radius < epsilon].max()
    reached = scores(found.cummax().ffill(), task)
    return pd.DataFrame({"norm": norm, "step": reached.index, "score": reached.array, "change": reached.diff().array})


def order(there: list[str], attack: Attack, threat: ThreatModel) -> list[str]:
    """Clean, the attacks of every ε, the probes of the masking sheet, then the expensive attacks on what is left.

    As they are run: one that is named twice runs with the expensive ones, black boxes last.
    """
    last = attack.expensive(threat)
    probes = [name for name in there if name not in {**attack.attacks, **last}]
    cheap = [name for name in attack.attacks if name not in last]
    expensive = sorted(last, key=lambda name: attack.traits(name).black_box)
    return ["clean", *cheap, SMALLER, *probes, *expensive]


def nearest(outcomes: pd.DataFrame, norm: str) -> pd.Series[float]:
    """Of every example, the smallest perturbation that broke it: an upper bound of the distance to the boundary.

    0 where the clean prediction is wrong already, infinite where nothing broke it.
    """
    clean = outcomes[outcomes["attack"] == "clean"].set_index("example")["broken"]
    broken = outcomes[outcomes["broken"] & (outcomes["norm"] == norm)]
    found = broken.groupby("example")["distance"].min().astype(float)
    return found.reindex(clean.index, fill_value=np.inf).mask(clean, 0.0).rename("distance")


def wilson(share: float, n: int) -> tuple[float, float]:
    """The 95 % interval of a share of n examples (Wilson 1927); it stays inside [0, 1]."""
    from scipy import stats  # slow to import

    found = stats.binomtest(round(share * n), n).proportion_ci(CONFIDENCE, method="wilson")
    return float(found.low), float(found.high)
