"""The reports that git keeps: whole, told apart from the code as it stands, and the source of the README's table."""

import subprocess
import warnings
from contextlib import chdir
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from inputgrad.errors import UserError
from inputgrad.tasks import Classification
from pipeline import data, kept, store
from pipeline.report import words
from pipeline.report.units import score
from pipeline.results.statistics import Estimate
from pipeline.stages import runner
from pipeline.study.active import active
from pipeline.study.read import read_study
from tests.conftest import edit, only

ROOT = Path(__file__).parents[2]
KEPT = sorted(folder.name for folder in (ROOT / kept.FOLDER).iterdir() if folder.is_dir())
SHIPPED = sorted(file.stem for file in (ROOT / "experiments").glob("*.yaml"))
with chdir(ROOT):
    ACTIVE = active()
"""Their data come with the dependencies: others cannot be prepared on a fresh machine."""


def test_the_headline_study_is_kept_and_no_study_that_is_gone():
    assert {kept.HEADLINE} <= set(KEPT) <= set(SHIPPED)


@pytest.mark.parametrize("name", KEPT)
def test_what_is_kept_is_whole(monkeypatch, name):
    monkeypatch.chdir(ROOT)
    folder = kept.FOLDER / name
    assert store.is_whole(folder, store.manifest_of(folder, "")["fingerprint"])
    assert {"report.html", "report.md", "metrics.json", "figures"} <= {file.name for file in folder.iterdir()}


@pytest.mark.parametrize("name", sorted({*KEPT} & {*ACTIVE}))
def test_a_kept_report_of_other_code_is_said(tmp_path, monkeypatch, name):
    """No failure: code may be edited before its studies have run again. The summary of the tests shows the warning."""
    for folder in ("experiments", "docs"):
        (tmp_path / folder).symlink_to(ROOT / folder)
    monkeypatch.chdir(tmp_path)
    data.prepare(name, read_study(name).data)
    difference = kept.moved_on(name)
    if difference:
        warnings.warn(f"docs/results/{name} is {difference}; fix: python -m pipeline keep {name}", stacklevel=1)
    monkeypatch.setattr(kept, "code_of", lambda *roots: ({"pipeline.stages.train": "edited"}, {}))
    assert kept.moved_on(name).startswith("made ")


def test_the_readme_shows_the_kept_table(monkeypatch):
    monkeypatch.chdir(ROOT)
    text = Path("README.md").read_text(encoding="utf-8")
    assert kept.with_results(text) == text
    assert "| `gradient_norm` |" in kept.table(kept.HEADLINE)
    assert kept.overview() == (kept.FOLDER / "README.md").read_text(encoding="utf-8")
    assert kept.side_by_side() == (kept.FOLDER / "index.html").read_text(encoding="utf-8")


def numbers(robust, low, high, time=None, ok=True):
    found = {
        "clean_accuracy": {"mean": 0.9, "low": 0.9, "high": 0.9, "n": 3},
        "robust_accuracy": {"mean": robust, "low": low, "high": high, "n": 3},
        "masking": {"linearity": {"ok": ok, "value": 0.1}},
    }
    return found if time is None else found | {"step_time": {"ratio": time}}


def kept_report(name, losses, pairs):
    """`pairs`: loss, difference from standard, its bounds, and Holm's p, as pairwise.csv has them: standard − loss."""
    rows = [
        {"loss": "standard", "other": loss, "difference": -d, "low": -high, "high": -low, "holm": p, "n_seeds": 3}
        for loss, d, low, high, p in pairs
    ]
    rows.append({"loss": "pgd", "other": "fgsm", "difference": 9, "low": 8, "high": 10, "holm": np.nan, "n_seeds": 3})
    metrics = {"study": name, "task": "classification", "epsilon": 0.1, "losses": losses}
    facts = {"date": "2026-11-27", "commit": "abcdef0123"}
    return kept.Kept(metrics=metrics, facts=facts, pairs=pd.DataFrame(rows))


def test_the_comparison_says_which_loss_where_at_what_cost():
    one = kept_report(
        "one",
        {"standard": numbers(0.1, 0.05, 0.15, 1.0), "pgd": numbers(0.7, 0.6, 0.8, 6.07, ok=False)},
        [("pgd", 0.6, 0.5, 0.7, 0.001)],
    )
    two = kept_report(
        "two",
        {"standard": numbers(0.5, 0.4, 0.6), "fgsm": numbers(0.55, 0.5, 0.6), "void": numbers(0.1, 0, 0.2)},
        [("fgsm", 0.05, 0.01, 0.09, 0.06), ("void", -0.4, -0.5, -0.3, 0.001)],
    )
    text = " ".join(kept.page({"one": one, "two": two}, []).split())
    assert (
        "<code>one</code>: Under attack (ε = 0.1) <code>pgd</code> is the one loss found to improve it: robust accuracy"
        " 70.0 % against 10.0 %, a paired difference of +60.0 points [50.0, 70.0], n = 3." in text
    )
    assert "<code>two</code>: Under attack (ε = 0.1) no loss is found to improve robust accuracy." in text
    assert '<td class="better" data-label="one"><span class="number">70.0 %</span>' in text
    assert '<small class="interval">[60.0, 80.0]</small>' in text
    assert "<small>6.1 × a step</small>" in text
    assert "⚑ linearity" in text
    assert '<td class="worse" data-label="two"><span class="number">10.0 %</span>' in text
    assert '<td class="" data-label="two"><span class="number">55.0 %</span>' in text  # not after Holm's correction
    assert text.count("<small>not run</small>") == 3  # pgd in two; fgsm and void in one
    assert "<script" not in text


