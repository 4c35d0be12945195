"""What people ask about most, and what a simpler audit gets wrong: one test for each, with the verdict or the words."""

import subprocess
import sys

import pytest
import torch
from torch import autograd, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from inputgrad import audit
from inputgrad.errors import UserError
from tests.inputgrad.audit.test_audit import failed, row
from tests.inputgrad.audit.test_public_losses import MOVES, mlp, slope


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def penalty(model, x, y, task=F.cross_entropy, create_graph=True):
    """A correct double backprop: per example, then the mean."""
    x = x.detach().requires_grad_(True)
    losses = task(model(x), y, reduction="none").flatten(1 if task is F.mse_loss else 0)
    losses = losses.mean(1) if losses.dim() > 1 else losses
    (g,) = autograd.grad(losses.sum(), x, create_graph=create_graph, retain_graph=True)
    return losses.mean() + 0.1 * g.flatten(1).square().sum(1).mean()


def regression(model, x, y):
    return penalty(model, x, y, F.mse_loss)


X, Y = torch.randn(8, 3, generator=torch.Generator().manual_seed(0)), torch.arange(8) % 4


def test_a_laplacian_alone():
    def loss(model, x, source):
        x = x.clone().requires_grad_(True)
        first = slope(model(x), x)
        return (sum(slope(first[:, i], x)[:, i] for i in range(3)) - source).square().mean()

    assert audit(loss, mlp(3, 16, 1), X, torch.randn(8)).kind == "depends"


