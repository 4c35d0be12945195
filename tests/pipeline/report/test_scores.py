"""The worst case over attacks, example by example."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from inputgrad.robustness.scores import harm
from pipeline.results.robustness import WORST, complete, seed_scores
from pipeline.study.schema import Study
from tests.pipeline.report.conftest import outcomes, stronger, write_study


@pytest.fixture(params=["digits", "diabetes"])
def any_study(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    monkeypatch.chdir(tmp_path)
    return write_study(data_name=request.param)


def scored(frame: pd.DataFrame, study: Study) -> pd.DataFrame:
    return seed_scores(harm(frame, study.task), study)


def scores_of(study: Study, harm: dict[str, list[float]]) -> dict[tuple[str, float, str], float]:
    frame = complete(outcomes(study, 0, stronger({k: np.array(v, dtype=float) for k, v in harm.items()})), study)
    rows = scored(frame, study)
    return dict(zip(zip(rows["norm"], rows["epsilon"], rows["attack"], strict=True), rows["score"], strict=True))


@pytest.mark.parametrize("any_study", ["digits"], indirect=True)
def test_robust_accuracy_is_the_worst_case_per_example(any_study: Study) -> None:
    # the first example is wrong anyway; noise breaks the second, fgsm the third: one of four stands
    found = scores_of(any_study, {"clean": [1, 0, 0, 0], "noise": [0, 1, 0, 0], "fgsm": [0, 0, 1, 0]})
    assert found["none", 0.0, "clean"] == 0.75
    assert found["linf", 0.1, "noise"] == found["linf", 0.1, "fgsm"] == 0.5
    assert found["linf", 0.1, WORST] == found["linf", 0.2, WORST] == found["l2", 0.5, WORST] == 0.25
    assert found["linf", 0.0, WORST] == found["l2", 0.0, "noise"] == 0.75  # where the curves start


@pytest.mark.parametrize("any_study", ["diabetes"], indirect=True)
def test_robust_rmse_is_the_worst_case_per_example(any_study: Study) -> None:
    found = scores_of(any_study, {"clean": [1, 4, 0], "noise": [9, 4, 0], "fgsm": [1, 16, 0]})
    assert found["none", 0.0, "clean"] == pytest.approx((5 / 3) ** 0.5)
    assert found["linf", 0.1, "noise"] == pytest.approx((13 / 3) ** 0.5)
    assert found["linf", 0.1, "fgsm"] == pytest.approx((17 / 3) ** 0.5)
    assert found["linf", 0.1, WORST] == pytest.approx((25 / 3) ** 0.5)


@pytest.mark.parametrize("any_study", ["digits"], indirect=True)
def test_what_a_smaller_ball_holds_counts_in_every_larger_one_of_its_norm(any_study: Study) -> None:
    frame = outcomes(any_study, 0, lambda attack: np.zeros(4))
    inside = (frame["norm"] == "linf") & (frame["epsilon"] == 0.1) & (frame["attack"] == "fgsm")
    frame.loc[inside & (frame["example"] == 2), "broken"] = True
    scores = scored(complete(frame, any_study), any_study).set_index(["norm", "epsilon", "attack"])["score"]
    assert scores["linf", 0.1, WORST] == scores["linf", 0.2, WORST] == 0.75
    assert scores["linf", 0.2, "fgsm"] == scores["l2", 0.5, WORST] == scores["linf", 0.0, WORST] == 1


@pytest.mark.parametrize("any_study", ["diabetes"], indirect=True)
def test_the_largest_error_of_a_smaller_ball_counts_too(any_study: Study) -> None:
    frame = outcomes(any_study, 0, lambda attack: np.ones(4))
    frame.loc[(frame["epsilon"] == 0.1) & (frame["attack"] == "pgd") & (frame["example"] == 2), "loss_after"] = 13.0
    scores = scored(complete(frame, any_study), any_study).set_index(["norm", "epsilon", "attack"])["score"]
    assert scores["linf", 0.1, WORST] == scores["linf", 0.2, WORST] == 2
    assert scores["linf", 0.2, "pgd"] == 1


@pytest.mark.parametrize("any_study", ["digits"], indirect=True)
def test_a_dear_attack_and_a_probe_count_in_the_worst_case_only(any_study: Study) -> None:
    found = scores_of(any_study, {"clean": [0] * 4, "square": [0, 0, 0, 1], "transfer": [0, 0, 1, 0], "none": [0] * 4})
    assert found["linf", 0.1, WORST] == found["linf", 0.2, WORST] == 0.5
    assert {attack for _, _, attack in found} == {"clean", "noise", "fgsm", "pgd", WORST}  # no apgd_t: not alone


@pytest.mark.parametrize("any_study", ["digits"], indirect=True)
def test_a_dear_attack_must_have_seen_whatever_stands(any_study: Study) -> None:
    frame = outcomes(any_study, 0, lambda attack: np.zeros(4))
    square = (frame["attack"] == "square") & (frame["norm"] == "linf")
    with pytest.raises(ValueError, match=r"'square' at linf ε = 0\.1 did not see 4 of the 4 examples"):
        complete(frame[~square], any_study)
    with pytest.raises(ValueError, match="did not see 1 of the 4 examples"):
        complete(frame[~square | (frame["example"] != 2)], any_study)
    everywhere = (frame["attack"] == "apgd_t") & (frame["norm"] == "linf") & (frame["epsilon"] == 0.2)
    with pytest.raises(ValueError, match=r"'apgd_t' at linf ε = 0\.2 did not see 4 of the 4"):
        complete(frame[~everywhere], any_study)
    broken = outcomes(any_study, 0, lambda attack: np.full(4, float(attack == "pgd")))
    assert not (broken["attack"] == "square").any()  # nothing was left to it
    complete(broken, any_study)


@pytest.mark.parametrize("any_study", ["diabetes"], indirect=True)
def test_a_regression_spares_no_attack_anything(any_study: Study) -> None:
    frame = outcomes(any_study, 0, lambda attack: np.zeros(4))
    with pytest.raises(ValueError, match="no 'random_search' at linf"):
        complete(frame[frame["attack"] != "random_search"], any_study)


@pytest.mark.parametrize("any_study", ["digits"], indirect=True)
def test_unknown_examples_are_refused(any_study: Study) -> None:
    frame = outcomes(any_study, 0, lambda attack: np.zeros(4))
    frame.loc[frame["attack"] == "transfer", "example"] += 1
    with pytest.raises(ValueError, match="example 4 was attacked, but there is no clean outcome"):
        complete(frame, any_study)
    few = any_study.model_copy(update={"attack": any_study.attack.model_copy(update={"examples": 3})})
    with pytest.raises(ValueError, match=r"4 examples were attacked, .* asks for 3"):
        complete(outcomes(any_study, 0, lambda attack: np.zeros(4)), few)


@pytest.mark.parametrize("any_study", ["digits"], indirect=True)
def test_outcomes_must_be_complete(any_study: Study) -> None:
    frame = outcomes(any_study, 0, lambda attack: np.zeros(4))
    with pytest.raises(ValueError, match="no 'fgsm' at l2 ε = 0"):
        complete(frame[(frame["attack"] != "fgsm") | (frame["norm"] != "l2")], any_study)
    last = frame[(frame["attack"] == "pgd") & (frame["norm"] == "linf")].index[-1]
    with pytest.raises(ValueError, match=r"'pgd' at linf ε = 0\.2 saw 3 of 4 examples"):
        complete(frame.drop(index=last), any_study)
    with pytest.raises(KeyError):
        complete(frame.drop(columns="broken"), any_study)


@pytest.mark.parametrize("any_study", ["diabetes"], indirect=True)
def test_errors_must_be_finite(any_study: Study) -> None:
    with pytest.raises(ValueError, match="NaN or infinite"):
        complete(outcomes(any_study, 0, lambda attack: np.array([1.0, np.inf])), any_study)
