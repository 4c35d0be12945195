"""Targets, ELLE and N-FGSM by hand; every form of task and label; a value where gradients are switched off."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from inputgrad import (
    ELLE,
    FGSM,
    NFGSM,
    Context,
    Derivative,
    DetachedDerivative,
    DetachedTarget,
    Draws,
    Forward,
    GradientNorm,
    GradientTarget,
    Step,
    UserError,
    losses,
    registry,
    tasks,
)

N, D = 5, 4


def generator():
    return torch.Generator().manual_seed(7)


def quadratic(outputs=1):
    """f_k(x) = x·A_k·x / 2: its gradient is A_k·x, A symmetric."""

    class Quadratic(nn.Module):
        def __init__(self):
            super().__init__()
            a = torch.randn(outputs, D, D, generator=generator(), dtype=torch.float64)
            self.a = nn.Parameter((a + a.transpose(1, 2)) / 2)

        def forward(self, x):
            return torch.einsum("ni,kij,nj->nk", x, self.a, x) / 2

    model = Quadratic()
    x = torch.randn(N, D, generator=generator(), dtype=torch.float64)
    return model, x, torch.zeros(N, outputs, dtype=torch.float64)


def known(**examples):
    return Context(examples=examples)


@pytest.mark.parametrize("sign", [1, -1])
def test_the_gradient_is_held_against_its_target(sign):
    model, x, y = quadratic()
    t = torch.randn(N, D, generator=generator(), dtype=torch.float64)
    term = GradientTarget(sign=sign).term(Forward(model, x, y, context=known(target_gradient=t)))
    torch.testing.assert_close(term, (sign * x @ model.a[0] - t).square().sum(1))


@pytest.mark.parametrize("sign", [1, -1])
def test_each_of_several_outputs_has_its_own_target_and_components_their_weight(sign):
    model, x, y = quadratic(outputs=3)
    t = torch.randn(N, 3, D, generator=generator(), dtype=torch.float64)
    w = (torch.rand(N, 3, D, generator=generator()) > 0.5).double()
    term = GradientTarget(sign=sign).term(Forward(model, x, y, context=known(target_gradient=t, gradient_weight=w)))
    found = sign * torch.einsum("kij,nj->nki", model.a, x)
    torch.testing.assert_close(term, (w * (found - t)).square().sum((1, 2)))


def test_training_follows_it_and_not_its_control():
    model, x, y = quadratic()
    context = known(target_gradient=torch.randn(N, D, generator=generator(), dtype=torch.float64))
    found = [
        torch.autograd.grad(loss(model, x, y, context), model.a)[0]
        for loss in (GradientTarget(), DetachedTarget(), losses.load("standard")())
    ]
    assert torch.equal(found[1], found[2])
    step, up = 1e-6, torch.randn(D, D, generator=generator(), dtype=torch.float64)
    values = []
    for sign in (1, -1):
        moved, _, _ = quadratic()
        moved.load_state_dict({"a": model.a.detach() + sign * step * up})
        values.append(float(GradientTarget()(moved, x, y, context)))
    assert (values[0] - values[1]) / (2 * step) == pytest.approx(float((found[0] * up).sum()), rel=1e-6)


def test_without_the_task_the_gradient_alone_is_learned():
    """A Hamiltonian net: S is orthogonal, so the error of the motion S∇F is that of the gradient ∇F."""
    model, x, y = quadratic()
    motion = torch.randn(N, D, generator=generator(), dtype=torch.float64)
    s = torch.eye(D, dtype=torch.float64).roll(D // 2, 1) * torch.tensor([1.0, 1.0, -1.0, -1.0])[:, None]
    loss = GradientTarget(task_weight=0, mean="component")
    found = [loss(model, x, t, known(target_gradient=motion @ s)) for t in (y, y + 5)]
    wanted = F.mse_loss(x @ (model.a[0] + model.a[0].T) @ s.T / 2, motion)
    for value in found:
        torch.testing.assert_close(value, wanted)
        torch.testing.assert_close(*(torch.autograd.grad(v, model.a, retain_graph=True)[0] for v in (value, wanted)))


def test_without_the_task_the_control_is_a_constant_that_no_step_can_take():
    model, x, y = quadratic()
    context = known(target_gradient=torch.randn(N, D, generator=generator(), dtype=torch.float64))
    control, real = (kind(task_weight=0) for kind in (DetachedTarget, GradientTarget))
    before = model.a.detach().clone()
    assert control(model, x, y, context).item() == real(model, x, y, context).item()
    assert not control(model, x, y, context).requires_grad
    with pytest.raises(UserError, match="does not require grad"):
        Step(control, model, context)(x, y)
    assert model.a.grad is None
    optimizer = torch.optim.Adam(model.parameters(), weight_decay=0.1)
    optimizer.step()  # not even the weight decay moves a weight without a gradient
    assert torch.equal(model.a, before)
    Step(real, model, context)(x, y)
    optimizer.step()
    assert not torch.equal(model.a, before)


def test_a_target_that_is_missing_or_does_not_fit_is_said():
    model, x, y = quadratic()
    with pytest.raises(UserError, match="a target for every example is missing"):
        GradientTarget()(model, x, y)
    with pytest.raises(UserError, match=r"target_gradient has shape \(5, 3\); fix: give \(5, 1, 4\)"):
        GradientTarget()(model, x, y, known(target_gradient=torch.zeros(N, 3)))


def test_a_share_takes_what_is_known_of_its_examples():
    model, x, y = quadratic()
    t = torch.arange(N)[:, None].double().expand(N, D)
    loss = GradientTarget(share=0.4)
    chosen = Draws(generator()).subset(x, 2)
    value = loss(model, x, y, known(target_gradient=t), Draws(generator()))
    term = (x[chosen] @ model.a[0] - t[chosen]).square().sum(1).mean()
    torch.testing.assert_close(value, model(x).square().mean() + term)


def test_the_derivative_along_a_direction():
    model, x, y = quadratic()
    v = torch.randn(N, D, generator=generator(), dtype=torch.float64)
    context = known(derivative_direction=v, derivative=torch.arange(N).double())
    term = Derivative().term(Forward(model, x, y, context=context))
    torch.testing.assert_close(term, ((x @ model.a[0] * v).sum(1) - torch.arange(N)).square())
    found = [
        torch.autograd.grad(loss(model, x, y, context), model.a)[0]
        for loss in (DetachedDerivative(), losses.load("standard")(), Derivative())
    ]
    assert torch.equal(found[0], found[1])
    assert not torch.allclose(found[0], found[2])
    with pytest.raises(UserError, match=r"derivative_direction is missing; fix: Context\(examples="):
        Derivative()(model, x, y)
    with pytest.raises(UserError, match=r"derivative has shape \(5, 1\)"):
        Derivative()(model, x, y, known(derivative_direction=v, derivative=torch.zeros(N, 1)))


@pytest.mark.parametrize(("squared", "p"), [(True, 2), (False, 2), (True, 1)])
def test_the_norm_is_drawn_to_its_target_from_both_sides(squared, p):
    model, x, y = quadratic()
    term = GradientNorm(of="outputs", target=1.0, squared=squared, p=p).term(Forward(model, x, y))
    distance = (x @ model.a[0]).norm(p=p, dim=1) - 1
    torch.testing.assert_close(term, distance.square() if squared else distance.abs())
    assert (distance > 0).any()


def test_elle_is_the_bend_between_two_points():
    model, x, y = quadratic()
    loss, g = ELLE(epsilon=0.3), Draws(generator())
    a, b = (x + 0.3 * (2 * g.uniform(x) - 1) for _ in range(2))
    share = g.uniform(x.new_empty(N))
    c = a + share[:, None] * (b - a)
    here, there, between = (model(z)[:, 0].square() for z in (a, b, c))
    term = loss.term(Forward(model, x, y, draws=Draws(generator())))
    torch.testing.assert_close(term, (between - (1 - share) * here - share * there).square())


def test_elle_is_zero_on_a_line():
    model = nn.Linear(D, 1).double()
    context = Context(task=lambda outputs, y: outputs[:, 0])
    x = torch.randn(N, D, generator=generator(), dtype=torch.float64)
    assert ELLE().term(Forward(model, x, torch.zeros(N, 1), context=context)).abs().max() < 1e-20


def test_nfgsm_steps_from_noise_and_does_not_come_back():
    model, x, y = quadratic()
    epsilon, k = 0.1, 2.0
    noisy = x + k * epsilon * (2 * Draws(generator()).uniform(x) - 1)
    leaf = noisy.clone().requires_grad_()
    (g,) = torch.autograd.grad(model(leaf).square().sum(), leaf)
    moved = noisy + epsilon * g.sign()
    assert ((moved - x).abs() > k * epsilon).any()
    term = NFGSM(epsilon=epsilon, noise=k).term(Forward(model, x, y, draws=Draws(generator())))
    torch.testing.assert_close(term, model(moved)[:, 0].square())


@pytest.mark.parametrize("name", registry.names("inputgrad.losses"))
def test_a_value_where_gradients_are_switched_off(name):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(D, 6), nn.Tanh(), nn.Linear(6, 1)).double()
    x = torch.rand(N, D, generator=generator(), dtype=torch.float64)
    context = Context(
        direction=x[0], mask=x[0], examples={"target_gradient": x, "derivative_direction": x, "derivative": x[:, 0]}
    )
    wanted = losses.load(name)()(model, x, x[:, :1], context, Draws(generator()))
    with torch.no_grad():
        value = losses.load(name)()(model, x, x[:, :1], context, Draws(generator()))
    assert not value.requires_grad
    assert torch.equal(value, wanted.detach())


@pytest.mark.parametrize("loss", [GradientNorm(), FGSM()])
def test_a_task_loss_of_ones_own(loss):
    """Class weights: the task, its gradient and the loss at moved inputs are all of the given loss."""
    torch.manual_seed(0)
    model, y = nn.Sequential(nn.Linear(D, 3)).double(), torch.tensor([0, 1, 2, 0, 1])
    x, weight = torch.rand(N, D, generator=generator(), dtype=torch.float64), torch.tensor([1.0, 5.0, 0.2]).double()
    context = Context(task=lambda outputs, y: F.cross_entropy(outputs, y, weight=weight, reduction="none"))
    leaf = x.clone().requires_grad_()
    task = F.cross_entropy(model(leaf), y, weight=weight, reduction="none")
    (g,) = torch.autograd.grad(task.sum(), leaf, create_graph=True)
    if isinstance(loss, GradientNorm):
        term = g.square().sum(1)
    else:
        term = F.cross_entropy(model(x + 0.1 * g.sign()), y, weight=weight, reduction="none")
    torch.testing.assert_close(loss(model, x, y, context), task.mean() + term.mean())
    with pytest.raises(UserError, match="task gives shape"):
        loss(model, x, y, Context(task=nn.functional.cross_entropy))


@pytest.mark.parametrize("shape", [(N,), (N, 1)])
def test_one_logit_tells_two_classes_apart(shape):
    outputs, y = torch.randn(shape, generator=generator(), dtype=torch.float64), torch.tensor([0, 1, 1, 0, 1])
    wanted = F.binary_cross_entropy_with_logits(outputs.flatten(), y.double(), reduction="none")
    torch.testing.assert_close(tasks.of(y).losses(outputs, y), wanted)
    assert tasks.of(y).score(outputs, y) == pytest.approx(float(((outputs.flatten() > 0) == y).double().mean()))
    with pytest.raises(UserError, match="one output tells two classes apart"):
        tasks.of(y).losses(outputs, y + 1)


def test_pixels_are_averaged_not_summed():
    """A strength means the same at every size of the images."""
    outputs = torch.randn(N, 3, 2, 2, generator=generator(), dtype=torch.float64)
    y = torch.randint(3, (N, 2, 2), generator=generator())
    wanted = torch.stack([F.cross_entropy(outputs[i : i + 1], y[i : i + 1]) for i in range(N)])
    torch.testing.assert_close(tasks.of(y).losses(outputs, y), wanted)
    with pytest.raises(UserError, match=r"outputs of shape \(5, 3\) do not fit labels of shape \(5, 2, 2\)"):
        tasks.of(y).losses(outputs[..., 0, 0], y)
