"""One logit for two classes: every term is what it is for the same net with two logits, in value and in gradient."""

import pytest
import torch
from torch import nn

from inputgrad import TRADES, Context, Draws, GradientDirection, RightReasons, UserError
from inputgrad.robustness.nets import TwoLogits

X = torch.randn(8, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
Y = torch.tensor([0, 1] * 4)
CONTEXT = Context(mask=torch.tensor([1.0, 0, 1, 0]).double(), direction=torch.eye(4).double()[:2])


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1)).double()


def flat(model):
    return nn.Sequential(model, nn.Flatten(0))


@pytest.mark.parametrize("shape", ["(N, 1)", "(N,)"])
@pytest.mark.parametrize(
    "loss", [TRADES(strength=3.0), RightReasons(strength=3.0), GradientDirection(strength=3.0, classes=3)], ids=repr
)
def test_a_term_of_one_logit_is_that_of_two(loss, shape):
    """The softmax over one logit is 1: all three terms were exactly 0, at every strength."""
    one, two = net(), net()
    found, expected = (
        loss.parts(loss.forward(model, X, Y, CONTEXT, Draws(torch.Generator().manual_seed(1))))
        for model in (one if shape == "(N, 1)" else flat(one), TwoLogits(two))
    )
    assert float(expected.term.detach().mean()) > 1e-6
    torch.testing.assert_close(found.term, expected.term, rtol=1e-9, atol=1e-12)
    found.total.backward()
    expected.total.backward()
    for a, b in zip(one.parameters(), two.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-9, atol=1e-12)


def test_a_mask_of_another_number_of_dimensions_is_said():
    """(1, 1, H, W) on (N, H, W) gave the sum over the batch: N times the term."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3)).double()
    x, y = X.reshape(8, 2, 2), torch.arange(8) % 3
    plain = RightReasons()(model, x, y, Context(mask=torch.ones(2, 2).double()))
    torch.testing.assert_close(RightReasons()(model, x, y, Context(mask=torch.ones(1, 2, 2).double())), plain)
    with pytest.raises(UserError, match=r"the mask has shape .*; fix: give it shaped as an input"):
        RightReasons()(model, x, y, Context(mask=torch.ones(1, 1, 2, 2).double()))
