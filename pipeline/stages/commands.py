"""What each DVC stage does: find or make the runs, then publish their folder whole."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from inputgrad import files
from pipeline import data, store
from pipeline.progress import progress
from pipeline.study.read import active, read_study
from pipeline.study.run import Run, folder, runs
from pipeline.workers import Engine
from pipeline.workers.local import Workers, cores, each

if TYPE_CHECKING:
    from pipeline.stages.attack import Evaluation


def prepare(study_name: str) -> Path:
    """data/STUDY.npz"""
    study = read_study(study_name)
    options = {k: v for k, v in study.data.items() if k != "name"}
    return data.prepare(study_name, study.data["name"], options)


@contextmanager
def working(engine: Engine, shown: AbstractContextManager[None], training: Sequence[Run] = ()) -> Iterator[Workers]:
    """Workers, MLflow for runs that are trained, and a progress display.

    Workers come first: they may be forks of this process, which must not have threads of its own by then.
    """
    import torch._dynamo  # noqa: F401  the optimiser imports it (1.5 s): once here, not in every worker

    from pipeline import tracking

    with engine.open() as workers, ExitStack() as threads:
        for name in dict.fromkeys(run.loss_name for run in training):
            some = [run for run in training if run.loss_name == name]
            threads.enter_context(tracking.following(some[0].study, name, some))
        threads.enter_context(shown)
        yield workers


def train(study_name: str, loss_name: str, jobs: int | None = None) -> Path:
    """experiments/STUDY/runs/LOSS/train: a folder per seed and step_time.json. Seeds train side by side."""
    from pipeline import tracking
    from pipeline.stages import train as room

    study = read_study(study_name)
    todo = runs(study, loss_name)
    for run in todo:
        _ = run.fingerprint  # what is missing is said before any process starts
    shown = progress(
        f"train {study_name} {loss_name}", sum(r.epochs for r in todo), lambda: sum(map(epochs_done, todo)), "epochs"
    )
    with working(Engine(jobs=min(jobs or cores(), len(todo))), shown, todo) as workers:
        for _, future in each(workers, room.train, todo):
            future.result()
    target = publish_training(todo)
    tracking.mirror(study, loss_name)
    return target


def publish_training(todo: list[Run]) -> Path:
    """Copy the finished runs of one loss to their stage's output, with what the loss costs and whether it acts."""
    from pipeline.stages import step_time
    from pipeline.stages.audit import of_study

    study, loss_name = todo[0].study, todo[0].loss_name
    target = folder(study, loss_name, "train")
    store.publish({f"seed-{run.seed}": run.state for run in todo}, target)
    step_time.write(todo[0], target / "cost.json")
    dataset = data.read(study.name, study.data["name"], ("train",))
    files.write_json(target / "audit.json", of_study(study, study.loss(loss_name), dataset).as_json())
    return target


def epochs_done(run: Run) -> int:
    """Epochs a run has behind it, from its history file."""
    try:
        return max(0, (run.state / "history.csv").read_text().count("\n") - 1)
    except FileNotFoundError:
        return 0


def attack(study_name: str, loss_name: str, jobs: int | None = None) -> Path:
    """experiments/STUDY/runs/LOSS/attack: outcomes, descriptors and gradients of every seed."""
    from pipeline import tracking
    from pipeline.stages import attack as room

    study = read_study(study_name)
    todo = [room.Evaluation(run) for run in runs(study, loss_name)]
    for evaluation in todo:
        _ = evaluation.fingerprint
    shown = progress(
        f"attack {study_name} {loss_name}", sum(e.steps for e in todo), lambda: sum(e.done for e in todo), "attacks"
    )
    with working(Engine(jobs=min(jobs or cores(), len(todo))), shown) as workers:
        for _, future in each(workers, room.evaluate, todo):
            future.result()
    target = publish_attack(todo)
    tracking.mirror(study, loss_name)
    return target


def publish_attack(todo: list[Evaluation]) -> Path:
    """Copy the finished evaluations of one loss to their stage's output; attacked.json says which they are."""
    target = folder(todo[0].run.study, todo[0].run.loss_name, "attack")
    store.publish({f"seed-{e.run.seed}": e.state for e in todo}, target)
    files.write_json(target / "attacked.json", {f"seed-{e.run.seed}": e.fingerprint for e in todo})
    return target


def report(study_name: str) -> Path:
    """experiments/STUDY/report"""
    from pipeline import tracking
    from pipeline.report import write

    study = read_study(study_name)
    target = write(study, active()[1])
    tracking.mirror_report(study)
    return target


def where() -> list[Path]:
    """The report of every active study."""
    return [read_study(name).folder / "report" / "report.html" for name in active()[0]]
