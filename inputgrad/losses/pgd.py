"""Adversarial training: train on the end of several projected gradient steps."""

from typing import ClassVar

from pydantic import Field
from torch import Tensor

from inputgrad.gradients.ascent import Adversary
from inputgrad.gradients.forward import Forward
from inputgrad.losses import Loss, Range


class PGD(Loss, Adversary):
    """task_weight * mean(l_i) + strength * mean(l(x_i + δ_i)), δ_i the end of `steps` projected ascent steps.

    The perturbation is a constant, the last forward pass alone carries the graph. By default `task_weight` is 0, as in
    the paper: only the perturbed inputs are trained on. `step` is 2.5·ε/steps unless given.

    Regression: l is the squared error, otherwise the same.
    Cost: `steps` forward and backward passes in the input, then one of training. Helps most against the
    threat model it is trained with: the strongest baseline there is; expect a lower clean score.

    Source: Madry, Makelov, Schmidt, Tsipras & Vladu 2018.
    """

    steps: int = Field(default=7, ge=1)
    random_start: bool = True
    task_weight: float = Field(default=0.0, ge=0)

    search: ClassVar[dict[str, Range]] = {"epsilon": Range(1e-2, 0.5)}
    tracks_input: ClassVar[bool] = False

    @property
    def weight_of_task(self) -> float:
        return self.task_weight

    def term(self, at: Forward) -> Tensor:
        return self.losses(at)
