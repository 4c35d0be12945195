"""What the commands prepare, train, attack, run and report do, from top to bottom.

One runner for one loss or for all: `train` and `attack` make one stage of one loss, `run` makes both of all losses of
some studies at once, so that no core waits for the end of a stage. Work lands in .state/FINGERPRINT, where it resumes.
When all seeds of a loss are finished, their folders are copied to the stage's output, if nothing has changed meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import TypeVar

from inputgrad.errors import UserError
from pipeline import data, fingerprint, layout, store, tracking
from pipeline.dvc import Record
from pipeline.progress import progress
from pipeline.results.opened import OpenStudy
from pipeline.stages import before, measured
from pipeline.stages.attack import Evaluation, evaluate
from pipeline.stages.train import train as train_run
from pipeline.study import origins
from pipeline.study.params import read_in_stage
from pipeline.study.read import read_study
from pipeline.study.run import Run, runs
from pipeline.study.schema import Study
from pipeline.tracking.live import following
from pipeline.workers import Engine
from pipeline.workers.local import Item, Workers, cores, each

Unfinished = TypeVar("Unfinished", Run, Evaluation)


@dataclass(eq=False)
class Part:
    """One loss of one study: its seeds, which of its stages are to be made, and what has become of them."""

    study: Study
    loss: str
    untrained: bool = False
    unattacked: bool = False
    evaluations: list[Evaluation] = field(default_factory=list)
    error: UserError | None = None

    def __post_init__(self) -> None:
        self.runs = runs(self.study, self.loss)

    @property
    def total(self) -> int:
        """Epochs and attacks of all its seeds."""
        return sum(self.untrained * run.epochs + self.unattacked * Evaluation(run).steps for run in self.runs)

    @property
    def done(self) -> int:
        epochs = sum(map(epochs_done, self.runs)) if self.untrained else 0
        return epochs + sum(evaluation.done for evaluation in self.evaluations)


def prepare(study_name: str) -> Path:
    """data/STUDY.npz"""
    return data.prepare(study_name, read_in_stage(study_name).data)


def train(study_name: str, loss_name: str, jobs: int | None = None) -> Path:
    """experiments/STUDY/runs/LOSS/train: a folder per seed; next to it `measured`. Seeds train side by side."""
    study = read_in_stage(study_name)
    part = Part(study, loss_name, untrained=True)
    for run in part.runs:
        _ = run.fingerprint  # of the data as they are now: what is replaced from here on is noticed
    before.check(study)
    return make(part, "train", jobs)


def attack(study_name: str, loss_name: str, jobs: int | None = None) -> Path:
    """experiments/STUDY/runs/LOSS/attack: outcomes, descriptors and gradients of every seed."""
    return make(Part(read_in_stage(study_name), loss_name, unattacked=True), "attack", jobs)


def make(part: Part, stage: str, jobs: int | None) -> Path:
    """The output of one stage of one loss, also where every seed is finished: DVC has removed it before."""
    work([part], Engine(jobs=jobs))
    if part.error:
        raise part.error
    return layout.stage(part.study.name, part.loss, stage)


def run(study_names: Sequence[str], engine: Engine) -> list[str]:
    """Make all data, trainings and attacks of some studies that are not up to date; returns a line for each study.

    DVC is told, so that `dvc repro` skips what is finished.

    Raises:
        UserError: a mistake in a study or the options, or a loss failed; the others are finished then.
    """
    engine.check()
    record = Record(study_names)
    studies = [read_in_stage(name) for name in study_names]
    for study in studies:
        data.prepare(study.name, study.data)
        before.check(study)
        check_device(Run(study, next(iter(study.losses)), study.training.seeds[0]), engine)
    record.prepared()
    parts = [Part(study, name) for study in studies for name in study.losses]
    for part in parts:
        part.untrained = not is_trained(part.runs)
    for part in parts:
        part.unattacked = any(used.untrained for used in needed(part, parts)) or not is_attacked(part.runs)
    work(parts, engine)
    record.write(finished(studies, parts))
    refuse_failures(parts)
    return [summary(study, [part for part in parts if part.study is study]) for study in studies]


def report(study_name: str) -> Path:
    """experiments/STUDY/report"""
    from pipeline.report import write

    opened = OpenStudy(read_in_stage(study_name))
    target = write(opened, list(opened.study.losses))
    tracking.catch_up([study_name], {study_name: opened})
    return target


def work(parts: Sequence[Part], engine: Engine) -> None:
    """Rehearse, train, measure and publish; attack and publish; show it in MLflow. A loss that fails stops no other.

    Raises:
        UserError: a step of a training fails: then nothing is trained; or something has changed meanwhile.
    """
    untrained, unattacked = ([p for p in parts if p.untrained], [p for p in parts if p.unattacked])
    with ExitStack() as stack:

        @cache
        def workers() -> Workers:
            """Started for the first task: where all is finished, there is none."""
            return stack.enter_context(working(engine, parts))

        todo = left(untrained, lambda part: part.runs)
        attempt_all(
            workers, before.rehearse, [(part, part.runs[0]) for part in dict.fromkeys(part for part, _ in todo)]
        )
        refuse_failures(untrained, "nothing was trained")
        attempt_all(workers, train_run, todo)
        trained = [part for part in untrained if not part.error]
        attempt_all(workers, measured.measure, [(p, p.runs[0]) for p in trained if not measured.is_known(p.runs[0])])
        for part in trained:
            if not part.error:
                publish_training(part.runs)

        attempt_all(workers, evaluate, left([part for part in unattacked if not part.error], plan_attack))
        for part in unattacked:
            if not part.error:
                publish_attack(part.evaluations)
    for part in parts:
        if (part.untrained or part.unattacked) and not part.error:
            tracking.mirror(part.study, part.loss)


@contextmanager
def working(engine: Engine, parts: Sequence[Part]) -> Iterator[Workers]:
    """Workers, MLflow for what is trained, and a progress display.

    Workers come first: they may be forks of this process, which must not have threads of its own by then.
    """
    import torch._dynamo  # noqa: F401  the optimiser imports it (1.5 s): once here, not in every worker

    busy = [part for part in parts if part.untrained or part.unattacked]
    if engine.name == "local":
        engine = replace(engine, jobs=min(engine.jobs or cores(), sum(len(part.runs) for part in busy)))
    studies = ", ".join(dict.fromkeys(part.study.name for part in busy))
    label = f"{studies} {busy[0].loss}" if len(busy) == 1 else studies
    unit = " and ".join(["epochs"] * any(p.untrained for p in busy) + ["attacks"] * any(p.unattacked for p in busy))
    shown = progress(label, sum(part.total for part in busy), lambda: sum(part.done for part in busy), unit)
    with engine.open() as workers, ExitStack() as threads:
        for part in busy:
            if part.untrained:
                threads.enter_context(following(part.study, part.loss, part.runs))
        threads.enter_context(shown)
        yield workers


def left(parts: Sequence[Part], items: Callable[[Part], Sequence[Unfinished]]) -> list[tuple[Part, Unfinished]]:
    """What is not finished of some parts; a part of which that cannot be told has failed."""
    found: list[tuple[Part, Unfinished]] = []
    for part in parts:
        try:
            found += [(part, item) for item in items(part) if not store.is_whole(item.state, item.fingerprint)]
        except UserError as error:
            part.error = error
    return found


def plan_attack(part: Part) -> list[Evaluation]:
    """The attacks on the runs of one loss.

    Raises:
        UserError: its training, or that of `standard`, from which transfer starts, is not there.
    """
    planned = [Evaluation(run) for run in part.runs]
    for evaluation in planned:
        _ = evaluation.fingerprint
    part.evaluations = planned
    return planned


def attempt_all(
    workers: Callable[[], Workers], task: Callable[[Item], object], todo: Sequence[tuple[Part, Item]]
) -> None:
    """Run a task of every item. What fails stops no other loss; of its own loss no further item is begun."""
    if not todo:
        return
    of = {id(item): part for part, item in todo}
    for item, future in each(workers(), task, (item for part, item in todo if not part.error)):
        try:
            future.result()
        except UserError as error:
            of[id(item)].error = of[id(item)].error or error


def publish_training(todo: Sequence[Run]) -> None:
    """Copy the finished runs of one loss to their stage's output, and what is measured of the loss to another."""
    study, loss = todo[0].study, todo[0].loss_name
    results = {
        layout.stage(study.name, loss, "train"): {f"seed-{run.seed}": run.state for run in todo},
        layout.stage(study.name, loss, "measured"): {"": measured.state(todo[0])},
    }
    publish("train", todo, results)


