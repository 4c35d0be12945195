"""Losses that depend on the input gradient: defined once, trained side by side, attacked, reported."""

from __future__ import annotations

import importlib
from typing import Any

__all__ = ["load"]


def __getattr__(name: str) -> Any:
    """`pipeline.load`, imported when it is asked for: a command that needs no torch must not wait for it."""
    if name not in __all__:
        raise AttributeError(f"module 'pipeline' has no attribute '{name}'")
    return getattr(importlib.import_module("pipeline.loading"), name)
