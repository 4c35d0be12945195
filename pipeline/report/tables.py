"""Numbers -> cells of the page's tables: the losses, what the data set measures, nets trained elsewhere."""

from __future__ import annotations

from typing import Any

import pandas as pd

from inputgrad.robustness.scores import wilson
from pipeline.data import _measures
from pipeline.report import attack_words
from pipeline.report.units import DISTANCE, GRADIENT, UNKNOWN, Measure, score, times
from pipeline.results import masking, robustness
from pipeline.results.read import Results
from pipeline.results.statistics import BASELINE, Estimate, Quantity, intervals
from pipeline.results.summary import Row, Summary
from pipeline.study.schema import Study

Cell = dict[str, str]
NOTHING: Cell = {"text": "–", "interval": "", "n": "", "verdict": ""}


ACTS = {
    "depends": "yes",
    "moves its inputs along the gradient": "yes: at moved inputs",
    "partly detached": "in part",
    "detached": "no: a constant",
    "independent": "no",
    "wrong gradient": "no: a wrong gradient",
    "not finite": "no: nan or infinite",
}
"""What the audit's verdict is called in a table."""


def table_row(row: Row, measure: Measure) -> dict[str, Any]:
    return {
        "name": row.name,
        "clean": measured(row.clean, measure),
        "robust": [measured(quantity, measure) for quantity in row.robust],
        "masking": verdict(row),
        "gradient": measured(row.gradient, GRADIENT),
        "distances": [bounded(row, quantity) for quantity in row.distances.values()],
        "time": time(row),
        "operations": NOTHING | ({"text": times(ratio)} if (ratio := row.cost["operations"]) is not None else {}),
        "pull": cell(GRADIENT.value(row.pull), row.pull, GRADIENT),
        "validation": cell(measure.value(row.validation), row.validation, measure),
        "shift": cell(measure.difference(row.shift), row.shift, measure),
        "audit": row.audit,
        "acts": ACTS[row.audit["kind"]],
        "weights": f"{row.equal_weights} of {row.paired} seeds",
    }


def time(row: Row) -> Cell:
    """The time of a step, as a multiple of the baseline's."""
    low, high, n = (row.cost[key] for key in ("low", "high", "n"))
    if row.name == BASELINE:
        return NOTHING | {"text": "1"}  # by definition
    if row.cost["ratio"] is None:
        return NOTHING | {"text": UNKNOWN}
    return NOTHING | {"text": times(row.cost["ratio"]), "interval": f"[{times(low)}, {times(high)}]", "n": f"n = {n:g}"}


def measured(quantity: Quantity, measure: Measure) -> dict[str, Cell | None]:
    found: dict[str, Cell | None] = {
        "value": cell(measure.value(quantity.value), quantity.value, measure),
        "difference": None,
    }
    if (difference := quantity.difference) is not None:
        text = measure.difference(difference)
        found["difference"] = cell(text, difference, measure) | {"verdict": measure.verdict(quantity)}
    return found


def cell(text: str, estimate: Estimate, measure: Measure) -> Cell:
    interval = measure.interval(estimate)
    count = f"n = {estimate.n}" if interval else f"n = {estimate.n}, no interval"
    return {"text": text, "interval": interval, "n": count, "verdict": ""}


def bounded(row: Row, quantity: Quantity | None) -> dict[str, Cell | None]:
    """A median distance, which does not exist where half the examples were never broken."""
    if quantity is None:
        value = NOTHING | {"text": attack_words.BEYOND, "n": f"n = {row.clean.value.n}"}
        return {"value": value, "difference": None if row.name == BASELINE else NOTHING}
    found = measured(quantity, DISTANCE)
    if row.name != BASELINE and found["difference"] is None:
        found["difference"] = NOTHING
    return found


def verdict(row: Row) -> Cell:
    """The masking sheet of one loss as one cell, next to its robust score."""
    flags = row.flags
    text = attack_words.verdict(row)
    seeds = max(check.n for check in row.masking.values())
    return {"text": text, "failed": ", ".join(flags), "n": f"n = {seeds}", "verdict": "flagged" if flags else "sound"}


def masking_table(summary: Summary) -> dict[str, Any]:
    """A row per loss, a column per check that any of them has."""
    names = masking.names(row.masking for row in summary.rows)
    heads = [{"name": name, "threshold": threshold(summary, name)} for name in names]
    ordered = [summary.baseline, *summary.others]
    rows = [{"name": row.name, "cells": [checked(row.masking.get(name)) for name in names]} for row in ordered]
    return {"heads": heads, "rows": rows, "reasons": attack_words.reasons(summary)}


def threshold(summary: Summary, name: str) -> str:
    """The limit of a check, or from where to where they go."""
    found = sorted(
        (row.masking[name].worst for row in summary.rows if name in row.masking), key=lambda check: check.threshold
    )
    return " to ".join(dict.fromkeys([found[0].limit, found[-1].limit]))


