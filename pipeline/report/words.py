"""Numbers -> sentences. Every statement is chosen by an interval or by a count, never by a loss's name.

Loss names stand in backticks; the page turns them into code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pipeline.report.units import DERIVATIVE, GRADIENT, Measure, score
from pipeline.results.collapse import FALL
from pipeline.results.statistics import BASELINE, Quantity
from pipeline.results.summary import Row, Summary
from pipeline.study.schema import Study

QUESTION = "Does a loss that depends on the input gradient change the network, and what does it improve?"
ERROR = "gradient_error"
"""The descriptor that only data with a known gradient have."""
VOID = """\
losses.sum().backward(retain_graph=True)
gradient = x.grad.clone()"""
RIGHT = """\
(gradient,) = torch.autograd.grad(
    losses.sum(), x, create_graph=True)"""
"""How a loss gets its input gradient: as the copied recipe does, and so that training follows it."""
MANY = 4
"""How many losses a sentence names at most."""


def threat(norm: str, epsilon: float) -> str:
    return f"{norm} ε = {epsilon:g}"


def joined(names: Sequence[str]) -> str:
    """`a`, `b` and `c`; of many names the first ones and how many follow, the table has them all."""
    quoted = [f"`{name}`" for name in names]
    if len(quoted) > MANY:
        quoted = [*quoted[: MANY - 1], f"{len(quoted) - MANY + 1} more"]
    return " and ".join(filter(None, [", ".join(quoted[:-1]), quoted[-1]]))


def seeds(rows: Sequence[Row]) -> str:
    counts = sorted({row.clean.value.n for row in rows})
    return f"n = {counts[0]}" if len(counts) == 1 else f"n = {counts[0]} to {counts[-1]}"


def answer(summary: Summary) -> str:
    """The first paragraph: does it change the network, what does it improve, what does it cost, what is the control?"""
    if not summary.others:
        return "There is nothing to compare: add losses to params.yaml."
    differing = [row for row in summary.others if not row.identical]
    if all(row.robust[0].verdict == "one seed" for row in differing) and differing:
        parts = [single_seed(summary), *doubted(summary)]
    else:
        parts = [changed(summary), *derivatives(summary), *improved(summary), *doubted(summary), *shifted(summary)]
    return " ".join([*parts, *possible_controls(summary.others)])


def changed(summary: Summary) -> str:
    rows, total = summary.others, len(summary.others)
    count = sum(any(q.differs for q in row.headline) for row in rows)
    if count:
        which = "The one loss" if total == 1 else f"{count} of {total} losses"
        verb = "differs" if count == 1 else "differ"
        found = f"Yes. {which} compared with `{BASELINE}` measurably {verb} from it"
        return f"{found}{'; '.join(['', *gradients(rows)])}."
    if all(row.identical for row in rows):
        return f"No. None of the losses compared with `{BASELINE}` ({total}) changes a single weight."
    return (
        f"Not measurably. Weights change, but in clean {score(summary.study.task).name}, robust"
        f" {score(summary.study.task).name} and {GRADIENT.name} no loss ({total} compared) is found to differ"
        f" from `{BASELINE}`."
    )


def gradients(rows: Sequence[Row]) -> list[str]:
    """Whose input gradients became smaller or larger."""
    found = []
    for verdict in ("smaller", "larger"):
        if names := [row.name for row in rows if GRADIENT.verdict(row.gradient) == verdict]:
            found.append(f"input gradients are {verdict} under {joined(names)}")
    return found


def derivatives(summary: Summary) -> list[str]:
    """Where the true gradient is known: whose predictions have a better one?"""
    there = [(row, row.descriptors[ERROR].quantity) for row in summary.rows if ERROR in row.descriptors]
    base = next((q.value for row, q in there if q is not None and row.name == BASELINE), None)
    found = []
    for row, q in there:
        verdict = None if q is None else DERIVATIVE.verdict(q)
        if base is not None and q is not None and q.difference is not None and verdict in ("better", "worse"):
            found.append(
                f"The gradient of the prediction is {verdict} under `{row.name}`: {DERIVATIVE.name}"
                f" {DERIVATIVE.value(q.value)} against {DERIVATIVE.value(base)}, a paired difference of"
                f" {DERIVATIVE.difference(q.difference)} {DERIVATIVE.bounds(q.difference)}."
            )
    return found


def improved(summary: Summary) -> list[str]:
    """What does it improve under attack, and at what cost?"""
    measure, attack = score(summary.study.task), summary.study.attack
    groups: dict[str, list[Row]] = {
        key: [] for key in ("better", "worse", "no difference found", "one seed", "identical")
    }
    for row in sorted(summary.others, key=lambda r: -measure.good * r.robust[0].value.mean):
        groups[measure.verdict(row.robust[0])].append(row)
    robust = {row.name: row.robust[0] for row in summary.rows}
    parts = [best_under_attack(robust, measure, threat(attack.norm, attack.epsilon))]
    if groups["better"]:
        best, *rest = groups["better"]
        parts.append(cost(best, measure))
        if rest:
            shown = rest if len(rest) <= MANY else rest[: MANY - 1]
            changes = [change(r.robust[0], measure) for r in shown] + ["…"] * (len(rest) > len(shown))
            verb = "does" if len(rest) == 1 else "do"
            parts.append(f"{joined([r.name for r in rest])} {verb} better too ({'; '.join(changes)}).")
    if groups["worse"]:
        parts.append(f"Worse than `{BASELINE}` under attack: {joined([r.name for r in groups['worse']])}.")
    if undecided := groups["no difference found"]:
        parts.append(f"For {joined([r.name for r in undecided])} no difference under attack was found.")
    if groups["one seed"]:
        parts.append(f"Undecided, with one seed each: {joined([r.name for r in groups['one seed']])}.")
    return parts


def best_under_attack(robust: Mapping[str, Quantity], measure: Measure, where: str) -> str:
    """Which loss improves the robust score most, of those that improve it significantly; the baseline is in `robust`.

    The report and the page of all kept studies both say this sentence.
    """
    better = [name for name, quantity in robust.items() if measure.verdict(quantity) == "better"]
    if not better:
        return f"Under attack ({where}) no loss is found to improve robust {measure.name}."
    best = max(better, key=lambda name: measure.good * robust[name].value.mean)
    how = "improves it most" if len(better) > 1 else "is the one loss found to improve it"
    mine, base = measure.value(robust[best].value), measure.value(robust[BASELINE].value)
    return (
        f"Under attack ({where}) `{best}` {how}: robust {measure.name} {mine} against {base},"
        f" a paired difference of {change(robust[best], measure)}."
    )


def doubted(summary: Summary) -> list[str]:
    """Which of the robust scores that are praised fail the masking sheet?"""
    measure = score(summary.study.task)
    best = max(summary.rows, key=lambda row: measure.good * row.robust[0].value.mean)
    praised = [row for row in summary.rows if row is best or measure.verdict(row.robust[0]) == "better"]
    flagged = [row for row in sorted(praised, key=lambda row: row is not best) if row.flags]
    if not flagged:
        return []
    which = "; ".join(f"`{row.name}` fails {joined(row.flags)}" for row in flagged[:MANY])
    more = f"; {len(flagged) - MANY} more fail too" if len(flagged) > MANY else ""
    if len(flagged) == 1:
        row = flagged[0]
        return [
            f"The robust {measure.name} of `{row.name}` cannot be trusted yet: it fails {joined(row.flags)} on the"
            " masking sheet."
        ]
    return [f"Some robust scores cannot be trusted yet: on the masking sheet {which}{more}."]


def single_seed(summary: Summary) -> str:
    """One seed shows two runs, not two losses."""
    measure, attack = score(summary.study.task), summary.study.attack
    shown = ", ".join(f"`{row.name}` {measure.value(row.robust[0].value)}" for row in summary.rows)
    return (
        f"Undecided: with n = 1 seed there is no interval, and two runs that differ are not yet two losses that differ."
        f" Robust {measure.name} of this seed at {threat(attack.norm, attack.epsilon)}: {shown}."
    )


def change(quantity: Quantity, measure: Measure) -> str:
    assert quantity.difference is not None
    return f"{measure.difference(quantity.difference)} {measure.bounds(quantity.difference)}"


def cost(row: Row, measure: Measure) -> str:
    clean = {
        "better": f"Clean {measure.name} even gets better",
        "worse": f"Clean {measure.name} gets worse",
    }.get(measure.verdict(row.clean), f"No difference in clean {measure.name} was found")
    return f"{clean} ({change(row.clean, measure)})."


SHIFT = 0.05
"""What a test score must lose against validation to be called another distribution (RMSE: a share of it)."""


def shifted(summary: Summary) -> list[str]:
    """Does what was learnt hold on the test split, and which loss holds best there?"""
    measure, base = score(summary.study.task), summary.baseline
    loss = -measure.good * base.shift.mean
    limits = summary.study.task.limits
    whole = limits[1] if limits else base.validation.mean
    if not base.shift.excludes_zero or loss < SHIFT * whole:
        return []
    better = [row for row in summary.others if measure.verdict(row.clean) == "better"]
    fallen = (
        f"The test split is not like what was trained on: `{BASELINE}` scores {measure.value(base.validation)} on"
        f" validation and {measure.value(base.clean.value)} on test, a difference of {measure.difference(base.shift)}"
        f" {measure.bounds(base.shift)}."
    )
    if not better:
        return [f"{fallen} No loss is found to score better there."]
    best = max(better, key=lambda row: measure.good * row.clean.value.mean)
    return [
        f"{fallen} The best there is `{best.name}` with {measure.value(best.clean.value)}"
        f" ({change(best.clean, measure)} against `{BASELINE}`)."
    ]


def possible_controls(rows: Sequence[Row]) -> list[str]:
    """A sentence for every loss whose weights or whose term say that it might be `standard` under another name."""
    return [reach(row) for row in rows if row.equal_weights or row.pull.mean == 0]


ELSEWHERE = "passes of the loss that move the net's buffers (BatchNorm) or draw its random numbers (Dropout)"
ROUNDING = ", or a device that rounds differently from run to run"
"""How weights can differ although the term never reaches them; the latter on a GPU alone."""


def reach(row: Row) -> str:
    """Does the loss's term reach the weights?"""
    count = f"{row.equal_weights} of {row.paired} seeds"
    pull = f"gradient {row.pull.mean:.3g} times the task's, mean over epochs"
    term = (
        "its term never reaches a parameter" if row.pull.mean == 0 else f"its term does reach the parameters ({pull})"
    )
    if row.identical:
        same = f"identical weights in {count}, so one attack serves both"
        return f"`{row.name}` cannot be told apart from `{BASELINE}`: {same}; {term}."
    if row.equal_weights:
        return f"`{row.name}` has weights identical to `{BASELINE}` in {count}; {term}."
    if row.pull.mean == 0:
        return (
            f"`{row.name}`'s term never reaches a parameter, yet the weights are identical to `{BASELINE}` in {count}:"
            f" the difference must come from elsewhere, such as {ELSEWHERE}{ROUNDING if row.on_gpu else ''}."
        )
    return f"`{row.name}`'s term reaches the parameters ({pull}); identical weights in {count}."


