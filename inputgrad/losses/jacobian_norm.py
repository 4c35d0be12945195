"""Penalise the Frobenius norm of the input-output Jacobian."""

from math import sqrt
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from inputgrad.errors import UserError
from inputgrad.gradients.forward import Forward, expand, rows
from inputgrad.losses import Loss, Range


class JacobianNorm(Loss):
    """mean(l_i) + strength * mean(½‖J_i‖²_F), J_i the (C, d) Jacobian of the logits, estimated or exact.

    `projections` = n > 0: C/(2n) · Σ‖J_iᵀv‖² over n random unit vectors v per example, whose expectation is exactly
    ½‖J_i‖²_F: a uniform unit vector has E[v vᵀ] = I/C: that gives the factor C, which several copies of this loss drop.
    `projections: -1` sums the C rows instead: exact, and C times the cost of n = 1.

    Regression: J_i is the Jacobian of the k predictions; with one target one projection is exact.
    Cost: n (or C) double backward passes. Helps against small L2 noise and attacks, whatever the label.

    Source: Hoffman, Roberts & Yaida 2019 (their λ_JR/2 · ‖J‖²_F averaged over the batch: λ_JR is our strength).
    """

    strength: float = Field(default=0.01, ge=0)
    projections: int = Field(default=1, ge=-1)

    search: ClassVar[dict[str, Range]] = {"strength": Range(1e-4, 1.0)}

    def term(self, at: Forward) -> Tensor:
        outputs = rows(at.outputs)
        if self.projections == 0:
            raise UserError("jacobian_norm: projections: give 1 or more, or -1 for the exact norm")
        if self.projections < 0:
            directions = [row.expand_as(outputs) for row in torch.eye(outputs.shape[1]).to(outputs)]
            scale = 0.5
        else:
            directions = [self._unit(at.draws.normal(outputs)) for _ in range(self.projections)]
            scale = outputs.shape[1] / (2 * self.projections)
        squares = [at.rows(at.gradient_of((outputs * v).sum(1))).square().sum(1) for v in directions]
        return scale * torch.stack(squares).sum(0)

    @staticmethod
    def _unit(v: Tensor) -> Tensor:
        """Every row scaled to unit length; a normal vector has a uniform direction."""
        return v / expand(v.norm(dim=1).clamp_min(sqrt(torch.finfo(v.dtype).tiny)), v)
