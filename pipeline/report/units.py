"""What the numbers of a data set are measured in, found out from the training split."""

from __future__ import annotations

from torch import Tensor

from pipeline.data import Dataset


def inputs(dataset: Dataset) -> str:
    if bounds := dataset.context.bounds:
        return f"inputs span {bounds[0]:g} to {bounds[1]:g}"
    return "standard deviations" if standardised(dataset.inputs("train")) else "own units"


def targets(dataset: Dataset) -> str:
    return "standard deviations" if standardised(dataset.y["train"]) else "own units"


def standardised(values: Tensor) -> bool:
    """Whether every column has mean 0 and standard deviation 1 over the training split, to a hundredth.

    A column that is 0 everywhere was constant: it says nothing about the units of the others.
    """
    columns = values.double().flatten(1)
    columns = columns[:, columns.ne(0).any(0)]
    deviation = columns.std(0, correction=0)
    centred = bool((columns.mean(0).abs() < 0.01).all() and ((deviation - 1).abs() < 0.01).all())
    return centred and columns.shape[1] > 0
