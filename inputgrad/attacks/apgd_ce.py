"""APGD on the cross-entropy, a member of the standard ensemble: PGD that sets its own step (Croce & Hein 2020)."""

from torch import Tensor, nn
from torch.nn import functional as F

from inputgrad.attacks import Count, Threat, Traits
from inputgrad.attacks._apgd import apgd
from inputgrad.gradients.forward import Draws

TRAITS = Traits(classes=True)


def perturb(
    model: nn.Module, x: Tensor, y: Tensor, threat: Threat, draws: Draws, *, steps: Count = 100, restarts: Count = 1
) -> Tensor:
    """Untargeted APGD, shaped as x; its defaults are those of the standard ensemble."""
    if not len(x):
        return x.clone()
    return apgd(model, x, y, threat, cross_entropy, y[:, None].expand(-1, restarts), draws, steps)


def cross_entropy(outputs: Tensor, y: Tensor, _: Tensor) -> Tensor:
    return F.cross_entropy(outputs, y, reduction="none")
