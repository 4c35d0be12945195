"""Measures of a data set's own: figures that its module takes of a trained net, next to the score of its task.

A module of data with such figures defines MEASURES, name -> one sentence, and `measures(model, dataset)`, which gives a
number for every name.
"""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from inputgrad.errors import UserError, nearest
from inputgrad.gradients.looking import random_state
from inputgrad.registry import NAME
from pipeline import data

TAKEN = ("clean", "robust", "task_loss", "term", "term_gradient_ratio", "input_gradient_norm", "step_time_ratio")
TAKEN_BEGINNINGS = (
    *("clean_", "robust_", "median_distance_", "validation_", "best_"),
    *("test_gradient_", "test_jacobian_"),
)
"""What the report and MLflow call other numbers: no measure may have such a name."""
SPLITS = ("train", "test")


def described(source: Mapping[str, Any]) -> dict[str, str]:
    """The measures of a study's `data:`, name -> sentence; empty where its module defines none."""
    found: dict[str, str] = getattr(data.module_of(source), "MEASURES", {})
    return found


def are_described(value: Any) -> bool:
    """Whether a MEASURES is a mapping of names, which nothing else has, to sentences."""
    return isinstance(value, dict) and all(isinstance(said, str) and is_free(name) for name, said in value.items())


def is_free(name: Any) -> bool:
    plain = isinstance(name, str) and re.fullmatch(NAME, name) is not None
    return plain and name not in TAKEN and not name.startswith(TAKEN_BEGINNINGS)


def take(name: str, source: Mapping[str, Any], model: nn.Module, study: str, seed: int) -> dict[str, float]:
    """Every measure of one trained net, on a copy of it: in eval mode, on the CPU, in float32.

    Args:
        name: of the run, for errors.
        source: `data:` of the study.
        model: takes (N, *input).
        study: whose prepared data are read, the training and the test split.
        seed: of PyTorch's random numbers, for a measure that draws some.

    Raises:
        UserError: a number is not finite, MEASURES lacks a name, or a name of MEASURES has no number.
    """
    wanted = described(source)
    if not wanted:
        return {}
    dataset, module = data.read_data(study, source, SPLITS), data.module_of(source)
    with random_state([]):
        torch.manual_seed(seed)
        found = module.measures(copy.deepcopy(model).cpu().float().eval(), dataset)
    where = f"{name}: {module.__name__}.measures"
    if not isinstance(found, dict):
        raise UserError(f"{where} gives {type(found).__name__}; fix: a dict, name -> number")
    return checked(found, wanted, where)


def checked(found: Mapping[str, Any], wanted: Mapping[str, str], where: str) -> dict[str, float]:
    """The numbers in the order of MEASURES, as plain ones."""
    if unknown := [name for name in found if name not in wanted]:
        raise UserError(f"{where} gives '{unknown[0]}', which MEASURES lacks; {nearest(str(unknown[0]), wanted)}")
    numbers = {}
    for name in wanted:
        if name not in found:
            raise UserError(f"{where} gives no '{name}'; fix: give it, or take it out of MEASURES")
        try:
            value = found[name]
            numbers[name] = float(value.detach() if isinstance(value, torch.Tensor) else value)
        except (TypeError, ValueError, RuntimeError) as error:
            kind = type(found[name]).__name__
            raise UserError(f"{where} gives {kind} for '{name}'; fix: one number") from error
        if not math.isfinite(numbers[name]):
            raise UserError(f"{where} gives {numbers[name]} for '{name}'; fix: a finite number")
    return numbers
