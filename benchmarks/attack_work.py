"""The attack stage's work with our attacks and with their authors', on the same models: CPU seconds and verdicts.

    python -m benchmarks.attack_work [STUDY [SEEDS]]    # digits 0,1; after `make study`

Both run the study's whole plan on all examples of the test split, with the whole ensemble in both norms, one after the
other, on one thread. `theirs` calls `pyautoattack` as it is: target after target, the walk of Square query by query.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from inputgrad.attacks import Threat
from inputgrad.attacks._classes import Box
from inputgrad.gradients import norms
from inputgrad.gradients.forward import Draws
from inputgrad.robustness import attacking
from inputgrad.robustness.settings import Attack
from pipeline.stages.attack import victim_of
from pipeline.study.read import read_study
from pipeline.study.run import Run

LOSSES = ("standard", "gradient_norm", "fgsm", "pgd", "curvature")
Seen = Callable[[Tensor], Tensor]


def boxed(
    call: Callable[[Seen, Tensor, float, int], Tensor], model: nn.Module, x: Tensor, t: Threat, draws: Draws
) -> Tensor:
    box = Box.of(x, t.bounds, t.epsilon)
    seed = int(draws.integers(x[:1], 2**31 - 1))
    found = call(lambda z: model(box.back(z)), box.inside(x), t.epsilon / box.width, seed)
    return t.project(box.back(found), x)


def apgd_ce(model: nn.Module, x: Tensor, y: Tensor, t: Threat, draws: Draws, steps: int = 100) -> Tensor:
    from pyautoattack.autopgd_base import APGDAttack

    def call(seen: Seen, z: Tensor, epsilon: float, seed: int) -> Tensor:
        attack = APGDAttack(seen, n_iter=steps, norm=t.norm.capitalize(), eps=epsilon, seed=seed, device=z.device)
        found: Tensor = attack.perturb(z, y)
        return found

    return boxed(call, model, x, t, draws)


def apgd_t(model: nn.Module, x: Tensor, y: Tensor, t: Threat, draws: Draws, steps: int = 100) -> Tensor:
    from pyautoattack.autopgd_base import APGDAttack_targeted

    def call(seen: Seen, z: Tensor, epsilon: float, seed: int) -> Tensor:
        attack = APGDAttack_targeted(
            seen, n_iter=steps, norm=t.norm.capitalize(), eps=epsilon, seed=seed, device=z.device
        )
        attack.loss = "dlr-targeted"
        found: Tensor = attack.perturb(z, y)
        return found

    return boxed(call, model, x, t, draws)


def square(model: nn.Module, x: Tensor, y: Tensor, t: Threat, draws: Draws, queries: int = 5000) -> Tensor:
    from pyautoattack.square import SquareAttack

    def call(seen: Seen, z: Tensor, epsilon: float, seed: int) -> Tensor:
        attack = SquareAttack(
            seen,
            n_queries=queries,
            norm=t.norm.capitalize(),
            eps=epsilon,
            seed=seed,
            resc_schedule=False,
            device=z.device,
        )
        found: Tensor = attack.perturb(z, y)
        return found

    return boxed(call, model, x, t, draws)


def fab_t(model: nn.Module, x: Tensor, y: Tensor, t: Threat, draws: Draws) -> Tensor:
    found = nearest(model, x, y, t.norm, t.bounds, targets=9, steps=100, enough=t.epsilon)
    return torch.where((t.ball.size(found - x) <= t.epsilon)[:, None, None, None], found, x)


def nearest(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    norm: str,
    bounds: tuple[float, float] | None,
    targets: int = 3,
    steps: int = 30,
    enough: float = 0.0,
) -> Tensor:
    from pyautoattack.fab_pt import FABAttack_PT

    ball, box = norms.named(norm), Box.of(x, bounds, 0.0)
    fab = FABAttack_PT(
        lambda z: model(box.back(z)), n_iter=steps, norm=ball.name.capitalize(), eps=1.0, device=x.device
    )
    best, distance = x.clone(), torch.full((len(x),), torch.inf)
    distance[model(x).argmax(1) != y] = 0
    for rank in range(2, targets + 2):
        left = (distance > enough).nonzero()[:, 0]
        if not len(left):
            break
        fab.target_class = rank
        found = box.back(fab.attack_single_run(box.inside(x[left]), y[left], is_targeted=True))
        size = ball.size(found - x[left])
        nearer = (model(found).argmax(1) != y[left]) & (size < distance[left])
        best[left[nearer]], distance[left[nearer]] = found[nearer], size[nearer]
    return best


THEIRS = {
    "apgd_ce": SimpleNamespace(perturb=apgd_ce),
    "apgd_t": SimpleNamespace(perturb=apgd_t),
    "square": SimpleNamespace(perturb=square),
    "fab_t": SimpleNamespace(perturb=fab_t),
    "fab": SimpleNamespace(nearest=nearest),
}


def worst(run: Run) -> tuple[float, pd.Series]:
    """CPU seconds of the plan, and whether each example is broken at each threat model's headline ε."""
    victim, attack = victim_of_all(run), full(run.study.attack)
    with tempfile.TemporaryDirectory() as folder:
        begin = time.process_time()
        outcomes = attacking.attacked(victim, attack, Path(folder))
        seconds = time.process_time() - begin
    broken = []
    for threat in attack.threat_models:
        inside = outcomes[outcomes["norm"].isin(["none", threat.norm]) & (outcomes["epsilon"] <= threat.epsilon)]
        broken.append(inside.groupby("example")["broken"].any())
    return seconds, pd.concat(broken, keys=[t.norm for t in attack.threat_models])


def victim_of_all(run: Run) -> attacking.Victim:
    from pipeline.stages.attack import Evaluation

    everyone = full(run.study.attack)
    return victim_of(Evaluation(replace(run, study=run.study.model_copy(update={"attack": everyone}))))


def full(attack: Attack) -> Attack:
    """The study's attacks without what it leaves out for speed: all examples, the whole ensemble in both norms."""
    secondary = attack.secondary and attack.secondary.model_copy(update={"at_epsilon": None})
    return attack.model_copy(update={"examples": None, "secondary": secondary})


def by_theirs(attack: attacking.Attack) -> list[attacking.AttackStep]:
    return [replace(step, module=THEIRS.get(step.attack, step.module)) for step in plan(attack)]


plan = attacking.plan
if __name__ == "__main__":
    torch.set_num_threads(1)
    name, seeds, *_ = [*sys.argv[1:], *("digits", "0,1")[len(sys.argv) - 1 :]]
    study = read_study(name)
    print("| model | ours, CPU s | theirs, CPU s | ratio | verdicts that differ |\n|:---|---:|---:|---:|---:|")
    ratios, changed, count = [], 0, 0
    for loss in LOSSES:
        for seed in map(int, seeds.split(",")):
            run = Run(study, loss, seed)
            attacking.plan = plan
            ours, a = worst(run)
            attacking.plan = by_theirs
            theirs, b = worst(run)
            ratios.append(ours / theirs)
            changed, count = changed + int((a != b).sum()), count + len(a)
            print(f"| {run.name} | {ours:.1f} | {theirs:.1f} | {ratios[-1]:.2f} | {int((a != b).sum())} of {len(a)} |")
    low, middle, high = np.quantile(ratios, (0.25, 0.5, 0.75))
    print(f"\nRatio: median {middle:.2f}, quartiles {low:.2f} to {high:.2f}, n = {len(ratios)} models.", end=" ")
    print(f"{changed} of {count} verdicts differ.")
