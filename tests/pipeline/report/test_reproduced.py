"""Published figures: when each counts as reproduced, what the report says of it, what is kept, what is refused."""

import json
import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from inputgrad import files
from inputgrad.errors import UserError
from inputgrad.tasks import Classification
from pipeline import dvc, kept
from pipeline.report import published
from pipeline.report.page import context, write
from pipeline.report.units import score
from pipeline.results.read import Results
from pipeline.results.reproduced import Reproduction, count, reproductions
from pipeline.results.statistics import Estimate
from pipeline.results.summary import summarise
from pipeline.study.read import read_study
from pipeline.study.schema import Figure
from tests.conftest import edit

ROOT = Path(__file__).parents[3]
ROBUST = np.array([0.20, 0.16, 0.18])
"""Of `standard` in the study `toy`: 80, 84, 82 of 100 examples are broken."""


def figure(**stated) -> Figure:
    return Figure(**{"loss": "standard", "metric": "robust", "source": "A paper", **stated})


def word(ours: float, standard_error: float = 0.0, **stated) -> str:
    mean = Estimate(ours, None, None, 1)
    return Reproduction(figure=figure(**stated), ours=mean, standard_error=standard_error).word


@pytest.mark.parametrize(
    ("ours", "said"),
    [(0.5, "reproduced"), (0.61, "reproduced"), (0.63, "above"), (0.39, "reproduced"), (0.37, "below")],
)
def test_twice_the_standard_error_of_the_difference(ours, said):
    assert 2 * math.hypot(0.05, 0.03) == pytest.approx(0.1166, abs=1e-4)
    assert word(ours, 0.03, value=0.5, error=0.05) == said


@pytest.mark.parametrize(
    ("ours", "said"),
    [(0.24, "reproduced"), (0.359, "reproduced"), (0.361, "above"), (0.161, "reproduced"), (0.159, "below")],
)
def test_a_factor(ours, said):
    assert word(ours, 9.0, value=0.24, factor=1.5) == said


@pytest.mark.parametrize(("ours", "said"), [(0.92, "reproduced"), (0.927, "above"), (0.904, "below")])
def test_a_distance(ours, said):
    assert word(ours, 9.0, value=0.9155, within=0.01) == said


def with_figures(results: Results, *figures: Figure) -> Results:
    return replace(results, study=results.study.model_copy(update={"figures": list(figures)}))


def test_ours_is_the_mean_over_the_seeds_with_its_standard_error(results: Results) -> None:
    energy = pd.DataFrame({"loss": "fgsm", "seed": [0, 1, 2], "measure": "energy", "value": [1e-4, 2e-4, 6e-4]})
    other = energy.assign(loss="standard", value=9.0)
    found = reproductions(
        replace(
            with_figures(
                results,
                figure(value=0.2, error=0.01),
                figure(metric="clean", value=0.9, within=0.01),
                figure(loss="fgsm", metric="energy", value=3.1e-4, factor=1.1),
                figure(loss="pgd", value=0.5, within=0.1),
            ),
            measures=pd.concat([energy, other]),
        )
    )
    robust, clean, measured, missing = found
    assert robust.ours is not None
    assert robust.ours.mean == pytest.approx(ROBUST.mean())
    assert robust.standard_error == pytest.approx(ROBUST.std(ddof=1) / math.sqrt(3))
    assert clean.ours is not None
    assert clean.ours.mean == pytest.approx(0.95)
    assert measured.ours is not None
    assert measured.ours.mean == pytest.approx(3e-4)
    assert missing.ours is None
    assert [one.word for one in found] == ["reproduced", "above", "reproduced", "not run"]
    assert count([one.word for one in found]) == "2 of 4 published figures reproduced"


def test_the_report_shows_them(results: Results, tmp_path: Path) -> None:
    stated = with_figures(
        results, figure(value=0.19, error=0.02, source="First paper"), figure(metric="clean", value=0.8, within=0.05)
    )
    summary = summarise(stated)
    found = context(stated, summary)["reproduced"]
    assert found["count"] == "1 of 2 published figures reproduced"
    first, second = found["rows"]
    assert first["metric"] == "robust accuracy"
    assert first["published"] == "19.0 % ± 2 points"
    assert first["ours"].startswith("18.0 % [")
    assert first["ours"].endswith("], n = 3")
    assert (first["word"], second["word"]) == ("reproduced", "above")
    assert second["published"] == "80.0 % (within 5 points)"
    write(stated, summary, tmp_path)
    for name in ("report.md", "report.html"):
        text = (tmp_path / name).read_text(encoding="utf-8")
        assert "1 of 2 published figures reproduced" in text
        assert "19.0 % ± 2 points" in text
        assert "First paper" in text
    assert [one["word"] for one in summary.metrics()["figures"]] == ["reproduced", "above"]
    assert "figures" not in summarise(results).metrics()
    assert context(results, summarise(results))["reproduced"] is None


def test_a_small_measure_is_written_with_a_few_digits():
    stated = figure(metric="energy", value=3.8416e-4, error=6.53e-5).model_dump(mode="json")
    ours = {"mean": 4.1234e-4, "low": 3.5e-4, "high": 4.7e-4, "n": 5}
    row = published.figure_row({**stated, "ours": ours, "word": "reproduced"}, score(Classification))
    assert row["published"] == "0.000384 ± 6.53e\N{MINUS SIGN}05"
    assert row["ours"] == "0.000412 [0.00035, 0.00047], n = 5"


