"""Run folders -> what MLflow is told about them. No MLflow in here: files are the truth."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from inputgrad.errors import UserError
from pipeline import layout, store
from pipeline.fingerprint import hash_of
from pipeline.results import masking, read, robustness
from pipeline.results.opened import OpenStudy
from pipeline.results.read import attacked
from pipeline.results.robustness import WORST
from pipeline.study.schema import Study
from pipeline.tracking.server import Point, milliseconds

SETTINGS = ("study", "loss", "data", "model", "training", "seed", "seeds", "parameters", "steps", "torch", "device")
"""What of run.json is a parameter; the rest are results."""


@dataclass(frozen=True)
class SeedFolder:
    """One finished run: train/seed-N, and attack/seed-N as soon as it is there."""

    opened: OpenStudy
    loss: str
    seed: int

    @property
    def study(self) -> Study:
        return self.opened.study

    @property
    def train(self) -> Path:
        return self.opened.folder("train", self.loss, self.seed)

    @cached_property
    def facts(self) -> dict[str, Any]:
        fix = self.opened.fix("train", self.loss)
        return self.opened.read("train", self.loss, self.seed, layout.RUN, lambda f: dict(store.read_json(f, fix)))

    @property
    def fingerprint(self) -> str:
        return self.opened.origin("train", self.loss, self.seed).fingerprint

    @cached_property
    def attack(self) -> Path | None:
        """Folder of the attack on these very weights, or None: what is left from before comes out of another stage.

        Raises:
            UserError: it is of these weights and damaged.
        """
        if not (layout.stage(self.study.name, self.loss, "attack") / f"seed-{self.seed}").exists():
            return None
        try:
            self.opened.origin("attack", self.loss, self.seed)
        except UserError:  # transfer starts from `standard`, whose training may not be there yet
            return None
        try:
            return self.opened.folder("attack", self.loss, self.seed)
        except store.ForeignError:
            return None

    @property
    def attack_fingerprint(self) -> str | None:
        return self.opened.origin("attack", self.loss, self.seed).fingerprint if self.attack else None

    @property
    def ended(self) -> int:
        return milliseconds(self.train / layout.RUN)

    @cached_property
    def started(self) -> int:
        """When training began: the run's lock is its oldest file. Without it, what is left of the past."""
        lock = layout.state(self.fingerprint) / "lock"
        return min(milliseconds(f) for f in (lock, *self.train.iterdir()) if f.exists())

    @cached_property
    def history(self) -> list[Point]:
        """Every column of history.csv, epoch by epoch, spread evenly over the time of the training."""

        def how(file: Path) -> list[Point]:
            frame = pd.read_csv(file)
            pace = (self.ended - self.started) / max(1, len(frame))
            return history_points(frame, [self.started + int(pace * (i + 1)) for i in range(len(frame))])

        return self.opened.read("train", self.loss, self.seed, layout.HISTORY, how)

    @cached_property
    def best(self) -> list[Point]:
        best = self.facts["best"]
        named = {"best_epoch": best["epoch"], **{f"best_{k}": best[k] for k in best if k.startswith("validation_")}}
        return [Point(name, float(value), self.ended) for name, value in named.items()]

    @cached_property
    def outcome(self) -> list[Point]:
        return [] if self.attack is None else points(self.opened, self.loss, self.seed)

    @cached_property
    def findings(self) -> masking.Findings | None:
        return None if self.attack is None else read.findings(self.opened, self.loss, self.seed)

    @property
    def sheet(self) -> dict[str, str]:
        return {} if self.findings is None else tags({self.seed: self.findings})


@dataclass(frozen=True)
class LossFolder:
    """All seeds of one loss that have a training folder."""

    opened: OpenStudy
    name: str

    @property
    def study(self) -> Study:
        return self.opened.study

    @property
    def measured(self) -> Path:
        return self.opened.folder("measured", self.name)

    @cached_property
    def seeds(self) -> list[SeedFolder]:
        """The study's, once the loss has been trained; a folder of another study, or a damaged one, is an error."""
        if not layout.stage(self.study.name, self.name, "train").exists():
            return []
        seeds = [SeedFolder(self.opened, self.name, seed) for seed in self.study.training.seeds]
        return [seed for seed in seeds if seed.train]

    @property
    def fingerprint(self) -> str:
        return loss_fingerprint([seed.fingerprint for seed in self.seeds])

    @property
    def attack_fingerprint(self) -> str | None:
        """Of all attacks, once every seed has been attacked."""
        found = [seed.attack_fingerprint for seed in self.seeds]
        return hash_of(found) if all(found) else None

    @property
    def facts(self) -> dict[str, Any]:
        """What the seeds have in common."""
        return {**self.seeds[0].facts, "seed": None, "seeds": [seed.seed for seed in self.seeds]}

    @property
    def points(self) -> Iterator[Point]:
        """Means over the seeds of everything the seeds have, and the cost of a step."""
        every = [p for seed in self.seeds for p in (*seed.history, *seed.best, *self.outcome_of(seed))]
        frame = pd.DataFrame(every, columns=list(Point._fields))
        grouped = frame.groupby(["name", "step"], sort=False)
        means = grouped.agg(value=("value", "mean"), moment=("moment", "max"), n=("value", "size"))
        for name, step, value, moment, n in means.reset_index().to_numpy():
            if not (str(name).startswith("median_distance_") and n < len(self.seeds)):  # a seed's may be infinite
                yield Point(str(name), float(value), int(moment), int(step))
        ratio = read.cost(self.opened, self.name)["ratio"]
        if ratio is not None:
            yield Point("step_time_ratio", ratio, milliseconds(self.measured / layout.STEP_TIME))

    @property
    def audit(self) -> dict[str, str]:
        found = read.audit(self.opened, self.name)
        return {"audit": found["kind"], "audit.verdict": found["verdict"]}

    @property
    def sheet(self) -> dict[str, str]:
        """The masking sheet over the seeds as tags, once every seed has one."""
        found = {seed.seed: seed.findings for seed in self.seeds if seed.findings is not None}
        return tags(found) if len(found) == len(self.seeds) else {}

    def outcome_of(self, seed: SeedFolder) -> list[Point]:
        """A mean over some of the seeds would be called the mean over all: none before every seed is attacked."""
        return seed.outcome if self.attack_fingerprint else []


