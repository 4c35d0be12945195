"""What a user gives for an evaluation, held against itself before anything runs."""

from __future__ import annotations

import json
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from inputgrad import tasks
from inputgrad.attacks import Threat, apgd_t
from inputgrad.attacks._square import TILES
from inputgrad.errors import UserError
from inputgrad.gradients.forward import evaluating, wide
from inputgrad.robustness import labels, nets
from inputgrad.robustness.attacking import plan
from inputgrad.robustness.settings import Attack
from inputgrad.tasks import Task

STEPS = "steps"
"""The folder of the attacks that are finished before the whole is."""


@dataclass(frozen=True, kw_only=True)
class Checked:
    """What a user gives, as the attacks need it, and what is said about it."""

    model: nn.Module
    x: Tensor
    y: Tensor
    task: Task
    notes: list[str]


def checked(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    bounds: tuple[float, float] | None,
    task: str | None = None,
    rows: int | None = None,
) -> Checked:
    """Hold model, examples and bounds against each other; the arguments are those of `evaluation.evaluate`.

    Raises:
        UserError: they do not fit.
    """
    for name, part in (("x", x), ("y", y)):
        if not isinstance(part, Tensor):
            raise UserError(f"{name} is a {type(part).__name__}; fix: a tensor, one row for each example")
    if len(x) != len(y) or not len(x):
        raise UserError(f"{len(x)} inputs and {len(y)} labels or targets; fix: as many of each, one or more")
    if not x.is_floating_point():
        raise UserError(f"inputs are {x.dtype}; fix: floating-point numbers, for bytes x.float() / 255")
    if not bool(torch.isfinite(x).all()):
        raise UserError("inputs hold NaN or infinite numbers; fix: drop these examples")
    y, said = labels.of(y, task)
    x = wide(x)
    low, high = float(x.min()), float(x.max())
    if bounds is not None and not bounds[0] <= low <= high <= bounds[1]:
        raise UserError(
            f"inputs lie in [{low:g}, {high:g}], the bounds are [{bounds[0]:g}, {bounds[1]:g}]; fix: put the"
            " normalisation into the model and give plain inputs, or give other bounds"
        )
    with evaluating(model), nets.uncompiled(model):
        model, outputs, notes = nets.plain(model, x, rows)
        if not bool(torch.isfinite(outputs).all()):
            raise UserError("the model's outputs are not finite on these inputs; fix: check its weights")
        if said.has_classes:
            model, more = classifier(model, x, y, outputs)
            notes += more
        else:
            said.losses(outputs, y[: len(outputs)])  # refuses shapes that do not fit
    return Checked(model=model, x=x, y=y, task=said, notes=notes)


def classifier(model: nn.Module, x: Tensor, y: Tensor, outputs: Tensor) -> tuple[nn.Module, list[str]]:
    """A model of class logits; `outputs` are those of the first inputs."""
    one = tasks.is_one_logit(outputs)
    if not one and outputs.dim() != 2:
        raise UserError(f"the model gives outputs of shape {tuple(outputs.shape)}; fix: logits (N, C)")
    nets.refuse_probabilities(model, x, outputs)
    classes = 2 if one else outputs.shape[1]
    if int(y.min()) < 0 or int(y.max()) >= classes:
        found = f"labels from {int(y.min())} to {int(y.max())} do not fit {classes} classes"
        raise UserError(f"{found}; fix: class numbers (N,) from 0 to {classes - 1}")
    return (nets.TwoLogits(model), ["one logit is taken as two classes"]) if one else (model, [])


