"""Where everything lies, and which command makes it: the one place of paths, file names and repairs.

experiments/STUDY.yaml, and next to it experiments/STUDY/: runs/LOSS/STAGE/seed-N/, search/LOSS/, report/. In the
project's root .state/, where work is done, and MLflow's database. Nothing heavy is imported.
"""

from __future__ import annotations

import os
from pathlib import Path

EXPERIMENTS = Path("experiments")

MANIFEST = "manifest.json"
"""Written last: its folder is complete."""
BEST, LAST, PREVIOUS = "best.pt", "last.pt", "previous.pt"
"""Weights of the best epoch on the validation split; everything a training needs to go on, now and one epoch before."""
HISTORY, RUN, GRADIENTS = "history.csv", "run.json", "gradients.npz"
OUTCOMES, DESCRIPTORS, MASKING = "outcomes.parquet", "descriptors.parquet", "masking.json"
INPUT_GRADIENTS, EVALUATION = "input_gradients.npy", "evaluation.json"
MEASURES = "measures.json"
"""What the module of the data set measures of a trained net."""
STEP_TIME, AUDIT = "step_time.json", "audit.json"
METRICS, PAGE = "metrics.json", "report.html"
SEARCH = "search.json"
ARTIFACTS = "mlartifacts"
"""MLflow's copies of files, beside its database in the project's root."""


def root() -> Path:
    """The project's root, for .state/ and mlflow.db; in a `dvc exp run --temp` copy DVC_ROOT names the real one."""
    return Path(os.environ.get("DVC_ROOT", ".")).resolve()


def state(name: str = "") -> Path:
    """.state/NAME: where a result is made, under its fingerprint; disposable."""
    return root() / ".state" / name


def database() -> Path:
    """MLflow's, unless MLFLOW_TRACKING_URI names another."""
    return root() / "mlflow.db"


def study_file(study: str) -> Path:
    return EXPERIMENTS / f"{study}.yaml"


def data(study: str) -> Path:
    """All splits of a study's data."""
    return Path("data") / f"{study}.npz"


def study_files() -> list[Path]:
    return sorted(EXPERIMENTS.glob("*.yaml"))


def stage(study: str, loss: str, name: str) -> Path:
    """The output of a train or an attack stage, of `measured`, or of a net trained elsewhere (`checkpoint`)."""
    return EXPERIMENTS / study / "runs" / loss / name


def report(study: str) -> Path:
    return EXPERIMENTS / study / "report"


def search(study: str, loss: str) -> Path:
    return EXPERIMENTS / study / "search" / loss


def searches(study: str) -> list[Path]:
    """What every search of a study has found, one file each."""
    return sorted((EXPERIMENTS / study / "search").rglob(SEARCH))


def results(study: str) -> list[Path]:
    """The files that name everything that is published of a study: manifests, and what searches have found."""
    forms = ("runs/*/*", "runs/*/*/*", "report")
    manifests = [file for form in forms for file in (EXPERIMENTS / study).glob(f"{form}/{MANIFEST}")]
    return sorted([*manifests, *searches(study)])


def again(name: str, study: str, loss: str = "") -> str:
    """The command that makes the output of a stage again, whatever DVC thinks of it."""
    return f"dvc repro -f {name}@{study}{loss and f'-{loss}'}"
