"""A net trained elsewhere is attacked as the losses of a study are, and stands beside them in the report."""

import re
from pathlib import Path

import pandas as pd
import pytest
import torch

from inputgrad.errors import UserError
from pipeline import dvc, layout, store
from pipeline.fingerprint import read_again
from pipeline.results import read
from pipeline.results.opened import OpenStudy
from pipeline.stages import attack, runner, train
from pipeline.stages.attack import Evaluation
from pipeline.study import params
from pipeline.study.read import read_study
from pipeline.study.run import Run, runs
from tests.conftest import edit

OWN_NET = """
from torch import nn
import torch


def net():
    torch.manual_seed(3)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 12), nn.Tanh(), nn.Linear(12, 10))


def narrow():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 3))


number = 5
"""


def state(lines):
    """Let `tiny` name these checkpoints."""
    edit(Path("experiments/tiny.yaml"), "attack:\n", f"checkpoints: {lines}\nattack:\n")
    params.write_params([read_study("tiny")])


@pytest.fixture
def weights(project):
    """A file with the weights of `standard`, seed 0, and that run."""
    runner.prepare("tiny")
    study = read_study("tiny")
    found = {f"seed-{run.seed}": train.train(run) for run in runs(study, "standard")}
    store.publish(found, layout.stage(study.name, "standard", "train"))
    torch.save(torch.load(found["seed-0"] / "best.pt", weights_only=True)["model"], "theirs.pt")
    return Run(study, "standard", 0)


def given_net(name):
    """What the report reads of it."""
    return read.given_net(OpenStudy(read_study("tiny")), name)


def test_the_same_weights_have_the_same_outcomes(weights, pipeline):
    state("{theirs: {weights: theirs.pt}}")
    done = pipeline("checkpoint", "tiny", "theirs")
    assert (done.code, done.err) == (0, "")
    target = layout.stage("tiny", "theirs", "checkpoint")
    mine = pd.read_parquet(target / "outcomes.parquet")
    theirs = pd.read_parquet(attack.evaluate(Evaluation(weights)) / "outcomes.parquet").drop(columns="seed")
    theirs = theirs[theirs["attack"] != "transfer"]  # made on another net of the study
    assert {"clean", "noise", "pgd", "fab", "apgd_ce", "pgd_40x5"} <= set(mine["attack"])
    before_black_box = theirs["attack"] != "square"  # it attacks what transfer has left
    common = [c for c in mine if c in theirs]
    pd.testing.assert_frame_equal(
        mine[mine["attack"] != "square"][common].reset_index(drop=True),
        theirs[before_black_box][common].reset_index(drop=True),
    )
    one = given_net("theirs")
    clean = mine[mine["attack"] == "clean"]
    assert one.clean == 1 - clean["broken"].mean()
    assert one.examples == len(clean)
    assert one.source == "the study's net, theirs.pt"


def test_a_net_of_ones_own_with_and_without_weights(weights, pipeline):
    Path("mynets.py").write_text(OWN_NET)
    state("{mine: {model: 'mynets:net'}}")
    assert pipeline("checkpoint", "tiny", "mine").code == 0
    one = given_net("mine")
    assert 0 <= one.robust <= one.clean < 0.6  # it was never trained
    assert params.expected([read_study("tiny")])[1]["tiny-mine"] == {"study": "tiny", "checkpoint": "mine"}
    before = dvc.current()["checkpoint"]["tiny-mine"]
    edit(Path("mynets.py"), "manual_seed(3)", "manual_seed(5)")
    read_again()
    assert dvc.current()["checkpoint"]["tiny-mine"] != before


def test_what_changes_makes_it_stale(weights, pipeline):
    Path("mynets.py").write_text(OWN_NET)
    state("{mine: {model: 'mynets:net'}}")
    pipeline("checkpoint", "tiny", "mine")
    Path("mynets.py").write_text(OWN_NET.replace("manual_seed(3)", "manual_seed(4)"))
    read_again()
    with pytest.raises(UserError, match="made by another mynets"):
        given_net("mine")


