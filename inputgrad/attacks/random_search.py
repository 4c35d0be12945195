"""Random search, a black box for any input and any task: it sees outputs, never a gradient.

In linf it flips the signs of a shrinking share of the coordinates of a corner of the ball (the idea of Square, without
squares); in l2 it adds shrinking Gaussian steps. What raises the objective is kept.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from inputgrad import tasks
from inputgrad.attacks import Count, Threat, Traits, Worst
from inputgrad.gradients.forward import Draws, expand

TRAITS = Traits(black_box=True)
FIRST_SHARE = 0.5
"""Of the coordinates that are flipped at first; it falls to one coordinate."""


def perturb(model: nn.Module, x: Tensor, y: Tensor, threat: Threat, draws: Draws, *, queries: Count = 500) -> Tensor:
    """The worst point of `queries` proposals per example, shaped as x."""
    if not len(x):
        return x.clone()
    worst = Worst(model, x, y)
    everyone = torch.arange(len(x), device=x.device)
    delta = threat.ball.propose(torch.zeros_like(x), draws, threat.epsilon, 1.0)
    best = torch.full((len(x),), -torch.inf, dtype=x.dtype, device=x.device)
    with torch.no_grad():
        for query in range(queries):
            share = FIRST_SHARE * (1 - query / queries) ** 2
            candidate = delta if query == 0 else threat.ball.propose(delta, draws, threat.epsilon, share)
            moved = threat.project(x + candidate, x)
            worst.measure(moved, everyone)
            value = objective(model(moved), y)
            higher = value > best
            best = torch.where(higher, value, best)
            delta = torch.where(expand(higher, x), candidate, delta)
    return worst.x


def objective(outputs: Tensor, y: Tensor) -> Tensor:
    """What is raised, (N,): the loss, or the margin of the likeliest wrong class, which never saturates."""
    task = tasks.of(y)
    if not task.has_classes:
        return task.losses(outputs, y)
    true = outputs.gather(1, y[:, None])[:, 0]
    others = outputs.scatter(1, y[:, None], -torch.inf)
    return others.max(1).values - true
