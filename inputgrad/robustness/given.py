"""What a user gives for an evaluation, held against itself before anything runs."""

from __future__ import annotations

import json
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from inputgrad import tasks
from inputgrad.attacks import Threat
from inputgrad.attacks._square import TILES
from inputgrad.errors import UserError
from inputgrad.gradients.forward import evaluating
from inputgrad.robustness.attacking import plan
from inputgrad.robustness.settings import Attack
from inputgrad.tasks import Task

STEPS = "steps"
"""The folder of the attacks that are finished before the whole is."""


class TwoLogits(nn.Module):
    """A net of one logit as one of two classes: cross-entropy and prediction stay what they were."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        logit = self.net(x).reshape(-1, 1)
        return torch.cat([torch.zeros_like(logit), logit], 1)


def checked(model: nn.Module, x: Tensor, y: Tensor, bounds: tuple[float, float] | None) -> tuple[nn.Module, list[str]]:
    """The model as the attacks need it, and what is said about it."""
    if len(x) != len(y) or not len(x):
        raise UserError(f"{len(x)} inputs and {len(y)} labels or targets; fix: as many of each, one or more")
    if not x.is_floating_point():
        raise UserError(f"inputs are {x.dtype}; fix: floating-point numbers, for bytes x.float() / 255")
    if not bool(torch.isfinite(x).all()):
        raise UserError("inputs hold NaN or infinite numbers; fix: drop these examples")
    if not bool(torch.isfinite(y).all()):
        raise UserError("labels or targets hold NaN or infinite numbers; fix: drop these examples")
    low, high = float(x.min()), float(x.max())
    if bounds is not None and not bounds[0] <= low <= high <= bounds[1]:
        raise UserError(
            f"inputs lie in [{low:g}, {high:g}], the bounds are [{bounds[0]:g}, {bounds[1]:g}]; fix: put the"
            " normalisation into the model and give plain inputs, or give other bounds"
        )
    with evaluating(model), torch.no_grad():
        try:
            outputs = model(x[: min(len(x), 64)])
        except (RuntimeError, TypeError, ValueError) as error:
            reason = " ".join(str(error).split())[:160]
            raise UserError(f"the model does not take inputs of shape {tuple(x.shape)} ({reason})") from error
    if not isinstance(outputs, Tensor):
        raise UserError(f"the model gives a {type(outputs).__name__}; fix: wrap it so that it gives the logits alone")
    if not bool(torch.isfinite(outputs).all()):
        raise UserError("the model's outputs are not finite on these inputs; fix: check its weights")
    if not tasks.of(y).has_classes:
        return model, []
    return classifier(model, outputs, y)


def classifier(model: nn.Module, outputs: Tensor, y: Tensor) -> tuple[nn.Module, list[str]]:
    notes = []
    if outputs.dim() == 1 or outputs.shape[1:] == (1,):
        model, outputs = TwoLogits(model), torch.cat([torch.zeros_like(outputs.reshape(-1, 1))] * 2, 1)
        notes.append("one logit is taken as two classes")
    elif outputs.dim() != 2:
        raise UserError(f"the model gives outputs of shape {tuple(outputs.shape)}; fix: logits (N, C)")
    elif bool((outputs >= 0).all()) and bool(((outputs.sum(1) - 1).abs() < 1e-3).all()):
        raise UserError("the model gives probabilities; fix: give its logits, before the softmax")
    classes = outputs.shape[1]
    if y.dim() != 1 or int(y.min()) < 0 or int(y.max()) >= classes:
        shape = f"of shape {tuple(y.shape)}" if y.dim() != 1 else f"from {int(y.min())} to {int(y.max())}"
        raise UserError(f"labels {shape} do not fit {classes} classes; fix: class numbers (N,) from 0 to {classes - 1}")
    return model, notes


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
            del ensemble["apgd_t"]
            notes.append(f"{classes} classes: no targeted APGD, whose loss needs four; FAB and Square replace it")
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
