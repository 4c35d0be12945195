"""The search itself: asks Optuna for values, gives rungs to workers, tells Optuna the scores.

Also its slots: which one is next, and what became of a trial that nobody finished.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import asdict, dataclass, field
from typing import Any

from optuna.distributions import FloatDistribution
from optuna.study import Study as OptunaStudy
from optuna.trial import FrozenTrial, Trial, TrialState

from inputgrad import files
from inputgrad.errors import UserError
from pipeline import fingerprint
from pipeline.search import objective, rung, space
from pipeline.search.rung import Rung, RungResult, TrialRun
from pipeline.search.storage import GONE
from pipeline.search.task import SearchTask
from pipeline.workers.local import Workers

SHOW = 0.5
"""Seconds between two refreshes of the display."""
FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)
"""What counts. A failed trial does not: its slot is open again."""
KEPT = ("slot", "looks")
"""What the next trial of a slot takes over from one that was not finished."""


@dataclass
class Running:
    """A trial that is being trained, and the rungs that it has not reached."""

    trial: Trial
    run: TrialRun
    rungs: list[int]


@dataclass
class Loop:
    """One search and its workers: the only process that writes to the storage."""

    task: SearchTask
    study: OptunaStudy
    workers: Workers
    running: dict[Future[RungResult], Running] = field(default_factory=dict)
    name: str = field(default_factory=lambda: f"{socket.gethostname()}-{os.getpid()}-{os.urandom(4).hex()}")

    def run(self, show: Callable[[], None] = lambda: None) -> None:
        """Until every slot is finished; `show` is called a few times a second.

        Raises:
            UserError: the loss cannot be trained at any strength, a trial failed, or another command has taken over.
        """
        self.study.set_user_attr("command", self.name)
        release(self.study)
        reached = True
        try:
            if "standard" not in self.study.user_attrs:
                self.study.set_user_attr("standard", asdict(self.workers.submit(rung.reference, self.task).result()))
            while self.fill():
                done, _ = wait(self.running, timeout=SHOW, return_when=FIRST_COMPLETED)
                for future in [future for future in self.running if future in done]:
                    self.check_alone()
                    self.seen(self.running.pop(future), future)
                show()
            files.remove(self.task.state)
        except GONE:  # it is not asked once more, for another minute; the next command releases what is open
            reached = False
            raise
        finally:
            for future in self.running:
                future.cancel()
            if reached and self.study.user_attrs["command"] == self.name:
                release(self.study)

    def check_alone(self) -> None:
        """Stop where another command has begun the same search: where machines share no disk, no lock prevents it."""
        if (other := self.study.user_attrs["command"]) != self.name:
            raise UserError(f"{self.task.name}: another command has taken over ({other}); one at a time is at a search")

    def fill(self) -> bool:
        """Begin trials while there are idle workers and open slots; False when nothing is left to wait for."""
        self.check_alone()
        while len(self.running) < self.workers.jobs and (trial := begin(self.task, self.study)) is not None:
            self.advance(Running(trial, self.run_of(trial), objective.rungs(self.task.run.epochs)))
        return bool(self.running)

    def run_of(self, trial: Trial) -> TrialRun:
        values = {name: space.rounded(value) for name, value in trial.params.items()}
        changed = space.with_knobs(self.task.run.study, self.task.loss, values)
        place = self.task.state / f"slot-{trial.user_attrs['slot']}"
        run = TrialRun(changed, self.task.loss, self.task.run.seed, place)
        _ = run.fingerprint  # travels with the run: its kind of device is decided here, as for a run of the study
        return run

    def advance(self, one: Running) -> None:
        looks = one.trial.user_attrs.get("looks", {})
        while str(one.rungs[0]) in looks:
            epoch = one.rungs.pop(0)
            found = {name: looks[str(epoch)][name] for name in ("clean", "robust")}
            facts = {**found, "epochs": epoch}
            if not one.rungs:
                self.complete(one, facts)
                return
            if self.task.objective == "robust":
                # robust scores alone: strengths that are best in the end have the lowest clean scores half way
                one.trial.report(found["robust"], epoch)
                if one.trial.should_prune():
                    self.tell(one, facts, state=TrialState.PRUNED)
                    return
        self.running[self.workers.submit(rung.measure, Rung(one.run, one.rungs[0]))] = one

    def seen(self, one: Running, future: Future[RungResult]) -> None:
        """Keep what a worker has found, before anything is done with it."""
        try:
            found = future.result()
        except Exception as error:
            stated = ", ".join(f"{name} {space.rounded(value):g}" for name, value in one.trial.params.items())
            reason = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
            one.trial.set_user_attr("reason", reason)
            again = "what is finished is kept; the same command tries this one again"
            raise UserError(f"{self.task.name}: the trial at {stated} failed ({reason}); {again}") from error
        if found.scores is None:
            one.trial.set_user_attr("reason", found.reason)
            self.tell(one, {"epochs": found.epochs}, found.seconds, state=TrialState.PRUNED)
            return
        looks = one.trial.user_attrs.get("looks", {})
        looks[str(found.epochs)] = {**asdict(found.scores), "seconds": found.seconds}
        one.trial.set_user_attr("looks", looks)
        self.advance(one)

    def complete(self, one: Running, facts: dict[str, Any]) -> None:
        if self.task.objective == "pareto":
            self.tell(one, facts, values=[facts["clean"], facts["robust"]])
            return
        limit = self.task.limit(self.study.user_attrs["standard"]["clean"])
        # a sum of floats may miss the limit by its last bit
        one.trial.set_constraint("clean", round(self.task.shortfall(facts["clean"], limit), 9))
        self.tell(one, facts, values=facts["robust"])

    def tell(
        self,
        one: Running,
        facts: dict[str, Any],
        more_seconds: float = 0.0,
        values: float | list[float] | None = None,
        state: TrialState | None = None,
    ) -> None:
        """Finish a trial: its scores and cost first, then Optuna's word, then its training goes."""
        fingerprint.read_again()
        if self.task.code_and_data() != self.task.settings["code and data"]:
            fix = "fix: undo the change and run the same command again"
            raise UserError(f"{self.task.name}: code or data were changed while it ran; {fix}")
        looks = one.trial.user_attrs.get("looks", {})
        seconds = sum(each["seconds"] for each in looks.values()) + more_seconds
        one.trial.set_user_attr("facts", {**facts, "seconds": round(seconds, 3)})
        self.study.tell(one.trial, values, state)
        files.remove(one.run.place)


