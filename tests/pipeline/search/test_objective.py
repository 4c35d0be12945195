"""A trial's score is the one that the study would report, and the test split is never seen."""

import dataclasses

import numpy as np
import pytest
import torch

from inputgrad.attacks import Threat, fgsm, noise
from inputgrad.attacks.pgd import perturb
from inputgrad.errors import UserError
from inputgrad.gradients.forward import Draws
from pipeline import data, layout, store
from pipeline.data import _file
from pipeline.search import objective, rung
from pipeline.stages import train
from pipeline.study.read import read_study
from pipeline.study.run import Run
from tests.conftest import edit
from tests.pipeline.search.conftest import ROOT, found, search, stored, task


def first_rung(project):
    return rung.Rung(rung.TrialRun(task().run.study, "gradient_norm", 2, project / "place"), 2)


def judged(searchable, attacks):
    """The scores of one trained net under the judging attacks that a study states, and what is needed to check them."""
    file = searchable / "experiments/tiny.yaml"
    edit(file, file.read_text(), file.read_text() + f"search: {{attacks: {attacks}}}\n")
    run = task().run
    dataset = objective.read_splits(run.study)
    model = run.build(dataset)
    model.load_state_dict(store.load_checkpoint(train.train(run) / "best.pt", "")["model"])
    return objective.scores(model, run, dataset), model, dataset.x["validation"], dataset.y["validation"]


def test_the_robust_score_is_the_attack_s_at_the_study_s_epsilon(searchable):
    scores, model, x, y = judged(searchable, "{pgd: {steps: 10, restarts: 1}}")
    threat = Threat(norm="linf", epsilon=0.1, bounds=(0.0, 1.0))
    moved = perturb(model, x, y, threat, Draws(torch.Generator().manual_seed(2)), steps=10, restarts=1)
    assert scores.robust == float((model(moved).argmax(1) == y).double().mean())
    assert scores.clean == float((model(x).argmax(1) == y).double().mean())


def test_the_judges_are_one_worst_case(searchable, monkeypatch):
    """An example that any of them breaks is broken; a later one sees only what still stands."""
    seen = []

    def breaks(share):
        def attack(model, x, y, threat, draws):
            seen.append(len(x))
            moved = x.clone()
            moved[: int(share * len(x))] = 1 - moved[: int(share * len(x))]
            return moved

        return attack

    monkeypatch.setattr(noise, "perturb", breaks(0.5))
    monkeypatch.setattr(fgsm, "perturb", breaks(0.0))
    scores, model, x, y = judged(searchable, "{noise: {}, fgsm: {}}")
    right = model(x).argmax(1) == y
    assert seen[0] == int(right.sum())
    assert scores.robust == pytest.approx(seen[1] / len(x))
    assert scores.robust < scores.clean


