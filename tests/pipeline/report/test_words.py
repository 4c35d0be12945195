"""Sentences are chosen by the numbers."""

from dataclasses import replace

import pandas as pd
import pytest
import torch
from scipy import stats

from inputgrad.audit.verdict import Kind
from inputgrad.tasks import Classification, Regression
from pipeline import kept
from pipeline.report import words
from pipeline.report.tables import ACTS
from pipeline.report.units import GRADIENT, score
from pipeline.results import statistics
from pipeline.results.read import Results
from pipeline.results.statistics import Estimate, Quantity, compare
from pipeline.results.summary import Row, Summary, summarise

ACCURACY, RMSE = score(Classification), score(Regression)
UP, DOWN, BOTH = Estimate(0.2, 0.1, 0.3, 5), Estimate(-0.2, -0.3, -0.1, 5), Estimate(0.1, -0.1, 0.3, 5)
ONE = Estimate(0.2, None, None, 1)


def quantity(difference: Estimate | None, identical: bool = False) -> Quantity:
    return Quantity(value=Estimate(0.5, 0.4, 0.6, 5), difference=difference, identical=identical)


@pytest.mark.parametrize(
    ("difference", "accuracy", "rmse", "gradient"),
    [
        (UP, "better", "worse", "larger"),
        (DOWN, "worse", "better", "smaller"),
        (BOTH, "no difference found", "no difference found", "no difference found"),
        (ONE, "one seed", "one seed", "one seed"),
        (None, "baseline", "baseline", "baseline"),
    ],
)
def test_verdicts(difference: Estimate | None, accuracy: str, rmse: str, gradient: str) -> None:
    found = [measure.verdict(quantity(difference)) for measure in (ACCURACY, RMSE, GRADIENT)]
    assert found == [accuracy, rmse, gradient]


def test_a_difference_that_holm_does_not_confirm_has_no_verdict() -> None:
    assert ACCURACY.verdict(replace(quantity(UP), p=0.06)) == "no difference found"
    assert ACCURACY.verdict(replace(quantity(UP), p=0.04)) == "better"


def test_every_loss_is_tested_once_for_all_places_that_say_which_is_better(results: Results) -> None:
    """The report's words and tables, the pairs, and the page of all kept studies."""
    summary = summarise(results)
    differences = statistics.against_baseline(summary.pairs)
    study = kept.Kept(metrics=summary.metrics(), facts={"date": "", "commit": ""}, pairs=summary.pairs)
    assert set(differences) == {row.name for row in summary.others}
    for found in summary.others:
        difference, p = differences[found.name]
        assert found.robust[0].p == pytest.approx(p)
        assert found.robust[0].difference == pytest.approx(difference)
        mine, theirs = found.robust[0], study.robust[found.name]
        assert mine.identical or ACCURACY.verdict(theirs) == ACCURACY.verdict(mine)
    sentence = kept.head(study)["answer"]
    assert sentence.replace("ε = 0.1", "linf ε = 0.1") in words.answer(summary)


def test_the_correction_is_for_all_losses(results: Results) -> None:
    """With 3 losses, the smallest p counts three times."""
    seeds = {"standard": [0.0, 0.0, 0.0], "a": [1.0, 1.1, 1.3], "b": [0.1, 0.9, 0.5], "c": [0.0, 0.0, 0.0]}
    frame = pd.DataFrame([(loss, i, x) for loss, v in seeds.items() for i, x in enumerate(v)])
    frame.columns = ["loss", "seed", "score"]
    found = compare(frame, "score", dict.fromkeys(seeds, False))
    p = {loss: stats.ttest_1samp(seeds[loss], 0).pvalue for loss in "ab"}
    assert found["a"].p == pytest.approx(3 * p["a"])
    assert found["b"].p == pytest.approx(2 * p["b"])
    assert (found["c"].p, found["standard"].p) == (1.0, None)
    two = compare(frame[frame["loss"].isin(["standard", "b"])], "score", dict.fromkeys(seeds, False))
    assert two["b"].p == pytest.approx(p["b"])


def test_identical_goes_before_any_interval() -> None:
    assert ACCURACY.verdict(quantity(UP, identical=True)) == "identical"


