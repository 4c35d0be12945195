"""Per-example outcomes -> one score per norm, epsilon and attack."""

from __future__ import annotations

import numpy as np
import pandas as pd

from pipeline.config import Study

WORST = "worst"
"""In the column `attack`: the worst case over all attacks, example by example."""
CLEAN = ("none", 0.0, "clean")
"""Norm, epsilon and attack of the rows without an attack."""


def complete(outcomes: pd.DataFrame, study: Study) -> pd.DataFrame:
    """The columns that scores need, after a look that every attack of the study saw every example at every radius.

    Raises:
        KeyError, ValueError: something is missing or not finite.
    """
    frame = outcomes[["example", "attack", "norm", "epsilon", "broken", "loss_after"]]
    examples = frame.groupby(["attack", "norm", "epsilon"])["example"].nunique()
    if examples.nunique() > 1:
        raise ValueError(f"some attacks saw {examples.min()} examples, others {examples.max()}")
    for attack, norm, epsilon in expected(study):
        if (attack, norm, epsilon) not in examples.index:
            raise ValueError(f"no '{attack}' at {norm} ε = {epsilon:g}, which {study.file} asks for")
    if study.task == "regression" and not np.isfinite(frame["loss_after"]).all():
        raise ValueError("loss_after holds NaN or infinite numbers")
    return frame


def expected(study: Study) -> list[tuple[str, str, float]]:
    """Every (attack, norm, epsilon) that outcomes must hold."""
    attacked = [
        (attack, threat.norm, epsilon)
        for threat in study.attack.threat_models
        for epsilon in threat.radii
        if epsilon > 0
        for attack in study.attack.attacks
    ]
    return [("clean", "none", 0.0), *attacked]


def seed_scores(outcomes: pd.DataFrame, study: Study) -> pd.DataFrame:
    """Scores of one run: norm, epsilon, attack, score.

    Accuracy is the share of examples that no attack breaks; RMSE is the root of the mean of the largest squared error.
    Doing nothing is always admissible, so that a clean mistake counts under every attack.
    """
    value = "broken" if study.task == "classification" else "loss_after"
    index = ["norm", "epsilon", "attack"]
    harm = outcomes.astype({value: float}).pivot_table(index=index, columns="example", values=value, aggfunc="max")
    clean = harm.loc[[CLEAN]]
    attacked = harm.drop(index=[CLEAN]).clip(lower=clean.iloc[0], axis=1)
    worst = attacked.groupby(level=["norm", "epsilon"]).max().assign(attack=WORST).set_index("attack", append=True)
    mean = pd.concat([clean, attacked, worst]).mean(axis=1)
    score = 1 - mean if study.task == "classification" else np.sqrt(mean)
    rows: pd.DataFrame = score.rename("score").reset_index()
    return pd.concat([rows, without_attack(study, float(score.loc[CLEAN]))], ignore_index=True)


def without_attack(study: Study, clean: float) -> pd.DataFrame:
    """The clean score as ε = 0 of every norm and attack: where each curve starts."""
    norms = dict.fromkeys(threat.norm for threat in study.attack.threat_models)
    rows = [(norm, 0.0, attack, clean) for norm in norms for attack in (*study.attack.attacks, WORST)]
    return pd.DataFrame(rows, columns=["norm", "epsilon", "attack", "score"])