@pytest.mark.parametrize(
    ("stated", "message"),
    [
        ("{loss: standart, metric: robust, value: 0.5, within: 0.1", r"figures\.0\.loss: no 'standart' in losses; did"),
        (
            "{loss: fgsm, metric: robst, value: 0.5, within: 0.1",
            r"figures\.0\.metric: no 'robst' .*; did you mean 'rob",
        ),
        ("{loss: fgsm, metric: clean, value: 0.5", r"figures\.0 states no rule; fix: exactly one of error, factor, wi"),
        ("{loss: fgsm, metric: clean, value: 0.5, error: 0.1, within: 0.1", r"figures\.0 states error and within; fix"),
        ("{loss: fgsm, metric: clean, value: 0.5, factor: 1.0", r"figures\.0\.factor: .*greater than 1"),
        ("{loss: fgsm, metric: clean, value: 0, factor: 1.5", r"figures\.0\.value: 0 has no factor around it"),
        ("{loss: fgsm, metric: clean, value: 78.5, within: 1", r"figures\.0\.value: a score lies between 0 and 1; fix"),
    ],
)
def test_mistakes_are_one_line(project, stated, message):
    edit(project / "experiments/tiny.yaml", "attack:\n", f'figures:\n- {stated}, source: "A paper"}}\nattack:\n')
    with pytest.raises(UserError, match=message):
        read_study("tiny")


def test_an_edited_figure_writes_the_report_again(project):
    plain = dvc.hash_of_stage("report", "tiny", "", dvc.stated("tiny"), dvc.Memo())
    stated = 'figures:\n- {loss: fgsm, metric: clean, value: 0.5, within: 0.1, source: "A paper"}\nattack:\n'
    edit(project / "experiments/tiny.yaml", "attack:\n", stated)
    assert read_study("tiny").figures[0].within == 0.1
    assert dvc.hash_of_stage("report", "tiny", "", dvc.stated("tiny"), dvc.Memo()) != plain


@pytest.fixture
def kept_studies(tmp_path, monkeypatch):
    """Two kept studies with figures and one without."""
    monkeypatch.chdir(tmp_path)
    ours = {"mean": 0.5, "low": 0.4, "high": 0.6, "n": 3}
    losses = {"standard": {"clean_accuracy": ours, "robust_accuracy": ours, "masking": {}}}
    words = {"one": ["reproduced", "below"], "two": ["reproduced"], "three": []}
    for name, said in words.items():
        stated = figure(value=0.5, within=0.1).model_dump(mode="json")
        found = [{**stated, "ours": ours, "word": one} for one in said]
        metrics = {"study": name, "task": "classification", "epsilon": 0.1, "losses": losses, "figures": found}
        folder = kept.FOLDER / name
        folder.mkdir(parents=True)
        files.write_json(folder / "metrics.json", metrics)
        files.write_json(folder / kept.FACTS, {"date": "2026-11-27", "commit": "abcdef0123"})
        (folder / "pairwise.csv").write_text("loss,other,difference,low,high,p,q,holm,n_seeds\n", encoding="utf-8")


def test_the_summary_of_all_studies_and_the_readme_say_the_same(kept_studies):
    text = kept.overview()
    assert "**2 of 3 published figures reproduced**" in text
    assert "| [one](one/report.md) | robust accuracy | standard | 50.0 % (within 10 points) |" in text
    assert text.count("](one/report.md) | robust") == 2
    readme = kept.with_figures(f"# A\n{kept.FIGURES_BEGIN}\nold\n{kept.FIGURES_END}\nmore\n")
    assert "\n2 of 3 published figures reproduced: [each" in readme
    assert "old" not in readme
    assert readme.endswith("more\n")
    assert "<h2>2 of 3 published figures reproduced</h2>" in kept.side_by_side()
    with pytest.raises(UserError, match=r"'<!-- figures: .*are missing; fix: put them back"):
        kept.with_figures("# No marks\n")


def test_without_figures_nothing_is_said(kept_studies):
    for name in ("one", "two"):
        file = kept.FOLDER / name / "metrics.json"
        metrics = json.loads(file.read_text(encoding="utf-8"))
        del metrics["figures"]  # as in a report that was kept before there were any
        files.write_json(file, metrics)
    assert "published figures" not in kept.overview() + kept.side_by_side()
    assert kept.with_figures("# No marks\n") == "# No marks\n"
    assert kept.with_figures(f"{kept.FIGURES_BEGIN}\nold\n{kept.FIGURES_END}") == (
        f"{kept.FIGURES_BEGIN}\n\n{kept.FIGURES_END}"
    )


def test_our_readme_says_what_our_kept_studies_do(monkeypatch):
    monkeypatch.chdir(ROOT)
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert kept.with_figures(text) == text
    lines = re.findall(r"\d+ of \d+ published figures reproduced", text)
    summary = (ROOT / kept.FOLDER / "README.md").read_text(encoding="utf-8")
    assert lines[:1] == re.findall(r"\d+ of \d+ published figures reproduced", summary)[:1]