def row(summary: Summary, name: str) -> Row:
    return next(row for row in summary.rows if row.name == name)


def with_robust(summary: Summary, name: str, difference: Estimate) -> Summary:
    """The same summary, where one loss differs otherwise under attack."""
    changed = replace(row(summary, name), robust=[quantity(difference), quantity(difference)])
    return replace(summary, rows=[changed if r.name == name else r for r in summary.rows])


def test_answer(results: Results) -> None:
    answer = words.answer(summarise(results))
    assert answer.startswith("Yes. 1 of 3 losses compared with `standard` measurably differs from it")
    assert "`fgsm` is the one loss found to improve it: robust accuracy 68.0 % against 18.0 %, a paired" in answer
    assert "No difference in clean accuracy was found" in answer
    assert "per step" not in answer
    assert "For `gradient_norm` no difference under attack was found." in answer
    assert "`detached_norm` cannot be told apart from `standard`: identical weights in 3 of 3 seeds" in answer
    assert "its term never reaches a parameter" in answer


def test_answer_says_worse(results: Results) -> None:
    answer = words.answer(with_robust(summarise(results), "fgsm", DOWN))
    assert "no loss is found to improve robust accuracy" in answer
    assert "Worse than `standard` under attack: `fgsm`." in answer


def test_answer_when_nothing_is_found(results: Results) -> None:
    summary = summarise(results)
    flat = [
        replace(r, clean=quantity(BOTH), robust=[quantity(BOTH)], gradient=quantity(BOTH))
        for r in summary.others
        if not r.identical
    ]
    answer = words.answer(replace(summary, rows=[summary.baseline, *flat]))
    assert answer.startswith("Not measurably. Weights change, but")


def test_answer_when_all_are_identical(results: Results) -> None:
    summary = summarise(results)
    answer = words.answer(replace(summary, rows=[summary.baseline, row(summary, "detached_norm")]))
    assert answer.startswith("No. None of the losses compared with `standard` (1) changes a single weight.")


def test_identical_by_numbers_not_by_name(results: Results) -> None:
    renamed = replace(row(summarise(results), "detached_norm"), name="fgsm")
    assert words.about(renamed, summarise(results)).startswith("`fgsm` cannot be told apart from `standard`")


def test_a_term_without_pull_whose_weights_differ_is_said_to_be_odd(results: Results) -> None:
    odd = replace(row(summarise(results), "detached_norm"), equal_weights=1)
    assert words.reach(odd).startswith("`detached_norm` has weights identical to `standard` in 1 of 3 seeds")
    said = words.reach(replace(odd, equal_weights=0))
    assert "the difference must come from elsewhere, such as passes of the loss that move the net's buffers" in said
    assert "device" not in said  # on a CPU none rounds differently
    assert "or a device that rounds differently" in words.reach(replace(odd, equal_weights=0, on_gpu=True))


def flagged(summary: Summary, *names: str) -> str:
    """The answer where these losses have the sheet of `gradient_norm`, which linearity flags in two of three seeds."""
    sheet, fine = row(summary, "gradient_norm").masking, summary.baseline.masking
    rows = [replace(r, masking=sheet if r.name in names else fine) for r in summary.rows]
    return words.answer(replace(summary, rows=rows))


def test_a_praised_loss_that_fails_the_sheet_is_doubted_at_once(results: Results) -> None:
    summary = summarise(results)
    assert row(summary, "gradient_norm").flags == ["linearity"]
    assert "believed" not in words.answer(summary)  # it is flagged, but nobody praises it
    assert "The robust accuracy of `fgsm` cannot be trusted yet: it fails `linearity` on the masking sheet." in flagged(
        summary, "fgsm"
    )
    better = with_robust(summary, "gradient_norm", UP)
    assert "on the masking sheet `fgsm` fails `linearity`; `gradient_norm` fails `linearity`." in flagged(
        better, "fgsm", "gradient_norm"
    )


def test_the_best_loss_is_doubted_even_if_it_is_the_baseline(results: Results) -> None:
    summary = summarise(results)
    worse = replace(summary, rows=[r for r in summary.rows if r.name != "fgsm"])
    assert "of `standard` cannot be trusted yet" in flagged(worse, "standard")


