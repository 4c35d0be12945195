"""Ways to write the same: whichever interface a loss takes its derivative by, the verdict is what is trained."""

import functools

import pytest
import torch
from torch import autograd, nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional as F

from inputgrad import audit
from tests.inputgrad.audit.test_audit import failed, row
from tests.inputgrad.audit.test_hard_losses import X, Y, penalty
from tests.inputgrad.audit.test_public_losses import MOVES, mlp, slope

WAYS = {}


def way(kind, classes=4):
    def add(loss):
        WAYS[loss.__name__] = (kind, loss, classes)
        return loss

    return add


@way("depends")
def per_example(model, x, y):
    g = vmap(grad(lambda a, b: F.cross_entropy(model(a[None]), b[None])))(x, y)
    return F.cross_entropy(model(x), y) + g.square().sum(1).mean()


@way("detached")
def per_example_with_constant_weights(model, x, y):
    weights = {key: p.detach() for key, p in model.named_parameters()}
    g = vmap(grad(lambda a, b: F.cross_entropy(functional_call(model, weights, (a[None],)), b[None])))(x, y)
    return F.cross_entropy(model(x), y) + g.square().sum(1).mean()


@way("depends")
def in_parts(model, x, y):
    return sum(penalty(model, a, b) for a, b in zip(x.split(4), y.split(4), strict=True)) / 2


@way("detached")
def void_in_parts(model, x, y):
    parts = zip(x.split(4), y.split(4), strict=True)
    return sum(penalty(model, a, b, create_graph=False) for a, b in parts) / 2


@way("depends", 1)
def only_above_a_bound(model, x, y):
    """A one-sided penalty that no example reaches yet."""
    x = x.detach().requires_grad_(True)
    out = model(x)
    return out.mean() + F.relu(slope(out, x).norm(dim=1) - 50).square().mean()


@way("detached", 1)
def void_above_a_bound(model, x, y):
    x = x.detach().requires_grad_(True)
    out = model(x)
    return out.mean() + F.relu(slope(out, x, graph=False).norm(dim=1) - 50).square().mean()


@way("depends", 1)
def rising(model, x, y):
    """A hinge on the sign of one slope."""
    x = x.detach().requires_grad_(True)
    out = model(x)
    return out.square().mean() + F.relu(-slope(out, x)[:, 0]).mean()


@way("depends", 1)
def hessian_vector(model, x, y):
    product = autograd.functional.hvp(lambda z: model(z).sum(), x, torch.randn_like(x), create_graph=True)[1]
    return product.square().sum()


@way("depends", 1)
def twice_backwards_for_forwards(model, x, y):
    return autograd.functional.jvp(model, x, torch.ones_like(x), create_graph=True)[1].square().sum()


@way("depends")
def backward_with_graph(model, x, y):
    x = x.detach().requires_grad_(True)
    task = F.cross_entropy(model(x), y)
    task.backward(create_graph=True)
    return task + x.grad.square().sum()


@way("detached")
def backward_with_graph_and_data(model, x, y):
    x = x.detach().requires_grad_(True)
    task = F.cross_entropy(model(x), y)
    task.backward(create_graph=True)
    return task + x.grad.data.square().sum()


@way("depends")
def unrolled(model, x, y):
    """Two steps along the gradient, differentiated through."""
    z = x.detach().requires_grad_(True)
    for _ in range(2):
        z = z - 0.1 * autograd.grad(model(z).logsumexp(1).sum(), z, create_graph=True)[0]
    return F.cross_entropy(model(z), y)


@way(MOVES)
def an_optimiser_on_the_input(model, x, y):
    z = x.detach().clone().requires_grad_(True)
    steps = torch.optim.SGD([z], 0.1)
    for _ in range(3):
        steps.zero_grad()
        ((z - x).square().sum() - F.cross_entropy(model(z), y)).backward()
        steps.step()
    model.zero_grad()
    return F.cross_entropy(model(z.detach()), y)


@way(MOVES)
def attack_in_eval_mode(model, x, y):
    model.eval()
    step = torch.zeros_like(x, requires_grad=True)
    (g,) = autograd.grad(F.cross_entropy(model(x + step), y), step)
    model.train()
    return F.cross_entropy(model((x + 0.1 * g.sign()).clamp(-2, 2)), y)


