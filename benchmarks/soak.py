"""Does a long-lived process grow? One small study after another with MLflow: python -m benchmarks.soak [minutes]

Each cycle trains, attacks, reports and mirrors the study of seconds with another learning rate, so that nothing is
finished already. Memory, open files and the database are read after each; the first tenth of the cycles is left out.
The slope has its 95 % interval: one that includes 0 is no growth that can be told from noise. MLflow keeps every run,
so its database grows by design.
"""

from __future__ import annotations

import gc
import os
import sys
import tempfile
import time
from contextlib import chdir
from pathlib import Path

import numpy as np
import psutil
from scipy import stats

from benchmarks import small_study as small
from inputgrad import files
from pipeline import tracking
from pipeline.study.params import write_params
from pipeline.study.read import read_study

MINUTES = float(sys.argv[1]) if len(sys.argv) > 1 else 60.0
ME = psutil.Process()


def cycle(number: int) -> None:
    """A study that nobody has run before, from its data to its report, and its runs in MLflow."""
    text = small.STUDY.replace("learning_rate: 0.01", f"learning_rate: {0.01 + number * 1e-6:.6f}")
    files.write_text(Path(f"experiments/{small.NAME}.yaml"), text)
    for stage, loss in small.upstream("report", ""):
        small.make(stage, loss)
        if stage == "attack":
            tracking.mirror(read_study(small.NAME), loss)
    tracking.catch_up([small.NAME])


def size(folder: str) -> float:
    return float(sum(file.stat().st_size for file in Path().glob(folder) if file.is_file()))


def reading() -> dict[str, float]:
    gc.collect()
    return {
        "memory, MB": ME.memory_info().rss / 1e6,
        "open files": float(ME.num_fds()),
        "database, kB": size("mlflow.db*") / 1e3,
        "artifacts, kB": size("mlartifacts/**/*") / 1e3,
        "states, kB": size(".state/**/*") / 1e3,
    }


def slope(values: list[float]) -> str:
    """Growth a cycle with its 95 % interval; neighbours are alike, so the degrees of freedom are those of their lag."""
    y = np.array(values[len(values) // 10 :])
    fit = stats.linregress(np.arange(len(y)), y)
    residual = y - fit.intercept - fit.slope * np.arange(len(y))
    spread = float(residual.std())
    lag = float(np.corrcoef(residual[:-1], residual[1:])[0, 1]) if spread > 0 else 0.0
    kept = max(3.0, len(y) * (1 - max(lag, 0.0)) / (1 + max(lag, 0.0)))
    half = float(stats.t.ppf(0.975, kept - 2)) * fit.stderr * np.sqrt(len(y) / kept)
    return f"{fit.slope:+.4f} [{fit.slope - half:+.4f}, {fit.slope + half:+.4f}]"


def main() -> None:
    end, readings = time.monotonic() + 60 * MINUTES, []
    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        os.environ.pop("MLFLOW_TRACKING_URI", None)
        files.write_text(Path("params.yaml"), f"studies: [{small.NAME}]\n")
        files.write_text(Path(f"experiments/{small.NAME}.yaml"), small.STUDY)
        write_params([read_study(small.NAME)])
        while time.monotonic() < end or len(readings) < 10:
            cycle(len(readings))
            readings.append(reading())
    done = f"{len(readings)} cycles of {len(small.LOSSES)} losses and 2 seeds in {MINUTES:g} minutes"
    print(f"{done}; growth a cycle [95 %]")
    for name in readings[0]:
        values = [one[name] for one in readings]
        print(f"  {name:14} {values[0]:10.1f} -> {values[-1]:10.1f}   {slope(values)}")


if __name__ == "__main__":
    main()
