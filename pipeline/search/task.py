"""What a search is: frozen, and picklable."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from inputgrad.losses import Range
from inputgrad.robustness.settings import attack_module
from pipeline import layout
from pipeline.fingerprint import code_of, hash_of
from pipeline.search import objective, space
from pipeline.study.run import Run
from pipeline.study.schema import Study

Objective = Literal["robust", "pareto"]


@dataclass(frozen=True, kw_only=True)
class SearchTask:
    """One search.

    Attributes:
        study: whose loss is searched.
        loss: its name.
        trials: how many the search is to have in the end, finished or pruned.
        objective: `robust`: the robust score, with the drop in clean score as a constraint; `pareto`: both scores.
        seed: of the sampler.
        sampler: tpe or random.
        prunes: whether hopeless trials are ended early (one objective only).
        url: where Optuna keeps the trials: any storage URL, or a path of a journal file; empty: `journal`.
    """

    study: Study
    loss: str
    trials: int
    objective: Objective = "robust"
    seed: int = 0
    sampler: Literal["tpe", "random"] = "tpe"
    prunes: bool = True
    url: str = ""

    @property
    def name(self) -> str:
        return f"{self.study.name}/{self.loss}/{self.objective}"

    @property
    def folder(self) -> Path:
        """Where the search's files go. It is no output of a DVC stage, so that no stage deletes it."""
        folder = layout.search(self.study.name, self.loss)
        return folder if self.objective == "robust" else folder / self.objective

    @property
    def storage(self) -> str:
        return self.url or str(self.folder / "journal.log")

    @property
    def in_file(self) -> bool:
        return "://" not in self.storage

    @property
    def lock(self) -> Path:
        """The folder that a command holds while it is at this search: a journal file has one writer at a time."""
        names = [str(Path(self.storage).resolve())] if self.in_file else [self.storage, self.name]
        return layout.state(f"storage-{hash_of(names)}")

    @property
    def state(self) -> Path:
        """Where trials keep their trainings until they are told."""
        return layout.state(f"search-{hash_of([self.name, str(self.lock)])}")

    @cached_property
    def space(self) -> dict[str, Range]:
        return space.ranges(self.study, self.loss)

    @cached_property
    def judges(self) -> dict[str, dict[str, Any]]:
        return objective.judges(self.study, objective.read_splits(self.study).outputs)

    @property
    def run(self) -> Run:
        """A trial's run, with the knobs that the study states."""
        study = space.of_trials(self.study)
        return Run(study, self.loss, study.training.seeds[0])

    @property
    def canonical(self) -> Run:
        """A run whose fingerprint is the same for all trials: every knob at the low end of its range."""
        lowest = {name: found.low for name, found in self.space.items()}
        return Run(space.with_knobs(self.run.study, self.loss, lowest), self.loss, self.run.seed)

    @property
    def higher_is_better(self) -> bool:
        return self.study.task.better > 0

    def limit(self, standard_clean: float) -> float:
        drop = self.study.search.max_clean_drop
        return standard_clean - drop if self.higher_is_better else standard_clean + drop

    def shortfall(self, clean: float, limit: float) -> float:
        """How far a clean score is beyond the limit; at most 0 where the constraint is met."""
        return limit - clean if self.higher_is_better else clean - limit

    @cached_property
    def settings(self) -> dict[str, Any]:
        """Everything that decides what a trial's value means; trials of other settings cannot be compared."""
        study, run = self.study, self.run
        fixed = {k: v for k, v in run.study.stated(self.loss).items() if k not in self.space}
        return {
            "study": study.name,
            "data": study.data,
            "data file": hash_of([], [layout.data(study.name)]),
            "model": study.model,
            "training": run.study.training.model_dump(mode="json", exclude={"device"}),
            "loss": {"name": self.loss, **fixed},
            "attack": {"norm": study.attack.norm, "epsilon": study.attack.epsilon},
            "judges": self.judges,
            "max_clean_drop": study.search.max_clean_drop,
            "ranges": {name: list(r) for name, r in self.space.items()},
            "objective": self.objective,
            "sampler": {"kind": self.sampler, "seed": self.seed, "prunes": self.prunes},
            "code and data": self.code_and_data(),  # comes last: whatever has a name of its own is named first
        }

    def code_and_data(self) -> str:
        """Of what trains a trial and of what judges it, as they are now."""
        attacks = (attack_module(name, knobs).__name__ for name, knobs in self.judges.items())
        return hash_of([self.canonical.fingerprint, code_of(objective.__name__, *sorted(attacks))])

    @property
    def fingerprint(self) -> str:
        return hash_of(self.settings)