class Scaled(torch.nn.Module):
    """Logits so large that the cross-entropy of a right answer is exactly 0 and has no gradient."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        return 1e4 * self.model(x)


def test_a_net_that_hides_the_gradient_of_cross_entropy_is_seen_through(searchable):
    run = task().run
    dataset = objective.read_splits(run.study)
    model = run.build(dataset)
    model.load_state_dict(store.load_checkpoint(train.train(run) / "best.pt", "")["model"])
    honest, hiding = (objective.scores(net, run, dataset) for net in (model, Scaled(model)))
    pgd_alone = run.study.search.model_copy(update={"attacks": {"pgd": {"steps": 10, "restarts": 1}}})
    fooled = dataclasses.replace(run, study=run.study.model_copy(update={"search": pgd_alone}))
    assert objective.scores(Scaled(model), fooled, dataset).robust > honest.robust + 0.1
    assert hiding.robust == pytest.approx(honest.robust, abs=0.02)


def test_the_judges_fit_the_task(monkeypatch):
    monkeypatch.chdir(ROOT)
    study = read_study("digits")
    assert list(objective.judges(study, 10)) == ["pgd", "apgd_t"]
    assert list(objective.judges(study, 3)) == ["pgd", "fab"]
    assert list(objective.judges(read_study("diabetes"), 1)) == ["pgd"]


def test_the_test_split_is_not_needed(searchable):
    """A file without it is enough for a whole search."""
    with np.load(layout.data("tiny")) as file:
        kept = {key: file[key] for key in file.files if not key.endswith("_test")}
    _file.write(layout.data("tiny"), kept)
    of = task(trials=3)
    search(of)
    assert len(found(of)) == 3


def test_regression_is_judged_by_rmse_and_lower_is_better(project):
    (project / "experiments/table.yaml").write_text(
        "data: {name: diabetes}\nmodel: {name: mlp, hidden: [8]}\n"
        "training: {epochs: 4, batch_size: 64, learning_rate: 0.01, seeds: [0]}\n"
        "losses: {standard: {}, gradient_norm: {strength: 0.1, of: outputs}}\n"
        "attack: {norm: linf, epsilon: 0.1, grid: [0.0, 0.1]}\n"
    )
    data.prepare("table", read_study("table").data)
    of = dataclasses.replace(task(trials=2), study=read_study("table"))
    search(of)
    assert not of.higher_is_better
    assert of.limit(0.7) == pytest.approx(0.72)
    assert of.shortfall(0.75, 0.72) == pytest.approx(0.03)
    dataset = objective.read_splits(of.study)
    standard = objective.standard(of.study, dataset)
    assert standard.robust > standard.clean > 0.1


def test_a_loss_that_turns_nan_is_a_pruned_trial_and_not_the_end(searchable, monkeypatch):
    def explode(trainer):
        if trainer.run.loss.strength > 0.3 and trainer.epoch == 3:
            train.refuse_non_finite(torch.tensor([float("nan")]), trainer)
        return real(trainer)

    real = train.train_epoch
    monkeypatch.setattr(train, "train_epoch", explode)
    of = task(trials=8, prunes=False)
    trials = search(of).finished
    states = {params["strength"] > 0.3: state for _, state, params, _ in found(of)}
    assert states == {True: "PRUNED", False: "COMPLETE"}
    lost = [trial for trial in trials if trial.state.name == "PRUNED"]
    assert all("became nan" in trial.user_attrs["reason"] for trial in lost)
    assert all(trial.user_attrs["facts"].keys() == {"epochs", "seconds"} for trial in lost)
    assert {trial.user_attrs["facts"]["epochs"] for trial in lost} == {3}


def test_a_score_that_is_not_finite_is_no_score(searchable, monkeypatch):
    monkeypatch.setattr(objective, "scores", lambda model, run, dataset: objective.Scores(float("inf"), 0.5))
    seen = rung.measure(first_rung(searchable))
    assert seen.scores is None
    assert "a validation score is not finite after epoch 2" in seen.reason


def test_what_no_strength_can_mend_is_said_before_any_trial(searchable):
    with np.load(layout.data("tiny")) as file:
        kept = {key: file[key] for key in file.files if key != "direction"}
    _file.write(layout.data("tiny"), kept)
    of = task("gradient_direction")
    with pytest.raises(UserError, match="gradient_direction needs a direction"):
        search(of)
    assert stored(of).trials == []


def test_standard_is_trained_once_for_all_losses(searchable):
    of = task(trials=1)
    dataset = objective.read_splits(of.study)
    objective.standard(of.study, dataset)
    run = Run(of.run.study, "standard", 2)
    stamp = (run.state / "run.json").stat().st_mtime_ns
    objective.standard(task("fgsm").study, dataset)
    assert (run.state / "run.json").stat().st_mtime_ns == stamp


def test_without_data_the_stage_that_writes_it_is_named(project):
    with pytest.raises(UserError, match=r"data/tiny\.npz is missing"):
        search(task())


def test_rungs():
    assert objective.rungs(40) == [10, 20, 40]
    assert objective.rungs(8) == [2, 4, 8]
    assert objective.rungs(3) == [3]


def test_a_study_without_standard_has_nothing_to_compare_with(searchable):
    edit(searchable / "experiments/tiny.yaml", "  standard: {}\n", "")
    with pytest.raises(UserError, match=r"add 'standard: \{\}'"):
        search(task())
