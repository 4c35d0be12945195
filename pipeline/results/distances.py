"""The minimal-norm view: how far is the nearest wrong answer that any attack found?"""

from __future__ import annotations

import numpy as np
import pandas as pd

from pipeline.study.schema import Study


def to_boundary(outcomes: pd.DataFrame, study: Study) -> pd.DataFrame:
    """Per norm and example the smallest perturbation that broke it: norm, example, distance.

    0 where the clean prediction is wrong already, infinite where nothing broke it: an upper bound of the distance to
    the decision boundary, as close as the attacks got. A regression has no boundary: no rows.
    """
    if not study.task.has_classes:
        return pd.DataFrame(columns=["norm", "example", "distance"])
    clean = outcomes[outcomes["attack"] == "clean"].set_index("example")["broken"]
    broken = outcomes[outcomes["broken"]]
    frames = []
    for norm in dict.fromkeys(threat.norm for threat in study.attack.threat_models):
        found = broken[broken["norm"] == norm].groupby("example")["distance"].min().astype(float)
        nearest = found.reindex(clean.index, fill_value=np.inf).mask(clean, 0.0)
        frames.append(nearest.rename("distance").reset_index().assign(norm=norm))
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
