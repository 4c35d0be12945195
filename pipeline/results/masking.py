"""The masking sheet over the seeds: can the robust score of a loss be trusted?"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter

from inputgrad.robustness.masking import Finding

Findings = dict[str, Finding]
"""The checks of one run by name, as masking.json has them."""
SHEET = TypeAdapter(Findings)


@dataclass(frozen=True, kw_only=True)
class CheckOverSeeds:
    """One check of one loss over its seeds.

    Attributes:
        worst: the finding of the worst seed: a flagged one before any other, then the nearest to the threshold.
        seed: which one that is.
        flagged: how many of the `n` seeds are flagged.
    """

    name: str
    worst: Finding
    seed: int
    flagged: int
    n: int

    @property
    def ok(self) -> bool:
        return not self.flagged


Sheet = dict[str, CheckOverSeeds]
"""The checks of one loss by name, in the sheet's order."""


def read_sheet(file: Path) -> Findings:
    """masking.json of one run.

    Raises:
        FileNotFoundError, ValueError: missing, or not a sheet.
    """
    found = SHEET.validate_json(file.read_bytes())
    if not found:
        raise ValueError("it holds no check")
    return found


def over_seeds(found: dict[int, Findings]) -> Sheet:
    """The checks of all seeds of one loss; `found` is by seed."""
    return {name: one(name, found) for name in names(found.values())}


def one(name: str, found: dict[int, Findings]) -> CheckOverSeeds:
    there = {seed: findings[name] for seed, findings in found.items() if name in findings}
    seed = min(there, key=lambda s: there[s].worst_first)
    flagged = sum(not finding.ok for finding in there.values())
    return CheckOverSeeds(name=name, worst=there[seed], seed=seed, flagged=flagged, n=len(there))


def names(sheets: Iterable[Findings] | Iterable[Sheet]) -> list[str]:
    """The checks of all these sheets, in the order of their first appearance."""
    return list(dict.fromkeys(name for sheet in sheets for name in sheet))


def failed(sheet: Sheet) -> list[str]:
    return [check.name for check in sheet.values() if not check.ok]
