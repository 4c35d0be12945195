"""What `training:` of a study asks for: optimiser, schedule, average of the weights, task loss, changed images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import lr_scheduler
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from inputgrad.errors import UserError
from pipeline.data import Dataset
from pipeline.stages.robust_validation import refuse_regression
from pipeline.study.schema import Augmentation, Study, Training

GREY = 0.5
"""What a cut-out square holds."""


def optimizer_of(training: Training, model: nn.Module) -> torch.optim.Optimizer:
    parameters, rate, decay = model.parameters(), training.learning_rate or 1.0, training.weight_decay
    if training.optimizer == "sgd":
        nesterov = training.momentum > 0
        return torch.optim.SGD(parameters, rate, training.momentum, weight_decay=decay, nesterov=nesterov)
    kind = torch.optim.Adam if training.optimizer == "adam" else torch.optim.AdamW
    return kind(parameters, lr=rate, weight_decay=decay)


def schedule_of(training: Training, optimizer: torch.optim.Optimizer, steps: int) -> lr_scheduler.LRScheduler | None:
    """How the learning rate changes over all `steps` of the training; None where it stays."""
    if training.schedule == "cosine":
        return lr_scheduler.CosineAnnealingLR(optimizer, steps)
    if training.schedule == "one_cycle":
        highest = training.learning_rate or 1.0
        return lr_scheduler.OneCycleLR(optimizer, highest, total_steps=max(steps, 2), cycle_momentum=False)
    if training.schedule == "piecewise":
        per_epoch = max(steps // training.epochs, 1)  # the optimiser's own rate is 1, so a factor is a rate
        return lr_scheduler.LambdaLR(optimizer, lambda step: rate_of(training, step // per_epoch))
    return None


def rate_of(training: Training, epoch: int) -> float:
    """The learning rate of an epoch, from 0 on: on the straight line between two corners of `learning_rates`."""
    shares, rates = zip(*training.learning_rates, strict=True)
    return float(np.interp(epoch / training.epochs, shares, rates))


def average_of(training: Training, model: nn.Module) -> AveragedModel | None:
    """An exponential average of the weights; buffers are copied."""
    if not training.average:
        return None
    return AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(training.average), use_buffers=False)


def of_training(study: Study, dataset: Dataset) -> Dataset:
    """The data with the task loss that the study trains with."""
    if study.training.augmentation and len(dataset.shape) != 3:
        raise UserError(
            f"{study.file}: training.augmentation needs images; fix: leave it out for inputs {dataset.shape}"
        )
    if study.training.augmentation:
        refuse_what_stays(study, dataset)
    refuse_regression(study, dataset)
    task = task_loss_of(study, dataset) or dataset.context.task
    return replace(dataset, context=replace(dataset.context, task=task))


def refuse_what_stays(study: Study, dataset: Dataset) -> None:
    """Raise a UserError where a loss compares gradients, input by input, with what augmentation does not move along."""
    stays = {*dataset.known("train"), *(["mask"] if dataset.context.mask is not None else [])}
    if study.training.augmentation is not None and not (
        study.training.augmentation.crop or study.training.augmentation.flip
    ):
        return  # a grey square moves nothing
    for name, loss in study.losses.items():
        if wrong := [need for need in type(loss).needs if need in stays]:
            moved = f"moves the inputs, and not the {wrong[0]} that losses.{name} needs"
            raise UserError(f"{study.file}: training.augmentation {moved}; fix: leave crop and flip out, or the loss")


def task_loss_of(study: Study, dataset: Dataset) -> Callable[[Tensor, Tensor], Tensor] | None:
    """The task loss that the study's settings ask for; None: the plain one."""
    training = study.training
    if not training.label_smoothing and training.class_weights == "none":
        return None
    if not dataset.task.has_classes:
        key = "label_smoothing" if training.label_smoothing else "class_weights"
        raise UserError(f"{study.file}: training.{key} needs classes; fix: leave it out for {dataset.task}")
    weights = None
    if training.class_weights == "balanced":
        counts = torch.bincount(dataset.y["train"], minlength=dataset.outputs).float()
        weights = counts.sum() / (len(counts) * counts)
    return partial(weighted_cross_entropy, weights=weights, smoothing=training.label_smoothing)


def weighted_cross_entropy(outputs: Tensor, y: Tensor, weights: Tensor | None, smoothing: float) -> Tensor:
    """Of every example, (N,). Weights are 1 in the mean over the training split, so that a strength keeps its scale."""
    return F.cross_entropy(outputs, y, weight=weights, label_smoothing=smoothing, reduction="none")


def augmented(x: Tensor, wanted: Augmentation, generator: torch.Generator) -> Tensor:
    """Images (N, C, H, W), each changed by draws of its own from a generator on the CPU."""
    if wanted.crop:
        x = cropped(x, wanted.crop, generator)
    if wanted.flip:
        turned = torch.rand(len(x), generator=generator) < 0.5
        x = torch.where(turned.to(x.device)[:, None, None, None], x.flip(3), x)
    if wanted.cutout:
        x = torch.where(squares(x, wanted.cutout, generator), GREY, x)
    return x


def cropped(x: Tensor, padding: int, generator: torch.Generator) -> Tensor:
    """A window of the image's size from the image with a border of zeros."""
    n, channels, height, width = x.shape
    padded = F.pad(x, (padding,) * 4)
    top, left = torch.randint(2 * padding + 1, (2, n, 1), generator=generator).to(x.device)
    rows = (top + torch.arange(height, device=x.device))[:, None, :, None]
    columns = (left + torch.arange(width, device=x.device))[:, None, None, :]
    examples = torch.arange(n, device=x.device)[:, None, None, None]
    return padded[examples, torch.arange(channels, device=x.device)[None, :, None, None], rows, columns]


def squares(x: Tensor, side: int, generator: torch.Generator) -> Tensor:
    """True inside a square of each image, (N, 1, H, W); its centre lies anywhere, also at the edge."""
    inside = []
    for length in x.shape[2:]:
        centre = torch.randint(length, (len(x), 1), generator=generator).to(x.device)
        place = torch.arange(length, device=x.device) - centre + side // 2
        inside.append((place >= 0) & (place < side))
    return (inside[0][:, :, None] & inside[1][:, None, :])[:, None]
