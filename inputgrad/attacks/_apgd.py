"""Auto-PGD, PGD that sets its own step (Croce & Hein 2020), on many targets at once.

The authors' code ascends one target after the other, so that its batches shrink to a few rows and the hardware idles.
Here every example and target is a row of one batch, and all rows of an example are dropped when one has broken it,
and a row that has come to rest.
The steps are the authors' own: the tests hold every row against theirs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields

import torch
from torch import Tensor, nn

from inputgrad.attacks import Threat
from inputgrad.attacks._classes import Prune, first_of_each, most_of_each
from inputgrad.gradients.forward import Draws, expand

ROWS = 1024
"""Rows in one batch: more of them gain nothing on a CPU and fill the memory of a GPU."""
MOMENTUM = 0.75
"""Share of the new step; the rest is the step before."""
RISING = 0.75
"""An ascent that rises in fewer of its steps than this has a step that is too long."""
Objective = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(outputs (R, C), labels (R,), targets (R,)) -> what is raised, (R,)."""


@dataclass
class Rows:
    """The ascents that go on, one row each: where they are, where they were best, and how their steps went.

    example: which one a row attacks. value: of the objective. last_best: at the check before. rises: steps since
    the check in which the value rose. halved: the step was halved at the check before.
    """

    example: Tensor
    clean: Tensor
    label: Tensor
    target: Tensor
    moved: Tensor
    before: Tensor
    gradient: Tensor
    value: Tensor
    step: Tensor
    best: Tensor
    best_gradient: Tensor
    best_value: Tensor
    last_best: Tensor
    rises: Tensor
    halved: Tensor

    def only(self, kept: Tensor) -> Rows:
        return Rows(**{field.name: getattr(self, field.name)[kept] for field in fields(self)})

    def at_rest(self) -> Tensor:
        """Rows that did not move and stand at their best: every step that follows is the same, no check moves them."""
        still = (self.moved == self.before) & (self.moved == self.best)
        return still.flatten(1).all(1)


