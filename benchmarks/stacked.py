"""Five nets in one process, together against one after another: python -m benchmarks.stacked [rounds]

The MLP of the study `diabetes` under every way of stepping, in turn within a round; a step includes Adam's.
"""

import sys
import time

import numpy as np
import torch

from inputgrad import CompiledStep, StackedStep, Step, losses
from inputgrad.losses import Loss
from pipeline.models import mlp

SEEDS, BATCH, WARM_UP = 5, 32, 5
ROUNDS = int(sys.argv[1]) if len(sys.argv) > 1 else 60
LOSSES = ("standard", "gradient_norm", "jacobian_norm", "curvature", "pgd")


def nets() -> list[torch.nn.Module]:
    found = []
    for seed in range(SEEDS):
        torch.manual_seed(seed)
        found.append(mlp.build((10,), 1, hidden=[32], activation="silu"))
    return found


def ways(loss: Loss) -> dict[str, list[tuple[object, torch.optim.Optimizer]]]:
    """Of stepping all nets: (step, optimiser) for each process-wide call."""
    alone, graphs, stacked = nets(), nets(), StackedStep(loss, nets())
    whole = StackedStep(loss, nets())
    return {
        "one by one": [(Step(loss, m), torch.optim.Adam(m.parameters())) for m in alone],
        "one by one, compiled": [(CompiledStep(loss, m), torch.optim.Adam(m.parameters())) for m in graphs],
        "together": [(stacked, torch.optim.Adam(stacked.model.parameters()))],
        "together, compiled": [(CompiledStep(loss, whole.model), torch.optim.Adam(whole.model.parameters()))],
    }


def seconds(way: str, pairs: list, x: torch.Tensor, y: torch.Tensor) -> float:
    start = time.perf_counter()
    for number, (step, optimizer) in enumerate(pairs):
        if way.startswith("one"):
            step(x[number], y[number])
        elif way.endswith("compiled"):
            step(x.flatten(0, 1), y.flatten(0, 1))
        else:
            step(x, y)
        optimizer.step()
    return time.perf_counter() - start


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.manual_seed(0)
    x, y = torch.rand(SEEDS, BATCH, 10), torch.rand(SEEDS, BATCH, 1)
    print(f"{SEEDS} nets, MLP 10-32-1, batch {BATCH}, n = {ROUNDS} rounds; times faster than one by one\n")
    print(
        "| loss | one by one, ms | together | one by one, compiled | together, compiled |\n|:---|---:|---:|---:|---:|"
    )
    for name in LOSSES:
        there = ways(losses.load(name)())
        taken = np.array([[seconds(w, p, x, y) for w, p in there.items()] for _ in range(WARM_UP + ROUNDS)])[WARM_UP:]
        ratios = {way: np.quantile(taken[:, 0] / taken[:, place], [0.25, 0.5, 0.75]) for place, way in enumerate(there)}
        cells = [
            f"{ratios[way][1]:.1f} [{ratios[way][0]:.1f}, {ratios[way][2]:.1f}]"
            for way in ("together", "one by one, compiled", "together, compiled")
        ]
        print(f"| `{name}` | {1000 * np.median(taken[:, 0]):.2f} | {' | '.join(cells)} |", flush=True)
