"""APGD on the targeted difference-of-logits ratio, a member of the standard ensemble (Croce & Hein 2020).

The ratio does not change with the scale of the logits, so that a saturated softmax does not hide its gradient.
"""

from typing import Any

from torch import Tensor, nn

from inputgrad.attacks import Count, Threat, Traits
from inputgrad.attacks._apgd import apgd
from inputgrad.attacks._classes import Prune, targets_of
from inputgrad.gradients.forward import Draws

TRAITS = Traits(classes=True)
FEW = {2: "z_target - z_y", 3: "(z_target - z_y) / (z_1 - (z_2 + z_3) / 2)"}
"""What it raises where there are fewer than the four classes that the authors' ratio needs."""


def fast(steps: int = 100, **_: Any) -> dict[str, Prune]:
    """What the fast ensemble changes: the knobs with which an attack of so many steps drops targets early."""
    return {"prune": ((10, 3), (30, 1)) if steps > 30 else ((5, 3),)}


def perturb(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    draws: Draws,
    *,
    steps: Count = 100,
    targets: Count = 9,
    prune: Prune = (),
) -> Tensor:
    """Targeted APGD towards the likeliest wrong classes, shaped as x; `prune`: see `_classes.Prune`."""
    if not len(x):
        return x.clone()
    return apgd(model, x, y, threat, ratio, targets_of("apgd_t", TRAITS, model, x, targets), draws, steps, prune)


def ratio(outputs: Tensor, y: Tensor, target: Tensor) -> Tensor:
    """The targeted difference-of-logits ratio: (z_target - z_y) / (z_1 - (z_3 + z_4) / 2), sorted from the largest.

    Of three logits, the mean of the two smallest is that of z_2 and z_3: with z_3 alone the ratio towards the least
    likely class would be -1 everywhere. Of two logits every such ratio is 1 or -1, so that it is z_target - z_y.
    """
    ahead = (outputs.gather(1, target[:, None]) - outputs.gather(1, y[:, None]))[:, 0]
    if outputs.shape[1] == 2:
        return ahead
    largest = outputs.topk(min(4, outputs.shape[1]), dim=1).values
    return ahead / (largest[:, 0] - 0.5 * (largest[:, -2] + largest[:, -1]) + 1e-12)
