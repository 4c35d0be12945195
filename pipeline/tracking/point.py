"""A value of a metric and its moment, as MLflow has them."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple


class Point(NamedTuple):
    """One value of a metric. `moment` is in milliseconds since 1970, as MLflow has it."""

    name: str
    value: float
    moment: int
    step: int = 0


def milliseconds(file: Path) -> int:
    """When a file was last written, as MLflow counts time."""
    return file.stat().st_mtime_ns // 1_000_000
