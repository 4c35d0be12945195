"""The attack stage: one trained run in; per-example outcomes, the masking sheet and gradient descriptors out."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn

from inputgrad import files
from inputgrad.attacks import Threat
from inputgrad.errors import UserError
from inputgrad.gradients.descriptors import descriptors
from inputgrad.gradients.forward import Draws
from inputgrad.robustness import masking
from inputgrad.robustness.attacking import Victim, attacked, plan
from pipeline import data, layout, store
from pipeline.data import Dataset, _measures
from pipeline.study.run import Run
from pipeline.study.schema import Study

FILES = (
    *(layout.OUTCOMES, layout.DESCRIPTORS, layout.MASKING),
    *(layout.INPUT_GRADIENTS, layout.GRADIENTS, layout.MEASURES),
)
"""What a finished evaluation consists of."""
STEPS = "steps"
"""The folder of the steps that are finished before the whole is."""
SHOWN = 8
"""How many test examples have their input gradients kept for the pictures."""


@dataclass(frozen=True)
class Evaluation:
    """The attack on one trained run."""

    run: Run

    @property
    def name(self) -> str:
        return self.run.name

    @property
    def fingerprint(self) -> str:
        return self.run.attack_origin.fingerprint

    @property
    def state(self) -> Path:
        return layout.state(self.fingerprint)

    @property
    def steps(self) -> int:
        return len(plan(self.run.study.attack))

    @property
    def done(self) -> int:
        finished = (self.state / layout.MANIFEST).exists()
        return self.steps if finished else len(list((self.state / STEPS).glob("*.parquet")))


def evaluate(evaluation: Evaluation) -> Path:
    """Attack one trained run, from wherever it was left; returns its folder.

    outcomes.parquet: a row per example, attack, norm and ε. descriptors.parquet: a row per example. masking.json: the
    masking sheet. input_gradients.npy: of all attacked examples. gradients.npz: those of a few examples, for pictures.
    measures.json: what the data set's own module measures, name -> number.
    """
    torch.set_num_threads(1)
    torch.set_deterministic_debug_mode("warn" if evaluation.run.device.type == "cuda" else "error")
    run, target = evaluation.run, evaluation.state
    with store.locked(target):
        if not store.is_finished(target, run.attack_origin):
            victim = victim_of(evaluation)
            run.refuse_changes("attack")
            if has_the_weights_of_standard(run, victim):
                share(evaluate(Evaluation(replace(run, loss_name="standard"))), target)
            else:
                attack_it(evaluation, victim, target)
            store.seal(target, run.attack_origin, FILES)
        files.remove(target / STEPS)  # also what a process that was killed after sealing has left
    return target


def attack_it(evaluation: Evaluation, victim: Victim, target: Path) -> None:
    run, before = evaluation.run, state_hash(victim.model)
    measures = _measures.take(run.name, run.study.data, victim.model, run.study.name, run.seed)
    outcomes = attacked(victim, run.study.attack, target / STEPS, evaluation.fingerprint)
    files.write_json(target / layout.MEASURES, measures)
    write_results(run, victim, target, outcomes)
    if state_hash(victim.model) != before:
        store.clear(target)
        raise RuntimeError(f"{evaluation.name}: the attack changed the model it attacks")


def has_the_weights_of_standard(run: Run, victim: Victim) -> bool:
    """Whether the attack on the run without a term, of the same seed, is this one: then it is made once."""
    if run.loss_name == "standard" or run.seed not in run.study.training.seeds:
        return False
    standard = replace(run, loss_name="standard")
    dataset = data.read_data(run.study.name, run.study.data, ("test",)).to(run.device)
    return state_hash(trained(standard, dataset)) == state_hash(victim.model)


def share(folder: Path, target: Path) -> None:
    """Take over the files of the evaluation of the same weights."""
    for name in FILES:
        with files.replacing(target / name) as temporary:
            temporary.write_bytes((folder / name).read_bytes())


def victim_of(evaluation: Evaluation) -> Victim:
    """The model, the source of transfer, and the first `attack.examples` examples of the test split."""
    run = evaluation.run
    dataset = data.read_data(run.study.name, run.study.data, ("test",)).to(run.device)
    wanted = examples_of(run.study, dataset)
    return Victim(
        name=run.name,
        model=trained(run, dataset),
        source=None if run.source == run else trained(run.source, dataset),  # its own weights: no transfer
        x=dataset.inputs("test", wanted),
        y=dataset.y["test"][wanted],
        bounds=dataset.context.bounds,
        seed=run.seed,
        examples={name: values[wanted] for name, values in dataset.known("test").items()},
    )


def examples_of(study: Study, dataset: Dataset) -> slice:
    """Which examples of the test split are attacked: the first `attack.examples`, by default all."""
    refuse_too_many(study, len(dataset.y["test"]))
    return slice(study.attack.examples)


def refuse_too_many(study: Study, there: int) -> None:
    wanted = study.attack.examples
    if wanted is not None and wanted > there:
        raise UserError(
            f"{study.file}: attack.examples: {wanted} asked for, the test split has {there}; fix: at most {there}, or"
            " leave it out"
        )


def trained(run: Run, dataset: Dataset) -> nn.Module:
    fix = f"fix: {layout.again('train', run.study.name, run.loss_name)}"
    file = run.opened("train") / layout.BEST
    contents = store.load_checkpoint(file, fix)
    model = run.build(dataset)
    try:
        model.load_state_dict(contents["model"])
    except (KeyError, RuntimeError) as error:
        raise UserError(f"{file} holds another model than {run.study.file} describes; {fix}") from error
    return model.eval().requires_grad_(False)


def write_results(run: Run, victim: Victim, target: Path, outcomes: pd.DataFrame) -> None:
    """Write the files of an evaluation; the manifest comes last and says that the rest is complete."""
    attack, x, y = run.study.attack, victim.x, victim.y
    threat = Threat(norm=attack.norm, epsilon=attack.epsilon, bounds=victim.bounds)
    draws = Draws(torch.Generator(x.device).manual_seed(run.seed))
    described, gradients = descriptors(victim.model, x, y, threat, draws, victim.examples)
    evidence = masking.evidence(victim, outcomes, described, attack)
    described.insert(0, "example", np.arange(len(x)))
    for name, frame in (("outcomes", outcomes), ("descriptors", described)):
        frame.insert(1, "seed", run.seed)
        with files.replacing(target / f"{name}.parquet") as temporary:
            frame.to_parquet(temporary, index=False)
    files.write_json(target / layout.MASKING, masking.sheet(evidence))
    with files.replacing(target / layout.INPUT_GRADIENTS) as temporary, temporary.open("wb") as f:
        np.save(f, gradients.cpu().numpy(), allow_pickle=False)
    shown = run.study.task.shown(y, SHOWN)
    with files.replacing(target / layout.GRADIENTS) as temporary, temporary.open("wb") as f:
        x_np, y_np, g_np = (t[shown].cpu().numpy() for t in (x, y, gradients))
        np.savez(f, allow_pickle=False, examples=shown.numpy(), x=x_np, y=y_np, gradients=g_np)


def state_hash(model: nn.Module) -> str:
    digest = hashlib.sha256()
    for key, value in sorted(model.state_dict().items()):
        digest.update(key.encode() + value.detach().cpu().numpy().tobytes())
    return digest.hexdigest()
