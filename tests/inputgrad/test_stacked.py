"""Nets trained together are the nets trained one by one."""

import copy

import pytest
import torch
from torch import nn

from inputgrad import Context, Draws, StackedStep, Step, UserError, losses, registry

CONTEXT = Context(direction=torch.ones(6).double(), mask=torch.tensor([1.0, 0, 0, 1, 0, 0]).double())


def nets(seeds=3):
    found = []
    for seed in range(seeds):
        torch.manual_seed(seed)
        found.append(nn.Sequential(nn.Linear(6, 8), nn.SiLU(), nn.Linear(8, 1)).double())
    return found


def batches(steps, seeds=3, n=12):
    generator = torch.Generator().manual_seed(9)
    for _ in range(steps):
        x = torch.rand(seeds, n, 6, generator=generator, dtype=torch.float64)
        yield x, (x.sin().sum(2, keepdim=True) + 0.1)


def draws(seeds=3):
    return [Draws(torch.Generator().manual_seed(seed)) for seed in range(seeds)]


@pytest.mark.parametrize("name", registry.names("inputgrad.losses"))
@pytest.mark.parametrize(("steps", "close"), [(1, 1e-9), (100, 1e-6)])
def test_together_is_one_by_one(name, steps, close):
    loss, alone = losses.load(name)(), nets()
    models = copy.deepcopy(alone)
    together = StackedStep(loss, models, CONTEXT, draws())
    optimizer = torch.optim.Adam(together.model.parameters(), 0.01)
    each = [Step(loss, model, CONTEXT, own) for model, own in zip(alone, draws(), strict=True)]
    optimizers = [torch.optim.Adam(model.parameters(), 0.01) for model in alone]
    for x, y in batches(steps):
        known = {"target_gradient": x.cos(), "derivative_direction": x.sin(), "derivative": x[..., 0]}
        seen = together(x, y, None, known)
        optimizer.step()
        for number, (step, one) in enumerate(zip(each, optimizers, strict=True)):
            step(x[number], y[number], None, {name: t[number] for name, t in known.items()})
            one.step()
    assert torch.isfinite(seen.total)
    together.model.write_back(models)
    for mine, theirs, start in zip(models, alone, nets(), strict=True):
        for a, b, c in zip(mine.parameters(), theirs.parameters(), start.parameters(), strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=close)
            assert not torch.equal(a, c)


@pytest.mark.parametrize(("n", "share"), [(12, 0.5), (3, 0.5), (5, 0.1)])
def test_a_share_of_every_batch(n, share):
    """Each net's own share, rounded as it is for one net: 2 of 3, and at least one of 5."""
    loss, models = losses.load("gradient_norm")(share=share), nets()
    step = StackedStep(loss, models, CONTEXT, draws())
    x, y = next(batches(1, n=n))
    step(x, y)
    for number, (model, own) in enumerate(zip(models, draws(), strict=True)):
        Step(loss, model, CONTEXT, own)(x[number], y[number])
        for value, parameter in zip(step.model.values, model.parameters(), strict=True):
            if parameter.grad is not None:
                torch.testing.assert_close(value.grad[number], parameter.grad)


def test_what_cannot_be_stacked_is_said():
    loss = losses.load("gradient_norm")()
    with pytest.raises(UserError, match="cannot be stacked"):
        StackedStep(loss, [nn.Linear(6, 1), nn.Linear(6, 2)])
    with pytest.raises(UserError, match="cannot be stacked"):
        StackedStep(loss, [nn.Sequential(nn.Linear(6, 1), nn.BatchNorm1d(1)) for _ in range(2)])
    with pytest.raises(UserError, match="a batch for each of the 3 nets"):
        StackedStep(loss, nets())(torch.rand(12, 6).double(), torch.rand(12, 1).double())


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(6, 6), nn.Linear(6, 6)
        self.second.weight = self.first.weight

    def forward(self, x):
        return self.second(self.first(x).tanh())


class Scaled(nn.Linear):
    factor = 1.0

    def forward(self, x):
        return self.factor * super().forward(x)


def scaled(factor):
    net = Scaled(6, 1)
    net.factor = factor
    return net


def frozen(net):
    return net.requires_grad_(False)


@pytest.mark.parametrize(
    "models",
    [
        [Tied(), Tied()],
        [nn.Sequential(nn.Linear(6, 1), act) for act in (nn.ReLU(), nn.Tanh())],
        [nn.Sequential(nn.Linear(6, 1), nn.Dropout(p)) for p in (0.1, 0.9)],
        [scaled(1.0), scaled(2.0)],
        [nn.Linear(6, 1), frozen(nn.Linear(6, 1))],
        [nn.Linear(6, 1), nn.Linear(6, 1).eval()],
    ],
    ids=["tied", "activation", "dropout", "factor", "frozen", "mode"],
)
def test_a_net_is_never_trained_as_another_one(models):
    """The code and the flags of the first net would run for all of them; a tied weight would be read from nowhere."""
    with pytest.raises(UserError, match=r"cannot be stacked: .*; fix: "):
        StackedStep(losses.load("standard")(), models)
