"""Residuals of differential equations against functions of which all derivatives are known."""

import pytest
import torch
from torch import nn

import inputgrad.errors
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


CHAINS = {
    "tanh": [nn.Linear(3, 6), nn.Tanh(), nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 2)],
    "silu": [nn.Linear(3, 6), nn.SiLU(), nn.Linear(6, 2, bias=False)],
    "sigmoid at the end": [nn.Linear(3, 6), nn.Tanh(), nn.Linear(6, 2), nn.Sigmoid()],
    "an activation first": [nn.SiLU(), nn.Linear(3, 2), nn.Tanh()],
    "nested": [nn.Sequential(nn.Linear(3, 4), nn.Tanh()), nn.Linear(4, 2)],
    "affine": [nn.Linear(3, 2)],
}


def nested_laplacian(model, x, of):
    """As a textbook has it."""
    (g,) = torch.autograd.grad(model(x)[:, of].sum(), x, create_graph=True)
    parts = [torch.autograd.grad(g[:, i].sum(), x, create_graph=True)[0][:, i] for i in range(x.shape[1])]
    return sum(parts), g


def gradients(value, tensors):
    found = torch.autograd.grad(value, tensors, allow_unused=True, retain_graph=True)
    return [torch.zeros_like(t) if g is None else g for t, g in zip(tensors, found, strict=True)]


def asked_of_autograd(monkeypatch):
    calls, grad = [], torch.autograd.grad
    monkeypatch.setattr(torch.autograd, "grad", lambda *args, **knobs: calls.append(1) or grad(*args, **knobs))
    return calls


@pytest.mark.parametrize("name", CHAINS)
@pytest.mark.parametrize("of", [0, 1])
def test_the_laplacian_by_one_pass_is_that_of_nested_autograd(name, of, monkeypatch):
    """In value, and in the gradient by every weight and by the points; with u and first derivatives beside it."""
    torch.manual_seed(1)
    model, points = nn.Sequential(*CHAINS[name]).double(), X.clone().requires_grad_()
    if name == "affine":
        calls = asked_of_autograd(monkeypatch)
        assert not Residual(equation=lambda p: p.laplacian(of=of)).each(model, X).any()
        assert not calls
        return
    second, first = nested_laplacian(model, points, of)
    wanted = (second * model(points)[:, of] + first[:, 1]).square().mean()
    leaves = [points, *model.parameters()]
    by_hand = gradients(wanted, leaves)
    calls = asked_of_autograd(monkeypatch)
    equation = lambda p: p.laplacian(of=of) * p.u(of) + p.d(1, of=of)  # noqa: E731
    found = Residual(equation=equation).penalty(model, points)
    assert not calls
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-14)
    for ours, theirs in zip(gradients(found, leaves), by_hand, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-13)


class Own(nn.Sequential):
    def forward(self, x):
        return super().forward(x).square()


def hooked(model):
    model[0].register_forward_hook(lambda module, given, output: 2 * output)
    return model


OTHERS = {
    "a forward of its own": lambda: Own(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)),
    "a hook": lambda: hooked(nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))),
    "another activation": lambda: nn.Sequential(nn.Linear(3, 4), nn.Softplus(beta=2.0), nn.Linear(4, 2)),
    "weight norm": lambda: nn.Sequential(
        nn.utils.parametrizations.weight_norm(nn.Linear(3, 4)), nn.Tanh(), nn.Linear(4, 2)
    ),
}


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_no_chain_takes_nested_autograd(name):
    torch.manual_seed(2)
    model, points = OTHERS[name]().double(), X.clone().requires_grad_()
    wanted, _ = nested_laplacian(model, points, 1)
    found = Residual(equation=lambda p: p.laplacian(of=1)).each(model, X)
    torch.testing.assert_close(found, wanted.square(), rtol=1e-10, atol=1e-14)


def test_an_output_that_is_not_there():
    with pytest.raises(inputgrad.errors.UserError, match="of=2"):
        Residual(equation=lambda p: p.laplacian(of=2)).each(nn.Sequential(nn.Linear(3, 2), nn.Tanh()).double(), X)


def test_the_gradient_of_a_residual_as_in_gpinn():
    """Yu et al. 2022: the derivatives of the residual are 0 too where the residual is."""
    model = Known()

    def equation(p):
        r = p.d(1) - p.d(0, 0)  # 1.5 x² - 3 y
        return torch.cat([r[:, None], 0.1 * p.gradient(r)], 1)

    wanted = (1.5 * x**2 - 3 * y).square() + 0.01 * ((3 * x).square() + 9)
    torch.testing.assert_close(Residual(equation=equation).each(model, X), wanted)


def test_the_audit_of_a_laplacian_by_one_pass():
    """No derivative is asked of autograd in training; the audit has to see one all the same."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 6), nn.Tanh(), nn.Linear(6, 1))
    loss = Residual(equation=lambda p: p.laplacian() - 1)
    found = inputgrad.audit(loss, model, X.float(), torch.zeros(7, 1))
    assert found.kind == "depends", found
