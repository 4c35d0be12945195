"""The minimal-norm view: how far is the nearest wrong answer that any attack found?"""

from __future__ import annotations

import numpy as np
import pandas as pd

from inputgrad.robustness.scores import nearest
from pipeline.study.schema import Study


def to_boundary(outcomes: pd.DataFrame, study: Study) -> pd.DataFrame:
    """Per norm and example the smallest perturbation that broke it: norm, example, distance; none for a regression."""
    if not study.task.has_classes:
        return pd.DataFrame(columns=["norm", "example", "distance"])
    norms = dict.fromkeys(threat.norm for threat in study.attack.threat_models)
    frames = [nearest(outcomes, norm).reset_index().assign(norm=norm) for norm in norms]
    return pd.concat(frames, ignore_index=True)[["norm", "example", "distance"]]


def medians(distances: pd.DataFrame) -> pd.DataFrame:
    """Median over examples, a row per loss, seed and norm; infinite where half of them were never broken."""
    return distances.groupby(["loss", "seed", "norm"], sort=False)["distance"].median().reset_index()


def survival(distances: pd.DataFrame, norm: str, points: np.ndarray) -> pd.DataFrame:
    """Share of examples that stand beyond each distance: loss, seed, distance, standing."""
    frames = []
    for (loss, seed), part in distances[distances["norm"] == norm].groupby(["loss", "seed"], sort=False):
        ordered = np.sort(part["distance"].to_numpy())
        standing = 1 - np.searchsorted(ordered, points, side="right") / len(ordered)
        frames.append(pd.DataFrame({"loss": loss, "seed": seed, "distance": points, "standing": standing}))
    return pd.concat(frames, ignore_index=True)
