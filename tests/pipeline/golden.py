"""A fixed small study of every loss, for both tasks: its numbers stay what they were, whatever is moved or renamed.

Recorded by: python -m tests.pipeline.golden > tests/pipeline/golden.json
"""

from __future__ import annotations

import hashlib
import json
import platform
import tempfile
from contextlib import chdir
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from inputgrad import files
from pipeline import data, layout, store
from pipeline.results import read, summary
from pipeline.results.opened import OpenStudy
from pipeline.stages.attack import Evaluation, evaluate
from pipeline.stages.train import train
from pipeline.study import origins
from pipeline.study.read import read_study
from pipeline.study.run import Run, runs

STUDY = """\
data: {{name: {data}}}
model: {model}
training: {{epochs: 2, batch_size: 128, learning_rate: 0.003, seeds: [0]}}
losses:
  standard: {{}}
  detached_norm: {{strength: 0.3}}
  gradient_norm: {{strength: 0.3}}
  gradient_direction: {{strength: 0.3}}
  fgsm: {{epsilon: 0.1, random_start: true}}
  pgd: {{epsilon: 0.1, steps: 3}}
  trades: {{epsilon: 0.1, steps: 3}}
  jacobian_norm: {{strength: 0.05}}
  finite_difference: {{strength: 0.6}}
  gradient_alignment: {{strength: 0.2, epsilon: 0.1, on: {{epsilon: 0.1}}}}
  right_reasons: {{strength: 0.01}}
  curvature: {{strength: 0.3, h: 0.5}}
  local_linearity: {{epsilon: 0.1, steps: 3}}
attack:
  norm: linf
  epsilon: 0.1
  grid: [0.0, 0.1, 0.4]
  secondary: {{norm: l2, epsilon: 0.5, grid: [0.0, 0.5, 3.0]}}
  attacks: {attacks}
  at_epsilon: {at_epsilon}
  examples: 24
"""
STUDIES = {
    "digits": {
        "model": "{name: cnn, width: 4}",
        "attacks": "{noise: {}, fgsm: {}, pgd: {steps: 3, restarts: 2}, fab: {targets: 2, steps: 3},"
        " apgd_t: {steps: 3}}",
        "at_epsilon": "{apgd_ce: {steps: 3}, square: {queries: 10}, fab_t: {steps: 3, targets: 2}}",
    },
    "diabetes": {
        "model": "{name: mlp, hidden: [8]}",
        "attacks": "{noise: {}, fgsm: {}, pgd: {steps: 3, restarts: 2}, random_search: {queries: 5}}",
        "at_epsilon": "{}",
    },
}


def machine() -> dict[str, str]:
    """Where the numbers are equal bit for bit: two processors of one family may add in another order."""
    versions = {"python": platform.python_version(), "torch": torch.__version__}
    return {**versions, "cpu": torch.backends.cpu.get_cpu_capability(), "processor": processor()}


def processor() -> str:
    """A hash of what the system says of the processor: model, stepping, flags, caches."""
    file = Path("/proc/cpuinfo")
    text = file.read_text(encoding="utf-8") if file.exists() else platform.processor()
    kept = ("model", "stepping", "flags", "cache size", "cpu family")
    lines = sorted({line for line in text.splitlines() if line.startswith(kept)})
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def measure() -> dict[str, Any]:
    """Every run's hashes and a few of its numbers, made in the current folder, which is empty."""
    Path("experiments").mkdir()
    found: dict[str, Any] = {}
    for name, words in STUDIES.items():
        Path(f"experiments/{name}.yaml").write_text(STUDY.format(data=name, **words), encoding="utf-8")
        study = read_study(name)
        data.prepare(name, study.data)
        for loss in study.losses:
            for run in runs(study, loss):
                store.publish({f"seed-{run.seed}": train(run)}, layout.stage(study.name, loss, "train"))
        for loss in study.losses:
            for run in runs(study, loss):
                store.publish({f"seed-{run.seed}": evaluate(Evaluation(run))}, layout.stage(study.name, loss, "attack"))
                found[f"{name}/{loss}"] = of_run(run)
            write_measured(runs(study, loss)[0])
        metrics = summary.summarise(read.read_results(OpenStudy(study), list(study.losses))).metrics()
        found[f"{name}/metrics"] = {"metrics": hash_of(json.dumps(metrics, sort_keys=True))}
    return found


def of_run(run: Run) -> dict[str, Any]:
    """Hashes of what one run left, and numbers to compare where bits differ."""
    trained, attacked = run.folder("train"), run.folder("attack")
    history = pd.read_csv(trained / "history.csv")
    outcomes = pd.read_parquet(attacked / "outcomes.parquet")
    weights = {name: store.load_checkpoint(trained / f"{name}.pt", "")["model"] for name in ("best", "last")}
    last = history.iloc[-1]
    return {
        "weights": store.hash_of_contents(weights),
        "history": hash_of((trained / "history.csv").read_text(encoding="utf-8")),
        "outcomes": hash_of(outcomes.to_csv(index=False)),
        "descriptors": hash_of(pd.read_parquet(attacked / "descriptors.parquet").to_csv(index=False)),
        "masking": hash_of((attacked / "masking.json").read_text(encoding="utf-8")),
        "numbers": {
            **{key: float(last[key]) for key in ("task_loss", "validation_loss", "input_gradient_norm")},
            "loss_after_attack": float(outcomes["loss_after"].mean()),
        },
    }


def write_measured(run: Run) -> None:
    """What the report wants besides the runs, without its timings."""
    target = layout.stage(run.study.name, run.loss_name, "measured")
    times = {"ratio": 1.0, "low": 1.0, "high": 1.0, "n": 1, "operations": 1.0}
    files.write_json(target / "step_time.json", times)
    files.write_json(target / "audit.json", {"kind": "depends", "verdict": ""})
    store.seal(target, origins.of_measured(run), ("step_time.json", "audit.json"))


def hash_of(text: str) -> str:
    """Sixteen hex digits."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as empty, chdir(empty):
        print(json.dumps({"machine": machine(), "runs": measure()}, indent=1))