def apgd(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    objective: Objective,
    targets: Tensor,
    draws: Draws,
    steps: int,
    prune: Prune = (),
) -> Tensor:
    """A point of the ball that the model gets wrong for every example where one was passed, x elsewhere.

    Args:
        model: in eval mode, its parameters frozen.
        x: clean inputs, (N, *input), N at least one.
        y: class numbers, (N,).
        threat: the ball and the bounds.
        objective: what the ascent raises.
        targets: what each ascent heads for, (N, T): T rows for each example.
        draws: of the starts, on the surface of the ball.
        steps: of each ascent.
        prune: after which steps only the targets whose value is best go on.
    """
    most = max(1, ROWS // targets.shape[1])
    if len(x) > most:
        parts = zip(x.split(most), y.split(most), targets.split(most), strict=True)
        return torch.cat([apgd(model, *part[:2], threat, objective, part[2], draws, steps, prune) for part in parts])
    found, standing = x.clone(), model(x).argmax(1) == y
    rows, wrong = begin(model, x, y, threat, objective, targets, draws)
    checks, pruned = dict(checkpoints(steps)), dict(prune)
    for i in range(steps + 1):
        if i:
            advance(rows, threat, 1.0 if i == 1 else MOMENTUM)
            wrong = measure(model, objective, rows)
        note(found, standing, rows, wrong)
        alive = standing[rows.example] & ~(rows.at_rest() & (i > 1))
        if i in pruned:
            alive &= most_of_each(rows.example, rows.best_value, pruned[i])
        if not alive.any():
            break
        if i in pruned or alive.float().mean() < 0.9:
            rows = rows.only(alive)
        if i in checks:
            check(rows, checks[i])
    return found


def begin(
    model: nn.Module, x: Tensor, y: Tensor, threat: Threat, objective: Objective, targets: Tensor, draws: Draws
) -> tuple[Rows, Tensor]:
    """The start of every ascent, and the rows that are wrong there."""
    example = torch.arange(len(x), device=x.device).repeat_interleave(targets.shape[1])
    clean, label, target = x[example], y[example], targets.flatten()
    moved = threat.project(clean + threat.on_surface(draws, clean), clean)
    value, gradient, wrong = look(model, objective, moved, label, target)
    rows = Rows(
        example=example,
        clean=clean,
        label=label,
        target=target,
        moved=moved,
        before=moved,
        gradient=gradient,
        value=torch.zeros_like(value),  # the authors compare the first step with zero
        step=torch.full_like(value, 2 * threat.epsilon),
        best=moved,
        best_gradient=gradient,
        best_value=value,
        last_best=value,
        rises=torch.zeros_like(value),
        halved=torch.ones_like(value, dtype=torch.bool),
    )
    return rows, wrong


def checkpoints(steps: int) -> Iterator[tuple[int, int]]:
    """(after which step, how many steps since the last): the authors' growing number of looks."""
    length, shortest, less = max(int(0.22 * steps), 1), max(int(0.06 * steps), 1), max(int(0.03 * steps), 1)
    done = 0
    while (done := done + length) <= steps:
        yield done, length
        length = max(length - less, shortest)


def look(
    model: nn.Module, objective: Objective, moved: Tensor, label: Tensor, target: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Value and gradient of the objective, and whether the model is wrong, row by row."""
    leaf = moved.detach().requires_grad_(True)
    with torch.enable_grad():
        outputs = model(leaf)
        values = objective(outputs, label, target)
        (gradient,) = torch.autograd.grad(values.sum(), leaf)
    return values.detach(), gradient, outputs.detach().argmax(1) != label


def advance(rows: Rows, threat: Threat, share: float) -> None:
    """One step along the steepest direction, with the authors' momentum."""
    stepped = rows.moved + expand(rows.step, rows.moved) * threat.ball.steepest(rows.gradient)
    stepped = threat.project(stepped, rows.clean)
    if share < 1:
        stepped = rows.moved + (stepped - rows.moved) * share + (rows.moved - rows.before) * (1 - share)
        stepped = threat.project(stepped, rows.clean)
    rows.before, rows.moved = rows.moved, stepped


def measure(model: nn.Module, objective: Objective, rows: Rows) -> Tensor:
    """Look at the rows where they are now, and remember what is best; gives the rows that are wrong."""
    values, rows.gradient, wrong = look(model, objective, rows.moved, rows.label, rows.target)
    rows.rises = rows.rises + (values > rows.value)
    rows.value = values
    better = values > rows.best_value
    there = expand(better, rows.moved)
    rows.best = torch.where(there, rows.moved, rows.best)
    rows.best_gradient = torch.where(there, rows.gradient, rows.best_gradient)
    rows.best_value = torch.where(better, values, rows.best_value)
    return wrong


def note(found: Tensor, standing: Tensor, rows: Rows, wrong: Tensor) -> None:
    """Write down one broken point for every example that has just been broken."""
    hits = (wrong & standing[rows.example]).nonzero()[:, 0]
    hits = hits[first_of_each(rows.example[hits])]
    found[rows.example[hits]] = rows.moved[hits]
    standing[rows.example[hits]] = False


def check(rows: Rows, length: int) -> None:
    """Halve the steps that rose too seldom or gained nothing, and go back to the best point with them."""
    stuck = ~rows.halved & (rows.last_best >= rows.best_value)
    halve = (rows.rises <= RISING * length) | stuck
    rows.halved, rows.last_best = halve, rows.best_value
    rows.step = torch.where(halve, rows.step / 2, rows.step)
    there = expand(halve, rows.moved)
    rows.moved = torch.where(there, rows.best, rows.moved)
    rows.gradient = torch.where(there, rows.best_gradient, rows.gradient)
    rows.rises = torch.zeros_like(rows.rises)
