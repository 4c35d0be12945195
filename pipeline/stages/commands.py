"""What each DVC stage does: find or make the runs, and publish their folder if nothing has changed meanwhile."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from inputgrad.errors import UserError
from pipeline import data, fingerprint, store
from pipeline.progress import progress
from pipeline.results.opened import OpenStudy
from pipeline.study.params import read_in_stage
from pipeline.study.read import read_study
from pipeline.study.run import Run, folder, runs
from pipeline.workers import Engine
from pipeline.workers.local import Workers, cores, each

if TYPE_CHECKING:
    from pipeline.stages.attack import Evaluation


def prepare(study_name: str) -> Path:
    study = read_in_stage(study_name)
    return data.prepare(study_name, study.data)


@contextmanager
def working(engine: Engine, shown: AbstractContextManager[None], training: Sequence[Run] = ()) -> Iterator[Workers]:
    """Workers, MLflow for runs that are trained, and a progress display.

    Workers come first: they may be forks of this process, which must not have threads of its own by then.
    """
    import torch._dynamo  # noqa: F401  the optimiser imports it (1.5 s): once here, not in every worker

    from pipeline.tracking.live import following

    with engine.open() as workers, ExitStack() as threads:
        for study, name in dict.fromkeys((run.study.name, run.loss_name) for run in training):
            some = [run for run in training if (run.study.name, run.loss_name) == (study, name)]
            threads.enter_context(following(some[0].study, name, some))
        threads.enter_context(shown)
        yield workers


def train(study_name: str, loss_name: str, jobs: int | None = None) -> Path:
    """experiments/STUDY/runs/LOSS/train: a folder per seed; next to it `measured`. Seeds train side by side."""
    from pipeline import tracking
    from pipeline.stages import before
    from pipeline.stages import train as loop

    study = read_in_stage(study_name)
    before.check(study)
    todo = runs(study, loss_name)
    for run in todo:
        _ = run.fingerprint  # what is missing is said before any process starts
    if left := [run for run in todo if not store.is_whole(run.state, run.fingerprint)]:
        total, label = sum(run.epochs for run in todo), f"train {study_name} {loss_name}"
        shown = progress(label, total, lambda: sum(map(epochs_done, todo)), "epochs")
        with working(Engine(jobs=min(jobs or cores(), len(left))), shown, todo) as workers:
            for _, future in each(workers, loop.train, left):
                future.result()
    target = publish_training(todo)
    tracking.mirror(study, loss_name)
    return target


def publish_training(todo: Sequence[Run]) -> Path:
    """Copy the finished runs of one loss to their stage's output, and what is measured of the loss to another."""
    from pipeline.stages.measured import measure

    study, loss_name, measured = todo[0].study, todo[0].loss_name, measure(todo[0])
    results = {
        folder(study, loss_name, "train"): {f"seed-{run.seed}": run.state for run in todo},
        folder(study, loss_name, "measured"): {"": measured},
    }
    publish("train", todo, results)
    return folder(study, loss_name, "train")


def publish(stage: str, todo: Sequence[Run], results: Mapping[Path, Mapping[str, Path]]) -> None:
    """Copy finished state folders to the outputs of a stage: published folder -> name below it -> state folder."""
    refuse_changes(todo, stage)
    for target, parts in results.items():
        store.publish(parts, target)


def refuse_changes(todo: Sequence[Run], stage: str) -> None:
    """Publish nothing that does not belong to study, code and data as they are now; the finished work is kept."""
    fingerprint.read_again()
    now = read_study(todo[0].study.name)
    for run in todo:
        run.refuse_changes(stage, now)


def epochs_done(run: Run) -> int:
    try:
        return max(0, (run.state / "history.csv").read_text(encoding="utf-8").count("\n") - 1)
    except FileNotFoundError:
        return 0


def attack(study_name: str, loss_name: str, jobs: int | None = None) -> Path:
    """experiments/STUDY/runs/LOSS/attack: outcomes, descriptors and gradients of every seed."""
    from pipeline import tracking
    from pipeline.stages.attack import Evaluation, evaluate

    study = read_in_stage(study_name)
    todo = [Evaluation(run) for run in runs(study, loss_name)]
    if left := [e for e in todo if not store.is_whole(e.state, e.fingerprint)]:
        total, label = sum(e.steps for e in todo), f"attack {study_name} {loss_name}"
        shown = progress(label, total, lambda: sum(e.done for e in todo), "attacks")
        with working(Engine(jobs=min(jobs or cores(), len(left))), shown) as workers:
            for _, future in each(workers, evaluate, left):
                future.result()
    target = publish_attack(todo)
    tracking.mirror(study, loss_name)
    return target


def publish_attack(todo: Sequence[Evaluation]) -> Path:
    runs = [evaluation.run for evaluation in todo]
    target = folder(runs[0].study, runs[0].loss_name, "attack")
    publish("attack", runs, {target: {f"seed-{e.run.seed}": e.state for e in todo}})
    return target


def report(study_name: str) -> Path:
    from pipeline import tracking
    from pipeline.report import write

    opened = OpenStudy(read_in_stage(study_name))
    target = write(opened, list(opened.study.losses))
    tracking.catch_up([study_name], {study_name: opened})
    return target


def where(opened: OpenStudy) -> str:
    """Where the page of a study is; one that is older than the study or its results is not shown as theirs."""
    page = opened.study.folder / "report" / "report.html"
    if not page.exists():
        return f"{page} is not written yet; run: dvc repro"
    try:
        opened.report()
    except UserError as error:
        return f"{page} is not that of the study as it stands: {error}"
    return page.resolve().as_uri()
