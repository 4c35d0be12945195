"""APGD on the targeted difference-of-logits ratio, a member of the standard ensemble (Croce & Hein 2020).

The ratio does not change with the scale of the logits, so that a saturated softmax does not hide its gradient.
"""

from collections.abc import Callable
from typing import Annotated

from pydantic import Field
from torch import Tensor, nn

from inputgrad.attacks import Threat, Traits
from inputgrad.attacks._autoattack import boxed, classes, logger, targets_of
from inputgrad.gradients.forward import Draws

TRAITS = Traits(classes=True)
Count = Annotated[int, Field(gt=0)]


def perturb(
    model: nn.Module, x: Tensor, y: Tensor, threat: Threat, draws: Draws, *, steps: Count = 100, targets: Count = 9
) -> Tensor:
    """The library's targeted APGD towards the likeliest wrong classes, shaped as x."""
    from pyautoattack.autopgd_base import APGDAttack_targeted

    count = targets_of("apgd_t", targets, classes(model, x), least=4) if len(x) else 0

    def attack(seen: Callable[[Tensor], Tensor], z: Tensor, y: Tensor, seed: int, epsilon: float) -> Tensor:
        apgd = APGDAttack_targeted(
            seen,
            n_iter=steps,
            n_target_classes=count,
            norm=threat.ball.library,
            eps=epsilon,
            seed=seed,
            device=z.device,
            logger=logger,
        )
        apgd.loss = "dlr-targeted"  # the library's own ensemble sets it so; its constructor leaves another one
        found: Tensor = apgd.perturb(z, y)
        return found

    return boxed(attack, model, x, y, threat, draws)
