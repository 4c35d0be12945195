"""Whole studies side by side: all losses and seeds at once, so that no core waits for the end of a stage.

The work lands in .state/FINGERPRINT and in the stages' own outputs, and DVC is told: `dvc repro` then skips them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from inputgrad.errors import UserError
from pipeline import store, tracking
from pipeline.dvc import Record
from pipeline.progress import progress
from pipeline.stages import before, commands
from pipeline.stages.attack import Evaluation, evaluate
from pipeline.stages.measured import measure
from pipeline.stages.train import train
from pipeline.study import origins
from pipeline.study.params import read_in_stage
from pipeline.study.run import Run, folder, runs
from pipeline.study.schema import Study
from pipeline.workers import Engine
from pipeline.workers.local import Item, Workers, each


@dataclass
class Part:
    """One loss of one study: all its seeds, and what has become of them."""

    study: Study
    loss: str
    untrained: bool = False
    unattacked: bool = False
    evaluations: list[Evaluation] = field(default_factory=list)
    error: UserError | None = None

    def __post_init__(self) -> None:
        self.runs = runs(self.study, self.loss)
        self.untrained = not is_trained(self.runs)

    def done(self) -> float:
        """Tasks that are finished; a training in its middle counts by its epochs, an attack by its steps."""
        epochs = sum(min(1.0, commands.epochs_done(run) / run.epochs) for run in self.runs) if self.untrained else 0
        return epochs + sum(e.done / e.steps for e in self.evaluations)


def run(study_names: Sequence[str], engine: Engine) -> list[str]:
    """Train and attack everything of some studies that is not up to date; returns a line for each: what was done.

    Raises:
        UserError: a mistake in a study or the options, or a run failed; the others are finished then.
    """
    engine.check()
    record = Record(study_names)
    studies = [read_in_stage(name) for name in study_names]
    for study in studies:
        commands.prepare(study.name)
        before.check(study)
        check_device(Run(study, next(iter(study.losses)), study.training.seeds[0]), engine)
    record.prepared()
    parts = [Part(study, name) for study in studies for name in study.losses]
    for part in parts:
        part.unattacked = any(used.untrained for used in needed(part, parts)) or not is_attacked(part.runs)
    work(parts, engine)
    for part in parts:
        if part.unattacked and not part.error:
            tracking.mirror(part.study, part.loss)
    record.write(finished(studies, parts))
    refuse_failures(parts)
    return [summary(study, [part for part in parts if part.study is study]) for study in studies]


def finished(studies: Sequence[Study], parts: Sequence[Part]) -> Iterator[str]:
    """The stages of DVC whose outputs are complete."""
    yield from (f"prepare@{study.name}" for study in studies)
    for part in parts:
        if not part.error:
            yield from (f"{stage}@{part.study.name}-{part.loss}" for stage in ("train", "attack"))


def needed(part: Part, parts: Sequence[Part]) -> Iterator[Part]:
    """What an attack on one loss reads: its own training, and that of `standard`, from which transfer starts."""
    return (one for one in parts if one.study is part.study and one.loss in (part.loss, part.runs[0].source.loss_name))


def work(parts: Sequence[Part], engine: Engine) -> None:
    untrained, unattacked = ([p for p in parts if p.untrained], [p for p in parts if p.unattacked])
    if not unattacked:
        return
    training = [run for part in untrained for run in part.runs]
    label = ", ".join(dict.fromkeys(part.study.name for part in parts))
    total = len(training) + sum(len(part.runs) for part in unattacked)
    shown = progress(label, total, lambda: sum(part.done() for part in parts), "tasks")
    with commands.working(engine, shown, training) as workers:
        attempt_all(workers, before.rehearse, [(part, part.runs[0]) for part in untrained])
        refuse_failures(untrained, "nothing was trained")
        attempt_all(workers, train, [(part, run) for part in untrained for run in part.runs])
        attempt_all(workers, measure, [(part, part.runs[0]) for part in untrained if not part.error])
        for part in untrained:
            if not part.error:
                commands.publish_training(part.runs)
        for part in unattacked:
            plan_attack(part)
        attempt_all(workers, evaluate, [(part, e) for part in unattacked for e in part.evaluations])
        for part in unattacked:
            if not part.error:
                commands.publish_attack(part.evaluations)


def attempt_all(workers: Workers, task: Callable[[Item], object], todo: Sequence[tuple[Part, Item]]) -> None:
    """Run a task of every item: what is finished is only checked, what fails stops no other."""
    of = {id(item): part for part, item in todo}
    for item, future in each(workers, task, [item for _, item in todo]):
        try:
            future.result()
        except UserError as error:
            of[id(item)].error = of[id(item)].error or error


def plan_attack(part: Part) -> None:
    """The attacks on the runs of one loss; none where its training, or `standard`, which they need, has failed."""
    if part.error:
        return
    some = [Evaluation(run) for run in part.runs]
    try:
        for evaluation in some:
            _ = evaluation.fingerprint
    except UserError as error:
        part.error = error
        return
    part.evaluations = some


def refuse_failures(parts: Sequence[Part], rest: str = "") -> None:
    """Raise the first error of some parts and name the other failed ones. `rest`: what became of those that did not."""
    if failed := [part for part in parts if part.error]:
        others = ", ".join(part.loss for part in failed[1:])
        rest = rest or ("every other loss is finished" if len(failed) < len(parts) else "no loss is finished")
        raise UserError(f"{failed[0].error}{f' (and {others} failed too)' * bool(others)}; {rest}")


def summary(study: Study, parts: Sequence[Part]) -> str:
    trained, attacked = sum(part.untrained for part in parts), sum(part.unattacked for part in parts)
    if not attacked:
        return f"{study.name}: all {len(parts)} losses are up to date"
    done = f"{trained} losses trained, {attacked} attacked"
    return f"{study.name}: {done}; the report and DVC's record: dvc repro report@{study.name}"


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
