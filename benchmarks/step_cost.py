"""What a step of every loss costs relative to `standard`: python -m benchmarks.step_cost [rounds]

All losses in turn within every round, same net and batch, one thread; the ratio is taken within the round.
"""

import sys
import time

import numpy as np
import torch
from torch import nn

from inputgrad import losses, registry
from inputgrad.gradients.forward import Context
from pipeline.models import cnn

ROUNDS = int(sys.argv[1]) if len(sys.argv) > 1 else 30
WARM_UP, BATCH = 3, 64
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def lenet() -> nn.Module:
    """LeNet-5 for 28×28 with smooth activations."""
    return nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2), nn.SiLU(), nn.AvgPool2d(2), nn.Conv2d(6, 16, 5), nn.SiLU(), nn.AvgPool2d(2),
        nn.Flatten(), nn.Linear(400, 120), nn.SiLU(), nn.Linear(120, 84), nn.SiLU(), nn.Linear(84, 10),
    )  # fmt: skip


def seconds(loss, model, optimizer, x, y, context) -> float:
    """One whole training step."""
    start = time.perf_counter()
    optimizer.zero_grad(set_to_none=True)
    loss(model, x, y, context).backward(inputs=list(model.parameters()))
    optimizer.step()
    if DEVICE == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def measure(build, side: int) -> None:
    """Print a table for one net."""
    torch.manual_seed(0)
    x, y = torch.rand(BATCH, 1, side, side, device=DEVICE), torch.randint(10, (BATCH,), device=DEVICE)
    means, mask = torch.rand(10, 1, side, side, device=DEVICE), torch.ones(1, side, side, device=DEVICE)
    context = Context(direction=means, mask=mask, bounds=(0.0, 1.0))
    names = [name for name in registry.names("inputgrad.losses") if "classification" in losses.load(name).tasks]
    names.sort(key=lambda name: name != "standard")
    models = [build().to(DEVICE) for _ in names]
    optimizers = [torch.optim.Adam(m.parameters()) for m in models]
    things = [losses.load(n)() for n in names]
    rounds = [
        [seconds(*t, x, y, context) for t in zip(things, models, optimizers, strict=True)]
        for _ in range(WARM_UP + ROUNDS)
    ]
    taken = np.array(rounds)[WARM_UP:]
    ratio = np.quantile(taken / taken[:, :1], [0.25, 0.5, 0.75], axis=0)
    order = np.argsort(ratio[1])
    for i in order:
        low, middle, high = ratio[:, i]
        print(f"  {names[i]:20s} {middle:6.2f} x  [{low:.2f}, {high:.2f}]  {1e3 * np.median(taken[:, i]):7.2f} ms")


if __name__ == "__main__":
    torch.set_num_threads(1)
    for title, build, side in (
        ("digits cnn, 8x8", lambda: cnn.build((1, 8, 8), 10), 8),
        ("LeNet, 28x28", lenet, 28),
    ):
        print(f"{title}, batch {BATCH}, {DEVICE}: median and quartiles of the ratio to standard, n = {ROUNDS} rounds")
        measure(build, side)
