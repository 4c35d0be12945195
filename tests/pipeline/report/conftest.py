"""Run folders written by hand: what every network does is known before the report reads it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import chdir
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from inputgrad import files
from inputgrad.tasks import Classification, Regression
from pipeline import data, layout, store
from pipeline.results.opened import OpenStudy
from pipeline.results.read import Results, read_results
from pipeline.study import origins
from pipeline.study.read import read_study
from pipeline.study.run import Run
from pipeline.study.schema import Study

LOSSES = ["standard", "fgsm", "gradient_norm", "detached_norm"]
STUDY = """\
data: {{name: {data}}}
model: {{name: mlp, hidden: [4]}}
training: {{epochs: 3, batch_size: 64, learning_rate: 0.01, seeds: {seeds}}}
losses:
  standard: {{}}
  fgsm: {{strength: 1.0, epsilon: 0.1}}
  gradient_norm: {{strength: 0.3}}
  detached_norm: {{strength: 0.3}}
attack:
  norm: linf
  epsilon: 0.1
  grid: [0.0, 0.2]
  secondary: {{norm: l2, epsilon: 0.5, grid: [0.5]}}
  attacks: {{noise: {{}}, fgsm: {{}}, pgd: {{steps: 20, restarts: 3}}, {left}: {{}}}}
  at_epsilon: {{{expensive}}}
"""
EXAMPLES = 100
PROBES = ("pgd_10x1", "transfer")
CHECKS = ("monotone", "linearity", "new_check")
"""Two of the masking sheet's checks and one that the report cannot know."""

# loss -> how many of 100 examples noise and fgsm break under attack, for seeds 0, 1, 2; how strongly the term pulls
BROKEN = {
    "standard": ([80, 84, 82], 0.0),
    "fgsm": ([30, 35, 31], 2.0),
    "gradient_norm": ([80, 83, 84], 0.5),
    "detached_norm": ([80, 84, 82], 0.0),
}


def write_study(name: str = "toy", data_name: str = "digits", seeds: tuple[int, ...] = (0, 1, 2)) -> Study:
    """experiments/NAME.yaml and its data in the current folder."""
    Path("experiments").mkdir(exist_ok=True)
    words = {"left": "apgd_t", "expensive": "square: {}, apgd_t: {}"}
    if data_name == "diabetes":
        words = {"left": "random_search", "expensive": ""}
    Path(f"experiments/{name}.yaml").write_text(STUDY.format(data=data_name, seeds=list(seeds), **words))
    study = read_study(name)
    data.prepare(name, study.data)
    return study


def outcomes(study: Study, seed: int, harm: Callable[[str], np.ndarray]) -> pd.DataFrame:
    """`harm` of an attack ('clean' too): per example whether it is broken, or its squared error.

    As in the attack stage, expensive attacks have rows only for the examples that everything before them left standing.
    """
    attack = study.attack
    frames = [rows(("clean", "none", 0.0), harm("clean"), harm)]
    for threat in attack.threat_models:
        standing = harm("clean") <= 0.5
        for epsilon in filter(None, threat.radii):
            here = epsilon == threat.epsilon
            names = [name for name in attack.attacks if not (here and name in attack.at_epsilon)]
            for name in [*names, *([*PROBES, *attack.at_epsilon] if here else [])]:
                everyone = study.task is Regression or name in ("noise", "fgsm", "pgd", *PROBES)
                frame = rows((name, threat.norm, epsilon), harm(name), harm)
                frames.append(frame if everyone else frame[standing])
                if study.task is Classification:
                    standing &= harm(name) <= 0.5
    return pd.concat(frames, ignore_index=True).assign(seed=seed)


def rows(case: tuple[str, str, float], value: np.ndarray, harm: Callable[[str], np.ndarray]) -> pd.DataFrame:
    """One attack at one radius; what is broken was moved by nine tenths of it."""
    attack, norm, epsilon = case
    frame = pd.DataFrame({"example": np.arange(len(value)), "attack": attack, "norm": norm, "epsilon": epsilon})
    frame = frame.assign(broken=value > 0.5, loss_before=harm("clean"), loss_after=value)
    return frame.assign(distance=0.9 * epsilon, overshoot=0.0)


def first(count: int) -> np.ndarray:
    """1 for the first `count` of the examples, else 0."""
    return (np.arange(EXAMPLES) < count).astype(float)


def write_attack(study: Study, loss: str, seed: int, harm: Callable[[str], np.ndarray], gradient: float) -> None:
    """attack/seed-N of one run."""
    target = layout.stage(study.name, loss, "attack") / f"seed-{seed}"
    target.mkdir(parents=True)
    outcomes(study, seed, harm).to_parquet(target / "outcomes.parquet")
    descriptors(seed, gradient).to_parquet(target / "descriptors.parquet")
    files.write_json(target / "masking.json", sheet(seed, flagged=loss == "gradient_norm"))
    dataset = data.read_data(study.name, study.data, ("test",))
    x, y = dataset.x["test"][:2].numpy(), dataset.y["test"][:2].numpy()
    np.savez(target / "gradients.npz", examples=np.arange(2), x=x, y=y, gradients=gradient * (x - 0.3))
    names = ("outcomes.parquet", "descriptors.parquet", "masking.json", "gradients.npz")
    store.seal(target, Run(study, loss, seed).attack_origin, names)


