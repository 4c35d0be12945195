"""Verdicts by measurement: void terms of any size, wrong second derivatives, interfaces that no instrument sees."""

import pytest
import torch
from torch import autograd, nn
from torch.func import functional_call, grad, hessian, jacfwd, jacrev, jvp, linearize, vmap
from torch.nn import functional as F

from inputgrad import audit
from inputgrad.errors import UserError
from tests.inputgrad.audit.test_audit import failed, row
from tests.inputgrad.audit.test_hard_losses import X, Y, penalty
from tests.inputgrad.audit.test_public_losses import mlp, slope


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def by_retain_graph(model, x, y):
    x = x.detach().requires_grad_(True)
    return slope(model(x).logsumexp(1), x, graph=False).square().sum(1).mean()


def by_grad_attribute(model, x, y):
    x = x.detach().requires_grad_(True)
    model(x).logsumexp(1).sum().backward(retain_graph=True)
    model.zero_grad()
    return x.grad.clone().square().sum(1).mean()


def by_detach(model, x, y):
    x = x.detach().requires_grad_(True)
    return slope(model(x).logsumexp(1), x).detach().square().sum(1).mean()


def by_item(model, x, y):
    x = x.detach().requires_grad_(True)
    return slope(model(x).logsumexp(1), x).square().sum(1).mean().item()


def by_numpy(model, x, y):
    x = x.detach().requires_grad_(True)
    return float((slope(model(x).logsumexp(1), x).detach().numpy() ** 2).sum(1).mean())


def under_no_grad(model, x, y):
    x = x.detach().requires_grad_(True)
    g = slope(model(x).logsumexp(1), x)
    with torch.no_grad():
        return g.square().sum(1).mean()


def with_gradients_off(model, x, y):
    x = x.detach().requires_grad_(True)
    g = slope(model(x).logsumexp(1), x)
    with torch.set_grad_enabled(False):
        return g.square().sum(1).mean()


def by_torch_func(model, x, y):
    g = vmap(grad(lambda a: model(a[None]).logsumexp(1).sum()))(x)
    return g.detach().square().sum(1).mean()


VOIDS = [
    by_retain_graph,
    by_grad_attribute,
    by_detach,
    by_item,
    by_numpy,
    under_no_grad,
    with_gradients_off,
    by_torch_func,
]


@pytest.mark.parametrize("act", [nn.Tanh, nn.ReLU])
@pytest.mark.parametrize("weight", [0.01, 0.05, 1.0])
@pytest.mark.parametrize("void", VOIDS)
def test_a_void_term_beside_a_live_one(void, weight, act):
    net = mlp(3, 16, 16, 4, act=act)
    found = audit(lambda m, x, y: penalty(m, x, y) + weight * void(m, x, y), net, X, Y)
    assert found.kind == "partly detached", found
    assert ".py, line" in row(found, "training follows").figure
    assert not found.depends


def test_the_missing_share_is_that_of_the_gradients():
    """Twice the void term is twice the share, and it is about the ratio of the two parameter gradients."""
    net = mlp(3, 16, 16, 4).double()
    x = X.double()
    live = torch.cat([g.flatten() for g in autograd.grad(penalty(net, x, Y), list(net.parameters()))])
    z = x.clone().requires_grad_(True)
    term = slope(net(z).logsumexp(1), z).square().sum(1).mean()
    parts = autograd.grad(term, list(net.parameters()), allow_unused=True)
    gone = torch.cat([g.flatten() for g in parts if g is not None])
    shares = []
    for weight in (1.0, 2.0):
        found = audit(lambda m, x, y, w=weight: penalty(m, x, y) + w * by_retain_graph(m, x, y), net, x, Y)
        shares.append(float(row(found, "training follows").figure.split(": ")[1].split(" ×")[0]))
    assert shares[1] == pytest.approx(2 * shares[0], rel=0.1)
    assert shares[0] == pytest.approx(float(gone.norm() / live.norm()), rel=1.0)  # two random directions


def test_a_constant_that_is_no_derivative_is_told_and_no_fault():
    def loss(model, x, y):
        weights = model(x).softmax(1).max(1).values.detach()  # a focal weight
        return penalty(model, x, y) + (weights * F.cross_entropy(model(x), y, reduction="none")).mean()

    found = audit(loss, mlp(3, 16, 4), X, Y)
    assert found.kind == "depends"
    assert failed(found) == set()
    assert "told: .detach() in test_measured.py" in row(found, "targets and weights").figure


