"""Targeted FAB as the standard ensemble runs it: nine classes, a hundred steps (Croce & Hein 2020)."""

from typing import Any

from torch import Tensor, nn

from inputgrad.attacks import Count, Threat, Traits, fab
from inputgrad.attacks._classes import Prune
from inputgrad.gradients.forward import Draws

TRAITS = Traits(classes=True)


def fast(**_: Any) -> None:
    """The fast ensemble leaves it out: it is the one member whose examples APGD and `fab` always broke before it."""


def perturb(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    draws: Draws,
    *,
    targets: Count = 9,
    steps: Count = 100,
    prune: Prune = (),
) -> Tensor:
    return fab.perturb(model, x, y, threat, draws, targets=targets, steps=steps, prune=prune)
