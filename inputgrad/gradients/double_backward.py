"""What PyTorch's errors about second derivatives mean, which fix they have, and which layer is to blame."""

from __future__ import annotations

import re
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from typing import Any

import torch
from torch import Tensor, nn

from inputgrad.errors import UserError
from inputgrad.gradients.containers import modules_of

KERNEL = (
    "this kernel has no double backward; run it with the math kernel (with torch.nn.attention.sdpa_kernel("
    'SDPBackend.MATH), in transformers attn_implementation="eager", for a recurrent net torch.backends.cudnn.flags('
    "enabled=False)), or use finite_difference"
)
IN_PLACE = (
    "an in-place operation overwrote a value that the backward pass needs: build the layer with inplace=False, and"
    " write x = x + 1 for x += 1"
)
NO_SECOND = (
    "this operation has no double backward; take another one (nn.SiLU for nn.Hardswish, nn.Sigmoid for nn.Hardsigmoid),"
    " or use finite_difference"
)
FIXES = {
    r"modified by an inplace operation": IN_PLACE,
    r"attention.* is not implemented|[Dd]ouble backwards? is not supported|CuDNN RNN": KERNEL,
    r"derivative for .* is not implemented": NO_SECOND,
    r"aot_autograd does not currently support double backward": "a compiled model has no double backward: give the"
    " model as it was before torch.compile, or take the gradient by torch.func.grad inside a compiled loss",
    r"[Cc]heckpoint(ing)? is (incompatible|not compatible)": "checkpoint(..., use_reentrant=False) supports this",
    r"second time|already been freed": "that graph was used up by an earlier backward: take the input gradient by"
    " torch.autograd.grad(..., create_graph=True), and call backward() once, at the end",
    r"does not require grad": "no graph leads there: the pass ran under torch.no_grad(), or x or the outputs were"
    " detached; write with torch.enable_grad(): and x = x.detach().requires_grad_(True) before the model is called",
    r"not have been used in the graph": "the outputs were not computed from that very tensor: call the model with the x"
    " that the gradient is asked for, no copy and no view of it",
    r"setStorage|does not have storage": "the weights were taken away between two gradients (FSDP): call"
    " model.set_reshard_after_backward(False) before the loss and (True) before backward(), as loss(model, x, y) does",
    r"marked (as )?ready twice": "DDP saw a weight twice: leave static_graph and reentrant checkpoints out, or give DDP"
    " a module whose forward computes the loss",
    r"same dtype|expected scalar type|[Ii]nput type .* should be the same|type .* and bias type": "x and the weights"
    " are of different width: x = x.to(next(model.parameters()).dtype)",
    r"same device|[Ee]xpected all tensors to be on": "model, x, y and context are on different devices: x.to(device),"
    " y.to(device), context.to(device)",
    r"[Tt]arget \d+ is out of bounds": "a class number is as large as the model has outputs, or larger: give the model"
    " more outputs; a label that is to be left out is -100",
    r"[Oo]ut of memory|can't allocate memory": "give a smaller batch: an input gradient with graph takes two to three"
    " times the memory of a plain step",
}
"""A piece of an error of PyTorch -> what it means and what to write."""


