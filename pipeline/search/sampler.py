"""Which values come next, and which trials are not worth their end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.pruners import BasePruner, NopPruner, SuccessiveHalvingPruner
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from pipeline.fingerprint import hash_of

SAMPLERS: dict[str, Callable[[int], BaseSampler]] = {
    "tpe": lambda seed: TPESampler(seed=seed),
    "random": lambda seed: RandomSampler(seed=seed),
}


class BySlot(BaseSampler):
    """A fresh sampler for every trial, seeded by the search's seed and the trial's slot.

    One sampler with one seed would begin its random numbers anew whenever a search is continued, and suggest again what
    it suggested first. Here a suggestion depends on nothing but the slot and the finished trials.
    """

    def __init__(self, kind: str, seed: int) -> None:
        self.kind, self.seed = kind, seed
        self.inner = SAMPLERS[kind](seed)

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Seed."""
        slot = trial.user_attrs["slot"]
        self.inner = SAMPLERS[self.kind](int(hash_of([self.seed, slot])[:8], 16))
        self.inner.before_trial(study, trial)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Of the seeded sampler."""
        return self.inner.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Of the seeded sampler."""
        return self.inner.sample_relative(study, trial, search_space)

    def sample_independent(self, study: Study, trial: FrozenTrial, name: str, distribution: BaseDistribution) -> Any:
        """Of the seeded sampler."""
        return self.inner.sample_independent(study, trial, name, distribution)

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None) -> None:
        """Of the seeded sampler."""
        self.inner.after_trial(study, trial, state, values)


def pruner(prunes: bool, first_rung: int) -> BasePruner:
    """Successive halving: at every rung the better half of what has come that far goes on."""
    if not prunes or not first_rung:
        return NopPruner()
    return SuccessiveHalvingPruner(min_resource=first_rung, reduction_factor=2)
