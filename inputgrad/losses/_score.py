"""Score matching: fit a density that is known up to a factor, by its gradient at the data."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from inputgrad.errors import UserError
from inputgrad.gradients.forward import Forward, rows
from inputgrad.losses import Loss


class ScoreMatching(Loss):
    """strength * mean(½‖s_i‖² + tr(∂s_i/∂x_i)), s the score ∇ log p(x) that the model describes.

    `of: energy`: the model gives an energy E(x), (N,) or (N, 1), and s = -∇E. `of: score`: it gives s, shaped as x.
    `projections: n` replaces the trace by the mean over n random directions v of v·∂(v·s)/∂x (sliced); -1 takes it
    whole. `noise: σ` takes denoising score matching instead: ½‖s(x + σ·z) + z/σ‖², z normal, and no trace.

    There is no task and no target: `ScoreMatching().penalty(model, x)`. A mean of it may be negative.
    Cost: exact, one double backward for every input number; sliced, one a projection; denoising, a plain step, of an
    energy one double backward. Helps where densities are fitted without sampling.

    Source: Hyvärinen 2005; Vincent 2011 (denoising); Song, Garg, Shi & Ermon 2019 (sliced).
    """

    of: Literal["energy", "score"] = "energy"
    projections: int = Field(default=-1, ge=-1)
    noise: float = Field(default=0.0, ge=0)

    tasks: ClassVar[tuple[str, ...]] = ("regression",)

    def term(self, at: Forward) -> Tensor:
        if self.noise:
            z = at.draws.normal(at.x)
            score = self.score(at.at((at.x + self.noise * z).detach()))
            return at.rows(score + z / self.noise).square().sum(1) / 2
        score = self.score(at)
        return at.rows(score).square().sum(1) / 2 + self.trace(at, score)

    def score(self, at: Forward) -> Tensor:
        """s, shaped as x, with graph.

        Raises:
            UserError: the model gives something of another shape.
        """
        if self.of == "energy":
            if rows(at.outputs).shape[1] != 1:
                raise UserError("of: energy needs a model with one output; fix: of: score, or a sum of the outputs")
            return -at.gradient("outputs")
        if at.outputs.shape != at.x.shape:
            raise UserError(f"of: score needs outputs shaped as x, {tuple(at.x.shape)}; fix: of: energy for an energy")
        return at.outputs

    def trace(self, at: Forward, score: Tensor) -> Tensor:
        """tr(∂s/∂x), (N,), exact or in the mean of random directions."""
        if self.projections == 0:
            raise UserError("projections: give 1 or more, or -1 for the exact trace")
        if self.projections < 0:
            flat = rows(score)
            return torch.stack([rows(at.gradient_of(flat[:, i]))[:, i] for i in range(flat.shape[1])]).sum(0)
        directions = [at.draws.normal(score) for _ in range(self.projections)]
        each = [at.rows(at.gradient_of((score * v).flatten(1).sum(1)) * v).sum(1) for v in directions]
        return torch.stack(each).mean(0)
