"""What the attack stage left, reduced to what the report needs of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from inputgrad.robustness import scores
from pipeline.results import descriptors, distances, masking
from pipeline.results.files import attack_file
from pipeline.results.iterations import iterations
from pipeline.results.scores import complete, seed_scores
from pipeline.study.schema import Study


@dataclass(frozen=True, kw_only=True)
class Attacked:
    """One attacked run.

    Attributes:
        scores: norm, epsilon, attack, score.
        steps: norm, step, score, change: what each attack adds at the headline ε.
        iterations: norm, attack, gradients, score: FGSM and PGD at the headline ε.
        distances: norm, example, distance: the nearest wrong answer found.
        headline: the worst case at the headline ε, a row, a column per example: 1 where broken, or the squared error.
        descriptors: descriptor, value, left_out, examples.
        findings: of the masking sheet.
    """

    scores: pd.DataFrame
    steps: pd.DataFrame
    iterations: pd.DataFrame
    distances: pd.DataFrame
    headline: pd.DataFrame
    descriptors: pd.DataFrame
    findings: masking.Findings


def attacked(study: Study, loss: str, seed: int) -> Attacked:
    found = outcomes(study, loss, seed)
    harm, attack = scores.harm(found, study.task), study.attack
    headline = scores.worst_at(harm, attack.norm, attack.epsilon)
    return Attacked(
        scores=seed_scores(found, study),
        steps=scores.waterfall(harm, attack, study.task),
        iterations=iterations(harm, study),
        distances=distances.to_boundary(found, study),
        headline=headline.to_frame().T.reset_index(drop=True),
        descriptors=attack_file(study, loss, seed, "descriptors.parquet", described),
        findings=attack_file(study, loss, seed, "masking.json", masking.read_sheet),
    )


def outcomes(study: Study, loss: str, seed: int) -> pd.DataFrame:
    return attack_file(study, loss, seed, "outcomes.parquet", lambda f: complete(pd.read_parquet(f), study))


def described(file: Path) -> pd.DataFrame:
    return descriptors.means(descriptors.complete(pd.read_parquet(file)))


def pictures(study: Study, loss: str, seed: int) -> dict[str, np.ndarray]:
    """gradients.npz of the attack stage: examples (k,), x and gradients (k, *input), y."""

    def how(file: Path) -> dict[str, np.ndarray]:
        with np.load(file, allow_pickle=False) as contents:
            return {key: contents[key] for key in ("examples", "x", "y", "gradients")}

    return attack_file(study, loss, seed, "gradients.npz", how)
