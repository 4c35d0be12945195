"""Where a search looks: the ranges of the loss's own file, narrowed by the study."""

from __future__ import annotations

import math
from collections.abc import Mapping

from inputgrad.errors import UserError
from inputgrad.losses import Range
from pipeline.study.schema import Study

EDGE = 0.05
"""Share of a range, at either end, in which the best value suggests that a better one may lie outside."""

DIGITS = 4
"""Significant digits of a knob: what is written into the study is what was trained, and people can read it."""


def ranges(study: Study, loss: str) -> dict[str, Range]:
    own = type(study.loss(loss)).search
    if not own:
        searchable = ", ".join(name for name in study.losses if type(study.losses[name]).search)
        raise UserError(f"{study.file}: losses.{loss} has no strength to search; these have: {searchable or 'none'}")
    narrowed = study.search.ranges.get(loss, {})
    return {name: Range(*narrowed.get(name, (r.low, r.high)), log=r.log) for name, r in own.items()}


def rounded(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")


def present(study: Study, loss: str) -> dict[str, float] | None:
    """What the study states now, or None where it lies outside the ranges: the first trial of a search."""
    stated = study.loss(loss)
    values = {name: float(getattr(stated, name)) for name in type(stated).search}
    inside = all(r.low <= values[name] <= r.high for name, r in ranges(study, loss).items())
    return values if inside else None


def with_knobs(study: Study, loss: str, values: Mapping[str, float]) -> Study:
    """The study with other knobs of one loss, checked as if they were in its file."""
    stated = study.loss(loss)
    changed = type(stated).model_validate({**stated.model_dump(exclude_unset=True), **values})
    return study.model_copy(update={"losses": {**study.losses, loss: changed}})


def of_trials(study: Study) -> Study:
    """The study as its trials train it: one seed, and the epochs of `search`.

    The seed is the first number above the study's seeds: none of the seeds that are reported was searched with.
    """
    training = study.training
    update = {"seeds": [max(training.seeds) + 1], "epochs": study.search.epochs or training.epochs}
    return study.model_copy(update={"training": training.model_copy(update=update)})


def at_edge(found: Range, value: float) -> bool:
    """Whether a value lies at an end of its range, on the scale that is searched."""
    low, high, value = (math.log(v) if found.log else v for v in (found.low, found.high, value))
    return not EDGE <= (value - low) / (high - low) <= 1 - EDGE


def described(name: str, found: Range) -> str:
    return f"{name} {found.low:g} to {found.high:g}{', log' if found.log else ''}"
