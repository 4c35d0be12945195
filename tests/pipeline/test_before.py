"""What can be known of a study and its data is refused before anything is trained, in one line with its fix."""

import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from inputgrad.attacks import Threat, fab, square
from inputgrad.errors import UserError
from pipeline import data, doctor, repository
from pipeline.stages import before, runner
from pipeline.stages.runner import Part
from pipeline.study.params import write_params
from pipeline.study.read import read_study
from pipeline.study.run import Run
from tests.conftest import edit, only
from tests.pipeline.test_cli import expect_refusal

STUDY = Path("experiments/tiny.yaml")
OWN = """
import torch
from inputgrad.losses.gradient_norm import GradientNorm

class Mine(GradientNorm):
    def term(self, at):
        raise ValueError("no such thing")
"""
NETS = """
from torch import nn

def normed(shape, outputs):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.BatchNorm1d(8), nn.SiLU(), nn.Linear(8, outputs))

def narrow():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
"""


@pytest.fixture
def project(project):
    only(project, "standard", "gradient_norm")
    Path("mine.py").write_text(OWN + NETS, encoding="utf-8")
    return project


def refused(pipeline, *pieces):
    """`pipeline run` ends with one line, and no epoch was trained."""
    write_params([read_study("tiny")])
    done = pipeline("run", "tiny", "--jobs", "1")
    expect_refusal(done, *pieces)
    assert not list(Path(".state").glob("*/history.csv"))
    assert "finished" not in done.err


def three_classes():
    g = np.random.default_rng(0)
    frame = pd.DataFrame({"a": g.normal(size=90), "b": g.normal(size=90), "kind": np.repeat(["x", "y", "z"], 30)})
    frame.to_csv("mine.csv", index=False)
    edit(STUDY, "data: {name: digits}", "data: {name: table, file: mine.csv, target: kind, task: classification}")


MANY_CLASSES = """
from inputgrad.attacks import Traits
TRAITS = Traits(classes=True, least_classes=4)
def perturb(model, x, y, threat, draws):
    return x
"""


def test_attacks_that_the_data_are_not_for(project, pipeline):
    three_classes()
    refused(pipeline, f"{STUDY}: attack.at_epsilon: attack square needs images (C, H, W) of 5 pixels")
    edit(STUDY, "square: {queries: 20}", "mine: {use: many_classes}")
    Path("many_classes.py").write_text(MANY_CLASSES)
    refused(pipeline, f"{STUDY}: attack.at_epsilon: attack mine needs 4 classes or more, the model has 3; take it out")
    edit(STUDY, "mine: {use: many_classes}, ", "")
    edit(STUDY, "attack:\n", "search: {attacks: {mine: {use: many_classes}}}\nattack:\n")
    refused(pipeline, "search.attacks: attack mine needs 4 classes")
    expect_refusal(pipeline("search", "tiny", "gradient_norm"), "search.attacks: attack mine needs 4 classes")


def test_what_an_attack_needs_is_said_by_itself_too():
    x, y = torch.rand(4, 1, 4, 4), torch.tensor([0, 1, 2, 0])
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 3))
    some = Threat(norm="linf", epsilon=0.1, bounds=(0.0, 1.0))
    with pytest.raises(UserError, match=r"attack square needs images .* not \(1, 4, 4\); use random_search"):
        square.perturb(net, x, y, some, None)
    fab.TRAITS.refuse("fab", (7,), 2)


def test_more_examples_than_there_are(project, pipeline):
    edit(STUDY, "  epsilon: 0.1\n", "  epsilon: 0.1\n  examples: 361\n")
    refused(pipeline, f"{STUDY}: attack.examples: 361 asked for, the test split has 360; fix: at most 360")
    expect_refusal(pipeline("train", "tiny", "standard"), "attack.examples: 361")
    assert not list(Path(".state").glob("*/history.csv"))


def test_training_options_that_the_data_are_not_for(project, pipeline):
    three_classes()
    edit(STUDY, "square: {queries: 20}, ", "")
    edit(STUDY, "epochs: 3,", "epochs: 3, augmentation: {flip: true},")
    refused(pipeline, "training.augmentation needs images; fix: leave it out for inputs (2,)")


