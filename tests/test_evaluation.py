"""The attack stage: inside the ball, outcomes per example, the model untouched, the test split its alone."""

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from pipeline import config, data, evaluation, rooms, stages, store, training
from pipeline.attacks import Threat, Worst
from pipeline.errors import UserError
from pipeline.evaluation import Evaluation
from pipeline.forward import Draws
from pipeline.run import Run, folder

ATTACKS = rooms.names("attacks")


@pytest.fixture
def trained(project):
    """A finished run of the study `tiny`, published where the attack stage looks for it."""
    stages.prepare("tiny")
    study = config.read("tiny")
    run = Run(study, "standard", 0)
    store.publish({"seed-0": training.train(run)}, folder(study, "standard", "train"))
    return Evaluation(run)


def victim(task):
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Flatten(), nn.Linear(9, 16), nn.Tanh(), nn.Linear(16, 3 if task == "classification" else 1)
    )
    x = torch.rand(40, 1, 3, 3)
    y = model(x).argmax(1) if task == "classification" else model(x).detach() + 0.1
    return model.eval().requires_grad_(False), x, y


@pytest.mark.parametrize("name", ATTACKS)
@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("task", ["classification", "regression"])
def test_every_attack_stays_inside_the_ball_and_the_box_and_never_helps(name, norm, task):
    model, x, y = victim(task)
    threat = Threat(norm=norm, epsilon=0.3, bounds=(0.0, 1.0))
    before = evaluation.state_hash(model)
    clean = x.clone()
    moved = rooms.module("attacks", name).perturb(model, x, y, threat, Draws(torch.Generator().manual_seed(0)))
    delta = (moved - x).flatten(1)
    size = delta.abs().max(1).values if norm == "linf" else delta.norm(dim=1)
    assert float(size.max()) <= 0.3 + 1e-6
    assert float(size.max()) > 0.1  # it does move
    assert float(moved.min()) >= 0
    assert float(moved.max()) <= 1
    losses = [evaluation.per_example_loss(model(z), y) for z in (x, moved)]
    assert (losses[1] >= losses[0] - 1e-6).all()
    assert evaluation.state_hash(model) == before
    assert torch.equal(x, clean)


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_stronger_attacks_are_stronger(task):
    model, x, y = victim(task)
    threat = Threat(norm="linf", epsilon=0.2, bounds=(0.0, 1.0))
    loss = {}
    for name in ("noise", "fgsm", "pgd"):
        moved = rooms.module("attacks", name).perturb(model, x, y, threat, Draws(torch.Generator().manual_seed(0)))
        loss[name] = float(evaluation.per_example_loss(model(moved), y).mean())
    assert loss["noise"] < loss["fgsm"] <= loss["pgd"] * 1.001


def test_pgd_reaches_the_optimum_of_a_linear_regression():
    """|residual| + ε‖w‖₁ is the worst case, known by hand."""
    model = nn.Linear(5, 1)
    x, y = torch.randn(20, 5), torch.randn(20, 1)
    model.requires_grad_(False)
    threat = Threat(norm="linf", epsilon=0.2)
    moved = rooms.module("attacks", "pgd").perturb(model, x, y, threat, Draws(torch.Generator().manual_seed(0)))
    residual = (model(x) - y).abs()[:, 0]
    reached = (model(moved) - y).abs()[:, 0]
    torch.testing.assert_close(reached, residual + 0.2 * model.weight.abs().sum(), rtol=1e-4, atol=1e-5)


def test_worst_keeps_a_broken_point_even_when_a_standing_one_has_a_larger_loss():
    """Three classes: a wrong prediction at loss 0.8 beats a right one at loss 0.95."""
    logits = {
        0.0: [2.0, 0.0, 0.0],  # right, small loss
        0.1: [0.0, 0.1, -9.0],  # wrong, loss about 0.74
        0.2: [0.01, 0.0, 0.0],  # right, loss about 1.09
    }
    rows = torch.tensor(list(logits.values()))
    model = nn.Module()
    model.forward = lambda x: rows[(x[:, 0] * 10).round().long()]
    worst = Worst(model, torch.zeros(1, 1), torch.zeros(1, dtype=torch.long))
    for value in (0.1, 0.2):
        worst.look(torch.full((1, 1), value), torch.tensor([0]))
    assert float(worst.x) == pytest.approx(0.1)
    assert bool(worst.broken)
    assert len(worst.unbroken()) == 0


