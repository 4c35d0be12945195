"""What can be known of a study once its data are there is said before anything is trained, not hours later."""

from __future__ import annotations

import torch

from inputgrad.errors import UserError
from inputgrad.robustness import given
from inputgrad.robustness.settings import attack_module
from pipeline import data
from pipeline.data import Dataset
from pipeline.stages import checkpoint, measured
from pipeline.stages.attack import refuse_too_many
from pipeline.stages.train import Trainer, one_step
from pipeline.stages.training_options import of_training
from pipeline.study.checks import ATTACKS
from pipeline.study.run import Run
from pipeline.study.schema import Study

FEW = 8
"""Examples of a rehearsal, unless the last batch of an epoch has fewer."""


def check(study: Study) -> None:
    """Raise a UserError for what a later stage would refuse: attacks, examples, training options, nets from elsewhere.

    Takes no gradient: a process that has may not be forked.
    """
    dataset = data.read_data(study.name, study.data, ("train",))
    refuse_too_many(study, dataset.counts["test"])
    for section, key in ATTACKS:
        for name, knobs in (getattr(getattr(study, section), key) or {}).items():
            try:
                attack_module(name, knobs).TRAITS.refuse(name, dataset.shape, dataset.outputs)
            except UserError as error:
                raise UserError(f"{study.file}: {section}.{key}: {error}") from error
    of_training(study, dataset)
    for name in study.checkpoints:
        check_checkpoint(study, name, dataset)


def check_checkpoint(study: Study, name: str, dataset: Dataset) -> None:
    """Its weights are there and fit, and it takes the inputs of the data and gives outputs of their form."""
    torch.set_num_threads(1)  # threads of this process would hold up those that are forked from it
    net = checkpoint.net_of(study, name, dataset)
    few = dataset.to(next((p.device for p in net.parameters()), "cpu"))
    x, y, context = few.first("train", FEW)
    try:
        given.checked(net, x, y, context.bounds, task=dataset.task.name)
    except UserError as error:
        raise UserError(f"{study.file}: checkpoints.{name}: {error}") from error


def rehearse(run: Run) -> None:
    """A step of a training that is thrown away, and the audit of a loss of one's own: what fails in it fails at once.

    Raises:
        UserError: in one line, whatever the loss, the net or the data raise.
    """
    torch.set_num_threads(1)
    study, dataset = run.study, data.read_data(run.study.name, run.study.data, ("train",))
    n = min(FEW, dataset.counts["train"] % study.training.batch_size or study.training.batch_size)
    where = f"{study.file}: losses.{run.loss_name}: a step of training on {n} examples"
    try:
        with torch.random.fork_rng():
            trainer = Trainer.fresh(run, dataset)
            trainer.model.train()
            if not study.training.compile:  # a graph of its own, for a minute
                known = {name: t[:n] for name, t in trainer.dataset.known("train").items()}
                one_step(trainer, torch.arange(n, device=run.device), run.loss.strength, known)
        if "use" in study.stated(run.loss_name):
            measured.of_study(study, run.loss, dataset)
    except UserError as error:
        raise error if str(error).startswith(str(study.file)) else UserError(f"{where}: {error}") from error
    except Exception as error:  # whatever the code of a loss or a net raises
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"{where} fails ({type(error).__name__}: {reason}); fix: the loss, the model or training.batch_size; to see"
            f" where: python -m pipeline audit {study.name} {run.loss_name}"
        ) from error
