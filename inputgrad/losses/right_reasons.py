"""Be right for the right reasons: no gradient on inputs that must not matter."""

from typing import ClassVar

from pydantic import Field
from torch import Tensor

from inputgrad.errors import UserError
from inputgrad.gradients.forward import Forward
from inputgrad.losses import Loss, Published, Range


class RightReasons(Loss):
    """mean(l_i) + strength * mean(‖m ∘ ∇_x Σ_k log p_k(x_i)‖²), m the data set's mask of inputs that must not matter.

    Regression: the gradient of the summed outputs takes the place of the log-probabilities'.
    Cost: one double backward. Helps where a shortcut is known: `decoy_digits` is the study that shows it;
    `toy_colors_*` and `iris_cancer` give figures of the paper.

    Source: Ross, Hughes & Doshi-Velez 2017. Their code sums the task loss and the term over the batch alike,
    so that N cancels and its λ is ours; where a port averages the task loss but sums the term, its λ·N is ours.
    """

    strength: float = Field(default=10.0, ge=0)

    needs: ClassVar[tuple[str, ...]] = ("mask",)

    search: ClassVar[dict[str, Range]] = {"strength": Range(1e-3, 1e3)}
    published: ClassVar[dict[str, Published]] = {
        "rrr": Published(
            writes="w · the sum over the batch, next to the *sum* of the task loss (right for the right reasons, "
            "Ross et al. 2017, code); dividing the total by N divides both alike",
            formula="λ = w",
            checked="read in their code (both sums stand in one objective); written out in a test and divided by N, "
            "it gives the same loss in float64",
            factor=lambda s: 1.0,
        ),
        "rrr_mean_task": Published(
            writes="w · the sum over the batch, next to the *mean* of the task loss (ports of the above)",
            formula="λ = w · N",
            checked="the formula, written out in a test, gives the same loss in float64",
            factor=lambda s: s.of("batch_size"),
            needs=("batch_size",),
        ),
    }

    def term(self, at: Forward) -> Tensor:
        gradient = at.gradient("log_probabilities" if at.task.has_classes else "outputs")
        return at.rows(masked(at, gradient)).square().sum(1)


def masked(at: Forward, values: Tensor) -> Tensor:
    """What is shaped as x, times the mask of the context.

    Raises:
        UserError: there is no mask, or it does not fit.
    """
    mask = at.context.examples.get("mask", at.context.mask)
    if mask is None:
        known = "Context(mask=...), or one for each example in Context(examples=...)"
        raise UserError(f"a mask is missing; fix: {known}")
    behind = zip(mask.shape[::-1], values.shape[::-1], strict=False)
    if mask.dim() > values.dim() or any(a not in (1, b) for a, b in behind):
        # (1, N, *input), for instance: the sum over the batch, N times too large
        fix = f"fix: give it shaped as an input, {tuple(at.x.shape[1:])}"
        raise UserError(f"the mask has shape {tuple(mask.shape)}, the inputs {tuple(at.x.shape)}; {fix}")
    return values * mask