@pytest.mark.parametrize("given", ["pair", "tuple", "dict"])
def test_a_net_of_two_arguments(given):
    class Rod(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = mlp(2, 16, 1)

        def forward(self, where, *, when):
            return self.net(torch.cat([where, when], 1))

    def residual(model, where, when, u):
        where, when = (t.clone().requires_grad_(True) for t in (where, when))
        found = model(where, when=when)
        heat = slope(found, when) - 0.2 * slope(slope(found, where), where)
        return heat.square().mean() + F.mse_loss(found, u)

    where, when, u = (torch.rand(8, 1) for _ in range(3))
    if given == "pair":
        found = audit(lambda m, z, u: residual(m, z[:, :1], z[:, 1:], u), Rod(), torch.cat([where, when], 1), u)
    elif given == "tuple":
        found = audit(residual, Rod(), (where, when), u)
        assert found.called == "loss(model, *x, y)"
    else:
        found = audit(lambda m, b: residual(m, b["x"], b["t"], b["u"]), Rod(), {"x": where, "t": when, "u": u})
        assert found.called == "loss(model, x)"
    assert found.kind == "depends"


def test_a_critic_of_real_and_fake():
    def loss(critic, real, fake):
        share = torch.rand(len(real), 1, dtype=real.dtype)
        at = (share * real + (1 - share) * fake).detach().requires_grad_(True)
        return critic(fake).mean() - critic(real).mean() + 10 * (slope(critic(at), at).norm(dim=1) - 1).square().mean()

    assert audit(loss, mlp(3, 16, 1), X, torch.randn(8, 3)).kind == "depends"


def noisy(model, x, y):
    return F.cross_entropy(model(x + 0.1 * torch.randn_like(x)), y)


def in_parts(model, x, y):
    return sum(F.cross_entropy(model(a), b, reduction="sum") for a, b in zip(x.chunk(4), y.chunk(4), strict=True)) / 8


def shuffled(model, x, y):
    order = torch.randperm(len(x))
    return F.cross_entropy(model(x[order]), y[order])


def mixed(model, x, y):
    order = torch.randperm(len(x))
    out = model(0.8 * x + 0.2 * x[order])
    return 0.8 * F.cross_entropy(out, y) + 0.2 * F.cross_entropy(out, y[order])


@pytest.mark.parametrize("loss", [noisy, in_parts, shuffled, mixed])
def test_other_points_are_no_gradient(loss):
    assert audit(loss, mlp(3, 16, 4), X, Y).kind == "independent"


def void_near(model, x, y):
    near = (x + 0.1 * torch.rand_like(x)).requires_grad_(True)
    task = F.cross_entropy(model(near), y)
    return task + autograd.grad(task, near, retain_graph=True)[0].norm(dim=1).mean()


def void_between(model, x, y):
    between = x.lerp(x.flip(0), 0.3).requires_grad_(True)
    return model(x).mean() + (autograd.grad(model(between).sum(), between)[0].norm(dim=1) - 1).square().mean()


@pytest.mark.parametrize("loss", [void_near, void_between])
def test_a_void_penalty_at_another_point(loss):
    found = audit(loss, mlp(3, 16, 4), X, Y)
    assert found.kind == "detached"
    assert "without create_graph=True" in found.explanation


def test_a_void_penalty_next_to_a_moved_input():
    """FGSM is right; the penalty beside it is a constant, and is not covered by it."""

    def loss(model, x, y):
        x = x.detach().requires_grad_(True)
        task = F.cross_entropy(model(x), y)
        (g,) = autograd.grad(task, x)
        return F.cross_entropy(model(x.detach() + 0.1 * g.sign()), y) + g.square().sum()

    assert audit(loss, mlp(3, 16, 4), X, Y).kind == "detached"


def step_of_length_one(model, x, y):
    x = x.detach().requires_grad_(True)
    (g,) = autograd.grad(F.cross_entropy(model(x), y), x)
    return F.cross_entropy(model(x + 0.1 * F.normalize(g, dim=1)), y)


def test_a_step_along_the_gradient_is_a_verdict_of_its_own():
    found = audit(step_of_length_one, mlp(3, 16, 4), X, Y)
    assert (found.kind, found.depends, failed(found)) == (MOVES, True, set())


def test_a_layer_that_works_in_place_has_a_double_backward():
    net = nn.Sequential(nn.Linear(3, 16), nn.ReLU(inplace=True), nn.Linear(16, 4))
    assert row(audit(penalty, net, X, Y), "double backward").ok is True


def test_an_overwritten_value_is_named():
    net = nn.Sequential(nn.Linear(3, 8), nn.Sigmoid(), nn.ReLU(inplace=True), nn.Linear(8, 4))
    with pytest.raises(UserError, match=r"layer 2 works in place: .*inplace=False") as error:
        audit(penalty, net, X, Y)
    assert "kernel" not in str(error.value)


def test_constants_of_single_precision():
    weight, teacher = torch.tensor([1.0, 2, 1, 1]), nn.Linear(3, 4)

    class Sequence(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn, self.out = nn.LSTM(3, 8, batch_first=True), nn.Linear(8, 4)

        def forward(self, x):
            return self.out(self.rnn(x[:, None], (torch.zeros(1, len(x), 8), torch.zeros(1, len(x), 8)))[0][:, -1])

    def weighted(model, x, y):
        return penalty(model, x, y, lambda o, y, reduction: F.cross_entropy(o, y, weight, reduction=reduction))

    def distilled(model, x, y):
        return penalty(model, x, y, lambda o, y, reduction: (o - teacher(x)).square().sum(1))

    for loss, net in ((weighted, mlp(3, 16, 4)), (distilled, mlp(3, 16, 4)), (penalty, Sequence())):
        found = audit(loss, net, X, Y)
        assert found.kind == "depends", str(found)
        assert failed(found) == set()
        assert "float32" in row(found, "model's input gradient").figure


@pytest.mark.parametrize("right", [True, False])
def test_tokens_through_an_embedding(right):
    class Text(nn.Module):
        def __init__(self):
            super().__init__()
            self.words, self.out = nn.Embedding(20, 8), nn.Linear(8, 4)

        def forward(self, ids=None, embedded=None):
            return self.out(torch.tanh(self.words(ids) if embedded is None else embedded).mean(1))

    def loss(model, ids, y):
        e = model.words(ids)
        task = F.cross_entropy(model(embedded=e), y)
        (g,) = autograd.grad(task, e, create_graph=right, retain_graph=True)
        return task + g.square().sum()

    found = audit(loss, Text(), torch.randint(0, 20, (8, 5)), Y)
    assert found.kind == ("depends" if right else "detached")


@pytest.mark.parametrize("right", [True, False])
def test_the_gradient_at_an_activation(right):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Linear(3, 16), nn.Linear(16, 4)

        def forward(self, x):
            self.hidden = self.first(x).tanh()
            return self.last(self.hidden)

    def loss(model, x, y):
        task = F.cross_entropy(model(x), y)
        (g,) = autograd.grad(task, model.hidden, create_graph=right, retain_graph=True)
        return task + g.square().sum()

    net = Net()
    net(X)
    hidden = net.hidden
    assert audit(loss, net, X, Y).kind == ("depends" if right else "detached")
    assert net.hidden is hidden


def test_create_graph_only_in_train_mode():
    def loss(model, x, y):
        return penalty(model, x, y, create_graph=model.training)

    net = mlp(3, 16, 4)
    assert audit(loss, net.train(), X, Y).kind == "depends"
    found = audit(loss, net.eval(), X, Y)
    assert found.kind == "detached"
    assert "create_graph=model.training" in found.explanation
    assert not net.training


def test_value_and_slope_in_one_target():
    def loss(model, x, y):
        x = x.detach().requires_grad_(True)
        out = model(x)
        (g,) = autograd.grad(out.sum(), x, retain_graph=True)
        return F.mse_loss(out, y[:, :1]) + F.mse_loss(g.sum(1), y[:, 1])

    assert audit(loss, mlp(3, 16, 1), X, torch.randn(8, 2)).kind == "detached"


def test_one_logit_and_class_numbers():
    def loss(model, x, y):
        x = x.detach().requires_grad_(True)
        out = model(x).squeeze(1)
        return F.binary_cross_entropy_with_logits(out, y.to(out)) + slope(out, x).square().sum(1).mean()

    assert audit(loss, mlp(3, 16, 1), X, Y % 2).kind == "depends"


def test_a_mask_for_each_example():
    mask = torch.rand(8, 3) > 0.5

    def loss(model, x, y):
        x = x.detach().requires_grad_(True)
        logs = model(x).log_softmax(1)
        return F.nll_loss(logs, y) + 10 * (slope(logs, x) * mask).square().sum(1).mean()

    found = audit(loss, mlp(3, 16, 4), X, Y)
    assert (found.kind, failed(found)) == ("depends", set())
    assert row(found, "repeated").figure.startswith("not measured: ")


@pytest.mark.parametrize("norm", [nn.utils.spectral_norm, nn.utils.weight_norm], ids=["spectral", "weight"])
@pytest.mark.filterwarnings("ignore:.*weight_norm")
def test_norms_by_hooks(norm):
    net = nn.Sequential(norm(nn.Linear(3, 16)), nn.Tanh(), nn.Linear(16, 1))
    net(X)
    state = {k: v.clone() for k, v in net.state_dict().items()}
    found = audit(regression, net, X, torch.randn(8, 1))
    assert (found.kind, failed(found)) == ("depends", set())
    assert all(torch.equal(v, state[k]) for k, v in net.state_dict().items())


class Penalty(nn.Module):
    def forward(self, model, x, y):
        return F.cross_entropy(model(x), y)


@pytest.mark.parametrize(
    ("loss", "piece"),
    [
        (lambda m, x, y: (F.cross_entropy(m(x), y), {}), r"gives a tuple \(Tensor, dict\); fix: return one number"),
        (lambda m, x, y: {"loss": F.cross_entropy(m(x), y)}, "gives a dict"),
        (lambda m, x, y: None, "gives a NoneType"),
        (lambda m, x, y: F.cross_entropy(m(x), y, reduction="none"), r"shape \(8,\); fix: return one number"),
        (lambda m, x, y: F.cross_entropy(m(x), y).item(), "gives a float"),
        (Penalty, r"Penalty is a class; fix: give an instance, Penalty\(\)"),
        (lambda: 1.0, r"takes \(\)"),
        (lambda model, x, y, z: 1.0, r"takes \(model, x, y, z\).*fix: wrap it"),
        ("text", "is a str; fix: give a function"),
    ],
)
def test_what_is_no_loss_is_one_line(loss, piece):
    with pytest.raises(UserError, match=piece) as error:
        audit(loss, mlp(3, 16, 4), X, Y)
    assert "\n" not in str(error.value)


def test_a_loss_on_outputs_is_called_so_and_says_so():
    found = audit(lambda outputs, y: F.cross_entropy(outputs, y), mlp(3, 16, 4), X, Y)
    assert (found.kind, found.called) == ("independent", "loss(model(x), y)")
    assert str(found).startswith("called as loss(model(x), y)\n")
    assert audit(nn.CrossEntropyLoss(), mlp(3, 16, 4), X, Y).called == "loss(model(x), y)"
    assert audit(lambda model, batch: penalty(model, *batch), mlp(3, 16, 4), X, Y).called == "loss(model, (x, y))"


DENSE = """\
import resource, torch
from torch import nn
from inputgrad import audit
from tests.inputgrad.audit.test_hard_losses import regression
net = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.Tanh(), nn.Conv2d(4, 3, 3, padding=1))
x = torch.rand(2, 3, 128, 128)
regression(net, x, x).backward()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
found = audit(regression, net, x, x)
assert found.kind == "depends", str(found)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_as_many_outputs_as_inputs_need_no_matrix():
    """Peak memory beyond that of a training step, of a net of 98,304 outputs: a matrix would take 77 GB."""
    done = subprocess.run([sys.executable, "-c", DENSE], capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 300_000  # in KB


def test_dropout_is_no_fault():
    net = nn.Sequential(nn.Linear(3, 16), nn.Tanh(), nn.Dropout(0.5), nn.Linear(16, 4))
    found = audit(penalty, net, X, Y)
    assert (found.kind, failed(found)) == ("depends", set())
    assert row(found, "repeated").figure == "not measured: the loss or the net draws random numbers"


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("width", [8, 32])
def test_kinks_are_no_fault(seed, width):
    torch.manual_seed(seed)
    layers = [nn.Conv2d(1, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, width, 3, padding=1), nn.ReLU()]
    net = nn.Sequential(*layers, nn.MaxPool2d(2), nn.Flatten(), nn.Linear(width * 16, 10))
    found = audit(penalty, net, torch.rand(16, 1, 8, 8), torch.randint(0, 10, (16,)))
    assert (found.kind, failed(found)) == ("depends", set())


def test_fused_attention_in_a_module_with_children():
    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.into, self.out = nn.Linear(8, 24), nn.Linear(40, 4)

        def forward(self, x):
            return self.out(F.scaled_dot_product_attention(*self.into(x)[:, None].chunk(3, -1)).flatten(1))

    net = nn.Sequential(nn.Identity(), Attention())
    with pytest.raises(UserError, match=r"layer 1 has no double backward: .*math kernel.*eager.*finite_difference"):
        audit(penalty, net, torch.randn(4, 5, 8), Y[:4])


@pytest.mark.parametrize("whole", [True, False])
def test_checkpoints(whole):
    """Of a part of the model, or of the model, by the loss."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.out = mlp(3, 16, 8), nn.Linear(8, 4)

        def forward(self, x):
            return self.out(self.body(x) if whole else checkpoint(self.body, x, use_reentrant=False))

    def loss(model, x, y):
        return penalty((lambda z: checkpoint(model, z, use_reentrant=False)) if whole else model, x, y)

    found = audit(loss, Net(), X, Y)
    assert (found.kind, failed(found)) == ("depends", set())


def test_a_checkpoint_that_enters_again_gets_its_fix():
    def loss(model, x, y):
        return penalty(lambda z: checkpoint(model, z, use_reentrant=True), x, y)

    with pytest.raises(UserError, match=r"fix: checkpoint\(\.\.\., use_reentrant=False\)"):
        audit(loss, mlp(3, 16, 4), X, Y)


def test_nan_is_not_a_constant():
    net = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 1))
    nn.init.constant_(net[0].bias, -0.3)
    x = torch.cat([torch.zeros(1, 3), X[1:]])  # at 0 no unit fires: the gradient is exactly 0

    def loss(model, x, y):
        x = x.detach().requires_grad_(True)
        out = model(x)
        return F.mse_loss(out, y) + (slope(out, x).square().sum(1).sqrt() - 1).square().mean()

    found = audit(loss, net, x, torch.randn(8, 1))
    assert (found.kind, found.depends) == ("not finite", False)
    assert "nan" in found.verdict
    assert "constant" not in found.verdict
    assert "PowBackward0" in found.rows[0].figure
    assert "ε inside the root" in found.explanation


