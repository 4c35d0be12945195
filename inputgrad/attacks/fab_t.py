"""Targeted FAB as the standard ensemble runs it: nine classes, a hundred steps (Croce & Hein 2020)."""

from typing import Any

from torch import Tensor, nn

from inputgrad.attacks import Count, Threat, Traits, fab
from inputgrad.gradients.forward import Draws

TRAITS = Traits(classes=True)


def fast(**_: Any) -> None:
    """The fast ensemble leaves it out: APGD and `fab`, which run before it, hardly ever leave it one to break."""


def perturb(
    model: nn.Module, x: Tensor, y: Tensor, threat: Threat, draws: Draws, *, targets: Count = 9, steps: Count = 100
) -> Tensor:
    return fab.perturb(model, x, y, threat, draws, targets=targets, steps=steps)
