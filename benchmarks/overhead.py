"""What run folders and MLflow cost: python -m benchmarks.overhead [epochs]

Epochs bare and with checkpoints and history, in turn, in one process; and what a train stage does once (publish, cost,
audit, MLflow with its model), which a run of a minute has to carry.
"""

import os
import sys
import time

import numpy as np
import torch

from benchmarks.elsewhere import elsewhere
from pipeline.quiet import NO_TELEMETRY

os.environ.update(NO_TELEMETRY)

from pipeline import data, layout
from pipeline.stages import runner, saving, train
from pipeline.study.read import read_study
from pipeline.study.run import Run

EPOCHS = int(sys.argv[1]) if len(sys.argv) > 1 else 150


def per_epoch(run: Run) -> np.ndarray:
    """Seconds of every epoch, bare and with its files, in turn: (epochs, 2). A slow moment hits both alike."""
    dataset = data.read_data(run.study.name, run.study.data, ("train", "validation"))
    trainers = [train.Trainer.fresh(run, dataset) for _ in range(2)]
    folder = layout.state("benchmark")
    seconds = np.zeros((run.epochs, 2))
    for epoch in range(run.epochs):
        for keeps, trainer in enumerate(trainers):
            start = time.perf_counter()
            row = train.train_epoch(trainer) | train.validate(trainer)
            trainer.epoch += 1
            trainer.history.append({"epoch": trainer.epoch, **row})
            if keeps:
                saving.save_epoch(trainer, folder)
            seconds[epoch, keeps] = time.perf_counter() - start
    return seconds


def once(run: Run) -> float:
    """Seconds of what a stage does once: publish, cost, audit, MLflow with the model. The run itself is finished."""
    train.train(run)
    start = time.perf_counter()
    runner.train(run.study.name, run.loss_name, jobs=1)
    return time.perf_counter() - start


if __name__ == "__main__":
    with elsewhere(epochs=EPOCHS, seeds=[0]):
        runner.prepare("digits")
        torch.set_num_threads(1)
        run = Run(read_study("digits"), "gradient_norm", 0)
        seconds = per_epoch(run)
        low, middle, high = np.quantile(seconds[:, 1] / seconds[:, 0], [0.25, 0.5, 0.75])
        print(f"an epoch with its files against bare: {middle:.3f} x [{low:.3f}, {high:.3f}], n = {run.epochs} in turn")
        end, long = once(run), 60.0
        print(f"once per stage: {end:.1f} s; on a bare run of {long:.0f} s together {middle + end / long:.3f} x")
