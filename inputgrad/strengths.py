"""Published strengths in this project's convention, and back.

Every code base scales its penalty its own way: by the batch, by a half, by the data's normalisation. Here a strength
multiplies the batch mean of a per-example term, so each source needs one factor, and this table is where it stands.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from inputgrad.errors import UserError, nearest


@dataclass(frozen=True)
class Setting:
    """What a published strength was used with; None where the source does not need it.

    batch_size: N of the source's training. epsilon: its ε in [0, 1] units. alpha: its extra weight α.
    """

    batch_size: int | None = None
    epsilon: float | None = None
    alpha: float | None = None


@dataclass(frozen=True, kw_only=True)
class Source:
    """One paper or code base: ours = published * factor(setting).

    Attributes:
        loss: the loss here, with the knobs that make it the source's.
        writes: what the source writes.
        formula: how λ here follows from w there.
        factor: of the setting.
        needs: the fields of the setting that the factor reads.
    """

    loss: str
    writes: str
    formula: str
    factor: Callable[[Setting], float]
    needs: tuple[str, ...] = ()


def _number(value: float | None) -> float:
    assert value is not None  # `convert` has checked what the source needs
    return float(value)


SOURCES: dict[str, Source] = {
    "ross2018": Source(
        loss="gradient_norm: {p: 2, squared: true}",
        writes="w · ½ · the sum of squares of the gradient of the mean loss (Ross & Doshi-Velez 2018, code)",
        formula="λ = w / (2N)",
        factor=lambda s: 1 / (2 * _number(s.batch_size)),
        needs=("batch_size",),
    ),
    "finlay2019": Source(
        loss="gradient_norm: {p: 2, squared: true}",
        writes="w · mean(dl²) / 2 (Finlay & Oberman 2019, code); finite_difference has the ½ inside: there λ = w",
        formula="λ = w / 2",
        factor=lambda s: 0.5,
    ),
    "eccv2024": Source(
        loss="gradient_norm: {p: 1, squared: false}",
        writes="w · α · (ε/σ) · mean ‖g‖₁ of the normalised input (gradient-norm regularisation, ECCV 2024); g there "
        "is σ times g here, so that σ cancels",
        formula="λ = w · α · ε",
        factor=lambda s: _number(s.alpha) * _number(s.epsilon),
        needs=("alpha", "epsilon"),
    ),
    "cure": Source(
        loss="curvature",
        writes="w / N · mean of the norm, not squared, not divided by h (CURE's code, Moosavi-Dezfooli et al. 2019); "
        "the factor converts the weight, the norm stays unsquared there and squared here",
        formula="λ = w / N",
        factor=lambda s: 1 / _number(s.batch_size),
        needs=("batch_size",),
    ),
    "pag": Source(
        loss="gradient_direction",
        writes="w · 10 · the mean cosine loss (perceptually aligned gradients, Ganz et al. 2023, code)",
        formula="λ = 10 w",
        factor=lambda s: 10.0,
    ),
    "rrr": Source(
        loss="right_reasons",
        writes="w · the sum over the batch, beside the *sum* of the task loss (right for the right reasons, Ross et "
        "al. 2017, code); dividing the total by N divides both alike",
        formula="λ = w",
        factor=lambda s: 1.0,
    ),
    "rrr_mean_task": Source(
        loss="right_reasons",
        writes="w · the sum over the batch, beside the *mean* of the task loss (ports of the above)",
        formula="λ = w · N",
        factor=lambda s: _number(s.batch_size),
        needs=("batch_size",),
    ),
}


def convert(source: str, published: float, setting: Setting, back: bool = False) -> float:
    """A published strength as ours, or (`back`) ours as the source would write it.

    Raises:
        UserError: an unknown source, a strength that is no strength, or a missing part of the setting.
    """
    if source not in SOURCES:
        raise UserError(f"no source '{source}'; {nearest(source, SOURCES)}")
    if not (math.isfinite(published) and published >= 0):
        raise UserError(f"a strength is a finite number >= 0, not {published}")
    for name in SOURCES[source].needs:
        value = getattr(setting, name)
        if value is None or not value > 0:
            raise UserError(f"{source} needs --{name.replace('_', '-')} > 0: {SOURCES[source].formula}")
    factor = SOURCES[source].factor(setting)
    return published / factor if back else published * factor


def describe(source: str, given: float, setting: Setting, back: bool = False) -> str:
    """A conversion for people: the number, the formula, and what each side multiplies."""
    value = convert(source, given, setting, back)
    theirs, ours = (value, given) if back else (given, value)
    entry = SOURCES[source]
    used = ", ".join(f"{name} {getattr(setting, name):g}" for name in entry.needs)
    return (
        f"{source} {theirs:g}  =  strength {ours:.6g} here  ({entry.loss})\n"
        f"formula: {entry.formula}{f'  with {used}' if used else ''}\n"
        f"there:   {entry.writes}\n"
        "here:    strength · the batch mean of the per-example term"
    )
