"""The report says what was searched, with which budget, and whether the study states what was found."""

import json
from pathlib import Path

import pytest

from inputgrad.errors import UserError
from pipeline import report
from pipeline.report import searches
from pipeline.study.schema import Study
from tests.pipeline.report.conftest import LOSSES

PIXEL = bytes.fromhex("89504e470d0a1a0a")


def write(loss: str, strength: float | None, trials: int = 30, at_edge: tuple[str, ...] = ()) -> None:
    """What a search of that loss leaves."""
    folder = Path("experiments/toy/search") / loss
    folder.mkdir(parents=True)
    best = {"trial": 3, "knobs": {"strength": strength}, "at_edge": at_edge, "clean": 0.951, "robust": 0.52}
    facts = {
        "trials": {"asked": trials, "finished": trials, "pruned": 21},
        "epochs": {"per_trial": 40, "budget": 40 * trials, "used": 545},
        "best": None if strength is None else best,
        "settings": {"judges": {"pgd": {"steps": 10}}},
    }
    (folder / "search.json").write_text(json.dumps(facts))
    for name in searches.FIGURES if loss == "fgsm" else ("front", "history", "slice"):
        (folder / f"{name}.png").write_bytes(PIXEL)


def test_without_a_search_there_is_no_section(study: Study) -> None:
    assert searches.section(study, LOSSES) is None
    assert "searched" not in (report.write(study, LOSSES) / "report.md").read_text()


def test_the_budget_and_what_was_found(study: Study) -> None:
    write("gradient_norm", 0.3)
    write("fgsm", 2.5, at_edge=("strength",))
    write("detached_norm", None)
    write("pgd", 1.0, trials=7)  # not reported
    page = (report.write(study, LOSSES) / "report.md").read_text()
    assert "Every searched loss got the same budget: 30 trials of 40 epochs each." in page
    assert "judged on the validation split under pgd (steps 10), with one seed" in page
    found = "30 of 30, 21 pruned | 545 of 1200"
    assert f"| `gradient_norm` | {found} | strength 0.3 | 95.1 % | 52.0 % | yes |" in page
    assert f"| `fgsm` | {found} | strength 2.5 (at an end of its range) | 95.1 % | 52.0 % | no |" in page
    assert f"| `detached_norm` | {found} | none meets the constraint | - | - | - |" in page
    html = (study.folder / "report" / "report.html").read_text()
    for text in searches.FIGURES.values():
        assert html.count(f'alt="fgsm: {text}.') == 1
    assert "gradient_norm: Importance" not in html  # a figure that is not there is not shown


def test_a_search_of_another_version_is_one_line(study: Study) -> None:
    write("gradient_norm", 0.3)
    file = study.folder / "search/gradient_norm/search.json"
    file.write_text(file.read_text().replace("at_edge", "edge"))
    with pytest.raises(UserError, match=r"gradient_norm/search\.json is .* lacks 'at_edge'.*search toy gradient_norm"):
        searches.section(study, LOSSES)


def test_another_budget_is_said(study: Study) -> None:
    write("gradient_norm", 0.3)
    write("fgsm", 2.5, trials=90)
    assert searches.section(study, LOSSES)["budget"].endswith(
        "`fgsm` 90 trials of 40 epochs, `gradient_norm` 30 trials of 40 epochs."
    )  # type: ignore[index]
