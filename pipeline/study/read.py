"""experiments/NAME.yaml -> a study. Every error names the file, the key and the nearest valid name, in one line."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from inputgrad import losses, registry
from inputgrad.errors import UserError, nearest
from inputgrad.losses import Loss
from inputgrad.robustness.threat import Settings
from pipeline.study import checks
from pipeline.study.schema import Study, study_file
from pipeline.study.validation import known, read_yaml, validated

PARAMS = Path("params.yaml")


def active() -> tuple[list[str], list[str]]:
    """The studies and the losses that params.yaml names, in its order."""

    class Params(Settings):
        studies: Annotated[list[str], Field(min_length=1)]
        losses: Annotated[list[str], Field(min_length=1)]

    params = validated(Params, read_yaml(PARAMS), PARAMS)
    for loss in params.losses:
        known(PARAMS, "losses", "inputgrad.losses", loss)
    if "standard" not in params.losses:
        raise UserError(f"{PARAMS}: losses: add 'standard', the others are compared with it")
    return params.studies, params.losses


def read_study(name: str) -> Study:
    """The study of that name, checked against the code and the data set it uses."""
    file = study_file(name)
    if not file.exists():
        known_studies = [f.stem for f in Path("experiments").glob("*.yaml")]
        raise UserError(f"{file} is missing: no study '{name}'; {nearest(name, known_studies)}")
    raw = read_yaml(file)
    for key in ("data", "model"):
        if isinstance(raw.get(key), dict):
            raw[key] = options(file, key, raw[key])
    for section, key in checks.ATTACKS:
        for attack, knobs in nested(raw, section, key).items():
            known(file, f"{section}.{key}", "inputgrad.attacks", attack)
            accepted = registry.settings_of(registry.module("inputgrad.attacks", attack).perturb)
            validated(accepted, knobs or {}, file, f"{section}.{key}.{attack}")
    if isinstance(raw.get("losses"), dict):
        raw["losses"] = {n: one_loss(file, n, knobs) for n, knobs in raw["losses"].items()}
    study = validated(Study, {"name": name, **raw}, file)
    checks.check(study)
    return study


def nested(raw: Any, *keys: str) -> dict[str, Any]:
    """The mapping below `keys`, empty where there is none: what has the wrong type is reported by its model."""
    for key in keys:
        raw = raw.get(key) if isinstance(raw, dict) else None
    return raw if isinstance(raw, dict) else {}


def options(file: Path, key: str, raw: dict[str, Any]) -> dict[str, Any]:
    """`data:` or `model:` of a study, with the defaults of the function it names filled in."""
    package, function = {"data": ("pipeline.data", "load"), "model": ("pipeline.models", "build")}[key]
    name = raw.get("name")
    if not isinstance(name, str):
        raise UserError(f"{file}: {key}.name is missing; {nearest('', registry.names(package))}")
    known(file, f"{key}.name", package, name)
    accepted = registry.settings_of(getattr(registry.module(package, name), function))
    rest = {k: v for k, v in raw.items() if k != "name"}
    return {"name": name, **validated(accepted, rest, file, key).model_dump(mode="json")}


def one_loss(file: Path, name: str, knobs: Any) -> Loss:
    """One entry of `losses:`."""
    known(file, "losses", "inputgrad.losses", name)
    return validated(losses.load(name), {} if knobs is None else knobs, file, f"losses.{name}")


def check_all() -> list[Study]:
    """Every active study, complete: the project is ready for `dvc repro`."""
    if subprocess.run(["git", "rev-parse", "--git-dir"], capture_output=True).returncode:
        raise UserError("this folder is not in a git repository, which DVC needs; fix: git init")
    names, wanted = active()
    studies = [read_study(name) for name in names]
    for study in studies:
        for loss in wanted:
            if loss not in study.losses:
                raise UserError(
                    f"{study.file}: losses.{loss} is missing, {PARAMS} lists it;"
                    f" add a line '{loss}: {{...}}' or remove it from {PARAMS}"
                )
    return studies
