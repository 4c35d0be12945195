"""The fast gradient sign method: one full step along the steepest direction (Goodfellow, Shlens & Szegedy 2015)."""

from torch import Tensor, nn

from inputgrad.attacks import Threat, Traits, Worst
from inputgrad.attacks.pgd import climb
from inputgrad.gradients.forward import Draws

TRAITS = Traits(sees_all_examples=True)


def perturb(model: nn.Module, x: Tensor, y: Tensor, threat: Threat, draws: Draws) -> Tensor:
    """One step of length ε from x itself, shaped as x; without random start it is PGD of one step."""
    return climb(Worst(model, x, y), x, threat, None, steps=1, restarts=1, step=threat.epsilon)