def checked(check: masking.CheckOverSeeds | None) -> Cell:
    """One check of one loss: the value of the worst seed, and how many seeds are flagged."""
    if check is None:
        return NOTHING
    counts = f"{check.flagged} of {check.n} seeds" if check.flagged else f"n = {check.n}"
    state = "sound" if check.ok else "flagged"
    return {"text": check.worst.figure, "interval": "", "n": counts, "verdict": state}


def descriptor_table(summary: Summary) -> dict[str, Any]:
    names = list(summary.baseline.descriptors)
    rows = []
    for row in [summary.baseline, *summary.others]:
        cells = []
        for name in names:
            found, measure = row.descriptors[name], Measure(name=robustness.label(name))
            parts = {"value": NOTHING, "difference": None}
            if found.quantity is not None:
                parts = measured(found.quantity, measure)
            left_out = f"{found.left_out} of {found.examples} left out" if found.left_out else ""
            cells.append(parts | {"left_out": left_out})
        rows.append({"name": row.name, "cells": cells})
    return {"heads": [robustness.label(name) for name in names], "rows": rows}


def measure_table(summary: Summary) -> dict[str, Any] | None:
    """A row per loss, a column per measure of the data set's own; None where it has none."""
    said = _measures.described(summary.study.data)
    if not said:
        return None
    rows = [
        {"name": row.name, "cells": [measured(row.measures[name], Measure(name=name)) for name in said]}
        for row in [summary.baseline, *summary.others]
    ]
    return {"heads": list(said), "rows": rows, "notes": [f"`{name}`: {words}" for name, words in said.items()]}


def waterfall_tables(results: Results, summary: Summary) -> list[dict[str, Any]]:
    measure = score(summary.study.task)
    found = []
    for threat in summary.study.attack.threat_models:
        steps = results.steps[results.steps["norm"] == threat.norm]
        if steps.empty:
            continue
        table = intervals(steps, ["loss", "step"], "score", results.study.task.limits).set_index(["loss", "step"])
        names = list(steps["step"].unique())
        rows = [
            {"name": row.name, "cells": [step_cell(table, row.name, name, measure) for name in names]}
            for row in [summary.baseline, *summary.others]
        ]
        found.append({"threat": f"{threat.norm} ε = {threat.epsilon:g}", "heads": names, "rows": rows})
    return found


def iteration_tables(results: Results, summary: Summary) -> list[dict[str, Any]]:
    """Per threat model: a row per loss, a column per attack with its number of gradients."""
    measure, found = score(summary.study.task), []
    for threat in summary.study.attack.threat_models:
        here = results.iterations[results.iterations["norm"] == threat.norm]
        if here.empty:
            continue
        ordered = here.drop_duplicates("attack")
        table = intervals(here.rename(columns={"attack": "step"}), ["loss", "step"], "score", results.study.task.limits)
        cells = table.set_index(["loss", "step"])
        rows = [
            {"name": row.name, "cells": [step_cell(cells, row.name, name, measure) for name in ordered["attack"]]}
            for row in [summary.baseline, *summary.others]
        ]
        heads = [f"{count} (`{name}`)" for name, count in zip(ordered["attack"], ordered["gradients"], strict=True)]
        found.append({"threat": f"{threat.norm} ε = {threat.epsilon:g}", "heads": heads, "rows": rows})
    return found


def step_cell(table: pd.DataFrame, loss: str, step: str, measure: Measure) -> Cell:
    """The score of one loss after one attack; a probe that a loss was not put to has none."""
    if (loss, step) not in table.index:
        return NOTHING
    mean, low, high, n = table.loc[[(loss, step)]].iloc[0][["mean", "low", "high", "n"]]
    known = n > 1
    estimate = Estimate(float(mean), float(low) if known else None, float(high) if known else None, int(n))
    return cell(measure.value(estimate), estimate, measure)


def given_nets_section(results: Results, measure: Measure) -> dict[str, Any] | None:
    """The table; None where the study names no such net."""
    study, found = results.study, results.given_nets
    if not found:
        return None
    rows = [
        {
            "name": one.name,
            "source": one.source,
            "clean": written(one.clean, one.examples, study, measure),
            "robust": written(one.robust, one.examples, study, measure),
            "masking": f"⚑ {', '.join(one.flags)}" if one.flags else "every check is fine",
        }
        for one in found
    ]
    return {"rows": rows, "examples": found[0].examples, "notes": [f"{o.name}: {n}" for o in found for n in o.notes]}


def written(value: float, n: int, study: Study, measure: Measure) -> str:
    """For classes with the 95 % interval over the examples."""
    low, high = wilson(value, n) if study.task.has_classes else (None, None)
    estimate = Estimate(value, low, high, n)
    return f"{measure.value(estimate)} {measure.interval(estimate)}".strip()