def test_a_penalty_with_a_backward_of_its_own():
    def loss(model, x, y):
        x = x.detach().requires_grad_(True)
        out = model(x)
        (10 * (slope(out, x).norm(dim=1) - 1).square().mean()).backward(retain_graph=True)
        return F.mse_loss(out, y)

    found = audit(loss, mlp(3, 16, 1), X, torch.randn(8, 1))
    assert found.kind == "depends"
    assert row(found, "value follows").ok is True
    assert "is trained, by a backward of its own, and is missing from the printed loss" in " ".join(
        found.explanation.split()
    )


def test_a_gradient_of_a_scaled_loss():
    def loss(model, x, y, scale=65536.0):
        x = x.detach().requires_grad_(True)
        task = (model(x) - y).square().mean(1)
        (g,) = autograd.grad(scale * task.sum(), x, create_graph=True)
        return task.mean() + g.square().sum(1).mean()

    found = audit(loss, mlp(3, 16, 1), X, torch.randn(8, 1))
    assert (found.kind, failed(found)) == ("depends", {"size of the term"})
    assert "scaler.get_scale()" in found.explanation


def test_validation_under_no_grad_says_what_to_write():
    @torch.no_grad()
    def loss(model, x, y):
        return penalty(model, x, y)

    with pytest.raises(UserError, match=r"torch\.enable_grad\(\)"):
        audit(loss, mlp(3, 16, 4), X, Y)
    with torch.no_grad():
        assert audit(penalty, mlp(3, 16, 4), X, Y).kind == "depends"


