"""What `python -m pipeline new` writes works as it stands: its test passes, a study with it is valid and trains."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from inputgrad.losses import Loss
from pipeline import data, skeleton
from pipeline.stages.train import train
from pipeline.study.read import read_study
from pipeline.study.run import Run
from tests.conftest import edit

ROOT = Path(__file__).parents[2]


def passes(file):
    """Whether pytest passes on a file of the current folder."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", file]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([".", str(ROOT)])}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    return done.returncode == 0, done.stdout


@pytest.mark.parametrize("kind", ["loss", "data"])
def test_a_new_part_is_tested_and_can_be_used(project, pipeline, kind):
    done = pipeline("new", kind, "mine_own")
    assert (done.code, done.err) == (0, "")
    well, said = passes("tests/test_mine_own.py")
    assert well, said
    *_, line = done.out.strip().splitlines()
    sys.path.insert(0, str(project))
    if kind == "data":
        assert line.endswith("in a study: data: {name: mine_own, use: own.mine_own}")
        assert len(data.module_of({"name": "mine_own", "use": "own.mine_own"}).load().y["test"]) > 0
        return
    edit(project / "experiments/tiny.yaml", "losses:\n", f"losses:\n  {line.partition('study: ')[2]}\n")
    study = read_study("tiny")
    assert isinstance(study.loss("mine_own"), Loss)
    data.prepare("tiny", study.data)
    assert (train(Run(study, "mine_own", 0)) / "best.pt").exists()


def test_a_part_whose_test_can_fail(project, pipeline):
    pipeline("new", "loss", "mine")
    edit(project / "own/mine.py", "rows(at.gradient())", "rows(at.gradient().detach())")
    well, said = passes("tests/test_mine.py")
    assert not well
    assert "test_it_depends_on_the_input_gradient" in said


def test_a_new_study_is_valid(project, pipeline):
    done = pipeline("new", "study", "second")
    assert "next: make study STUDY=second" in done.out
    assert list(read_study("second").losses) == ["standard", "detached_norm", "gradient_norm"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("loss", "pgd"), "pgd is a loss of this project already; fix: another name"),
        (("data", "digits"), "digits is a data set of this project already"),
        (("study", "tiny"), "experiments/tiny.yaml is there already; fix: another name, or delete it"),
        (("loss", "../x"), "is no plain name"),
    ],
)
def test_mistakes_are_one_line(project, pipeline, arguments, said):
    before = sorted(project.rglob("*"))
    done = pipeline("new", *arguments)
    assert done.code == 2
    assert said in done.err
    assert done.err.count("\n") == 1
    assert sorted(project.rglob("*")) == before


def test_templates_are_the_kinds():
    assert {file.stem.partition(".")[0] for file in skeleton.TEMPLATES.glob("*.txt")} == {
        *skeleton.KINDS,
        "test_loss",
        "test_data",
    }
