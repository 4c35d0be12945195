"""A trained net in the form that the attacks need: one tensor of logits or predictions, in 32 bits at least."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.utils.checkpoint import checkpoint

from inputgrad.errors import UserError
from inputgrad.gradients.containers import output_of
from inputgrad.gradients.forward import HALF, wide

FIRST = 64
"""Examples that a net is tried on before anything else."""
AROUND = 1e-3
"""How far a probability may lie outside [0, 1]: a mean of several is rounded."""
HOOK = "net.register_forward_hook(lambda *a: {})"
"""A line that changes what a net gives: PyTorch calls a hook with the net, its inputs and its outputs."""


class Plain(nn.Module):
    """A net whose outputs are one tensor in 32 bits at least, and which is given a few rows at once.

    Args:
        net: gives a tensor, or an object with one that is meant; see `output_of`.
        dtype: of the inputs that it takes; None: as they are.
        rows: at most so many of them are given at once; None: all. Each part is then computed a second time in the
            backward pass, so that the memory of one part is enough.
    """

    def __init__(self, net: nn.Module, dtype: torch.dtype | None, rows: int | None) -> None:
        super().__init__()
        self.net, self.dtype, self.rows = net, dtype, rows

    def forward(self, x: Tensor) -> Tensor:
        if self.rows is None or len(x) <= self.rows:
            return self.part(x)
        parts = x.split(self.rows)
        if torch.is_grad_enabled() and x.requires_grad:
            return torch.cat([checkpoint(self.part, part, use_reentrant=False) for part in parts])
        return torch.cat([self.part(part) for part in parts])

    def part(self, x: Tensor) -> Tensor:
        """The outputs of all rows at once."""
        return wide(output_of(self.net(x if self.dtype is None else x.to(self.dtype)), None))


class TwoLogits(nn.Module):
    """A net of one logit as one of two classes: cross-entropy and prediction stay what they were."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        logit = self.net(x).reshape(-1, 1)
        return torch.cat([torch.zeros_like(logit), logit], 1)


def plain(net: nn.Module, x: Tensor, rows: int | None) -> tuple[nn.Module, Tensor, list[str]]:
    """A net in eval mode as the attacks need it, its outputs on the first inputs, and what is said about it.

    Args:
        net: the user's own.
        x: inputs, (N, *input), in 32 bits at least.
        rows: how many of them it is given at once; None: any number.

    Raises:
        UserError: it has no weights yet, does not take these inputs, or nothing says which of its outputs is meant.
    """
    refuse_lazy(net)
    notes = []
    if is_compiled(net):
        notes.append("the net runs as it was before torch.compile, which would compile it again for every batch size")
    dtype = next((p.dtype for p in net.parameters() if p.is_floating_point()), x.dtype)
    if dtype in HALF:
        name = str(dtype).removeprefix("torch.")
        notes.append(f"the net computes in {name}: an input is held in 32 bits and rounded in front of it")
    with torch.no_grad():
        outputs = called(net, x[: min(FIRST, rows or FIRST)], dtype)
    if dtype in HALF or rows is not None or not isinstance(outputs, Tensor) or outputs.dtype in HALF:
        net = Plain(net, dtype if dtype in HALF else None, rows)
    try:
        return net, wide(output_of(outputs, None)), notes
    except UserError as error:
        fix = f"fix: name the part with the logits, {HOOK.format('a[2][0]')} for the first"
        raise UserError(f"the model gives a {type(outputs).__name__} of several parts; {fix}") from error


def is_compiled(net: nn.Module) -> bool:
    """Whether it, or a part of it, was given to `torch.compile`."""
    return any(hasattr(one, "_orig_mod") or one._compiled_call_impl is not None for one in net.modules())


def uncompiled(net: nn.Module) -> AbstractContextManager[object]:
    """In here a compiled net runs without its compiled code, which keeps no graph for a second backward pass."""
    return torch.compiler.set_stance("force_eager") if is_compiled(net) else nullcontext()


def called(net: nn.Module, x: Tensor, dtype: torch.dtype) -> object:
    """What the net gives for these inputs."""
    try:
        return net(x.to(dtype) if dtype in HALF else x)
    except (RuntimeError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())[:160]
        shape = f"the model does not take inputs of shape {tuple(x.shape)}"
        if dtype != x.dtype and dtype not in HALF:
            fix = "x.float()" if dtype == torch.float32 else f"x.to({dtype})"
            raise UserError(f"{shape} in {x.dtype}, its weights are {dtype}; fix: {fix}") from error
        raise UserError(f"{shape} ({reason})") from error


def refuse_lazy(net: nn.Module) -> None:
    """Raise a UserError where a lazy layer does not know its shape yet, and has no weights."""
    lazy = [name for name, t in (*net.named_parameters(), *net.named_buffers()) if is_lazy(t)]
    if lazy:
        fix = "fix: call it once, net(x[:1]), before its weights are loaded"
        raise UserError(f"the model has lazy layers without weights ({lazy[0]}, …); {fix}")


@torch.no_grad()
def refuse_probabilities(net: nn.Module, x: Tensor, outputs: Tensor) -> None:
    """Raise a UserError where a classifier gives probabilities: their logarithm is what every attack is written for.

    All outputs lie in [0, 1], those of the data and those far from them: logits may lie there by chance, but do not
    stay there. It asks nothing of the sum of a row, which one sigmoid unit does not have, and 16 bits round.

    Args:
        net: of `plain`, in eval mode.
        x: all inputs, (N, *input).
        outputs: of the first of them.
    """
    if not like_probabilities(outputs):
        return
    if not all(like_probabilities(net(part)) for part in x.split(FIRST)):
        return
    for points in far_from(x):
        try:
            if not like_probabilities(net(points)):
                return
        except Exception:  # a net may refuse inputs out of its range, by any error; then the others have to tell
            continue
    if outputs[0].numel() == 1:
        fix = f"fix: give its logit: {HOOK.format('torch.logit(a[2].float(), 1e-7)')}"
    else:
        logarithm = HOOK.format("a[2].float().clamp_min(1e-30).log()")
        fix = f"fix: give its logits, before the softmax, or their logarithm: {logarithm}"
    raise UserError(f"the model gives probabilities: all its outputs lie in [0, 1]; {fix}")


def like_probabilities(outputs: Tensor) -> bool:
    finite = outputs[torch.isfinite(outputs)]  # a softmax of infinite logits is NaN
    return bool(((finite >= -AROUND) & (finite <= 1 + AROUND)).all())


def far_from(x: Tensor) -> Iterator[Tensor]:
    """Points like those of x, and others 10 and 1000 times as far from zero."""
    some = x[: min(FIRST, len(x))]
    drawn = torch.randn(some.shape, generator=torch.Generator().manual_seed(0)).to(some)
    width = max(float(x.abs().max()), 1.0)
    yield from (factor * width * drawn for factor in (1.0, 10.0, 1000.0))
