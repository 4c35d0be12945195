"""Which values come next, and which trials end early."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.study import Study as OptunaStudy
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from pipeline.fingerprint import hash_of

SAMPLERS: dict[str, Callable[[int], BaseSampler]] = {
    "tpe": lambda seed: TPESampler(seed=seed),
    "random": lambda seed: RandomSampler(seed=seed),
}
SEEDS = 2**32
"""Optuna's samplers take seeds from 0 up to this number, without it."""


class BySlot(BaseSampler):
    """A fresh sampler for every trial, seeded by the search's seed and the trial's slot.

    One sampler with one seed would begin its random numbers anew whenever a search is continued, and suggest again what
    it suggested first. Here a suggestion depends on nothing but the slot and the finished trials.
    """

    def __init__(self, kind: str, seed: int) -> None:
        self.kind, self.seed = kind, seed
        self.inner = SAMPLERS[kind](seed)

    def before_trial(self, study: OptunaStudy, trial: FrozenTrial) -> None:
        slot = trial.user_attrs["slot"]
        self.inner = SAMPLERS[self.kind](int(hash_of([self.seed, slot])[:8], 16))
        self.inner.before_trial(study, trial)

    def infer_relative_search_space(self, study: OptunaStudy, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self.inner.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: OptunaStudy, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return self.inner.sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: OptunaStudy, trial: FrozenTrial, name: str, distribution: BaseDistribution
    ) -> Any:
        return self.inner.sample_independent(study, trial, name, distribution)

    def after_trial(
        self, study: OptunaStudy, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        self.inner.after_trial(study, trial, state, values)


class Halving(BasePruner):
    """Successive halving: at every rung the better half of the trials that have come that far goes on.

    Optuna's own pruner also counts failed trials, so that a trial that was killed and tried again would count twice.
    """

    def prune(self, study: OptunaStudy, trial: FrozenTrial) -> bool:
        rung = trial.last_step
        if rung is None:
            return False
        value = trial.intermediate_values[rung]
        others = [
            other.intermediate_values[rung]
            for other in study.get_trials(deepcopy=False)
            if other.number != trial.number and other.state != TrialState.FAIL and rung in other.intermediate_values
        ]
        sign = -1 if study.direction == StudyDirection.MAXIMIZE else 1
        ranked = sorted(sign * each for each in [value, *others])
        return sign * value > ranked[max(len(ranked) // 2, 1) - 1]
