"""The attack stage: one trained run in; per-example outcomes, the masking sheet and gradient descriptors out."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn

from inputgrad import files
from inputgrad.attacks import Threat
from inputgrad.errors import UserError
from inputgrad.gradients.descriptors import descriptors
from inputgrad.gradients.forward import Draws, describe
from inputgrad.robustness import masking
from inputgrad.robustness.evaluate import Victim, attacked, plan
from pipeline import data, store
from pipeline.data import Dataset
from pipeline.study.run import Run, folder

SHARED = (
    "pipeline/stages/attack.py",
    "inputgrad/robustness/evaluate.py",
    "inputgrad/gradients/descriptors.py",
    "inputgrad/gradients/forward.py",
    "inputgrad/gradients/ascent.py",
    "inputgrad/gradients/norms.py",
    "inputgrad/tasks.py",
)
ROOMS = ("inputgrad/attacks", "inputgrad/robustness/masking")
SHOWN = 8
"""How many test examples have their input gradients kept for the pictures."""


@dataclass(frozen=True)
class Evaluation:
    """The attack on one trained run."""

    run: Run

    @property
    def name(self) -> str:
        """For messages."""
        return self.run.name

    @property
    def checkpoint(self) -> Path:
        """The weights that are attacked: the best epoch by validation score."""
        return checkpoint_of(self.run)

    @property
    def source(self) -> Run:
        """The run that transfer starts from: `standard` with the next seed, so that another net is attacked."""
        seeds = self.run.study.training.seeds
        return Run(self.run.study, "standard", seeds[(seeds.index(self.run.seed) + 1) % len(seeds)])

    @cached_property
    def fingerprint(self) -> str:
        """Of the trained weights, the attack's settings and its code."""
        here = Path(__file__).parents[2]
        code = [here / name for name in SHARED] + [file for room in ROOMS for file in (here / room).glob("*.py")]
        settings = {
            "attack": self.run.study.attack.model_dump(mode="json"),
            "model": self.run.study.model,
            "seed": self.run.seed,
            "versions": {name: version(name) for name in ("torch", "pyautoattack")},
        }
        files = [self.checkpoint, checkpoint_of(self.source), data.path(self.run.study.name)]
        return store.hash_of(settings, [*code, *files])

    @property
    def state(self) -> Path:
        """The folder this evaluation works in."""
        return store.state(self.fingerprint)

    @property
    def steps(self) -> int:
        """How many steps the evaluation has."""
        return len(plan(self.run.study.attack))

    @property
    def done(self) -> int:
        """How many of them are behind it."""
        return self.steps if (self.state / FINISHED).exists() else len(list((self.state / STEPS).glob("*.parquet")))


FINISHED, STEPS = "gradients.npz", "steps"
"""The file that is written last, and the folder of the steps that are finished before it."""


def checkpoint_of(run: Run) -> Path:
    """best.pt of a published training."""
    return folder(run.study, run.loss_name, "train") / f"seed-{run.seed}" / "best.pt"


def evaluate(evaluation: Evaluation) -> Path:
    """Attack one trained run, from wherever it was left; returns its folder.

    outcomes.parquet: a row per example, attack, norm and ε. descriptors.parquet: a row per example. masking.json: the
    masking sheet. input_gradients.npy: of all attacked examples. gradients.npz: those of a few examples, for pictures.

    Raises:
        UserError: a checkpoint is missing, corrupt or of another model, or the model's outputs are not finite, or the
            test split has fewer examples than the study asks for.
    """
    torch.set_num_threads(1)
    torch.set_deterministic_debug_mode("warn" if evaluation.run.device.type == "cuda" else "error")
    run, target = evaluation.run, evaluation.state
    with store.locked(target):
        if (target / FINISHED).exists():
            return target
        victim = victim_of(evaluation)
        before = state_hash(victim.model)
        write_results(run, victim, target, attacked(victim, run.study.attack, target / STEPS))
        if state_hash(victim.model) != before:
            files.remove(target)
            raise RuntimeError(f"{run.name}: the attack changed the model it attacks")
        files.remove(target / STEPS)
    return target


