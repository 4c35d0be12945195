"""The audit tells a void penalty from a real one, names what is wrong, and leaves the model alone."""

import copy
import json

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from inputgrad import losses
from inputgrad.audit import audit
from inputgrad.errors import UserError
from inputgrad.gradients.forward import rows
from pipeline.stages import commands
from tests.inputgrad.losses.bench import CONTROLS, EVERY_LOSS, batch, make, net


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


def failed(found):
    return {check.name for check in found.checks if not check.ok}


@pytest.mark.parametrize("name", EVERY_LOSS)
@pytest.mark.parametrize("task", ["classification", "regression"])
def test_every_loss_of_the_room(name, task):
    x, y, context = batch(task, torch.float32)
    found = audit(make(name), net(task, torch.float32), x, y, context)
    kinds = {"standard": "independent", "detached_norm": "detached"}
    assert found.kind == kinds.get(name, "depends"), found.checks
    assert found.depends == (name not in CONTROLS)
    expected = {"that dependence reaches the parameters", "the term changes the parameter gradient"}
    if name == "standard":
        expected |= {"value depends on the input gradient"}
    assert failed(found) == (expected if name in CONTROLS else set())


@pytest.mark.parametrize("recipe", [recipe_on_the_task, recipe_on_the_output])
def test_the_recipes_in_circulation_are_void(recipe):
    found = run(recipe)
    assert found.kind == "detached"
    assert "constant" in found.verdict


def test_the_task_counted_twice_is_seen():
    side = next(c for c in run(recipe_on_the_task).checks if c.name == "no side effects")
    assert not side.ok
    assert ".grad of the parameters" in side.figure


def test_what_the_recipe_means_passes_everything():
    found = run(double_backprop)
    assert found.depends
    assert failed(found) == set()


def test_weight_decay_is_no_input_gradient():
    assert run(weight_decay).kind == "independent"


def test_one_over_n_too_many_is_seen():
    found = run(of_the_mean)
    assert found.depends
    assert failed(found) == {"batch repeated changes nothing"}
    assert "batch repeated" in found.verdict


def test_batchnorm_in_train_mode_is_named():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 1))
    check = next(c for c in run(double_backprop, model).checks if c.name == "examples do not mix")
    assert not check.ok
    assert "2" in check.figure.split(":")[-1]
    assert "examples do not mix" not in failed(run(double_backprop, model.eval()))


def test_saturated_examples_are_counted():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
    nn.init.zeros_(model[1].weight)
    x, y, context = batch("classification", torch.float32)
    check = next(c for c in audit(make("gradient_norm"), model, x, y, context).checks if "have an input" in c.name)
    assert (check.ok, check.value) == (False, 1.0)


class Attention(nn.Module):
    """Fused attention: its kernel has no second derivative on a CPU."""

    def __init__(self):
        super().__init__()
        self.into, self.out = nn.Linear(4, 8), nn.Linear(8, 1)
        self.mix = FusedAttention()

    def forward(self, x):
        h = self.into(x[:, 0])
        return self.out(self.mix(h).mean(1))


class FusedAttention(nn.Module):
    def forward(self, h):
        h = h[:, None]
        with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.FLASH_ATTENTION):
            return F.scaled_dot_product_attention(h, h, h)[:, 0]


def test_a_layer_without_double_backward_is_named():
    with pytest.raises(UserError, match=r"layer mix has no double backward.*math kernel"):
        run(double_backprop, Attention())


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


def test_one_example_is_not_enough():
    x, y, _ = batch("regression")
    with pytest.raises(UserError, match="at least two examples"):
        audit(double_backprop, net("regression"), x[:1], y[:1])


def test_the_command(project, pipeline, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    commands.prepare("tiny")
    done = pipeline("audit", "tiny", "gradient_norm")
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
        (["json:dumps"], "error: json:dumps: TypeError: dumps() takes 1"),
        (["tiny"], "give STUDY LOSS"),
        (["tiny", "gradient_nrom"], "did you mean 'gradient_norm'?"),
        (["tiny", "gradient_norm", "--model", "cn"], "did you mean 'cnn'?"),
    ],
)
def test_mistakes_are_one_line(project, pipeline, arguments, piece):
    commands.prepare("tiny")
    done = pipeline("audit", *arguments)
    assert done.code == 2
    assert done.err.count("\n") == 1
    assert piece in done.err


def test_the_train_stage_keeps_the_verdict(project):
    commands.prepare("tiny")
    for loss, kind in (("gradient_norm", "depends"), ("detached_norm", "detached")):
        commands.train("tiny", loss)
        kept = json.loads((project / f"experiments/tiny/runs/{loss}/measured/audit.json").read_text(encoding="utf-8"))
        assert kept["kind"] == kind
        assert len(kept["checks"]) == 10


def test_share_is_audited_on_the_whole_batch():
    assert run(losses.load("gradient_norm")(share=0.5)).depends
