"""Where the code of every stage begins: what that imports is found by following imports, in `pipeline.fingerprint`.

Told from what a study states alone, as YAML has it: nothing of a study is imported for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ANY_ATTACK: dict[str, Any] = {
    file.stem: {} for file in (Path(__file__).parents[2] / "inputgrad/attacks").glob("[a-z]*.py")
}
"""Where a study states no attacks: they are some of ours."""


@dataclass(frozen=True)
class Parts:
    """The modules that a study names; `module:Name` is a name in one."""

    data: str
    model: str
    losses: Mapping[str, tuple[str, ...]]
    attacks: tuple[str, ...]
    checkpoints: Mapping[str, str]


def parts(stated: Mapping[str, Any]) -> Parts:
    """Of what a study states, as YAML has it."""
    attack = mapping(stated.get("attack"))
    attacks = {**mapping(attack.get("attacks", ANY_ATTACK)), **mapping(attack.get("at_epsilon"))}
    model = part("pipeline.models", mapping(stated.get("model")).get("name"), stated.get("model"))
    return Parts(
        data=part("pipeline.data", mapping(stated.get("data")).get("name"), stated.get("data")),
        model=model,
        losses={n: of_loss(n, given) for n, given in mapping(stated.get("losses")).items()},
        attacks=tuple(sorted({part("inputgrad.attacks", n, given) for n, given in attacks.items()})),
        checkpoints={n: mapping(g).get("model") or model for n, g in mapping(stated.get("checkpoints")).items()},
    )


def of_loss(name: Any, given: Any) -> tuple[str, ...]:
    """The modules of a loss: its own, or that of sums and those of its terms."""
    if terms := mapping(mapping(given).get("terms")):
        return ("inputgrad.losses._sum", *(part("inputgrad.losses", term, one) for term, one in terms.items()))
    return (part("inputgrad.losses", name, given),)


def mapping(value: Any) -> dict[str, Any]:
    """A mapping as it is, anything else as an empty one: whether a study is right is checked where it is read."""
    return value if isinstance(value, dict) else {}


def part(package: str, name: Any, given: Any) -> str:
    """Where the code of a part is: in a module of ours, or where `use` says."""
    return str(mapping(given).get("use") or f"{package}.{name}")


def modules(stage: str, parts: Parts, name: str = "") -> tuple[str, ...]:
    """The modules with which a stage begins; what these import is found from them.

    Args:
        stage: one of DVC's, or `measured`, the second half of `train`.
        parts: those of the study.
        name: of the loss, or of the checkpoint.
    """
    if stage == "prepare":
        return ("pipeline.data", parts.data)
    used = ("pipeline.report" if stage == "report" else f"pipeline.stages.{stage}", parts.model, parts.data)
    if stage in ("train", "measured"):
        return (*used, *parts.losses[name])
    if stage == "checkpoint":
        return (*used, *parts.attacks, parts.checkpoints[name])
    return (*used, *(parts.attacks if stage == "attack" else ()))


def templates() -> list[Path]:
    """What a report is written with besides code."""
    here = Path(__file__).parents[1] / "report"
    return sorted(file for kind in ("*.j2", "*.css") for file in here.glob(kind))
