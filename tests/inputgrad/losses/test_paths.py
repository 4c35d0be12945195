"""Which paths of a term carry the graph: parameter gradients against references that write every path out.

A central difference holds detached constants still, so it cannot tell a constant that the paper wants from one by
mistake. These references can.
"""

import pytest
import torch
from torch.nn import functional as F

from inputgrad.gradients.forward import Draws, Forward
from inputgrad.losses.curvature import Curvature
from inputgrad.losses.finite_difference import FiniteDifference
from inputgrad.losses.gradient_alignment import GradientAlignment
from inputgrad.losses.gradient_norm import GradientNorm
from inputgrad.losses.local_linearity import LocalLinearity
from tests.inputgrad.losses.test_closed_forms import softmax_regression
from tests.inputgrad.losses.test_closed_forms_of_the_family import generator, quadratic, smooth


def loss_at(model, x, y):
    return F.cross_entropy(model(x), y, reduction="none")


def gradient_at(model, x, y):
    """g(x) with graph."""
    leaf = x.detach().clone().requires_grad_(True)
    return torch.autograd.grad(loss_at(model, leaf, y).sum(), leaf, create_graph=True)[0]


def finite_difference(model, x, y):
    """v is a constant; l(x + hv) and l(x) both learn."""
    g = gradient_at(model, x, y).detach()
    v = g / g.norm(dim=1, keepdim=True)
    return 0.5 * ((loss_at(model, x + 0.1 * v, y) - loss_at(model, x, y)) / 0.1) ** 2


def curvature(model, x, y):
    """z is a constant; both gradients learn."""
    z = gradient_at(model, x, y).detach().sign()
    z = z / z.norm(dim=1, keepdim=True)
    return (gradient_at(model, x + 0.3 * z, y) - gradient_at(model, x, y)).square().sum(1)


def gradient_alignment(model, x, y):
    """On the clean task loss both gradients learn."""
    eta = 0.1 * (2 * torch.rand(x.shape, generator=generator(), dtype=x.dtype) - 1)
    return 1 - F.cosine_similarity(gradient_at(model, x, y), gradient_at(model, x + eta, y))


def gradient_norm(model, x, y):
    """g learns."""
    return gradient_at(model, x, y).square().sum(1)


REFERENCES = [
    (FiniteDifference(h=0.1), finite_difference),
    (Curvature(h=0.3), curvature),
    (GradientAlignment(epsilon=0.1), gradient_alignment),
    (GradientNorm(), gradient_norm),
]


@pytest.mark.parametrize(("loss", "reference"), REFERENCES, ids=[r.__name__ for _, r in REFERENCES])
def test_every_path_that_the_paper_means_carries_the_graph(loss, reference):
    (_, x, y, _), model = softmax_regression(), smooth()
    term = loss.term(Forward(model, x, y, draws=Draws(generator())))
    expected = reference(model, x, y)
    torch.testing.assert_close(term, expected)
    parameters = list(model.parameters())
    mine = torch.autograd.grad(term.mean(), parameters, allow_unused=True)
    theirs = torch.autograd.grad(expected.mean(), parameters, allow_unused=True)
    for a, b in zip(mine, theirs, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            torch.testing.assert_close(a, b)


def test_local_linearity_learns_through_its_gradient_and_both_losses():
    """On l = (w·x)² with δ = ±ε·sign(w) constant: the term is (w·δ)² + mu·|2(w·x)(w·δ)|, whatever the sign."""
    model, x, y, w = quadratic()
    delta = 0.1 * w.detach().sign()
    expected = ((w @ delta) ** 2 + 0.5 * (2 * (x @ w) * (w @ delta)).abs()).mean()
    term = LocalLinearity(epsilon=0.1, steps=4, mu=0.5).term(Forward(model, x, y, draws=Draws(generator()))).mean()
    torch.testing.assert_close(term, expected)
    mine, theirs = (torch.autograd.grad(value, model.weight)[0] for value in (term, expected))
    torch.testing.assert_close(mine, theirs)
