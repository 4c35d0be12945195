"""Losses that depend on the input gradient: defined once, proven to act.

from inputgrad import GradientNorm
GradientNorm(strength=0.3)(model, x, y).backward()

A name is loaded when it is first used: `import inputgrad` alone loads neither torch nor anything else.
"""

import ast
import importlib
from pathlib import Path
from typing import Any

_STUB = ast.parse(Path(__file__).with_suffix(".pyi").read_text(encoding="utf-8"))
_HOME = {
    alias.name: str(line.module) for line in _STUB.body if isinstance(line, ast.ImportFrom) for alias in line.names
}
"""Public name -> the module that defines it: the stub next to this file is the one list, for type checkers too."""

_EXTRA = ("pandas", "pyarrow", "scipy", "pyautoattack", "foolbox")
"""What the attacks need, and the losses do not."""
_FIX = f"fix: pip install {' '.join(_EXTRA)}"
"""By their own names: nobody has published this library's."""

__all__ = [*_HOME]


def __getattr__(name: str) -> Any:
    if name == "audit":  # the package, which can be called (see there)
        return importlib.import_module("inputgrad.audit")
    if name not in _HOME:
        raise AttributeError(f"module 'inputgrad' has no attribute '{name}'; known: {', '.join(__all__)}")
    try:
        value = getattr(importlib.import_module(_HOME[name]), name)
    except ModuleNotFoundError as error:
        if error.name not in _EXTRA:
            raise
        raise ModuleNotFoundError(f"inputgrad.{name} needs {error.name}; {_FIX}", name=error.name) from None
    globals()[name] = value  # looked up once
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
