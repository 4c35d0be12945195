"""A net trained elsewhere, attacked on the examples on which the losses of a study are."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from inputgrad import files
from inputgrad.audit.given import model_of
from inputgrad.errors import UserError, nearest
from inputgrad.robustness import command, evaluation
from pipeline import data, fingerprint, layout, store
from pipeline.data import Dataset
from pipeline.stages.attack import examples_of
from pipeline.study import origins
from pipeline.study.params import read_in_stage
from pipeline.study.read import read_study
from pipeline.study.run import runs
from pipeline.study.schema import Study

FILES = (layout.OUTCOMES, layout.DESCRIPTORS, layout.INPUT_GRADIENTS, layout.MASKING, layout.EVALUATION)
"""What an evaluation consists of; see `inputgrad.robustness.evaluation.write`."""


def run(study_name: str, name: str) -> Path:
    """experiments/STUDY/runs/NAME/checkpoint: what `inputgrad.evaluate` writes. Goes on where it was stopped.

    Raises:
        UserError: no such checkpoint, or its weights or outputs do not fit, or something changed meanwhile.
    """
    study = read_in_stage(study_name)
    if name not in study.checkpoints:
        raise UserError(f"{study.file}: checkpoints: no '{name}'; {nearest(name, study.checkpoints)}")
    run = runs(study, "standard")[0]
    torch.set_num_threads(1)
    torch.set_deterministic_debug_mode("warn" if run.device.type == "cuda" else "error")
    origin = origins.of_checkpoint(study, name)
    state = layout.state(origin.fingerprint)
    with store.locked(state):
        if not store.is_finished(state, origin):
            dataset = data.read_data(study.name, study.data, ("test",)).to(run.device)
            attack_it(study, net_of(study, name, dataset), dataset, state)
            store.seal(state, origin, FILES)
    fingerprint.read_again()
    now = origins.of_checkpoint(read_study(study_name), name)
    if now != origin:
        raise UserError(
            f"checkpoint {name} of {study_name} is {now.difference(vars(origin))}: this changed while the command ran,"
            " so nothing is published; fix: run it again"
        )
    target = layout.stage(study.name, name, "checkpoint")
    store.publish({"": state}, target)
    return target


def net_of(study: Study, name: str, dataset: Dataset) -> nn.Module:
    """The net with its weights, on the study's device."""
    given, run = study.checkpoints[name], runs(study, "standard")[0]
    where = f"{study.file}: checkpoints.{name}"
    try:
        if given.model is None:
            return command.loaded(run.build(dataset), "the study's net", given.weights)
        return command.loaded(model_of(given.model), given.model, given.weights).to(run.device)
    except UserError as error:
        raise UserError(f"{where}: {error}") from error


def attack_it(study: Study, net: nn.Module, dataset: Dataset, target: Path) -> None:
    wanted, attack = examples_of(study, dataset), study.attack
    files.remove(target / evaluation.FACTS)  # of an evaluation that was killed before it was sealed
    evaluation.evaluate(
        net,
        dataset.inputs("test", wanted),
        dataset.y["test"][wanted],
        epsilon=attack.epsilon,
        norm=attack.norm,
        bounds=dataset.context.bounds,
        attack=attack,
        task=dataset.task.name,
        folder=target,
    )