def test_other_weights_or_attacks_are_another_result(weights, pipeline):
    state("{theirs: {weights: theirs.pt}}")
    pipeline("checkpoint", "tiny", "theirs")
    before = dvc.current()["checkpoint"]["tiny-theirs"]
    contents = torch.load("theirs.pt", weights_only=True)
    torch.save({key: 2 * value for key, value in contents.items()}, "theirs.pt")
    assert dvc.current()["checkpoint"]["tiny-theirs"] != before
    with pytest.raises(UserError, match=r"dvc repro -f checkpoint@tiny-theirs"):
        given_net("theirs")
    with pytest.raises(UserError, match="checkpoint"):
        list(OpenStudy(read_study("tiny")).manifests([]))
    assert pipeline("checkpoint", "tiny", "theirs").code == 0
    given_net("theirs")
    edit(Path("experiments/tiny.yaml"), "queries: 20", "queries: 30")
    with pytest.raises(UserError, match=r"dvc repro -f checkpoint@tiny-theirs"):
        given_net("theirs")


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("{standard: {weights: theirs.pt}}", "checkpoints.standard has the name of a loss"),
        ("{theirs: {}}", "checkpoints.theirs names neither a model nor weights"),
        ("{theirs: {weights: none.pt}}", "checkpoints.theirs.weights: none.pt is missing"),
        ("{theirs: {weight: theirs.pt}}", "checkpoints.theirs.weight"),
        ("{theirs: {model: mynets}}", "checkpoints.theirs.model"),
        ("{theirs: {model: 'mynets:nothing'}}", "checkpoints.theirs.model: "),
        ("{the/irs: {weights: theirs.pt}}", "no plain name"),
    ],
)
def test_a_mistake_in_the_study_is_one_line(weights, pipeline, lines, said):
    edit(Path("experiments/tiny.yaml"), "attack:\n", f"checkpoints: {lines}\nattack:\n")
    done = pipeline("attack", "tiny", "standard")
    assert done.code == 2
    assert done.err.count("\n") == 1
    assert "experiments/tiny.yaml" in done.err
    assert said in done.err


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("{model: 'mynets:narrow'}", "labels from 0 to 9 do not fit 3 classes"),
        ("{model: 'mynets:number'}", "gives a int"),
        ("{model: 'mynets:net', weights: theirs.pt}", "holds the weights of another net"),
        ("{weights: broken.pt}", "checkpoints.theirs: broken.pt holds more than weights"),
    ],
)
def test_what_does_not_fit_is_one_line(weights, pipeline, given, said):
    Path("mynets.py").write_text(OWN_NET)
    Path("broken.pt").write_bytes(b"no weights")
    state(f"{{theirs: {given}}}")
    done = pipeline("checkpoint", "tiny", "theirs")
    assert (done.code, done.out) == (2, "")
    assert done.err.count("\n") == 1
    assert said in done.err
    assert not layout.stage("tiny", "theirs", "checkpoint").exists()


@pytest.mark.parametrize("name", ["my weights, {last}: #1.pt", "größe.pt"])
def test_any_name_of_a_file_is_taken(weights, pipeline, name):
    Path("theirs.pt").rename(name)
    state(f"{{theirs: {{weights: '{name}'}}}}")
    assert re.fullmatch(r"[0-9a-f]{16}", dvc.current()["checkpoint"]["tiny-theirs"])
    assert pipeline("checkpoint", "tiny", "theirs").code == 0


def test_an_unknown_one_is_named(weights, pipeline):
    state("{theirs: {weights: theirs.pt}}")
    done = pipeline("checkpoint", "tiny", "their")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "did you mean 'theirs'" in done.err


def test_prune_keeps_it(weights, pipeline):
    state("{theirs: {weights: theirs.pt}}")
    pipeline("checkpoint", "tiny", "theirs")
    assert ".state/: 0 folders" in pipeline("prune", "--yes").out
    assert layout.data("tiny").exists()
