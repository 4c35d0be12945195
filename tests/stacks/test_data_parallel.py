"""Two processes on the CPU: DDP in its forms, and FSDP2. Each gradient is that of one process with the whole batch."""

from __future__ import annotations

import os
import re
import socket
import warnings
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from inputgrad import FGSM, GradientNorm, JacobianNorm, Step, UserError
from tests.stacks.bench import BOUND, batch, fgsm, gap, gradient_norm, gradients_of, jacobian_norm, mlp

LOSSES = {
    "gradient_norm": (GradientNorm(0.5), gradient_norm),
    "jacobian_norm": (JacobianNorm(0.5, projections=-1), jacobian_norm),
    "fgsm": (FGSM(0.5, epsilon=0.1), fgsm),
    "gradient_norm and jacobian_norm": (
        GradientNorm(0.5) + JacobianNorm(0.5, projections=-1),
        lambda m, x, y: gradient_norm(m, x, y) + jacobian_norm(m, x, y) - nn.functional.cross_entropy(m(x), y),
    ),
}


class Unused(nn.Module):
    """With a layer that no output depends on."""

    def __init__(self):
        super().__init__()
        self.net, self.other = mlp(), nn.Linear(3, 3).double()

    def forward(self, x):
        return self.net(x)


class Computes(nn.Module):
    """The remedy for `static_graph`: the loss is computed inside what DDP wraps."""

    def __init__(self, loss):
        super().__init__()
        self.net, self.loss = mlp(), loss

    def forward(self, x, y):
        return self.loss(self.net, x, y)


def sharded():
    model = mlp()
    for layer in model:
        if isinstance(layer, nn.Linear):
            fully_shard(layer)
    return fully_shard(model)


WRAPPED = {
    "DDP": lambda: DistributedDataParallel(mlp()),
    "DDP that looks for unused weights": lambda: DistributedDataParallel(Unused(), find_unused_parameters=True),
    "FSDP2": sharded,
}


def by_call(loss, model, x, y):
    for _ in range(3):  # a second and a third step see what the first has left
        model.zero_grad(set_to_none=True)
        loss(model, x, y).backward()


def by_step(loss, model, x, y):
    step = Step(loss, model)
    for _ in range(3):
        step(x, y)


def by_micro_batches(loss, model, x, y):
    with model.no_sync():
        (loss(model, x[:2], y[:2]) / 2).backward()
    (loss(model, x[2:], y[2:]) / 2).backward()


def by_accumulating_steps(loss, model, x, y):
    step = Step(loss, model, accumulate=2)
    with model.no_sync():
        step(x[:2], y[:2])
    step(x[2:], y[2:])


def cases():
    ways = {"call": by_call, "Step": by_step}
    yield from ((f"{wrap}, {way}", WRAPPED[wrap], ways[way]) for wrap in WRAPPED for way in ways)
    yield "DDP, no_sync", WRAPPED["DDP"], by_micro_batches
    yield "DDP, no_sync, Step", WRAPPED["DDP"], by_accumulating_steps


def measure(rank: int, port: int, said: str) -> None:
    """In each of two processes: every case's distance from the textbook, written by the first."""
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "RANK": str(rank), "WORLD_SIZE": "2"}
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    dist.init_process_group("gloo")
    everything = batch(8)
    x, y = (t[4 * rank : 4 * rank + 4] for t in everything)
    lines = []
    for name, (loss, book) in LOSSES.items():
        single = mlp()
        wanted = gradients_of(single, book(single, *everything))
        for case, make, way in cases():
            model = make()
            way(loss, model, x, y)
            net = getattr(model, "module", model)
            found = gradients_of(getattr(net, "net", net))
            lines.append(f"{name}: {case}: {gap(found, wanted):.1e}")
        model = DistributedDataParallel(Computes(loss), static_graph=True)
        for _ in range(3):
            model.zero_grad(set_to_none=True)
            model(x, y).backward()
        lines.append(f"{name}: static_graph, the loss inside: {gap(gradients_of(model.module.net), wanted):.1e}")
        try:
            loss(DistributedDataParallel(mlp(), static_graph=True), x, y)
        except UserError as error:
            lines.append(f"{name}: static_graph: refused: {error}")
    if rank == 0:
        Path(said).write_text("\n".join(lines))
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def said(tmp_path_factory):
    file = tmp_path_factory.mktemp("ranks") / "said.txt"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mp.spawn(measure, args=(port, str(file)), nprocs=2)
    return file.read_text().splitlines()


def test_every_gradient_is_that_of_one_process(said):
    measured = [line for line in said if "refused" not in line]
    assert len(measured) == len(LOSSES) * (len(list(cases())) + 1)
    assert [line for line in measured if float(line.rpartition(" ")[2]) > BOUND] == []


def test_a_static_graph_is_refused_with_the_remedy(said):
    refused = [line for line in said if "refused" in line]
    assert len(refused) == len(LOSSES)
    assert all(
        re.search(r"DDP\(static_graph=True\) .*; fix: .*whose forward computes the loss", line) for line in refused
    )
