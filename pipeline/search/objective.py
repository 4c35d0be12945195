"""The score of a trial: clean and robust score on the validation split. The test split is never opened here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from inputgrad.attacks import Threat, Worst
from inputgrad.errors import UserError
from inputgrad.gradients.forward import Draws
from inputgrad.gradients.looking import random_state
from inputgrad.robustness.settings import attack_module, knobs_of
from pipeline import data, layout, store
from pipeline.data import Dataset
from pipeline.search import space
from pipeline.stages.train import Trainer, train
from pipeline.study.run import Run
from pipeline.study.schema import Study

FIRST_RUNG, RUNGS = 4, 2
"""The first look at a trial comes after a quarter of its epochs, the next after twice as many. Earlier looks mislead:
strong penalties slow learning down (docs/searches.md)."""


@dataclass(frozen=True)
class Scores:
    """Accuracy, or RMSE for a regression, of the weights that the study would keep."""

    clean: float
    robust: float


def judges(study: Study, outputs: int) -> dict[str, dict[str, Any]]:
    """The attacks that judge a trial, cheap ones first: the study's own, or short ones that are not easily fooled.

    A search climbs whatever its judge leaves uncovered. Judged by PGD on cross-entropy alone it finds strengths that
    hide this gradient, so there is always one that works on differences of logits (docs/searches.md has the figures).
    """
    if study.search.attacks is not None:
        return study.search.attacks
    short: dict[str, dict[str, Any]] = {"pgd": {"steps": 10, "restarts": 1}}
    if not study.task.has_classes:
        return short
    return short | ({"apgd_t": {"targets": 3, "steps": 5}} if outputs > 3 else {"fab": {"steps": 10}})


def read_splits(study: Study) -> Dataset:
    """Training and validation split; there is no way to the test split from here."""
    return data.read_data(study.name, study.data, ("train", "validation"))


def rungs(epochs: int) -> list[int]:
    """The epochs after which a trial is looked at: 1/4 and 1/2 of its length, where it may be pruned, and its end."""
    return sorted({e for e in (epochs // FIRST_RUNG * 2**k for k in range(RUNGS)) if 0 < e < epochs} | {epochs})


def kept(run: Run, dataset: Dataset, folder: Path) -> nn.Module:
    """The weights of the best epoch so far, by validation score: those that the study would keep."""
    model = run.build(dataset)
    model.load_state_dict(store.load_checkpoint(folder / layout.BEST, f"delete {folder}")["model"])
    return model


def scores(model: nn.Module, run: Run, dataset: Dataset) -> Scores:
    """Clean score, and the worst case over the judging attacks at the study's ε; the same start for every trial."""
    study = run.study
    x, y = dataset.inputs("validation"), dataset.y["validation"]
    threat = Threat(norm=study.attack.norm, epsilon=study.attack.epsilon, bounds=dataset.context.bounds)
    draws = Draws(torch.Generator(x.device).manual_seed(run.seed))
    model.eval().requires_grad_(False)
    worst = Worst(model, x, y)
    for name, knobs in judges(study, dataset.outputs).items():
        if len(left := worst.unbroken()):
            worst.measure(
                attack_module(name, knobs).perturb(model, x[left], y[left], threat, draws, **knobs_of(knobs)),
                left,
            )
    with torch.no_grad():
        return Scores(study.task.score(model(x), y), study.task.score(model(worst.x), y))


def standard(study: Study, dataset: Dataset) -> Scores:
    """What `standard` reaches with the seed and the epochs of the trials: trained once, then found in .state/."""
    run = Run(space.of_trials(study), "standard", space.of_trials(study).training.seeds[0])
    return scores(kept(run, dataset, train(run, dataset)), run, dataset.to(run.device))


def refuse_unusable(run: Run, dataset: Dataset) -> None:
    """One step of the loss: what no strength could fix (no direction, no double backward) is said before any trial."""
    with random_state([run.device]):
        torch.manual_seed(run.seed)
        trainer = Trainer.fresh(run, dataset)
        x, y, context = trainer.dataset.first("train", run.study.training.batch_size)
        try:
            run.loss(trainer.model, x, y, context, Draws(trainer.draw), run.loss.strength).backward()
        except UserError as error:
            raise UserError(f"{run.name}: {error}") from error
