"""Optimisers, schedules, averages, augmentation, the task loss: each does what it says, and every one resumes."""

import copy
import math
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from inputgrad import files
from inputgrad.errors import UserError
from pipeline import data, layout, store
from pipeline.stages import runner, train, training_options
from pipeline.stages.training_options import augmented
from pipeline.study.read import read_study
from pipeline.study.run import Run
from pipeline.study.schema import Augmentation, Training
from tests.conftest import edit
from tests.pipeline.test_train import contents, weights

SETTINGS = [
    "optimizer: sgd",
    "optimizer: sgd, momentum: 0.0, schedule: one_cycle",
    "optimizer: adamw, weight_decay: 0.1",
    "schedule: cosine",
    "schedule: one_cycle",
    "shuffle: false",
    "label_smoothing: 0.1",
    "class_weights: balanced",
    "clip: 0.01",
    "average: 0.9",
    "precision: bfloat16",
    "augmentation: {crop: 1, flip: true, cutout: 3}",
]
ALL = (
    "optimizer: sgd, schedule: one_cycle, label_smoothing: 0.1, clip: 1.0, average: 0.9, augmentation: {crop: 1,"
    " flip: true, cutout: 3}"
)
PIECEWISE = "schedule: piecewise, learning_rates: [[0.0, 1.0e-8], [0.5, 0.01], [1.0, 0.001]]"


@pytest.fixture
def run(project):
    """A function that makes a run of `tiny` with more settings of its training."""
    runner.prepare("tiny")
    file = project / "experiments/tiny.yaml"
    plain = file.read_text(encoding="utf-8")

    def make(settings="", loss="gradient_norm"):
        text = plain.replace("epochs: 3,", f"epochs: 3, {settings},") if settings else plain
        if "piecewise, learning_rates: [" in settings:
            text = text.replace("learning_rate: 0.01, ", "")
        file.write_text(text, encoding="utf-8")
        return Run(read_study("tiny"), loss, 0)

    return make


def test_each_setting_trains_another_model(run):
    found = {setting: tuple(weights(train.train(run(setting)), "best.pt").values()) for setting in ("", *SETTINGS)}
    assert len(set(found.values())) == len(found)


@pytest.mark.parametrize(
    "settings",
    [
        ALL,
        "schedule: cosine, optimizer: adamw",
        "average: 0.9, class_weights: balanced",
        f"{PIECEWISE}, shuffle: false, robust_validation: 50, keep: last, passes: 2",
    ],
)
def test_a_run_that_was_stopped_ends_with_the_same_bytes(run, settings):
    one = run(settings)
    whole = contents(train.train(one))
    files.remove(one.state)
    for epoch in (1, 2, 3):
        train.train(one, until=epoch)
    assert contents(one.state) == whole


def test_passes_of_an_epoch_are_the_epochs_of_a_training_that_is_looked_at_less(run):
    """The same steps with the same learning rates, but a third of the validations."""
    many, few = (run(f"schedule: cosine, {how}") for how in ("passes: 1", "passes: 3"))
    few = replace(
        few, study=few.study.model_copy(update={"training": few.study.training.model_copy(update={"epochs": 1})})
    )
    folders = [train.train(one) for one in (many, few)]
    facts = [store.read_json(folder / layout.RUN, "") for folder in folders]
    assert [(one["steps"], one["last"]["epoch"]) for one in facts] == [(facts[0]["steps"], 3), (facts[0]["steps"], 1)]
    assert weights(folders[0]) == weights(folders[1])


@pytest.mark.parametrize(("keep", "epoch"), [("best", 1), ("last", 3)])
def test_the_net_of_the_best_or_of_the_last_epoch_is_kept(run, monkeypatch, keep, epoch):
    real, rows = train.validate, iter([0.9, 0.8, 0.7])
    monkeypatch.setattr(train, "validate", lambda trainer: real(trainer) | {"validation_accuracy": next(rows)})
    one = run(f"keep: {keep}")
    train.train(one, until=1)
    first = weights(one.state, "best.pt")
    folder = train.train(one)
    facts = store.read_json(folder / layout.RUN, "")
    assert (facts["best_epoch"], facts["best"]["epoch"]) == (epoch, epoch)
    assert weights(folder, "best.pt") == (first if keep == "best" else weights(folder, "last.pt"))
    assert first != weights(folder, "last.pt")


