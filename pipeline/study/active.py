"""params.yaml: which studies `dvc repro` runs. Nothing heavy is imported to read it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, Field, field_validator

from pipeline.study.validation import named, read_yaml, validated

FILE = Path("params.yaml")
Entries = dict[str, dict[str, str]]


class Params(BaseModel, extra="forbid", frozen=True):
    """params.yaml.

    studies: by hand; a prepare and a report stage each. per_loss, per_checkpoint: what is put into dvc.yaml for every
    train and attack stage, and for every net trained elsewhere.
    """

    studies: Annotated[list[str], Field(min_length=1)]
    per_loss: Entries = Field(default={})
    per_checkpoint: Entries = Field(default={})

    @property
    def generated(self) -> tuple[Entries, ...]:
        return self.per_loss, self.per_checkpoint

    @field_validator("studies")
    @classmethod
    def _distinct(cls, studies: list[str]) -> list[str]:
        if len(set(studies)) < len(studies):
            raise ValueError("a study is named twice; fix: name it once")
        return studies


def read_params() -> Params:
    params = validated(Params, read_yaml(FILE), FILE)
    for name in params.studies:
        named(f"{FILE}: studies", name)
    return params


def active() -> list[str]:
    """The studies that `dvc repro` runs, in the order of params.yaml."""
    return read_params().studies