def test_nets_from_elsewhere(project, pipeline):
    for stated, said in (
        ("{model: 'mine:narrow'}", "checkpoints.theirs: labels from 0 to"),
        ("{weights: theirs.pt}", "checkpoints.theirs: theirs.pt holds more than weights"),
    ):
        Path("theirs.pt").write_bytes(b"no weights")
        before_it = STUDY.read_text(encoding="utf-8")
        edit(STUDY, "attack:\n", f"checkpoints: {{theirs: {stated}}}\nattack:\n")
        refused(pipeline, said)
        STUDY.write_text(before_it, encoding="utf-8")


def test_weights_that_a_net_begins_with_are_there(project):
    edit(STUDY, "{name: mlp, hidden: [8], activation: silu}", "{name: torchvision, net: resnet18, weights: w.pt}")
    with pytest.raises(UserError, match=r"tiny\.yaml: model\.weights: w\.pt is missing; fix: correct the name"):
        read_study("tiny")


def test_a_loss_that_fails_is_found_before_the_others_are_trained(project, pipeline):
    edit(STUDY, "losses:\n", 'losses:\n  bad: {use: "mine:Mine", strength: 0.1}\n')
    said = "losses.bad: a step of training on 8 examples fails (ValueError: no such thing); fix: the loss"
    refused(pipeline, said, "python -m pipeline audit tiny bad", "nothing was trained")
    expect_refusal(pipeline("train", "tiny", "bad", "--jobs", "1"), said, "nothing was trained")
    assert not list(Path(".state").glob("*/history.csv"))


def test_a_last_batch_of_one_with_batch_norm(project, pipeline):
    """1078 examples: PyTorch would say it at the end of the first epoch, in a traceback."""
    edit(STUDY, "{name: mlp, hidden: [8], activation: silu}", '{name: own, use: "mine:normed"}')
    data.prepare("tiny", read_study("tiny").data)
    n = data.read_data("tiny", read_study("tiny").data, ("train",)).counts["train"]
    edit(STUDY, "batch_size: 256", f"batch_size: {n - 1}")
    refused(pipeline, "a step of training on 1 examples fails", "training.batch_size", "nothing was trained")


def test_a_rehearsal_leaves_no_trace(project):
    data.prepare("tiny", read_study("tiny").data)
    torch.manual_seed(5)
    state, files = torch.get_rng_state(), sorted(project.rglob("*"))
    before.rehearse(Run(read_study("tiny"), "gradient_norm", 0))
    assert torch.equal(torch.get_rng_state(), state)
    assert sorted(f for f in project.rglob("*") if "__pycache__" not in f.parts) == files


def test_the_others_are_called_finished_only_where_there_are_some(project):
    study = read_study("tiny")
    data.prepare("tiny", study.data)
    parts = [Part(study, name) for name in study.losses]
    parts[0].error = UserError("it failed")
    with pytest.raises(UserError, match=r"^it failed; every other loss is finished$"):
        runner.refuse_failures(parts)
    parts[1].error = UserError("so did this")
    with pytest.raises(UserError, match=r"^it failed \(and gradient_norm failed too\); no loss is finished$"):
        runner.refuse_failures(parts)


def test_what_dvc_would_refuse_is_refused_before_the_training(project, pipeline, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(project.parent))
    run = ("run", "--write", "tiny")
    expect_refusal(pipeline(*run), "not in a git repository, which DVC needs; fix: git init")
    subprocess.run(["git", "init", "-q"], check=True)
    expect_refusal(pipeline(*run), "there is no folder .dvc; fix: dvc init")
    Path(".gitignore").write_text("dvc.yaml\n")
    expect_refusal(pipeline(*run), "ignores dvc.yaml")
    monkeypatch.setattr(repository.shutil, "which", lambda _: None)
    expect_refusal(pipeline(*run), "git is not installed, which DVC needs; fix: install it")
    expect_refusal(pipeline("check"), "git is not installed")
    with pytest.raises(UserError, match="git is not installed"):
        doctor.git()
    assert not Path("data").exists()


def test_a_repository_that_git_refuses_is_not_called_missing(project, monkeypatch):
    words = "fatal: detected dubious ownership in repository at '/x'\nTo add an exception: git config --global …"
    answer = subprocess.CompletedProcess([], 128, "", words)
    monkeypatch.setattr(repository, "git", lambda *_: answer)
    with pytest.raises(UserError, match=r"git refuses this folder .*dubious ownership.*; fix: what git says"):
        repository.refuse_without_git()