def test_about(results: Results) -> None:
    said = words.about(row(summarise(results), "fgsm"), summarise(results))
    assert "robust accuracy at linf ε = 0.1 +50.0 points [" in said
    assert "], n = 3 (better); clean accuracy 0.0 points [0.0, 0.0], n = 3 (no difference found)" in said
    assert "(smaller)" in said


def test_comparisons_are_counted(results: Results) -> None:
    assert words.comparisons(summarise(results)).startswith("In all, 6 differences")
    assert "Holm's correction for the losses compared (3)" in words.comparisons(summarise(results))
    assert "about 0.3 of them would exclude 0 by chance" in words.comparisons(summarise(results))


def test_numbers() -> None:
    assert ACCURACY.value(Estimate(0.1234, None, None, 1)) == "12.3 %"
    assert ACCURACY.difference(DOWN) == "\N{MINUS SIGN}20.0 points"
    assert ACCURACY.difference(Estimate(-1e-9, -1.0, 1.0, 3)) == "0.0 points"
    assert ACCURACY.bounds(ONE) == "n = 1, no interval"
    assert RMSE.bounds(Estimate(0.0014, 0.00013, 0.0027, 5)) == "[0.0001, 0.0027], n = 5"  # not [0.000, 0.003]
    assert GRADIENT.value(Estimate(1234.5, 1.0, 2.0, 5)) == "1.23e+03"


def test_long_lists_are_cut() -> None:
    assert words.joined(["a"]) == "`a`"
    assert words.joined(["a", "b", "c", "d"]) == "`a`, `b`, `c` and `d`"
    assert words.joined(list("abcdef")) == "`a`, `b`, `c` and 3 more"


def with_shift(summary: Summary, shift: Estimate) -> str:
    """The answer where `standard` scores otherwise on test than on validation."""
    changed = replace(summary.baseline, shift=shift)
    return words.answer(replace(summary, rows=[changed, *summary.others]))


def test_a_test_split_of_another_kind_is_said_with_the_loss_that_holds_best(results: Results) -> None:
    summary = summarise(results)
    answer = with_shift(summary, Estimate(-0.4, -0.5, -0.3, 3))
    assert "The test split is not like what was trained on: `standard` scores" in answer
    assert "a difference of −40.0 points [−50.0, −30.0], n = 3" in answer
    assert "No loss is found to score better there." in answer
    better = replace(row(summary, "fgsm"), clean=quantity(UP))
    answer = with_shift(replace(summary, rows=[summary.baseline, better]), Estimate(-0.4, -0.5, -0.3, 3))
    assert "The best there is `fgsm` with 50.0 % (+20.0 points [10.0, 30.0], n = 5 against `standard`)." in answer


@pytest.mark.parametrize("shift", [Estimate(-0.4, -0.9, 0.1, 3), Estimate(-0.01, -0.02, -0.005, 3), UP, ONE])
def test_an_ordinary_gap_to_validation_is_not_called_a_shift(results: Results, shift: Estimate) -> None:
    assert "not like what was trained on" not in with_shift(summarise(results), shift)


def test_shift_is_test_minus_the_attacked_epochs_validation(results: Results) -> None:
    base = summarise(results).baseline
    assert base.validation.mean == pytest.approx(0.7)  # the best of 0.5, 0.6 and 0.7
    assert base.shift.mean == pytest.approx(base.clean.value.mean - 0.7)


def test_every_verdict_of_the_audit_has_a_word_in_the_table():
    assert set(ACTS) == set(Kind.__args__)


@pytest.mark.parametrize(("lines", "acts"), [(words.VOID, False), (words.RIGHT, True)])
def test_the_lines_in_the_report_are_what_it_says_of_them(lines, acts):
    model, x = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1)), torch.rand(5, 3)
    x.requires_grad_()
    names = {"torch": torch, "x": x, "losses": model(x)[:, 0]}
    exec(lines, names)
    assert names["gradient"].shape == x.shape
    assert names["gradient"].requires_grad == acts
