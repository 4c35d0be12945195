"""What a training step costs, relative to `standard`: the two are timed in turn, in one process, on the same batch."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from inputgrad import Step
from pipeline.data import Dataset
from pipeline.stages.train import Trainer, one_step
from pipeline.study.run import Run

ROUNDS, FEWEST = 120, 40
"""A round is a step of each loss. A large net gets fewer of them, since a long step averages over more by itself."""
SECONDS = 60.0
"""Of measuring, after which `FEWEST` rounds are enough."""
WARM_UP = 5
BLOCK, DRAWS = 5, 1000
"""Of the bootstrap: rounds that stay together, as the load of a machine does, and how often blocks are drawn."""
LIMIT = 0.1
"""A ratio whose interval reaches further than this share of it to either side, in the mean, says nothing."""

Numbers = dict[str, float | None]


def measure(run: Run, dataset: Dataset) -> Numbers:
    """Seconds of a step, their ratio to a step of `standard`, and the ratio of the operations, which has no noise."""
    torch.set_num_threads(1)
    both = [Run(run.study, "standard", run.seed), run]
    found = estimate(in_turn([Steps(one, dataset) for one in both]))
    plain, own = (operations(one, dataset) for one in both)
    return {**found, "operations": own / plain if plain else None}


def estimate(seconds: np.ndarray) -> Numbers:
    """The ratio of the lower quartiles with its 95 % interval, from the seconds of each round, (n, 2).

    A neighbour on the machine can only make a step slower, and its lower quartile least of all. The interval is that
    of a bootstrap over blocks of rounds. `ratio` is None where the interval is so wide that it would mean nothing.
    """
    n = len(seconds) // BLOCK * BLOCK
    blocks = seconds[:n].reshape(-1, BLOCK, 2)
    drawn = np.random.default_rng(0).integers(len(blocks), size=(DRAWS, len(blocks)))
    low, high = np.quantile([ratio_of(blocks[some].reshape(-1, 2)) for some in drawn], [0.025, 0.975])
    ratio = ratio_of(seconds)
    plain, own = np.quantile(seconds, 0.25, axis=0)
    return {
        "seconds_per_step_standard": float(plain),
        "seconds_per_step": float(own),
        "ratio": None if (high - low) / 2 > LIMIT * ratio else ratio,
        "low": float(low),
        "high": float(high),
        "n": len(seconds),
    }


def ratio_of(seconds: np.ndarray) -> float:
    plain, own = np.quantile(seconds, 0.25, axis=0)
    return float(own / plain)


def in_turn(both: list[Steps]) -> np.ndarray:
    """Seconds of a step of both in every round, (n, 2); the one that comes second comes first in the next round."""
    for _ in range(WARM_UP):
        for steps in both:
            steps()
    found: list[list[float]] = []
    while len(found) < FEWEST or (len(found) < ROUNDS and np.sum(found) < SECONDS):
        order = (0, 1) if len(found) % 2 else (1, 0)
        taken = {which: timed(both[which]) for which in order}
        found.append([taken[0], taken[1]])
    return np.array(found)


class Steps:
    """Training steps of a run on the first batch, as the training loop takes them: with all that the study asks for.

    A call takes one step, or `every` of them where the loss leaves its term out of all but one.
    """

    def __init__(self, run: Run, dataset: Dataset) -> None:
        self.trainer = Trainer.fresh(run, dataset)
        self.trainer.schedule = None  # it ends with the training's own steps
        self.trainer.model.train()
        known = self.trainer.dataset.known("train")
        size = min(run.study.training.batch_size, len(self.trainer.dataset.y["train"]))
        self.batch = torch.arange(size, device=run.device)
        self.examples = {name: values[self.batch] for name, values in known.items()}
        self.strengths = [run.loss.strength_at(step, math.inf) for step in range(run.loss.every)]

    def __call__(self) -> None:
        for strength in self.strengths:
            one_step(self.trainer, self.batch, strength, self.examples)


def timed(steps: Steps) -> float:
    """Seconds of one step: those that this thread computed, whatever else the machine does; a GPU has its own clock."""
    return clock(steps, steps.trainer.run.device) / len(steps.strengths)


def clock(work: Callable[[], None], device: torch.device) -> float:
    if device.type != "cuda":
        before = time.thread_time()
        work()
        return time.thread_time() - before
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    work()
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end)) / 1000


class Operations(TorchDispatchMode):
    """Counts multiplications and additions; FlopCounterMode itself follows modules and stops at `autograd.grad`."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if (count := flop_registry.get(func._overloadpacket)) is not None:
            self.total += count(*args, **(kwargs or {}), out_val=out)
        return out


def operations(run: Run, dataset: Dataset) -> float:
    """Of one step, by products of matrices and convolutions; 0 for a net that has neither. Compiled it has as many."""
    steps = Steps(run, dataset)
    steps.trainer.step = Step(run.loss, steps.trainer.model, steps.trainer.dataset.context)
    with Operations() as counter:
        steps()
    return float(counter.total) / len(steps.strengths)
