"""Optuna's trials -> plain files: trials.csv, search.json. The report and MLflow read these, not the storage."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd
from optuna.study import Study as OptunaStudy
from optuna.trial import FrozenTrial, TrialState

from inputgrad import files
from pipeline import layout
from pipeline.search import loop, space
from pipeline.search.task import SearchTask


@dataclass(frozen=True)
class Record:
    """What a search has found by now: the finished trial of every slot."""

    task: SearchTask
    study: OptunaStudy
    finished: list[FrozenTrial]

    @classmethod
    def of(cls, task: SearchTask, study: OptunaStudy) -> Record:
        return cls(task, study, loop.finished(task, study))

    @cached_property
    def standard(self) -> dict[str, float] | None:
        """Scores of `standard`; None before the first worker has trained it."""
        found: dict[str, float] | None = self.study.user_attrs.get("standard")
        return found

    @property
    def limit(self) -> float | None:
        return None if self.standard is None else self.task.limit(self.standard["clean"])

    @property
    def complete(self) -> list[FrozenTrial]:
        return [trial for trial in self.finished if trial.state == TrialState.COMPLETE]

    @property
    def pruned(self) -> int:
        return len(self.finished) - len(self.complete)

    def meets(self, trial: FrozenTrial) -> bool:
        """Whether a finished trial keeps enough of the clean score; a pruned one was not asked."""
        if trial.state != TrialState.COMPLETE or self.limit is None:
            return False
        return round(self.task.shortfall(facts(trial)["clean"], self.limit), 9) <= 0

    @cached_property
    def best(self) -> FrozenTrial | None:
        """The highest robust score of those that meet the constraint; ties by clean score, then the earlier trial."""
        sign = 1 if self.task.higher_is_better else -1
        candidates = [trial for trial in self.complete if self.meets(trial)]
        return max(
            candidates,
            key=lambda t: (sign * facts(t)["robust"], sign * facts(t)["clean"], -loop.slot(t)),
            default=None,
        )

    @property
    def front(self) -> list[FrozenTrial]:
        """The trials that no other beats in both scores, by clean score."""
        sign = 1 if self.task.higher_is_better else -1
        ordered = sorted(self.complete, key=lambda t: (-sign * facts(t)["clean"], -sign * facts(t)["robust"]))
        found: list[FrozenTrial] = []
        for trial in ordered:
            if not found or sign * facts(trial)["robust"] > sign * facts(found[-1])["robust"]:
                found.append(trial)
        return found

    @property
    def epochs_used(self) -> int:
        return sum(int(facts(trial)["epochs"]) for trial in self.finished)

    def frame(self) -> pd.DataFrame:
        return pd.DataFrame([self.row(trial) for trial in self.finished])

    def row(self, trial: FrozenTrial) -> dict[str, Any]:
        return {
            "trial": trial.number,
            "slot": loop.slot(trial),
            "state": trial.state.name.lower(),
            **knobs(trial),
            "clean": facts(trial).get("clean"),
            "robust": facts(trial).get("robust"),
            "meets_constraint": self.meets(trial) if trial.state == TrialState.COMPLETE else None,
            "epochs": facts(trial)["epochs"],
            "seconds": facts(trial)["seconds"],
            "started": trial.datetime_start.isoformat() if trial.datetime_start else None,
            "ended": trial.datetime_complete.isoformat() if trial.datetime_complete else None,
        }

    def rung_scores(self) -> pd.DataFrame:
        rows = [
            {"trial": trial.number, "epoch": int(epoch), **found}
            for trial in self.finished
            for epoch, found in trial.user_attrs.get("looks", {}).items()
        ]
        return pd.DataFrame(rows, columns=["trial", "epoch", "clean", "robust"])

    def summary(self) -> dict[str, Any]:
        task, epochs = self.task, self.task.run.epochs
        return {
            "study": task.study.name,
            "loss": task.loss,
            "objective": task.objective,
            "fingerprint": task.fingerprint,
            "task": task.study.task.name,
            "trials": {"asked": task.trials, "finished": len(self.finished), "pruned": self.pruned},
            "epochs": {"per_trial": epochs, "budget": task.trials * epochs, "used": self.epochs_used},
            "seed_of_the_trials": task.run.seed,
            "standard": self.standard,
            "limit": self.limit,
            "meeting_the_constraint": sum(map(self.meets, self.finished)),
            "best": None if self.best is None else self.found(self.best),
            "front": [self.found(trial) for trial in self.front],
            "settings": task.settings,
        }

    def found(self, trial: FrozenTrial) -> dict[str, Any]:
        scores = {key: facts(trial)[key] for key in ("clean", "robust")}
        return {"trial": trial.number, "knobs": knobs(trial), "at_edge": self.at_edge(trial), **scores}

    def at_edge(self, trial: FrozenTrial) -> list[str]:
        return [name for name, value in knobs(trial).items() if space.at_edge(self.task.space[name], value)]

    def write(self) -> None:
        """Write the files, each whole or not at all; search.json comes last."""
        folder = self.task.folder
        for name, frame in (("trials.csv", self.frame()), ("looks.csv", self.rung_scores())):
            with files.replacing(folder / name) as temporary:
                frame.to_csv(temporary, index=False, encoding="utf-8")
        files.write_json(folder / layout.SEARCH, self.summary())


def facts(trial: FrozenTrial) -> dict[str, Any]:
    found: dict[str, Any] = trial.user_attrs["facts"]
    return found


def knobs(trial: FrozenTrial) -> dict[str, float]:
    return {name: space.rounded(value) for name, value in trial.params.items()}