def refuse(attack: Attack, task: Task, threat: Threat, examples: int) -> None:
    """Refuse attacks of the user's own that contradict the other arguments, or would show less than they seem to."""
    if (attack.norm, attack.epsilon) != (threat.norm, threat.epsilon):
        raise UserError(
            f"the attack is for {attack.norm} ε = {attack.epsilon:g}, the arguments say {threat.norm}"
            f" ε = {threat.epsilon:g}; fix: norm='{attack.norm}', epsilon={attack.epsilon:g}"
        )
    if attack.examples is not None and attack.examples < examples:
        fix = f"fix: give x[:{attack.examples}] and y[:{attack.examples}]"
        raise UserError(f"attack.examples is {attack.examples}, there are {examples} examples; {fix}")
    for name in ("noise", "fgsm", "pgd"):
        if name not in attack.attacks:
            raise UserError(f"the masking sheet compares '{name}'; fix: add '{name}: {{}}' to attack.attacks")
    for name in () if task.has_classes else {**attack.attacks, **attack.at_epsilon}:
        if attack.traits(name).classes:
            raise UserError(f"attack {name} is not defined for {task}, which has no classes; fix: random_search")


def standard(model: nn.Module, x: Tensor, task: Task, threat: Threat) -> tuple[Attack, list[str]]:
    """Cheap attacks at every ε and, as far as the model allows, the standard ensemble at the headline ε; notes."""
    cheap: dict[str, dict[str, Any]] = {"noise": {}, "fgsm": {}, "pgd": {"steps": 20, "restarts": 3}}
    ensemble: dict[str, dict[str, Any]] = {"random_search": {}}
    notes = []
    if task.has_classes:
        with evaluating(model), torch.no_grad():
            classes = model(x[:2]).shape[1]
        cheap |= {"fab": {}}
        ensemble = {"apgd_ce": {}, "apgd_t": {}, "fab_t": {}, "square": {}}
        if classes < 4:
            notes.append(f"{classes} classes: targeted APGD raises {apgd_t.FEW[classes]}; the authors' ratio needs 4")
        if x.dim() != 4 or min(x.shape[2:]) < TILES:
            del ensemble["square"]
            ensemble["random_search"] = {}
            notes.append(f"inputs {tuple(x.shape[1:])} are no images: random_search instead of Square")
    attack = Attack(norm=threat.norm, epsilon=threat.epsilon, grid=grid(x, threat), attacks=cheap, at_epsilon=ensemble)
    return attack, notes


def grid(x: Tensor, threat: Threat) -> list[float]:
    """0, half the headline ε, ε, twice ε, and a radius at which nothing of an input is left."""
    if threat.bounds is None:
        largest = 8 * threat.epsilon
    else:
        width = threat.bounds[1] - threat.bounds[0]
        if threat.ball.each_input and threat.epsilon > width:
            raise UserError(f"ε = {threat.epsilon:g} is larger than the range of the inputs; fix: at most {width:g}")
        largest = width / 2 if threat.ball.each_input else width / 2 * x[0].numel() ** 0.5
    inner = [0.0, threat.epsilon / 2, threat.epsilon, 2 * threat.epsilon]
    return sorted({*(e for e in inner if e < largest or e <= threat.epsilon), max(largest, threat.epsilon)})


def usable(folder: Path, facts: str, key: str) -> Path:
    """The folder, once it is known to hold nothing else."""
    try:
        found = json.loads((folder / facts).read_text(encoding="utf-8")).get("key")
    except FileNotFoundError:
        found = key
    except (ValueError, AttributeError):
        found = None
    if found != key:
        raise UserError(
            f"{folder} holds the evaluation of another model, of other examples or settings; fix: another folder, or"
            " delete it"
        )
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextmanager
def steps(folder: Path | None, attack: Attack) -> Iterator[Path]:
    """Where finished attacks are kept, with a progress bar on a terminal."""
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary) if folder is None else folder / STEPS
        place.mkdir(exist_ok=True)
        with watched(place, sum(not step.transfer for step in plan(attack))):
            yield place


@contextmanager
def watched(place: Path, total: int) -> Iterator[None]:
    if not sys.stderr.isatty():
        yield
        return
    import click

    stop = threading.Event()
    with click.progressbar(length=total, label="attacks", file=sys.stderr, show_pos=True) as bar:

        def watch() -> None:
            while not stop.wait(0.25):
                bar.update(len(list(place.glob("*.parquet"))) - bar.pos)

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            yield
            bar.update(total - bar.pos)
        finally:
            stop.set()
            watcher.join()
