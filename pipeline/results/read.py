"""Folders of an open study -> tidy frames: the one place of the report that reads results."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from inputgrad.errors import UserError
from inputgrad.robustness import scores
from pipeline import data, layout, store
from pipeline.data import _measures
from pipeline.results import collapse, masking, robustness
from pipeline.results.opened import OpenStudy
from pipeline.results.robustness import complete, iterations, seed_scores
from pipeline.study.schema import Study

Run = tuple[str, int]
"""A loss and a seed."""


@dataclass(frozen=True, kw_only=True)
class Attacked:
    """What the attack stage left of one run, reduced to what the report needs.

    Attributes:
        scores: norm, epsilon, attack, score.
        steps: norm, step, score, change: what each attack adds at the headline ε.
        iterations: norm, attack, gradients, score: FGSM and PGD at the headline ε.
        distances: norm, example, distance: the nearest wrong answer found.
        headline: the worst case at the headline ε, a row, a column per example: 1 where broken, or the squared error.
        descriptors: descriptor, value, left_out, examples.
        findings: of the masking sheet.
        measures: measure, value: those of the data set's own module.
    """

    scores: pd.DataFrame
    steps: pd.DataFrame
    iterations: pd.DataFrame
    distances: pd.DataFrame
    headline: pd.DataFrame
    descriptors: pd.DataFrame
    findings: masking.Findings
    measures: pd.DataFrame


@dataclass(frozen=True, kw_only=True)
class GivenNet:
    """A net that was trained elsewhere: its scores over `examples` examples, the checks of masking that it fails."""

    name: str
    source: str
    clean: float
    robust: float
    examples: int
    flags: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def metrics(self) -> dict[str, Any]:
        return {"clean": self.clean, "robust": self.robust, "examples": self.examples, "flags": list(self.flags)}


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
        measures: a row per loss, seed and measure of the data set's own: value.
        history: history.csv of every run, with columns loss and seed.
        weights: hash of best.pt and last.pt of every (loss, seed).
        costs: loss -> step_time.json, without its seconds.
        audits: loss -> audit.json: whether the loss depends on the input gradient, and why.
        given_nets: those that were trained elsewhere, in the study's order.
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
    measures: pd.DataFrame
    history: pd.DataFrame
    weights: dict[Run, str]
    costs: dict[str, dict[str, Any]]
    audits: dict[str, dict[str, str]]
    given_nets: list[GivenNet]
    pictures: dict[str, dict[str, np.ndarray]]
    shown_seed: int
    dataset: data.Dataset


def read_results(opened: OpenStudy, losses: list[str]) -> Results:
    study = opened.study
    runs = [(loss, seed) for loss in losses for seed in study.training.seeds]
    shown = study.training.seeds[0]
    found = {run: attacked(opened, *run) for run in runs}
    pictures = {loss: pictures_of(opened, loss, shown) for loss in losses}
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
        measures=stacked({run: one.measures for run, one in found.items()}),
        history=stacked({run: history(opened, *run) for run in runs}),
        weights={run: weights_hash(opened, *run) for run in runs},
        costs={loss: cost(opened, loss) for loss in losses},
        audits={loss: audit(opened, loss) for loss in losses},
        given_nets=[given_net(opened, name) for name in study.checkpoints],
        pictures=same_examples(study, pictures),
        shown_seed=shown,
        dataset=data.read_data(study.name, study.data, ("train", "test")),
    )


def attacked(opened: OpenStudy, loss: str, seed: int) -> Attacked:
    study, attack = opened.study, opened.study.attack
    outcomes = opened.read("attack", loss, seed, layout.OUTCOMES, lambda f: complete(pd.read_parquet(f), study))
    harm = scores.harm(outcomes, study.task)
    headline = scores.worst_at(harm, attack.norm, attack.epsilon)
    return Attacked(
        scores=seed_scores(harm, study),
        steps=scores.waterfall(harm, attack, study.task),
        iterations=iterations(harm, study),
        distances=robustness.to_boundary(outcomes, study),
        headline=headline.to_frame().T.reset_index(drop=True),
        descriptors=opened.read("attack", loss, seed, layout.DESCRIPTORS, described),
        findings=findings(opened, loss, seed),
        measures=measures(opened, loss, seed),
    )


def measures(opened: OpenStudy, loss: str, seed: int) -> pd.DataFrame:
    """Columns measure and value, in the order of MEASURES; empty where the data set has no measures of its own."""
    wanted, fix = _measures.described(opened.study.data), opened.fix("attack", loss)
    found: dict[str, float] = {}
    if wanted:

        def how(file: Path) -> dict[str, float]:
            return _measures.checked(store.read_json(file, fix), wanted, str(file))

        found = opened.read("attack", loss, seed, layout.MEASURES, how)
    return pd.DataFrame({"measure": list(found), "value": pd.Series(list(found.values()), dtype=float)})


def described(file: Path) -> pd.DataFrame:
    return robustness.means(robustness.complete_descriptors(pd.read_parquet(file)))


def findings(opened: OpenStudy, loss: str, seed: int) -> masking.Findings:
    return opened.read("attack", loss, seed, layout.MASKING, masking.read_sheet)


def pictures_of(opened: OpenStudy, loss: str, seed: int) -> dict[str, np.ndarray]:
    """gradients.npz of the attack stage: examples (k,), x and gradients (k, *input), y."""

    def how(file: Path) -> dict[str, np.ndarray]:
        with np.load(file, allow_pickle=False) as contents:
            return {key: contents[key] for key in ("examples", "x", "y", "gradients")}

    return opened.read("attack", loss, seed, layout.GRADIENTS, how)


def history(opened: OpenStudy, loss: str, seed: int) -> pd.DataFrame:
    score = opened.study.task.validation_key
    columns = ["epoch", score, "input_gradient_norm", "term_gradient_ratio"]
    names = {score: "validation_score"}
    if opened.study.training.robust_validation:
        columns.append(f"robust_{score}")
        names[f"robust_{score}"] = collapse.COLUMN
    frame = opened.read("train", loss, seed, layout.HISTORY, lambda f: pd.read_csv(f)[columns])
    return frame.rename(columns=names)


def weights_hash(opened: OpenStudy, loss: str, seed: int) -> str:
    """Equal for two runs exactly when every bit of best.pt's and last.pt's weights is."""

    def how(file: Path) -> dict[str, Any]:
        return dict(store.load_checkpoint(file, opened.fix("train", loss))["model"])

    weights = {name: opened.read("train", loss, seed, name, how) for name in (layout.BEST, layout.LAST)}
    return store.hash_of_contents(weights)


def cost(opened: OpenStudy, loss: str) -> dict[str, Any]:
    """The time of a training step relative to `standard`, its interval, the number of rounds, the operations' ratio.

    A ratio that would mean nothing is None: the machine was too busy, or the net has no operations that are counted.
    """
    return measured(opened, loss, layout.STEP_TIME, ("ratio", "low", "high", "n", "operations"))


def audit(opened: OpenStudy, loss: str) -> dict[str, str]:
    return measured(opened, loss, layout.AUDIT, ("kind", "verdict"))


def measured(opened: OpenStudy, loss: str, file: str, keys: tuple[str, ...]) -> dict[str, Any]:
    """Some keys of a file that the train stage keeps once for a loss."""
    fix = opened.fix("measured", loss)
    return opened.read("measured", loss, None, file, lambda path: {k: store.read_json(path, fix)[k] for k in keys})


def given_net(opened: OpenStudy, name: str) -> GivenNet:
    given, fix = opened.study.checkpoints[name], opened.fix("checkpoint", name)
    here = opened.folder("checkpoint", name)
    facts, sheet = (store.read_json(here / file, fix) for file in (layout.EVALUATION, layout.MASKING))
    return GivenNet(
        name=name,
        source=", ".join(filter(None, (given.model or "the study's net", given.weights))),
        clean=facts["clean"],
        robust=facts["robust"],
        examples=facts["examples"],
        flags=tuple(check for check, one in sheet.items() if not one["ok"]),
        notes=tuple(facts["notes"]),
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
            place = layout.stage(study.name, loss, "attack") / f"seed-{seed}"
            raise UserError(
                f"{place} holds other test examples than the runs before it;"
                f" attack all alike with: dvc repro report@{study.name}"
            )
    index = pd.MultiIndex.from_tuples(found, names=["loss", "seed"])
    return pd.concat([one.headline for one in found.values()]).set_index(index)


def same_examples(study: Study, found: dict[str, dict[str, np.ndarray]]) -> dict[str, dict[str, np.ndarray]]:
    """`found`, after a look that all losses show the same inputs: else the panel would compare different things."""
    for loss, contents in found.items():
        if not np.array_equal(contents["x"], found["standard"]["x"]):
            raise UserError(
                f"{layout.stage(study.name, loss, 'attack')} shows other test examples than standard does;"
                f" write both again with: dvc repro attack@{study.name}-{loss} attack@{study.name}-standard"
            )
    return found
