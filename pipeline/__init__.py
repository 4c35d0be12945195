"""Losses that depend on the input gradient: defined once, trained side by side, attacked, reported."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.loading import load

__all__ = ["load"]


def __getattr__(name: str) -> Any:
    """`pipeline.load`, imported when it is asked for: a command that needs no torch must not wait for it."""
    if name != "load":
        raise AttributeError(f"module 'pipeline' has no attribute '{name}'")
    from importlib import import_module  # by its name: what a stage's fingerprint follows are imports, and none is here

    return import_module("pipeline.loading").load
