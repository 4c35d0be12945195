"""The checks of the masking sheet, one function each: evidence in, a figure against a threshold out."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np

from inputgrad.robustness.evaluate import PROBES
from inputgrad.robustness.masking import Evidence, Finding
from inputgrad.robustness.threat import Attack

TOLERANCE = 0.005
"""Half a point of accuracy (or half a percent of the clean RMSE): what two draws of the same attack may differ by."""


def at_most(value: float, threshold: float, reason: str) -> Finding:
    """Fine where the figure does not exceed the threshold; a figure that is no number is not fine."""
    finite = bool(np.isfinite(value))
    ok = finite and value <= threshold
    return Finding(ok=ok, value=value if finite else None, threshold=threshold, reason=reason)


def monotone(evidence: Evidence) -> Finding:
    """PGD alone does more harm in a larger ball: where it does less, its steps are not led by the gradient."""
    curves = [evidence.curve("pgd", threat) for threat in evidence.attack.threat_models]
    falls = [before - after for curve in curves for before, after in pairwise(curve)]
    return at_most(
        max(falls, default=0.0), TOLERANCE, "PGD must do more harm in a larger ball; the largest fall from ε to ε"
    )


def large_epsilon(evidence: Evidence) -> Finding | None:
    """In a ball that leaves nothing of an image, PGD breaks everything. A regression has no such end."""
    if not evidence.task.has_classes:
        return None
    left = [1 - evidence.curve("pgd", threat)[-1] for threat in evidence.attack.threat_models]
    return at_most(
        max(left),
        0.05,
        f"{evidence.task.noun} left under PGD at the grid's largest ε, where every model must be broken",
    )


def more_steps(evidence: Evidence) -> Finding:
    """A longer attack from more starting points finds at least as much."""
    few, many = PROBES
    differences = []
    for threat in evidence.attack.threat_models:
        weak, strong = (evidence.harm(evidence.of(name, threat.norm, threat.epsilon)) for name in (few, many))
        differences.append(weak - strong)
    reason = (
        f"harm of {few} (steps x restarts) minus that of {many} at the headline ε: more must never help the defender"
    )
    return at_most(max(differences), TOLERANCE, reason)


def black_box(evidence: Evidence) -> Finding:
    """What sees no gradient of the model finds nothing that gradients missed."""
    gains = []
    for threat in evidence.attack.threat_models:
        frame = evidence.outcomes
        inside = frame[frame["norm"].isin(["none", threat.norm]) & (frame["epsilon"] <= threat.epsilon)]
        blind = inside["attack"].map(lambda attack: is_black_box(attack, evidence.attack))
        gains.append(evidence.harm(inside) - evidence.harm(inside[~blind]))
    reason = "harm that Square, random search, noise or transfer add to the gradient-based attacks at the headline ε"
    return at_most(max(gains), TOLERANCE, reason)


def is_black_box(attack: str, settings: Attack) -> bool:
    if attack == "transfer":
        return True
    return attack != "clean" and attack not in PROBES and settings.traits(attack).black_box


def noise_beats_fgsm(evidence: Evidence) -> Finding:
    """One step along the gradient does more harm than uniform noise, up to the headline ε."""
    gains = []
    for threat in evidence.attack.threat_models:
        for epsilon in (e for e in threat.radii if 0 < e <= threat.epsilon):
            noise, fgsm = (evidence.harm(evidence.of(name, threat.norm, epsilon)) for name in ("noise", "fgsm"))
            gains.append(noise - fgsm)
    return at_most(max(gains), TOLERANCE, "harm of uniform noise minus that of FGSM, the largest up to the headline ε")


def unit_test(evidence: Evidence) -> Finding:
    """PGD finds an example that fools the net where one is known to be (Zimmermann et al. 2022)."""
    reason = "share of planted adversarial examples that PGD does not find; none: no test could be made of this net"
    return at_most(evidence.missed, 0.05, reason)


def zero_gradient(evidence: Evidence) -> Finding:
    """A zero or non-finite input gradient leads no attack anywhere."""
    norms = evidence.descriptors["gradient_norm_l2"]
    return at_most(
        float((~np.isfinite(norms) | (norms == 0)).mean()), 0.01, "share of zero or non-finite input gradients"
    )


def linearity(evidence: Evidence) -> Finding:
    """The gradient at x speaks for the ball around x: it points the same way a random step further on."""
    cosine = evidence.descriptors["gradient_stability"].fillna(0)  # a zero gradient speaks for nothing
    reason = "1 minus the mean cos(g(x), g(x + noise)) in the headline ball: 0 where the loss surface is linear"
    return at_most(1 - float(cosine.mean()), 0.5, reason)


def inside(evidence: Evidence) -> Finding:
    """Every point is admissible as it is stored, in float: else the attack, or the score, is another one."""
    return at_most(
        float(evidence.outcomes["overshoot"].max()), 1e-6, "how far any point lies outside the ball or bounds"
    )


def repeatable(evidence: Evidence) -> Finding:
    """The same input gives the same output and the same gradient: a random net must be attacked in the mean."""
    return at_most(evidence.change, 1e-5, "relative change of outputs and input gradients from one pass to the next")


CHECKS: tuple[Callable[[Evidence], Finding | None], ...] = (
    monotone,
    large_epsilon,
    more_steps,
    black_box,
    noise_beats_fgsm,
    unit_test,
    zero_gradient,
    linearity,
    inside,
    repeatable,
)
