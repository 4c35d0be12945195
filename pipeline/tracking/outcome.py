"""What an attack found, as metrics and tags of its run."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from pipeline.results import descriptors, distances, masking
from pipeline.results.files import attack_file
from pipeline.results.scores import WORST, seed_scores
from pipeline.study.run import folder
from pipeline.study.schema import Study
from pipeline.tracking.point import Point, milliseconds


def points(study: Study, loss: str, seed: int) -> list[Point]:
    """The headline numbers, and the worst-case score as a curve over 1000·ε."""
    moment = milliseconds(folder(study, loss, "attack") / f"seed-{seed}" / "gradients.npz")
    outcomes = attack_file(study, loss, seed, "outcomes.parquet", pd.read_parquet)
    described = attack_file(study, loss, seed, "descriptors.parquet", pd.read_parquet)
    key = study.task.key
    scores, threat = seed_scores(outcomes, study), study.attack
    worst = scores[scores["attack"] == WORST]
    headline = worst[(worst["norm"] == threat.norm) & (worst["epsilon"] == threat.epsilon)]
    named = {
        f"clean_{key}": scores.loc[scores["norm"] == "none", "score"].item(),
        f"robust_{key}": headline["score"].item(),
        **dict(finite_distances(outcomes, study)),
        **dict(finite_descriptors(described)),
    }
    curve = [
        # a step is a whole number, and the part before the slash is the section of the chart
        Point(f"robust_{key}/{norm}_1000_epsilon", float(score), moment, round(1000 * epsilon))
        for norm, epsilon, score in worst.sort_values("epsilon")[["norm", "epsilon", "score"]].to_numpy()
    ]
    return [*(Point(name, float(value), moment) for name, value in named.items()), *curve]


def finite_descriptors(frame: pd.DataFrame) -> Iterator[tuple[str, float]]:
    """Means of the descriptors, as `test_…`; one that is nowhere finite has none."""
    means = descriptors.means(frame).set_index("descriptor")["value"]
    yield from ((metric(descriptors.key(str(name))), value) for name, value in means.dropna().items())


def finite_distances(outcomes: pd.DataFrame, study: Study) -> Iterator[tuple[str, float]]:
    if "distance" in outcomes:
        for norm, part in distances.to_boundary(outcomes, study).groupby("norm"):
            if np.isfinite(median := part["distance"].median()):
                yield f"median_distance_{norm}", median


def metric(name: str) -> str:
    """What MLflow calls a number of metrics.json; descriptors say `test_`, for the validation split has some too."""
    return name if name.startswith(("clean_", "robust_", "median_distance_")) else f"test_{name}"


def findings(study: Study, loss: str, seed: int) -> masking.Findings:
    return attack_file(study, loss, seed, "masking.json", masking.read_sheet)


def tags(found: dict[int, masking.Findings]) -> dict[str, str]:
    """`masking`: ok, or which checks fail; `masking.CHECK`: ok or FLAG, and the value of the worst seed."""
    sheet = masking.over_seeds(found)
    each = {f"masking.{check.name}": shown(check) for check in sheet.values()}
    return {"masking": ", ".join(masking.failed(sheet)) or "ok", **each}


def shown(check: masking.CheckOverSeeds) -> str:
    return ("ok" if check.ok else "FLAG") + ("" if check.worst.value is None else f" {check.worst.figure}")
