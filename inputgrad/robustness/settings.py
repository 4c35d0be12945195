"""What an attacker may do and which attacks are run: the settings of an evaluation."""

from __future__ import annotations

from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, field_validator, model_validator

from inputgrad import registry
from inputgrad.gradients.norms import BallNorm

if TYPE_CHECKING:
    from inputgrad.attacks import Traits

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Attacks = Annotated[dict[str, dict[str, Any]], Field(min_length=1)]
"""Name -> knobs, in the order in which they are run; `use` among the knobs names an attack of one's own."""


class Settings(BaseModel):
    """Strict and frozen: an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class ThreatModel(Settings):
    """What an attacker may change: a ball of a norm. `epsilon` is the headline radius, `grid` the curve's."""

    norm: BallNorm
    epsilon: Positive
    grid: Annotated[list[NonNegative], Field(min_length=1)]

    @field_validator("grid")
    @classmethod
    def _increasing(cls, grid: list[float]) -> list[float]:
        if sorted(set(grid)) != grid:
            raise ValueError(f"{grid} must increase from number to number")
        return grid

    @property
    def radii(self) -> list[float]:
        """The grid with the headline ε in its place."""
        return sorted({*self.grid, self.epsilon})


class Secondary(ThreatModel):
    """Another norm. `at_epsilon`: which of the expensive attacks are run at its headline ε; None: all of them."""

    at_epsilon: list[str] | None = None


class Attack(ThreatModel):
    """The headline threat model, a secondary one, and the attacks with their knobs, cheap ones first.

    attacks: run at every ε. at_epsilon: expensive ones, run at the headline ε of each threat model only; an attack
    named in both has these knobs there. examples: how many examples of the test split are attacked; None: all.
    ensemble: with `fast`, targeted APGD drops targets early and targeted FAB is left out: each attack's own `fast` says
    which knobs it has then, or None. Knobs that are stated here come before that.
    """

    secondary: Secondary | None = None
    attacks: Attacks = {"noise": {}, "fgsm": {}, "pgd": {}}
    at_epsilon: dict[str, dict[str, Any]] = {}
    examples: PositiveInt | None = None
    ensemble: Literal["standard", "fast"] = "standard"

    @model_validator(mode="after")
    def _chosen_are_there(self) -> Self:
        for name in (self.secondary and self.secondary.at_epsilon) or []:
            if name not in self.at_epsilon:
                known = ", ".join(self.at_epsilon) or "none"
                raise ValueError(f"secondary.at_epsilon: '{name}' is none of attack.at_epsilon ({known})")
        return self

    def expensive(self, threat: ThreatModel) -> dict[str, dict[str, Any]]:
        """The attacks that run at the headline ε of one of the threat models only, with their knobs."""
        chosen = threat.at_epsilon if isinstance(threat, Secondary) else None
        there = {name: knobs for name, knobs in self.at_epsilon.items() if chosen is None or name in chosen}
        return {name: knobs for name, knobs in there.items() if self.changes(name, knobs) is not None}

    @property
    def threat_models(self) -> list[ThreatModel]:
        return [self] if self.secondary is None else [self, self.secondary]

    def module(self, name: str) -> ModuleType:
        """The code of an attack: ours by its name, or one's own by its `use`."""
        return attack_module(name, {**self.attacks, **self.at_epsilon}.get(name, {}))

    def changes(self, name: str, stated: dict[str, Any]) -> dict[str, Any] | None:
        """The knobs that the fast ensemble gives an attack with these; None: it leaves the attack out."""
        fast = getattr(attack_module(name, stated), "fast", None)
        found: dict[str, Any] | None = fast(**knobs_of(stated)) if fast and self.ensemble == "fast" else {}
        return found

    def knobs(self, name: str, stated: dict[str, Any]) -> dict[str, Any]:
        """What `perturb` of an attack takes: the knobs that are stated, and those of the fast ensemble."""
        return (self.changes(name, stated) or {}) | knobs_of(stated)

    def traits(self, name: str) -> Traits:
        found: Traits = self.module(name).TRAITS
        return found


def attack_module(name: str, knobs: dict[str, Any]) -> ModuleType:
    """The code of an attack with these knobs, of which `use` names one's own."""
    found: ModuleType = registry.find("inputgrad.attacks", name, knobs.get("use"))
    return found


def knobs_of(knobs: dict[str, Any]) -> dict[str, Any]:
    """What `perturb` takes of the knobs of an attack: all but `use`."""
    return {key: value for key, value in knobs.items() if key != "use"}
