"""A cheap robust score on the validation split after every epoch: it shows a training that collapses."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from inputgrad.errors import UserError
from inputgrad.gradients import norms
from inputgrad.gradients.ascent import ascend
from inputgrad.gradients.forward import Draws
from pipeline.data import Dataset
from pipeline.study.schema import Study

STEPS = 5
"""Of projected gradient ascent: with one step, FGSM, a net that has collapsed against FGSM would look robust."""


def refuse_regression(study: Study, dataset: Dataset) -> None:
    """Raise a UserError where there is no decision boundary: no score falls by so many points there."""
    if study.training.robust_validation and not dataset.task.has_classes:
        raise UserError(f"{study.file}: training.robust_validation needs classes; fix: leave it out for {dataset.task}")


def robust_score(model: nn.Module, dataset: Dataset, study: Study) -> float:
    """The share of the first `training.robust_validation` validation examples that stand against PGD of 5 steps.

    At the headline ε, from one random start, the same at every epoch; an example that is wrong without an attack does
    not stand. Costs 5 gradients of the input and 2 passes for each example. Madry et al. 2018; the collapse of training
    with FGSM: Wong et al. 2020.

    Args:
        model: a copy to measure on, in eval mode.
        dataset: with the validation split, x (n, *input) and y (n,).
        study: its headline norm and ε.
    """
    x, y, context = dataset.first("validation", study.training.robust_validation)
    norm, epsilon, task = study.attack.norm, study.attack.epsilon, dataset.task
    draws = Draws(torch.Generator(x.device).manual_seed(0))  # not the run's own

    def values(points: Tensor) -> Tensor:
        return task.losses(model(points), y)

    start = norms.named(norm).uniform(draws, x, epsilon)
    moved = ascend(values, x, norm=norm, epsilon=epsilon, steps=STEPS, start=start, bounds=context.bounds)
    with torch.no_grad():
        broken = task.broken(model(x), y) | task.broken(model(moved), y)
    return 1 - float(broken.double().mean())
