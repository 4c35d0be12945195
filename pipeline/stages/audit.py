"""The command `audit`: find what is to be audited, run it, print the table."""

from __future__ import annotations

from typing import Any

from torch import nn

from inputgrad import registry
from inputgrad.audit import EXPLANATION, Audit, audit
from inputgrad.audit.subject import AnyLoss
from inputgrad.errors import UserError
from inputgrad.losses import Loss
from pipeline import data, models
from pipeline.data import Dataset
from pipeline.study.params import active
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
    loss = foreign_loss(subject[0]) if foreign else study.loss(subject[1])
    dataset = data.read(study.name, study.data, ("train",))
    found = of_study(study, loss, dataset, model)
    show(" ".join(subject), found)
    return 0 if found.depends else 1


def of_study(study: Study, loss: AnyLoss, dataset: Dataset, model: str | None = None) -> Audit:
    """The audit on the first batch of a study's training split, with its first seed's fresh weights."""
    n = study.training.batch_size
    run = Run(study, "standard", study.training.seeds[0])
    net = run.build(dataset) if model is None else built(model, dataset)
    net = net.to("cpu")
    return audit(loss, net, dataset.x["train"][:n], dataset.y["train"][:n], dataset.context)


def foreign_loss(path: str) -> AnyLoss:
    """A callable (model, x, y) -> scalar; a class of ours is taken with its defaults."""
    found: Any = registry.imported(path)
    if isinstance(found, type) and issubclass(found, Loss):
        return found()
    if not callable(found):
        raise UserError(f"{path} is a {type(found).__name__}, not a function of (model, x, y)")
    return found  # type: ignore[no-any-return]


def built(model: str, dataset: Dataset) -> nn.Module:
    """A model of the room by name, or what MODULE:FUNCTION gives."""
    if ":" not in model:
        net: Any = models.build({"name": model}, dataset.shape, dataset.outputs)
    else:
        net = registry.imported(model)
        net = net if isinstance(net, nn.Module) else net()
    if not isinstance(net, nn.Module):
        raise UserError(f"{model} gives a {type(net).__name__}, not a torch.nn.Module")
    return net


def show(title: str, found: Audit) -> None:
    """The table, the verdict, and where the gradient was a constant, what to write instead."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"audit of {title}", title_justify="left")
    for column in ("check", "", "measured"):
        table.add_column(column, overflow="fold")
    for check in found.checks:
        table.add_row(check.name, "[green]ok[/]" if check.ok else "[red]FAILS[/]", check.figure)
        if not check.ok:
            table.add_row("", "", f"[italic]{check.why}[/]")
    console = Console()
    console.print(table)
    console.print(found.verdict, style="bold", highlight=False)
    if found.kind == "detached":
        print(f"\n{EXPLANATION}")