@way("independent")
def sharpness(model, x, y):
    """A step of the weights along their own gradient, and back."""
    g = autograd.grad(F.cross_entropy(model(x), y), list(model.parameters()))
    with torch.no_grad():
        for p, d in zip(model.parameters(), g, strict=True):
            p.add_(0.05 * d)
    ascended = autograd.grad(F.cross_entropy(model(x), y), list(model.parameters()))
    with torch.no_grad():
        for p, d in zip(model.parameters(), g, strict=True):
            p.sub_(0.05 * d)
    return sum((p * d).sum() for p, d in zip(model.parameters(), ascended, strict=True))


@way("independent")
def difference_along_a_random_direction(model, x, y):
    v = F.normalize(torch.randn_like(x), dim=1)
    return F.cross_entropy(model(x), y) + ((model(x + 0.01 * v) - model(x)) / 0.01).square().sum(1).mean()


@way("partly detached")
def weighed_by_its_own_size(model, x, y):
    x = x.detach().requires_grad_(True)
    task = F.cross_entropy(model(x), y)
    term = slope(task, x).square().sum()
    return task + term * term.detach()


@pytest.mark.filterwarnings("ignore:Using backward")
@pytest.mark.parametrize("name", WAYS)
def test_ways_to_write_it(name):
    kind, loss, classes = WAYS[name]
    torch.manual_seed(0)
    found = audit(loss, mlp(3, 16, classes), X, Y)
    assert found.kind == kind, str(found)
    assert "the parameter gradient is right" not in failed(found)


@pytest.mark.parametrize("right", [True, False])
def test_full_backward_hooks(right):
    torch.manual_seed(0)
    net, kept = mlp(3, 16, 16, 4), {}
    net[2].register_full_backward_hook(lambda module, inputs, outputs: kept.update(grad=inputs[0]))

    def loss(model, x, y):
        x = x.detach().requires_grad_(True)
        task = F.cross_entropy(model(x), y)
        autograd.grad(task, x, create_graph=right, retain_graph=True)
        return task + kept["grad"].square().sum()

    assert audit(loss, net, X, Y).kind == ("depends" if right else "detached")


def test_a_counter_that_cannot_be_put_back():
    """The term is in every other call only, and no one call is like the next."""
    calls = [0]

    def loss(model, x, y):
        calls[0] += 1
        return penalty(model, x, y) if calls[0] % 2 else F.cross_entropy(model(x), y)

    torch.manual_seed(0)
    found = audit(loss, mlp(3, 16, 4), X, Y)
    assert found.kind == "depends"
    assert "a state of its own" in row(found, "parameter gradient").figure


class Mean(nn.Module):
    """A model that gives a distribution."""

    def __init__(self):
        super().__init__()
        self.net = mlp(3, 16, 1)

    def forward(self, x):
        return torch.distributions.Normal(self.net(x), 1.0)


def likelihood(model, x, y):
    x = x.detach().requires_grad_(True)
    task = -model(x).log_prob(torch.ones(len(x), 1)).mean()
    return task + slope(task, x).square().sum()


MODELS = {
    "scripted": (penalty, lambda: torch.jit.script(mlp(3, 16, 4))),
    "a distribution": (likelihood, Mean),
    "forward called by name": (lambda m, x, y: penalty(m.forward, x, y), lambda: mlp(3, 16, 4)),
    "a partial": (functools.partial(penalty, create_graph=True), lambda: mlp(3, 16, 4)),
    "several in a dict": (lambda m, x, y: penalty(m["critic"], x, y), lambda: {"critic": mlp(3, 16, 4)}),
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("name", MODELS)
def test_models_of_any_kind(name):
    torch.manual_seed(0)
    loss, build = MODELS[name]
    found = audit(loss, build(), X, Y)
    assert found.kind == "depends", str(found)


def test_a_gradient_of_a_scaler_that_is_unscaled():
    scaler = torch.amp.GradScaler("cpu")

    def loss(model, x, y):
        x = x.detach().requires_grad_(True)
        losses = F.cross_entropy(model(x), y, reduction="none")
        (g,) = autograd.grad(scaler.scale(losses.sum()), x, create_graph=True)
        return losses.mean() + (g / scaler.get_scale()).square().sum(1).mean()

    torch.manual_seed(0)
    found = audit(loss, mlp(3, 16, 4), X, Y)
    assert (found.kind, failed(found)) == ("depends", set())


def test_one_example_is_enough_for_a_verdict():
    torch.manual_seed(0)
    found = audit(penalty, mlp(3, 16, 4), X[:1], Y[:1])
    assert (found.kind, failed(found)) == ("depends", set())
    assert row(found, "repeated").figure == "not measured: x has no two examples"
