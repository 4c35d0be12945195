"""A training step, eager and compiled: the gradients of the loss's own backward, or one line that says why not."""

import pytest
import torch
from torch import nn

from inputgrad import PGD, CompiledStep, Context, Draws, GradientNorm, Residual, Step, UserError, losses, registry
from inputgrad.losses import Loss as Base

CONTEXT = Context(direction=torch.ones(4, 6) + torch.eye(4, 6), mask=torch.tensor([1.0, 0, 0, 1, 0, 0]))


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 4))


def batch(n=10):
    generator = torch.Generator().manual_seed(1)
    return torch.rand(n, 6, generator=generator), torch.randint(4, (n,), generator=generator)


def gradients(model):
    return [None if p.grad is None else p.grad.clone() for p in model.parameters()]


@pytest.mark.parametrize("name", [n for n in registry.names("inputgrad.losses") if len(losses.load(n).tasks) == 2])
def test_a_step_is_the_losss_own_backward(name):
    model, loss, (x, y) = net(), losses.load(name)(), batch()
    torch.manual_seed(3)
    seen = loss(model, x, y, CONTEXT)
    seen.backward()
    wanted = gradients(model)
    torch.manual_seed(3)
    taken = Step(loss, model, CONTEXT)(x, y)  # nothing is added to what lies there
    assert torch.equal(taken.total, seen)
    assert not taken.total.requires_grad
    for mine, theirs in zip(gradients(model), wanted, strict=True):
        assert torch.equal(mine, theirs)


@pytest.mark.compiles
@pytest.mark.parametrize("loss", [GradientNorm(strength=0.7), PGD(epsilon=0.1, steps=2, task_weight=0.5)])
def test_a_compiled_step_is_the_eager_one(loss):
    """Also where the loss draws random numbers, and on the smaller last batch of an epoch."""
    model = net()
    model[0].bias.requires_grad_(False)
    eager, graph = Step(loss, model, CONTEXT, Draws(None)), CompiledStep(loss, model, CONTEXT)
    for n in (10, 7):
        torch.manual_seed(3)
        wanted, theirs = eager(*batch(n)), gradients(model)
        torch.manual_seed(3)
        found, mine = graph(*batch(n)), gradients(model)
        assert mine[1] is None
        for a, b in zip(mine, theirs, strict=True):
            assert a is b or torch.allclose(a, b, rtol=1e-4, atol=1e-7)
        assert found.notes.keys() == wanted.notes.keys()
        torch.testing.assert_close(found[:3], wanted[:3])


@pytest.mark.compiles
def test_a_batch_of_another_shape_is_not_compiled(monkeypatch):
    step, sizes = CompiledStep(GradientNorm(0.5), net()), []
    compiled = step.compiled
    monkeypatch.setattr(step, "compiled", lambda x, *rest: sizes.append(len(x)) or compiled(x, *rest))
    for n in (10, 7, 10, 3):
        step(*batch(n))
    assert sizes == [10, 10]


