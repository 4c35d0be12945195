"""What a trial is worth: clean and robust score on the validation split. The test split is never opened here."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import nn

from inputgrad.attacks import Threat, Worst
from inputgrad.errors import UserError
from inputgrad.gradients.forward import Draws
from inputgrad.robustness.threat import attack_module, knobs_of
from pipeline import data, store
from pipeline.data import Dataset
from pipeline.search import space
from pipeline.stages.train import Trainer, goodness, train_epoch, validate
from pipeline.stages.train import train as train_run
from pipeline.study.run import Run
from pipeline.study.schema import Study

FIRST_RUNG, RUNGS = 4, 2
"""The first look at a trial comes after a quarter of its epochs, the next after twice as many. Earlier looks mislead:
strong penalties slow learning down (docs/search.md)."""


class Scores(NamedTuple):
    """Accuracy, or RMSE for a regression, of the weights that the study would keep."""

    clean: float
    robust: float


def judges(study: Study, outputs: int) -> dict[str, dict[str, Any]]:
    """The attacks that judge a trial, cheap ones first: the study's own, or short ones that are not easily fooled.

    A search climbs whatever its judge leaves uncovered. Judged by PGD on cross-entropy alone it finds strengths that
    hide this gradient, so there is always one that works on differences of logits (docs/search.md has the figures).
    """
    if study.search.attacks is not None:
        return study.search.attacks
    short: dict[str, dict[str, Any]] = {"pgd": {"steps": 10, "restarts": 1}}
    if not study.task.has_classes:
        return short
    return short | ({"apgd_t": {"targets": 3, "steps": 5}} if outputs > 3 else {"fab": {"steps": 10}})


class Diverged(Exception):
    """The loss of a trial is no number any more: its strength is too high. `epochs`: how many were trained before."""

    def __init__(self, message: str, epochs: int) -> None:
        super().__init__(message)
        self.epochs = epochs


def read(study: Study) -> Dataset:
    """Training and validation split; there is no way to the test split from here."""
    return data.read(study.name, study.data, ("train", "validation"))


def prepare_torch(run: Run) -> None:
    """As in a run of the study: one thread, reproducible sums, the run's own random numbers."""
    torch.set_num_threads(1)
    torch.set_deterministic_debug_mode("warn" if run.device.type == "cuda" else "error")
    torch.manual_seed(run.seed)


def rungs(epochs: int) -> list[int]:
    """The epochs after which a trial may be pruned: 1/4 and 1/2 of its length."""
    return sorted({e for e in (epochs // FIRST_RUNG * 2**k for k in range(RUNGS)) if 0 < e < epochs})


def train(run: Run, dataset: Dataset, look: Callable[[int, Scores], None]) -> Scores:
    """Train a trial through the one training loop; the scores are those of the epoch that the study would keep.

    Args:
        run: of the trial; its study states the trial's knobs.
        dataset: training and validation split.
        look: called with the epoch and the scores so far at every rung; may raise to end the trial.

    Raises:
        Diverged: the loss became NaN or infinite.
    """
    prepare_torch(run)
    trainer = Trainer.fresh(run, dataset)
    kept: nn.Module = trainer.model
    while trainer.epoch < run.epochs:
        try:
            row = train_epoch(trainer) | validate(trainer)
        except UserError as error:  # `refuse_unusable` has seen a step of this loss: what is left is divergence
            raise Diverged(str(error), trainer.epoch) from error
        trainer.epoch += 1
        trainer.history.append({"epoch": trainer.epoch, **row})
        if trainer.history[-1] is max(trainer.history, key=goodness):
            kept = copy.deepcopy(trainer.model)
        if trainer.epoch in rungs(run.epochs):
            look(trainer.epoch, scores(kept, run, trainer.dataset))
    return scores(kept, run, trainer.dataset)


def scores(model: nn.Module, run: Run, dataset: Dataset) -> Scores:
    """Clean score, and the worst case over the judging attacks at the study's ε; the same start for every trial.

    The model is frozen for good: it is the copy of an epoch, not the net in training.
    """
    study = run.study
    x, y = dataset.x["validation"], dataset.y["validation"]
    threat = Threat(norm=study.attack.norm, epsilon=study.attack.epsilon, bounds=dataset.context.bounds)
    draws = Draws(torch.Generator(x.device).manual_seed(run.seed))
    model.eval().requires_grad_(False)
    worst = Worst(model, x, y)
    for name, knobs in judges(study, dataset.outputs).items():
        if len(left := worst.unbroken()):
            worst.look(
                attack_module(name, knobs).perturb(model, x[left], y[left], threat, draws, **knobs_of(knobs)),
                left,
            )
    return Scores(score(model, x, y), score(model, worst.x, y))


@torch.no_grad()
def score(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> float:
    """Accuracy, or RMSE where targets are numbers: as in `train.validate`."""
    outputs = model(x)
    if y.is_floating_point():
        return float((outputs - y).double().square().mean().sqrt())
    return float((outputs.argmax(1) == y).double().mean())


def standard(study: Study, dataset: Dataset) -> Scores:
    """What `standard` reaches with the seed and the epochs of the trials: trained once, then found in .state/."""
    run = Run(space.of_trials(study), "standard", space.of_trials(study).training.seeds[0])
    folder = train_run(run, dataset)
    model = run.build(dataset)
    model.load_state_dict(store.load_checkpoint(folder / "best.pt", f"delete {folder}")["model"])
    return scores(model, run, dataset.to(run.device))


def refuse_unusable(run: Run, dataset: Dataset) -> None:
    """One step of the loss: what no strength could fix (no direction, no double backward) is said before any trial."""
    prepare_torch(run)
    trainer = Trainer.fresh(run, dataset)
    x, y = (part["train"][: run.study.training.batch_size] for part in (trainer.dataset.x, trainer.dataset.y))
    try:
        run.loss(trainer.model, x, y, trainer.dataset.context, trainer.draws).backward()
    except (RuntimeError, NotImplementedError) as error:
        from inputgrad.gradients.layers import refuse_without_double_backward

        refuse_without_double_backward(trainer.model, x[:2], error, f"{run.name}: ")
        raise