class WithoutSecond(autograd.Function):
    """Squares; right once, and a constant the second time."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        with torch.no_grad():
            return 2 * x * g


class Wrong(nn.Module):
    def forward(self, x):
        return WithoutSecond.apply(x)


def test_a_wrong_second_derivative_is_a_verdict_and_the_layer_is_named():
    net = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), Wrong(), nn.Linear(8, 4))
    found = audit(penalty, net, X, Y)
    assert found.kind == "wrong gradient"
    assert not found.depends
    assert "2 (Wrong)" in row(found, "parameter gradient is right").figure
    assert "class WithoutSecond(autograd.Function)" in found.explanation


@pytest.mark.parametrize("act", [nn.ReLU, nn.Tanh])
def test_a_laplacian_that_is_zero_everywhere_is_told(act):
    def loss(model, x, y):
        x = x.clone().requires_grad_(True)
        g = slope(model(x), x)
        second = sum(slope(g[:, i], x)[:, i] for i in range(3))
        return (second - 1).square().mean() + model(x.detach()).square().mean()

    found = audit(loss, mlp(3, 16, 16, 1, act=act), X, None)
    dead = act is nn.ReLU
    assert ("examples have an input gradient" in failed(found)) == dead
    assert found.kind == ("independent" if dead else "depends")
    assert ("piecewise linear net" in " ".join(found.explanation.split())) == dead


BATCHED = {
    "jacrev of several outputs": lambda m: vmap(jacrev(lambda a: m(a[None])[0])),
    "jacfwd": lambda m: vmap(jacfwd(lambda a: m(a[None])[0])),
    "jacrev of jacrev": lambda m: vmap(jacrev(jacrev(lambda a: m(a[None])[0, 0]))),
    "jacrev of jacfwd": lambda m: vmap(jacrev(jacfwd(lambda a: m(a[None])[0, 0]))),
    "hessian": lambda m: vmap(hessian(lambda a: m(a[None])[0, 0])),
    "jvp of grad": lambda m: lambda x: jvp(grad(lambda a: m(a).sum()), (x,), (torch.ones_like(x),))[1],
    "functional jacobian": lambda m: lambda x: autograd.functional.jacobian(m, x, create_graph=True, vectorize=True),
    "functional call": lambda m: vmap(
        grad(lambda a: functional_call(m, dict(m.named_parameters()), (a[None],)).sum()),
    ),
}


@pytest.mark.parametrize("cut", [False, True])
@pytest.mark.parametrize("name", BATCHED)
def test_batched_derivatives(name, cut):
    def loss(model, x, y):
        found = BATCHED[name](model)(x)
        return F.cross_entropy(model(x), y) + (found.detach() if cut else found).square().mean()

    assert audit(loss, mlp(3, 8, 4), X, Y).kind == ("detached" if cut else "depends")


def test_linearize_gives_a_constant():
    """It computes once what depends on the point alone, weights included: no gradient leads to them."""

    def loss(model, x, y):
        return F.cross_entropy(model(x), y) + linearize(model, x)[1](torch.ones_like(x)).square().mean()

    assert audit(loss, mlp(3, 8, 4), X, Y).kind == "detached"


def test_gradients_of_several_outputs_at_once():
    def loss(model, x, y):
        x = x.clone().requires_grad_(True)
        out = model(x)
        seeds = torch.eye(4, dtype=out.dtype)[:, None].expand(4, len(x), 4)
        (jacobian,) = autograd.grad(out, x, seeds, create_graph=True, is_grads_batched=True)
        return F.cross_entropy(out, y) + jacobian.square().mean()

    assert audit(loss, mlp(3, 8, 4), X, Y).kind == "depends"


class Field(nn.Module):
    """An energy and its force, which TorchScript differentiates itself."""

    def __init__(self, graph: bool):
        super().__init__()
        self.energy, self.graph = nn.Sequential(nn.Linear(3, 8), nn.SiLU(), nn.Linear(8, 1)), graph

    def forward(self, pos: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        pos = pos.detach().requires_grad_(True)
        energy = self.energy(pos).squeeze(1)
        found = torch.autograd.grad([energy.sum()], [pos], create_graph=self.graph, retain_graph=True)[0]
        assert found is not None
        return energy, -found


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("graph", [True, False])
def test_a_gradient_inside_torchscript(graph):
    def loss(model, pos, forces):
        energy, force = model(pos)
        return energy.square().mean() + F.mse_loss(force, forces)

    found = audit(loss, torch.jit.script(Field(graph)), X, torch.randn(8, 3))
    assert found.kind == ("depends" if graph else "detached"), found
    assert "no input gradient was asked for" not in str(found)


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_a_traced_model_is_audited_and_left_as_it_was():
    net = torch.jit.trace(mlp(3, 8, 4), X)
    before = net(X)
    found = audit(penalty, net, X, Y)
    assert (found.kind, failed(found)) == ("depends", set())
    assert torch.equal(net(X), before)
    assert audit(penalty, net, X, Y).rows == found.rows


class Every:
    """A term in every k-th call, counted up first."""

    def __init__(self, k, graph=True):
        self.k, self.graph, self.step = k, graph, 0

    def __call__(self, model, x, y):
        self.step += 1
        return (
            penalty(model, x, y, create_graph=self.graph) if self.step % self.k == 0 else F.cross_entropy(model(x), y)
        )


@pytest.mark.parametrize("graph", [True, False])
def test_a_term_in_every_sixteenth_call(graph):
    loss = Every(16, graph)
    found = audit(loss, mlp(3, 8, 4), X, Y)
    assert found.kind == ("depends" if graph else "detached")
    assert found.called == "loss(model, x, y), the 16th time"
    assert loss.step == 0


def test_a_graph_that_is_kept_from_the_step_before():
    kept = {}

    def loss(model, x, y):
        x = x.clone().requires_grad_(True)
        if "g" not in kept:
            kept["g"] = slope(model(x), x)
        return kept["g"].square().mean() + F.cross_entropy(model(x), y)

    with pytest.raises(UserError, match=r"uses a graph of an earlier call again.*clear at the start of a call"):
        audit(loss, mlp(3, 8, 4), X, Y)


def test_a_slice_that_was_made_after_the_pass():
    def loss(model, x, y):
        x = x.clone().requires_grad_(True)
        u, t = model(x), x[:, :1]
        (g,) = autograd.grad(u, t, torch.ones_like(u), create_graph=True, materialize_grads=True)
        return F.cross_entropy(u, y) + g.square().mean()

    found = audit(loss, mlp(3, 8, 4), X, Y)
    assert found.kind == "independent"
    assert "a slice or a copy of x" in " ".join(found.explanation.split())


def test_a_numerical_gradient():
    def loss(model, x, y):
        g = [(model(x + h) - model(x - h)) / 0.02 for h in 0.01 * torch.eye(3).to(x)]
        return F.cross_entropy(model(x), y) + torch.stack(g).square().mean()

    found = audit(loss, mlp(3, 8, 4), X, Y)
    assert (found.kind, row(found, "parameter gradient is right").ok) == ("independent", True)
    assert "a numerical gradient, made of differences of outputs" in " ".join(found.explanation.split())


def test_gradients_at_the_outputs_are_no_input_gradients():
    """A weight of a loss by the length of its gradient at the outputs."""

    def loss(model, x, y):
        out = model(x)
        task = F.cross_entropy(out, y)
        (g,) = autograd.grad(task, out, retain_graph=True)
        return task / (g.norm() + 1) + out.square().mean()

    assert audit(loss, mlp(3, 8, 4), X, Y).kind == "independent"


class Flow(nn.Module):
    """A continuous flow: the trace of its Jacobian by a probe, and the length of that product, which may be cut off."""

    def __init__(self, cut):
        super().__init__()
        self.net, self.cut = mlp(3, 16, 3), cut

    def forward(self, z):
        z = z.clone().requires_grad_(True)
        dz = self.net(z)
        probe = torch.ones_like(z)
        (product,) = autograd.grad(dz, z, probe, create_graph=True)
        length = product.square().sum(1)
        return z + dz, (product * probe).sum(1), length.detach() if self.cut else length


@pytest.mark.parametrize("weight", [0.01, 1.0])
@pytest.mark.parametrize("cut", [True, False])
def test_a_derivative_that_is_cut_off_inside_the_model(cut, weight):
    def loss(model, x, y):
        z, trace, length = model(x)
        return (z.square().sum(1) - trace + weight * length).mean()

    found = audit(loss, Flow(cut), X)
    assert found.kind == ("partly detached" if cut else "depends"), found
    assert ("length.detach()" in found.explanation) == cut


class Mean:
    """A path length penalty, with a running mean that is written in place; a part may be cut off."""

    def __init__(self, cut):
        self.cut, self.mean = cut, torch.zeros(())

    def __call__(self, model, x, y):
        x = x.detach().requires_grad_(True)
        lengths = slope(model(x).sum(1), x).square().sum(1).sqrt()
        mean = 0.9 * self.mean + 0.1 * lengths.mean()
        self.mean.copy_(mean.detach())
        if self.cut:
            lengths = torch.cat([lengths[:4], lengths[4:].detach()])
        return (lengths - mean).square().mean()


@pytest.mark.parametrize("cut", [True, False])
def test_a_loss_that_keeps_a_running_mean(cut):
    loss = Mean(cut)
    assert audit(loss, mlp(3, 16, 4), X, Y).kind == ("partly detached" if cut else "depends")
    assert loss.mean == 0  # put back


def test_steps_on_the_inputs_that_are_kept_in_a_buffer():
    """An energy-based model: the chain begins at points of earlier steps, and goes back there."""
    buffer = torch.randn(20, 3)

    def loss(model, x, y):
        z = buffer[:8].clone().to(x).requires_grad_(True)
        for _ in range(3):
            (g,) = autograd.grad(model(z).logsumexp(1).sum(), z)
            z.data += g + 0.01 * torch.randn_like(z)
        buffer[:8] = z.detach().to(buffer)
        return model(z.detach()).logsumexp(1).mean() - model(x).logsumexp(1).mean()

    before = buffer.clone()
    assert audit(loss, mlp(3, 16, 4), X, Y).kind == "moves its inputs along the gradient"
    assert torch.equal(buffer, before)


@pytest.mark.parametrize("cut", [True, False])
def test_a_hessian_by_weights_that_are_given(cut):
    def loss(model, x, y):
        weights = {name: p.detach() if cut else p for name, p in model.named_parameters()}
        second = vmap(hessian(lambda a: functional_call(model, weights, (a[None],))[0, 0]))(x)
        return F.cross_entropy(model(x), y) + second.square().mean()

    assert audit(loss, mlp(3, 16, 4), X, Y).kind == ("detached" if cut else "depends")


def test_a_weight_by_gradients_of_the_last_layer_is_no_input_gradient():
    """As autoencoders with a critic balance their two losses."""
    critic = mlp(4, 8, 1)

    def loss(model, x, y):
        out = model(x)
        task, fooled = F.cross_entropy(out, y), -critic(out).mean()
        last = model[-1].weight
        one, two = (autograd.grad(part, last, retain_graph=True)[0].norm() for part in (task, fooled))
        return task + (one / (two + 1e-4)).detach() * fooled

    net = mlp(3, 16, 4)
    assert audit(loss, net, X, Y).kind == "independent"


class Rounded(nn.Module):
    """A straight-through estimator: rounded on the way there, as it was on the way back."""

    def forward(self, x):
        return x + (x.round() - x).detach()


def test_a_straight_through_estimator_is_not_called_a_wrong_second_derivative():
    found = audit(penalty, nn.Sequential(nn.Linear(3, 8), Rounded(), nn.Linear(8, 4)), X, Y)
    assert "the model's input gradient is right" in failed(found)
    assert "second derivative is wrong" not in str(found)


def test_a_plain_function_as_the_model():
    net = mlp(3, 8, 4)
    found = audit(penalty, lambda x: 2 * net(x), X, Y)
    assert (found.kind, failed(found)) == ("depends", set())
    with pytest.raises(UserError, match="or a function that uses one"):
        audit(penalty, lambda x: 2 * x, X, Y)


def test_inference_mode():
    net = mlp(3, 8, 4)
    with torch.inference_mode():
        assert audit(penalty, net, X + 1, Y).kind == "depends"
        made_there = mlp(3, 8, 4)
        with pytest.raises(UserError, match=r"made under torch.inference_mode.*outside of that block"):
            audit(penalty, made_there, X, Y)


def test_a_softmax_in_float32_is_no_fault():
    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(3, 3), nn.Linear(3, 4)

        def forward(self, x):
            scores = (self.a(x)[:, :, None] * x[:, None]).softmax(2, dtype=torch.float32).to(x.dtype)
            return self.b((scores @ x[:, :, None])[..., 0])

    found = audit(penalty, Attention(), X, Y)
    assert (found.kind, failed(found)) == ("depends", set()), found
