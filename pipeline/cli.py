"""python -m pipeline: the commands. No logic here, and nothing heavy is imported before a command runs."""

from __future__ import annotations

import errno
import os
import sys
from typing import Any

import click

from inputgrad.cli import evaluate as inputgrad_evaluate
from inputgrad.cli import print_anywhere, strength
from inputgrad.errors import UserError
from pipeline import completion, interrupts
from pipeline.quiet import NO_TELEMETRY


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """Train with losses that depend on the input gradient, attack the result, report it with intervals.

    \b
    The whole way:      dvc repro
    One study:          dvc repro report@digits
    """  # noqa: D301  click wants the character itself


jobs_option = click.option("--jobs", type=click.IntRange(1), help="Processes; default: the cores of this machine.")


def plain(context: click.Context, parameter: click.Parameter, name: str | None) -> str | None:
    """A name of the command line, or a UserError: it becomes part of paths."""
    from pipeline.study.validation import named

    return name if name is None else named(str(parameter.name), name)


def plain_or_active(context: click.Context, parameter: click.Parameter, names: tuple[str, ...]) -> list[str]:
    """Names of studies; without any, those of params.yaml."""
    from pipeline.study.active import active
    from pipeline.study.validation import named

    return [named("study", name) for name in names] or active()


study_argument = click.argument("study", callback=plain, shell_complete=completion.studies)
studies_argument = click.argument("studies", nargs=-1, callback=plain_or_active, shell_complete=completion.studies)
loss_argument = click.argument("loss", callback=plain, shell_complete=completion.losses)


@cli.command()
@click.option("--write", is_flag=True, help="Bring the generated part of params.yaml up to the studies.")
def check(write: bool) -> None:
    """Validate params.yaml and its studies; nothing is run."""
    from pipeline.study.params import check_all

    for study in check_all(write):
        print(f"{study.file}: {study.task}, {len(study.losses)} losses, {len(study.training.seeds)} seeds: fine")


@cli.command()
def code() -> None:
    """Write code.json: hashes of the code that every stage runs (a DVC stage)."""
    from pipeline import dvc

    print(dvc.write())


@cli.command()
@study_argument
def prepare(study: str) -> None:
    """Write data/STUDY.npz (a DVC stage)."""
    from pipeline.stages import runner

    print(runner.prepare(study))


@cli.command()
@study_argument
@loss_argument
@jobs_option
def train(study: str, loss: str, jobs: int | None) -> None:
    """Train every seed of one loss (a DVC stage). Resumes where it was stopped."""
    from pipeline.stages import runner

    print(runner.train(study, loss, jobs))


@cli.command()
@study_argument
@loss_argument
@jobs_option
def attack(study: str, loss: str, jobs: int | None) -> None:
    """Attack every seed of one loss on the test split (a DVC stage)."""
    from pipeline.stages import runner

    print(runner.attack(study, loss, jobs))


@cli.command()
@study_argument
@click.argument("name", callback=plain)
def checkpoint(study: str, name: str) -> None:
    """Attack a net of the study that was trained elsewhere (a DVC stage)."""
    from pipeline.stages import checkpoint

    print(checkpoint.run(study, name))


@cli.command()
@study_argument
def report(study: str) -> None:
    """Write experiments/STUDY/report (a DVC stage)."""
    from pipeline.stages import runner

    print(runner.report(study))


@cli.command()
@studies_argument
@jobs_option
@click.option("--engine", "name", default="local", show_default=True, help="local, or ray for many machines.")
@click.option("--address", help="Of a Ray cluster, HOST:PORT; default: a Ray of this machine alone.")
@click.option("--gpus-per-task", type=float, help="What each task asks of Ray, such as 0.25: four tasks on a GPU.")
@click.option("--write", is_flag=True, help="First bring the generated part of params.yaml up to the studies.")
def run(
    studies: list[str], jobs: int | None, name: str, address: str | None, gpus_per_task: float | None, write: bool
) -> None:
    """Train and attack all losses of STUDIES (default: those of params.yaml) at once; dvc repro finds them finished."""
    from pipeline import repository
    from pipeline.stages import runner
    from pipeline.study.params import add, check_all
    from pipeline.workers import Engine

    if write:  # dvc repro comes next: what it would refuse after the training is refused now
        repository.refuse_without_git()
        repository.refuse_without_dvc()
        if added := add(studies):
            print(f"params.yaml: {', '.join(added)} added to studies, which dvc repro runs from now on")
        check_all(write)
    engine = Engine(name=name, jobs=jobs, address=address, gpus_per_task=gpus_per_task)
    print("\n".join(runner.run(studies, engine)))


@cli.command("list")
def list_() -> None:
    """Studies, losses, data sets, nets and attacks, a line each."""
    from pipeline import listing

    print("\n".join(listing.lines()))


@cli.command()
@click.argument("kind", type=click.Choice(["study", "loss", "data"]))
@click.argument("name", callback=plain)
def new(kind: str, name: str) -> None:
    """Write a study, a loss or a data set to begin with: it works as it stands, and has a test."""
    from pipeline import skeleton

    print(skeleton.new(kind, name))


@cli.command()
@click.option("--yes", is_flag=True, help="Delete without asking.")
def prune(yes: bool) -> None:
    """Delete states, MLflow runs and cached files that no study uses; shows them first, and asks."""
    from pipeline import pruning

    found = pruning.find()
    print("\n".join(found.lines()))
    if found.any and (yes or click.confirm("delete them?", default=False)):
        print(found.delete())


@cli.command()
def doctor() -> None:
    """Is this machine ready? A line for each thing that a study needs, with the fix. Exit code 1: something is not."""
    from pipeline import doctor

    found = []
    for ok, line in doctor.lines():
        found.append(ok)
        print(line, flush=True)
    sys.exit(0 if all(found) else 1)


