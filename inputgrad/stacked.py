"""Several small nets in one training step: each gets the gradient that it would get alone."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from types import FunctionType

import torch
from torch import Tensor, nn

from inputgrad.errors import UserError
from inputgrad.gradients.forward import Context, Draws
from inputgrad.losses import Loss
from inputgrad.step import Step, Taken


class Stacked(nn.Module):
    """S nets as one: examples that lie together, N for each net in turn, go through their own net.

    Every example's output depends on that example and its own net alone, so that a loss needs to know nothing of it.

    Args:
        models: of one architecture, in one mode, without buffers (a running mean would belong to one net).

    Raises:
        UserError: the models differ in more than the values of their weights, or what they share cannot be stacked.
    """

    def __init__(self, models: Sequence[nn.Module]) -> None:
        super().__init__()
        refuse(models)
        self.count = len(models)
        self._net = [copy.deepcopy(models[0]).to("meta")]  # in a list: no module of this one, its values are not used
        names = [name for name, _ in models[0].named_parameters()]
        self._names = names
        of_all = [dict(model.named_parameters()) for model in models]
        self.values = nn.ParameterList(
            nn.Parameter(torch.stack([one[name].detach() for one in of_all]), of_all[0][name].requires_grad)
            for name in names
        )

    def forward(self, x: Tensor) -> Tensor:
        """(S · N, *input) to (S · N, C)."""
        net = self._net[0].train(self.training)

        def one(values: tuple[Tensor, ...], part: Tensor) -> Tensor:
            found: Tensor = torch.func.functional_call(net, dict(zip(self._names, values, strict=True)), (part,))
            return found

        parts = x.unflatten(0, (self.count, -1))
        outputs: Tensor = torch.vmap(one, randomness="different")(tuple(self.values), parts)
        return outputs.flatten(0, 1)

    @torch.no_grad()
    def write_back(self, models: Sequence[nn.Module]) -> None:
        """Copy every net's parameters into the models that it was made of."""
        for number, model in enumerate(models):
            for (_, parameter), value in zip(model.named_parameters(), self.values, strict=True):
                parameter.copy_(value[number])


def refuse(models: Sequence[nn.Module]) -> None:
    """Refuse nets that would silently be trained as another net: the first one's code runs for all of them."""
    first, fix = models[0], "fix: train each with a Step of its own"
    for model in models:
        if any(True for _ in model.buffers()):
            raise UserError(f"these nets cannot be stacked: they have buffers, which belong to one net; {fix}")
        if len([*model.named_parameters()]) < len([*model.named_parameters(remove_duplicate=False)]):
            raise UserError(f"these nets cannot be stacked: a weight is used in two places (tied); {fix}")
        for what, of in ALIKE.items():
            if of(model) != of(first):
                raise UserError(f"these nets cannot be stacked: they differ in {what}; {fix}")


ALIKE: dict[str, Callable[[nn.Module], object]] = {
    "the shape of their parameters": lambda net: {name: p.shape for name, p in net.named_parameters()},
    "their layers": lambda net: [(type(module), settings(module)) for module in net.modules()],
    "which weights are trained": lambda net: [p.requires_grad for p in net.parameters()],
}
"""What must be the same in all nets, in the user's words."""


def settings(module: nn.Module) -> dict[str, object]:
    """What a layer does that no weight shows: its mode, a Dropout's share, an activation, a factor."""
    plain = (bool, int, float, str, tuple, FunctionType)
    return {name: value for name, value in vars(module).items() if isinstance(value, plain)}


class StackedDraws(Draws):
    """The random numbers of each net's own draws, side by side: those that it would get alone.

    share: of each net's examples that the term sees; see `Loss`.
    """

    def __init__(self, each: Sequence[Draws], share: float) -> None:
        super().__init__(None)
        self.each, self.share = each, share

    def uniform(self, like: Tensor) -> Tensor:
        return torch.cat([d.uniform(part) for d, part in zip(self.each, like.chunk(len(self.each)), strict=True)])

    def normal(self, like: Tensor) -> Tensor:
        return torch.cat([d.normal(part) for d, part in zip(self.each, like.chunk(len(self.each)), strict=True)])

    def integers(self, like: Tensor, high: int) -> Tensor:
        parts = zip(self.each, like.chunk(len(self.each)), strict=True)
        return torch.cat([d.integers(part, high) for d, part in parts])

    def subset(self, like: Tensor, size: int) -> Tensor:  # `size` is of all nets: rounded, it is not each one's own
        chunks, start, chosen = like.chunk(len(self.each)), 0, []
        for draws, part in zip(self.each, chunks, strict=True):
            chosen.append(start + draws.subset(part, max(1, round(self.share * len(part)))))
            start += len(part)
        return torch.cat(chosen)


class StackedStep:
    """A step of S nets in one process: `step(x, y)` puts each net's own gradient into `step.model`'s parameters.

    An optimiser that treats every number by itself (SGD, Adam, AdamW) then trains each net as it would alone, up to
    rounding: `optimizer = torch.optim.Adam(step.model.parameters())`. It pays where a net is so small that Python takes
    longer than the numbers: MLPs of table data, not convolutions.

    Args:
        loss: one of ours.
        models: see `Stacked`; they are left alone until `step.model.write_back(models)`.
        context: as for `Step`.
        draws: of each net; by default the global ones.
        steps_per_epoch: as for `Step`.
    """

    def __init__(
        self,
        loss: Loss,
        models: Sequence[nn.Module],
        context: Context | None = None,
        draws: Sequence[Draws] | None = None,
        steps_per_epoch: int | None = None,
    ) -> None:
        self.model = Stacked(models).train(models[0].training)
        each = StackedDraws(draws or [Draws() for _ in models], loss.share)
        self._step = Step(loss, self.model, context, each, steps_per_epoch)

    def __call__(
        self, x: Tensor, y: Tensor, strength: float | None = None, examples: Mapping[str, Tensor] | None = None
    ) -> Taken:
        """A batch of each net, (S, N, *input), its labels or targets, (S, N, ...); the means are over all nets."""
        if len(x) != self.model.count or len(y) != self.model.count:
            raise UserError(f"x and y need a batch for each of the {self.model.count} nets; fix: stack S batches")
        known = {name: t.flatten(0, 1) for name, t in (examples or {}).items()}
        taken = self._step(x.flatten(0, 1), y.flatten(0, 1), strength, known)
        for parameter in self.model.values:
            if parameter.grad is not None:
                parameter.grad *= self.model.count  # the mean over all is a net's own mean, divided by their number
        return taken
