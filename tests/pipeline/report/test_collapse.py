"""A training that collapses: when it counts, where the score comes from, what the report says."""

import json
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch

from pipeline import data, layout
from pipeline.report.page import context, write
from pipeline.results import collapse, read
from pipeline.results.collapse import Collapses, collapses, has_collapsed
from pipeline.results.opened import OpenStudy
from pipeline.results.read import Results
from pipeline.results.summary import summarise
from pipeline.stages import train
from pipeline.stages.robust_validation import robust_score
from pipeline.study.read import read_study
from pipeline.study.run import Run
from tests.conftest import edit


@pytest.mark.parametrize(
    ("scores", "said"),
    [
        ([0.2, 0.5, 0.6], False),
        ([0.2, 0.6, 0.1], True),
        ([0.2, 0.6, 0.1, 0.55], False),  # it recovers
        ([0.6, 0.1, 0.2, 0.45], True),  # not far enough
        ([0.6, 0.8, 0.7], False),  # by 0.1, not by more
        ([0.6, 0.8, 0.69], True),
        ([0.3], False),
    ],
)
def test_a_fall_of_more_than_ten_points_that_lasts(scores, said):
    assert has_collapsed(scores) is said


def history(robust: dict[tuple[str, int], list[float]]) -> pd.DataFrame:
    """A made history; a row per loss, seed and epoch."""
    frames = [
        pd.DataFrame({"loss": loss, "seed": seed, "epoch": range(1, len(scores) + 1), collapse.COLUMN: scores})
        for (loss, seed), scores in robust.items()
    ]
    made = pd.concat(frames, ignore_index=True)
    return made.assign(validation_score=0.7, input_gradient_norm=1.0, term_gradient_ratio=0.5)


MADE = {
    **{("standard", seed): [0.1, 0.0, 0.05] for seed in range(3)},
    ("fgsm", 0): [0.3, 0.5, 0.0],
    ("fgsm", 1): [0.3, 0.5, 0.5],
    ("fgsm", 2): [0.6, 0.0, 0.1],
    **{(loss, seed): [0.3, 0.4, 0.5] for loss in ("gradient_norm", "detached_norm") for seed in range(3)},
}


def test_the_order_of_the_epochs_counts_and_not_that_of_the_rows():
    one = history({("fgsm", 0): [0.3, 0.5, 0.0]})
    assert collapses(one) == collapses(one.iloc[::-1]) == Collapses(1, 1)
    assert collapses(one.drop(columns=collapse.COLUMN)) is None


def test_the_report_counts_the_seeds_of_every_loss(results: Results, tmp_path: Path) -> None:
    training = results.study.training.model_copy(update={"robust_validation": 200})
    study = results.study.model_copy(update={"training": training})
    made = replace(results, study=study, history=history(MADE))
    summary = summarise(made)
    assert {row.name: row.collapsed for row in summary.rows} == {
        "standard": (0, 3),
        "fgsm": (2, 3),
        "gradient_norm": (0, 3),
        "detached_norm": (0, 3),
    }
    assert summary.metrics()["losses"]["fgsm"]["collapsed"] == {"seeds": 2, "of": 3}
    write(made, summary, tmp_path)
    said = "collapsed in 2 of 3 seeds"
    assert f"- `fgsm`: {said}" in (tmp_path / "report.md").read_text(encoding="utf-8")
    page = (tmp_path / layout.PAGE).read_text(encoding="utf-8")
    assert f"<code>fgsm</code>: {said}" in page
    assert "the first 200 validation examples at linf ε = 0.1" in page


def test_without_a_robust_validation_score_nothing_is_said(results: Results) -> None:
    summary = summarise(results)
    assert context(results, summary)["collapsed"] == []
    assert "collapsed" not in json.dumps(summary.metrics())


@pytest.fixture
def run(project):
    """`standard` of `tiny`, with a robust validation score of 60 examples."""
    edit(project / "experiments/tiny.yaml", "epochs: 3,", "epochs: 3, robust_validation: 60,")
    study = read_study("tiny")
    data.prepare("tiny", study.data)
    return Run(study, "standard", 0)


def test_the_score_of_every_epoch_is_in_the_history(run, project):
    folder = train.train(run)
    frame = pd.read_csv(folder / layout.HISTORY)
    scores = frame["robust_validation_accuracy"]
    assert len(scores) == 3
    assert (scores * 60).round(9).mod(1).eq(0).all()
    assert (scores < frame["validation_accuracy"]).all()
    edit(project / "experiments/tiny.yaml", "robust_validation: 60, ", "")
    plain = train.train(Run(read_study("tiny"), "standard", 0))
    without = pd.read_csv(plain / layout.HISTORY)
    pd.testing.assert_frame_equal(frame[without.columns], without)  # nothing of the training moved
    assert "robust_validation_accuracy" not in without


def test_the_history_is_read_with_it(run):
    train.train(run)

    class Opened(OpenStudy):
        def folder(self, stage, name, seed=None):
            return run.state

    found = read.history(Opened(run.study), "standard", 0)
    assert found[collapse.COLUMN].between(0, 1).all()


def test_it_is_the_share_that_stands_against_projected_gradient_ascent(run):
    dataset = data.read_data("tiny", run.study.data, ("train", "validation"))
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10)).eval().requires_grad_(False)
    torch.nn.init.zeros_(net[1].weight)
    torch.nn.init.zeros_(net[1].bias)
    net[1].bias[3] = 1.0  # always class 3, which no attack moves
    share = float((dataset.y["validation"][:60] == 3).double().mean())
    assert 0 < share < 1
    assert robust_score(net, dataset, run.study) == pytest.approx(share)
    strong = run.study.model_copy(update={"attack": run.study.attack.model_copy(update={"epsilon": 1.0})})
    one = Run(run.study, "standard", 0).build(dataset).eval().requires_grad_(False)
    weak = run.study.model_copy(update={"attack": run.study.attack.model_copy(update={"epsilon": 1e-6})})
    x, y, _ = dataset.first("validation", 60)
    assert robust_score(one, dataset, weak) == pytest.approx(run.study.task.score(one(x), y))
    assert robust_score(one, dataset, strong) == 0


def test_epsilon_belongs_to_a_training_that_is_attacked_with_it_and_to_no_other(run, project):
    def edited(epsilon):
        edit(project / "experiments/tiny.yaml", "  epsilon: 0.1\n", f"  epsilon: {epsilon}\n")
        found = Run(read_study("tiny"), "standard", 0).settings
        edit(project / "experiments/tiny.yaml", f"  epsilon: {epsilon}\n", "  epsilon: 0.1\n")
        return found

    assert edited(0.2) != run.settings
    assert edited(0.2)["training"]["robust_validation_at"] == {"norm": "linf", "epsilon": 0.2}
    edit(project / "experiments/tiny.yaml", "robust_validation: 60, ", "")
    assert edited(0.2) == edited(0.3)