def victim_of(evaluation: Evaluation) -> Victim:
    """The model, the source of transfer, and the first `attack.examples` examples of the test split."""
    run = evaluation.run
    dataset = data.read(run.study.name, run.study.data["name"], ("test",)).to(run.device)
    x, y, wanted = dataset.x["test"], dataset.y["test"], run.study.attack.examples
    if wanted is not None and wanted > len(x):
        raise UserError(f"{run.study.file}: attack.examples: {wanted} asked for, the test split has {len(x)}")
    return Victim(
        name=run.name,
        model=trained(run, dataset),
        source=trained(evaluation.source, dataset),
        x=x[:wanted],
        y=y[:wanted],
        bounds=dataset.context.bounds,
        seed=run.seed,
    )


def trained(run: Run, dataset: Dataset) -> nn.Module:
    """The trained model, in eval mode, its parameters frozen."""
    file = checkpoint_of(run)
    fix = f"write it again with: dvc repro -f train@{run.study.name}-{run.loss_name}"
    contents = store.load_checkpoint(file, fix)
    model = run.build(dataset)
    try:
        model.load_state_dict(contents["model"])
    except (KeyError, RuntimeError) as error:
        raise UserError(f"{file} holds another model than {run.study.file} describes; {fix}") from error
    return model.eval().requires_grad_(False)


def write_results(run: Run, victim: Victim, target: Path, outcomes: pd.DataFrame) -> None:
    """Write the files of an evaluation; gradients.npz comes last and says that the rest is complete."""
    attack, x, y = run.study.attack, victim.x, victim.y
    threat = Threat(norm=attack.norm, epsilon=attack.epsilon, bounds=victim.bounds)
    draws = Draws(torch.Generator(x.device).manual_seed(run.seed))
    described, gradients = descriptors(victim.model, x, y, threat, draws)
    evidence = masking.Evidence(
        outcomes=outcomes, descriptors=described, attack=attack, task=run.study.task, change=change(victim)
    )
    described.insert(0, "example", np.arange(len(x)))
    for name, frame in (("outcomes", outcomes), ("descriptors", described)):
        frame.insert(1, "seed", run.seed)
        with files.replacing(target / f"{name}.parquet") as temporary:
            frame.to_parquet(temporary, index=False)
    files.write_json(target / "masking.json", masking.sheet(evidence))
    # which training was attacked: after an edit the old attack lies beside the new weights until it is run again
    files.write_json(target / "evaluation.json", {"run": run.fingerprint})
    with files.replacing(target / "input_gradients.npy") as temporary, temporary.open("wb") as f:
        np.save(f, gradients.cpu().numpy(), allow_pickle=False)
    shown = run.study.task.shown(y, SHOWN)
    with files.replacing(target / FINISHED) as temporary, temporary.open("wb") as f:
        x_np, y_np, g_np = (t[shown].cpu().numpy() for t in (x, y, gradients))
        np.savez(f, allow_pickle=False, examples=shown.numpy(), x=x_np, y=y_np, gradients=g_np)


def change(victim: Victim) -> float:
    """The largest relative difference of outputs and of input gradients between two passes over the same inputs."""
    first, second = (describe(victim.model, victim.x, victim.y) for _ in range(2))
    pairs = ((first[0], second[0]), (first[2], second[2]))
    return max(float((a - b).abs().max() / a.abs().max().clamp_min(torch.finfo(a.dtype).tiny)) for a, b in pairs)


def state_hash(model: nn.Module) -> str:
    """Hash of all parameters and buffers."""
    digest = hashlib.sha256()
    for key, value in sorted(model.state_dict().items()):
        digest.update(key.encode() + value.detach().cpu().numpy().tobytes())
    return digest.hexdigest()
