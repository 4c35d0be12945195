"""The masking sheet over the seeds, and where it is shown."""

from pathlib import Path

import pytest

from inputgrad import files
from inputgrad.robustness.masking import Finding
from pipeline.report import attack_words, tables
from pipeline.results import masking
from pipeline.results.read import Results
from pipeline.results.summary import summarise
from tests.pipeline.report.conftest import CHECKS


def finding(ok: bool, value: float | None, threshold: float = 0.3) -> Finding:
    return Finding(ok=ok, value=value, threshold=threshold, reason="why")


def worst(*findings: Finding) -> masking.CheckOverSeeds:
    return masking.over_seeds({seed: {"check": found} for seed, found in enumerate(findings)})["check"]


def test_the_worst_seed_is_the_flagged_one_farthest_from_the_threshold() -> None:
    found = worst(finding(True, 0.1), finding(False, 0.4), finding(False, 0.6), finding(True, 0.29))
    assert (found.seed, found.worst.value, found.flagged, found.n, found.ok) == (2, 0.6, 2, 4, False)


def test_without_a_flag_the_worst_seed_is_the_nearest_to_the_threshold() -> None:
    found = worst(finding(True, 0.1), finding(True, None), finding(True, 0.2), finding(True, -0.5))
    assert (found.seed, found.worst.value, found.flagged, found.ok) == (2, 0.2, 0, True)


def test_a_flag_without_a_number_is_a_flag() -> None:
    for fine in (0.29, 0.3):  # even next to one that lies on the threshold
        found = worst(finding(True, fine), finding(False, None))
        assert (found.seed, found.ok) == (1, False)


def test_a_check_that_some_runs_do_not_have_counts_those_that_do() -> None:
    sheet = masking.over_seeds({0: {"a": finding(True, 0)}, 1: {"a": finding(True, 0), "b": finding(False, 1)}})
    assert list(sheet) == ["a", "b"]
    assert (sheet["a"].n, sheet["b"].n, sheet["b"].flagged) == (2, 1, 1)


@pytest.mark.parametrize("contents", [{}, {"a": {"ok": True}}, {"a": {"ok": "?", "value": 0, "threshold": 0}}, []])
def test_what_is_no_sheet_is_refused(tmp_path: Path, contents: object) -> None:
    files.write_json(tmp_path / "masking.json", contents)
    with pytest.raises(ValueError):  # noqa: PT011
        masking.read_sheet(tmp_path / "masking.json")


def test_every_check_has_a_column_and_every_loss_a_cell(results: Results) -> None:
    summary = summarise(results)
    table = tables.masking_table(summary)
    assert [head["name"] for head in table["heads"]] == list(CHECKS)  # `new_check` too, which no code names
    assert [head["threshold"] for head in table["heads"]] == ["0.02", "0.3", "0.02"]
    cells = {row["name"]: dict(zip(CHECKS, row["cells"], strict=True)) for row in table["rows"]}
    assert cells["gradient_norm"]["linearity"]["text"] == "0.5"
    assert cells["gradient_norm"]["linearity"]["n"] == "2 of 3 seeds"
    assert cells["gradient_norm"]["linearity"]["verdict"] == "flagged"
    assert cells["fgsm"]["linearity"] == {"text": "0.12", "interval": "", "n": "n = 3", "verdict": "sound"}
    assert cells["fgsm"]["new_check"]["text"] == "–"


def test_the_sheet_stands_beside_the_robust_score(results: Results) -> None:
    found = {row.name: tables.verdict(row) for row in summarise(results).rows}
    assert found["fgsm"] == {"text": "3 of 3 checks", "failed": "", "n": "n = 3", "verdict": "sound"}
    assert (found["gradient_norm"]["text"], found["gradient_norm"]["failed"]) == ("2 of 3 checks", "linearity")


def test_reasons_come_from_the_sheets(results: Results) -> None:
    said = attack_words.reasons(summarise(results))
    assert len(said) == len(CHECKS)
    assert said[0] == "`monotone`: nothing to see. Nothing is flagged; at worst 0 in seed 0 of `standard`."
    assert said[2] == "`new_check`: nothing to see. Nothing is flagged."
    assert said[1] == (
        "`linearity`: bends by 0.5, too far. Flagged: `gradient_norm` in 2 of 3 seeds, at worst 0.5 in seed 2."
    )


def test_metrics_hold_the_sheet(results: Results) -> None:
    losses = summarise(results).metrics()["losses"]
    assert losses["gradient_norm"]["masking"]["linearity"] == {"ok": False, "value": 0.5, "of": None}
    assert losses["fgsm"]["masking"]["new_check"] == {"ok": True, "value": None, "of": None}
