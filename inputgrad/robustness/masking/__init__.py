"""The masking sheet: small named checks that say when a robust score looks better than the model is.

A gradient that is zero, random or useless makes gradient-based attacks fail without making the model robust (Athalye,
Carlini & Wagner 2018; Carlini et al. 2019). Every trained model gets the whole sheet, and no robust score is shown
without it. A flag does not say that a model is bad, it says that its robust score cannot be trusted yet.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import pandas as pd
import torch
from pydantic import FiniteFloat

from inputgrad import tasks
from inputgrad.attacks import Threat, pgd
from inputgrad.gradients.forward import describe
from inputgrad.robustness import scores, unit_test
from inputgrad.robustness.evaluate import Victim
from inputgrad.robustness.threat import Attack, ThreatModel, knobs_of
from inputgrad.tasks import Task


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
        outcomes: of `inputgrad.robustness.evaluate.attacked`.
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
        missed=unit_test.missed(victim.model, victim.x, threat, knobs, victim.seed),
    )


def change(victim: Victim) -> float:
    """The largest relative difference of outputs and of input gradients between two passes over the same inputs."""
    first, second = (describe(victim.model, victim.x, victim.y) for _ in range(2))
    pairs = ((first[0], second[0]), (first[2], second[2]))
    return max(float((a - b).abs().max() / a.abs().max().clamp_min(torch.finfo(a.dtype).tiny)) for a, b in pairs)


def sheet(evidence: Evidence) -> dict[str, dict[str, Any]]:
    """Every check that is defined for the task: name -> ok, value, threshold, reason."""
    from inputgrad.robustness.masking.checks import CHECKS

    found = {check.__name__: check(evidence) for check in CHECKS}
    return {name: asdict(check) for name, check in found.items() if check is not None}
