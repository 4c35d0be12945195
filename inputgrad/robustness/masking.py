"""The masking sheet: small named checks that say when a robust score looks better than the model is.

A gradient that is zero, random or useless makes gradient-based attacks fail without making the model robust (Athalye,
Carlini & Wagner 2018; Carlini et al. 2019). Every trained model gets the whole sheet, and no robust score is shown
without it. A flag does not say that a model is bad, it says that its robust score cannot be trusted yet.

A check is a function: evidence in, a figure against a threshold out. A share of examples is a number of examples here,
and one rule says how many are too many: `counted`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import torch
from pydantic import FiniteFloat

from inputgrad import tasks
from inputgrad.attacks import Threat, pgd
from inputgrad.gradients.descriptors import describe
from inputgrad.robustness import scores
from inputgrad.robustness.attacking import PROBES, Victim
from inputgrad.robustness.settings import Attack, ThreatModel, knobs_of
from inputgrad.robustness.unit_test import CHUNK, missed
from inputgrad.tasks import Task

TOLERANCE = 0.005
"""Half a point of accuracy (or half a percent of the clean RMSE): what two draws of the same attack may differ by."""
LEVEL = 0.05
"""Of the sign test that says whether chance explains by how many examples two attacks differ."""
FEWEST = 4
"""The smallest number of examples that differ with which that test can decide."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What a check found: its figure, the limit it is held against, and why that matters.

    Attributes:
        value: the figure; None where there was nothing to measure.
        threshold: the largest figure that is fine.
        of: where the figure is a number of examples, of how many; else None.
    """

    ok: bool
    value: FiniteFloat | None
    threshold: FiniteFloat
    reason: str
    of: int | None = None

    @property
    def figure(self) -> str:
        """The figure as it is written: a number, or so many of so many examples."""
        if self.value is None:
            return "–"
        return number(self.value) if self.of is None else f"{number(self.value, 'g')} of {examples(self.of)}"

    @property
    def limit(self) -> str:
        return number(self.threshold) if self.of is None else examples(self.threshold)

    @property
    def margin(self) -> float:
        """How far inside the threshold, negative where flagged: the smallest is the worst."""
        if self.value is None:
            return float("inf") if self.ok else 0.0
        apart = abs(self.value - self.threshold)
        return apart if self.ok else -apart

    @property
    def worst_first(self) -> tuple[bool, float]:
        """Order of findings: flagged ones first, then by margin."""
        return self.ok, self.margin


def number(value: float, form: str = ".3g") -> str:
    return f"{value:{form}}".replace("-", "\N{MINUS SIGN}")


def examples(count: float) -> str:
    return f"{count:g} example{'' if count == 1 else 's'}"


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What the checks look at.

    Attributes:
        outcomes: of `inputgrad.robustness.attacking.attacked`.
        descriptors: of `inputgrad.gradients.descriptors.descriptors`.
        attack: the study's threat models and attacks.
        task: says what harm is: a regression has no broken examples, but a larger RMSE.
        change: by how much outputs and input gradients differ between two passes over the same inputs, relative.
        missed: how many planted examples PGD does not find, and of how many; see `inputgrad.robustness.unit_test`.
    """

    outcomes: pd.DataFrame
    descriptors: pd.DataFrame
    attack: Attack
    task: Task
    change: float
    missed: tuple[int, int]

    @cached_property
    def clean(self) -> pd.DataFrame:
        return self.outcomes[self.outcomes["attack"] == "clean"]

    def of(self, attack: str, norm: str, epsilon: float) -> pd.DataFrame:
        frame = self.outcomes
        return frame[(frame["attack"] == attack) & (frame["norm"] == norm) & (frame["epsilon"] == epsilon)]

    def harm(self, rows: pd.DataFrame) -> float:
        """Share of all examples that `rows` break, or their RMSE relative to the clean one; the worst row counts."""
        return self.relative(self.worst(rows))

    def worst(self, rows: pd.DataFrame) -> pd.Series[Any]:
        """Of every example in `rows`, the harm of its worst row."""
        return scores.worst_of(rows, self.task)

    def relative(self, worst: pd.Series[Any]) -> float:
        return self.task.relative_harm(worst, self.clean[self.task.harm])

    def curve(self, attack: str, threat: ThreatModel) -> list[pd.Series[Any]]:
        """What an attack that sees every example does to each, over the radii above 0."""
        return [self.worst(self.of(attack, threat.norm, epsilon)) for epsilon in threat.radii if epsilon > 0]


def evidence(victim: Victim, outcomes: pd.DataFrame, descriptors: pd.DataFrame, attack: Attack) -> Evidence:
    """What the checks look at, for an evaluation that is finished."""
    knobs = knobs_of(attack.attacks.get("pgd", {})) if attack.module("pgd") is pgd else {}
    threat = Threat(norm=attack.norm, epsilon=attack.epsilon, bounds=victim.bounds)
    return Evidence(
        outcomes=outcomes,
        descriptors=descriptors,
        attack=attack,
        task=tasks.of(victim.y),
        change=change(victim),
        missed=missed(victim.model, victim.x, threat, knobs, victim.seed, min(CHUNK, victim.at_once)),
    )


def change(victim: Victim) -> float:
    """The largest relative difference of outputs and of input gradients between two passes over the same inputs."""
    first, second = (describe(victim.model, victim.x, victim.y) for _ in range(2))
    pairs = ((first[0], second[0]), (first[2], second[2]))
    return max(float((a - b).abs().max() / a.abs().max().clamp_min(torch.finfo(a.dtype).tiny)) for a, b in pairs)


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
    from scipy import stats  # slow to import

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
        blind = [attack for attack in inside["attack"].unique() if is_black_box(attack, evidence.attack)]
        pairs.append((evidence.worst(inside), evidence.worst(inside[~inside["attack"].isin(blind)])))
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


def sheet(evidence: Evidence) -> dict[str, dict[str, Any]]:
    """Every check that is defined for the task: name -> ok, value, threshold, reason."""
    found = {check.__name__: check(evidence) for check in CHECKS}
    return {name: asdict(check) for name, check in found.items() if check is not None}