def publish_attack(todo: Sequence[Evaluation]) -> None:
    first = todo[0].run
    results = {layout.stage(first.study.name, first.loss_name, "attack"): {f"seed-{e.run.seed}": e.state for e in todo}}
    publish("attack", [evaluation.run for evaluation in todo], results)


def publish(stage: str, todo: Sequence[Run], results: Mapping[Path, Mapping[str, Path]]) -> None:
    """Copy finished state folders to the outputs of a stage: published folder -> name below it -> state folder.

    Nothing that does not belong to study, code and data as they are now; the finished work is kept.
    """
    fingerprint.read_again()
    study = read_study(todo[0].study.name)
    for run in todo:
        run.refuse_changes(stage, study)
    for target, parts in results.items():
        store.publish(parts, target)


def epochs_done(run: Run) -> int:
    try:
        return max(0, (run.state / layout.HISTORY).read_text(encoding="utf-8").count("\n") - 1)
    except (FileNotFoundError, UserError):
        return 0


def is_trained(todo: Sequence[Run]) -> bool:
    try:
        store.opened(layout.stage(todo[0].study.name, todo[0].loss_name, "measured"), origins.of_measured(todo[0]), "")
        return all(run.opened("train") for run in todo)
    except UserError:  # missing, damaged or older: this command makes it again
        return False


def is_attacked(todo: Sequence[Run]) -> bool:
    try:
        return all(run.opened("attack") for run in todo)
    except UserError:
        return False


def needed(part: Part, parts: Sequence[Part]) -> Iterator[Part]:
    """What an attack on one loss reads: its own training, and that of `standard`, from which transfer starts."""
    return (one for one in parts if one.study is part.study and one.loss in (part.loss, part.runs[0].source.loss_name))


def finished(studies: Sequence[Study], parts: Sequence[Part]) -> Iterator[str]:
    """The stages of DVC whose outputs are complete."""
    yield from (f"prepare@{study.name}" for study in studies)
    for part in parts:
        if not part.error:
            yield from (f"{stage}@{part.study.name}-{part.loss}" for stage in ("train", "attack"))


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
