"""A net trained elsewhere, attacked on the examples on which the losses of a study are."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch import nn

from inputgrad import files
from inputgrad.audit.given import model_of
from inputgrad.errors import UserError
from inputgrad.robustness import _weights, evaluation
from pipeline import data, fingerprint, store
from pipeline.data import Dataset
from pipeline.results import elsewhere
from pipeline.stages.attack import examples_of
from pipeline.study import origins
from pipeline.study.params import read_in_stage
from pipeline.study.read import read_study
from pipeline.study.run import runs
from pipeline.study.schema import Study


def run(study_name: str, name: str) -> Path:
    """experiments/STUDY/runs/NAME/checkpoint: what `inputgrad.evaluate` writes. Goes on where it was stopped.

    Raises:
        UserError: no such checkpoint, or its weights or outputs do not fit, or something changed meanwhile.
    """
    study = read_in_stage(study_name)
    elsewhere.named(study, name)
    run = runs(study, "standard")[0]
    torch.set_num_threads(1)
    torch.set_deterministic_debug_mode("warn" if run.device.type == "cuda" else "error")
    origin = origins.of_checkpoint(study, name)
    state = store.state(origin.fingerprint)
    with store.locked(state):
        if not store.is_finished(state, origin):
            dataset = data.read_data(study.name, study.data, ("test",)).to(run.device)
            attack_it(study, net_of(study, name, dataset), dataset, state)
            store.seal(state, origin, elsewhere.FILES)
    fingerprint.read_again()
    now = origins.of_checkpoint(read_study(study_name), name)
    if now != origin:
        raise UserError(
            f"checkpoint {name} of {study_name} is {now.difference(vars(origin))}: this changed while the command ran,"
            " so nothing is published; fix: run it again"
        )
    target = elsewhere.folder(study, name)
    store.publish({"": state}, target)
    return target


def net_of(study: Study, name: str, dataset: Dataset) -> nn.Module:
    """The net with its weights, on the study's device."""
    given, run = study.checkpoints[name], runs(study, "standard")[0]
    where = f"{study.file}: checkpoints.{name}"
    try:
        net = run.build(dataset) if given.model is None else model_of(given.model)
        if not isinstance(net, nn.Module):
            raise UserError(f"{given.model} gives a {type(net).__name__}; fix: one torch.nn.Module")
        if given.weights is not None and (note := _weights.load(net, Path(given.weights))):
            print(f"note: {note}", file=sys.stderr)
    except UserError as error:
        raise UserError(f"{where}: {error}") from error
    return net.to(run.device)


def attack_it(study: Study, net: nn.Module, dataset: Dataset, folder: Path) -> None:
    wanted, attack = examples_of(study, dataset), study.attack
    files.remove(folder / evaluation.FACTS)  # of an evaluation that was killed before it was sealed
    evaluation.evaluate(
        net,
        dataset.inputs("test", wanted),
        dataset.y["test"][wanted],
        epsilon=attack.epsilon,
        norm=attack.norm,
        bounds=dataset.context.bounds,
        attack=attack,
        folder=folder,
    )
