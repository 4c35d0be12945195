"""Frames -> one row per loss: scores, paired differences, and whether the loss's term reached the weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from inputgrad.errors import UserError
from pipeline import layout
from pipeline.results import robustness, statistics
from pipeline.results.collapse import Collapses, collapses
from pipeline.results.masking import Sheet, failed
from pipeline.results.read import Results
from pipeline.results.reproduced import Reproduction, reproductions
from pipeline.results.robustness import WORST
from pipeline.results.statistics import BASELINE, Estimate, Quantity, compare, estimate, intervals, paired_difference
from pipeline.study.run import Run
from pipeline.study.schema import Study


@dataclass(frozen=True, kw_only=True)
class Described:
    """A descriptor of one loss: None if it is nowhere finite; of `examples` (over all seeds) some were left out."""

    quantity: Quantity | None
    left_out: int
    examples: int


@dataclass(frozen=True, kw_only=True)
class Row:
    """One loss.

    Attributes:
        name: of the loss.
        clean: score without an attack.
        validation: score of the attacked epoch on the validation split.
        shift: clean score on the test split minus that, seed by seed: far from 0 where the two splits are not alike.
        robust: worst-case score at the headline ε of each threat model, the headline threat model first.
        masking: the masking sheet: whether the robust scores can be trusted.
        gradient: mean ‖g‖₂ over the test split.
        descriptors: of the input gradients, ‖g‖₂ among them, by name.
        measures: by name, what the module of the data set measures of the trained nets.
        distances: by norm, median distance to the nearest wrong answer found; None if half the examples of a seed were
            never broken. Empty for a regression.
        collapsed: in how many seeds the training lost its robust validation score; None where none was taken.
        equal_weights: in how many of `paired` seeds all weights equal the baseline's bit for bit.
        paired: number of seeds that this loss and the baseline both have.
        pull: ‖λ·∇term‖ / ‖c·∇task‖ over the parameters, mean over the epochs.
        audit: kind and verdict of the audit on the first batch.
        on_gpu: whether it was trained on a GPU.
        cost: time per step relative to the baseline: ratio (None: not known), its interval, n, ratio of the operations.
    """

    name: str
    clean: Quantity
    validation: Estimate
    shift: Estimate
    robust: list[Quantity]
    masking: Sheet
    gradient: Quantity
    descriptors: dict[str, Described]
    measures: dict[str, Quantity]
    distances: dict[str, Quantity | None]
    collapsed: Collapses | None
    equal_weights: int
    paired: int
    pull: Estimate
    cost: dict[str, Any]
    audit: dict[str, str]
    on_gpu: bool

    @property
    def identical(self) -> bool:
        """Whether no seed tells this loss apart from the baseline."""
        return self.equal_weights == self.paired

    @property
    def flags(self) -> list[str]:
        return failed(self.masking)

    @property
    def headline(self) -> list[Quantity]:
        """What counts as a change of the network."""
        return [self.clean, self.robust[0], self.gradient]


@dataclass(frozen=True, kw_only=True)
class Summary:
    """All rows of a study, in the order of its losses.

    Attributes:
        pairs: every loss against every other, as `statistics.all_pairs` has it.
        reproduced: the published figures that the study states, with ours.
        examples: how many test examples were attacked.
        available: how many the test split has.
    """

    study: Study
    rows: list[Row]
    pairs: pd.DataFrame
    reproduced: list[Reproduction]
    examples: int
    available: int

    @property
    def baseline(self) -> Row:
        return next(row for row in self.rows if row.name == BASELINE)

    @property
    def others(self) -> list[Row]:
        return [row for row in self.rows if row.name != BASELINE]

    def metrics(self) -> dict[str, Any]:
        """What metrics.json holds; `low` and `high` are None where n is 1, a number that does not exist is None."""
        name = self.study.task.key
        figures = [one.metrics() for one in self.reproduced]
        return {
            "study": self.study.name,
            "task": self.study.task.name,
            "epsilon": self.study.attack.epsilon,
            "losses": {
                row.name: {
                    f"clean_{name}": row.clean.value._asdict(),
                    f"robust_{name}": row.robust[0].value._asdict(),
                    **{robustness.key(which): stated(d.quantity) for which, d in row.descriptors.items()},
                    **{f"median_distance_{norm}": stated(quantity) for norm, quantity in row.distances.items()},
                    **(
                        {"measures": {n: stated(quantity) for n, quantity in row.measures.items()}}
                        if row.measures
                        else {}
                    ),
                    **({"collapsed": row.collapsed._asdict()} if row.collapsed else {}),
                    "step_time": row.cost,
                    "masking": {
                        c.name: {"ok": c.ok, "value": c.worst.value, "of": c.worst.of} for c in row.masking.values()
                    },
                }
                for row in self.rows
            },
            **({"figures": figures} if figures else {}),
        }


def stated(quantity: Quantity | None) -> dict[str, Any] | None:
    return None if quantity is None else quantity.value._asdict()


def summarise(results: Results) -> Summary:
    return Summary(
        study=results.study,
        rows=rows(results),
        pairs=statistics.all_pairs(results.headline, results.study, results.losses),
        reproduced=reproductions(results),
        examples=results.headline.shape[1],
        available=len(results.dataset.x["test"]),
    )


def rows(results: Results) -> list[Row]:
    """One row per loss: each number is compared over all losses at once, since the test is corrected for them."""
    equal = {loss: equal_weights(results, loss) for loss in results.losses}
    same = {loss: all(found) for loss, found in equal.items()}
    scores, limits, threats = results.scores, results.study.task.limits, results.study.attack.threat_models
    clean = scores[scores["attack"] == "clean"]
    tested = compare(clean, "score", same, limits)
    robust = [compare(worst_case(scores, t.norm, t.epsilon), "score", same, limits) for t in threats]
    described, nearest = compared_descriptors(results, same), to_boundary(results, same)
    measures = {
        str(name): compare(frame, "value", same) for name, frame in results.measures.groupby("measure", sort=False)
    }
    found = []
    for loss in results.losses:
        history = results.history[results.history["loss"] == loss].groupby("seed")
        validation: pd.Series[float] = history["validation_score"].agg(
            "max" if results.study.task.better > 0 else "min"
        )
        mine = clean[clean["loss"] == loss].set_index("seed")["score"]
        gradient = described[loss][robustness.HEADLINE].quantity
        assert gradient is not None  # `attacked` has looked
        found.append(
            Row(
                name=loss,
                clean=tested[loss],
                validation=estimate(validation[mine.index], limits),
                shift=paired_difference(mine, validation),
                robust=[of_threat[loss] for of_threat in robust],
                masking=results.masking[loss],
                gradient=gradient,
                descriptors=described[loss],
                measures={name: quantities[loss] for name, quantities in measures.items()},
                distances={norm: quantities.get(loss) for norm, quantities in nearest.items()},
                collapsed=collapses(results.history[results.history["loss"] == loss]),
                equal_weights=sum(equal[loss]),
                paired=len(equal[loss]),
                pull=estimate(history["term_gradient_ratio"].mean()),
                cost=results.costs[loss],
                audit=results.audits[loss],
                on_gpu=Run(results.study, loss, results.study.training.seeds[0]).device.type == "cuda",
            )
        )
    return found


def compared_descriptors(results: Results, same: Mapping[str, bool]) -> dict[str, dict[str, Described]]:
    """By loss and name, every descriptor over the seeds where it has a value."""
    found: dict[str, dict[str, Described]] = {loss: {} for loss in results.losses}
    for name, frame in results.descriptors.groupby("descriptor", sort=False):
        quantities = compare(frame[np.isfinite(frame["value"])], "value", same)
        for loss in results.losses:
            mine = frame[frame["loss"] == loss]
            found[loss][str(name)] = Described(
                quantity=quantities.get(loss),
                left_out=int(mine["left_out"].sum()),
                examples=int(mine["examples"].sum()),
            )
    return found


def to_boundary(results: Results, same: Mapping[str, bool]) -> dict[str, dict[str, Quantity]]:
    """By norm and loss, the median distance to the nearest wrong answer.

    A loss has none where half the examples of a seed were never broken: a mean without such seeds would flatter it.
    """
    medians = robustness.medians(results.distances)
    bounded = medians.groupby(["loss", "norm"])["distance"].transform("max") < np.inf
    return {
        str(norm): compare(medians[bounded & (medians["norm"] == norm)], "distance", same)
        for norm in medians["norm"].unique()
    }


def worst_case(scores: pd.DataFrame, norm: str, epsilon: float) -> pd.DataFrame:
    return scores[(scores["attack"] == WORST) & (scores["norm"] == norm) & (scores["epsilon"] == epsilon)]


def equal_weights(results: Results, loss: str) -> list[bool]:
    """For every seed that the loss and the baseline share: are all weights the same, bit for bit?"""
    mine, base = ({s: h for (name, s), h in results.weights.items() if name == n} for n in (loss, BASELINE))
    common = [seed for seed in mine if seed in base]
    if not common:
        where = layout.stage(results.study.name, loss, "train")
        raise UserError(f"{where} has no seed in common with {BASELINE}; run: dvc repro report@{results.study.name}")
    return [mine[seed] == base[seed] for seed in common]


def curves(results: Results) -> pd.DataFrame:
    """The curves for `dvc plots`, long: loss, norm, epsilon, score (worst case), low, high, n."""
    worst = results.scores[results.scores["attack"] == WORST]
    by = ["loss", "norm", "epsilon"]
    table = intervals(worst, by, "score", results.study.task.limits).rename(columns={"mean": "score"})
    order = {loss: i for i, loss in enumerate(results.losses)}
    return table.sort_values(["loss", "norm", "epsilon"], key=lambda c: c.map(order) if c.name == "loss" else c)
