"""Projected gradient descent with random restarts (Madry et al. 2018): the standard first-order attack."""

from torch import Tensor, nn

from inputgrad.attacks import Count, Threat, Traits, Worst
from inputgrad.gradients.ascent import ascend
from inputgrad.gradients.forward import Draws

TRAITS = Traits(sees_all_examples=True)


def perturb(
    model: nn.Module, x: Tensor, y: Tensor, threat: Threat, draws: Draws, *, steps: Count = 20, restarts: Count = 3
) -> Tensor:
    """The worst point that `restarts` ascents of `steps` steps pass, shaped as x; the step is 2.5·ε/steps."""
    return climb(Worst(model, x, y), x, threat, draws, steps=steps, restarts=restarts)


def climb(
    worst: Worst,
    x: Tensor,
    threat: Threat,
    draws: Draws | None,
    *,
    steps: Count = 20,
    restarts: Count = 3,
    step: float | None = None,
) -> Tensor:
    """Ascend `restarts` times, from random starts or (draws None) from x, for the examples that still stand."""
    for _ in range(restarts):
        left = worst.unbroken()
        if not len(left):
            break
        moved = ascend(
            worst.watching(left),
            x[left],
            norm=threat.norm,
            epsilon=threat.epsilon,
            steps=steps,
            step=step,
            start=None if draws is None else threat.uniform(draws, x[left]),
            bounds=threat.bounds,
        )
        worst.measure(moved, left)  # the ascent saw every point but its last
    return worst.x
