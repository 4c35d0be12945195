"""Waterfall, distances, descriptors and pairs, against numbers counted by hand."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from inputgrad.robustness import scores
from pipeline import report
from pipeline.report import attack_words, tables
from pipeline.results import robustness, statistics
from pipeline.results.opened import OpenStudy
from pipeline.results.read import Results, read_results
from pipeline.results.robustness import WORST
from pipeline.results.statistics import compare
from pipeline.results.summary import Row, summarise
from pipeline.study.schema import Study
from tests.conftest import reseal
from tests.pipeline.report.conftest import LOSSES, outcomes, stronger, write_study


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    monkeypatch.chdir(tmp_path)
    return write_study()


def four(**harm: list[int]) -> dict[str, np.ndarray]:
    """The harm that named attacks do to four examples; all others do none."""
    nothing = {
        name: [0, 0, 0, 0] for name in ("clean", "noise", "fgsm", "pgd", "pgd_10x1", "transfer", "apgd_t", "square")
    }
    return {attack: np.array(values, dtype=float) for attack, values in (nothing | harm).items()}


def test_the_waterfall_tells_which_attack_broke_what(toy: Study) -> None:
    harm = four(clean=[1, 0, 0, 0], fgsm=[1, 1, 0, 0], pgd=[0, 1, 0, 0], square=[0, 0, 1, 0])
    found = scores.waterfall(scores.harm(outcomes(toy, 0, stronger(harm)), toy.task), toy.attack, toy.task)
    linf = found[found["norm"] == "linf"]
    steps = ["clean", "noise", "fgsm", "pgd", scores.SMALLER, "pgd_10x1", "transfer", "apgd_t", "square"]
    assert list(linf["step"]) == steps
    assert list(linf["score"]) == [0.75, 0.75, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.25]
    assert linf["change"].iloc[1:].tolist() == [0, -0.25, 0, 0, 0, 0, 0, -0.25]


def test_the_waterfall_ends_at_the_robust_score(results: Results) -> None:
    ends = results.steps.groupby(["loss", "seed", "norm"], sort=False)["score"].last()
    for threat in results.study.attack.threat_models:
        worst = results.scores[(results.scores["attack"] == WORST) & (results.scores["norm"] == threat.norm)]
        here = worst[worst["epsilon"] == threat.epsilon].set_index(["loss", "seed"])["score"]
        assert ends.xs(threat.norm, level="norm").to_dict() == pytest.approx(here.to_dict())


def test_an_attack_with_nothing_left_adds_nothing(toy: Study) -> None:
    harm = four(pgd=[1, 1, 1, 1])
    found = scores.waterfall(scores.harm(outcomes(toy, 0, stronger(harm)), toy.task), toy.attack, toy.task)
    assert found[found["step"] == "square"]["score"].tolist() == [0, 0]
    assert found[found["step"] == "square"]["change"].tolist() == [0, 0]


def test_what_only_a_smaller_ball_holds_is_a_step_of_its_own(toy: Study) -> None:
    study = toy.model_copy(update={"attack": toy.attack.model_copy(update={"grid": [0.05, 0.1]})})
    frame = outcomes(study, 0, lambda attack: np.zeros(4))
    frame.loc[(frame["epsilon"] == 0.05) & (frame["attack"] == "pgd") & (frame["example"] < 2), "broken"] = True
    found = scores.waterfall(scores.harm(frame, study.task), study.attack, study.task)
    linf = found[found["norm"] == "linf"].set_index("step")["score"]
    assert (linf["pgd"], linf[scores.SMALLER], linf["square"]) == (1, 0.5, 0.5)


def test_the_table_of_steps_has_intervals_and_n(results: Results) -> None:
    first, second = tables.waterfall_tables(results, summarise(results))
    assert (first["threat"], second["threat"]) == ("linf ε = 0.1", "l2 ε = 0.5")
    cells = dict(zip(first["heads"], first["rows"][0]["cells"], strict=True))
    assert cells["noise"]["text"] == "59.0 %"  # half of 80, 84 and 82 of 100
    assert cells["square"]["n"] == "n = 3"
    assert cells["square"]["interval"].startswith("[")


def test_distances_are_the_smallest_that_broke(toy: Study) -> None:
    harm = four(clean=[1, 0, 0, 0], pgd=[1, 1, 0, 0], square=[0, 0, 1, 0])
    frame = outcomes(toy, 0, stronger(harm))
    found = robustness.to_boundary(frame, toy).set_index(["norm", "example"])["distance"]
    assert found["linf"].tolist() == pytest.approx([0, 0.09, 0.09, np.inf])  # nine tenths of 0.1, and never
    assert found["l2"].tolist() == pytest.approx([0, 0.45, 0.45, np.inf])


def test_medians_and_survival() -> None:
    frame = pd.DataFrame({"loss": "a", "seed": 0, "norm": "l2", "example": range(4), "distance": [0, 1, 3, np.inf]})
    assert robustness.medians(frame)["distance"].item() == 2
    standing = robustness.survival(frame, "l2", np.array([0.0, 0.5, 1.0, 9.0]))["standing"]
    assert standing.tolist() == [0.75, 0.75, 0.5, 0.25]


def row(results: Results, name: str) -> Row:
    return next(r for r in summarise(results).rows if r.name == name)


def test_a_median_that_does_not_exist_is_said_and_is_null(results: Results) -> None:
    found = row(results, "fgsm")  # 65 of 100 stand in the largest ball
    assert found.distances == {"linf": None, "l2": None}
    assert tables.bounded(found, None)["value"]["text"] == attack_words.BEYOND  # type: ignore[index]
    metrics = summarise(results).metrics()["losses"]
    assert metrics["fgsm"]["median_distance_linf"] is None
    assert metrics["standard"]["median_distance_linf"]["mean"] == pytest.approx(0.09)
    assert row(results, "gradient_norm").distances["l2"].difference.mean == pytest.approx(0)  # type: ignore[union-attr]


def test_descriptors_are_means_over_the_finite_ones() -> None:
    frame = pd.DataFrame(
        {"example": range(3), "seed": 0, "gradient_alignment": [np.nan, 0.2, 0.4], "mine": [np.nan] * 3}
    )
    found = robustness.means(frame).set_index("descriptor")
    assert found.loc["gradient_alignment"].tolist() == [pytest.approx(0.3), 1, 3]
    assert np.isnan(found.loc["mine", "value"])


def test_descriptors_are_shown_with_what_was_left_out(results: Results) -> None:
    found = row(results, "fgsm").descriptors
    assert (found["gradient_alignment"].left_out, found["gradient_alignment"].examples) == (3, 300)
    jacobian = found["jacobian_norm"].quantity
    assert jacobian is not None
    assert jacobian.difference is not None
    assert jacobian.difference.mean == pytest.approx(3 * (0.32 - 0.82))
    table = tables.descriptor_table(summarise(results))
    assert "cos(x, g)" in table["heads"]
    assert table["rows"][0]["cells"][4]["left_out"] == "3 of 300 left out"


def test_a_descriptor_that_is_nowhere_finite_has_no_number(study: Study) -> None:
    for file in Path("experiments/toy/runs").glob("*/attack/*/descriptors.parquet"):
        pd.read_parquet(file).assign(gradient_alignment=np.nan).to_parquet(file)
        reseal(file.parent)
    found = json.loads((report.write(OpenStudy(study), LOSSES) / "metrics.json").read_text())["losses"]["fgsm"]
    assert found["gradient_alignment"] is None
    assert found["gradient_stability"]["mean"] == pytest.approx(0.8)


def harm_of(**rows: list[list[float]]) -> pd.DataFrame:
    """Per loss the harm of every seed (row) and example (column)."""
    index = pd.MultiIndex.from_tuples([(loss, s) for loss, found in rows.items() for s in range(len(found))])
    return pd.DataFrame(
        np.array([r for found in rows.values() for r in found]), index=index.set_names(["loss", "seed"])
    )


def test_pairs_agree_with_scipy(toy: Study) -> None:
    rng = np.random.default_rng(0)
    shares = {"standard": 0.8, "fgsm": 0.3, "pgd": 0.35, "trades": 0.1}
    harm = {name: (rng.random((5, 60)) < share).astype(float) for name, share in shares.items()}
    table = statistics.all_pairs(harm_of(**{k: v.tolist() for k, v in harm.items()}), toy, list(shares))
    assert list(table) == statistics.PAIR_COLUMNS
    assert len(table) == 6
    first = table.iloc[0]
    expected = stats.ttest_rel(1 - harm["standard"].mean(1), 1 - harm["fgsm"].mean(1))
    assert (first["loss"], first["other"], first["n_seeds"], first["n_examples"]) == ("standard", "fgsm", 5, 60)
    assert first["p"] == pytest.approx(expected.pvalue)
    assert first[["low", "high"]].tolist() == pytest.approx(list(expected.confidence_interval(0.95)))
    assert table["q"].tolist() == pytest.approx(stats.false_discovery_control(table["p"], method="bh"))
    by_example = (harm["fgsm"] - harm["standard"]).mean(0)
    bounds = stats.ttest_1samp(by_example, 0).confidence_interval(0.95)
    assert first[["examples_low", "examples_high"]].tolist() == pytest.approx([bounds.low, bounds.high])
    assert first["difference"] < 0  # standard is broken more often
    assert first["beyond_luck"]


def test_a_pair_needs_both_kinds_of_luck_excluded(toy: Study) -> None:
    # every seed agrees on one example of forty: sure over seeds, and nothing over examples
    harm = harm_of(standard=[[1.0] + [0.0] * 39] * 5, fgsm=[[0.0] * 40] * 4 + [[0.0, 0.0, 1.0] + [0.0] * 37])
    found = statistics.all_pairs(harm, toy, ["standard", "fgsm"]).iloc[0]
    assert found["examples_low"] < 0 < found["examples_high"]
    assert not found["beyond_luck"]
    same = statistics.all_pairs(harm_of(a=[[1, 0]] * 3, b=[[1, 0]] * 3), toy, ["a", "b"]).iloc[0]
    assert (same["p"], same["q"], same["beyond_luck"]) == (1, 1, False)


def test_equal_differences_of_few_seeds_are_no_certainty(toy: Study) -> None:
    """Two seeds that both differ by one example of four had p = 0 and an interval of no width: "better"."""
    for n, expected in ((2, 0.5), (5, 0.0625), (6, 0.03125)):
        found = statistics.all_pairs(harm_of(a=[[1, 0, 0, 0]] * n, b=[[0, 0, 0, 0]] * n), toy, ["a", "b"]).iloc[0]
        assert found["p"] == expected
        scores = pd.DataFrame({"loss": ["a"] * n + ["standard"] * n, "seed": [*range(n)] * 2})
        scores["score"] = [0.75 + s / 10 for s in range(n)] + [0.5 + s / 10 for s in range(n)]
        assert compare(scores, "score", {"a": False, "standard": False})["a"].verdict == (
            "higher" if expected < 0.05 else "undecided"
        )


def test_one_seed_tests_nothing(toy: Study) -> None:
    found = statistics.all_pairs(harm_of(a=[[1, 0]], b=[[0, 0]]), toy, ["a", "b"]).iloc[0]
    assert np.isnan(found["p"])
    assert np.isnan(found["low"])
    assert not found["beyond_luck"]


def test_other_attacked_examples_are_refused(study: Study) -> None:
    file = Path("experiments/toy/runs/fgsm/attack/seed-1/outcomes.parquet")
    frame = pd.read_parquet(file)
    frame[frame["example"] < 99].to_parquet(file)
    reseal(file.parent)
    with pytest.raises(report.UserError, match="seed-1 holds other test examples than the runs before it"):
        read_results(OpenStudy(study), LOSSES)


def test_few_attacked_examples_are_said(results: Results) -> None:
    assert attack_words.examples(summarise(results)) == "100 of 360 test examples"


def test_results_of_an_older_attack_stage_are_named(study: Study) -> None:
    file = Path("experiments/toy/runs/fgsm/attack/seed-1/outcomes.parquet")
    pd.read_parquet(file).drop(columns=["distance", "overshoot"]).to_parquet(file)
    reseal(file.parent)
    with pytest.raises(
        report.UserError,
        match=r"outcomes.parquet does not hold what it should .*distance.*dvc repro -f attack@toy-fgsm",
    ):
        read_results(OpenStudy(study), LOSSES)


def test_the_standard_ensemble_is_named_only_where_it_ran_as_it_is(toy: Study) -> None:
    """`square: {queries: 20}` is another attack than the ensemble's, by whatever name."""
    for knobs, whole in (({}, True), ({"queries": 5000}, True), ({"queries": 20}, False)):
        all_four = {"apgd_ce": {}, "apgd_t": {}, "fab_t": {}, "square": knobs}
        study = toy.model_copy(update={"attack": toy.attack.model_copy(update={"at_epsilon": all_four})})
        assert (", the standard AutoAttack ensemble" in attack_words.attacks_run(study)) is whole
        assert attack_words.changed(study) == ([] if whole else ["square"])
        assert attack_words.missing(study) == []
