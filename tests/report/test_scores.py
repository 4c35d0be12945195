"""The worst case over attacks, example by example."""

from pathlib import Path

import numpy as np
import pytest

from pipeline.config import Study
from pipeline.report.scores import WORST, complete, seed_scores
from tests.report.conftest import outcomes, write_study


@pytest.fixture(params=["digits", "diabetes"])
def any_study(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    monkeypatch.chdir(tmp_path)
    return write_study(data_name=request.param)


def scores_of(study: Study, harm: dict[str, list[float]]) -> dict[tuple[str, float, str], float]:
    frame = complete(outcomes(study, 0, lambda attack: np.array(harm[attack], dtype=float)), study)
    rows = seed_scores(frame, study)
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
def test_outcomes_must_be_complete(any_study: Study) -> None:
    frame = outcomes(any_study, 0, lambda attack: np.zeros(4))
    with pytest.raises(ValueError, match="no 'fgsm' at l2 ε = 0"):
        complete(frame[(frame["attack"] != "fgsm") | (frame["norm"] != "l2")], any_study)
    with pytest.raises(ValueError, match="some attacks saw 3 examples, others 4"):
        complete(frame.drop(index=frame.index[-1]), any_study)
    with pytest.raises(KeyError):
        complete(frame.drop(columns="broken"), any_study)


@pytest.mark.parametrize("any_study", ["diabetes"], indirect=True)
def test_errors_must_be_finite(any_study: Study) -> None:
    with pytest.raises(ValueError, match="NaN or infinite"):
        complete(outcomes(any_study, 0, lambda attack: np.array([1.0, np.inf])), any_study)