def loss_fingerprint(of_seeds: list[str]) -> str:
    """Of a loss, from those of its seeds in any order."""
    return hash_of(sorted(of_seeds))


def history_points(frame: pd.DataFrame, moments: list[int]) -> list[Point]:
    columns = [name for name in frame if name != "epoch"]
    return [
        Point(str(name), float(row[name]), moment, int(row["epoch"]))
        for row, moment in zip(frame.to_dict("records"), moments, strict=True)
        for name in columns
    ]


def parameters(facts: dict[str, Any]) -> dict[str, str]:
    """The settings of a run, flat and in the words of the study: `loss` and `data` are names, the rest is dotted."""
    flat: dict[str, Any] = {}
    for key in SETTINGS:
        value = facts.get(key)
        if isinstance(value, dict):
            short = {"name": key, "strength": "strength"}
            flat |= {short.get(name, f"{key}.{name}"): setting for name, setting in value.items()}
        elif value is not None:
            flat[key] = value
    return {name: str(value) for name, value in flat.items()}


def points(opened: OpenStudy, loss: str, seed: int) -> list[Point]:
    """The headline numbers, and the worst-case score as a curve over ε."""
    study, found = opened.study, attacked(opened, loss, seed)
    moment = milliseconds(opened.folder("attack", loss, seed) / layout.GRADIENTS)
    key, scores, threat = study.task.key, found.scores, study.attack
    worst = scores[scores["attack"] == WORST]
    headline = worst[(worst["norm"] == threat.norm) & (worst["epsilon"] == threat.epsilon)]
    distances = found.distances.groupby("norm")["distance"].median()
    described = found.descriptors.set_index("descriptor")["value"]
    named = {
        f"clean_{key}": scores.loc[scores["norm"] == "none", "score"].item(),
        f"robust_{key}": headline["score"].item(),
        **{f"median_distance_{norm}": value for norm, value in distances.items()},
        **{metric(robustness.key(str(name))): value for name, value in described.items()},
        **dict(zip(found.measures["measure"], found.measures["value"], strict=True)),
    }
    scale = steps_per_unit(worst["epsilon"].unique().tolist())
    curve = [
        # a step is a whole number, and the part before the slash is the section of the chart
        Point(f"robust_{key}/{norm}_{scale}_epsilon", float(score), moment, round(scale * epsilon))
        for norm, epsilon, score in worst.sort_values("epsilon")[["norm", "epsilon", "score"]].to_numpy()
    ]
    # a number that does not exist has no point
    return [*(Point(name, float(value), moment) for name, value in named.items() if np.isfinite(value)), *curve]


def steps_per_unit(radii: Sequence[float]) -> int:
    """1000, or the power of ten above it that keeps all radii apart."""
    scale = 1000
    while len({round(scale * radius) for radius in radii}) < len(set(radii)) and scale < 10**12:
        scale *= 10
    return scale


def metric(name: str) -> str:
    """What MLflow calls a number of metrics.json; descriptors say `test_`, for the validation split has some too."""
    return name if name.startswith(("clean_", "robust_", "median_distance_")) else f"test_{name}"


def tags(found: dict[int, masking.Findings]) -> dict[str, str]:
    """`masking`: ok, or which checks fail; `masking.CHECK`: ok or FLAG, and the value of the worst seed."""
    sheet = masking.over_seeds(found)
    each = {f"masking.{check.name}": shown(check) for check in sheet.values()}
    return {"masking": ", ".join(masking.failed(sheet)) or "ok", **each}


def shown(check: masking.CheckOverSeeds) -> str:
    return ("ok" if check.ok else "FLAG") + ("" if check.worst.value is None else f" {check.worst.figure}")
