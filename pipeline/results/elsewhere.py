"""What the attacks found on the nets of a study that were trained elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inputgrad.errors import UserError, nearest
from pipeline import store
from pipeline.study import origins
from pipeline.study.run import folder as folder_of
from pipeline.study.schema import Study

FILES = ("outcomes.parquet", "descriptors.parquet", "input_gradients.npy", "masking.json", "evaluation.json")
"""What an evaluation consists of; see `inputgrad.robustness.evaluation.write`."""


@dataclass(frozen=True, kw_only=True)
class Elsewhere:
    """One net: its scores over `examples` examples, and the checks of the masking sheet that do not hold."""

    name: str
    source: str
    clean: float
    robust: float
    examples: int
    flags: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def metrics(self) -> dict[str, Any]:
        return {"clean": self.clean, "robust": self.robust, "examples": self.examples, "flags": list(self.flags)}


def named(study: Study, name: str) -> None:
    if name not in study.checkpoints:
        raise UserError(f"{study.file}: checkpoints: no '{name}'; {nearest(name, study.checkpoints)}")


def folder(study: Study, name: str) -> Path:
    """experiments/STUDY/runs/NAME/checkpoint"""
    return folder_of(study, name, "checkpoint")


def opened(study: Study, name: str) -> Path:
    """`folder`, once it is known to hold the attack on that net, by study, code and data as they stand."""
    fix = f"fix: dvc repro -f checkpoint@{study.name}-{name}"
    return store.opened(folder(study, name), origins.of_checkpoint(study, name), fix)


def read(study: Study) -> list[Elsewhere]:
    """All of them, in the study's order."""
    found = []
    for name, given in study.checkpoints.items():
        here, fix = opened(study, name), f"fix: dvc repro -f checkpoint@{study.name}-{name}"
        facts, sheet = (store.read_json(here / file, fix) for file in ("evaluation.json", "masking.json"))
        found.append(
            Elsewhere(
                name=name,
                source=", ".join(filter(None, (given.model or "the study's net", given.weights))),
                clean=facts["clean"],
                robust=facts["robust"],
                examples=facts["examples"],
                flags=tuple(check for check, one in sheet.items() if not one["ok"]),
                notes=tuple(facts["notes"]),
            )
        )
    return found
