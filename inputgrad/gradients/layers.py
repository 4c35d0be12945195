"""Which layers of a net can be differentiated twice."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from inputgrad.errors import UserError
from inputgrad.gradients.forward import evaluating


def refuse_without_double_backward(model: nn.Module, x: Tensor, error: Exception, where: str = "") -> None:
    """Say `error` in the user's words where a layer without a second derivative is its cause; else return.

    Raises:
        UserError: names the layers and the fix; `where` stands in front.
    """
    failing = [name for name, problem in layers_without_double_backward(model, x) if problem]
    if failing:
        raise UserError(
            f"{where}layer {', '.join(failing)} has no double backward ({str(error).splitlines()[0]}); run it with the"
            " math kernel (torch.nn.attention.sdpa_kernel(SDPBackend.MATH)) or use finite_difference"
        ) from error


def layers_without_double_backward(model: nn.Module, x: Tensor) -> list[tuple[str, str]]:
    """(layer, error) for every leaf layer; the error is empty where a second derivative exists."""
    seen: list[tuple[str, nn.Module, tuple[Any, ...], dict[str, Any]]] = []
    handles = [
        m.register_forward_pre_hook(
            lambda module, args, kwargs, name=name: seen.append((name, module, args, kwargs)), with_kwargs=True
        )
        for name, m in model.named_modules()
        if not list(m.children()) or isinstance(m, nn.MultiheadAttention)
    ]
    try:
        with evaluating(model), torch.no_grad(), torch.random.fork_rng(devices=[]):
            model(x)
    finally:
        for handle in handles:
            handle.remove()
    return [(name, try_twice(copy.deepcopy(layer), args, kwargs)) for name, layer, args, kwargs in seen]


def try_twice(layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    """The error of differentiating a layer twice, empty if there is none."""
    floating = [a.detach().clone().requires_grad_(True) if is_float(a) else a for a in args]
    leaf = next((a for a in floating if is_float(a)), None)
    if leaf is None:
        return ""
    try:
        outputs = layer(*floating, **{k: v.detach() if is_float(v) else v for k, v in kwargs.items()})
        outputs = outputs[0] if isinstance(outputs, tuple) else outputs
        (g,) = torch.autograd.grad(outputs.square().sum(), leaf, create_graph=True)
        g.square().sum().backward()
    except (RuntimeError, NotImplementedError) as error:
        return str(error).splitlines()[0]
    return ""


def is_float(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point()
