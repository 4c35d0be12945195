"""The public assertions: our losses pass them, and each of them fails where it has to."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from inputgrad import DetachedNorm, GradientNorm, JacobianNorm, Residual, testing
from tests.inputgrad.losses.bench import ASKS_NO_GRADIENT, batch, cases, make, net

HELD = {"fgsm", "nfgsm", "pgd", "trades", "finite_difference", "curvature", "local_linearity"}
"""Hold a moved input or a direction constant, on purpose."""
DRAWS = {"jacobian_norm", "gradient_direction", "gradient_alignment", "local_linearity", "trades"}


@pytest.mark.parametrize(("name", "task"), [one for one in cases() if one[0] not in ASKS_NO_GRADIENT | HELD | DRAWS])
def test_our_losses_keep_the_contract(name, task):
    testing.assert_contract(make(name), net(task), *batch(task))


def test_a_strangers_loss_in_three_lines():
    def mine(model, x, y):
        x = x.clone().requires_grad_()
        losses = F.cross_entropy(model(x), y, reduction="none")
        (g,) = torch.autograd.grad(losses.sum(), x, create_graph=True)
        return losses.mean() + g.flatten(1).norm(dim=1).mean()

    testing.assert_contract(mine, net("classification"), *batch("classification")[:2])


@pytest.mark.parametrize(
    "loss", [GradientNorm(0.5) + JacobianNorm(0.5, projections=-1), GradientNorm(0.5, of="outputs")]
)
def test_sums_keep_it(loss):
    testing.assert_contract(loss, net("classification"), *batch("classification")[:2])


def test_a_residual_keeps_it():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 1)).double()
    x, y = torch.rand(5, 2).double(), torch.rand(5, 1).double()
    testing.assert_contract(Residual(equation=lambda p: p.d(1) - p.u() * p.d(0) - 0.1 * p.d(0, 0)), model, x, y)


class Broken:
    """Each way to be wrong, by the assertion that notices it."""

    def assert_trains_on_input_gradient(self, model, x, y):
        return DetachedNorm(0.5)(model, x, y)

    def assert_equals_finite_difference(self, model, x, y):
        return DetachedNorm(0.5)(model, x, y)

    def assert_same_at_any_batch_size(self, model, x, y):
        x = x.clone().requires_grad_()
        task = F.cross_entropy(model(x), y)
        (g,) = torch.autograd.grad(task, x, create_graph=True)  # of the mean: smaller in a larger batch
        return task + g.square().sum()


@pytest.mark.parametrize("name", [name for name in vars(Broken) if name.startswith("assert_")])
def test_each_assertion_fails_where_it_has_to(name):
    with pytest.raises(AssertionError):
        getattr(testing, name)(getattr(Broken(), name), net("classification"), *batch("classification")[:2])


def buffered():
    return nn.Sequential(nn.Flatten(), nn.BatchNorm1d(16), nn.Linear(16, 3)).double()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda model, x: model(x), "1.running_mean, 1.running_var, 1.num_batches_tracked"),
        (lambda model, x: model.eval(), "the mode of the model, the mode of 0"),
        (lambda model, x: model[2].weight.grad.zero_(), "2.weight.grad"),
        (lambda model, x: x.requires_grad_(), "x.requires_grad"),
        (lambda model, x: model[2].bias.data.add_(1), "2.bias"),
        (lambda model, x: model[2].bias.requires_grad_(False), "2.bias.requires_grad"),
    ],
)
def test_every_side_effect_is_named(change, said):
    x, y, _ = batch("classification")
    x = x.clone()
    with pytest.raises(AssertionError, match=f"the loss changed {said}"):
        testing.assert_no_side_effects(lambda model, x, y: change(model, x), buffered(), x, y)
