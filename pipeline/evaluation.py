"""The attack stage: every attack of the study on the test split, per-example outcomes kept."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from pipeline import data, rooms, store
from pipeline.attacks import Threat, broken
from pipeline.data import Dataset
from pipeline.errors import UserError
from pipeline.forward import Draws, describe, per_example_loss
from pipeline.run import Run, folder

SHARED = ("evaluation.py", "forward.py", "ascent.py", "attacks/__init__.py")
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
        return folder(self.run.study, self.run.loss_name, "train") / f"seed-{self.run.seed}" / "best.pt"

    @cached_property
    def fingerprint(self) -> str:
        """Of the trained weights, the attack's settings and its code."""
        here = Path(__file__).parent
        attack = self.run.study.attack
        code = [here / name for name in SHARED] + [here / "attacks" / f"{name}.py" for name in attack.attacks]
        settings = {"attack": attack.model_dump(mode="json"), "model": self.run.study.model, "torch": torch.__version__}
        return store.hash_of(settings, [*code, self.checkpoint, data.path(self.run.study.name)])

    @property
    def state(self) -> Path:
        """The folder this evaluation works in."""
        return store.state(self.fingerprint)


def evaluate(evaluation: Evaluation) -> Path:
    """Attack one trained run; returns a folder with outcomes.parquet, descriptors.parquet and gradients.npz.

    outcomes: a row per example, attack, norm and ε: `broken`, `loss_before`, `loss_after`.
    descriptors: a row per example: norms of the clean input gradient. gradients: the gradients of a few examples.

    Raises:
        UserError: the checkpoint is missing, corrupt or of another model, or its outputs are not finite.
    """
    torch.set_num_threads(1)
    torch.set_deterministic_debug_mode("warn" if evaluation.run.device.type == "cuda" else "error")
    run, target = evaluation.run, evaluation.state
    with store.locked(target):
        if (target / "gradients.npz").exists():  # written last
            return target
        dataset = data.read(run.study.name, run.study.data["name"], ("test",)).to(run.device)
        model = trained(evaluation, dataset)
        x, y = dataset.x["test"], dataset.y["test"]
        before = state_hash(model)
        outcomes = pd.concat(attack_all(run, model, x, y, dataset), ignore_index=True)
        outcomes.insert(1, "seed", run.seed)
        write_results(run, model, x, y, target, outcomes)
        if state_hash(model) != before:
            raise RuntimeError(f"{run.name}: the attack changed the model it attacks")
    return target


def trained(evaluation: Evaluation, dataset: Dataset) -> nn.Module:
    """The trained model, in eval mode, its parameters frozen."""
    run, file = evaluation.run, evaluation.checkpoint
    mend = f"write it again with: dvc repro -f train@{run.study.name}-{run.loss_name}"
    contents = store.load_checkpoint(file, mend)
    model = run.build(dataset)
    try:
        model.load_state_dict(contents["model"])
    except (KeyError, RuntimeError) as error:
        raise UserError(f"{file} holds another model than {run.study.file} describes; {mend}") from error
    return model.eval().requires_grad_(False)


def attack_all(run: Run, model: nn.Module, x: Tensor, y: Tensor, dataset: Dataset) -> Iterator[pd.DataFrame]:
    """Outcomes on clean inputs, then of every attack at every ε of every threat model; cheap attacks come first."""
    with torch.no_grad():
        outputs = model(x)
    if not torch.isfinite(outputs).all():
        raise UserError(f"{run.name}: the trained model's outputs are not finite; train it with a lower strength")
    clean = per_example_loss(outputs, y)
    yield outcome_rows("clean", "none", 0.0, broken(outputs, y), clean, clean)
    for threat_model in run.study.attack.threat_models:
        for epsilon in filter(None, threat_model.radii):
            threat = Threat(norm=threat_model.norm, epsilon=epsilon, bounds=dataset.context.bounds)
            for name, knobs in run.study.attack.attacks.items():
                draws = Draws(torch.Generator(x.device).manual_seed(seed_of(run.seed, name, threat)))
                moved = rooms.module("attacks", name).perturb(model, x, y, threat, draws, **knobs)
                with torch.no_grad():
                    outputs = model(moved)
                yield outcome_rows(name, threat.norm, epsilon, broken(outputs, y), clean, per_example_loss(outputs, y))


def seed_of(seed: int, attack: str, threat: Threat) -> int:
    """A seed of its own for every (run, attack, threat), whatever ran before it."""
    text = f"{seed} {attack} {threat.norm} {threat.epsilon}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")


def outcome_rows(
    attack: str, norm: str, epsilon: float, is_broken: Tensor, before: Tensor, after: Tensor
) -> pd.DataFrame:
    """One row per example."""
    return pd.DataFrame(
        {
            "example": np.arange(len(before)),
            "attack": attack,
            "norm": norm,
            "epsilon": epsilon,
            "broken": is_broken.cpu().numpy(),
            "loss_before": before.cpu().numpy(),
            "loss_after": after.cpu().numpy(),
        }
    )


def write_results(run: Run, model: nn.Module, x: Tensor, y: Tensor, target: Path, outcomes: pd.DataFrame) -> None:
    """Write the files of an evaluation; gradients.npz comes last and says that the rest is complete."""
    gradients = describe(model, x, y)[2]
    flat = gradients.flatten(1)
    descriptors = pd.DataFrame(
        {
            "example": np.arange(len(x)),
            "seed": run.seed,
            "gradient_norm_l1": flat.norm(p=1, dim=1).cpu().numpy(),
            "gradient_norm_l2": flat.norm(dim=1).cpu().numpy(),
        }
    )
    for name, frame in (("outcomes", outcomes), ("descriptors", descriptors)):
        with store.replacing(target / f"{name}.parquet") as temporary:
            frame.to_parquet(temporary, index=False)
    # which training was attacked: after an edit the old attack lies beside the new weights until it is run again
    store.write_json(target / "evaluation.json", {"run": run.fingerprint})
    shown = shown_examples(y)
    with store.replacing(target / "gradients.npz") as temporary, temporary.open("wb") as f:
        x_np, y_np, g_np = (t[shown].cpu().numpy() for t in (x, y, gradients))
        np.savez(f, allow_pickle=False, examples=shown.numpy(), x=x_np, y=y_np, gradients=g_np)


def shown_examples(y: Tensor) -> Tensor:
    """The first example of each class, at most SHOWN of them; for a regression the first SHOWN examples."""
    if y.is_floating_point():
        return torch.arange(min(SHOWN, len(y)))
    first = [(y == c).nonzero()[0, 0] for c in y.unique()[:SHOWN]]
    return torch.stack(first).cpu()


def state_hash(model: nn.Module) -> str:
    """Hash of all parameters and buffers."""
    digest = hashlib.sha256()
    for key, value in sorted(model.state_dict().items()):
        digest.update(key.encode() + value.detach().cpu().numpy().tobytes())
    return digest.hexdigest()
