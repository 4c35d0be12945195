"""Match the input gradient of the outputs to a target of every example: Sobolev training, force matching."""

from typing import ClassVar, Literal

from pydantic import Field
from torch import Tensor

from inputgrad.gradients.forward import Forward
from inputgrad.gradients.targets import Mean, matched, squared_distance
from inputgrad.losses import Loss, Published, Range


class GradientTarget(Loss):
    """task_weight * mean(l_i) + strength * mean(‖w_i · (sign · ∇_x f(x_i) - t_i)‖²).

    t_i is the gradient that the output should have at x_i: `Context(examples={"target_gradient": t})`, shaped as x, or
    (N, k, *input) where each of the k outputs has its own. With `sign: -1` it is matched by the negative gradient: t_i
    are the forces that belong to the energies y_i. `gradient_weight`, shaped as t, weighs components; 0 leaves out one
    that is not known.

    `mean` says over what is averaged: over the rows of x the sum over a row's components ("row"; rows are examples, or
    the atoms of a batch of molecules), over all components ("component", as `nn.MSELoss` on the forces), or over the
    examples the sum over all rows of one ("example"; it needs `Context(index=...)`).

    With `task_weight` 0 the gradient alone is learned, and the output is known up to a constant: forces without
    energies, or the motion that an energy gives (Hamiltonian neural networks, Greydanus et al. 2019).

    Regression only: the gradient is that of the prediction itself, not of its error.
    Cost: one double backward for each output. Helps wherever derivatives are known: force fields, simulators, teachers;
    a few gradients tell more than many values.

    Source: Czarnecki, Osindero, Jaderberg, Świrszcz & Pascanu 2017 (Sobolev training); force matching goes back to
    Ercolessi & Adams 1994. Theirs is a sum over the components too; a mean over d components is strength / d here.
    Huge & Savine 2020 (differential machine learning): see `inputgrad strength huge2020 1`.
    """

    sign: Literal[1, -1] = 1
    mean: Mean = "row"
    task_weight: float = Field(default=1.0, ge=0)

    needs: ClassVar[tuple[str, ...]] = ("target_gradient",)
    tasks: ClassVar[tuple[str, ...]] = ("regression",)
    search: ClassVar[dict[str, Range]] = {"strength": Range(1e-3, 10.0)}
    published: ClassVar[dict[str, Published]] = {
        "huge2020": Published(
            writes="α · MSE(values) + β · the mean over components of (l_j · (slope - target))², α = 1/(1 + w·n), "
            "β = 1 - α, l_j = 1/rms of slope j, n inputs (Huge & Savine 2020, notebook); w is 1 there",
            formula="λ = w, the total being theirs divided by α, which Adam does not notice",
            checked="their formula, written out in a test, is α times our loss in float64",
            factor=lambda s: 1.0,
            knobs="{mean: row}, and l_j as gradient_weight",
        )
    }

    @property
    def weight_of_task(self) -> float:
        return self.task_weight

    def term(self, at: Forward) -> Tensor:
        found, wanted = matched(at, self.sign)
        return squared_distance(at, found, wanted, self.mean)
