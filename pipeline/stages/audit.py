"""The command `audit`: find what is to be audited, run it, print the table."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from inputgrad.audit import Audit, audit, given
from inputgrad.audit.blame import running
from inputgrad.audit.subject import AnyLoss
from inputgrad.errors import UserError
from inputgrad.gradients.forward import Context
from pipeline import data, models
from pipeline.data import Dataset
from pipeline.stages.optimising import of_training
from pipeline.study.active import active
from pipeline.study.read import read_study
from pipeline.study.run import Run
from pipeline.study.schema import Study


def run(subject: tuple[str, ...], model: str | None, data_of: str | None) -> int:
    """Audit STUDY LOSS, or MODULE:FUNCTION on the batch of a study; prints, and gives the exit code."""
    if len(subject) > 2:
        raise UserError("give STUDY LOSS, or MODULE:FUNCTION")
    foreign = ":" in subject[0]
    if len(subject) == 1 and not foreign:
        raise UserError(f"'{subject[0]}': give STUDY LOSS, or MODULE:FUNCTION for a loss from anywhere")
    study = read_study(data_of or active()[0] if foreign else subject[0])
    loss = given.loss_of(subject[0]) if foreign else study.loss(subject[1])
    if not data.path(study.name).exists():  # nobody who asks for an audit should have to know about stages
        data.prepare(study.name, study.data)
    dataset = data.read_data(study.name, study.data, ("train",))
    title = " ".join(subject)
    net = fresh(study, dataset) if model is None else built(model, dataset)
    with running(title):
        found = audit(loss, net, *batch(study, dataset))
    print(f"audit of {title}\n{found}")
    return 0 if found.depends else 1


def of_study(study: Study, loss: AnyLoss, dataset: Dataset) -> Audit:
    """The audit on the first batch of a study's training split, with its first seed's fresh weights."""
    return audit(loss, fresh(study, dataset), *batch(study, dataset))


def batch(study: Study, dataset: Dataset) -> tuple[Tensor, Tensor, Context]:
    """As the training loop sees it: with label smoothing and class weights, where the study has them."""
    return of_training(study, dataset).first("train", study.training.batch_size)


def fresh(study: Study, dataset: Dataset) -> nn.Module:
    return Run(study, "standard", study.training.seeds[0]).build(dataset).to("cpu")


def built(model: str, dataset: Dataset) -> Any:
    """A model of pipeline/models by name, or what MODULE:FUNCTION gives."""
    if ":" in model:
        return given.model_of(model)
    return models.build({"name": model}, dataset.shape, dataset.outputs)
