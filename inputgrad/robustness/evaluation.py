"""Attack a trained model of one's own: its robust score, example by example, and whether the score can be trusted."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from inputgrad import files
from inputgrad.attacks import Threat
from inputgrad.errors import UserError
from inputgrad.gradients.descriptors import descriptors
from inputgrad.gradients.forward import Draws, evaluating
from inputgrad.gradients.norms import BallNorm
from inputgrad.robustness import given, masking, nets, scores
from inputgrad.robustness.attacking import CHUNK, Victim, attacked
from inputgrad.robustness.masking import Finding
from inputgrad.robustness.settings import Attack
from inputgrad.tasks import Task

if TYPE_CHECKING:
    import pandas as pd

FACTS = "evaluation.json"
"""The file that is written last: an evaluation that has it is whole."""


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What the attacks have found.

    Attributes:
        attack: the threat model and the attacks.
        task: what a score is.
        outcomes: a row per example, attack and ε; see `inputgrad.robustness.attacking.attacked`.
        descriptors: of the input gradient, a row per example; see `inputgrad.gradients.descriptors.descriptors`.
        masking: the masking sheet: check -> ok, value, threshold, reason, of (how many examples, where the value is a
            number of examples).
        notes: what was done otherwise than for any model, and why.
        key: names the model's weights, the examples, the settings and the code.
    """

    attack: Attack
    task: Task
    outcomes: pd.DataFrame
    descriptors: pd.DataFrame
    masking: dict[str, dict[str, Any]]
    notes: tuple[str, ...]
    key: str

    @property
    def clean(self) -> float:
        """The score without attack."""
        return self.robust_at(0.0)

    @property
    def robust(self) -> float:
        """The score under the worst attack, example by example, at the headline ε."""
        return self.robust_at(self.attack.epsilon)

    def robust_at(self, epsilon: float) -> float:
        """The worst case over all attacks that stayed inside a ball of radius `epsilon`, in the headline norm.

        Raises:
            UserError: no attack was run at that radius: what smaller balls show would be too good.
        """
        near = [radius for radius in (0.0, *self.attack.radii) if math.isclose(radius, epsilon, rel_tol=1e-9)]
        if not near:
            tried = ", ".join(f"{radius:g}" for radius in self.attack.radii)
            raise UserError(f"no attack was run at ε = {epsilon:g} (at {tried}); fix: one of these, or a grid with it")
        return scores.score(scores.worst_at(self.harm, self.attack.norm, near[0]), self.task)

    @cached_property
    def harm(self) -> pd.DataFrame:
        """What every attack did to every example; see `inputgrad.robustness.scores.harm`."""
        return scores.harm(self.outcomes, self.task)

    @property
    def findings(self) -> dict[str, Finding]:
        """The masking sheet, each check as an object that knows how it is written."""
        return {name: Finding(**check) for name, check in self.masking.items()}

    @property
    def trusted(self) -> bool:
        """Whether every check of the masking sheet is fine."""
        return all(check["ok"] for check in self.masking.values())

    @property
    def facts(self) -> dict[str, Any]:
        """The numbers in brief, as plain values."""
        at_epsilon = {f"{epsilon:g}": self.robust_at(epsilon) for epsilon in self.attack.radii}
        return {
            "key": self.key,
            "examples": int(self.outcomes["example"].nunique()),
            "score": self.task.key,
            "clean": self.clean,
            "robust": self.robust,
            "score_at_epsilon": at_epsilon,
            "trusted": self.trusted,
            "attack": self.attack.model_dump(mode="json"),
            "notes": list(self.notes),
        }

    def __str__(self) -> str:
        from inputgrad.robustness import text

        return text.text(self)


def evaluate(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    epsilon: float,
    norm: BallNorm = "linf",
    bounds: tuple[float, float] | None = (0.0, 1.0),
    attack: Attack | None = None,
    task: str | None = None,
    batch_size: int | None = None,
    seed: int = 0,
    folder: Path | str | None = None,
) -> Evaluation:
    """The robust score of a model as the worst case of the standard ensemble, with everything needed to judge it.

    Args:
        model: maps (N, *input) to logits (N, C), one logit (N,) or (N, 1) for two classes, or predictions (N, k), or
            to an object that holds them as `logits`; its normalisation is part of it. It is attacked in eval mode, and
            nothing of it changes.
        x: inputs in the data's own units, (N, *input); those in 16 bits are held in 32.
        y: class numbers (N,) of an integer type, or the targets (N,) or (N, k) of a regression.
        epsilon: headline radius of the ball, in the units of x.
        norm: of the ball.
        bounds: lowest and highest admissible input; None where there are none.
        attack: the attacks and the grid of ε, with this norm and epsilon; by default `given.standard`.
        task: 'classification' or 'regression'; None: classification. A regression is said, never told from the type
            of y: labels are often floating-point numbers too.
        batch_size: how many inputs the model is given at once at most, and how many examples are attacked at once;
            None: `CHUNK` examples, with up to 1024 rows. Another one draws other random numbers.
        seed: of all random numbers.
        folder: where the files are written; an evaluation that was stopped goes on from there.

    Raises:
        UserError: the model, the examples or the settings do not fit each other, before any attack is run; or `folder`
            holds another evaluation.
    """
    if batch_size is not None and batch_size < 1:
        raise UserError(f"batch_size is {batch_size}; fix: 1 or more")
    found = given.checked(model, x, y, bounds, task, batch_size)
    with nets.uncompiled(model):
        return of_checked(found, Threat(norm=norm, epsilon=epsilon, bounds=bounds), attack, batch_size, seed, folder)


