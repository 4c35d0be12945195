"""The definitions of a score, on outcomes by hand; what the report makes of them is in tests/pipeline/report."""

import pandas as pd
import pytest

from inputgrad.robustness import scores
from inputgrad.robustness.evaluation import Evaluation
from inputgrad.robustness.settings import Attack
from inputgrad.tasks import Classification

ATTACK = Attack(norm="l2", epsilon=0.5, grid=[0.0, 0.5], secondary={"norm": "linf", "epsilon": 0.3, "grid": [0.3]})


def outcomes():
    """Of four examples one is wrong anyway; PGD breaks another in l2, and the two last in linf."""
    broken = {("clean", "none", 0.0): [0], ("pgd", "l2", 0.5): [1], ("pgd", "linf", 0.3): [0, 2, 3]}
    frames = [
        pd.DataFrame({"example": range(4), "attack": attack, "norm": norm, "epsilon": epsilon, "distance": epsilon / 2})
        for attack, norm, epsilon in broken
    ]
    found = pd.concat(frames, ignore_index=True)
    found["broken"] = [example in examples for examples in broken.values() for example in range(4)]
    return found


def test_the_ball_of_another_norm_is_not_inside_that_of_the_headline():
    found = Evaluation(
        attack=ATTACK,
        task=Classification,
        outcomes=outcomes(),
        descriptors=pd.DataFrame(),
        masking={},
        notes=(),
        key="",
    )
    assert (found.clean, found.robust) == (0.75, 0.5)
    assert scores.score(scores.worst_at(found.harm, "l2", 0.4), Classification) == 0.75
    assert scores.score(scores.worst_at(found.harm, "linf", 0.3), Classification) == 0.25


def test_distances_are_those_of_one_norm():
    assert scores.nearest(outcomes(), "l2").to_list() == [0.0, 0.25, float("inf"), float("inf")]
    assert scores.nearest(outcomes(), "linf").to_list() == [0.0, float("inf"), 0.15, 0.15]


def test_the_interval_of_a_share_by_hand():
    """Wilson's formula at 7 of 10 with z = 1.959964."""
    z, share, n = 1.959964, 0.7, 10
    middle = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * (share * (1 - share) / n + z**2 / (4 * n**2)) ** 0.5
    assert scores.wilson(share, n) == pytest.approx((middle - half, middle + half), abs=1e-6)
