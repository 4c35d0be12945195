"""Published strengths in this project's convention, and back.

Every code base scales its penalty its own way: by the batch, by a half, by the data's normalisation. Here a strength
multiplies the batch mean of a per-example term, so each source needs one factor. It stands with the loss, as
`published`; here all of them are collected.
"""

from __future__ import annotations

import math

from inputgrad import losses, registry
from inputgrad.errors import UserError, nearest
from inputgrad.losses import Published
from inputgrad.losses import Setting as Setting


def sources() -> dict[str, tuple[str, Published]]:
    """Source -> the name of its loss, and the conversion."""
    found: dict[str, tuple[str, Published]] = {}
    for name in registry.names("inputgrad.losses"):
        for source, published in losses.load(name).published.items():
            if source in found:
                raise TypeError(f"{source} is published by two losses: {found[source][0]} and {name}")
            found[source] = name, published
    return found


def find(source: str) -> tuple[str, Published]:
    known = sources()
    if source not in known:
        raise UserError(f"no source '{source}'; {nearest(source, known)}")
    return known[source]


def convert(source: str, published: float, setting: Setting, back: bool = False) -> float:
    """A published strength as ours, or (`back`) ours as the source would write it."""
    _, entry = find(source)
    if not (math.isfinite(published) and published >= 0):
        raise UserError(f"a strength is a finite number >= 0, not {published}")
    for name in entry.needs:
        value = getattr(setting, name)
        if value is None or not value > 0:
            raise UserError(f"{source} needs --{name.replace('_', '-')} > 0: {entry.formula}")
    factor = entry.factor(setting)
    return published / factor if back else published * factor


def describe(source: str, given: float, setting: Setting, back: bool = False) -> str:
    """A conversion for people: the number, the formula, what each side multiplies, and how that was checked."""
    value = convert(source, given, setting, back)
    theirs, ours = (value, given) if back else (given, value)
    loss, entry = find(source)
    used = ", ".join(f"{name} {getattr(setting, name):g}" for name in entry.needs)
    return (
        f"{source} {theirs:g}  =  strength {ours:.6g} here  ({loss}{f': {entry.knobs}' if entry.knobs else ''})\n"
        f"formula: {entry.formula}{f'  with {used}' if used else ''}\n"
        f"there:   {entry.writes}\n"
        "here:    strength · the batch mean of the per-example term\n"
        f"checked: {entry.checked}"
    )
