"""Several nets of one architecture trained at once: their parameters stacked, one step for all of them."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from inputgrad.errors import UserError
from inputgrad.gradients.forward import Context, Draws
from inputgrad.losses import Loss
from inputgrad.losses._step import Step, Taken


class Stacked(nn.Module):
    """S nets as one: examples that lie together, N for each net in turn, go through their own net.

    Every example's output depends on that example and its own net alone, so that a loss needs to know nothing of it.

    Args:
        models: of one architecture, in one mode, without buffers (a running mean would belong to one net).

    Raises:
        UserError: the models differ in shape, or have buffers.
    """

    def __init__(self, models: Sequence[nn.Module]) -> None:
        super().__init__()
        shapes = [{k: v.shape for k, v in model.state_dict().items()} for model in models]
        if any(shape != shapes[0] for shape in shapes) or any(True for m in models for _ in m.buffers()):
            raise UserError("these nets cannot be stacked: their parameters differ in shape, or they have buffers")
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


class StackedDraws(Draws):
    """The random numbers of each net's own draws, side by side: those that it would get alone."""

    def __init__(self, each: Sequence[Draws]) -> None:
        super().__init__(None)
        self.each = each

    def uniform(self, like: Tensor) -> Tensor:
        return torch.cat([d.uniform(part) for d, part in zip(self.each, like.chunk(len(self.each)), strict=True)])

    def normal(self, like: Tensor) -> Tensor:
        return torch.cat([d.normal(part) for d, part in zip(self.each, like.chunk(len(self.each)), strict=True)])

    def integers(self, like: Tensor, high: int) -> Tensor:
        parts = zip(self.each, like.chunk(len(self.each)), strict=True)
        return torch.cat([d.integers(part, high) for d, part in parts])

    def subset(self, like: Tensor, size: int) -> Tensor:
        chunks, start, chosen = like.chunk(len(self.each)), 0, []
        for draws, part in zip(self.each, chunks, strict=True):
            chosen.append(start + draws.subset(part, size // len(self.each)))
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
        each = StackedDraws(draws or [Draws() for _ in models])
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
