"""One run: a study, a loss and a seed. Its fingerprint names everything that changes its result."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import nn

from inputgrad import registry
from inputgrad.errors import UserError
from inputgrad.losses import Loss
from pipeline import data, store
from pipeline.study.schema import Study

SHARED = (
    "pipeline/stages/train.py",
    "inputgrad/tasks.py",
    *(f"inputgrad/gradients/{name}.py" for name in ("forward", "norms", "ascent", "adversary")),
    "inputgrad/losses/__init__.py",
    "pipeline/models/__init__.py",
)
"""The code that every run goes through; the loss's and the model's own files come on top."""


@dataclass(frozen=True)
class Run:
    """What `training.train` takes; small enough to be sent to another process."""

    study: Study
    loss_name: str
    seed: int

    @property
    def loss(self) -> Loss:
        """The loss with its knobs."""
        return self.study.loss(self.loss_name)

    @property
    def name(self) -> str:
        """For messages: study/loss/seed."""
        return f"{self.study.name}/{self.loss_name}/seed-{self.seed}"

    @property
    def epochs(self) -> int:
        """Length of the training."""
        return self.study.training.epochs

    @cached_property
    def device(self) -> torch.device:
        """Where it runs: `auto` is a GPU if there is one."""
        asked = self.study.training.device
        if asked == "cuda" and not torch.cuda.is_available():
            raise UserError(f"{self.study.file}: training.device: no CUDA device here; write 'auto' or 'cpu'")
        return torch.device("cuda" if asked != "cpu" and torch.cuda.is_available() else "cpu")

    @property
    def settings(self) -> dict[str, Any]:
        """The part of the study that this run depends on."""
        training = self.study.training.model_dump(exclude={"seeds", "device"})
        knobs = self.loss.model_dump(mode="json")
        return {
            "study": self.study.name,
            "data": self.study.data,
            "model": self.study.model,
            "training": training,
            "loss": {"name": self.loss_name, **knobs},
            "seed": self.seed,
        }

    @cached_property
    def fingerprint(self) -> str:
        """Sixteen hex digits: settings, seed, data, code, versions and kind of device."""
        here = Path(__file__).parents[2]
        code = [here / name for name in SHARED]
        code += [
            here / "inputgrad/losses" / f"{self.loss_name}.py",
            here / "pipeline/models" / f"{self.study.model['name']}.py",
        ]
        environment = {"torch": torch.__version__, "device": self.device.type}
        return store.hash_of([self.settings, environment], [*code, data.path(self.study.name)])

    @property
    def state(self) -> Path:
        """The folder this run works in."""
        return store.state(self.fingerprint)

    def build(self, dataset: data.Dataset) -> nn.Module:
        """A fresh net on the run's device; the seed alone decides its weights, the loss does not."""
        options = {k: v for k, v in self.study.model.items() if k != "name"}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            model: nn.Module = registry.module("pipeline.models", self.study.model["name"]).build(
                dataset.shape, dataset.outputs, **options
            )
        return model.to(self.device)


def runs(study: Study, loss_name: str) -> list[Run]:
    """The runs of one loss, in the order of the study's seeds."""
    study.loss(loss_name)
    return [Run(study, loss_name, seed) for seed in study.training.seeds]


def folder(study: Study, loss_name: str, stage: str) -> Path:
    """experiments/STUDY/runs/LOSS/STAGE, the output of a train or an attack stage."""
    return study.folder / "runs" / loss_name / stage