def test_most_is_said_among_significant_losses_only():
    """In `diabetes`, the means of six losses were lower than that of the one that is significant."""
    losses = {"standard": numbers(0.5, 0.4, 0.6), "pgd": numbers(0.8, 0.4, 0.9), "fgsm": numbers(0.6, 0.5, 0.7)}
    losses["trades"] = numbers(0.55, 0.5, 0.6)
    undecided, sure = ("pgd", 0.3, -0.1, 0.5, 0.2), ("fgsm", 0.1, 0.05, 0.15, 0.02)

    def said(*pairs):
        return words.best_under_attack(kept_report("s", losses, pairs).robust, score(Classification), "ε = 0.1")

    assert "`fgsm` is the one loss found to improve it: robust accuracy 60.0 %" in said(undecided, sure)
    assert "`fgsm` improves it most: robust" in said(undecided, sure, ("trades", 0.05, 0.02, 0.08, 0.01))
    assert said(undecided, ("trades", 0.05, 0.02, 0.08, 0.07)).endswith("no loss is found to improve robust accuracy.")


@pytest.fixture
def repository(project, monkeypatch):
    """The study `tiny` with a report, committed."""
    monkeypatch.setattr("pipeline.tracking.mirror", lambda *_: None)
    monkeypatch.setattr("pipeline.tracking.catch_up", lambda *_: None)
    monkeypatch.setattr(kept, "HEADLINE", "tiny")
    only(project, "standard")
    runner.prepare("tiny")
    for stage in (runner.train, runner.attack):
        stage("tiny", "standard", jobs=1)
    runner.report("tiny")
    (project / "README.md").write_text(f"# Tiny\n{kept.BEGIN}\nold\n{kept.END}\nmore\n", encoding="utf-8")
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@localhost"]
    subprocess.run(["git", "init", "--quiet"], check=True)
    subprocess.run(["git", "add", "README.md", "experiments/tiny.yaml", "params.yaml"], check=True)
    subprocess.run([*git, "commit", "--quiet", "--message", "all"], check=True)
    return project


def test_a_report_is_kept_with_its_commit(repository):
    folder = kept.keep("tiny")
    report = Path("experiments/tiny/report")
    assert (folder / "metrics.json").read_bytes() == (report / "metrics.json").read_bytes()
    assert kept.facts_of("tiny")["commit"] == kept.git("rev-parse", "HEAD")
    assert not kept.moved_on("tiny")
    readme = Path("README.md").read_text(encoding="utf-8")
    assert "| `standard` |" in readme
    assert "old" not in readme
    assert readme.endswith("more\n")
    assert "## [tiny](tiny/report.md)" in (kept.FOLDER / "README.md").read_text(encoding="utf-8")
    assert kept.keep("tiny") == folder  # what it has changed itself does not stop it
    edit(Path("experiments/tiny.yaml"), "epochs: 3", "epochs: 4")
    assert kept.moved_on("tiny") == "made with training.epochs 3, not 4"
    with pytest.raises(UserError, match=r"not committed \(experiments/tiny.yaml\); fix: commit them"):
        kept.keep("tiny")


def test_a_study_that_git_does_not_know_is_not_kept(repository):
    """Its commit would name a state without it."""
    subprocess.run(["git", "rm", "--quiet", "--cached", "experiments/tiny.yaml"], check=True)
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@localhost"]
    subprocess.run([*git, "commit", "--quiet", "--message", "without"], check=True)
    with pytest.raises(UserError, match=r"git does not know experiments/tiny.yaml, which made this report"):
        kept.keep("tiny")


def test_one_seed_has_no_interval_in_the_tables():
    """It was a traceback."""
    measure = replace(score(Classification), unit="")
    assert (measure.value(one := Estimate(0.5, None, None, 1)), measure.interval(one)) == ("50.0", "")
    assert measure.interval(Estimate(0.5, 0.4, 0.6, 3)) == "[40.0, 60.0]"


def test_a_report_that_is_not_of_the_study_as_it_stands_is_not_kept(repository):
    file = Path("experiments/tiny/report/metrics.json")
    file.write_text(file.read_text(encoding="utf-8").replace("0", "1", 1), encoding="utf-8")
    with pytest.raises(UserError, match=r"metrics.json is damaged: .* fix: dvc repro report@tiny"):
        kept.keep("tiny")
    assert not kept.FOLDER.exists()


def test_a_readme_without_the_marks_is_refused():
    with pytest.raises(UserError, match="are missing; fix: put them back"):
        kept.with_results("# No marks\n")
