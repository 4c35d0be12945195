"""The cost of a step in the report: its digits and interval, or that it is not known and how to measure it again."""

from dataclasses import replace

import pandas as pd
import pytest

from pipeline import kept
from pipeline.report import page, tables
from pipeline.report.units import score, times
from pipeline.results import statistics
from pipeline.results.read import Results
from pipeline.results.summary import Row, Summary, summarise
from tests.pipeline.test_kept import numbers


@pytest.mark.parametrize(("ratio", "text"), [(1.0, "1.0"), (2.304, "2.3"), (9.96, "10"), (14.9, "15"), (None, "")])
def test_a_time_has_one_or_two_digits(ratio: float | None, text: str) -> None:
    assert times(ratio) == text


def busy(summary: Summary, *names: str) -> Summary:
    """The same summary, where the machine was too busy to time these losses."""
    rows = [replace(r, cost={**r.cost, "ratio": None}) if r.name in names else r for r in summary.rows]
    return replace(summary, rows=rows)


def cells(summary: Summary, name: str) -> dict[str, dict[str, str]]:
    row: Row = next(row for row in summary.rows if row.name == name)
    found: dict[str, dict[str, str]] = tables.table_row(row, score(summary.study.task))
    return found


def test_the_table_has_the_ratio_its_interval_and_the_operations(results: Results) -> None:
    found = cells(summarise(results), "fgsm")
    assert (found["time"]["text"], found["time"]["interval"], found["time"]["n"]) == ("1.5", "[1.4, 1.6]", "n = 120")
    assert found["operations"]["text"] == "1.2"
    assert cells(summarise(results), "standard")["time"]["text"] == "1"


def test_a_time_that_means_nothing_is_not_printed(results: Results) -> None:
    summary = busy(summarise(results), "fgsm", "gradient_norm", "standard")
    assert cells(summary, "fgsm")["time"] == tables.NOTHING | {"text": "not measured"}
    again = "dvc repro -f train@toy-fgsm train@toy-gradient_norm && dvc repro report@toy"
    assert f"the machine was too busy; fix: `{again}`" in page.untimed(summary)
    assert page.untimed(summarise(results)) == ""


def test_the_comparison_leaves_it_out() -> None:
    losses = {"standard": numbers(0.5, 0.4, 0.6, 1.0), "fgsm": numbers(0.5, 0.4, 0.6)}
    losses["fgsm"]["step_time"] = {"ratio": None, "low": 1.0, "high": 9.0}
    pairs = pd.DataFrame(columns=statistics.PAIR_COLUMNS)
    toy = kept.Kept(metrics={"task": "classification", "losses": losses}, facts={}, pairs=pairs)
    found = kept.cell(toy, "fgsm")
    assert found is not None
    assert found["time"] == ""
