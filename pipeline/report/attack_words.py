"""Sentences about the attacks: who was attacked with what, and how far the numbers can be trusted."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from inputgrad.robustness.scores import CONFIDENCE
from inputgrad.robustness.settings import attack_module
from pipeline.report.measure import DISTANCE
from pipeline.results import masking
from pipeline.results.quantity import BASELINE, Quantity
from pipeline.results.scores import on_all_examples
from pipeline.results.summary import Row, Summary
from pipeline.study.schema import Study

STANDARD = ("apgd_ce", "apgd_t", "fab_t", "square")
"""The attacks of AutoAttack's standard ensemble (Croce & Hein 2020)."""
BEYOND = "beyond every ε tried"


def examples(summary: Summary) -> str:
    of = f" of {summary.available}" if summary.examples < summary.available else ""
    return f"{summary.examples}{of} test examples"


def attacks_run(study: Study) -> str:
    attack, everyone = study.attack, on_all_examples(study)
    said = f"At every ε, on every example: {named(everyone)}."
    if rest := [name for name in attack.attacks if name not in everyone]:
        said += f" At every ε, on the examples that all before it left standing: {named(rest)};"
        said += " what stands at the study's ε is not attacked at a smaller one."
    if attack.at_epsilon:
        whole = not [*missing(study), *changed(study)]
        stated = {name: knobs_of(attack.module(name).perturb, knobs) for name, knobs in attack.at_epsilon.items()}
        some = {name: knobs["examples"] for name, knobs in stated.items() if "examples" in knobs}
        on_all = [name for name in attack.at_epsilon if name not in some]
        ensemble = ", the standard AutoAttack ensemble" if whole else ""
        said += f" At the study's ε, on what still stands: {named(on_all)}{ensemble}."
        said += "".join(f" `{name}` there, on the first {count} that still stand." for name, count in some.items())
        for threat in attack.threat_models[1:]:
            if (chosen := list(attack.expensive(threat))) != list(attack.at_epsilon):
                said += f" In {threat.norm} {f'only {named(chosen)}' if chosen else 'none'} of these."
    return said


def missing(study: Study) -> list[str]:
    """The attacks of the standard ensemble that do not run at the study's ε."""
    return [name for name in STANDARD if name not in study.attack.at_epsilon and name not in study.attack.attacks]


def changed(study: Study) -> list[str]:
    """Those that run there with other settings than the standard ensemble's, or are somebody's own code."""
    attack = study.attack
    found = {name: (attack.attacks | attack.at_epsilon)[name] for name in STANDARD if name not in missing(study)}
    return [
        name
        for name, knobs in found.items()
        if knobs_of(attack.module(name).perturb, knobs) != knobs_of(attack_module(name, {}).perturb, {})
    ]


def knobs_of(perturb: Callable[..., Any], stated: Mapping[str, Any]) -> dict[str, Any]:
    """The knobs of an attack, those that the study leaves out among them."""
    given = inspect.signature(perturb).parameters.values()
    return {p.name: p.default for p in given if p.kind is p.KEYWORD_ONLY} | dict(stated)


def named(names: list[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def distance(quantity: Quantity | None) -> str:
    return BEYOND if quantity is None else DISTANCE.value(quantity.value)


def pairs_tested(summary: Summary) -> str:
    table = summary.pairs
    counts = sorted(set(table["n_seeds"]))
    n = f"n = {counts[0]}" if len(counts) == 1 else f"n = {counts[0]} to {counts[-1]}"
    if counts[-1] < 2:
        return f"With {n} seed nothing can be tested."
    return (
        f"A star: significant over seeds and over examples. Over the {n} seeds (chance in training) a paired t-test,"
        f" after Benjamini and Hochberg's correction for all {len(table)} pairs, has q < 0.05; and over the"
        f" {summary.examples} examples (chance in the test split) the 95 % t interval of the mean difference in"
        f" {summary.study.task.of_example}, each example averaged over the seeds, excludes 0 on the same side."
        f" {int(table['beyond_luck'].sum())} of {len(table)} pairs have one; all numbers are in `pairwise.csv`."
        f" {against_standard(summary)}"
    )


def against_standard(summary: Summary) -> str:
    """Which losses differ from `standard` after the stricter correction for the losses alone."""
    tested = summary.pairs.dropna(subset=["holm"])
    beyond = tested[tested["holm"] < 1 - CONFIDENCE]
    names = [other if loss == BASELINE else loss for loss, other in zip(beyond["loss"], beyond["other"], strict=True)]
    found = named(names) if names else "none"
    return (
        f"Against `{BASELINE}` alone, after Holm's correction for {len(tested)} losses (p < 0.05 over seeds): {found}."
    )


def verdict(row: Row) -> str:
    total, flags = len(row.masking), row.flags
    return f"{total - len(flags)} of {total} checks" if flags else f"{total} of {total} checks"


def reasons(summary: Summary) -> list[str]:
    """A line per check: what it measures, which losses it flags, or how near the nearest one comes."""
    return [one_check(summary, name) for name in masking.names(row.masking for row in summary.rows)]


def one_check(summary: Summary, name: str) -> str:
    there = [(row, row.masking[name]) for row in summary.rows if name in row.masking]
    row, check = min(there, key=lambda pair: pair[1].worst.worst_first)
    meaning = check.worst.reason.rstrip(".")
    flagged = "; ".join(f"`{r.name}` in {c.flagged} of {c.n} seeds, {worst(c)}" for r, c in there if not c.ok)
    if flagged:
        return f"`{name}`: {meaning}. Flagged: {flagged}."
    nearest = "" if check.worst.value is None else f"; {worst(check)} of `{row.name}`"
    return f"`{name}`: {meaning}. Nothing is flagged{nearest}."


def worst(check: masking.CheckOverSeeds) -> str:
    return f"at worst {check.worst.figure} in seed {check.seed}"
