"""Every attack of a study on one model, step by step; a step is kept as it ends, so that a killed one goes on."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from inputgrad import files, tasks
from inputgrad.attacks import Threat, pgd
from inputgrad.errors import UserError
from inputgrad.gradients import norms
from inputgrad.gradients.forward import Draws, expand
from inputgrad.gradients.norms import BallNorm
from inputgrad.robustness.settings import Attack, ThreatModel

PROBES: dict[str, dict[str, Any]] = {"pgd_10x1": {"steps": 10, "restarts": 1}, "pgd_40x5": {"steps": 40, "restarts": 5}}
"""For the masking sheet, at the headline ε: more steps and restarts (steps x restarts) must not help the defender."""
CHUNK = 512
"""Examples attacked at once: what an attack keeps per step must fit into the memory of a GPU."""


@dataclass(frozen=True, kw_only=True)
class Victim:
    """A trained model in eval mode and frozen, and the examples it is attacked on.

    source: the net on which transfer attacks are made; None: there are none.
    examples: what is known of every example, by name; see `Context.examples`.
    at_once: how many examples are attacked at once.
    """

    name: str
    model: nn.Module
    source: nn.Module | None
    x: Tensor
    y: Tensor
    bounds: tuple[float, float] | None
    seed: int
    examples: Mapping[str, Tensor] = field(default_factory=dict)
    at_once: int = CHUNK


@dataclass(frozen=True, kw_only=True)
class AttackStep:
    """One attack in one norm at one ε; a minimal-norm attack asks for no ε and is judged at all of `radii`.

    attack: its word in the outcomes. module: its code. transfer: made on the source instead.
    sees_all_examples: every example is attacked, not only those still standing.
    headline: on a step in a smaller ball, the ε of the ball that was attacked before it; else None.
    """

    attack: str
    module: ModuleType
    norm: BallNorm
    epsilon: float
    sees_all_examples: bool
    knobs: dict[str, Any] = field(default_factory=dict)
    radii: tuple[float, ...] = ()
    transfer: bool = False
    headline: float | None = None


def plan(attack: Attack) -> list[AttackStep]:
    """All steps of a norm in an order that spares work: what sees every example, then the headline ε, then the others.

    An example that all attacks leave standing at the headline ε needs no attack in a smaller ball.
    """
    steps: list[AttackStep] = []
    for threat in attack.threat_models:
        radii = [epsilon for epsilon in threat.radii if epsilon > 0]
        everywhere = [step for epsilon in radii for step in at_radius(attack, threat, epsilon, radii)]
        on_what_stands = [step for step in everywhere if not (step.sees_all_examples or step.radii)]
        steps += [step for step in everywhere if step not in on_what_stands]
        steps += [step for step in on_what_stands if step.epsilon == threat.epsilon]
        steps += at_headline(attack, threat)
        steps += [step for step in on_what_stands if step.epsilon != threat.epsilon]
    return steps


def at_radius(attack: Attack, threat: ThreatModel, epsilon: float, radii: list[float]) -> Iterator[AttackStep]:
    """The attacks that run at every ε; those that at_epsilon names too wait for it at the headline's."""
    for name, knobs in attack.attacks.items():
        module = attack.module(name)
        once = hasattr(module, "nearest")
        if (once and epsilon > radii[0]) or (epsilon == threat.epsilon and name in attack.expensive(threat)):
            continue
        yield AttackStep(
            attack=name,
            module=module,
            norm=threat.norm,
            epsilon=epsilon,
            sees_all_examples=attack.traits(name).sees_all_examples,
            knobs=attack.knobs(name, knobs),
            radii=tuple(radii) if once else (),
            headline=threat.epsilon if epsilon < threat.epsilon and not once else None,
        )


def at_headline(attack: Attack, threat: ThreatModel) -> Iterator[AttackStep]:
    """What runs at the headline ε only: the probes of the masking sheet, transfer, and the expensive attacks."""
    where: dict[str, Any] = {"norm": threat.norm, "epsilon": threat.epsilon}
    for name, knobs in PROBES.items():
        yield AttackStep(attack=name, module=pgd, sees_all_examples=True, knobs=knobs, **where)
    expensive = [
        AttackStep(
            attack=name,
            module=attack.module(name),
            sees_all_examples=attack.traits(name).sees_all_examples,
            knobs=attack.knobs(name, knobs),
            **where,
        )
        for name, knobs in attack.expensive(threat).items()
    ]
    yield from (step for step in expensive if not step.module.TRAITS.black_box)
    # what uses no gradient of the model comes last: what it alone breaks is then a fault of the gradient's attacks
    yield AttackStep(attack="transfer", module=pgd, sees_all_examples=True, transfer=True, **where)
    yield from (step for step in expensive if step.module.TRAITS.black_box)


def attacked(victim: Victim, attack: Attack, folder: Path, key: str = "") -> pd.DataFrame:
    """A row per example, attack, norm and ε; steps that `folder` holds already are not run again.

    A step's file is named by a hash of `key`, the step and its bytes: one that does not fit is made again.

    Columns: example, attack, norm, epsilon, broken, loss_before, loss_after, distance (of the point from the clean
    input, in the norm), overshoot (how far it lies outside the ball or the bounds).

    Raises:
        UserError: the model's outputs are not finite.
    """
    clean = judged(victim, "clean", "none", 0.0, torch.arange(len(victim.x)), victim.x)
    found, broken_at = [clean], BrokenAt(clean)
    for number, step in enumerate(plan(attack)):
        if step.transfer and victim.source is None:
            continue
        stem = f"{number:03d}-{step.attack}-{step.norm}-{step.epsilon:g}"
        contents = kept(folder, stem, key)
        if contents is None:
            index = torch.arange(len(victim.x)) if step.sees_all_examples else left(broken_at, step, victim)
            # no row where nothing stands any more: a model need not take an empty batch, so it is never given one
            frame = run_step(victim, step, index) if len(index) else clean.iloc[:0]
            contents = frame.to_parquet(index=False)
            with files.replacing(folder / f"{stem}-{hash_of(key, stem, contents)}.parquet") as temporary:
                temporary.write_bytes(contents)
        # always as it was written: a resumed evaluation sees the very same frames
        found.append(pd.read_parquet(BytesIO(contents)))
        broken_at.note(found[-1])
    return pd.concat(found, ignore_index=True)


