"""Run folders -> tidy frames. The one place of the report that opens results."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from zipfile import BadZipFile

import numpy as np
import pandas as pd

from pipeline import data, store
from pipeline.config import Study
from pipeline.errors import UserError
from pipeline.report import scores
from pipeline.run import folder

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Results:
    """Everything that a report is made of.

    Attributes:
        study: what was run.
        losses: in the order of tables and figures.
        scores: a row per loss, seed, norm, epsilon and attack (`clean` with norm `none`, each attack, `worst`): score.
        gradient_norms: a row per loss and seed: value, the mean ‖g‖₂ over the test split.
        history: history.csv of every run, with columns loss and seed.
        weights: hash of best.pt and last.pt of every (loss, seed).
        costs: loss -> cost.json.
        audits: loss -> audit.json: whether the loss depends on the input gradient, and why.
        pictures: loss -> examples, x, y and gradients of the same test examples, of `shown_seed`.
        shown_seed: the first seed that every loss has.
        dataset: the training split, for feature names and units.
    """

    study: Study
    losses: list[str]
    scores: pd.DataFrame
    gradient_norms: pd.DataFrame
    history: pd.DataFrame
    weights: dict[tuple[str, int], str]
    costs: dict[str, dict[str, float]]
    audits: dict[str, dict[str, str]]
    pictures: dict[str, dict[str, np.ndarray]]
    shown_seed: int
    dataset: data.Dataset


def read(study: Study, losses: list[str]) -> Results:
    """Every result of these losses.

    Raises:
        UserError: a file is missing, unreadable or of another study; the line names it and the mend.
    """
    runs = [(loss, seed) for loss in losses for seed in seeds(study, loss)]
    shown = first_common_seed(study, losses)
    return Results(
        study=study,
        losses=losses,
        scores=stacked(runs, lambda loss, seed: scores.seed_scores(outcomes(study, loss, seed), study)),
        gradient_norms=stacked(runs, lambda loss, seed: gradient_norm(study, loss, seed)),
        history=stacked(runs, lambda loss, seed: history(study, loss, seed)),
        weights={(loss, seed): weights_hash(study, loss, seed) for loss, seed in runs},
        costs={loss: cost(study, loss) for loss in losses},
        audits={loss: audit(study, loss) for loss in losses},
        pictures=same_examples(study, {loss: pictures(study, loss, shown) for loss in losses}),
        shown_seed=shown,
        dataset=data.read(study.name, study.data["name"], ("train",)),
    )


def seeds(study: Study, loss: str) -> list[int]:
    """The study's seeds that have an attack folder; all of them if none has, so that reading names the missing file."""
    study.loss(loss)
    there = [s for s in study.training.seeds if (folder(study, loss, "attack") / f"seed-{s}").is_dir()]
    return there or study.training.seeds


def first_common_seed(study: Study, losses: list[str]) -> int:
    """The first seed that every loss has."""
    for seed in study.training.seeds:
        if all(seed in seeds(study, loss) for loss in losses):
            return seed
    raise UserError(f"{study.folder / 'runs'}: no seed that every loss has; run: dvc repro report@{study.name}")


def stacked(runs: list[tuple[str, int]], read_one: Callable[[str, int], pd.DataFrame]) -> pd.DataFrame:
    """The frames of all runs below each other, with columns loss and seed in front."""
    frames = []
    for loss, seed in runs:
        frame = read_one(loss, seed)
        frames.append(pd.DataFrame({"loss": loss, "seed": seed, **{str(k): frame[k] for k in frame}}))
    return pd.concat(frames, ignore_index=True)


def opened(file: Path, how: Callable[[Path], T], stage: str) -> T:
    """`how(file)`, or one line that names the file and the stage that writes it."""
    try:
        return how(file)
    except FileNotFoundError as error:
        raise UserError(f"{file} is missing; write it with: dvc repro {stage}") from error
    except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{file} is not readable ({reason}); write it again with: dvc repro -f {stage}") from error


def attack_file(study: Study, loss: str, seed: int, name: str, how: Callable[[Path], T]) -> T:
    """A file of the attack stage."""
    file = folder(study, loss, "attack") / f"seed-{seed}" / name
    return opened(file, how, f"attack@{study.name}-{loss}")


def train_file(study: Study, loss: str, seed: int, name: str, how: Callable[[Path], T]) -> T:
    """A file of the train stage."""
    file = folder(study, loss, "train") / f"seed-{seed}" / name
    return opened(file, how, f"train@{study.name}-{loss}")


def outcomes(study: Study, loss: str, seed: int) -> pd.DataFrame:
    """outcomes.parquet, complete: every attack of the study at every radius."""
    return attack_file(study, loss, seed, "outcomes.parquet", lambda f: scores.complete(pd.read_parquet(f), study))


def gradient_norm(study: Study, loss: str, seed: int) -> pd.DataFrame:
    """Mean ‖g‖₂ over the test split, one row."""
    column = "gradient_norm_l2"
    frame = attack_file(study, loss, seed, "descriptors.parquet", lambda f: pd.read_parquet(f)[[column]])
    return pd.DataFrame({"value": [frame[column].astype(float).mean()]})


def history(study: Study, loss: str, seed: int) -> pd.DataFrame:
    """Epoch, validation score, input-gradient norm and how strongly the term pulls."""
    score = f"validation_{'accuracy' if study.task == 'classification' else 'rmse'}"
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
    mend = f"write it again with: dvc repro -f train@{study.name}-{loss}"
    return train_file(study, loss, seed, name, lambda file: dict(store.load_checkpoint(file, mend)["model"]))


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


def pictures(study: Study, loss: str, seed: int) -> dict[str, np.ndarray]:
    """gradients.npz of the attack stage: examples (k,), x and gradients (k, *input), y."""

    def how(file: Path) -> dict[str, np.ndarray]:
        with np.load(file, allow_pickle=False) as contents:
            return {key: contents[key] for key in ("examples", "x", "y", "gradients")}

    return attack_file(study, loss, seed, "gradients.npz", how)


def same_examples(study: Study, found: dict[str, dict[str, np.ndarray]]) -> dict[str, dict[str, np.ndarray]]:
    """`found`, after a look that all losses show the same inputs: else the panel would compare different things."""
    for loss, contents in found.items():
        if not np.array_equal(contents["x"], found["standard"]["x"]):
            raise UserError(
                f"{folder(study, loss, 'attack')} shows other test examples than standard does;"
                f" write both again with: dvc repro attack@{study.name}-{loss} attack@{study.name}-standard"
            )
    return found