def training(**settings):
    return Training(epochs=1, batch_size=8, learning_rate=0.1, seeds=[0], **settings)


def parameters(kind, steps=3, **settings):
    """What an optimiser of ours, or a plain one of PyTorch, makes of the same gradients."""
    net = nn.Linear(3, 1)
    nn.init.ones_(net.weight), nn.init.zeros_(net.bias)
    optimizer = training_options.optimizer_of(training(**settings), net) if kind is None else kind(net.parameters())
    for step in range(steps):
        net.weight.grad, net.bias.grad = torch.full((1, 3), 0.1 * step + 0.1), torch.ones(1)
        optimizer.step()
    return nn.utils.parameters_to_vector(net.parameters())


@pytest.mark.parametrize(
    ("settings", "plain"),
    [
        ({"optimizer": "adam"}, lambda p: torch.optim.Adam(p, 0.1)),
        ({"optimizer": "adamw", "weight_decay": 0.2}, lambda p: torch.optim.AdamW(p, 0.1, weight_decay=0.2)),
        ({"optimizer": "sgd"}, lambda p: torch.optim.SGD(p, 0.1, 0.9, nesterov=True)),
        ({"optimizer": "sgd", "momentum": 0.0}, lambda p: torch.optim.SGD(p, 0.1)),
    ],
)
def test_optimisers_are_those_of_pytorch(settings, plain):
    assert torch.equal(parameters(None, **settings), parameters(plain))


def rates(schedule, steps=10):
    optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), 0.1)
    found = training_options.schedule_of(training(schedule=schedule), optimizer, steps)
    if found is None:
        return [0.1] * steps
    seen = []
    for _ in range(steps):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        found.step()
    return seen


def test_schedules():
    assert rates("constant") == [0.1] * 10
    assert rates("cosine") == pytest.approx([0.05 * (1 + math.cos(math.pi * k / 10)) for k in range(10)])
    rising = rates("one_cycle")
    assert rising[0] == pytest.approx(0.1 / 25)
    assert max(rising) == pytest.approx(0.1)
    assert rising[-1] < 1e-5


CORNERS = [(0.0, 1e-8), (0.2, 0.1), (0.6, 0.01), (0.9, 1e-6), (1.0, 1e-8)]
"""Of Huge and Savine 2020."""


def test_a_piecewise_schedule_is_constant_within_an_epoch():
    plain = training(schedule="piecewise", learning_rates=CORNERS).model_copy(
        update={"epochs": 10, "learning_rate": None}
    )
    optimizer = training_options.optimizer_of(plain, nn.Linear(1, 1))
    schedule, seen = training_options.schedule_of(plain, optimizer, 30), []
    for _ in range(30):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    by_epoch = [1e-8, 0.05, 0.1, 0.0775, 0.055, 0.0325, 0.01, 0.0066670, 0.0033340, 1e-6]
    assert seen == pytest.approx([rate for rate in by_epoch for _ in range(3)], rel=1e-4)


def test_a_piecewise_training_has_the_rates_of_its_epochs(run):
    one = run(PIECEWISE)
    trainer = train.Trainer.fresh(one, data.read_data("tiny", one.study.data, ("train", "validation")))
    seen = []
    for epoch in range(3):
        trainer.epoch = epoch
        seen.append(trainer.optimizer.param_groups[0]["lr"])
        train.train_epoch(trainer)
    assert seen == pytest.approx([1e-8, 0.00666667, 0.007], rel=1e-4)


def test_without_shuffling_every_epoch_takes_the_data_as_they_lie(run):
    orders = {}
    for settings in ("", "shuffle: false"):
        one = run(settings)
        trainer = train.Trainer.fresh(one, data.read_data("tiny", one.study.data, ("train", "validation")))
        orders[settings] = [trainer.order().tolist() for _ in range(2)]
    as_they_lie = list(range(len(orders[""][0])))
    assert orders["shuffle: false"] == [as_they_lie, as_they_lie]
    first, second = orders[""]
    assert first != second
    assert sorted(first) == sorted(second) == as_they_lie


