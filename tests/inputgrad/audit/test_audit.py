"""The audit tells a void penalty from a real one, names what is wrong, and leaves the model alone."""

import copy
import json

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from inputgrad import losses
from inputgrad.audit import audit
from inputgrad.gradients.forward import rows
from pipeline.stages import runner
from tests.inputgrad.losses.bench import ASKS_NO_GRADIENT, CONTROLS, batch, cases, make, net


def recipe_on_the_task(model, x, y):
    """As commonly written: a first backward on the task loss, a copy of x.grad, a penalty on it."""
    x.requires_grad_()
    task = F.mse_loss(model(x), y)
    task.backward(retain_graph=True)
    return task + 0.01 * torch.norm(x.grad.clone())


def recipe_on_the_output(model, x, y):
    """The first recipe in circulation, letter by letter."""
    x.requires_grad_()
    output = model(x)
    output.sum().backward(retain_graph=True)
    copied = x.grad.clone()
    for p in model.parameters():
        p.grad = None
    return F.mse_loss(output, y) + 0.01 * torch.norm(copied)


def double_backprop(model, x, y):
    """What the recipe means."""
    x = x.detach().requires_grad_()
    task = (model(x) - y).square().flatten(1).mean(1)
    (g,) = torch.autograd.grad(task.sum(), x, create_graph=True)
    return task.mean() + 0.3 * rows(g).square().sum(1).mean()


def weight_decay(model, x, y):
    """A real penalty that has nothing to do with the input."""
    return F.mse_loss(model(x), y) + 0.1 * sum(p.square().sum() for p in model.parameters())


def of_the_mean(model, x, y):
    """1/N too many."""
    x = x.detach().requires_grad_()
    task = F.mse_loss(model(x), y)
    (g,) = torch.autograd.grad(task, x, create_graph=True)
    return task + 0.3 * rows(g).square().sum(1).mean()


def run(loss, model=None):
    x, y, context = batch("regression", torch.float32)
    return audit(loss, model or net("regression", torch.float32), x, y, context)


def row(found, piece):
    (one,) = [row for row in found.rows if piece in row.name]
    return one


def failed(found):
    return {row.name for row in found.rows if row.ok is False}


MOVES = {"fgsm", "nfgsm", "pgd", "trades", "finite_difference"}


def kind_of(name):
    if name in MOVES:
        return "moves its inputs along the gradient"
    if name in CONTROLS - {"standard"}:
        return "detached"
    return "independent" if name in ASKS_NO_GRADIENT else "depends"


@pytest.mark.parametrize(("name", "task"), cases())
def test_every_loss_of_ours(name, task):
    x, y, context = batch(task, torch.float32)
    found = audit(make(name), net(task, torch.float32), x, y, context)
    assert found.kind == kind_of(name), str(found)
    assert found.depends == (name not in ASKS_NO_GRADIENT)
    void = {"training follows it too", "size of the term"}
    expected = {"detached": void, "independent": void | {"the value follows the input gradient"}}
    assert failed(found) == expected.get(found.kind, set())


@pytest.mark.parametrize("recipe", [recipe_on_the_task, recipe_on_the_output])
def test_the_recipes_in_circulation_are_void(recipe):
    found = run(recipe)
    assert found.kind == "detached"
    assert "constant" in found.verdict
    assert "adds nothing" in row(found, "size of the term").figure
    assert "backward(retain_graph=True)" in found.explanation
    assert "test_audit.py, line " in found.explanation
    assert "backward(retain_graph=True)" in found.explanation.splitlines()[0]  # the line of the user's own file


def test_the_task_counted_twice_is_seen():
    side = row(run(recipe_on_the_task), "side effects")
    assert side.ok is False
    assert ".grad of the weights" in side.figure


def test_what_the_recipe_means_passes_everything():
    found = run(double_backprop)
    assert found.depends
    assert failed(found) == set()
    assert found.explanation == ""


def test_the_norm_of_the_whole_batch_is_told_and_not_accused():
    """`task + 0.1 * g.norm()` is common, and right."""

    def loss(model, x, y):
        x = x.detach().requires_grad_()
        task = F.mse_loss(model(x), y)
        (g,) = torch.autograd.grad(task, x, create_graph=True)
        return task + 0.1 * g.norm()

    found = run(loss)
    assert found.depends
    assert failed(found) == set()
    assert row(found, "repeated").figure.startswith("told: ")


def test_weight_decay_is_no_input_gradient():
    assert run(weight_decay).kind == "independent"


def test_one_over_n_too_many_is_seen():
    found = run(of_the_mean)
    assert found.depends
    assert failed(found) == {"batch repeated"}
    assert "batch repeated" in found.verdict
    assert "losses.sum()" in found.explanation


