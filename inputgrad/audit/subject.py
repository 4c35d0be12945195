"""What is audited: one of our losses, or a function from anywhere that takes (model, x, y) and gives a scalar."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from inputgrad.errors import UserError
from inputgrad.gradients.forward import Context, Forward, RowDraws, per_example_loss
from inputgrad.losses import Loss

AnyLoss = Loss | Callable[[nn.Module, Tensor, Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A loss on a model and a batch, in float64, whose random numbers are the same at every call.

    Attributes:
        loss: ours, or a callable (model, x, y) -> scalar.
        model: a copy of the model.
        x: inputs, (N, *input).
        y: class numbers or targets.
        context: what the data set knows.
        index: which examples of the batch `x` holds: repeated or permuted ones draw the same numbers.
    """

    loss: AnyLoss
    model: nn.Module
    x: Tensor
    y: Tensor
    context: Context
    index: Tensor

    @classmethod
    def of(cls, loss: AnyLoss, model: nn.Module, x: Tensor, y: Tensor, context: Context | None) -> Subject:
        """In double precision, so that a difference can tell a wrong gradient from rounding."""
        if isinstance(loss, Loss):
            loss = loss.model_copy(update={"share": 1.0})  # the whole batch: what a part of it shows is luck
        context = context or Context()
        wide = {k: None if (t := getattr(context, k)) is None else t.double() for k in ("direction", "mask")}
        targets = y.double() if y.is_floating_point() else y
        return cls(
            loss=loss,
            model=copy.deepcopy(model).double(),
            x=x.detach().double(),
            y=targets,
            context=Context(bounds=context.bounds, **wide),
            index=torch.arange(len(x)),
        )

    def total(self, model: nn.Module | None = None) -> Tensor:
        """The loss of the batch, a scalar; the global random state is left as it was."""
        model = self.model if model is None else model
        devices = [self.x.device] if self.x.is_cuda else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(3)
            if isinstance(self.loss, Loss):
                draws = RowDraws(self.index, int(self.index.max()) + 1)
                return self.loss(model, self.x, self.y, self.context, draws)
            total: object = self.loss(model, self.x.clone(), self.y)
        if not isinstance(total, Tensor) or total.numel() != 1:
            what = (
                f"a tensor of shape {tuple(total.shape)}" if isinstance(total, Tensor) else f"a {type(total).__name__}"
            )
            raise UserError(f"the loss gives {what}; fix: return one number as a tensor, such as the mean")
        return total

    def task(self, model: nn.Module | None = None) -> Tensor:
        """The task loss of the batch that the term comes on top of, a scalar."""
        model = self.model if model is None else model
        if isinstance(self.loss, Loss):
            at = Forward(
                model, self.x, self.y, context=self.context, draws=RowDraws(self.index, len(self.x)), track=False
            )
            return self.loss.weight_of_task * self.loss.parts(at, 0.0).task.mean()
        return per_example_loss(model(self.x), self.y).mean()

    def rows(self, index: list[int]) -> Subject:
        """The same loss on repeated or permuted examples."""
        chosen = torch.tensor(index)
        on_device = chosen.to(self.x.device)
        return replace(self, x=self.x[on_device], y=self.y[on_device], index=self.index[chosen])

    @property
    def parameters(self) -> list[nn.Parameter]:
        return [p for p in self.model.parameters() if p.requires_grad]

    def gradient(self) -> Tensor:
        """What one training step would see in `.grad`, all parameters in one vector.

        By `zero_grad(); loss(); backward()`, as a user trains: what the loss itself leaves in `.grad` is counted.
        """
        for p in self.parameters:
            p.grad = None
        total = self.total()
        if total.requires_grad:
            total.backward()
        return collect(self.parameters)


def collect(parameters: list[nn.Parameter]) -> Tensor:
    """All `.grad` in one vector, zeros where there is none; they are cleared."""
    found = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad.detach()).flatten() for p in parameters])
    for p in parameters:
        p.grad = None
    return found