def test_the_average_is_exponential():
    net = nn.Linear(1, 1, bias=False)
    average = training_options.average_of(training(average=0.75), net)
    values = [1.0, 2.0, 5.0]
    for value in values:
        nn.init.constant_(net.weight, value)
        average.update_parameters(net)
    assert average.module.weight.item() == pytest.approx((1 * 0.75 + 2 * 0.25) * 0.75 + 5 * 0.25)


def test_the_model_that_is_kept_is_the_average(run):
    one = run("average: 0.9")
    train.train(one, until=1)
    trainer = train.Trainer.fresh(one, data.read_data("tiny", one.study.data, ("train", "validation")))
    train.train_epoch(trainer)
    kept = {k: v.numpy().tobytes() for k, v in trainer.kept.state_dict().items()}
    assert weights(one.state, "best.pt") == kept
    assert weights(one.state, "last.pt") != kept  # the weights that go on training


def test_the_task_loss(run):
    dataset = data.read_data("tiny", read_study("tiny").data, ("train",))
    outputs, y = torch.randn(6, 10, dtype=torch.float64), torch.tensor([0, 1, 2, 3, 4, 9])
    smoothed = training_options.task_loss_of(run("label_smoothing: 0.2").study, dataset)
    logs = outputs.log_softmax(1)
    expected = -0.8 * logs.gather(1, y[:, None])[:, 0] - 0.2 * logs.mean(1)
    torch.testing.assert_close(smoothed(outputs, y), expected)
    balanced = training_options.task_loss_of(run("class_weights: balanced").study, dataset)
    counts = torch.bincount(dataset.y["train"])
    expected = F.cross_entropy(outputs, y, reduction="none") * len(dataset.y["train"]) / (10 * counts[y])
    torch.testing.assert_close(balanced(outputs.float(), y), expected.float())
    assert training_options.task_loss_of(run().study, dataset) is None


def test_bfloat16_is_near_float32(run):
    """The penalty is computed in float32; the parameter gradient of a step differs by a few percent."""
    gradients = []
    for settings in ("", "precision: bfloat16"):
        one = run(settings)
        dataset = data.read_data("tiny", one.study.data, ("train", "validation"))
        trainer = train.Trainer.fresh(one, dataset)
        batch = torch.arange(64)
        train.one_step(trainer, batch, 0.3, {})
        gradients.append(torch.cat([p.grad.flatten() for p in trainer.model.parameters()]))
    plain, rough = gradients
    assert 0 < float((plain - rough).norm() / plain.norm()) < 0.03


X = torch.arange(1.0, 1 + 4 * 2 * 5 * 5).reshape(4, 2, 5, 5)


def draws():
    return torch.Generator().manual_seed(0)


def test_a_crop_is_a_window_of_the_padded_image():
    found = augmented(X, Augmentation(crop=2), draws())
    padded = F.pad(X, (2, 2, 2, 2))
    places = []
    for image, whole in zip(found, padded, strict=True):
        at = [(i, j) for i in range(5) for j in range(5) if torch.equal(whole[:, i : i + 5, j : j + 5], image)]
        assert len(at) == 1
        places += at
    assert len(set(places)) > 1


def test_a_flip_turns_about_half():
    many = X[:1].expand(200, -1, -1, -1)
    found = augmented(many, Augmentation(flip=True), draws())
    turned = (found == many.flip(3)).flatten(1).all(1)
    assert ((found == many).flatten(1).all(1) | turned).all()
    assert 70 < int(turned.sum()) < 130


def test_a_cutout_is_one_square_that_may_reach_over_the_edge():
    many = torch.full((300, 1, 6, 6), 2.0)
    grey = augmented(many, Augmentation(cutout=3), draws()) == 0.5
    sizes = grey.flatten(1).sum(1)
    assert int(sizes.max()) == 9
    assert int(sizes.min()) >= 1
    assert {4, 6, 9} <= set(sizes.tolist())
    whole = grey[sizes == 9][0, 0].nonzero()
    assert (whole.amax(0) - whole.amin(0)).tolist() == [2, 2]


def test_the_original_images_are_left_alone():
    before = copy.deepcopy(X)
    augmented(X, Augmentation(crop=1, flip=True, cutout=2), draws())
    assert torch.equal(X, before)


