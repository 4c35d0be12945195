"""The report says what was searched, with which budget, and whether the study states what was found."""

import json
from pathlib import Path
from typing import Any

import pytest

from inputgrad.errors import UserError
from pipeline import report
from pipeline.report import searches
from pipeline.results.opened import OpenStudy
from pipeline.search.task import SearchTask
from pipeline.study.read import read_study
from pipeline.study.schema import Study
from tests.conftest import edit
from tests.pipeline.report.conftest import LOSSES

PIXEL = bytes.fromhex("89504e470d0a1a0a")


def settings(loss: str) -> dict[str, Any]:
    """As `SearchTask.settings` has them, of the study `toy`."""
    study = read_study("toy")
    task = SearchTask(study=study, loss=loss if loss in study.losses else "fgsm", trials=30)
    return {**task.settings, "judges": {"pgd": {"steps": 10}}}


def write(loss: str, strength: float | None, trials: int = 30, at_edge: tuple[str, ...] = ()) -> None:
    """What a search of that loss leaves."""
    folder = Path("experiments/toy/search") / loss
    folder.mkdir(parents=True)
    best = {"trial": 3, "knobs": {"strength": strength}, "at_edge": at_edge, "clean": 0.951, "robust": 0.52}
    facts = {
        "trials": {"asked": trials, "finished": trials, "pruned": 21},
        "epochs": {"per_trial": 40, "budget": 40 * trials, "used": 545},
        "best": None if strength is None else best,
        "seed_of_the_trials": 3,
        "settings": settings(loss),
    }
    (folder / "search.json").write_text(json.dumps(facts))
    for name in searches.FIGURES if loss == "fgsm" else ("front", "history", "slice"):
        (folder / f"{name}.png").write_bytes(PIXEL)


def test_without_a_search_there_is_no_section(study: Study) -> None:
    assert searches.section(study, LOSSES) is None
    assert "searched" not in (report.write(OpenStudy(study), LOSSES) / "report.md").read_text()


def test_the_budget_and_what_was_found(study: Study) -> None:
    write("gradient_norm", 0.3)
    write("fgsm", 2.5, at_edge=("strength",))
    write("detached_norm", None)
    write("pgd", 1.0, trials=7)  # not reported
    page = (report.write(OpenStudy(study), LOSSES) / "report.md").read_text()
    assert "Every searched loss got the same budget: 30 trials of 40 epochs each." in page
    assert (
        "judged on the validation split under pgd (steps 10), with seed 3, which no run of this report has; the" in page
    )
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


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ("epsilon: 0.1\n", "epsilon: 0.2\n", "attack.epsilon"),
        ("epochs: 3", "epochs: 9", "training.epochs"),
        ("hidden: [4]", "hidden: [5]", "model.hidden"),
        ("strength: 1.0, epsilon: 0.1", "strength: 2.0, epsilon: 0.1, random_start: true", "loss.random_start"),
        ("strength: 1.0", "strength: 2.0", ""),  # what was searched may be stated anew
    ],
)
def test_a_search_for_another_study_is_not_shown_as_one_of_this(study: Study, old: str, new: str, key: str) -> None:
    """It was shown with its scores, its best strength and "stated by the study now? yes", whatever the study says."""
    write("fgsm", 2.5)
    edit(Path("experiments/toy.yaml"), old, new)
    words = searches.section(read_study("toy"), LOSSES)["judged"]  # type: ignore[index]
    said = f"The search of `fgsm` was for another study: its {key} is not that of now."
    assert words.endswith(said if key else "the test split was not opened.")


def test_a_seed_of_a_search_that_the_report_has_too_is_said(study: Study) -> None:
    """Seeds that are added later may be those that were searched with."""
    write("fgsm", 2.5)
    edit(Path("experiments/toy.yaml"), "seeds: [0, 1, 2]", "seeds: [0, 1, 2, 3]")
    assert "with seed 3, which this report has too;" in searches.section(read_study("toy"), LOSSES)["judged"]  # type: ignore[index]
