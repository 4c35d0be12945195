"""What the train stage left: curves, weights, the time of a step, the audit."""

from __future__ import annotations

import hashlib
from typing import Any

import pandas as pd

from pipeline import store
from pipeline.results.files import opened, train_file
from pipeline.study.run import folder
from pipeline.study.schema import Study


def history(study: Study, loss: str, seed: int) -> pd.DataFrame:
    """Epoch, validation score, input-gradient norm and how strongly the term pulls."""
    score = study.task.validation_key
    columns = ["epoch", score, "input_gradient_norm", "term_gradient_ratio"]
    frame = train_file(study, loss, seed, "history.csv", lambda f: pd.read_csv(f)[columns])
    return frame.rename(columns={score: "validation_score"})


def weights_hash(study: Study, loss: str, seed: int) -> str:
    """Equal for two runs exactly when every bit of best.pt's and last.pt's weights is."""
    import torch

    digest = hashlib.sha256()
    for name in ("best.pt", "last.pt"):
        for key, tensor in sorted(weights(study, loss, seed, name).items()):
            digest.update(f"{key} {tensor.dtype} {tuple(tensor.shape)}".encode())
            # NumPy has no bfloat16, but every type can be looked at as bytes
            digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def weights(study: Study, loss: str, seed: int, name: str) -> dict[str, Any]:
    """The state_dict in a checkpoint of the train stage."""
    fix = f"write it again with: dvc repro -f train@{study.name}-{loss}"
    return train_file(study, loss, seed, name, lambda file: dict(store.load_checkpoint(file, fix)["model"]))


def cost(study: Study, loss: str) -> dict[str, float]:
    """cost.json: the time of a training step relative to `standard`, with quartiles and number of rounds."""
    return facts(study, loss, "cost.json", ("ratio", "ratio_quartile_low", "ratio_quartile_high", "n"))


def audit(study: Study, loss: str) -> dict[str, str]:
    """audit.json: the kind of the loss (depends, detached, independent) and the verdict as a sentence."""
    return facts(study, loss, "audit.json", ("kind", "verdict"))


def facts(study: Study, loss: str, name: str, wanted: tuple[str, ...]) -> dict[str, Any]:
    """Some keys of a JSON file that the train stage keeps once per loss."""
    file = folder(study, loss, "train") / name
    found = store.read_json(file, f"write it with: dvc repro train@{study.name}-{loss}")
    return opened(file, lambda _: {key: found[key] for key in wanted}, f"train@{study.name}-{loss}")
