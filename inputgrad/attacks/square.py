"""Square, the black box of the standard ensemble: random search that sees outputs only (Andriushchenko et al. 2020)."""

from collections.abc import Callable
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from inputgrad.attacks import Threat, Traits
from inputgrad.attacks._autoattack import boxed
from inputgrad.errors import UserError
from inputgrad.gradients.forward import Draws

TRAITS = Traits(black_box=True, classes=True)
SMALLEST = 5
"""The library tiles a side into five parts."""
Count = Annotated[int, Field(gt=0)]


def perturb(model: nn.Module, x: Tensor, y: Tensor, threat: Threat, draws: Draws, *, queries: Count = 5000) -> Tensor:
    """The library's Square attack on images (N, C, H, W), shaped as x."""
    from pyautoattack.square import SquareAttack

    if x.dim() != 4 or min(x.shape[2:]) < SMALLEST:
        raise UserError(
            f"attack square needs images (C, H, W) of {SMALLEST} pixels a side or more, not {tuple(x.shape[1:])};"
            " use random_search instead"
        )

    def attack(seen: Callable[[Tensor], Tensor], z: Tensor, y: Tensor, seed: int, epsilon: float) -> Tensor:
        square = SquareAttack(
            seen,
            n_queries=queries,
            norm=threat.ball.library,
            eps=epsilon,
            seed=seed,
            resc_schedule=False,  # as in the standard ensemble
            device=z.device,
        )
        square.margin_and_loss = decided(square.margin_and_loss)
        found: Tensor = square.perturb(z, y)
        return found

    return boxed(attack, model, x, y, threat, draws)


Margins = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def decided(margins: Margins) -> Margins:
    """The library's margins, where 0 means broken if none is above 0.

    It searches where a margin is above 0 and stops when all are below: where the rest is exactly 0 (the same outputs
    for every class) it goes on with an empty batch, which many a model cannot take.
    """

    def of(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        margin, loss = margins(x, y)
        return margin if (margin > 0).any() else margin.clamp_max(-torch.finfo(margin.dtype).tiny), loss

    return of