@pytest.mark.parametrize("loss", ["gradient_norm", "fgsm"])
def test_losses_of_a_seed_see_the_same_changes(run, loss):
    seen = []
    for name in ("standard", loss):
        one = run("augmentation: {crop: 1}", name)
        dataset = data.read_data("tiny", one.study.data, ("train", "validation"))
        trainer = train.Trainer.fresh(one, dataset)
        train.train_epoch(trainer)
        seen.append(trainer.augment.get_state())
    assert torch.equal(*seen)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("optimizer: adagrad", r"training\.optimizer: .*'adam', 'adamw' or 'sgd'"),
        ("schedule: linear", r"training\.schedule: "),
        ("label_smoothing: 1.0", r"training\.label_smoothing: .*less than 1"),
        ("average: -0.1", r"training\.average: "),
        ("clip: 0", r"training\.clip: .*greater than 0"),
        ("augmentation: {crops: 2}", r"unknown key 'training\.augmentation\.crops'; did you mean 'crop'"),
        ("momentum: 1.0", r"training\.momentum: "),
        ("schedule: piecewise", r"training\.schedule: piecewise needs learning_rates; fix: learning_rates: \[\["),
        ("learning_rates: [[0, 0.1]]", r"training\.learning_rates needs schedule: piecewise; fix: add it"),
        (PIECEWISE.replace("0.5", "0.0"), r"training\.learning_rates: the shares \[0\.0, 0\.0, 1\.0\] must rise"),
        (PIECEWISE.replace("0.5", "1.5"), r"training\.learning_rates\.1\.0: .*less than or equal to 1, not 1\.5"),
        (PIECEWISE.replace("rates: ", "rates:  "), r"training\.learning_rate is not used by schedule: piecewise"),
    ],
)
def test_mistakes_are_one_line(run, settings, message):
    with pytest.raises(UserError, match=message):
        run(settings)


def test_what_is_for_classes_or_images_alone_is_refused(project):
    edit(project / "experiments/tiny.yaml", "data: {name: digits}", "data: {name: diabetes}")
    edit(project / "experiments/tiny.yaml", ", fab: {targets: 2, steps: 5}", "")
    edit(project / "experiments/tiny.yaml", "  at_epsilon: {square: {queries: 20}, apgd_ce: {steps: 5}}\n", "")
    file, study = project / "experiments/tiny.yaml", read_study("tiny")
    data.prepare("tiny", study.data)
    for settings, message in (
        ("label_smoothing: 0.1", r"training\.label_smoothing needs classes; fix: leave it out for regression"),
        ("class_weights: balanced", r"training\.class_weights needs classes"),
        ("robust_validation: 50", r"training\.robust_validation needs classes; fix: leave it out for regression"),
        ("augmentation: {flip: true}", r"training\.augmentation needs images; fix: leave it out for inputs \(10,\)"),
    ):
        plain = file.read_text(encoding="utf-8")
        file.write_text(plain.replace("epochs: 3,", f"epochs: 3, {settings},"), encoding="utf-8")
        with pytest.raises(UserError, match=message):
            train.train(Run(read_study("tiny"), "standard", 0))
        file.write_text(plain, encoding="utf-8")


def test_what_augmentation_does_not_move_along_is_refused(project):
    """A mask marks places: in an image that is turned or moved, the penalty was on the wrong ones."""
    file = project / "experiments/tiny.yaml"
    edit(file, "  standard: {}", "  standard: {}\n  right_reasons: {strength: 1.0}")
    study = read_study("tiny")
    data.prepare("tiny", study.data)
    dataset = data.read_data("tiny", study.data, ("train",))
    plain = file.read_text(encoding="utf-8")
    for settings, refused in (("{flip: true}", True), ("{crop: 1}", True), ("{cutout: 2}", False)):
        file.write_text(plain.replace("epochs: 3,", f"epochs: 3, augmentation: {settings},"), encoding="utf-8")
        if not refused:
            training_options.of_training(read_study("tiny"), dataset)
            continue
        with pytest.raises(UserError, match=r"augmentation moves the inputs, and not the mask that losses.right"):
            training_options.of_training(read_study("tiny"), dataset)