@pytest.mark.compiles
def test_compiled_gradients_lie_in_memory_as_their_parameters():
    """Else a fused optimiser would mix up the numbers of a channels-last net."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Tanh(), nn.Conv2d(4, 5, 3), nn.Flatten(), nn.Linear(80, 4))
    model.to(memory_format=torch.channels_last)
    CompiledStep(GradientNorm(strength=0.5), model)(torch.rand(6, 3, 8, 8), torch.tensor([0, 1, 2, 3, 0, 1]))
    for parameter in model.parameters():
        assert parameter.grad.stride() == parameter.stride()


class Looks(Base):
    """Its graph depends on a value, so that there is no single graph."""

    def term(self, at):
        norm = at.gradient().flatten(1).norm(dim=1)
        return norm if float(norm.sum()) > 1e-3 else norm.square()


@pytest.mark.compiles
def test_what_cannot_be_compiled_is_said(monkeypatch):
    with pytest.raises(UserError, match=r"this loss and model cannot be compiled here: .*fix: do not compile"):
        CompiledStep(Looks(), net())(*batch())
    with pytest.raises(UserError, match=r"a ramp changes the strength.*fix: ramp: 0"):
        CompiledStep(GradientNorm(ramp=3), net())


@pytest.mark.compiles
def test_a_machine_without_a_compiler(monkeypatch, tmp_path):
    from torch._inductor import config

    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))  # nothing compiled before
    with (
        config.patch({"cpp.cxx": ("no-such-compiler",)}),
        pytest.raises(UserError, match=r"compile.*fix: do not compile"),
    ):
        CompiledStep(GradientNorm(p=1, squared=False), net())(*batch(5))


@pytest.mark.compiles
def test_a_process_may_compile_for_many_models():
    loss = GradientNorm()
    for _ in range(10):
        model = nn.Linear(6, 4)
        CompiledStep(loss, model)(*batch())
        assert model.weight.grad is not None


def test_an_older_torch_is_told_which_one_compiles(monkeypatch):
    monkeypatch.setattr(torch, "__version__", torch.torch_version.TorchVersion("2.11.0"))
    with pytest.raises(
        UserError, match=r"CompiledStep needs torch 2\.13, this is 2\.11\.0; fix: take Step, or install"
    ):
        CompiledStep(GradientNorm(), net())


def of_the_whole_batch(loss, model, x, y):
    model.zero_grad()
    loss(model, x, y).backward()
    return gradients(model)


@pytest.mark.parametrize("kind", [Step, pytest.param(CompiledStep, marks=pytest.mark.compiles)])
def test_micro_batches_add_up_to_the_gradient_of_their_mean_and_begin_anew(kind):
    model, loss, (x, y) = net().double(), GradientNorm(0.5), batch(12)
    step = kind(loss, model, accumulate=3)
    for shift in (0.0, 0.5):  # a second step does not see the first
        for part in (slice(0, 4), slice(4, 8), slice(8, 12)):
            step(x[part].double() + shift, y[part])
        mine = gradients(model)
        for a, b in zip(mine, of_the_whole_batch(loss, model, x.double() + shift, y), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)
    assert step.steps == 2


def test_micro_batches_of_different_sizes_say_their_weight():
    model, loss, (x, y) = net().double(), GradientNorm(0.5), batch(12)
    step = Step(loss, model, accumulate=3)
    for part in (slice(0, 5), slice(5, 10), slice(10, 12)):
        step(x[part].double(), y[part], weight=len(x[part]) / 12)
    mine = gradients(model)
    for a, b in zip(mine, of_the_whole_batch(loss, model, x.double(), y), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


def test_every_counts_steps_and_not_micro_batches():
    step, (x, y) = Step(GradientNorm(0.5, every=2), net(), accumulate=2), batch()
    assert [step(x, y).term is not None for _ in range(8)] == [True, True, False, False] * 2


@pytest.mark.parametrize("kind", [Step, pytest.param(CompiledStep, marks=pytest.mark.compiles)])
def test_a_layer_that_is_unfrozen_later_is_trained_and_a_frozen_one_is_not(kind):
    model, (x, y), loss = net(), batch(), GradientNorm(0.5)
    for p in model[0].parameters():
        p.requires_grad_(False)
    step = kind(loss, model)
    step(x, y)
    assert model[0].weight.grad is None
    for p in model[0].parameters():
        p.requires_grad_(True)
    step(x, y)
    wanted = gradients(model)
    for a, b in zip(wanted, of_the_whole_batch(loss, model, x, y), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-7)
    if kind is Step:
        for p in model[0].parameters():
            p.requires_grad_(False)
        step(x, y)
        assert model[0].weight.grad is None  # what lay there would be trained on


def test_a_scaler_scales_what_lies_in_the_weights():
    model, (x, y), loss = net(), batch(), GradientNorm(0.5)
    wanted = of_the_whole_batch(loss, model, x, y)
    Step(loss, model, scaler=torch.amp.GradScaler("cpu", init_scale=1024.0))(x, y)
    for a, b in zip(gradients(model), wanted, strict=True):
        torch.testing.assert_close(a, 1024 * b)


def test_a_value_is_given_under_inference_mode():
    model, (x, y), loss = net(), batch(), GradientNorm(0.5)
    wanted = loss(model, x, y).detach()
    with torch.inference_mode():
        assert torch.equal(loss(model, x.clone(), y.clone()), wanted)
        assert torch.equal(loss(model, {"input": x.clone()}, y), wanted)
        assert torch.equal(loss.penalty(model, x.clone(), y), loss.penalty(model, x, y))


def test_what_the_loss_trains_besides_the_model_is_trained_too():
    """A dict of weights, nets in a list, the coefficient of an equation, a factor in a function, a learned task."""
    x, y = batch()
    first = net()
    weights = {name: p.detach().clone().requires_grad_() for name, p in net().named_parameters()}
    several = [net(), net()]

    class Team:
        def __init__(self):
            self.nets, self.head = several, nn.Linear(4, 4)

        def predict(self, x):
            return self.head(sum(one(x) for one in self.nets).tanh())

    team, factor, rate = Team(), nn.Parameter(torch.tensor(1.5)), nn.Parameter(torch.tensor(0.3))
    noise = nn.Parameter(torch.zeros(4))
    learned = Context(task=lambda outputs, y: (noise.exp() * outputs.square()).sum(1))
    cases = [
        (GradientNorm(0.5), lambda x: torch.func.functional_call(first, weights, (x,)), None, [*weights.values()]),
        (GradientNorm(0.5), team.predict, None, [*several[0].parameters(), *team.head.parameters()]),
        (Residual(lambda p: p.d(1) - rate * p.d(0, 0)), net(), Context(task=learned.task), [rate]),
        (GradientNorm(0.5), lambda x: factor * first(x), None, [factor, *first.parameters()]),
        (GradientNorm(0.5), first, learned, [noise]),
    ]
    for loss, model, context, trained in cases:
        wanted = torch.autograd.grad(loss(model, x, y, context), trained)
        step = Step(loss, model, context)
        for _ in range(2):  # nothing is left from the first
            step(x, y)
        for tensor, gradient in zip(trained, wanted, strict=True):
            assert torch.equal(tensor.grad, gradient)


@pytest.mark.compiles
def test_a_compiled_step_refuses_what_its_graph_does_not_know():
    rate = nn.Parameter(torch.tensor(0.3))
    step = CompiledStep(Residual(lambda p: p.d(0) - rate), net(), Context(task="mse"))
    with pytest.raises(UserError, match=r"the weights of the model alone, not \(\); fix: take Step"):
        step(batch()[0], torch.rand(10, 4), strength=1.0)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (
            lambda: Step(GradientNorm, net()),
            r"GradientNorm is no loss that was made; fix: Step\(GradientNorm\(0\.1\), model\)",
        ),
        (
            lambda: Step(net(), GradientNorm()),
            r"Sequential is no loss that was made; fix: Step\(loss, model\), in this",
        ),
        (lambda: Step(GradientNorm(), "net"), "the model is a str; fix"),
        (
            lambda: Step(GradientNorm(), net(), accumulate=0),
            "accumulate is 0; fix: the number of micro-batches, 1 or more",
        ),
        (lambda: Step(GradientNorm(), net(), accumulate=2)(*batch(), weight=5), "weight 5 is no share of a step; fix"),
    ],
)
def test_a_step_that_is_made_wrongly_is_one_line(make, said):
    with pytest.raises(UserError, match=said):
        make()
