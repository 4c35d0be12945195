"""The attack unit test: what is planted is there, random points do not find it, and PGD on an honest net does."""

import pytest
import torch
from torch import nn

from inputgrad.attacks import Threat
from inputgrad.gradients.forward import Draws
from inputgrad.robustness import unit_test

LINF = Threat(norm="linf", epsilon=0.1, bounds=(0.0, 1.0))
L2 = Threat(norm="l2", epsilon=0.5, bounds=(0.0, 1.0))
KNOBS = {"steps": 20, "restarts": 3}


def net(*before):
    torch.manual_seed(0)
    layers = nn.Sequential(*before, nn.Linear(16, 32), nn.SiLU(), nn.Linear(32, 4))
    return layers.eval().requires_grad_(False)


def inputs(n=6):
    return torch.rand(n, 16, generator=torch.Generator().manual_seed(1))


def draws():
    return Draws(torch.Generator().manual_seed(2))


class Rounded(nn.Module):
    """No gradient passes."""

    def forward(self, x):
        return (100 * x).round() / 100


class Noisy(nn.Module):
    """The gradient is that of another function."""

    def forward(self, x):
        return x.detach() + (x - x.detach()) * torch.randn_like(x)


@pytest.mark.parametrize("threat", [LINF, L2], ids=["linf", "l2"])
def test_pgd_finds_what_is_planted_in_an_honest_net(threat):
    assert unit_test.missed(net(), inputs(), threat, KNOBS, 0) == (0, 6)
    assert unit_test.missed(nn.Linear(16, 3).requires_grad_(False), inputs(), threat, KNOBS, 0) == (0, 6)


@pytest.mark.parametrize("masked", [Rounded(), Noisy()], ids=["no gradient", "another gradient"])
def test_what_masks_the_gradient_is_missed(masked):
    missed, tests = unit_test.missed(net(masked), inputs(20), LINF, KNOBS, 0)
    assert missed > 0.5 * tests > 0


@pytest.mark.parametrize("threat", [LINF, L2], ids=["linf", "l2"])
def test_the_planted_point_is_in_the_ball_and_random_points_do_not_cross(threat):
    x, drawn = inputs(1), draws()
    found = unit_test.planted(unit_test.Features(net()), x, threat, drawn)
    logits = found(x)
    assert logits[0, 0] - logits[0, 1] == pytest.approx(1.0, abs=1e-3)
    again = draws()  # the same draws: the points inside, then the one on the surface
    many = x.expand(unit_test.INSIDE, -1)
    inside = threat.project(many + threat.uniform(again, many), many)
    surface = threat.project(x + threat.on_surface(again, x), x)
    assert not found(inside).argmax(1).any()
    assert found(surface).argmax(1).item() == 1
    assert threat.ball.size(surface - x).item() <= threat.epsilon + 1e-6


def test_the_features_are_what_the_last_linear_layer_is_given():
    model = net()
    torch.testing.assert_close(unit_test.Features(model)(inputs()), model[:2](inputs()))
    bare = nn.Sequential(nn.Flatten(), nn.SiLU())
    torch.testing.assert_close(unit_test.Features(bare)(inputs()), bare(inputs()))
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_a_net_that_ignores_its_input_gives_no_test():
    class Constant(nn.Module):
        def forward(self, x):
            return torch.ones(len(x), 3) + 0 * x[:, :3]

    assert unit_test.missed(Constant(), inputs(), LINF, KNOBS, 0) == (0, 0)


def test_the_same_seed_gives_the_same_share_and_leaves_the_global_state():
    model, knobs = net(), {"steps": 2, "restarts": 1}
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = unit_test.missed(model, inputs(20), LINF, knobs, 3)
    assert torch.equal(torch.get_rng_state(), before)
    assert unit_test.missed(model, inputs(20), LINF, knobs, 3) == first
