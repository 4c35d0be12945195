"""APGD on the targeted difference-of-logits ratio, a member of the standard ensemble (Croce & Hein 2020).

The ratio does not change with the scale of the logits, so that a saturated softmax does not hide its gradient.
"""

from torch import Tensor, nn

from inputgrad.attacks import Count, Threat, Traits
from inputgrad.attacks._apgd import apgd
from inputgrad.attacks._classes import targets_of
from inputgrad.gradients.forward import Draws

TRAITS = Traits(classes=True, least_classes=4)


def perturb(
    model: nn.Module, x: Tensor, y: Tensor, threat: Threat, draws: Draws, *, steps: Count = 100, targets: Count = 9
) -> Tensor:
    """Targeted APGD towards the likeliest wrong classes, shaped as x."""
    if not len(x):
        return x.clone()
    return apgd(model, x, y, threat, ratio, targets_of("apgd_t", TRAITS, model, x, targets), draws, steps)


def ratio(outputs: Tensor, y: Tensor, target: Tensor) -> Tensor:
    """The targeted difference-of-logits ratio: (z_target - z_y) / (z_1 - (z_3 + z_4) / 2), sorted from the largest."""
    largest = outputs.topk(4, dim=1).values
    ahead = (outputs.gather(1, target[:, None]) - outputs.gather(1, y[:, None]))[:, 0]
    return ahead / (largest[:, 0] - 0.5 * (largest[:, 2] + largest[:, 3]) + 1e-12)