def fix_of(error: BaseException) -> str:
    """What to do about an error of PyTorch that has to do with input gradients; '' for any other."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return FIXES[r"[Oo]ut of memory|can't allocate memory"]
    return next((fix for piece, fix in FIXES.items() if re.search(piece, str(error))), "")


@contextmanager
def _saying(model: Any, x: Any) -> Iterator[None]:
    try:
        yield
    except (RuntimeError, NotImplementedError, IndexError, MemoryError) as error:
        if not (fix := fix_of(error)):
            raise
        blamed = to_blame(error, modules_of(model), (lambda: model(x)) if isinstance(x, Tensor) else (lambda: None))
        first = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__).strip()
        raise UserError(f"{blamed}{first[:200].rstrip(':.')}; fix: {fix}") from error


def saying(model: Any, x: Any) -> AbstractContextManager[None]:
    """In here an error of PyTorch about input gradients becomes a UserError of one line, with what to do.

    Args:
        model: in which the layer to blame is looked for.
        x: with which it is called for that.
    """
    return nullcontext() if torch.compiler.is_compiling() else _saying(model, x)


@contextmanager
def computing(model: Any, x: Any) -> Iterator[None]:
    """In here a loss is computed: errors as in `saying`, and weights that FSDP2 shards stay whole.

    Between two gradients of one loss they may not be taken away; the caller's backward gives their memory back.
    """
    parts: list[Any] = []
    if is_distributed():
        parts = [m for one in modules_of(model) for m in one.modules() if is_sharded(m)]
    for part in parts:
        part.set_reshard_after_backward(False, recurse=False)
    try:
        with saying(model, x):
            yield
    finally:
        for part in parts:
            part.set_reshard_after_backward(True, recurse=False)


ENDS = ("torch::autograd::NotImplemented", "torch::autograd::Error", "CompiledFunctionBackwardBackward")
"""Where the graph of a gradient ends at an operation that PyTorch cannot differentiate a second time."""
_LOOKED: weakref.WeakKeyDictionary[Any, bool] = weakref.WeakKeyDictionary()


def refuse_dead_ends(model: Any, gradient: Tensor) -> None:
    """Let PyTorch's error come now, where it can be explained, and not in the user's own `backward()`.

    Looked for once for every model: a walk through the graph takes longer than a small step.

    Args:
        model: what the gradient was asked of.
        gradient: with graph.

    Raises:
        RuntimeError: PyTorch's own.
    """
    key = getattr(model, "__code__", model)  # a function may be made anew for every step
    if key in _LOOKED:
        return
    _LOOKED[key] = True
    weights = [p for one in modules_of(model) for p in one.parameters() if p.requires_grad]
    if weights and any(name in ENDS for name in names_in_graph(gradient)):
        torch.autograd.grad(gradient.square().sum(), weights, retain_graph=True, allow_unused=True)


def names_in_graph(t: Tensor) -> set[str]:
    """The names of the operations that a tensor was computed with."""
    return {node.name() for node in nodes_of(t)}


def leaves_of(t: Tensor) -> list[Tensor]:
    """The tensors that a backward of t would give a gradient."""
    return [node.variable for node in nodes_of(t) if hasattr(node, "variable")]


def nodes_of(t: Tensor) -> set[Any]:
    left: list[Any] = [t.grad_fn]
    seen: set[Any] = {None}
    while left:
        if (node := left.pop()) not in seen:
            seen.add(node)
            left += [one for one, _ in node.next_functions]
    return seen - {None}


def is_sharded(module: Any) -> bool:
    return hasattr(module, "set_reshard_after_backward")


def is_distributed() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def to_blame(error: BaseException, models: Iterable[nn.Module], call: Callable[[], object]) -> str:
    """'layer NAME has no double backward: ', or the like, for an error of PyTorch; '' where no layer is found.

    Args:
        error: what PyTorch raised.
        models: where to look.
        call: calls the models as they were called when it happened.
    """
    names: list[str] = []
    if (fix := fix_of(error)) == IN_PLACE:
        names = [name for model in models for name, m in model.named_modules() if getattr(m, "inplace", False)]
    elif fix in (KERNEL, NO_SECOND):
        names = layers_without_double_backward(models, call)
    names = list(dict.fromkeys(names))
    shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if names[3:] else "")
    return f"layer {shown} {'works in place' if fix == IN_PLACE else 'has no double backward'}: " if names else ""


def layers_without_double_backward(models: Iterable[nn.Module], call: Callable[[], object]) -> list[str]:
    """Names of the innermost layers, of those that `call` runs, whose second derivative does not exist."""
    seen: list[tuple[str, nn.Module, tuple[Any, ...], dict[str, Any]]] = []
    handles = [
        m.register_forward_hook(
            lambda module, args, kwargs, _, name=name: seen.append((name, module, args, kwargs)), with_kwargs=True
        )
        for model in models
        for name, m in model.named_modules()
    ]
    try:
        with torch.random.fork_rng(devices=[]), suppress(Exception):  # the error itself, once more
            call()
    finally:
        for handle in handles:
            handle.remove()
    found: list[str] = []
    for name, module, args, kwargs in seen:  # inner layers end before outer ones
        inside = f"{name}." if name else ""
        if not any(inner.startswith(inside) for inner in found) and not twice(module, args, kwargs):
            found.append(name or type(module).__name__)
    return found


def twice(layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether a layer can be differentiated twice, or fails for another reason."""
    leaves = [a.detach().requires_grad_(True) if is_float(a) else a for a in args]
    wanted = [a for a in leaves if is_float(a)]
    try:
        with torch.enable_grad():
            outputs = layer(*(a.clone() if is_float(a) else a for a in leaves), **kwargs)  # a layer may work in place
            outputs = outputs[0] if isinstance(outputs, tuple) else outputs
            if wanted and isinstance(outputs, Tensor) and outputs.requires_grad:
                grads = torch.autograd.grad(outputs.square().sum(), wanted, create_graph=True, allow_unused=True)
                sum((g.square().sum() for g in grads if g is not None), outputs.new_zeros(())).backward()
    except (RuntimeError, NotImplementedError) as error:
        return fix_of(error) not in (KERNEL, NO_SECOND)
    return True


def is_float(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point()
