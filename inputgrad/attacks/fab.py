"""FAB, the minimal-norm attack: the nearest point across the decision boundary (Croce & Hein 2020, targeted form).

It asks for no ε: one search for a norm gives every example's distance to the boundary (an upper bound of it), and with
it the robust accuracy at every ε. Three classes and thirty steps settle nearly all of that; `fab_t` is the long
form.
"""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from inputgrad.attacks import Threat, Traits
from inputgrad.attacks._autoattack import Box, classes, targets_of
from inputgrad.gradients import norms
from inputgrad.gradients.forward import Draws, expand
from inputgrad.gradients.norms import BallNorm

TRAITS = Traits(sees_all_examples=True, classes=True)
Count = Annotated[int, Field(gt=0)]


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
        targets: how many of the likeliest wrong classes are headed for, one after the other.
        steps: of each search.
        enough: an example with a point as near as this is searched no further.
    """
    from pyautoattack.fab_pt import FABAttack_PT

    if not len(x):
        return x.clone()
    ball = norms.named(norm)
    count, box = targets_of("fab", targets, classes(model, x)), Box.of(x, bounds, 0.0)
    fab = FABAttack_PT(box.seen(model), n_iter=steps, norm=ball.library, eps=1.0, device=x.device)
    best, distance = x.clone(), torch.full((len(x),), torch.inf, device=x.device)
    distance[model(x).argmax(1) != y] = 0
    for rank in range(2, count + 2):  # the library counts classes from the likeliest, which is the true one
        left = (distance > enough).nonzero()[:, 0]
        if not len(left):
            break
        fab.target_class = rank
        found = box.back(fab.attack_single_run(box.inside(x[left]), y[left], is_targeted=True))
        size = ball.size(found - x[left])
        nearer = (model(found).argmax(1) != y[left]) & (size < distance[left])
        best[left[nearer]], distance[left[nearer]] = found[nearer], size[nearer]
    return best
