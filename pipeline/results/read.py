"""Run folders -> tidy frames. Together with `attacked` and `trained` the one place of the report that opens results."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from inputgrad.errors import UserError
from pipeline import data
from pipeline.results import attacked, masking, trained
from pipeline.results.attacked import Attacked
from pipeline.study.run import folder
from pipeline.study.schema import Study

Run = tuple[str, int]
"""A loss and a seed."""


@dataclass(frozen=True, kw_only=True)
class Results:
    """Everything that a report is made of.

    Attributes:
        study: what was run.
        losses: in the order of tables and figures.
        scores: a row per loss, seed, norm, epsilon and attack (`clean` with norm `none`, each attack, `worst`): score.
        steps: a row per loss, seed, norm and step of the waterfall: score, change.
        iterations: a row per loss, seed, norm and attack (FGSM, PGD) at the headline ε: gradients, score.
        distances: a row per loss, seed, norm and example: distance to the nearest wrong answer; none for a regression.
        headline: a row per loss and seed, a column per example: worst case at the headline ε.
        descriptors: a row per loss, seed and descriptor: value (NaN if nowhere finite), left_out, examples.
        masking: loss -> its masking sheet over the seeds.
        history: history.csv of every run, with columns loss and seed.
        weights: hash of best.pt and last.pt of every (loss, seed).
        costs: loss -> step_time.json, without its seconds.
        audits: loss -> audit.json: whether the loss depends on the input gradient, and why.
        pictures: loss -> examples, x, y and gradients of the same test examples, of `shown_seed`.
        shown_seed: the study's first seed.
        dataset: the training and the test split, for feature names, units and the number of examples.
    """

    study: Study
    losses: list[str]
    scores: pd.DataFrame
    steps: pd.DataFrame
    iterations: pd.DataFrame
    distances: pd.DataFrame
    headline: pd.DataFrame
    descriptors: pd.DataFrame
    masking: dict[str, masking.Sheet]
    history: pd.DataFrame
    weights: dict[Run, str]
    costs: dict[str, dict[str, Any]]
    audits: dict[str, dict[str, str]]
    pictures: dict[str, dict[str, np.ndarray]]
    shown_seed: int
    dataset: data.Dataset


def read_results(study: Study, losses: list[str]) -> Results:
    runs = [(loss, seed) for loss in losses for seed in study.training.seeds]
    shown = study.training.seeds[0]
    found = {run: attacked.attacked(study, *run) for run in runs}
    pictures = {loss: attacked.pictures(study, loss, shown) for loss in losses}
    return Results(
        study=study,
        losses=losses,
        scores=stacked({run: one.scores for run, one in found.items()}),
        steps=stacked({run: one.steps for run, one in found.items()}),
        iterations=stacked({run: one.iterations for run, one in found.items()}),
        distances=stacked({run: one.distances for run, one in found.items()}),
        headline=headline(study, found),
        descriptors=stacked({run: one.descriptors for run, one in found.items()}),
        masking={
            loss: masking.over_seeds({s: one.findings for (n, s), one in found.items() if n == loss}) for loss in losses
        },
        history=stacked({run: trained.history(study, *run) for run in runs}),
        weights={run: trained.weights_hash(study, *run) for run in runs},
        costs={loss: trained.cost(study, loss) for loss in losses},
        audits={loss: trained.audit(study, loss) for loss in losses},
        pictures=same_examples(study, pictures),
        shown_seed=shown,
        dataset=data.read_data(study.name, study.data, ("train", "test")),
    )


def stacked(found: dict[Run, pd.DataFrame]) -> pd.DataFrame:
    frames = [
        pd.DataFrame({"loss": loss, "seed": seed, **{str(k): frame[k] for k in frame}})
        for (loss, seed), frame in found.items()
    ]
    return pd.concat(frames, ignore_index=True)


def headline(study: Study, found: dict[Run, Attacked]) -> pd.DataFrame:
    """A row per loss and seed, after a look that all of them attacked the same examples: else nothing is paired."""
    first, *_ = found.values()
    for (loss, seed), one in found.items():
        if not one.headline.columns.equals(first.headline.columns):
            raise UserError(
                f"{folder(study, loss, 'attack') / f'seed-{seed}'} holds other test examples than the runs before it;"
                f" attack all alike with: dvc repro report@{study.name}"
            )
    index = pd.MultiIndex.from_tuples(found, names=["loss", "seed"])
    return pd.concat([one.headline for one in found.values()]).set_index(index)


def same_examples(study: Study, found: dict[str, dict[str, np.ndarray]]) -> dict[str, dict[str, np.ndarray]]:
    """`found`, after a look that all losses show the same inputs: else the panel would compare different things."""
    for loss, contents in found.items():
        if not np.array_equal(contents["x"], found["standard"]["x"]):
            raise UserError(
                f"{folder(study, loss, 'attack')} shows other test examples than standard does;"
                f" write both again with: dvc repro attack@{study.name}-{loss} attack@{study.name}-standard"
            )
    return found
