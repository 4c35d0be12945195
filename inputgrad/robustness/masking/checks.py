"""The checks of the masking sheet, one function each: evidence in, a figure against a threshold out.

A share of examples is a number of examples here, and one rule says how many are too many: `counted`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from inputgrad.robustness.evaluate import PROBES
from inputgrad.robustness.masking import Evidence, Finding
from inputgrad.robustness.threat import Attack

TOLERANCE = 0.005
"""Half a point of accuracy (or half a percent of the clean RMSE): what two draws of the same attack may differ by."""
LEVEL = 0.05
"""Of the sign test that says whether chance explains by how many examples two attacks differ."""
FEWEST = 4
"""The smallest number of examples that differ with which that test can decide."""


def at_most(value: float, threshold: float, reason: str) -> Finding:
    """Fine where the figure does not exceed the threshold; a figure that is no number is not fine."""
    finite = bool(np.isfinite(value))
    ok = finite and value <= threshold
    return Finding(ok=ok, value=value if finite else None, threshold=threshold, reason=reason)


def counted(against: int, of: int, share: float, reason: str, in_favour: int | None = None) -> Finding:
    """The rule of every check that counts examples: how many of them say that something is wrong?

    More than `share` of them must, and never one alone. Where two attacks are compared example by example, those that
    say the opposite, `in_favour`, are subtracted, and what is left must be more than chance explains.
    """
    limit = max(1, math.floor(share * of + 1e-9))  # 0.01 x 5700 is 56.99... in floating point
    if in_favour is not None:
        limit = max(limit, by_chance(against + in_favour))
    excess = against - (in_favour or 0)
    return Finding(ok=excess <= limit, value=excess, threshold=limit, reason=reason, of=of)


def by_chance(differing: int) -> int:
    """By how many examples two attacks that are equally strong may differ, of `differing` that only one of them breaks.

    One-sided exact sign test with the mid-p value (Fagerland, Lydersen & Laake 2013) at `LEVEL`.
    """
    n = max(differing, FEWEST)
    count = np.arange(n + 1)
    p = stats.binom.sf(count, n, 0.5) + stats.binom.pmf(count, n, 0.5) / 2
    return int(2 * count[p < LEVEL].min() - n - 1)


def compared(evidence: Evidence, pairs: Iterable[tuple[pd.Series[Any], pd.Series[Any]]], reason: str) -> Finding:
    """The worst of several pairs of attacks (weak, strong): what the weak one does and the strong one does not.

    A regression has no examples to count. Its figure is the difference of the relative RMSE, after the example that
    says most against the model was taken as if both attacks had reached the same: one alone decides nothing there too.
    """
    found = []
    for weak, strong in pairs:
        if evidence.task.has_classes:
            against, in_favour = int((weak & ~strong).sum()), int((strong & ~weak).sum())
            found.append(counted(against, len(weak), TOLERANCE, reason, in_favour))
        else:
            most = (weak - strong).idxmax()
            weak = weak.where(weak.index != most, np.minimum(weak, strong))
            found.append(at_most(evidence.relative(weak) - evidence.relative(strong), TOLERANCE, reason))
    return min(found, key=lambda finding: finding.worst_first)


def monotone(evidence: Evidence) -> Finding:
    """PGD alone does more harm in a larger ball: where it does less, its steps are not led by the gradient."""
    curves = [evidence.curve("pgd", threat) for threat in evidence.attack.threat_models]
    pairs = [pair for curve in curves for pair in pairwise(curve)] or [(curve[0], curve[0]) for curve in curves]
    return compared(evidence, pairs, "PGD must do more harm in a larger ball; the largest fall from ε to ε")


def large_epsilon(evidence: Evidence) -> Finding | None:
    """In a ball that leaves nothing of an image, PGD breaks everything. A regression has no such end."""
    if not evidence.task.has_classes:
        return None
    ends = [evidence.curve("pgd", threat)[-1] for threat in evidence.attack.threat_models]
    reason = "examples left under PGD at the grid's largest ε, where every model must be broken"
    return counted(max(int((~broken).sum()) for broken in ends), len(ends[0]), 0.05, reason)


def more_steps(evidence: Evidence) -> Finding:
    """A longer attack from more starting points finds at least as much."""
    few, many = PROBES
    pairs = []
    for threat in evidence.attack.threat_models:
        weak, strong = (evidence.worst(evidence.of(name, threat.norm, threat.epsilon)) for name in (few, many))
        pairs.append((weak, strong))
    reason = (
        f"harm of {few} (steps x restarts) minus that of {many} at the headline ε: more must never help the defender"
    )
    return compared(evidence, pairs, reason)


def black_box(evidence: Evidence) -> Finding:
    """What sees no gradient of the model finds nothing that gradients missed."""
    pairs = []
    for threat in evidence.attack.threat_models:
        frame = evidence.outcomes
        inside = frame[frame["norm"].isin(["none", threat.norm]) & (frame["epsilon"] <= threat.epsilon)]
        blind = inside["attack"].map(lambda attack: is_black_box(attack, evidence.attack))
        pairs.append((evidence.worst(inside), evidence.worst(inside[~blind])))
    reason = "harm that Square, random search, noise or transfer add to the gradient-based attacks at the headline ε"
    return compared(evidence, pairs, reason)


def is_black_box(attack: str, settings: Attack) -> bool:
    if attack == "transfer":
        return True
    return attack != "clean" and attack not in PROBES and settings.traits(attack).black_box


def noise_beats_fgsm(evidence: Evidence) -> Finding:
    """One step along the gradient does more harm than uniform noise, up to the headline ε."""
    pairs = []
    for threat in evidence.attack.threat_models:
        for epsilon in (e for e in threat.radii if 0 < e <= threat.epsilon):
            noise, fgsm = (evidence.worst(evidence.of(name, threat.norm, epsilon)) for name in ("noise", "fgsm"))
            pairs.append((noise, fgsm))
    return compared(evidence, pairs, "harm of uniform noise minus that of FGSM, the largest up to the headline ε")


def unit_test(evidence: Evidence) -> Finding:
    """PGD finds an example that fools the net where one is known to be (Zimmermann et al. 2022)."""
    reason = "planted adversarial examples that PGD does not find; none: no test could be made of this net"
    missed, tests = evidence.missed
    return counted(missed, tests, 0.05, reason) if tests else at_most(math.nan, 1, reason)


def zero_gradient(evidence: Evidence) -> Finding:
    """A zero or non-finite input gradient leads no attack anywhere."""
    norms = evidence.descriptors["gradient_norm_l2"]
    broken = int((~np.isfinite(norms) | (norms == 0)).sum())
    return counted(broken, len(norms), 0.01, "examples whose input gradient is zero or not finite")


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
