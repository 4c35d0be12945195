"""Our worst case against other libraries' standard ensembles, on the same checkpoints.

    python -m benchmarks.ensembles digits pyautoattack    # the library itself, all losses and seeds
    python -m benchmarks.ensembles digits torchattacks    # pip install --no-deps torchattacks==3.5.1
    python -m benchmarks.ensembles digits art --losses trades --seeds 0 # adversarial-robustness-toolbox==1.20.1
    python -m benchmarks.ensembles digits torchattacks_pgd    # its PGD-40 with 5 restarts against ours
    python -m benchmarks.ensembles digits pyautoattack --grid --time --seeds 0   # every ε; our stage's time too

After `dvc repro`. A line per model, norm and ε: robust accuracy of ours and of theirs, and their seconds.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor, nn

from inputgrad.robustness.attacking import attacked
from pipeline import layout
from pipeline.stages.attack import Evaluation, victim_of
from pipeline.study.read import read_study
from pipeline.study.run import Run
from pipeline.study.schema import Study

NORMS = {"linf": "Linf", "l2": "L2"}
SECOND_PGD = {"steps": 40, "restarts": 5}


def pyautoattack(model: nn.Module, x: Tensor, y: Tensor, norm: str, epsilon: float) -> Tensor:
    """The authors' AutoAttack, standard version, on all examples at once."""
    from pyautoattack import AutoAttack

    attack = AutoAttack(model, norm=NORMS[norm], eps=epsilon, seed=0, version="standard")
    moved, _ = attack.run_standard_evaluation(x, y, batch_size=len(x))
    return moved


def torchattacks(model: nn.Module, x: Tensor, y: Tensor, norm: str, epsilon: float) -> Tensor:
    """Another implementation of the same four attacks."""
    from torchattacks import AutoAttack

    classes = model(x[:1]).shape[1]
    attack = AutoAttack(model, norm=NORMS[norm], eps=epsilon, version="standard", n_classes=classes, seed=0)
    found: Tensor = attack(x, y)
    return found


def torchattacks_pgd(model: nn.Module, x: Tensor, y: Tensor, norm: str, epsilon: float) -> Tensor:
    """PGD-40 from 5 random starts; the first restart that breaks an example counts."""
    from torchattacks import PGD, PGDL2

    kind = PGD if norm == "linf" else PGDL2
    steps = SECOND_PGD["steps"]
    torch.manual_seed(0)
    best = x.clone()
    for _ in range(SECOND_PGD["restarts"]):
        moved = kind(model, eps=epsilon, alpha=2.5 * epsilon / steps, steps=steps, random_start=True)(x, y)
        wrong = model(moved).argmax(1) != y
        best[wrong] = moved[wrong]
    return best


def art(model: nn.Module, x: Tensor, y: Tensor, norm: str, epsilon: float) -> Tensor:
    """ART's AutoAttack: APGD-CE and untargeted APGD-DLR with 5 starts, DeepFool, Square."""
    import numpy as np
    from art.attacks.evasion import AutoAttack
    from art.estimators.classification import PyTorchClassifier

    classes, order = model(x[:1]).shape[1], np.inf if norm == "linf" else 2
    loss = nn.CrossEntropyLoss()
    seen = PyTorchClassifier(model, loss, x.shape[1:], classes, clip_values=(0.0, 1.0), device_type="cpu")
    np.random.seed(0)
    attack = AutoAttack(seen, norm=order, eps=epsilon, eps_step=2.5 * epsilon / 100, batch_size=len(x))
    return torch.from_numpy(attack.generate(x.numpy(), nn.functional.one_hot(y, classes).numpy()))


LIBRARIES: dict[str, Callable[[nn.Module, Tensor, Tensor, str, float], Tensor]] = {
    f.__name__: f for f in (pyautoattack, torchattacks, torchattacks_pgd, art)
}


def ours(outcomes: pd.DataFrame, norm: str, epsilon: float, attack: str | None) -> float:
    """Robust accuracy: the worst case in the ball, or that of one attack."""
    inside = outcomes[outcomes["norm"].isin(["none", norm]) & (outcomes["epsilon"] <= epsilon)]
    if attack:
        inside = inside[(inside["attack"] == attack) & (inside["epsilon"] == epsilon)]
    return 1 - float(inside.groupby("example")["broken"].any().mean())


def time_of_ours(study: Study, loss: str, seed: int) -> float:
    """Seconds of all our attacks on one model, at every ε of every threat model, from nothing."""
    victim = victim_of(Evaluation(Run(study, loss, seed)))
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        attacked(victim, study.attack, Path(folder))
        return time.perf_counter() - start


def compare(study: Study, loss: str, seed: int, library: str, grid: bool) -> list[dict[str, object]]:
    """One line per norm and ε."""
    victim = victim_of(Evaluation(Run(study, loss, seed)))
    outcomes = pd.read_parquet(layout.stage(study.name, loss, "attack") / f"seed-{seed}" / "outcomes.parquet")
    attack = "pgd_40x5" if library == "torchattacks_pgd" else None
    rows: list[dict[str, object]] = []
    for threat in study.attack.threat_models:
        for epsilon in [e for e in threat.radii if e > 0] if grid else [threat.epsilon]:
            start = time.perf_counter()
            moved = LIBRARIES[library](victim.model, victim.x, victim.y, threat.norm, epsilon)
            seconds = time.perf_counter() - start
            with torch.no_grad():
                theirs = float((victim.model(moved).argmax(1) == victim.y).double().mean())
            mine = ours(outcomes, threat.norm, epsilon, attack)
            rows.append(
                {
                    "loss": loss,
                    "seed": seed,
                    "norm": threat.norm,
                    "epsilon": epsilon,
                    "ours": round(100 * mine, 2),
                    "theirs": round(100 * theirs, 2),
                    "ours - theirs": round(100 * (mine - theirs), 2),
                    "seconds": round(seconds, 2),
                    "n": len(victim.x),
                }
            )
            print(*rows[-1].values(), sep="\t", flush=True)
    return rows


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study")
    parser.add_argument("library", choices=LIBRARIES)
    parser.add_argument("--losses", nargs="+")
    parser.add_argument("--seeds", nargs="+", type=int)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--grid", action="store_true")
    parser.add_argument("--time", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    study = read_study(given.study)
    found: list[dict[str, object]] = []
    seconds: list[float] = []
    for loss in given.losses or study.losses:
        for seed in given.seeds or study.training.seeds:
            if given.time:  # in turn with theirs: a slow moment of the machine hits both
                seconds.append(time_of_ours(study, loss, seed))
                print(f"{loss}\t{seed}\tall of ours\t{seconds[-1]:.1f} s", flush=True)
            found += compare(study, loss, seed, given.library, given.grid)
    table = pd.DataFrame(found)
    difference = table["ours - theirs"]
    print(
        f"\n{len(table)} comparisons with {given.library}: ours - theirs from {difference.min():+.2f} to"
        f" {difference.max():+.2f} points, mean {difference.mean():+.2f}; beyond 0.5 points:"
        f" {(difference > 0.5).sum()} weaker, {(difference < -0.5).sum()} stronger; theirs took"
        f" {table['seconds'].sum():.0f} s"
        + (f", all of ours {sum(seconds):.0f} s: {sum(seconds) / table['seconds'].sum():.2f} x" if seconds else "")
    )
