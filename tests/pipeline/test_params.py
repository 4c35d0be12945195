"""params.yaml: by hand the studies, below them what DVC's stages are made of, refused where it is behind."""

import subprocess
import sys
from pathlib import Path

import pytest

from inputgrad.errors import UserError
from pipeline.stages import runner
from pipeline.study import params
from pipeline.study.active import active
from pipeline.study.params import check_all, read_params
from pipeline.workers import Engine
from tests.conftest import LOSSES, PARAMS, TINY, edit, stages

BEHIND = (
    r"^params\.yaml: the stages of DVC are not those that the studies state; fix: python -m pipeline check --write$"
)
ROOT = Path(__file__).parents[2]


@pytest.fixture
def project(project):
    """A git repository, as DVC needs it."""
    subprocess.run(["git", "init", "-q"], check=True)
    return project


def written(project: Path) -> str:
    check_all(write=True)
    return (project / "params.yaml").read_text(encoding="utf-8")


def test_the_tests_have_what_the_command_writes(project):
    (project / "params.yaml").write_text("studies: [tiny]\n")
    assert written(project) == PARAMS


def test_what_is_written_by_hand_stays_and_nothing_is_written_twice(project):
    by_hand = "# ε is the attacker's\n\nstudies:   # which\n  - tiny   # the only one\n"
    (project / "params.yaml").write_text(by_hand, encoding="utf-8")
    once = written(project)
    assert once.startswith(by_hand)
    before = (project / "params.yaml").stat().st_mtime_ns
    assert written(project) == once
    assert (project / "params.yaml").stat().st_mtime_ns == before


def test_losses_stand_in_the_order_of_the_study(project):
    edit(project / "experiments/tiny.yaml", "  standard: {}\n", "")
    edit(project / "experiments/tiny.yaml", "attack:\n", "  standard: {}\nattack:\n")
    assert list(params.expected(check_all(write=True))[0]) == [f"tiny-{n}" for n in (*LOSSES[1:], "standard")]
    assert written(project) == stages(*LOSSES[1:], "standard")


def test_a_study_that_is_run_by_name_is_added(project):
    """Else DVC has no stages for it; a study with a mistake is not added."""
    (project / "experiments/other.yaml").write_text((project / "experiments/tiny.yaml").read_text())
    file = project / "params.yaml"
    assert params.add(["tiny"]) == []
    assert params.add(["tiny", "other"]) == ["other"]
    assert file.read_text().startswith("studies: [tiny, other]\n")
    params.check_all(write=True)
    assert {entry["study"] for entry in read_params().per_loss.values()} == {"tiny", "other"}
    (project / "experiments/bad.yaml").write_text("data: 1\n")
    with pytest.raises(UserError, match=r"bad\.yaml"):
        params.add(["bad"])
    file.write_text("studies:\n  - tiny\n")
    with pytest.raises(
        UserError, match=r"params\.yaml: no 'studies: \[\.\.\.\]' on a line.*; fix: add other there by hand"
    ):
        params.add(["other"])


def test_keys_below_the_generated_part_are_not_lost(project):
    (project / "params.yaml").write_text(PARAMS.replace("studies: [tiny]\n", "") + "studies: [tiny]\n")
    with pytest.raises(UserError, match=r"params\.yaml: 'studies' stands below the generated part; fix: move it above"):
        check_all(write=True)


EDITS = {
    "added": ("losses:\n", "losses:\n  pgd: {epsilon: 0.1}\n"),
    "removed": ("  detached_norm: {strength: 0.3}\n", ""),
    "renamed": ("  detached_norm: {strength: 0.3}\n", "  trades: {epsilon: 0.1}\n"),
}


@pytest.mark.parametrize("edited", EDITS)
def test_a_file_that_is_behind_is_refused_everywhere(project, edited):
    edit(project / "experiments/tiny.yaml", *EDITS[edited])
    for refused in (
        check_all,
        lambda: runner.prepare("tiny"),
        lambda: runner.train("tiny", "standard"),
        lambda: runner.attack("tiny", "standard"),
        lambda: runner.report("tiny"),
        lambda: runner.run(["tiny"], Engine()),
    ):
        with pytest.raises(UserError, match=BEHIND):
            refused()
    assert not (project / "data").exists()
    check_all(write=True)
    runner.prepare("tiny")


