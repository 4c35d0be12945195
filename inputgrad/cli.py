"""The command `inputgrad`: no logic here, and nothing heavy is imported before a command runs."""

from __future__ import annotations

import io
import sys
import traceback
from typing import Any

import click

from inputgrad import _EXTRA, _FIX
from inputgrad.errors import UserError


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """Losses that depend on the input gradient: is yours one? How robust is a model? A published strength in ours."""


@cli.command()
@click.argument("loss", metavar="MODULE:LOSS")
@click.option("--model", required=True, metavar="MODULE:MODEL", help="A torch.nn.Module, or what builds one.")
@click.option("--batch", required=True, metavar="MODULE:BATCH", help="A pair (x, y), or a function that gives it.")
@click.option("--traceback", "whole", is_flag=True, help="Show where your code failed, not only the last line of it.")
def audit(loss: str, model: str, batch: str, whole: bool) -> None:
    """Does a loss, a function of (model, x, y), depend on the input gradient?

    Modules of the current folder are found, and files by their path: src/01_train.py:loss.

    Exit code 0: it does. 1: it does not. 2: the audit could not be done.

    \b
    inputgrad audit my_file:my_loss --model my_file:net --batch my_file:batch
    """  # noqa: D301  click wants the character itself
    from inputgrad.audit import given

    try:
        found = given.run(loss, model, batch)
    except UserError as error:
        if whole and error.__cause__ is not None:
            traceback.print_exception(error.__cause__)
        raise
    click.echo(f"audit of {loss} on {model}\n{found}")
    sys.exit(0 if found.depends else 1)


@cli.command()
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@click.option(
    "--exclude", multiple=True, metavar="GLOB", help="Names or paths to leave out; may be given several times."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of lines.")
def scan(paths: tuple[str, ...], exclude: tuple[str, ...], as_json: bool) -> None:
    """Find the lines where an input gradient becomes a constant in a loss, without running or importing anything.

    Files, notebooks and folders. A line with `# inputgrad: meant` is left out. Exit code 0: nothing was found. 1:
    something was. 2: a path does not exist, or no file could be read.

    \b
    inputgrad scan src train.py --exclude 'tests/*'
    """  # noqa: D301  click wants the character itself
    from inputgrad.scan import scan as scanned

    found = scanned(paths, exclude, tell=(lambda finding: None) if as_json else click.echo)
    for line in found.unread:
        click.echo(f"warning: {line}", err=True)
    click.echo(found.json() if as_json else found.summary)
    sys.exit(found.code)


@cli.command()
@click.argument("model", metavar="MODULE:MODEL")
@click.option("--weights", type=click.Path(dir_okay=False), help="File of a state dict to load into the model.")
@click.option(
    "--data", required=True, metavar="MODULE:DATA", help="A pair (x, y), a Dataset, a DataLoader, or a function."
)
@click.option("--task", type=click.Choice(["classification", "regression"]), help="What y is; default: class numbers.")
@click.option("--norm", type=click.Choice(["linf", "l2"]), default="linf", show_default=True)
@click.option("--epsilon", type=float, required=True, help="Radius of the ball, in the units of x.")
@click.option("--bounds", type=float, nargs=2, default=(0.0, 1.0), show_default=True, help="Admissible inputs.")
@click.option("--no-bounds", is_flag=True, help="Any input is admissible.")
@click.option("--examples", type=click.IntRange(1), help="Only the first so many.")
@click.option("--batch-size", type=click.IntRange(1), help="So many inputs at once at most, for little memory.")
@click.option("--out", type=click.Path(file_okay=False), default="evaluation", show_default=True, help="Folder.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda, …")
def evaluate(model: str, **options: Any) -> None:
    """Attack a trained model with the standard ensemble: its robust score, and whether it can be trusted.

    Modules of the current folder are found, and files by their path: src/net.py:net.

    What is stopped goes on with the same command. Exit code 0: done, and every
    check of the masking sheet is fine. 1: done, and some check is not. 2: it could not be done.

    \b
    inputgrad evaluate my_file:net --weights net.pt --data my_file:test --epsilon 0.1
    """  # noqa: D301  click wants the character itself
    from inputgrad.robustness import command

    found = command.run(model, **options)
    click.echo(str(found))
    sys.exit(0 if found.trusted else 1)


@cli.command()
@click.argument("source")
@click.argument("value", type=float)
@click.option("--batch-size", type=click.IntRange(1), help="N of the source's training.")
@click.option("--epsilon", type=float, help="The source's ε, in [0, 1] units.")
@click.option("--alpha", type=float, help="The source's extra weight α.")
@click.option("--back", is_flag=True, help="From ours to the source's.")
def strength(
    source: str, value: float, batch_size: int | None, epsilon: float | None, alpha: float | None, back: bool
) -> None:
    """Convert a published strength to ours.

    \b
    inputgrad strength ross2018 56234.13 --batch-size 256
    """  # noqa: D301  click wants the character itself
    from inputgrad import strengths

    click.echo(strengths.describe(source, value, strengths.Setting(batch_size, epsilon, alpha), back))


def print_anywhere() -> None:
    """Print ε and λ as escapes where the terminal's encoding has no such letter, instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def main() -> None:
    """Run the command; what a user can fix is one line and exit code 2, never a traceback."""
    print_anywhere()
    try:
        cli.main(standalone_mode=False)
    except click.exceptions.Abort:
        fail("stopped", 130)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except UserError as error:
        fail(str(error))
    except ModuleNotFoundError as error:
        if error.name not in _EXTRA:
            raise
        fail(f"this needs {error.name}; {_FIX}")


def fail(message: str, code: int = 2) -> None:
    click.echo(f"error: {message}", err=True)
    sys.exit(code)
