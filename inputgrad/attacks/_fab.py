"""The search of FAB for the nearest point across a decision boundary (Croce & Hein 2020), many targets at once.

Every example and target is a row of one batch. The projections onto a hyperplane inside the box are the authors' own
(`pyautoattack`); the tests hold every distance against the authors' whole attack.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from inputgrad.attacks._apgd import ROWS
from inputgrad.attacks._classes import Box, first_of_each
from inputgrad.gradients import norms
from inputgrad.gradients.forward import expand
from inputgrad.gradients.norms import BallNorm, ThreatNorm

OVERSHOOT, TOWARDS_CLEAN, BACK = 1.05, 0.1, 0.9
"""The authors' settings: steps go a little too far, the clean input pulls, a point across the boundary goes back."""
Projection = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(points (R, d), normals (R, d), offsets (R,)) -> displacements (R, d) onto the hyperplanes, inside [0, 1]."""


def search(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    norm: BallNorm,
    bounds: tuple[float, float] | None,
    targets: Tensor,
    steps: int,
    enough: float,
) -> tuple[Tensor, Tensor]:
    """The nearest broken point found for every example, and its distance; x and infinity where none was found.

    Args:
        model: in eval mode, its parameters frozen; right on every x.
        x: clean inputs, (N, *input), N at least one.
        y: class numbers, (N,).
        norm: that is made small.
        bounds: lowest and highest admissible input value.
        targets: the classes that are headed for, (N, T).
        steps: of each search.
        enough: an example with a point as near as this is searched no further.
    """
    best, distance = x.clone(), torch.full((len(x),), torch.inf, dtype=x.dtype, device=x.device)
    box = Box.of(x, bounds, 0.0)
    for part in torch.arange(len(x), device=x.device).split(max(1, ROWS // targets.shape[1])):
        best[part], distance[part] = batch(model, x[part], y[part], norm, box, targets[part], steps, enough)
    return best, distance


def batch(
    model: nn.Module, x: Tensor, y: Tensor, norm: BallNorm, box: Box, targets: Tensor, steps: int, enough: float
) -> tuple[Tensor, Tensor]:
    ball, project = norms.named(norm), projection(norm)
    best, distance = x.clone(), torch.full((len(x),), torch.inf, dtype=x.dtype, device=x.device)
    example = torch.arange(len(x), device=x.device).repeat_interleave(targets.shape[1])
    clean = box.inside(x[example])
    moved, label, target = clean, y[example], targets.flatten()
    for _ in range(steps):
        moved = step(model, box, ball, project, moved, clean, label, target)
        there = box.back(moved)
        hits = (model(there).argmax(1) != label).nonzero()[:, 0]
        keep_nearest(best, distance, there[hits], example[hits], ball.size(there[hits] - x[example[hits]]))
        moved[hits] = clean[hits] + (moved[hits] - clean[hits]) * BACK
        left = distance[example] > enough
        if not left.any():
            break
        if left.float().mean() < 0.9:
            example, clean, moved, label, target = (t[left] for t in (example, clean, moved, label, target))
    return best, distance


def step(
    model: nn.Module,
    box: Box,
    ball: ThreatNorm,
    project: Projection,
    moved: Tensor,
    clean: Tensor,
    label: Tensor,
    target: Tensor,
) -> Tensor:
    """Onto the boundary between label and target as it looks from `moved`, pulled towards the clean input."""
    leaf = moved.detach().requires_grad_(True)
    with torch.enable_grad():
        outputs = model(box.back(leaf))
        ahead = (outputs.gather(1, target[:, None]) - outputs.gather(1, label[:, None]))[:, 0]
        (gradient,) = torch.autograd.grad(ahead.sum(), leaf)
    normal = gradient.flatten(1)
    offset = (normal * moved.flatten(1)).sum(1) - ahead.detach()
    points = torch.cat([moved.flatten(1), clean.flatten(1)])
    shift = project(points, torch.cat([normal, normal]), torch.cat([offset, offset]))
    length = ball.size(shift).clamp_min(1e-8)
    from_moved, from_clean = (part.view_as(moved) for part in shift.chunk(2))
    near, far = length.chunk(2)
    pull = expand((near / (near + far)).clamp(0, TOWARDS_CLEAN), moved)
    return ((moved + OVERSHOOT * from_moved) * (1 - pull) + (clean + OVERSHOOT * from_clean) * pull).clamp(0, 1)


def keep_nearest(best: Tensor, distance: Tensor, there: Tensor, example: Tensor, size: Tensor) -> None:
    """Remember the nearest of the broken points of every example."""
    nearest = distance.scatter_reduce(0, example, size, "amin")
    rows = ((size == nearest[example]) & (size < distance[example])).nonzero()[:, 0]
    rows = rows[first_of_each(example[rows])]  # where two are as near
    best[example[rows]] = there[rows]
    distance.copy_(nearest)


def projection(norm: BallNorm) -> Projection:
    from pyautoattack import fab_projections

    found: Projection = getattr(fab_projections, f"projection_{norm}")
    return found
