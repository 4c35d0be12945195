"""What a training step costs, relative to `standard`: the two are timed in turn, in one process, on the same batch."""

from __future__ import annotations

import time

import numpy as np
import torch

from inputgrad import losses
from inputgrad.losses import Loss
from pipeline.data import Dataset
from pipeline.stages.optimising import of_training, optimizer_of
from pipeline.stages.train import step_of
from pipeline.study.run import Run

ROUNDS = 40
WARM_UP = 5


def measure(run: Run, dataset: Dataset) -> dict[str, float]:
    """Median step times and the median of their ratio over ROUNDS rounds, one step of each loss a round.

    Turn by turn, so that a neighbour on the machine slows both alike; the median, so that one hiccup decides nothing.
    """
    torch.set_num_threads(1)
    steps = [TimedStep(run, loss, dataset) for loss in (losses.load("standard")(), run.loss)]
    seconds = np.array([[step() for step in steps] for _ in range(WARM_UP + ROUNDS)])[WARM_UP:]
    low, middle, high = np.quantile(seconds[:, 1] / seconds[:, 0], [0.25, 0.5, 0.75])
    return {
        "seconds_per_step_standard": float(np.median(seconds[:, 0])),
        "seconds_per_step": float(np.median(seconds[:, 1])),
        "ratio": float(middle),
        "ratio_quartile_low": float(low),
        "ratio_quartile_high": float(high),
        "n": ROUNDS,
    }


class TimedStep:
    """One training step of a loss on the first batch; calling it gives the seconds it took."""

    def __init__(self, run: Run, loss: Loss, dataset: Dataset) -> None:
        dataset = of_training(run.study, dataset.to(run.device))
        n = run.study.training.batch_size
        self.x, self.y, context = dataset.first("train", n)
        self.examples = context.examples
        self.model = run.build(dataset)
        self.step = step_of(run, loss, self.model, dataset)
        self.optimizer = optimizer_of(run.study.training, self.model)

    def __call__(self) -> float:
        start = self._now()
        self.step(self.x, self.y, None, self.examples)
        self.optimizer.step()
        return self._now() - start

    def _now(self) -> float:
        if self.x.is_cuda:
            torch.cuda.synchronize()
        return time.perf_counter()
