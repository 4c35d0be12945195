"""Frames -> one row per loss: scores, paired differences, and whether the loss's term reached the weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd

from pipeline.config import Study
from pipeline.errors import UserError
from pipeline.report.results import Results
from pipeline.report.scores import WORST
from pipeline.report.statistics import Estimate, estimate, intervals, paired_difference

BASELINE = "standard"
Verdict = Literal["baseline", "identical", "one seed", "undecided", "higher", "lower"]


@dataclass(frozen=True, kw_only=True)
class Quantity:
    """One number of one loss over its seeds, and its paired difference from the baseline (None for the baseline)."""

    value: Estimate
    difference: Estimate | None
    identical: bool

    @property
    def verdict(self) -> Verdict:
        """What the numbers allow to say about the difference."""
        if self.difference is None:
            return "baseline"
        if self.identical:
            return "identical"
        if self.difference.low is None:
            return "one seed"
        if not self.difference.excludes_zero:
            return "undecided"
        return "higher" if self.difference.mean > 0 else "lower"

    @property
    def differs(self) -> bool:
        """Whether the interval of the difference excludes 0."""
        return self.verdict in ("higher", "lower")


@dataclass(frozen=True, kw_only=True)
class Row:
    """One loss.

    Attributes:
        name: of the loss.
        clean: score without an attack.
        validation: score of the attacked epoch on the validation split.
        shift: clean score on the test split minus that, seed by seed: far from 0 where the two splits are not alike.
        robust: worst-case score at the headline ε of each threat model, the headline threat model first.
        gradient: mean ‖g‖₂ over the test split.
        equal_weights: in how many of `paired` seeds all weights equal the baseline's bit for bit.
        paired: number of seeds that this loss and the baseline both have.
        pull: ‖λ·∇term‖ / ‖c·∇task‖ over the parameters, mean over the epochs.
        audit: kind and verdict of the audit on the first batch.
        cost: time per step relative to the baseline: ratio, its quartiles, n.
    """

    name: str
    clean: Quantity
    validation: Estimate
    shift: Estimate
    robust: list[Quantity]
    gradient: Quantity
    equal_weights: int
    paired: int
    pull: Estimate
    cost: dict[str, float]
    audit: dict[str, str]

    @property
    def identical(self) -> bool:
        """Whether no seed tells this loss apart from the baseline."""
        return self.equal_weights == self.paired

    @property
    def headline(self) -> list[Quantity]:
        """What counts as a change of the network."""
        return [self.clean, self.robust[0], self.gradient]


@dataclass(frozen=True, kw_only=True)
class Summary:
    """All rows of a study, in the order of its losses."""

    study: Study
    rows: list[Row]

    @property
    def baseline(self) -> Row:
        """What the others are compared with."""
        return next(row for row in self.rows if row.name == BASELINE)

    @property
    def others(self) -> list[Row]:
        """All but the baseline."""
        return [row for row in self.rows if row.name != BASELINE]

    def metrics(self) -> dict[str, Any]:
        """What metrics.json holds; `low` and `high` are None where n is 1."""
        name = "accuracy" if self.study.task == "classification" else "rmse"
        return {
            "study": self.study.name,
            "task": self.study.task,
            "epsilon": self.study.attack.epsilon,
            "losses": {
                row.name: {
                    f"clean_{name}": row.clean.value._asdict(),
                    f"robust_{name}": row.robust[0].value._asdict(),
                    "input_gradient_norm": row.gradient.value._asdict(),
                }
                for row in self.rows
            },
        }


def summarise(results: Results) -> Summary:
    """One row per loss, each compared with the baseline seed by seed."""
    return Summary(study=results.study, rows=[row(results, loss) for loss in results.losses])


def row(results: Results, loss: str) -> Row:
    """Everything the report says about one loss."""
    equal = equal_weights(results, loss)
    identical = all(equal)
    scores, threats = results.scores, results.study.attack.threat_models
    history = results.history[results.history["loss"] == loss].groupby("seed")
    epochs, best = history["validation_score"], "max" if results.study.task == "classification" else "min"
    validation: pd.Series[float] = epochs.agg(best)
    clean = scores[scores["attack"] == "clean"]
    tested = clean[clean["loss"] == loss].set_index("seed")["score"]

    def quantity(frame: pd.DataFrame, column: str) -> Quantity:
        return compare(frame, column, loss, identical)

    return Row(
        name=loss,
        clean=quantity(clean, "score"),
        validation=estimate(validation[tested.index]),
        shift=paired_difference(tested, validation),
        robust=[quantity(worst_case(scores, threat.norm, threat.epsilon), "score") for threat in threats],
        gradient=quantity(results.gradient_norms, "value"),
        equal_weights=sum(equal),
        paired=len(equal),
        pull=estimate(history["term_gradient_ratio"].mean()),
        cost=results.costs[loss],
        audit=results.audits[loss],
    )


def compare(frame: pd.DataFrame, column: str, loss: str, identical: bool) -> Quantity:
    """The estimate of one loss and of its difference from the baseline; `frame` has a row per loss and seed."""
    by_seed = {name: part.set_index("seed")[column] for name, part in frame.groupby("loss")}
    difference = None if loss == BASELINE else paired_difference(by_seed[loss], by_seed[BASELINE])
    return Quantity(value=estimate(by_seed[loss]), difference=difference, identical=identical)


def worst_case(scores: pd.DataFrame, norm: str, epsilon: float) -> pd.DataFrame:
    """The rows of the worst case over attacks at one radius."""
    return scores[(scores["attack"] == WORST) & (scores["norm"] == norm) & (scores["epsilon"] == epsilon)]


def equal_weights(results: Results, loss: str) -> list[bool]:
    """For every seed that the loss and the baseline share: are all weights the same, bit for bit?"""
    mine, base = ({s: h for (name, s), h in results.weights.items() if name == n} for n in (loss, BASELINE))
    common = [seed for seed in mine if seed in base]
    if not common:
        where = results.study.folder / "runs" / loss
        raise UserError(f"{where} has no seed in common with {BASELINE}; run: dvc repro report@{results.study.name}")
    return [mine[seed] == base[seed] for seed in common]


def robustness(results: Results) -> pd.DataFrame:
    """The curves for `dvc plots`, long: loss, norm, epsilon, score (worst case), low, high, n."""
    worst = results.scores[results.scores["attack"] == WORST]
    table = intervals(worst, ["loss", "norm", "epsilon"], "score").rename(columns={"mean": "score"})
    order = {loss: i for i, loss in enumerate(results.losses)}
    return table.sort_values(["loss", "norm", "epsilon"], key=lambda c: c.map(order) if c.name == "loss" else c)
