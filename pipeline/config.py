"""A study, typed and frozen. Every error names the file, the key and the nearest valid name, in one line."""

from __future__ import annotations

import subprocess
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from pipeline import losses, meaning, rooms
from pipeline.ascent import BallNorm
from pipeline.errors import UserError, nearest
from pipeline.losses import Loss
from pipeline.validation import known, read_yaml, validated

PARAMS = Path("params.yaml")

PositiveInt = Annotated[int, Field(gt=0)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Attacks = Annotated[dict[str, dict[str, Any]], Field(min_length=1)]
"""Name -> knobs, in the order in which they are run."""


class Settings(BaseModel):
    """Strict and frozen: an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Training(Settings):
    """How every loss of the study is trained; all of them alike."""

    epochs: PositiveInt
    batch_size: PositiveInt
    learning_rate: Positive
    weight_decay: NonNegative = 0.0
    seeds: Annotated[list[Annotated[int, Field(ge=0, lt=2**31)]], Field(min_length=1)]
    device: Literal["auto", "cpu", "cuda"] = "auto"

    @field_validator("seeds")
    @classmethod
    def _distinct(cls, seeds: list[int]) -> list[int]:
        if len(set(seeds)) < len(seeds):
            raise ValueError(f"seeds {seeds} repeat; every seed counts once")
        return seeds


class ThreatModel(Settings):
    """What an attacker may change: a ball of a norm. `epsilon` is the headline radius, `grid` the curve's."""

    norm: BallNorm
    epsilon: Positive
    grid: Annotated[list[NonNegative], Field(min_length=1)]

    @field_validator("grid")
    @classmethod
    def _increasing(cls, grid: list[float]) -> list[float]:
        if sorted(set(grid)) != grid:
            raise ValueError(f"{grid} must increase from number to number")
        return grid

    @property
    def radii(self) -> list[float]:
        """The grid with the headline ε in its place."""
        return sorted({*self.grid, self.epsilon})


class Attack(ThreatModel):
    """The headline threat model, a secondary one, and the attacks with their knobs, cheap ones first.

    attacks: run at every ε. at_epsilon: dear ones, run at the headline ε of each threat model only; an attack named in
    both has these knobs there. examples: how many examples of the test split are attacked; None: all.
    """

    secondary: ThreatModel | None = None
    attacks: Attacks = {"noise": {}, "fgsm": {}, "pgd": {}}
    at_epsilon: dict[str, dict[str, Any]] = {}
    examples: PositiveInt | None = None

    @property
    def threat_models(self) -> list[ThreatModel]:
        """The headline threat model first."""
        return [self] if self.secondary is None else [self, self.secondary]


class Search(Settings):
    """How `pipeline search` looks for strengths: with the same budget for every loss of the study.

    trials: of every loss. epochs: of a trial; by default as many as a run of the study has.
    max_clean_drop: how far the clean score may lie below that of `standard`, in the score's own units (0.02: two points
        of accuracy; for a regression an RMSE higher by 0.02).
    attacks: that judge a trial at the study's headline ε on the validation split, the worst case of them; None:
        those of `pipeline.search.objective.judges`.
    ranges: loss -> knob -> [low, high], inside the range that the loss's own file gives.
    """

    trials: PositiveInt = 30
    epochs: PositiveInt | None = None
    max_clean_drop: NonNegative = 0.02
    attacks: Attacks | None = None
    ranges: dict[str, dict[str, tuple[float, float]]] = {}


class Study(Settings):
    """experiments/NAME.yaml"""

    name: str
    data: dict[str, Any]
    model: dict[str, Any]
    training: Training
    losses: dict[str, Loss]
    attack: Attack
    search: Search = Search()

    @property
    def file(self) -> Path:
        """The YAML file of the study."""
        return study_file(self.name)

    @property
    def folder(self) -> Path:
        """Where the study's results and report go."""
        return self.file.with_suffix("")

    @cached_property
    def task(self) -> Literal["classification", "regression"]:
        """Of the study's data set."""
        task: Literal["classification", "regression"] = rooms.module("data", self.data["name"]).TASK
        return task

    def loss(self, name: str) -> Loss:
        """One loss of the study, or an error that names the nearest one."""
        if name not in self.losses:
            raise UserError(f"{self.file}: losses: no '{name}'; {nearest(name, self.losses)}")
        return self.losses[name]


def study_file(name: str) -> Path:
    """experiments/NAME.yaml"""
    return Path("experiments") / f"{name}.yaml"


def active() -> tuple[list[str], list[str]]:
    """The studies and the losses that params.yaml names, in its order."""

    class Params(Settings):
        studies: Annotated[list[str], Field(min_length=1)]
        losses: Annotated[list[str], Field(min_length=1)]

    params = validated(Params, read_yaml(PARAMS), PARAMS)
    for loss in params.losses:
        known(PARAMS, "losses", "losses", loss)
    if "standard" not in params.losses:
        raise UserError(f"{PARAMS}: losses: add 'standard', the others are compared with it")
    return params.studies, params.losses


def read(name: str) -> Study:
    """The study of that name, checked against the code and the data set it uses."""
    file = study_file(name)
    if not file.exists():
        known_studies = [f.stem for f in Path("experiments").glob("*.yaml")]
        raise UserError(f"{file} is missing: no study '{name}'; {nearest(name, known_studies)}")
    raw = read_yaml(file)
    for key in ("data", "model"):
        if isinstance(raw.get(key), dict):
            raw[key] = options(file, key, raw[key])
    for section, key in meaning.ATTACKS:
        for attack, knobs in nested(raw, section, key).items():
            known(file, f"{section}.{key}", "attacks", attack)
            accepted = rooms.settings_of(rooms.module("attacks", attack).perturb)
            validated(accepted, knobs or {}, file, f"{section}.{key}.{attack}")
    if isinstance(raw.get("losses"), dict):
        raw["losses"] = {n: one_loss(file, n, knobs) for n, knobs in raw["losses"].items()}
    study = validated(Study, {"name": name, **raw}, file)
    meaning.check(study)
    return study


def nested(raw: Any, *keys: str) -> dict[str, Any]:
    """The mapping below `keys`, empty where there is none: what has the wrong type is reported by its model."""
    for key in keys:
        raw = raw.get(key) if isinstance(raw, dict) else None
    return raw if isinstance(raw, dict) else {}


def options(file: Path, key: str, raw: dict[str, Any]) -> dict[str, Any]:
    """`data:` or `model:` of a study, with the defaults of the function it names filled in."""
    room, function = {"data": ("data", "load"), "model": ("models", "build")}[key]
    name = raw.get("name")
    if not isinstance(name, str):
        raise UserError(f"{file}: {key}.name is missing; {nearest('', rooms.names(room))}")
    known(file, f"{key}.name", room, name)
    accepted = rooms.settings_of(getattr(rooms.module(room, name), function))
    rest = {k: v for k, v in raw.items() if k != "name"}
    return {"name": name, **validated(accepted, rest, file, key).model_dump(mode="json")}


def one_loss(file: Path, name: str, knobs: Any) -> Loss:
    """One entry of `losses:`."""
    known(file, "losses", "losses", name)
    return validated(losses.load(name), {} if knobs is None else knobs, file, f"losses.{name}")


def check_all() -> list[Study]:
    """Every active study, complete: the project is ready for `dvc repro`."""
    if subprocess.run(["git", "rev-parse", "--git-dir"], capture_output=True).returncode:
        raise UserError("this folder is not in a git repository, which DVC needs; mend: git init")
    names, wanted = active()
    studies = [read(name) for name in names]
    for study in studies:
        for loss in wanted:
            if loss not in study.losses:
                raise UserError(
                    f"{study.file}: losses.{loss} is missing, {PARAMS} lists it;"
                    f" add a line '{loss}: {{...}}' or remove it from {PARAMS}"
                )
    return studies
