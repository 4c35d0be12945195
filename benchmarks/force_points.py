"""Errors of energies and of forces against the number of training points: python -m benchmarks.force_points [seeds]

The net and the losses of the study `forces`, trained on 20 to 180 configurations: energies alone, with the void recipe,
with the forces. Every training takes as many steps. Mean and 95 % t interval over seeds, on the test split.
"""

import sys

import numpy as np
import torch
from scipy import stats

from inputgrad import Context, Forward, Step
from inputgrad.gradients.targets import matched
from pipeline import models
from pipeline.data import forces
from pipeline.study.read import read_study

POINTS, STEPS, BATCH = (20, 60, 180), 1200, 20
SEEDS = int(sys.argv[1]) if len(sys.argv) > 1 else 5
LOSSES = ("standard", "detached_target", "gradient_target")


def errors(name: str, points: int, seed: int) -> tuple[float, float]:
    """Root mean square error of the energies, and of the components of the forces."""
    study, arrays = read_study("forces"), forces.load(points=points)
    x, y = ({s: torch.from_numpy(v) for s, v in part.items()} for part in (arrays.x, arrays.y))
    t = {s: torch.from_numpy(v.astype(np.float32)) for s, v in arrays.examples["target_gradient"].items()}
    torch.manual_seed(seed)
    model = models.build(study.model, (6,), 1)
    step = Step(study.loss(name), model)
    optimizer = torch.optim.Adam(model.parameters(), study.training.learning_rate)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(STEPS):
        batch = torch.randint(points, (BATCH,), generator=generator)
        step(x["train"][batch], y["train"][batch], None, {"target_gradient": t["train"][batch]})
        optimizer.step()
    at = Forward(model.eval(), x["test"], y["test"], context=Context(examples={"target_gradient": t["test"]}))
    found, wanted = matched(at, 1)
    energy, force = (at.outputs - y["test"]).square().mean().sqrt(), (found - wanted).square().mean().sqrt()
    return energy.item(), force.item()


def interval(values: np.ndarray) -> str:
    half = stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return f"{values.mean():.3f} [{values.mean() - half:.3f}, {values.mean() + half:.3f}]"


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(f"n = {SEEDS} seeds, {STEPS} steps each\n\n| points | loss | error of energies | error of forces |")
    print("|---:|:---|---:|---:|")
    for points in POINTS:
        for name in LOSSES:
            found = np.array([errors(name, points, seed) for seed in range(SEEDS)])
            print(f"| {points} | `{name}` | {interval(found[:, 0])} | {interval(found[:, 1])} |", flush=True)
