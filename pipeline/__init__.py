"""Losses that depend on the input gradient: defined once, trained side by side, attacked, reported."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.loading import load

_HOME = {"load": "loading"}
"""Public name -> the module that defines it."""

__all__ = ["load"]


def __getattr__(name: str) -> Any:
    """`pipeline.load`, imported when it is asked for: a command that needs no torch must not wait for it."""
    if name not in _HOME:
        raise AttributeError(f"module 'pipeline' has no attribute '{name}'")
    return getattr(importlib.import_module(f"pipeline.{_HOME[name]}"), name)
