"""An evaluation as plain text."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from inputgrad.robustness.evaluate import PROBES, plan

if TYPE_CHECKING:
    from inputgrad.robustness.evaluation import Evaluation

WIDTH = 100
Z = 1.96
"""Of a 95 % interval."""


def text(found: Evaluation) -> str:
    attack, task, n = found.attack, found.task, found.outcomes["example"].nunique()
    lines = [f"{n} examples, {attack.norm} ε = {attack.epsilon:g}", ""]
    for name, epsilon in (("clean", 0.0), ("robust", attack.epsilon)):
        lines.append(f"{name} {task.noun:10} {score(found, epsilon)}")
    lines += [*distance(found), "", f"{task.noun} left after every attack so far, at ε = {attack.epsilon:g}:"]
    lines += [f"  {name:14} {written(found, value)}" for name, value in left(found)]
    lines += ["", f"{task.noun} at every ε:"]
    lines += [f"  {epsilon:<14g} {written(found, found.robust_at(epsilon))}" for epsilon in attack.radii]
    means = found.descriptors.mean()
    lines += ["", "input gradient, mean over the examples:"]
    lines += [f"  {name:22} {value:.4g}" for name, value in means.items()]
    flags = [name for name, check in found.masking.items() if not check["ok"]]
    fine = "every check is fine" if not flags else f"{len(flags)} of {len(found.masking)} checks do not hold"
    lines += ["", f"can the robust score be trusted? {fine}:"]
    for name, check in found.findings.items():
        lines.append(f"  {name:18} {'ok' if check.ok else 'FLAG':5} {check.figure:>9}, at most {check.limit}")
        lines += textwrap.wrap(check.reason, WIDTH, initial_indent=" " * 8, subsequent_indent=" " * 8)
    lines += [f"note: {note}" for note in found.notes]
    return "\n".join(lines)


def score(found: Evaluation, epsilon: float) -> str:
    """A score, for classes with its 95 % interval over the examples."""
    value, n = found.robust_at(epsilon), found.outcomes["example"].nunique()
    if not found.task.has_classes:
        return written(found, value)
    low, high = wilson(value, n)
    return f"{100 * value:.1f} % [{100 * low:.1f}, {100 * high:.1f}]"


def wilson(share: float, n: int) -> tuple[float, float]:
    """The 95 % interval of a share of n examples (Wilson 1927); it stays inside [0, 1]."""
    middle = (share + Z**2 / (2 * n)) / (1 + Z**2 / n)
    half = Z / (1 + Z**2 / n) * (share * (1 - share) / n + Z**2 / (4 * n**2)) ** 0.5
    return max(0.0, middle - half), min(1.0, middle + half)


def written(found: Evaluation, value: float) -> str:
    return f"{found.task.factor * value:.{found.task.decimals}f}{found.task.unit}"


def left(found: Evaluation) -> list[tuple[str, float]]:
    """The score after the first attack at the headline ε, the first two, and so on, as they were run."""
    task, epsilon = found.task, found.attack.epsilon
    names = [step.attack for step in plan(found.attack) if step.epsilon == epsilon and not step.transfer]
    inside = found.outcomes[found.outcomes["epsilon"] <= epsilon]
    seen, rows = inside["epsilon"] < epsilon, []
    if "fab" in found.attack.attacks:
        names.insert(0, "fab")  # once for all ε
    for name in ["smaller ε", *dict.fromkeys(names)]:
        seen = seen | (inside["attack"] == name)
        worst = inside[seen].groupby("example")[task.harm].max().astype(float)
        value = float(task.score_of_harm(worst.to_frame().mean(axis=0)).iloc[0])
        rows.append((f"{name} (steps x restarts)" if name in PROBES else name, value))
    return rows


def distance(found: Evaluation) -> list[str]:
    """The median distance to the nearest broken point, where half of the examples have one."""
    if not found.task.has_classes:
        return []
    rows, clean = found.outcomes, found.outcomes[found.outcomes["attack"] == "clean"]
    nearest = rows[rows["broken"]].groupby("example")["distance"].min()
    every = nearest.reindex(clean["example"].unique(), fill_value=float("inf"))
    median = float(every.median())
    said = f"{median:.4g}" if median < float("inf") else "beyond every ε tried"
    return [f"median distance to the nearest broken point: {said} (an upper bound)"]
