"""The three recipes in circulation, as they were meant, are plain settings of ours.

Each reference is written out here in plain PyTorch, one example at a time, with nothing of the package.
"""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from inputgrad.gradients.forward import Context
from inputgrad.losses.detached_norm import DetachedNorm
from inputgrad.losses.fgsm import FGSM
from inputgrad.losses.gradient_direction import GradientDirection
from inputgrad.losses.gradient_norm import GradientNorm


def linear():
    torch.manual_seed(0)
    return nn.Linear(10, 1).double()


def smooth():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(10, 7), nn.Tanh(), nn.Linear(7, 1)).double()


nets = pytest.mark.parametrize("build", [linear, smooth])


def example_batch():
    g = torch.Generator().manual_seed(1)
    x, t = (torch.randn(5, 10, generator=g, dtype=torch.float64) for _ in range(2))
    return x, torch.randn(5, 1, generator=g, dtype=torch.float64), t[0]


def output_gradient(model, x, create_graph=True):
    """The gradient of one example's output with respect to that example, shape (10,)."""
    leaf = x.clone().requires_grad_(True)
    return torch.autograd.grad(model(leaf[None])[0, 0], leaf, create_graph=create_graph)[0]


def norm_recipe(model, x, y, t):
    return torch.stack([0.01 * torch.sqrt((output_gradient(model, a) ** 2).sum()) for a in x]).mean()


def direction_recipe(model, x, y, t):
    return torch.stack([0.05 * (1 - F.cosine_similarity(output_gradient(model, a), t, dim=0)) for a in x]).mean()


def sign_recipe(model, x, y, t):
    moved = torch.stack([a - 0.1 * output_gradient(model, a, create_graph=False).sign() for a in x])
    return 0.1 * F.mse_loss(model(moved), y)


RECIPES = {
    "norm": (norm_recipe, GradientNorm(strength=0.01, of="outputs", p=2, squared=False)),
    "direction": (direction_recipe, GradientDirection(strength=0.05)),
    "sign": (sign_recipe, FGSM(strength=0.1, epsilon=0.1, of="outputs", descend=True)),
}


@nets
@pytest.mark.parametrize("recipe", RECIPES)
def test_the_recipe_is_a_setting(build, recipe):
    reference, ours = RECIPES[recipe]
    x, y, t = example_batch()
    theirs, mine = build(), build()
    expected = F.mse_loss(theirs(x), y) + reference(theirs, x, y, t)
    value = ours(mine, x, y, Context(direction=t))
    torch.testing.assert_close(value, expected, rtol=1e-12, atol=0)
    expected.backward()
    value.backward()
    for a, b in zip(mine.parameters(), theirs.parameters(), strict=True):
        a_grad = torch.zeros_like(a) if a.grad is None else a.grad
        torch.testing.assert_close(a_grad, b.grad, rtol=1e-10, atol=1e-14)


def test_as_commonly_written_the_norm_is_void_and_so_is_our_control():
    """`backward(retain_graph=True)` and `x.grad.clone()`: the same parameter gradient as without the penalty."""
    x, y, _ = example_batch()
    model = smooth()
    leaf = x.clone().requires_grad_(True)
    output = model(leaf)
    output.sum().backward(retain_graph=True)
    copied = leaf.grad.clone()
    model.zero_grad()
    (F.mse_loss(output, y) + 0.01 * copied.norm(dim=1).mean()).backward()
    plain, control = smooth(), smooth()
    F.mse_loss(plain(x), y).backward()
    DetachedNorm(strength=100.0)(control, x, y).backward()
    for written, without, ours in zip(model.parameters(), plain.parameters(), control.parameters(), strict=True):
        assert torch.equal(written.grad, without.grad)
        assert torch.equal(ours.grad, without.grad)