def test_a_study_that_is_no_longer_active_is_behind_until_it_is_written(project):
    (project / "experiments/other.yaml").write_text(TINY)
    (project / "params.yaml").write_text("studies: [other, tiny]\n")
    both = written(project)
    (project / "params.yaml").write_text(both.replace("[other, tiny]", "[tiny]"))
    for refused in (check_all, lambda: runner.prepare("other")):
        with pytest.raises(UserError, match=BEHIND):
            refused()
    runner.prepare("tiny")  # a stage looks at its own study alone
    assert written(project) == PARAMS
    runner.prepare("other")  # without DVC


def test_a_mistake_in_another_study_stops_no_stage(project):
    (project / "experiments/other.yaml").write_text(TINY)
    (project / "params.yaml").write_text("studies: [other, tiny]\n")
    written(project)
    (project / "experiments/other.yaml").write_text("losses: [")
    assert runner.prepare("tiny").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("studies: []\n", r"params\.yaml: studies: "),
        ("study: [tiny]\n", r"params\.yaml: (unknown key 'study'|key 'studies' is missing)"),
        ("studies: [tiny]\nlosses: [standard]\n", r"params\.yaml: unknown key 'losses'"),
        ("studies: [teeny]\n", r"experiments/teeny\.yaml is missing"),
        ("studies: [tiny, tiny]\n", r"params\.yaml: studies: a study is named twice; fix: name it once"),
        ("studies: [tiny]\nstudies: [tiny]\n", r"params\.yaml: line 2 states 'studies' a second time; fix: state it"),
        ("studies: ['x$(touch X)']\n", r"params\.yaml: studies: 'x\$\(touch X\)' is no plain name; fix: letters"),
        ("studies: [../tiny]\n", r"params\.yaml: studies: '\.\./tiny' is no plain name"),
        ('studies: ["null"]\n', r"params\.yaml: studies: 'null' is no plain name"),
    ],
)
def test_a_mistake_in_params(project, text, message):
    (project / "params.yaml").write_text(text)
    (project / "experiments" / "x$(touch X).yaml").write_text(TINY)
    for write in (False, True):
        with pytest.raises(UserError, match=message) as error:
            check_all(write)
        assert "\n" not in str(error.value)
    assert (project / "params.yaml").read_text() == text


@pytest.mark.parametrize("name", ["x$(touch X)", "../x", "a-b", "x\ny"])
def test_the_command_line_takes_plain_names_alone(project, pipeline, name):
    commands_of_a_study = ["prepare", "train", "attack", "report", "run", "search"]
    for command in commands_of_a_study:
        done = pipeline(command, name, *(["standard"] if command in ("train", "attack") else []))
        assert (done.code, done.out) == (2, "")
        assert (
            done.err
            == f"error: study: {name!r} is no plain name; fix: letters, digits and _ only, and no digit first\n"
        )
    for command in ("train", "attack", "search"):
        done = pipeline(command, "tiny", name)
        assert (done.code, done.err.count("\n")) == (2, 1)
        assert done.err.startswith(f"error: loss: {name!r} is no plain name")
    assert {p.name for p in project.iterdir()} == {".git", "experiments", "params.yaml"}


def test_without_git(project, monkeypatch):
    (project / ".git").rename(project / "gone")
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(project.parent))
    with pytest.raises(UserError, match=r"not in a git repository.*git init"):
        check_all()


def test_outside_the_project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"params\.yaml is missing; run this command in the project's root"):
        active()


def test_the_shipped_file_is_up_to_date_and_stages_keep_their_names(monkeypatch):
    monkeypatch.chdir(ROOT)
    assert len(check_all()) == 5
    listed = subprocess.run(["dvc", "stage", "list"], capture_output=True, text=True, check=True, env=path()).stdout
    names = [line.split()[0] for line in listed.splitlines()]
    assert {"prepare@digits", "train@digits-fgsm", "attack@decoy_digits-standard", "report@diabetes"} <= set(names)
    assert len(names) == len(set(names)) == 1 + 2 * 5 + 2 * (3 * 13 + 2 * 4)


def test_no_line_is_long_and_no_code_is_named():
    """People read both files: lists of code are found by following imports, not kept."""
    params_text, stages_text = ((ROOT / name).read_text(encoding="utf-8") for name in ("params.yaml", "dvc.yaml"))
    assert max(map(len, params_text.splitlines())) <= 100
    assert len(stages_text.splitlines()) <= 70
    assert ".py" not in params_text + stages_text


def path() -> dict[str, str]:
    import os

    return os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
