"""Second derivatives of every activation of PyTorch, far from zero: a penalty must not turn weights into nan."""

import pytest
import torch
from torch import nn
from torch.nn.modules import activation

from inputgrad import CompiledStep, GradientNorm, Step, audit

OF_ROWS = {"MultiheadAttention", "GLU", "Softmin", "Softmax", "Softmax2d", "LogSoftmax"}
NO_SECOND_DERIVATIVE = {"Hardsigmoid"}
FORMS = {
    name: nn.Threshold(0.1, 0.0) if name == "Threshold" else getattr(nn, name)()
    for name in activation.__all__
    if name not in OF_ROWS | NO_SECOND_DERIVATIVE | {"PReLU"}  # PReLU: LeakyReLU with a weight of float32
} | {"GELU by tanh": nn.GELU("tanh")}
SIZES = (1e-3, 0.1, 0.5, 1, 3, 6, 10, 20, 50, 88, 89, 100, 200, 1e3, 1e4)
POINTS = torch.tensor([0.0, -0.0, *SIZES, *(-size for size in SIZES)])


class EveryActivation(nn.Module):
    """Output k: activation k at all `POINTS`, each with a weight of its own, so that a bad number can be traced."""

    def __init__(self, dtype):
        super().__init__()
        self.dtype, self.forms = dtype, nn.ModuleList(FORMS.values()).eval()  # RReLU draws in train mode
        self.weight = nn.Parameter(torch.ones(len(FORMS), len(POINTS)))

    def forward(self, x):
        z = (x * self.weight).to(self.dtype)
        return torch.stack([form(z[:, k]).float().sum(1) for k, form in enumerate(self.forms)], 1)


@pytest.mark.parametrize("step", [Step, pytest.param(CompiledStep, marks=pytest.mark.compiles)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_only_mish_gives_numbers_that_are_not_finite(step, dtype):
    """Mish is nan from 89 up, by PyTorch: faq.md says so. Once this is repaired there, the test and the page follow."""
    model = EveryActivation(dtype)
    x = POINTS.expand(1, *model.weight.shape).contiguous()
    step(GradientNorm(strength=1.0, of="outputs"), model)(x, torch.tensor([0]))
    gradient = model.weight.grad
    assert gradient.any(1).all()  # every activation took part
    bad = {name: POINTS[~row.isfinite()].tolist() for name, row in zip(FORMS, gradient, strict=True)}
    assert {name: points for name, points in bad.items() if points} == {"Mish": [89, 100, 200, 1e3, 1e4]}


def test_the_audit_says_that_mish_gives_nan():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.Mish(), nn.Linear(8, 3))
    x, y = torch.randn(6, 4), torch.randint(3, (6,))
    assert audit(GradientNorm(), model, x, y).kind == "depends"
    assert audit(GradientNorm(), model, 1000 * x, y).kind == "not finite"


def test_what_is_left_out_has_no_second_derivative():
    x = torch.zeros(3, requires_grad=True)
    (g,) = torch.autograd.grad(nn.Hardsigmoid()(x).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="derivative for aten::hardsigmoid_backward is not implemented"):
        g.sum().backward()
