"""Everything of a study side by side: all losses and seeds at once, so that no core waits for the end of a stage.

The work lands in .state/FINGERPRINT and in the stages' own outputs; `dvc repro` then finds every run finished.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from inputgrad.errors import UserError
from pipeline import store
from pipeline.progress import progress
from pipeline.stages import commands
from pipeline.stages.attack import Evaluation, evaluate
from pipeline.stages.train import train
from pipeline.study import origins
from pipeline.study.params import read_in_stage
from pipeline.study.run import Run, folder, runs
from pipeline.study.schema import Study
from pipeline.workers import Engine
from pipeline.workers.local import Item, Workers, each


@dataclass
class Progress:
    """What is to do, and what became of it."""

    study: Study
    todo: list[Run] = field(default_factory=list)
    evaluations: list[Evaluation] = field(default_factory=list)
    unattacked: int = 0
    failed: dict[str, UserError] = field(default_factory=dict)

    def done(self) -> float:
        """Tasks that are finished; a training in its middle counts by its epochs, an attack by its steps."""
        epochs = sum(min(1.0, commands.epochs_done(run) / run.epochs) for run in self.todo)
        return epochs + sum(e.done / e.steps for e in self.evaluations)


def run(study_name: str, engine: Engine) -> str:
    """Train and attack everything of a study that is not up to date; returns a line that says what was done.

    Raises:
        UserError: a mistake in the study or the options, or a run failed; the others are finished then.
    """
    engine.check()
    study = read_in_stage(study_name)
    names = list(study.losses)
    commands.prepare(study_name)
    work = Progress(study)
    todo = {name: runs(study, name) for name in names}
    check_device(todo[names[0]][0], engine)
    untrained = [name for name in names if not is_trained(todo[name])]
    behind = [
        name for name in names if {name, todo[name][0].source.loss_name} & {*untrained} or not is_attacked(todo[name])
    ]
    if not behind:
        return f"{study_name}: all {len(names)} losses are up to date"
    work.todo = [run for name in untrained for run in todo[name]]
    work.unattacked = sum(len(todo[name]) for name in behind)
    shown = progress(study_name, len(work.todo) + work.unattacked, work.done, "tasks")
    with commands.working(engine, shown, work.todo) as workers:
        attempt_all(work, workers, train, work.todo, lambda run: run)
        for name in untrained:
            if name not in work.failed:
                commands.publish_training(todo[name])
        attacked = {name: evaluations(work, todo[name]) for name in behind if name not in work.failed}
        work.evaluations = [e for some in attacked.values() for e in some]
        attempt_all(work, workers, evaluate, work.evaluations, lambda evaluation: evaluation.run)
        for name, some in attacked.items():
            if name not in work.failed:
                commands.publish_attack(some)
    return summary(work, untrained, behind)


def attempt_all(
    work: Progress,
    workers: Workers,
    task: Callable[[Item], object],
    todo: Sequence[Item],
    run: Callable[[Item], Run],
) -> None:
    """Run a task of every item, each of one run: what is finished is only checked, what fails stops no other."""
    for item, future in each(workers, task, todo):
        try:
            future.result()
        except UserError as error:
            work.failed.setdefault(run(item).loss_name, error)


def evaluations(work: Progress, todo: Sequence[Run]) -> list[Evaluation]:
    """Of the runs of one loss, with their fingerprints; none where `standard`, which they need, has failed."""
    some = [Evaluation(run) for run in todo]
    try:
        for evaluation in some:
            _ = evaluation.fingerprint
    except UserError as error:
        work.failed.setdefault(todo[0].loss_name, error)
        return []
    return some


def summary(work: Progress, trained: Sequence[str], attacked: Sequence[str]) -> str:
    from pipeline import tracking

    for name in attacked:
        if name not in work.failed:
            tracking.mirror(work.study, name)
    if work.failed:
        others = [name for name in work.failed if name != next(iter(work.failed))]
        more = f" (and {', '.join(others)} failed too)" if others else ""
        raise UserError(f"{next(iter(work.failed.values()))}{more}; every other loss is finished")
    name = work.study.name
    done = f"{len(trained)} losses trained, {len(attacked)} attacked"
    return f"{name}: {done}; the report and DVC's record: dvc repro report@{name}"


def check_device(run: Run, engine: Engine) -> None:
    """A run's device is decided here and is part of its fingerprint: what this machine has, the others must use too."""
    share, on_gpu = engine.gpus_per_task, run.device.type == "cuda"
    if share is not None and not on_gpu:
        reason = "asks for the CPU" if run.study.training.device == "cpu" else "is 'auto' and this machine has no GPU"
        raise UserError(
            f"--gpus-per-task {share:g}: training.device in {run.study.file} {reason}; leave the option away"
        )
    if engine.name == "ray" and on_gpu and share is None:
        raise UserError("training on a GPU with --engine ray: add --gpus-per-task, such as 0.25 for four tasks on each")


def is_trained(todo: Sequence[Run]) -> bool:
    try:
        store.opened(folder(todo[0].study, todo[0].loss_name, "measured"), origins.of_measured(todo[0]), "")
        return all(run.opened("train") for run in todo)
    except UserError:  # missing, damaged or older: this command makes it again
        return False


def is_attacked(todo: Sequence[Run]) -> bool:
    try:
        return all(run.opened("attack") for run in todo)
    except UserError:
        return False