def test_a_loss_without_any_graph():
    def loss(model, x, y):
        return penalty(model, x, y).detach()

    found = audit(loss, mlp(3, 16, 4), X, Y)
    assert found.kind == "detached"
    assert "no graph at all" in found.explanation


def test_a_compiled_model_is_told_what_to_do():
    with pytest.raises(UserError, match=r"compiled.*as it was before torch.compile"):
        audit(penalty, torch.compile(mlp(3, 16, 4)), X, Y)
    net = mlp(3, 16, 4)
    net.compile()
    with pytest.raises(UserError, match="compiled"):
        audit(penalty, net, X, Y)


def test_half_precision_and_one_process_data_parallel():
    found = audit(penalty, mlp(3, 16, 4).to(torch.bfloat16), X.to(torch.bfloat16), Y)
    assert (found.kind, failed(found)) == ("depends", set())
    assert audit(penalty, nn.DataParallel(mlp(3, 16, 4)), X, Y).kind == "depends"


def test_weights_added_to_a_frozen_net():
    class Adapted(nn.Module):
        """As LoRA: a frozen layer and a product of two small matrices."""

        def __init__(self, base):
            super().__init__()
            self.base = base.requires_grad_(False)
            self.down, self.up = nn.Linear(3, 2, bias=False), nn.Linear(2, 16, bias=False)

        def forward(self, x):
            return self.base(x) + self.up(self.down(x))

    net = nn.Sequential(Adapted(nn.Linear(3, 16)), nn.Tanh(), nn.Linear(16, 4).requires_grad_(False))
    found = audit(penalty, net, X, Y)
    assert (found.kind, failed(found)) == ("depends", set())
    with pytest.raises(UserError, match="no weight of the model is trained"):
        audit(penalty, net.requires_grad_(False), X, Y)


@pytest.mark.parametrize("right", [True, False])
def test_a_generator_and_a_counter_of_the_loss_own(right):
    noise = torch.Generator().manual_seed(7)

    class Lazy:
        step = 0

        def __call__(self, model, x, y):
            self.step += 1
            near = x + 0.1 * torch.randn(x.shape, generator=noise)
            return penalty(model, near, y, create_graph=right) if self.step == 1 else F.cross_entropy(model(x), y)

    state = noise.get_state()
    assert audit(Lazy(), mlp(3, 16, 4), X, Y).kind == ("depends" if right else "detached")
    assert torch.equal(noise.get_state(), state)


def test_outputs_that_other_outputs_are_made_of():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = mlp(3, 16, 16), nn.Linear(16, 4)

        def forward(self, x):
            features = self.first(x)
            return features, self.last(features.tanh())

    def loss(model, x, y):
        features, out = model(x)
        (g,) = autograd.grad(F.cross_entropy(out, y), features, create_graph=True)
        return F.cross_entropy(out, y) + g.square().sum()

    assert audit(loss, Net(), X, Y).kind == "depends"
