"""What the train stage left: curves, weights, the time of a step, the audit."""

from __future__ import annotations

from typing import Any

import pandas as pd

from pipeline import store
from pipeline.results.files import measured, train_file
from pipeline.study.schema import Study


def history(study: Study, loss: str, seed: int) -> pd.DataFrame:
    score = study.task.validation_key
    columns = ["epoch", score, "input_gradient_norm", "term_gradient_ratio"]
    frame = train_file(study, loss, seed, "history.csv", lambda f: pd.read_csv(f)[columns])
    return frame.rename(columns={score: "validation_score"})


def weights_hash(study: Study, loss: str, seed: int) -> str:
    """Equal for two runs exactly when every bit of best.pt's and last.pt's weights is."""
    return store.hash_of_contents({name: weights(study, loss, seed, name) for name in ("best.pt", "last.pt")})


def weights(study: Study, loss: str, seed: int, name: str) -> dict[str, Any]:
    fix = f"fix: dvc repro -f train@{study.name}-{loss}"
    return train_file(study, loss, seed, name, lambda file: dict(store.load_checkpoint(file, fix)["model"]))


def cost(study: Study, loss: str) -> dict[str, Any]:
    """The time of a training step relative to `standard`, its interval, the number of rounds, the operations' ratio.

    A ratio that would mean nothing is None: the machine was too busy, or the net has no operations that are counted.
    """
    return measured(study, loss, "step_time.json", ("ratio", "low", "high", "n", "operations"))


def audit(study: Study, loss: str) -> dict[str, str]:
    return measured(study, loss, "audit.json", ("kind", "verdict"))
