"""APGD on the cross-entropy, a member of the standard ensemble: PGD that sets its own step (Croce & Hein 2020)."""

from collections.abc import Callable
from typing import Annotated

from pydantic import Field
from torch import Tensor, nn

from inputgrad.attacks import Threat, Traits
from inputgrad.attacks._autoattack import boxed
from inputgrad.gradients.forward import Draws

TRAITS = Traits(classes=True)
Count = Annotated[int, Field(gt=0)]


def perturb(
    model: nn.Module, x: Tensor, y: Tensor, threat: Threat, draws: Draws, *, steps: Count = 100, restarts: Count = 1
) -> Tensor:
    """The library's untargeted APGD, shaped as x; its defaults are those of the standard ensemble."""
    from pyautoattack.autopgd_base import APGDAttack

    def attack(seen: Callable[[Tensor], Tensor], z: Tensor, y: Tensor, seed: int, epsilon: float) -> Tensor:
        apgd = APGDAttack(
            seen, n_iter=steps, n_restarts=restarts, norm=threat.ball.library, eps=epsilon, seed=seed, device=z.device
        )
        found: Tensor = apgd.perturb(z, y)
        return found

    return boxed(attack, model, x, y, threat, draws)
