"""One run: a study, a loss and a seed. Its fingerprint names everything that changes its result."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import nn

from inputgrad import tasks
from inputgrad.errors import UserError
from inputgrad.gradients.looking import random_state
from inputgrad.losses import Loss
from pipeline import data, layout, models, store
from pipeline.fingerprint import Origin
from pipeline.study import origins
from pipeline.study.schema import Study


@dataclass(frozen=True)
class Run:
    """What `train` takes; small enough to be sent to another process."""

    study: Study
    loss_name: str
    seed: int

    @property
    def loss(self) -> Loss:
        return self.study.loss(self.loss_name)

    @property
    def name(self) -> str:
        return f"{self.study.name}/{self.loss_name}/seed-{self.seed}"

    @property
    def epochs(self) -> int:
        return self.study.training.epochs

    @cached_property
    def device(self) -> torch.device:
        """Where it runs: `auto` is a GPU if there is one."""
        asked = self.study.training.device
        if asked == "cuda" and not torch.cuda.is_available():
            raise UserError(f"{self.study.file}: training.device: no CUDA device here; fix: write 'auto' or 'cpu'")
        return torch.device("cuda" if asked != "cpu" and torch.cuda.is_available() else "cpu")

    @property
    def settings(self) -> dict[str, Any]:
        training = self.study.training.model_dump(mode="json", exclude={"seeds", "device"})
        if self.study.training.robust_validation:  # else an edit of ε trains nothing again
            attack = self.study.attack
            training["robust_validation_at"] = {"norm": attack.norm, "epsilon": attack.epsilon}
        return {
            "study": self.study.name,
            "data": self.study.data,
            "model": self.study.model,
            "training": training,
            "loss": {"name": self.loss_name, **self.study.stated(self.loss_name)},
            "seed": self.seed,
        }

    @cached_property
    def origin(self) -> Origin:
        """Everything that changes its training, as it was when it was first asked for."""
        return origins.of_training(self)

    @cached_property
    def attack_origin(self) -> Origin:
        """Everything that changes the attack on it; the trainings that it starts from are checked."""
        return origins.of_attack(self, [one.opened("train") for one in (self, self.source)])

    @property
    def fingerprint(self) -> str:
        return self.origin.fingerprint

    @property
    def state(self) -> Path:
        return layout.state(self.fingerprint)

    @property
    def source(self) -> Run:
        """The run that transfer attacks start from: `standard` with the next seed, so that another net is attacked."""
        seeds = self.study.training.seeds
        if self.seed not in seeds:
            return Run(self.study, "standard", seeds[0])
        return Run(self.study, "standard", seeds[(seeds.index(self.seed) + 1) % len(seeds)])

    def folder(self, stage: str) -> Path:
        """experiments/STUDY/runs/LOSS/STAGE/seed-N"""
        return layout.stage(self.study.name, self.loss_name, stage) / f"seed-{self.seed}"

    def opened(self, stage: str) -> Path:
        """`folder`, once it is known to hold the result of the study, code and data as they stand."""
        origin = self.origin if stage == "train" else self.attack_origin
        fix = f"fix: {layout.again(stage, self.study.name, self.loss_name)}"
        return store.opened(self.folder(stage), origin, fix)

    def refuse_changes(self, stage: str, study: Study | None = None) -> None:
        """Do no work, and publish none, under the name of an origin that is no longer that of `study`.

        A process that starts later than its command, here or on another machine, may have other code or data.
        """
        now = Run(study or self.study, self.loss_name, self.seed)
        before, after = (one.origin if stage == "train" else one.attack_origin for one in (self, now))
        if before != after:
            raise UserError(
                f"{self.name} is {after.difference(vars(before))}: this changed while the command ran, so nothing is"
                " published; what is finished is kept; fix: run it again"
            )

    def build(self, dataset: data.Dataset) -> nn.Module:
        """A fresh net on the run's device; the seed alone decides its weights, the loss does not."""
        with random_state([self.device]):
            torch.manual_seed(self.seed)
            model = models.build(self.study.model, dataset.shape, dataset.outputs)
        # a tenth faster: the channels of a pixel lie side by side, as the library's convolutions want them
        model.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        return model


def runs(study: Study, loss_name: str) -> list[Run]:
    study.loss(loss_name)
    return [Run(study, loss_name, seed) for seed in study.training.seeds]


def kept_row(run: Run, history: list[dict[str, float]]) -> dict[str, float]:
    """The epoch whose net is kept: the best one, or the last where the study says so."""
    return history[-1] if run.study.training.keep == "last" else max(history, key=goodness)


def goodness(row: dict[str, float]) -> tuple[float, float]:
    """What makes an epoch the best: its validation score, ties by its validation loss."""
    task = next(task for task in tasks.TASKS.values() if task.validation_key in row)
    return task.better * row[task.validation_key], -row["validation_loss"]
