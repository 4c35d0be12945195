"""Sentences about the attacks: who was attacked with what, the terms used, and how far the numbers can be trusted."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from inputgrad.robustness.scores import CONFIDENCE
from inputgrad.robustness.settings import attack_module
from pipeline.report.units import DISTANCE, UNKNOWN
from pipeline.results import masking
from pipeline.results.robustness import on_all_examples
from pipeline.results.statistics import BASELINE, Quantity
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
    if expensive := attack.expensive(attack):
        whole = not [*missing(study), *changed(study)]
        stated = {name: knobs_of(attack.module(name).perturb, knobs) for name, knobs in expensive.items()}
        some = {name: knobs["examples"] for name, knobs in stated.items() if "examples" in knobs}
        on_all = [name for name in expensive if name not in some]
        ensemble = ", the standard AutoAttack ensemble" if whole else ""
        said += f" At the study's ε, on what still stands: {named(on_all)}{ensemble}."
        said += "".join(f" `{name}` there, on the first {count} that still stand." for name, count in some.items())
        for threat in attack.threat_models[1:]:
            if (chosen := list(attack.expensive(threat))) != list(expensive):
                said += f" In {threat.norm} {f'only {named(chosen)}' if chosen else 'none'} of these."
    return said + pruned(study)


def pruned(study: Study) -> str:
    """What the fast ensemble does to the attacks that have several targets; nothing for the standard one."""
    attack, said = study.attack, ""
    for name, knobs in {**attack.attacks, **attack.expensive(attack)}.items():
        if prune := attack.knobs(name, knobs).get("prune"):
            plan = ", ".join(f"after {step} steps the best {kept}" for step, kept in prune)
            said += f" `{name}` drops targets early: {plan} go on."
    return said


def missing(study: Study) -> list[str]:
    """The attacks of the standard ensemble that do not run at the study's ε."""
    run = {**study.attack.attacks, **study.attack.expensive(study.attack)}
    return [name for name in STANDARD if name not in run]


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


def reading(summary: Summary, input_unit: str, target_unit: str) -> list[tuple[str, str]]:
    study = summary.study
    distance = [
        (
            "Median distance",
            "Half of the test examples were broken by a perturbation of at most that size, clean mistakes counting as"
            f" 0; '{BEYOND}' where fewer than half were broken in some seed.",
        )
    ]
    if not study.task.has_classes:
        distance = []
    unit = f" In the training target's {target_unit}; smaller is better." if target_unit else ""
    return [
        (f"Robust {study.task.noun}", f"{study.task.robust}{unit}"),
        (
            "Which attacks",
            f"{attacks_run(study)} A point inside a smaller ball is inside every larger one of that norm, so what was"
            " found at a smaller ε counts at the larger ones too. `pgd_10x1` and `pgd_40x5` are PGD with 10 steps, and"
            f" with 40 steps and 5 restarts; `transfer` are PGD's examples against {source(study)}. A stronger attack"
            " can only make a robust score worse: all of them are upper bounds.",
        ),
        (
            "Attacked examples",
            f"{examples(summary)}, the same for every loss and seed.",
        ),
        (
            "Masking sheet",
            "Checks of every trained network that notice when its gradients hide the way from the attacks instead of"
            " closing it. Read a robust score with a flagged sheet as not yet measured.",
        ),
        ("ε", f"How far an attack may move an input, in the data's own units ({input_unit})."),
        *distance,
        ("Input-gradient norm", "‖g‖₂ of the task loss with respect to the input, mean over the clean test examples."),
        (
            "95 % interval",
            "Student's t over seeds: it covers chance in training, not of the test split. Of a score, it is cut where"
            " no score can be; of a difference it is not.",
        ),
        (
            "Difference",
            f"A loss minus `{BASELINE}` of the same seed, which starts from the same weights and sees the same batches"
            " in the same order. Better or worse is said only where the interval excludes 0; otherwise no difference"
            " was found, which is not the same as none.",
        ),
        (
            "Time per step",
            f"As a multiple of `{BASELINE}`'s, timed in turn with it on the same batch: seconds that the processor"
            " spent on the step, whatever else the machine did (on a GPU those between two events of its own clock)."
            " The ratio of the lower quartiles, with the 95 % interval of a bootstrap over blocks of rounds;"
            f" '{UNKNOWN}' where the interval is too wide for the ratio to mean anything.",
        ),
        (
            "Operations",
            "Multiplications and additions of a step, in products of matrices and convolutions: counted, so without"
            " noise. A step's time follows them roughly: not every operation takes the same time.",
        ),
    ]


def source(study: Study) -> str:
    """Which net transfer attacks start from; see `Run.source`."""
    if len(study.training.seeds) > 1:
        return f"another seed of `{BASELINE}`"
    return f"`{BASELINE}`, which itself gets none with one seed"


def limitations(summary: Summary, searched: bool, repeated: int = 0) -> list[str]:
    """A sentence each."""
    study, seeds = summary.study, len(summary.study.training.seeds)
    said = [
        f"One data set, one split, one net (`{study.model['name']}`) and {study.training.epochs} epochs: on others the"
        " losses may stand in another order.",
        f"{of_seeds(seeds)}; {examples(summary)} were attacked.",
        "A robust score is an upper bound: a stronger attack may find more. Nothing here is certified.",
    ]
    if study.task.has_classes and (absent := missing(study)):
        said.append(f"Of the standard ensemble {named(absent)} did not run.")
    if study.task.has_classes and (other := changed(study)):
        said.append(f"Of the standard ensemble {named(other)} ran with other settings than the standard's.")
    if study.attack.ensemble == "fast":
        said.append(
            "The ensemble is the fast one (`ensemble: standard` runs the whole): some targets were dropped early."
        )
    if repeated:
        said.append(
            f"{repeated} of the {summary.available} examples of the test split have the same input as one of the"
            " training split: there a score says what was learnt by heart, and nothing about new data."
        )
    if not searched:
        said.append("No search of strengths belongs to this report: another strength may serve a loss better.")
    return said


def of_seeds(seeds: int) -> str:
    if seeds == 1:
        return "One seed has no interval: another training may order the losses otherwise, as may other test examples"
    return f"Intervals over {seeds} seeds say what another training would change, not what other test examples would"


def data_source(summary: Summary) -> str:
    """What the data set's own file says of it in its first line: origin and licence."""
    return (inspect.getdoc(summary.study.data_module) or "").partition("\n")[0]
