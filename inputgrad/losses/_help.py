"""`help(loss)` on one screen: the formula, every knob, how it is called; not the library that checks the knobs."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

if TYPE_CHECKING:  # type checkers cannot take a class from a call
    from pydantic._internal._model_construction import ModelMetaclass
else:
    ModelMetaclass = type(BaseModel)

SHOWN = ("each", "penalty")
"""What `help` shows besides the docstring."""
USE = (
    "loss(model, x, y, context=None, draws=None, strength=None).backward()",
    "# model: module or function; x: (N, *input) in the data's own units, or a container (see Context);",
    "# y: class numbers (N,), or floating-point targets; Context(task=...) says what else they are",
)
ABOUT: dict[type, str] = {}
"""Class of a loss -> its docstring as it stands in its file."""


class Shown(ModelMetaclass):
    """The class of the classes of losses: `dir` names what people use."""

    def __dir__(cls) -> list[str]:
        return [*SHOWN]


def explain(loss: Any, shared: str) -> None:
    """Put every knob, the inherited ones too, and an example under the docstring of a loss.

    Args:
        loss: its class.
        shared: the docstring that says what the inherited knobs mean, a line `name: text` each.
    """
    ABOUT[loss] = inspect.cleandoc(vars(loss).get("__doc__") or "")
    meaning = dict(line.strip().split(": ", 1) for line in shared.splitlines() if ": " in line)
    lines = []
    knobs = {"terms": loss.model_fields["terms"]} if "terms" in loss.model_fields else loss.model_fields
    for name, field in knobs.items():
        kind = inspect.formatannotation(field.annotation).replace("typing.", "").replace("inputgrad.gradients.", "")
        default = "" if field.is_required() else f" = {field.default!r}"
        lines.append(f"{name}: {kind}{default}{'; ' + meaning[name] if name in meaning else ''}")
    use = [f"loss = {loss.example or loss.__name__ + '()'}", *USE]
    loss.__doc__ = "\n\n".join([ABOUT[loss], "\n    ".join(["Knobs:", *lines]), "\n    ".join(["Use:", *use])])