def descriptors(seed: int, gradient: float) -> pd.DataFrame:
    """descriptors.parquet; of the first example a cosine does not exist."""
    norms = gradient * np.linspace(0.5, 1.5, EXAMPLES)
    frame = pd.DataFrame({"example": np.arange(EXAMPLES), "seed": seed, "gradient_norm_l1": 2 * norms})
    alignment = np.where(np.arange(EXAMPLES) == 0, np.nan, 0.1)
    frame = frame.assign(gradient_norm_l2=norms, jacobian_norm=3 * norms, gradient_sparsity=0.4)
    return frame.assign(gradient_alignment=alignment, gradient_stability=0.8)


def sheet(seed: int, flagged: bool) -> dict[str, dict[str, object]]:
    """masking.json; where `flagged`, the linearity of seeds 1 and 2 is, the latter more."""
    good = {"ok": True, "value": 0.0, "threshold": 0.02, "reason": "nothing to see"}
    linear = {"ok": True, "value": 0.1 + seed / 100, "threshold": 0.3, "reason": f"bends by {0.1 + seed / 100:.2f}"}
    if flagged and seed:
        linear |= {"ok": False, "value": 0.3 + seed / 10, "reason": f"bends by {0.3 + seed / 10:.1f}, too far"}
    return dict(zip(CHECKS, (good, linear, {**good, "value": None}), strict=True))


def stronger(harm: dict[str, np.ndarray]) -> Callable[[str], np.ndarray]:
    """The harm of every attack: those that `harm` does not name are no stronger than the last one it does."""
    return lambda attack: harm.get(attack, list(harm.values())[-1])


def write_train(study: Study, loss: str, seed: int, weight: float, pull: float) -> None:
    """train/seed-N of one run, and what is measured of the loss."""
    target = layout.stage(study.name, loss, "train") / f"seed-{seed}"
    target.mkdir(parents=True)
    for name in ("best.pt", "last.pt"):
        store.save_checkpoint(target / name, {"model": {"weight": torch.full((2, 3), weight), "n": torch.tensor(1)}})
    score = study.task.validation_key
    rows = {"epoch": [1, 2, 3], score: [0.5, 0.6, 0.7], "input_gradient_norm": [1.0, 1.0, 2.0]}
    pd.DataFrame(rows).assign(term_gradient_ratio=pull).to_csv(target / "history.csv", index=False)
    store.seal(target, Run(study, loss, seed).origin, ("best.pt", "last.pt", "history.csv"))
    measured = layout.stage(study.name, loss, "measured")
    ratios = {"ratio": 1.5, "low": 1.4, "high": 1.6, "n": 120, "operations": 1.25}
    files.write_json(measured / "step_time.json", ratios)
    files.write_json(measured / "audit.json", {"kind": "depends", "verdict": "It does.", "checks": []})
    store.seal(measured, origins.of_measured(Run(study, loss, 0)), ("step_time.json", "audit.json"))


def write_runs(study: Study, losses: list[str] = LOSSES) -> Study:
    """Every run of the study, with what `BROKEN` says; detached_norm has the weights of standard."""
    for loss in losses:
        for seed in study.training.seeds:
            weight = 100.0 * seed + {"fgsm": 1, "gradient_norm": 2}.get(loss, 0)
            write_train(study, loss, seed, weight, BROKEN[loss][1])
    for loss in losses:
        counts, _ = BROKEN[loss]
        for seed, count in zip(study.training.seeds, counts, strict=False):
            if study.task is Classification:
                harm = {"clean": first(4 + seed), "noise": first(count // 2), "fgsm": first(count)}
            else:
                harm = {"clean": first(EXAMPLES), "noise": first(EXAMPLES), "fgsm": first(EXAMPLES) + count / 10}
            write_attack(study, loss, seed, stronger(harm), gradient=1.0 + count / 100)
    return study


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The study `toy` and its results, written once; tests get copies."""
    with chdir(tmp_path_factory.mktemp("built")):
        write_runs(write_study())
        return Path.cwd()


@pytest.fixture
def study(built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    """The study `toy` and its results, in the current folder, to be damaged at will."""
    shutil.copytree(built, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return read_study("toy")


@pytest.fixture(scope="session")
def results(built: Path) -> Results:
    """What the report reads of `toy`."""
    with chdir(built):
        return read_results(OpenStudy(read_study("toy")), LOSSES)
