"""HopSkipJump of the library, as the attack stage calls it: near the true distance, inside the ball, and repeatable."""

import pytest
import torch
from torch import nn

from inputgrad.attacks import Threat, hop_skip_jump
from inputgrad.gradients.forward import Draws

KNOBS = {"steps": 15, "queries": 60}


def draws():
    return Draws(torch.Generator().manual_seed(0))


def linear():
    """Two classes, the boundary at w·x + b = 0."""
    torch.manual_seed(0)
    return nn.Linear(12, 2).eval().requires_grad_(False)


def examples(model, n=8):
    """Inputs in [0, 1] around the boundary, with the model's own labels."""
    x = torch.rand(n, 12, generator=torch.Generator().manual_seed(1))
    y = model(x).argmax(1)
    assert 0 < y.sum() < n, "both classes are needed"
    return x, y


def distance(model, x, norm):
    """To the boundary of a linear net."""
    difference = model(x)[:, 0] - model(x)[:, 1]
    weight = model.weight[0] - model.weight[1]
    return difference.abs() / (weight.abs().sum() if norm == "linf" else weight.norm())


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_it_breaks_what_is_well_inside_the_ball_and_nothing_else(norm):
    model = linear()
    x, y = examples(model)
    true = distance(model, x, norm)
    epsilon = float(true.median())
    threat = Threat(norm=norm, epsilon=epsilon, bounds=(-2.0, 3.0))
    moved = hop_skip_jump.perturb(model, x, y, threat, draws(), **KNOBS)
    broken = model(moved).argmax(1) != y
    assert broken[true < epsilon / 1.25].all()
    assert not broken[true > epsilon].any()
    assert (true < epsilon / 1.25).any()
    assert (threat.ball.size(moved - x) <= epsilon).all()
    torch.testing.assert_close(moved[~broken], x[~broken], rtol=0, atol=0)


def test_no_bounds_and_no_start_among_the_inputs():
    model = linear()
    x, y = examples(model)
    one = x[y == y[0]]  # a single class: the start is a random point
    threat = Threat(norm="linf", epsilon=1.5)
    moved = hop_skip_jump.perturb(model, one, y[y == y[0]], threat, draws(), **KNOBS)
    assert (model(moved).argmax(1) != y[0]).all()


def test_a_net_of_one_answer_stands():
    class Constant(nn.Module):
        def forward(self, x):
            return torch.tensor([[1.0, 0.0]]).expand(len(x), 2)

    x = torch.rand(3, 12)
    threat = Threat(norm="linf", epsilon=0.5, bounds=(0.0, 1.0))
    moved = hop_skip_jump.perturb(Constant(), x, torch.zeros(3).long(), threat, draws(), **KNOBS)
    assert torch.equal(moved, x)


def test_the_first_examples_alone_are_attacked_and_wrong_ones_are_left():
    model = linear()
    x, y = examples(model)
    y = y.clone()
    y[0] = 1 - y[0]  # broken without an attack
    threat = Threat(norm="linf", epsilon=1.0, bounds=(-2.0, 3.0))
    moved = hop_skip_jump.perturb(model, x, y, threat, draws(), examples=2, **KNOBS)
    assert [not torch.equal(a, b) for a, b in zip(moved, x, strict=True)] == [False, True, True] + 5 * [False]


def test_the_same_draws_give_the_same_points_and_the_global_state_is_left():
    model = linear()
    x, y = examples(model)
    threat = Threat(norm="linf", epsilon=0.3, bounds=(0.0, 1.0))
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = hop_skip_jump.perturb(model, x, y, threat, draws(), **KNOBS)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(6)
    assert torch.equal(first, hop_skip_jump.perturb(model, x, y, threat, draws(), **KNOBS))
