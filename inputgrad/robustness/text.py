"""An evaluation as plain text."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from inputgrad.robustness import scores
from inputgrad.robustness.attacking import PROBES

if TYPE_CHECKING:
    from inputgrad.robustness.evaluation import Evaluation

WIDTH = 100


def text(found: Evaluation) -> str:
    attack, task, n = found.attack, found.task, found.outcomes["example"].nunique()
    lines = [f"{n} examples, {attack.norm} ε = {attack.epsilon:g}", ""]
    for name, epsilon in (("clean", 0.0), ("robust", attack.epsilon)):
        lines.append(f"{name} {task.noun:10} {score(found, epsilon)}")
    lines += [*distance(found), "", f"{task.noun} left after every attack so far, at ε = {attack.epsilon:g}:"]
    lines += [f"  {name:14} {found.task.written(value)}" for name, value in left(found)]
    lines += ["", f"{task.noun} at every ε:"]
    lines += [f"  {epsilon:<14g} {found.task.written(found.robust_at(epsilon))}" for epsilon in attack.radii]
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
        return found.task.written(value)
    low, high = scores.wilson(value, n)
    return f"{100 * value:.1f} % [{100 * low:.1f}, {100 * high:.1f}]"


def left(found: Evaluation) -> list[tuple[str, float]]:
    """The score after the first attack at the headline ε, the first two, and so on."""
    threat = found.attack.threat_models[0]
    steps = scores.steps(found.harm, found.attack, found.task, threat)
    names = [f"{name} (steps x restarts)" if name in PROBES else name for name in steps["step"]]
    return list(zip(names, steps["score"], strict=True))


def distance(found: Evaluation) -> list[str]:
    """The median distance to the nearest broken point, where half of the examples have one."""
    if not found.task.has_classes:
        return []
    median = float(scores.nearest(found.outcomes, found.attack.norm).median())
    said = f"{median:.4g}" if median < float("inf") else "beyond every ε tried"
    return [f"median distance to the nearest broken point: {said} (an upper bound)"]
