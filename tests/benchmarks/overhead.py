"""What run folders and MLflow cost: python tests/benchmarks/overhead.py

The train stage of one loss with one seed, as `dvc repro` runs it (checkpoints every epoch, history, audit, cost,
MLflow at the end), against the same epochs with nothing kept; in turn, in one process, on a run of about a minute.
"""

import os
import sys
import tempfile
import time
from pathlib import Path

import torch

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from pipeline.quiet import NO_TELEMETRY

os.environ.update(NO_TELEMETRY)

from pipeline import config, data, stages, training
from pipeline.run import Run

EPOCHS = int(sys.argv[1]) if len(sys.argv) > 1 else 1000


def bare(run: Run) -> float:
    """Seconds of the same epochs, validation included, with nothing written."""
    dataset = data.read(run.study.name, run.study.data["name"], ("train", "validation"))
    start = time.perf_counter()
    trainer = training.Trainer.fresh(run, dataset)
    for _ in range(run.epochs):
        training.train_epoch(trainer)
        training.validate(trainer)
        trainer.epoch += 1
    return time.perf_counter() - start


def whole(run: Run) -> float:
    """Seconds of the train stage."""
    start = time.perf_counter()
    stages.train(run.study.name, run.loss_name, jobs=1)
    return time.perf_counter() - start


if __name__ == "__main__":
    text = (ROOT / "experiments" / "digits.yaml").read_text()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        Path("experiments").mkdir()
        epochs = text.replace("epochs: 40", f"epochs: {EPOCHS}").replace("seeds: [0, 1, 2, 3, 4]", "seeds: [0]")
        Path("experiments/digits.yaml").write_text(epochs)
        stages.prepare("digits")
        torch.set_num_threads(1)
        run = Run(config.read("digits"), "gradient_norm", 0)
        a, b = bare(run), whole(run)
        print(f"bare {a:.1f} s, with folders and MLflow {b:.1f} s: {b / a:.3f} x  ({run.epochs} epochs, n = 1)")
