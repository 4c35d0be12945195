"""One loadable model per loss: the seed with the best validation score, as a traced graph without pickle."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np

from pipeline import layout, models, store
from pipeline.study.run import goodness
from pipeline.tracking.results import LossFolder, SeedFolder
from pipeline.tracking.server import Point

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run
    from torch import nn


NAME = "model"
"""Of the run's artifact: `runs:/ID/model` loads it."""


def mirror(client: MlflowClient, run: Run, loss: LossFolder) -> str:
    """Log the model of a loss to a run, unless that is done; one logged model serves all runs of one fingerprint.

    Returns:
        The address to load it from, as `mlflow.pytorch.load_model("runs:/ID/model")` does: `models:/m-…`.
    """
    from mlflow.entities import LoggedModelOutput, LoggedModelStatus

    experiment, run_id = run.info.experiment_id, run.info.run_id
    best = best_of(loss)
    found = client.search_logged_models([experiment], filter_string=f"tags.fingerprint = '{best.fingerprint}'")
    ready = [model for model in found if model.status == LoggedModelStatus.READY]
    if ready:
        model = ready[0]
    else:
        name = f"{loss.study.name}-{loss.name}-seed-{best.seed}"
        tags = {"fingerprint": best.fingerprint, "seed": str(best.seed), "study": loss.study.name, "loss": loss.name}
        model = client.create_logged_model(experiment, name, run_id, tags, model_type=best.facts["model"]["name"])
    with TemporaryDirectory() as folder:
        path = Path(folder) / NAME
        save(best, path, model.model_id, model.artifact_location, run_id)
        client.log_artifacts(run_id, str(path), NAME)
        if not ready:
            client.log_model_artifacts(model.model_id, str(path))
            client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
    there = run.outputs.model_outputs if run.outputs else []
    if model.model_id not in {output.model_id for output in there}:  # MLflow refuses to be told twice
        client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=0)])
    return str(model.model_uri)


def best_of(loss: LossFolder) -> SeedFolder:
    return max(loss.seeds, key=lambda seed: goodness(seed.facts["best"]))


def score(client: MlflowClient, address: str, run_id: str, points: Iterable[Point]) -> None:
    """Say of a logged model what the attack found; `run_id` is the run of its seed, which has the same numbers."""
    from mlflow.entities import Metric

    model_id = address.removeprefix("models:/")
    metrics = [Metric(p.name, p.value, p.moment, p.step, model_id=model_id) for p in points if "/" not in p.name]
    client.log_batch(run_id, metrics=metrics)


def save(seed: SeedFolder, path: Path, model_id: str, location: str, run_id: str) -> None:
    """Write best.pt of a seed as an MLflow model folder, with signature and example."""
    import mlflow.pytorch
    import torch
    from mlflow.models import Model, infer_signature

    with np.load(seed.train / layout.GRADIENTS, allow_pickle=False) as contents:
        # two examples, not one: a batch of one would be traced as a constant
        example = np.resize(contents["x"], (2, *contents["x"].shape[1:]))
    model = trained(seed, example.shape[1:])
    with torch.no_grad():
        outputs = model(torch.from_numpy(example)).numpy()
    mlflow.pytorch.save_model(
        model,
        str(path),
        mlflow_model=Model(location, run_id, model_id=model_id),
        signature=infer_signature(example, outputs),
        input_example=example,
        pip_requirements=[f"torch=={torch.__version__.split('+')[0]}"],
        serialization_format="pt2",
    )


def trained(seed: SeedFolder, shape: tuple[int, ...]) -> nn.Module:
    weights = store.load_checkpoint(seed.train / layout.BEST, seed.opened.fix("train", seed.loss))["model"]
    model = models.build(seed.study.model, shape, seed.facts["outputs"])
    model.load_state_dict(weights)
    return model.eval()