def test_outcomes_are_tidy_and_complete(trained):
    target = evaluation.evaluate(trained)
    outcomes = pd.read_parquet(target / "outcomes.parquet")
    n = len(data.read("tiny", "digits", ("test",)).x["test"])
    wanted = ["example", "seed", "attack", "norm", "epsilon", "broken", "loss_before", "loss_after"]
    assert list(outcomes) == wanted
    groups = outcomes.groupby(["attack", "norm", "epsilon"]).size()
    assert set(groups.index) == {("clean", "none", 0.0)} | {
        (a, "linf", e) for a in ("noise", "fgsm", "pgd") for e in (0.1, 0.4)
    }
    assert (groups == n).all()
    pgd = outcomes[outcomes.attack == "pgd"].groupby("epsilon").broken.mean()
    clean = outcomes[outcomes.attack == "clean"].broken.mean()
    assert clean < pgd[0.1] < pgd[0.4]


def test_clean_outcomes_are_the_models_own_mistakes(trained):
    target = evaluation.evaluate(trained)
    outcomes = pd.read_parquet(target / "outcomes.parquet")
    dataset = data.read("tiny", "digits", ("test",))
    model = evaluation.trained(trained, dataset)
    wrong = (model(dataset.x["test"]).argmax(1) != dataset.y["test"]).numpy()
    assert np.array_equal(outcomes[outcomes.attack == "clean"].broken.to_numpy(), wrong)


def test_descriptors_are_the_norms_of_the_input_gradient(trained):
    target = evaluation.evaluate(trained)
    frame = pd.read_parquet(target / "descriptors.parquet")
    kept = np.load(target / "gradients.npz")
    dataset = data.read("tiny", "digits", ("test",))
    model = evaluation.trained(trained, dataset)
    x = torch.from_numpy(kept["x"]).requires_grad_(True)
    nn.functional.cross_entropy(model(x), torch.from_numpy(kept["y"]), reduction="sum").backward()
    np.testing.assert_allclose(kept["gradients"], x.grad.numpy(), atol=1e-6)
    norms = x.grad.flatten(1).norm(dim=1).numpy()
    np.testing.assert_allclose(frame.gradient_norm_l2.to_numpy()[kept["examples"]], norms, rtol=1e-5)


def test_the_same_evaluation_gives_the_same_bytes(trained):
    first = (evaluation.evaluate(trained) / "outcomes.parquet").read_bytes()
    store.remove(trained.state)
    assert (evaluation.evaluate(trained) / "outcomes.parquet").read_bytes() == first


def test_a_model_that_gives_nan_is_refused(trained, monkeypatch):
    file = trained.checkpoint
    contents = store.load_checkpoint(file, "")
    next(iter(contents["model"].values())).fill_(float("nan"))
    store.save_checkpoint(file, contents)
    with pytest.raises(UserError, match="tiny/standard/seed-0: the trained model's outputs are not finite"):
        evaluation.evaluate(Evaluation(trained.run))


def test_a_missing_or_foreign_checkpoint_is_named(trained):
    file = trained.checkpoint
    contents = store.load_checkpoint(file, "")
    contents["model"].popitem()
    store.save_checkpoint(file, contents)
    with pytest.raises(UserError, match=r"best\.pt holds another model.*dvc repro -f train@tiny-standard"):
        evaluation.evaluate(Evaluation(trained.run))
    file.unlink()
    with pytest.raises(UserError, match=r"best\.pt is missing"):
        evaluation.evaluate(Evaluation(trained.run))


def test_training_never_opens_the_test_split(project, monkeypatch):
    stages.prepare("tiny")
    opened = []
    read = data.read
    monkeypatch.setattr(data, "read", lambda study, name, splits: opened.append(splits) or read(study, name, splits))
    training.train(Run(config.read("tiny"), "gradient_norm", 0))
    assert opened == [("train", "validation")]
