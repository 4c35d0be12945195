"""How a loss is called: (model, x, y), (model, batch), (outputs, y), found from its parameters and by trying."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from inputgrad.errors import UserError
from inputgrad.gradients.containers import modules_of
from inputgrad.losses import Loss

OUTPUTS = ("output", "pred", "logit", "input", "y", "score", "out")
"""How the first parameter of a loss on outputs is named, at its beginning."""


@dataclass(frozen=True)
class Form:
    """A way to call a loss, as one writes it."""

    text: str
    call: Callable[[Any, Any, Any, Any], Any]


def outputs(model: Any, x: Any) -> Any:
    if isinstance(x, Mapping):
        return model(**x)
    return model(*x) if isinstance(x, tuple | list) else model(x)


PLAIN = Form("loss(model, x, y)", lambda loss, model, x, y: loss(model, x, y))
NO_Y = Form("loss(model, x)", lambda loss, model, x, y: loss(model, x))
BATCH = Form("loss(model, (x, y))", lambda loss, model, x, y: loss(model, (x, y)))
PARTS = Form("loss(model, *x)", lambda loss, model, x, y: loss(model, *x))
PARTS_Y = Form("loss(model, *x, y)", lambda loss, model, x, y: loss(model, *x, y))
MODELS = Form("loss(*models, x, y)", lambda loss, model, x, y: loss(*model, x, y))
MODELS_X = Form("loss(*models, x)", lambda loss, model, x, y: loss(*model, x))
OF_OUTPUTS = Form("loss(model(x), y)", lambda loss, model, x, y: loss(outputs(model, x), y))


def forms(loss: Any, model: Any, x: Any, y: Any) -> Iterator[Form]:
    """The ways in which this loss may be meant, the likeliest first.

    Raises:
        UserError: it takes another number of arguments.
    """
    if isinstance(loss, Loss):
        yield PLAIN
        return
    function = loss.forward if isinstance(loss, nn.Module) else loss
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):  # some built-in functions do not tell
        yield PLAIN
        return
    given = [p for p in parameters.values() if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    needed = sum(p.default is p.empty for p in given)
    most = 99 if any(p.kind is p.VAR_POSITIONAL for p in parameters.values()) else len(given)
    several = len(model) if isinstance(model, tuple | list) else 1
    parts = len(x) if isinstance(x, tuple | list) else 0
    first = given[0].name.lower() if given else ""
    pair = [OF_OUTPUTS, BATCH] if first.startswith(OUTPUTS) else [BATCH, OF_OUTPUTS]
    ways = [(several + 2, MODELS)] if several > 1 and y is not None else [(several + 1, MODELS_X)] * (several > 1)
    ways += [(2, NO_Y), (parts + 1, PARTS), (3, PLAIN)] if y is None else [(3, PLAIN), *((2, form) for form in pair)]
    ways += [(parts + 2, PARTS_Y)] if parts and y is not None else []
    fitting = [form for n, form in ways if needed <= n <= most]
    if not fitting:
        names = f"({', '.join(p.name for p in given)})"
        fix = "wrap it as lambda model, x, y: ..., which gives one number"
        raise UserError(f"the loss takes {names}, and is called as loss(model, x, y); fix: {fix}")
    yield from fitting


def parts_of(model: Any) -> list[Any]:
    """What was given as the model: one module, or several in a tuple, a list or a dict."""
    return (
        list(model.values()) if isinstance(model, Mapping) else [*model] if isinstance(model, tuple | list) else [model]
    )


def refuse(loss: Any, model: Any) -> None:
    """Say what cannot be audited at all, in one line."""
    parts = parts_of(model)
    for one in (loss, *parts):
        if isinstance(one, type):
            raise UserError(f"{one.__name__} is a class; fix: give an instance, {one.__name__}()")
    if not callable(loss):
        raise UserError(f"the loss is a {type(loss).__name__}; fix: give a function of (model, x, y)")
    models = [module for part in parts for module in modules_of(part)]
    if not models:
        fix = "fix: give a torch.nn.Module, several in a tuple, or a function that uses one"
        raise UserError(f"the model is a {type(model).__name__}; {fix}")
    if any(p.is_inference() for part in models for p in part.parameters()):
        fix = "build or load it outside of that block"
        raise UserError(f"the model was made under torch.inference_mode(), and cannot be trained; fix: {fix}")
    for one in (m for part in models for m in part.modules()):
        if hasattr(one, "_orig_mod") or getattr(one, "_compiled_call_impl", None):
            fix = "give the model as it was before torch.compile (model._orig_mod), and train that one"
            raise UserError(f"the model is compiled, which has no double backward; fix: {fix}")
        if len(getattr(one, "device_ids", None) or []) > 1:
            raise UserError("the model is spread over several devices; fix: give model.module")
