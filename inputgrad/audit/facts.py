"""What an audit finds out before any row is written, and what a row is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from inputgrad.audit.subject import Run, Subject
from inputgrad.audit.verdict import Answer

TRAINS = ("depends", "moves its inputs along the gradient")
"""The verdicts with which training follows the input gradient."""


@dataclass(frozen=True)
class Row:
    """One row: its name, whether it is as it must be (None: not measured, or only told), the figure, what it means."""

    name: str
    ok: bool | None
    figure: str
    why: str


@dataclass(frozen=True)
class First:
    """What the loss did when it was called as a training loop calls it.

    Attributes:
        touched: what it changed for good, in the user's words.
        alive: whether it has a graph.
        bad: the row that says what is nan or infinite.
    """

    touched: tuple[str, ...]
    alive: bool
    bad: Row | None


@dataclass(frozen=True)
class Facts:
    """What was found before any row is written.

    Attributes:
        subject: what was audited.
        answer: how its value follows the derivatives.
        exact: an evaluation that is not bent, with its last backward.
        base: one that is bent by 1.
        first: what the loss did when it was called as a training loop calls it.
    """

    subject: Subject
    answer: Answer
    exact: Run
    base: Run
    first: First


Check = Callable[[Facts], tuple[bool | None, str]]


class NotMeasuredError(Exception):
    """The reason why a row has no figure."""
