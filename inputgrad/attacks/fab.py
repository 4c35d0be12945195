"""FAB, the minimal-norm attack: the nearest point across the decision boundary (Croce & Hein 2020, targeted form).

It asks for no ε: one search for a norm gives every example's distance to the boundary (an upper bound of it), and with
it the robust accuracy at every ε. Three classes and thirty steps settle nearly all of that; `fab_t` is the long
form.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from inputgrad.attacks import Count, Threat, Traits
from inputgrad.attacks._classes import targets_of
from inputgrad.attacks._fab import search
from inputgrad.gradients.forward import Draws, expand
from inputgrad.gradients.norms import BallNorm

TRAITS = Traits(sees_all_examples=True, classes=True)


def perturb(
    model: nn.Module, x: Tensor, y: Tensor, threat: Threat, draws: Draws, *, targets: Count = 3, steps: Count = 30
) -> Tensor:
    """The nearest point found where it lies inside the ball, x itself elsewhere; shaped as x."""
    found = nearest(model, x, y, threat.norm, threat.bounds, targets=targets, steps=steps, enough=threat.epsilon)
    return torch.where(expand(threat.ball.size(found - x) <= threat.epsilon, x), found, x)


@torch.no_grad()
def nearest(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    norm: BallNorm,
    bounds: tuple[float, float] | None,
    *,
    targets: Count = 3,
    steps: Count = 30,
    enough: float = 0.0,
) -> Tensor:
    """The nearest wrongly classified point found for every example, shaped as x; x itself where none was found.

    Args:
        model: in eval mode, its parameters frozen.
        x: clean inputs, (N, *input).
        y: class numbers, (N,).
        norm: that is made small.
        bounds: lowest and highest admissible input value.
        targets: how many of the likeliest wrong classes are headed for.
        steps: of each search.
        enough: an example with a point as near as this is searched no further.
    """
    best = x.clone()
    if not len(x):
        return best
    wanted = targets_of("fab", TRAITS, model, x, targets)
    right = (model(x).argmax(1) == y).nonzero()[:, 0]
    if len(right):
        best[right], _ = search(model, x[right], y[right], norm, bounds, wanted[right], steps, enough)
    return best