def of_checked(
    found: given.Checked,
    space: Threat,
    attack: Attack | None,
    batch_size: int | None,
    seed: int,
    folder: Path | str | None,
) -> Evaluation:
    """The evaluation of what is known to fit; the arguments are those of `evaluate`."""
    model, x, y, bounds = found.model, found.x.detach(), found.y.detach(), space.bounds
    notes, at_once = list(found.notes), min(CHUNK, batch_size or CHUNK)
    if attack is None:
        attack, more = given.standard(model, x, found.task, space)
        notes += more
    else:
        given.refuse(attack, found.task, space, len(x))
    with frozen(model):
        state = key_of(model, x, y, attack, bounds, seed, at_once)
        key = hashlib.sha256((state + answers(model, x)).encode()).hexdigest()[:16]
        target = None if folder is None else given.usable(Path(folder), FACTS, key)
        victim = Victim(name="the model", model=model, source=None, x=x, y=y, bounds=bounds, seed=seed, at_once=at_once)
        with given.steps(target, attack) as steps:
            outcomes = attacked(victim, attack, steps, key)
        described, gradients = descriptors(model, x, y, space, Draws(torch.Generator(x.device).manual_seed(seed)))
        evidence = masking.evidence(victim, outcomes, described, attack)
        evaluation = Evaluation(
            attack=attack,
            task=found.task,
            outcomes=outcomes,
            descriptors=described,
            masking=masking.sheet(evidence),
            notes=tuple(notes),
            key=key,
        )
        if key_of(model, x, y, attack, bounds, seed, at_once) != state:
            raise UserError("the model changed while it was attacked: a forward pass in eval mode must leave it alone")
    if target is not None:
        write(evaluation, gradients, target)
    return evaluation


def write(found: Evaluation, gradients: Tensor, folder: Path) -> None:
    """outcomes.parquet, descriptors.parquet, input_gradients.npy, masking.json; evaluation.json comes last."""
    import numpy as np

    for name in ("outcomes", "descriptors"):
        with files.replacing(folder / f"{name}.parquet") as temporary:
            getattr(found, name).to_parquet(temporary, index=False)
    with files.replacing(folder / "input_gradients.npy") as temporary, temporary.open("wb") as f:
        np.save(f, gradients.cpu().numpy(), allow_pickle=False)
    files.write_json(folder / "masking.json", found.masking)
    files.write_json(folder / FACTS, found.facts)
    files.remove(folder / given.STEPS)


@contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """The model in eval mode with parameters that need no gradient, for the time of the block."""
    flags = [(p, p.requires_grad) for p in model.parameters()]
    try:
        with evaluating(model):
            for parameter, _ in flags:  # one by one: a scripted model has no method for all of them
                parameter.requires_grad_(False)
            yield
    finally:
        for parameter, flag in flags:
            parameter.requires_grad_(flag)


@torch.no_grad()
def answers(model: nn.Module, x: Tensor) -> str:
    """A hash of what the model makes of the clean inputs: code of the user's own changes it, and no weight.

    '' for a model that gives other outputs at every call.
    """
    first, second = (
        hashlib.sha256(b"".join(numbers(model(part)) for part in x.split(CHUNK))).hexdigest() for _ in range(2)
    )
    return first if first == second else ""


def numbers(t: Tensor) -> bytes:
    """The bytes of a tensor of any type."""
    return t.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes()


def key_of(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    attack: Attack,
    bounds: tuple[float, float] | None,
    seed: int,
    at_once: int,
) -> str:
    """Sixteen hex digits of the weights, the examples, the settings and the code of this library."""
    settings = [attack.model_dump(mode="json"), bounds, seed, at_once, torch.__version__, type(model).__qualname__]
    digest = hashlib.sha256(json.dumps(settings).encode())
    for name, value in sorted({**model.state_dict(), "(x)": x, "(y)": y}.items()):
        digest.update(name.encode() + numbers(value))
    for file in sorted(Path(__file__).parents[1].rglob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]