def about(row: Row, summary: Summary) -> str:
    if row.identical:
        return reach(row)
    measure, attack = score(summary.study.task), summary.study.attack
    named = [
        (f"robust {measure.name} at {threat(attack.norm, attack.epsilon)}", measure, row.robust[0]),
        (f"clean {measure.name}", measure, row.clean),
        (GRADIENT.name, GRADIENT, row.gradient),
    ]
    said = [f"{name} {change(quantity, how)} ({how.verdict(quantity)})" for name, how, quantity in named]
    return f"`{row.name}`: {'; '.join(said)}. {reach(row)}"


def collapsed(summary: Summary) -> list[str]:
    """Of every loss, in how many seeds its training collapsed; empty where no robust score was taken while training."""
    found = [(row.name, row.collapsed) for row in summary.rows if row.collapsed is not None]
    return [f"`{name}`: collapsed in {one.seeds} of {one.of} seeds" for name, one in found]


def collapse_rule(study: Study) -> str:
    """What was looked at for it."""
    return (
        f"After every epoch PGD of 5 steps attacked the first {study.training.robust_validation} validation examples at"
        f" {threat(study.attack.norm, study.attack.epsilon)}. Collapsed: the score of the last epoch is more than"
        f" {100 * FALL:g} points below the best one before it."
    )


def comparisons(summary: Summary) -> str:
    """How many differences are tested, by what test, and what is not corrected."""
    count, losses = sum(len(row.headline) for row in summary.others if not row.identical), len(summary.others)
    if not count:
        return "No difference is tested."
    if summary.baseline.clean.value.n < 2:
        return "No difference is tested: one seed has no interval."
    return (
        f"In all, {count} differences from `{BASELINE}` are tested (3 quantities of each loss that is not identical to"
        f" it). A verdict needs p < 0.05 in a paired t-test over seeds, after Holm's correction for the losses compared"
        f" ({losses}) and none for the 3 quantities. The intervals are not corrected: without that, about"
        f" {0.05 * count:.2g} of them would exclude 0 by chance alone, so one that barely does has no verdict."
    )
