"""Every norm in closed form."""

import pytest
import torch

from inputgrad.attacks import Threat
from inputgrad.errors import UserError
from inputgrad.gradients import norms
from inputgrad.gradients.forward import Draws, rows
from inputgrad.gradients.norms import NORMS

DELTA = torch.tensor([[3.0, -4.0], [0.0, 0.0], [0.3, 0.4]], dtype=torch.float64)
SIZE = {"linf": [4.0, 0.0, 0.4], "l2": [5.0, 0.0, 0.5]}
STEEPEST = {"linf": [[1.0, -1.0], [0.0, 0.0], [1.0, 1.0]], "l2": [[0.6, -0.8], [0.0, 0.0], [0.6, 0.8]]}
SHORTENED = {"linf": [[1.0, -1.0], [0.0, 0.0], [0.3, 0.4]], "l2": [[0.6, -0.8], [0.0, 0.0], [0.3, 0.4]]}
"""In the ball of radius 1."""
IMAGES = (50, 2, 3, 3)


def draws(seed=0):
    return Draws(torch.Generator().manual_seed(seed))


def close(found, expected):
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize("norm", NORMS)
def test_size_steepest_and_shorten(norm):
    ball = norms.named(norm)
    close(ball.size(DELTA), SIZE[norm])
    close(ball.steepest(DELTA), STEEPEST[norm])
    close(ball.shorten(DELTA, 1.0), SHORTENED[norm])


@pytest.mark.parametrize("norm", NORMS)
def test_the_steepest_direction_is_a_dual_one(norm):
    """Of all directions of length 1 none rises faster: g·s is the dual norm of g."""
    gradient = torch.randn(IMAGES, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    ball = norms.named(norm)
    steepest = ball.steepest(gradient)
    close(ball.size(steepest), [1.0] * len(gradient))
    dual = rows(gradient).norm(p={"linf": 1, "l2": 2}[norm], dim=1)
    torch.testing.assert_close(rows(gradient * steepest).sum(1), dual)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("bounds", [None, (0.0, 1.0)])
def test_projection_ends_inside_and_leaves_what_is_inside(norm, bounds):
    threat = Threat(norm=norm, epsilon=0.3, bounds=bounds)
    x = draws().uniform(torch.empty(IMAGES, dtype=torch.float64))
    moved = x + draws(1).normal(x)
    once = threat.project(moved, x)
    assert float(threat.ball.size(once - x).max()) <= 0.3 + 1e-12
    if bounds:
        assert 0 <= float(once.min()) <= float(once.max()) <= 1
    else:
        close(threat.ball.size(once - x), [0.3] * len(x))  # all of them were outside
    torch.testing.assert_close(threat.project(once, x), once)


@pytest.mark.parametrize("norm", NORMS)
def test_a_uniform_start_fills_the_ball(norm):
    threat = Threat(norm=norm, epsilon=0.5)
    size = threat.ball.size(threat.uniform(draws(), torch.zeros(4000, 3, dtype=torch.float64)))
    assert float(size.max()) <= 0.5
    assert float((size < 0.25).double().mean()) == pytest.approx(1 / 8, abs=0.02)  # volume grows as r³ in both


@pytest.mark.parametrize("norm", NORMS)
def test_a_random_search_moves_less_as_its_share_falls(norm):
    start = torch.full(IMAGES, 0.125, dtype=torch.float64)
    far, near = (norms.named(norm).propose(start, draws(), 0.125, share) - start for share in (0.5, 0.0))
    assert float(rows(near).norm(dim=1).mean()) < float(rows(far).norm(dim=1).mean()) / 2
    if norm == "linf":
        assert set(norms.named(norm).propose(start, draws(), 0.125, 1.0).unique().tolist()) == {-0.125, 0.125}
    else:
        close(rows(far).norm(dim=1), [0.0625] * len(start))


def test_an_unknown_norm_is_refused_with_the_nearest_name():
    with pytest.raises(UserError, match="no norm 'l1' of a ball; did you mean 'l2'"):
        norms.named("l1")


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("size", [1.0, 1e-18, 1e-22, 1e-30, 1e-38])
def test_a_direction_has_length_one_however_small_the_gradient_is(norm, size):
    """The squares of 1e-23 are 0 in float: the step of a confident example was 7e15 times too long."""
    gradient = size * torch.tensor([[1.0, -2.0, 3.0, -1.0], [0.0, 0.0, 0.0, 0.0]])
    steepest = norms.named(norm).steepest(gradient)
    torch.testing.assert_close(norms.named(norm).size(steepest), torch.tensor([1.0, 0.0]), rtol=1e-5, atol=0)
    expected = norms.named(norm).steepest(gradient.double()).float()
    torch.testing.assert_close(steepest, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("norm", NORMS)
def test_bounds_never_carry_a_point_out_of_the_ball(norm):
    """Standardised inputs and bounds meant for pixels: a jump to the bounds moved the input by 7 at ε = 0.1."""
    x = torch.randn(IMAGES, generator=torch.Generator().manual_seed(0)) * 3
    ball = norms.named(norm)
    moved = ball.project(x + ball.uniform(draws(), x, 5.0), x, 0.1, (0.0, 1.0))
    assert float(ball.size(moved - x).amax()) <= 0.1 + 1e-6
    inside = (x >= 0) & (x <= 1)
    assert float(moved[inside].amin()) >= 0
    assert float(moved[inside].amax()) <= 1
