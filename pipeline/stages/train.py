"""The one training loop: one run in, one run folder out. It never knows a loss's name."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import lr_scheduler
from torch.optim.swa_utils import AveragedModel

from inputgrad import CompiledStep, Step, Taken
from inputgrad.errors import UserError
from inputgrad.gradients.descriptors import describe
from inputgrad.gradients.forward import Draws
from inputgrad.gradients.looking import looking
from inputgrad.losses import Loss, Strength
from pipeline import data, store
from pipeline.data import Dataset
from pipeline.stages.robust_validation import robust_score
from pipeline.stages.saving import finish, resume, save_epoch
from pipeline.stages.training_options import augmented, average_of, of_training, optimizer_of, schedule_of
from pipeline.study.run import Run
from pipeline.study.schema import Training


@dataclass
class Trainer:
    """Everything that changes while a run trains; `state` and `restore` are exact inverses."""

    run: Run
    dataset: Dataset
    model: nn.Module
    optimizer: torch.optim.Optimizer
    schedule: lr_scheduler.LRScheduler | None
    average: AveragedModel | None
    shuffle: torch.Generator
    draw: torch.Generator
    augment: torch.Generator
    epoch: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    snapshots: dict[int, Tensor] = field(default_factory=dict)

    @classmethod
    def fresh(cls, run: Run, dataset: Dataset) -> Trainer:
        """Before the first step. Losses of one seed share the initial weights and the order of the batches."""
        training, device = run.study.training, run.device
        dataset, model = of_training(run.study, dataset.to(device)), run.build(dataset)
        optimizer = optimizer_of(training, model)
        steps = run.epochs * steps_of_epoch(training, dataset)
        return cls(
            run=run,
            dataset=dataset,
            model=model,
            optimizer=optimizer,
            schedule=schedule_of(training, optimizer, steps),
            average=average_of(training, model),
            shuffle=torch.Generator().manual_seed(2 * run.seed),
            draw=torch.Generator(device).manual_seed(2 * run.seed + 1),
            augment=torch.Generator().manual_seed(2 * run.seed + 2**32),
        )

    @property
    def kept(self) -> nn.Module:
        """The model that is validated and kept: the average of the weights, where the study asks for one."""
        return self.model if self.average is None else self.average.module

    @cached_property
    def step(self) -> Step:
        """Puts the gradient of a batch into the parameters."""
        return step_of(self.run, self.run.loss, self.model, self.dataset, Draws(self.draw))

    @property
    def steps_per_epoch(self) -> int:
        return steps_of_epoch(self.run.study.training, self.dataset)

    def order(self) -> Tensor:
        """The training examples in the order in which a pass takes them, (n,)."""
        n = len(self.dataset.y["train"])
        return torch.randperm(n, generator=self.shuffle) if self.run.study.training.shuffle else torch.arange(n)

    def batches(self) -> list[Tensor]:
        """The training examples of every step of an epoch, (batch_size,) each, or fewer at the end of a pass."""
        training = self.run.study.training
        passes = (self.order().to(self.run.device) for _ in range(training.passes))
        return [batch for order in passes for batch in order.split(training.batch_size)]

    def generators(self) -> list[torch.Generator]:
        """Order of the batches, draws of the loss, augmentation, and the global ones (CPU, and GPU if any: dropout)."""
        on_gpu = [torch.cuda.default_generators[torch.cuda.current_device()]] if self.run.device.type == "cuda" else []
        return [self.shuffle, self.draw, self.augment, torch.default_generator, *on_gpu]

    def state(self) -> dict[str, Any]:
        return {
            "fingerprint": self.run.fingerprint,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": None if self.schedule is None else self.schedule.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "generators": [g.get_state() for g in self.generators()],
            "epoch": self.epoch,
            "history": self.history,
            "snapshots": self.snapshots,
        }

    def restore(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.schedule is not None:
            self.schedule.load_state_dict(state["schedule"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        for generator, saved in zip(self.generators(), state["generators"], strict=True):
            generator.set_state(saved)
        for name in ("epoch", "history", "snapshots"):
            setattr(self, name, state[name])


def steps_of_epoch(training: Training, dataset: Dataset) -> int:
    return training.passes * math.ceil(len(dataset.y["train"]) / training.batch_size)


def step_of(run: Run, loss: Loss, model: nn.Module, dataset: Dataset, draws: Draws | None = None) -> Step:
    """A step of the training loop, compiled where the study says so."""
    if not run.study.training.compile:
        return Step(loss, model, dataset.context, draws)
    return CompiledStep(loss, model, dataset.context)


class Diverged(UserError):
    """The loss, or a figure of the validation split, became NaN or infinite."""


def train(run: Run, dataset: Dataset | None = None, until: int | None = None) -> Path:
    """Train one run to its end, from wherever it was left; returns its folder.

    The folder holds best.pt and last.pt (best by validation score, ties by validation loss; with `keep: last` the last
    epoch's), history.csv (a row an epoch), gradients.npz (input gradients of the same validation examples at a few
    epochs) and run.json. Every byte is the same whether the run was interrupted or not.

    Args:
        run: what to train.
        dataset: training and validation split; by default read from the study's prepared file.
        until: stop after this epoch; a later call continues.

    Raises:
        Diverged: the loss turned NaN or infinite (with the step).
    """
    torch.set_num_threads(1)  # seeds run side by side; one thread also makes the sums reproducible
    torch.set_deterministic_debug_mode("warn" if run.device.type == "cuda" else "error")
    folder, end = run.state, min(until or run.epochs, run.epochs)
    with store.locked(folder):
        if store.is_finished(folder, run.origin):
            return folder
        dataset = dataset or data.read_data(run.study.name, run.study.data, ("train", "validation"))
        run.refuse_changes("train")
        torch.manual_seed(run.seed)
        trainer = Trainer.fresh(run, dataset)
        resume(trainer, folder)
        while trainer.epoch < end:
            try:
                row = train_epoch(trainer) | validate(trainer)
            except UserError as error:
                if isinstance(error, Diverged):
                    raise
                where = f"{run.study.file}: training.compile: " if run.study.training.compile else ""
                raise UserError(f"{where}{run.name}: {error}") from error
            trainer.epoch += 1
            trainer.history.append({"epoch": trainer.epoch, **row})
            save_epoch(trainer, folder)
        if end == run.epochs:
            finish(trainer, folder)
    return folder


def train_epoch(trainer: Trainer) -> dict[str, float]:
    """The steps of one epoch; returns the mean task loss, the mean term and what the loss noted."""
    loss = trainer.run.loss
    totals, records, known = [], [], trainer.dataset.known("train")
    trainer.model.train()
    batches = trainer.batches()
    for number, batch in enumerate(batches):
        strength = loss.strength_at(trainer.epoch * len(batches) + number, trainer.epoch + number / len(batches))
        taken = one_step(trainer, batch, strength, {name: t[batch] for name, t in known.items()})
        totals.append(taken.total)
        term = {} if taken.term is None else {"term": taken.term}
        records.append((len(batch), {"task_loss": taken.task, **term, **taken.notes}))
    refuse_non_finite(torch.stack(totals), trainer)
    return {"task_loss": 0.0, "term": 0.0} | averages(records)


def one_step(trainer: Trainer, batch: Tensor, strength: Strength, examples: dict[str, Tensor]) -> Taken:
    """The gradient of a batch, and what the study does with it."""
    training, x = trainer.run.study.training, trainer.dataset.inputs("train", batch)
    if training.augmentation is not None:
        x = augmented(x, training.augmentation, trainer.augment)
    with torch.autocast(trainer.run.device.type, torch.bfloat16, enabled=training.precision == "bfloat16"):
        taken = trainer.step(x, trainer.dataset.y["train"][batch], strength, examples)
    if training.clip is not None:
        nn.utils.clip_grad_norm_(trainer.model.parameters(), training.clip)
    trainer.optimizer.step()
    if trainer.schedule is not None:
        trainer.schedule.step()
    if trainer.average is not None:
        trainer.average.update_parameters(trainer.model)
    return taken


def averages(records: list[tuple[int, dict[str, Tensor]]]) -> dict[str, float]:
    """Means over the examples of an epoch; a figure that some steps leave out is averaged over the others."""
    keys = dict.fromkeys(key for _, figures in records for key in figures)
    means = {}
    for key in keys:
        weights = torch.tensor([n for n, figures in records if key in figures], dtype=torch.float64)
        values = torch.stack([figures[key] for _, figures in records if key in figures]).double().cpu()
        means[key] = float((weights * values).sum() / weights.sum())
    return means


def refuse_non_finite(totals: Tensor, trainer: Trainer) -> None:
    """Stop a run whose loss is no number any more. Looking once an epoch costs a GPU no waiting."""
    bad = (~torch.isfinite(totals)).nonzero()
    if len(bad):
        step = trainer.epoch * trainer.steps_per_epoch + min(int(bad[0]) + 1, trainer.steps_per_epoch)
        raise Diverged(
            f"{trainer.run.name}: the loss became {float(totals[bad[0]])} at step {step} (epoch {trainer.epoch + 1});"
            f" {lower(trainer)}"
        )


def lower(trainer: Trainer) -> str:
    run = trainer.run
    rate = "learning_rates" if run.study.training.schedule == "piecewise" else "learning_rate"
    return f"fix: lower losses.{run.loss_name}.strength or training.{rate} in {run.study.file}"


def validate(trainer: Trainer) -> dict[str, float]:
    """Score, loss and mean input-gradient norm on the validation split, and how much the term weighs."""
    x, y = trainer.dataset.inputs("validation"), trainer.dataset.y["validation"]
    with looking(trainer.run.device, trainer.kept) as model:
        outputs, losses, gradients = describe(model, x, y)
        robust = robust_scores(trainer, model)
    task = trainer.dataset.task
    row = {
        task.validation_key: task.score(outputs, y),
        "validation_loss": float(losses.double().mean()),
        "input_gradient_norm": float(gradients.flatten(1).norm(dim=1).double().mean()),
        "term_gradient_ratio": term_gradient_ratio(trainer),
        **robust,
    }
    if bad := next((name for name, value in row.items() if not math.isfinite(value)), None):
        raise Diverged(
            f"{trainer.run.name}: {bad} became {row[bad]} on the validation split after epoch {trainer.epoch + 1};"
            f" {lower(trainer)}"
        )
    return row


def robust_scores(trainer: Trainer, model: nn.Module) -> dict[str, float]:
    """The robust validation score of a copy under its name in history.csv, where the study asks for one."""
    study, dataset = trainer.run.study, trainer.dataset
    if not study.training.robust_validation:
        return {}
    return {f"robust_{dataset.task.validation_key}": robust_score(model.eval().requires_grad_(False), dataset, study)}


def term_gradient_ratio(trainer: Trainer) -> float:
    """‖λ·∇term‖ / ‖c·∇task‖ over the parameters, on one fixed batch of the training split.

    It tells whether a strength matters at all: 0 for `standard`, and for a term that is a constant. Where a loss trains
    on perturbed inputs alone (c = 0), the task's own gradient is the measure.
    """
    run, n = trainer.run, trainer.run.study.training.batch_size
    if run.loss.strength == 0:
        return 0.0
    x, y, context = trainer.dataset.first("train", n)
    norms = []
    for strength in (run.loss.strength, 0.0):  # at strength 0 the task loss alone is left
        draws = Draws(torch.Generator(run.device).manual_seed(0))  # not the run's own
        with looking(run.device, trainer.model, run.loss) as (model, loss):
            parts = loss.parts(loss.forward(model, x, y, context, draws, strength), strength)
            value = parts.task.mean() if parts.term is None else strength * parts.term.mean()
            norms.append(gradient_norm(value, model))
    term, task = norms[0], norms[1] * (run.loss.weight_of_task or 1.0)
    return term / task if task > 0 else 0.0


def gradient_norm(value: Tensor, model: nn.Module) -> float:
    """Norm of the gradient of `value` over all parameters; 0 where it reaches none."""
    if not value.requires_grad:
        return 0.0
    gradients = torch.autograd.grad(value, [p for p in model.parameters() if p.requires_grad], allow_unused=True)
    return math.sqrt(sum(float(g.double().square().sum()) for g in gradients if g is not None))
