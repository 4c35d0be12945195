"""A sum of losses: the task once, and the term of each."""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal, Self

import torch
from pydantic import SerializeAsAny, model_validator
from torch import Tensor

from inputgrad.errors import UserError
from inputgrad.gradients.forward import Forward
from inputgrad.losses import Loss, Parts, Strength


class Sum(Loss):
    """c * mean(l_i) + Σ_k strength_k * mean(term_k,i): one task, several terms.

    `GradientNorm(0.1) + TRADES(6)` makes one. Each term keeps its strength, `every`, `ramp`, `share` and `points`. The
    weight of the task, and what it is taken `on`, is that of the term which says another one than usual; two that say
    different ones cannot be added.
    """

    example: ClassVar[str] = "GradientNorm(0.1) + JacobianNorm(0.01)"
    strength: Literal[1] = 1
    terms: dict[str, SerializeAsAny[Loss]]

    tasks: ClassVar[tuple[str, ...]] = Loss.tasks

    @classmethod
    def of(cls, *losses: Loss) -> Sum:
        """The sum of these; a term's name is that of its file, with a number where it comes again."""
        terms: dict[str, Loss] = {}
        for loss in losses:
            for name, term in named(loss):
                number = sum(known.rstrip("0123456789_") == name for known in terms) + 1
                terms[name if number == 1 else f"{name}_{number}"] = term
        return cls(terms=terms)

    @model_validator(mode="after")
    def _one_task(self) -> Self:
        own = [name for name in ("ramp", "every", "share", "on", "points") if getattr(self, name) != usual(name)]
        if own:
            raise ValueError(f"{own[0]} of a sum is that of its terms; fix: state it there")
        if not self.terms:
            raise ValueError("a sum without terms is the task alone; fix: take standard")
        weights = {term.weight_of_task for term in self.terms.values()} - {1.0}
        places = {term.on for term in self.terms.values()} - {None}
        if len(weights) > 1 or len(places) > 1:
            raise ValueError(
                "these losses weigh the task, or move its inputs, in two ways; fix: state it in one of them"
            )
        if places:
            self.__dict__["on"] = places.pop()
        return self

    def __hash__(self) -> int:
        return hash((type(self), *self.terms.items()))

    @property
    def weight_of_task(self) -> float:
        return next((t.weight_of_task for t in self.terms.values() if t.weight_of_task != 1), 1.0)

    @property
    def counts_steps(self) -> bool:
        return any(term.counts_steps for term in self.terms.values())

    @property
    def counts_epochs(self) -> bool:
        return any(term.counts_epochs for term in self.terms.values())

    @property
    def period(self) -> int:
        return math.lcm(*(term.every for term in self.terms.values()))

    def whole(self) -> Loss:
        """The sum of its terms, each at full strength."""
        return self.model_copy(update={"terms": {name: term.whole() for name, term in self.terms.items()}})

    @property
    def asks_points(self) -> set[str]:
        return {name for term in self.terms.values() for name in term.asks_points}

    def strength_at(self, step: int, epoch: float) -> tuple[float, ...]:
        """Of every term, in their order."""
        return tuple(float(term.strength_at(step, epoch)) for term in self.terms.values())  # type: ignore[arg-type]

    def strengths(self, strength: Strength | None) -> tuple[float, ...]:
        """Those of one step; a single number multiplies all of them."""
        if isinstance(strength, tuple | list):
            return tuple(strength)
        factor = 1.0 if strength is None else strength
        return tuple(factor * term.strength for term in self.terms.values())  # type: ignore[operator]

    def follows_input(self, strength: Strength, size: int) -> bool:
        each = zip(self.terms.values(), self.strengths(strength), strict=True)
        return any(term.follows_input(own, size) for term, own in each)

    def compares_passes(self, strength: Strength) -> bool:
        each = zip(self.terms.values(), self.strengths(strength), strict=True)
        return any(term.compares_passes(own) for term, own in each)

    def term(self, at: Forward) -> Tensor:
        """Every example's terms, each times its strength."""
        return torch.stack([term.strength * term.term(at) for term in self.terms.values()]).sum(0)

    def _term(self, at: Forward) -> Tensor:
        """As `term`; where a term has points or a share of its own, examples are not the same: the sum of the means."""
        if all(term.points is None and term.share == 1 for term in self.terms.values()):
            return self.term(at)
        return torch.stack([term.strength * term._term(at).mean() for term in self.terms.values()]).sum()[None]

    def parts(self, at: Forward, strength: Strength | None = None) -> Parts:
        """As of any loss; the term is the weighted sum of the terms' means, and each mean is noted by its name."""
        live = [(*one, own) for one, own in zip(self.terms.items(), self.strengths(strength), strict=True) if own]
        if not live:
            return super().parts(at, 0.0)
        with at.precision():
            means = {name: term._term(at).mean() for name, term, _ in live}
            with torch.set_grad_enabled(self.weight_of_task > 0):
                task = self._task(at)
        at.notes |= {f"term_{name}": mean for name, mean in means.items()}
        weighted = torch.stack([own * means[name] for name, _, own in live]).sum()
        total = weighted + self.weight_of_task * task.mean() if self.weight_of_task else weighted
        return Parts(total, task, weighted[None])


def usual(name: str) -> Any:
    return Loss.model_fields[name].default


def named(loss: Loss) -> list[tuple[str, Loss]]:
    """The terms of a loss with their names; of `standard`, none."""
    if isinstance(loss, Sum):
        return [(name.rstrip("0123456789_"), term) for name, term in loss.terms.items()]
    if not isinstance(loss, Loss):
        raise UserError(f"a loss and a {type(loss).__name__} cannot be added; fix: add the number to loss(model, x, y)")
    return [(type(loss).__module__.rpartition(".")[2], loss)] if loss.strength else []