def kept(folder: Path, stem: str, key: str) -> bytes | None:
    """What the file of a step holds, if there is one that is whole; others are deleted."""
    for file in folder.glob(f"{stem}-*.parquet"):
        contents = file.read_bytes()
        if file.stem == f"{stem}-{hash_of(key, stem, contents)}":
            return contents
        print(f"note: {file} is damaged or of another evaluation; the step is made again", file=sys.stderr)
        file.unlink()
    return None


def hash_of(key: str, stem: str, contents: bytes) -> str:
    return hashlib.sha256(f"{key} {stem} ".encode() + contents).hexdigest()[:16]


class BrokenAt:
    """The smallest ε of each norm at which something has broken every example; infinite where nothing has."""

    def __init__(self, clean: pd.DataFrame) -> None:
        self.clean = np.where(clean["broken"], 0.0, np.inf)
        self.of_norm: dict[str, np.ndarray] = {}

    def note(self, step: pd.DataFrame) -> None:
        """Look at the outcomes of one step."""
        broken = step[step["broken"]]
        for norm, rows in broken.groupby("norm"):
            np.minimum.at(self.of_norm.setdefault(str(norm), self.clean.copy()), rows["example"], rows["epsilon"])

    def standing(self, norm: BallNorm, epsilon: float) -> np.ndarray:
        """Of every example, whether nothing has broken it inside the ball; a smaller ball lies inside a larger one."""
        return self.of_norm.get(norm, self.clean) > epsilon


def left(broken_at: BrokenAt, step: AttackStep, victim: Victim) -> Tensor:
    """The examples that a step attacks: nothing has broken them yet inside its ball, but something at the headline ε.

    Nothing breaks an example of a regression: each is attacked at every ε.
    """
    still = broken_at.standing(step.norm, step.epsilon)
    if step.headline is not None and tasks.of(victim.y).has_classes:
        still &= ~broken_at.standing(step.norm, step.headline)
    return torch.from_numpy(np.flatnonzero(still))


def run_step(victim: Victim, step: AttackStep, index: Tensor) -> pd.DataFrame:
    """Attack the examples `index`, (n,), at least one."""
    draws = Draws(torch.Generator(victim.x.device).manual_seed(seed_of(victim.seed, step)))
    frames = []
    for part in index.split(victim.at_once):
        x, y = victim.x[part], victim.y[part]
        moved = points(victim, step, x, y, draws)
        if not step.radii:
            frames.append(judged(victim, step.attack, step.norm, step.epsilon, part, moved))
        near = norms.named(step.norm).size(moved - x)
        for radius in step.radii:
            inside = torch.where(expand(near <= radius, x), moved, x)
            frames.append(judged(victim, step.attack, step.norm, radius, part, inside))
    return pd.concat(frames, ignore_index=True)


def points(victim: Victim, step: AttackStep, x: Tensor, y: Tensor, draws: Draws) -> Tensor:
    model = victim.source if step.transfer and victim.source is not None else victim.model
    if step.radii:
        found: Tensor = step.module.nearest(model, x, y, step.norm, victim.bounds, **step.knobs)
    else:
        threat = Threat(norm=step.norm, epsilon=step.epsilon, bounds=victim.bounds)
        found = step.module.perturb(model, x, y, threat, draws, **step.knobs)
    return found


def seed_of(seed: int, step: AttackStep) -> int:
    """A seed of its own for every (run, step), whatever ran before it."""
    text = f"{seed} {step.attack} {step.norm} {step.epsilon}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")


@torch.no_grad()
def judged(
    victim: Victim, attack: str, norm: BallNorm | Literal["none"], epsilon: float, index: Tensor, moved: Tensor
) -> pd.DataFrame:
    """One row per example of `index`: what the model makes of `moved`, shaped (n, *input)."""
    x, y, task = victim.x[index], victim.y[index], tasks.of(victim.y)
    before, after = victim.model(x), victim.model(moved)
    if not (torch.isfinite(before).all() and torch.isfinite(after).all()):
        where = "" if attack == "clean" else f" under {attack} at {norm} ε = {epsilon:g}"
        raise UserError(f"{victim.name}: the trained model's outputs are not finite{where}; lower the loss's strength")
    delta = moved.double() - x.double()
    distance = norms.named("linf" if norm == "none" else norm).size(delta)
    outside = distance - epsilon
    if victim.bounds is not None:
        low, high = (moved.double().flatten(1).amin(1), moved.double().flatten(1).amax(1))
        outside = torch.stack([outside, victim.bounds[0] - low, high - victim.bounds[1]]).amax(0)
    columns = {
        "example": index,
        "broken": task.broken(after, y),
        "loss_before": task.losses(before, y),
        "loss_after": task.losses(after, y),
        "distance": distance,
        "overshoot": outside.clamp_min(0),
    }
    frame = pd.DataFrame({name: values.cpu().numpy() for name, values in columns.items()})
    for place, (name, value) in enumerate((("attack", attack), ("norm", norm), ("epsilon", epsilon)), 1):
        frame.insert(place, name, np.full(len(frame), value))
    return frame.astype({"attack": "str", "norm": "str"})
