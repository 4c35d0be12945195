"""What an attack found, as metrics and tags of its run."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipeline.results import descriptors, masking
from pipeline.results.opened import OpenStudy
from pipeline.results.read import attacked
from pipeline.results.scores import WORST
from pipeline.tracking.point import Point, milliseconds


def points(opened: OpenStudy, loss: str, seed: int) -> list[Point]:
    """The headline numbers, and the worst-case score as a curve over ε."""
    study, found = opened.study, attacked(opened, loss, seed)
    moment = milliseconds(opened.folder("attack", loss, seed) / "gradients.npz")
    key, scores, threat = study.task.key, found.scores, study.attack
    worst = scores[scores["attack"] == WORST]
    headline = worst[(worst["norm"] == threat.norm) & (worst["epsilon"] == threat.epsilon)]
    distances = found.distances.groupby("norm")["distance"].median()
    described = found.descriptors.set_index("descriptor")["value"]
    named = {
        f"clean_{key}": scores.loc[scores["norm"] == "none", "score"].item(),
        f"robust_{key}": headline["score"].item(),
        **{f"median_distance_{norm}": value for norm, value in distances.items()},
        **{metric(descriptors.key(str(name))): value for name, value in described.items()},
    }
    scale = steps_per_unit(worst["epsilon"].unique().tolist())
    curve = [
        # a step is a whole number, and the part before the slash is the section of the chart
        Point(f"robust_{key}/{norm}_{scale}_epsilon", float(score), moment, round(scale * epsilon))
        for norm, epsilon, score in worst.sort_values("epsilon")[["norm", "epsilon", "score"]].to_numpy()
    ]
    # a number that does not exist has no point
    return [*(Point(name, float(value), moment) for name, value in named.items() if np.isfinite(value)), *curve]


def steps_per_unit(radii: Sequence[float]) -> int:
    """1000, or the power of ten above it that keeps all radii apart."""
    scale = 1000
    while len({round(scale * radius) for radius in radii}) < len(set(radii)) and scale < 10**12:
        scale *= 10
    return scale


def metric(name: str) -> str:
    """What MLflow calls a number of metrics.json; descriptors say `test_`, for the validation split has some too."""
    return name if name.startswith(("clean_", "robust_", "median_distance_")) else f"test_{name}"


def tags(found: dict[int, masking.Findings]) -> dict[str, str]:
    """`masking`: ok, or which checks fail; `masking.CHECK`: ok or FLAG, and the value of the worst seed."""
    sheet = masking.over_seeds(found)
    each = {f"masking.{check.name}": shown(check) for check in sheet.values()}
    return {"masking": ", ".join(masking.failed(sheet)) or "ok", **each}


def shown(check: masking.CheckOverSeeds) -> str:
    return ("ok" if check.ok else "FLAG") + ("" if check.worst.value is None else f" {check.worst.figure}")
