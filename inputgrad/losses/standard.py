"""Plain training: the task loss and nothing else. Every other loss is compared with it, seed by seed."""

from typing import ClassVar, Literal

from torch import Tensor

from inputgrad.gradients.forward import Forward
from inputgrad.losses import Loss


class Standard(Loss):
    """mean(l_i). The baseline; it has no strength."""

    strength: Literal[0] = 0
    tracks_input: ClassVar[bool] = False

    def term(self, at: Forward) -> Tensor:
        return at.losses.new_zeros(at.size)
