"""A step on a Laplacian: `Residual` in one pass against nested autograd: python -m benchmarks.laplacian [rounds]

Both in turn within every round, one thread, CPU time of the thread; memory of each in a process of its own.
"""

import itertools
import multiprocessing
import resource
import sys
import time

import numpy as np
import torch
from torch import Tensor, nn

from inputgrad import Residual

ROUNDS = int(sys.argv[1]) if len(sys.argv) > 1 else 60
BATCH, LARGE, WIDTH, DIMENSIONS = 128, 2048, 64, (2, 3, 10, 50)


def nested(model: nn.Module, points: Tensor) -> Tensor:
    """As a textbook writes it."""
    x = points.clone().requires_grad_()
    (g,) = torch.autograd.grad(model(x).sum(), x, create_graph=True)
    total = sum(torch.autograd.grad(g[:, i].sum(), x, create_graph=True)[0][:, i] for i in range(x.shape[1]))
    return (total - 1).square().mean()


WAYS = {"nested": nested, "ours": Residual(equation=lambda p: p.laplacian() - 1).penalty}


def net(dimension: int) -> nn.Module:
    torch.manual_seed(0)
    widths = [dimension, WIDTH, WIDTH, WIDTH]
    layers = [part for a, b in itertools.pairwise(widths) for part in (nn.Linear(a, b), nn.Tanh())]
    return nn.Sequential(*layers, nn.Linear(WIDTH, 1))


def step(way: str, model: nn.Module, x: Tensor) -> float:
    """CPU seconds."""
    start = time.thread_time()
    model.zero_grad(set_to_none=True)
    WAYS[way](model, x).backward()
    return time.thread_time() - start


def gap(dimension: int) -> float:
    """Between the parameter gradients of both, relative to the largest, in float64."""
    model, x = net(dimension).double(), torch.rand(16, dimension, dtype=torch.float64)
    found = []
    for way in WAYS:
        step(way, model, x)
        found.append(torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]))
    return float((found[0] - found[1]).abs().max() / found[0].abs().max())


def peak(way: str, dimension: int) -> float:
    """MiB by which one step raises the peak."""
    torch.set_num_threads(1)
    model, x = net(dimension), torch.rand(LARGE, dimension)
    step(way, model, x[:4])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    step(way, model, x)
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


def alone(way: str, dimension: int) -> float:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(peak, (way, dimension))


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(f"MLP of 3 × {WIDTH}, tanh; time: batch {BATCH}, n = {ROUNDS}, lower quartiles; memory: batch {LARGE}\n")
    print("| D | nested ms | ours ms | × [quartiles of the rounds' ratios] | MiB | × | gap of gradients |")
    print("|---:|---:|---:|---:|---:|---:|---:|")
    for dimension in DIMENSIONS:
        model, x = net(dimension), torch.rand(BATCH, dimension)
        taken = np.array([[step(way, model, x) for way in WAYS] for _ in range(ROUNDS + 3)])[3:]
        (theirs, ours), ratios = np.quantile(taken, 0.25, axis=0), taken[:, 1] / taken[:, 0]
        low, high = np.quantile(ratios, [0.25, 0.75])
        memory = [alone(way, dimension) for way in WAYS]
        print(
            f"| {dimension} | {theirs * 1e3:.1f} | {ours * 1e3:.1f} | {ours / theirs:.2f} [{low:.2f}, {high:.2f}] |"
            f" {memory[0]:.0f} → {memory[1]:.0f} | {memory[1] / memory[0]:.2f} | {gap(dimension):.0e} |",
            flush=True,
        )
