"""Residuals of differential equations against functions of which all derivatives are known."""

import pytest
import torch
from torch import nn

from inputgrad import Context, GradientNorm, Residual

G = torch.Generator().manual_seed(0)
X = torch.rand(7, 3, generator=G, dtype=torch.float64)
x, y, z = X.T


class Known(nn.Module):
    """u = a·x²y + sin(z)·x and v = x·y·z, with one weight."""

    def __init__(self):
        super().__init__()
        self.a = nn.Parameter(torch.tensor(1.5, dtype=torch.float64))

    def forward(self, points):
        x, y, z = points.unbind(1)
        return torch.stack([self.a * x.square() * y + z.sin() * x, x * y * z], 1)


DERIVATIVES = {
    "u": (lambda p: p.u(), 1.5 * x**2 * y + z.sin() * x),
    "x": (lambda p: p.x[:, 0] * p.x[:, 2], x * z),
    "d(0)": (lambda p: p.d(0), 3 * x * y + z.sin()),
    "d(1)": (lambda p: p.d(1), 1.5 * x**2),
    "d(0, 0)": (lambda p: p.d(0, 0), 3 * y),
    "d(0, 2)": (lambda p: p.d(0, 2), z.cos()),
    "d(2, 0)": (lambda p: p.d(2, 0), z.cos()),
    "d(2, 2, 0)": (lambda p: p.d(2, 2, 0), -z.sin()),
    "laplacian": (lambda p: p.laplacian(), 3 * y - z.sin() * x),
    "of the second output": (lambda p: p.d(0, 1, of=1), z),
    "a combination": (
        lambda p: p.u() * p.d(0) - p.d(0, 0).exp(),
        (1.5 * x**2 * y + z.sin() * x) * (3 * x * y + z.sin()) - (3 * y).exp(),
    ),
}


@pytest.mark.parametrize("name", DERIVATIVES)
def test_a_derivative_is_the_known_one(name):
    equation, wanted = DERIVATIVES[name]
    torch.testing.assert_close(Residual(equation=equation).each(Known(), X), wanted.square(), rtol=1e-10, atol=1e-12)


def test_several_equations_add_their_squares_and_the_weight_is_trained():
    model = Known()
    loss = Residual(2.0, equation=lambda p: torch.stack([p.d(1), p.d(0, 0) - 1], 1))
    total = loss.penalty(model, X)
    wanted = 2 * ((1.5 * x**2) ** 2 + (3 * y - 1) ** 2).mean()
    torch.testing.assert_close(total, wanted)
    (g,) = torch.autograd.grad(total, model.a)
    torch.testing.assert_close(g, 2 * (2 * 1.5 * x**4 + 2 * (3 * y - 1) * 2 * y).mean())


def test_no_derivative_is_computed_twice(monkeypatch):
    calls, grad = [], torch.autograd.grad
    monkeypatch.setattr(torch.autograd, "grad", lambda *args, **knobs: calls.append(1) or grad(*args, **knobs))
    Residual(equation=lambda p: p.d(0) + p.d(1) * p.d(0, 0) - p.d(0, 1) + p.laplacian()).each(Known(), X)
    assert len(calls) == 4  # the first derivatives, and those of three of them


def test_the_points_of_a_domain_in_a_sum_with_the_conditions():
    """u'' = 0 inside, the values at the edge: the solution is a straight line."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(1, 8), nn.Tanh(), nn.Linear(8, 1)).double()
    edge, values = torch.tensor([[0.0], [1.0]]).double(), torch.tensor([[1.0], [3.0]]).double()
    inside = Context(points={"inside": torch.linspace(0, 1, 11).double()[:, None]})
    loss = Residual(equation=lambda p: p.d(0, 0), points="inside") + GradientNorm(0.0001)
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=200, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        total = loss(model, edge, values, inside)
        total.backward()
        return total

    optimizer.step(closure)
    middle = model(torch.tensor([[0.5]]).double())
    assert float(middle) == pytest.approx(2.0, abs=0.05)