cli.add_command(strength)


@cli.command(params=inputgrad_evaluate.params)
def evaluate(model: str, out: str, **options: Any) -> None:
    """Attack a trained model, as `inputgrad evaluate` does, and write a page of it next to the files."""
    from pathlib import Path

    from inputgrad.robustness import command
    from pipeline import evaluated

    found = command.run(model, out=out, **options)
    print(f"{found}\n{evaluated.write(found, model, Path(out))}")
    sys.exit(0 if found.trusted else 1)


@cli.command()
@click.argument("subject", nargs=-1, required=True, metavar="STUDY LOSS | MODULE:FUNCTION")
@click.option("--model", help="Of pipeline/models/, or MODULE:FUNCTION that builds one; default: the study's.")
@click.option("--study", "data_of", help="The study on whose first batch MODULE:LOSS is audited.")
def audit(subject: tuple[str, ...], model: str | None, data_of: str | None) -> None:
    """Does a loss really depend on the input gradient? Exit code 1 when it does not."""
    from pipeline.stages import measured

    sys.exit(measured.audit_command(subject, model, data_of))


@cli.command()
@study_argument
@click.argument("loss", required=False, callback=plain)
@click.option("--all", "everything", is_flag=True, help="Every loss of the study that has something to search.")
@click.option("--trials", type=int, help="In all, those of earlier commands too; default: search.trials of the study.")
@click.option("--workers", type=int, help="Tasks at a time; default: one on each core.")
@click.option("--objective", type=click.Choice(["robust", "pareto"]), default="robust", show_default=True)
@click.option("--storage", "url", default="", help="An Optuna storage URL, or a journal file; default: one per search.")
@click.option("--sampler", type=click.Choice(["tpe", "random"]), default="tpe", show_default=True)
@click.option("--seed", type=int, default=0, show_default=True, help="Of the sampler.")
@click.option("--prune/--no-prune", "prunes", default=True, help="End hopeless trials early (one objective only).")
@click.option("--engine", "name", default="local", show_default=True, help="local, or ray for many machines.")
@click.option("--address", help="Of a Ray cluster, HOST:PORT; default: a Ray of this machine alone.")
@click.option("--gpus-per-task", type=float, help="What each worker asks of Ray, such as 0.25: four on a GPU.")
@click.option("--apply", "writes", is_flag=True, help="Write the best into experiments/STUDY.yaml.")
def search(
    study: str,
    loss: str | None,
    name: str,
    workers: int | None,
    address: str | None,
    gpus_per_task: float | None,
    **options: Any,
) -> None:
    """Search the strength of a loss on the validation split. Ctrl-C keeps what was found; run again to continue."""
    from pipeline.search import command
    from pipeline.workers import Engine

    engine = Engine(name=name, jobs=workers, address=address, gpus_per_task=gpus_per_task)
    command.search(study, loss, engine=engine, **options)


@cli.command()
def docs() -> None:
    """Write docs/losses from the losses' own files."""
    from pipeline import pages

    print("\n".join(map(str, pages.write())))


@cli.command()
@studies_argument
def where(studies: list[str]) -> None:
    """Print where the reports of STUDIES (default: all of params.yaml) are, and bring MLflow up to them."""
    from pipeline import listing, tracking
    from pipeline.results.opened import OpenStudy
    from pipeline.study.read import read_study

    opened = {name: OpenStudy(read_study(name)) for name in studies}
    for study in opened.values():
        print(f"report: {listing.where(study)}")
    tracking.catch_up(opened, opened)


@cli.command()
@studies_argument
def keep(studies: list[str]) -> None:
    """Copy the reports of STUDIES (default: those of params.yaml) to docs/results, which git keeps."""
    from pipeline import kept

    for study in studies:
        print(kept.keep(study))


@cli.command()
def track() -> None:
    """Rebuild MLflow's database from the run folders."""
    from pipeline import tracking
    from pipeline.study.active import active

    tracking.track(active())


@cli.command()
@click.option("--port", type=click.IntRange(1, 65535), default=5000, show_default=True)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
def ui(port: int, host: str) -> None:
    """Open the MLflow UI."""
    from pipeline.tracking import ui as mlflow_ui

    mlflow_ui.serve(port, host)


@cli.command("completion")
def print_completion() -> None:
    """Print what completes these commands in bash: eval "$(python -m pipeline completion)"."""
    print(completion.SCRIPT, end="")


def main() -> None:
    """Run the command; what a user can fix is one line and exit code 2, never a traceback."""
    print_anywhere()
    os.environ.update({key: os.environ.get(key, value) for key, value in NO_TELEMETRY.items()})
    if (instruction := completion.asked()) is not None:
        sys.exit(completion.answer(cli, instruction))
    try:  # not cli.main(), which makes an exception of its own and an empty line of an interrupt
        with cli.make_context("python -m pipeline", sys.argv[1:]) as context:
            cli.invoke(context)
    except click.exceptions.Exit as done:
        sys.exit(done.exit_code)
    except KeyboardInterrupt:
        fail(interrupts.LINE, interrupts.CODE)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except UserError as error:
        fail(str(error))
    except BrokenPipeError:  # the reader of a pipe has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EROFS):
            raise
        fail(f"{error.filename or 'writing'}: {error.strerror}; nothing was left half-written; fix it and run again")


def fail(message: str, code: int = 2) -> None:
    """One line on stderr, and the exit code; after an interrupt, whatever it has turned into, always the same."""
    if interrupts.noted is not None:
        interrupts.end()
    print(f"error: {message}", file=sys.stderr)
    sys.exit(code)
