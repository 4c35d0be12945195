"""Square, the black box of the standard ensemble: random search that sees outputs only (Andriushchenko et al. 2020)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from inputgrad.attacks import Count, Threat, Traits
from inputgrad.attacks._square import TILES, TRIES, Walk
from inputgrad.gradients.forward import Draws

TRAITS = Traits(black_box=True, classes=True, least_side=TILES)


@torch.no_grad()
def perturb(model: nn.Module, x: Tensor, y: Tensor, threat: Threat, draws: Draws, *, queries: Count = 5000) -> Tensor:
    """Images (N, C, H, W) that the walk has broken, x elsewhere."""
    found, outputs = x.clone(), model(x) if len(x) else x.new_zeros(0, TRAITS.least_classes)
    TRAITS.refuse("square", x.shape[1:], outputs.shape[1])
    right = (outputs.argmax(1) == y).nonzero()[:, 0]
    if len(right):
        walk = Walk(model, y[right], TRIES[threat.norm](x[right], threat, draws, queries))
        walk.run()
        broken = walk.margin <= 0
        found[right[broken]] = walk.at[broken]
    return found
