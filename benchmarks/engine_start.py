"""What it costs to start workers: python -m benchmarks.engine_start [rounds]

The same short trainings of one small study with this project's pool (forked from a fresh process that has imported
torch) and with joblib's (loky: every worker imports torch itself), in turn, each in a process of its own.
"""

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]

from tests.conftest import PARAMS, TINY

ROUNDS = int(sys.argv[1]) if len(sys.argv) > 1 else 5
CODE = """
import sys, time
from pipeline.workers import local, process
process.fresh = True
import torch._dynamo
from pipeline.stages import train
from pipeline.study.read import read_study
from pipeline.study.run import runs
study = read_study("tiny")
todo = [run for loss in ("standard", "gradient_norm") for run in runs(study, loss)]
fingerprints = [run.fingerprint for run in todo]
start = time.perf_counter()
if sys.argv[1] == "forked":
    with local.local() as workers:
        [future.result() for _, future in local.each(workers, train.train, todo)]
else:
    from joblib import Parallel, delayed
    Parallel(n_jobs=local.cores())(delayed(train.train)(run) for run in todo)
print(time.perf_counter() - start)
"""


def python(folder: Path, *arguments: str) -> str:
    """Run Python in the study's folder."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, check=True, capture_output=True, text=True
    ).stdout


def main() -> None:
    seconds: dict[str, list[float]] = {"forked": [], "loky": []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "experiments").mkdir()
        (folder / "experiments/tiny.yaml").write_text(TINY.replace("epochs: 3", "epochs: 10"))
        (folder / "params.yaml").write_text(PARAMS)
        python(folder, "-m", "pipeline", "prepare", "tiny")
        for _ in range(ROUNDS):
            for pool, taken in seconds.items():
                shutil.rmtree(folder / ".state", ignore_errors=True)
                taken.append(float(python(folder, "-c", CODE, pool)))
    for pool, taken in seconds.items():
        low, middle, high = min(taken), statistics.median(taken), max(taken)
        print(f"{pool:8} {middle:6.2f} s  ({low:.2f} to {high:.2f}, n = {len(taken)})")


if __name__ == "__main__":
    main()
