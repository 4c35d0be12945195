"""Input gradients of the outputs next to the targets that a data set knows of every example."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from inputgrad.errors import UserError
from inputgrad.gradients.forward import Forward, rows


def matched(at: Forward, sign: int) -> tuple[Tensor, Tensor]:
    """The gradient of every output, times the sign, and its target: (N, k, *input) both, or (N, *input) for k = 1.

    Raises:
        UserError: there is no target, or its shape does not fit.
    """
    target = at.context.examples.get("target_gradient")
    if target is None:
        given = f" (given: {', '.join(at.context.examples)})" if at.context.examples else ""
        fix = 'fix: Context(examples={"target_gradient": t})'
        raise UserError(f"a target for every example is missing{given}; {fix}")
    outputs = rows(at.outputs)
    if target.shape == at.x.shape and outputs.shape[1] == 1:
        return sign * at.gradient("outputs"), target
    shape = (len(at.x), outputs.shape[1], *at.x.shape[1:])
    if target.shape != shape:
        raise UserError(f"target_gradient has shape {tuple(target.shape)}; fix: give {shape}, one gradient per output")
    return sign * torch.stack([at.gradient_of(outputs[:, k]) for k in range(outputs.shape[1])], 1), target


Mean = Literal["row", "component", "example"]
"""Over what the squares of errors are averaged: rows of x, all their components, or examples, of many rows each."""


def squared_distance(at: Forward, found: Tensor, wanted: Tensor, mean: Mean = "row") -> Tensor:
    """‖w_i · (found_i - wanted_i)‖², w_i its `gradient_weight` where there is one.

    Returns:
        of every row of x, (rows,), or of every example, (N,), as `mean` says; its mean is the term.
    """
    error = found - wanted
    if (weight := at.context.examples.get("gradient_weight")) is not None:
        error = error * (weight.reshape(error.shape) if weight.numel() == error.numel() else weight.expand_as(error))
    squares = error.square()
    if mean == "example":
        return at.rows(squares).sum(1)
    return rows(squares).sum(1) if mean == "row" else rows(squares).mean(1)


def along(at: Forward) -> tuple[Tensor, Tensor]:
    """The derivative of the one output along the given direction, (N,), and what it should be.

    Raises:
        UserError: there is no direction or no number for every example, or a shape does not fit.
    """
    known, shapes = at.context.examples, {"derivative_direction": at.x.shape, "derivative": at.x.shape[:1]}
    for name, shape in shapes.items():
        if name not in known or known[name].shape != shape:
            found = f"has shape {tuple(known[name].shape)}" if name in known else "is missing"
            raise UserError(f'{name} {found}; fix: Context(examples={{"{name}": …}}) of shape {tuple(shape)}')
    if rows(at.outputs).shape[1] != 1:
        raise UserError("a derivative along a direction is defined for one output; fix: a model with one output")
    slope = rows(at.gradient("outputs") * known["derivative_direction"]).sum(1)
    return slope, known["derivative"]