def test_batchnorm_in_train_mode_is_named():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 1))
    mixed = row(run(double_backprop, model), "do not mix")
    assert mixed.ok is None
    assert "(2)" in mixed.figure
    assert row(run(double_backprop, model.eval()), "do not mix").ok is True


def test_examples_without_a_gradient_are_counted():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
    nn.init.zeros_(model[1].weight)
    x, y, context = batch("classification", torch.float32)
    counted = row(audit(make("gradient_norm"), model, x, y, context), "have an input gradient")
    assert (counted.ok, counted.figure) == (None, "told: 100% of the batch without")


def test_a_detach_inside_the_model_is_seen():
    """All else looks right: the loss is trained, on a gradient that is not the model's."""

    class Field(nn.Module):
        def __init__(self):
            super().__init__()
            self.near, self.out = nn.Linear(16, 8), nn.Linear(8, 1)

        def forward(self, x):
            x = x.flatten(1)
            return self.out(torch.tanh(self.near(x))) * (x * x.detach()).sum(1, keepdim=True)

    torch.manual_seed(0)
    found = run(double_backprop, Field())
    assert found.depends
    assert failed(found) == {"the model's input gradient is right"}
    assert "inside the model" in found.explanation


def test_a_row_that_cannot_be_measured_stops_nothing():
    """The loss holds a weight for each of its six examples: it can run on no other number."""
    weights = torch.linspace(0.5, 1.5, 6)

    def loss(model, x, y):
        return weights @ (double_backprop(model, x, y) * torch.ones(len(x), dtype=x.dtype)).to(weights)

    found = run(loss)
    assert found.depends
    assert failed(found) == set()
    assert row(found, "repeated").figure.startswith("not measured: RuntimeError: ")


def test_it_leaves_the_model_and_the_batch_alone():
    model = net("regression", torch.float32)
    x, y, _ = batch("regression", torch.float32)
    weights, state, inputs = copy.deepcopy(model.state_dict()), torch.get_rng_state(), x.clone()
    audit(recipe_on_the_task, model, x, y)
    for key, value in model.state_dict().items():
        assert value.dtype == weights[key].dtype
        assert torch.equal(value, weights[key])
    assert all(p.grad is None for p in model.parameters())
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(x, inputs)
    assert not x.requires_grad


def test_a_loss_that_overwrites_the_weights_is_seen_and_they_are_put_back():
    def loss(model, x, y):
        value = double_backprop(model, x, y)
        with torch.no_grad():
            model[0].bias.data.add_(1)
        return value

    model = net("regression", torch.float64)
    weights = copy.deepcopy(model.state_dict())
    side = row(audit(loss, model, *batch("regression")), "side effects")
    assert (side.ok, side.figure) == (False, "the weights")
    assert all(torch.equal(value, weights[key]) for key, value in model.state_dict().items())


def test_the_command(project, pipeline, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    done = pipeline("audit", "tiny", "gradient_norm")  # it prepares the data itself
    assert done.code == 0, done.err
    assert "training follows it" in done.out
    done = pipeline("audit", "tiny", "detached_norm")
    assert done.code == 1
    assert "create_graph=True" in done.out
    (project / "mine.py").write_text(
        "from torch.nn import functional as F, Sequential, Flatten, Linear\n"
        "def loss(model, x, y):\n return F.cross_entropy(model(x), y)\n"
        "def net():\n return Sequential(Flatten(), Linear(64, 10))\n"
    )
    done = pipeline("audit", "mine:loss", "--model", "mine:net")
    assert done.code == 1
    assert "does not depend on the input gradient" in done.out


@pytest.mark.parametrize(
    ("arguments", "piece"),
    [
        (["mine3:loss"], "no module 'mine3'"),
        (["os:pathh"], "no 'pathh'"),
        (["os:sep"], "not a function of (model, x, y)"),
        (["json:dumps"], "the loss takes (obj)"),
        (["tiny"], "give STUDY LOSS"),
        (["tiny", "gradient_nrom"], "did you mean 'gradient_norm'?"),
        (["tiny", "gradient_norm", "--model", "cn"], "did you mean 'cnn'?"),
    ],
)
def test_mistakes_are_one_line(project, pipeline, arguments, piece):
    runner.prepare("tiny")
    done = pipeline("audit", *arguments)
    assert done.code == 2
    assert done.err.count("\n") == 1
    assert piece in done.err


def test_the_train_stage_keeps_the_verdict(project):
    runner.prepare("tiny")
    for loss, kind in (("gradient_norm", "depends"), ("detached_norm", "detached")):
        runner.train("tiny", loss)
        kept = json.loads((project / f"experiments/tiny/runs/{loss}/measured/audit.json").read_text(encoding="utf-8"))
        assert kept["kind"] == kind
        assert len(kept["rows"]) == 12


def test_share_is_audited_on_the_whole_batch():
    assert run(losses.load("gradient_norm")(share=0.5)).depends
