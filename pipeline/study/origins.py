"""What each kind of result is made from: which settings and files count for it; which code, says `code`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline import layout, models
from pipeline.fingerprint import Origin, code_of, files_of, hash_of_file
from pipeline.study.code import modules, templates

if TYPE_CHECKING:
    from pipeline.study.run import Run
    from pipeline.study.schema import Study


def of_training(run: Run) -> Origin:
    files = [layout.data(run.study.name), *models.sources(run.study.model)]
    return origin(run, "train", run.settings, files)


def of_attack(run: Run, trained: Iterable[Path]) -> Origin:
    """The attack on a trained run: its settings, the data, and the weights.

    Args:
        run: that is attacked.
        trained: the checked folders of its own training and of that of its source of transfer.
    """
    attack = run.study.attack.model_dump(mode="json")
    weights = [folder / layout.BEST for folder in trained]
    settings = {"attack": attack, "model": run.study.model, "seed": run.seed}
    return origin(run, "attack", settings, [layout.data(run.study.name), *weights])


def of_checkpoint(study: Study, name: str) -> Origin:
    """The attack on a net trained elsewhere: its weights and code, the data, the study's attacks and own net."""
    from pipeline.study.run import runs

    given, run = study.checkpoints[name], runs(study, "standard")[0]
    files = [layout.data(study.name), *files_of("checkpoint", vars(given))]
    code, versions = code_of(*modules("checkpoint", study.parts, name))
    return Origin(
        settings={"attack": study.attack.model_dump(mode="json"), "model": study.model, **given.model_dump(mode="json")}
        | {"checkpoint": name},
        data={str(file): hash_of_file(file) for file in files},
        code=code,
        versions={**versions, "device": run.device.type},
    )


def of_measured(run: Run) -> Origin:
    files = [layout.data(run.study.name), *models.sources(run.study.model)]
    return origin(run, "measured", run.settings, files)


def origin(run: Run, stage: str, settings: dict[str, Any], files: Iterable[Path]) -> Origin:
    code, versions = code_of(*modules(stage, run.study.parts, run.loss_name))
    hashes = {str(file): hash_of_file(file) for file in files}
    return Origin(settings=settings, data=hashes, code=code, versions={**versions, "device": run.device.type})


def of_report(study: Study, losses: Sequence[str], sealed: Iterable[Path]) -> Origin:
    """A report: the study, the manifests of the results that it is made from, and everything that writes it."""
    files = {str(file): file for file in (*sealed, layout.data(study.name))}
    files |= {f"pipeline/report/{file.name}": file for file in templates()}
    code, versions = code_of(*modules("report", study.parts))
    settings = {**settings_of(study), "reported": list(losses)}  # in this order
    hashes = {name: hash_of_file(file) for name, file in files.items()}
    return Origin(settings=settings, data=hashes, code=code, versions=versions)


def settings_of(study: Study) -> dict[str, Any]:
    """Everything that a study states, but how its strengths were searched."""
    settings = study.model_dump(mode="json", exclude={"search", "losses"})
    return {**settings, "losses": {name: study.stated(name) for name in study.losses}}
