"""What each kind of result is made from: which settings, files and modules count for it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline import data, models
from pipeline.fingerprint import Origin, code_of, hash_of_file

if TYPE_CHECKING:
    from pipeline.study.run import Run
    from pipeline.study.schema import Study


REPORT = ("pipeline.report", "pipeline.report.page")
"""The modules that write a report."""


def of_training(run: Run) -> Origin:
    files = [data.path(run.study.name), *models.sources(run.study.model)]
    return origin(run, "train", run.settings, files)


def of_attack(run: Run) -> Origin:
    """The attack on a trained run: its settings, the data, the weights of the run and of the source of transfer."""
    attack = run.study.attack.model_dump(mode="json")
    weights = [one.opened("train") / "best.pt" for one in (run, run.source)]
    settings = {"attack": attack, "model": run.study.model, "seed": run.seed}
    return origin(run, "attack", settings, [data.path(run.study.name), *weights])


def of_checkpoint(study: Study, name: str) -> Origin:
    """The attack on a net trained elsewhere: its weights and code, the data, the study's attacks and own net."""
    from pipeline.study.run import runs

    given, run = study.checkpoints[name], runs(study, "standard")[0]
    used = ["pipeline.stages.checkpoint", *modules(run, "attack")]
    used += [given.model.partition(":")[0]] if given.model is not None else []
    files = [data.path(study.name), *([Path(given.weights)] if given.weights is not None else [])]
    code, versions = code_of(*used)
    return Origin(
        settings={"attack": study.attack.model_dump(mode="json"), "model": study.model, **given.model_dump(mode="json")}
        | {"checkpoint": name},
        data={str(file): hash_of_file(file) for file in files},
        code=code,
        versions={**versions, "device": run.device.type},
    )


def of_measured(run: Run) -> Origin:
    files = [data.path(run.study.name), *models.sources(run.study.model)]
    return origin(run, "measured", run.settings, files)


def origin(run: Run, stage: str, settings: dict[str, Any], files: Iterable[Path]) -> Origin:
    code, versions = code_of(*modules(run, stage))
    hashes = {str(file): hash_of_file(file) for file in files}
    return Origin(settings=settings, data=hashes, code=code, versions={**versions, "device": run.device.type})


def modules(run: Run, stage: str) -> tuple[str, ...]:
    """The modules with which a stage begins, for a run: what these import is found from them."""
    study, attack = run.study, run.study.attack
    used = (
        f"pipeline.stages.{stage}",
        "pipeline.study.run",
        study.model_function.__module__,
        study.data_module.__name__,
    )
    if stage != "attack":
        return (*used, type(run.loss).__module__)
    named = sorted({*attack.attacks, *attack.at_epsilon, "pgd"})  # the masking sheet's own probes are PGD
    return (*used, *(attack.module(name).__name__ for name in named))


def of_report(study: Study, losses: Sequence[str], sealed: Iterable[Path]) -> Origin:
    """A report: the study, the manifests of the results that it is made from, and everything that writes it."""
    files = {str(file): file for file in (*sealed, data.path(study.name))}
    files |= {f"pipeline/report/{file.name}": file for file in templates()}
    code, versions = code_of(*REPORT, study.model_function.__module__, study.data_module.__name__)
    settings = {**settings_of(study), "reported": list(losses)}  # in this order
    hashes = {name: hash_of_file(file) for name, file in files.items()}
    return Origin(settings=settings, data=hashes, code=code, versions=versions)


def settings_of(study: Study) -> dict[str, Any]:
    """Everything that a study states, but how its strengths were searched."""
    settings = study.model_dump(mode="json", exclude={"search", "losses"})
    return {**settings, "losses": {name: study.stated(name) for name in study.losses}}


def templates() -> list[Path]:
    """What a report is written with besides code."""
    here = Path(__file__).parents[1] / "report"
    return sorted(file for kind in ("*.j2", "*.css") for file in here.glob(kind))
