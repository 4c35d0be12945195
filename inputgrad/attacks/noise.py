"""Uniform noise in the ball: the baseline that every real attack must beat."""

import torch
from torch import Tensor, nn

from inputgrad.attacks import Count, Threat, Traits, Worst
from inputgrad.gradients.forward import Draws

TRAITS = Traits(sees_all_examples=True, black_box=True)


def perturb(model: nn.Module, x: Tensor, y: Tensor, threat: Threat, draws: Draws, *, tries: Count = 5) -> Tensor:
    """The worst of `tries` uniform draws per example, shaped as x."""
    worst = Worst(model, x, y)
    everyone = torch.arange(len(x), device=x.device)
    with torch.no_grad():
        for _ in range(tries):
            worst.measure(threat.project(x + threat.uniform(draws, x), x), everyone)
    return worst.x