def slot(trial: FrozenTrial) -> int:
    return int(trial.user_attrs["slot"])


def finished(task: SearchTask, study: OptunaStudy) -> list[FrozenTrial]:
    """One trial for every finished slot, in the order of the slots."""
    found = study.get_trials(deepcopy=False, states=FINISHED)
    return sorted((trial for trial in found if slot(trial) < task.trials), key=slot)


def release(study: OptunaStudy) -> None:
    """Fail every trial that was begun and not finished: its slot is open again. Only for the search's one command."""
    while study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
        study.ask()  # only a running trial can be told
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        study.tell(trial.number, state=TrialState.FAIL)


def begin(task: SearchTask, study: OptunaStudy) -> Trial | None:
    """A trial of the first open slot, with its values; None when every slot is finished or has a running trial.

    A slot that was begun before is tried again with the same values, and keeps what was seen at its rungs. The first
    slot tries what the study states now: a search does not end below it.
    """
    all_of_them = study.get_trials(deepcopy=False)
    taken = {slot(trial) for trial in all_of_them if trial.state != TrialState.FAIL}
    number = next((number for number in range(task.trials) if number not in taken), None)
    if number is None:
        return None
    values, attributes = (space.present(task.study, task.loss) if number == 0 else None) or {}, {"slot": number}
    before = [trial for trial in all_of_them if slot(trial) == number and trial.params]
    if before:
        values = before[-1].params
        attributes = {key: value for key, value in before[-1].user_attrs.items() if key in KEPT}
    study.enqueue_trial(values, user_attrs=attributes)
    return study.ask({name: FloatDistribution(r.low, r.high, log=r.log) for name, r in task.space.items()})
