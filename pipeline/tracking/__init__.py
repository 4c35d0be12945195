"""MLflow as a view: an experiment per study, a run per loss, a child per seed. The run folders are the truth.

Nothing here changes a result, everything can be said again: `python -m pipeline track` rebuilds a deleted database from
the folders alone. MLflow itself is imported when a function first talks to it, never before.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from inputgrad.errors import UserError
from pipeline.progress import progress
from pipeline.tracking import current, server
from pipeline.tracking.server import database, reason, shown, uri

if TYPE_CHECKING:
    from pipeline.results.opened import OpenStudy
    from pipeline.study.schema import Study


def mirror(study: Study, loss_name: str) -> None:
    """Bring MLflow up to what the folders of one loss hold: its train folder, and its attack folder if it is there.

    A failure is one line on stderr and no exception. This runs at the end of a stage whose results are complete on
    disk: a view that cannot be written must not make DVC throw away hours of training. Where MLflow shows all of the
    study already, as after a stage that found its work finished, it is not even imported.
    """
    if current.is_shown(study.name):
        return
    from pipeline.results.opened import OpenStudy
    from pipeline.tracking import contents

    _or_warn(lambda: contents.mirror_loss(OpenStudy(study), loss_name), f"{study.name}/{loss_name}")


def catch_up(study_names: Iterable[str], opened: Mapping[str, OpenStudy] | None = None) -> None:
    """Bring MLflow up to what is published of these studies now, however it was published; fails like `mirror`.

    Before anything shows MLflow, and at the end of a study: a stage that DVC takes from its cache does not run, and so
    tells MLflow nothing. Takes milliseconds where nothing has changed. A database that is not there shows nothing that
    is wrong; `python -m pipeline ui` makes it.

    Args:
        study_names: files of experiments/.
        opened: those among them that the command has opened already; the others are opened here, if need be.
    """
    if (file := database()) is not None and not file.exists():
        return
    for name in study_names:
        _or_warn(lambda name=name: current.show(name, (opened or {}).get(name)), name)  # type: ignore[misc]


def track(study_names: list[str]) -> None:
    """Rebuild MLflow from the folders of these studies; what it has already is left alone."""
    from pipeline.results.opened import OpenStudy
    from pipeline.study.read import read_study
    from pipeline.tracking import contents

    server.forget()
    server.check()
    studies = {name: OpenStudy(read_study(name)) for name in study_names}
    pairs = [(name, loss) for name, opened in studies.items() for loss in opened.study.losses]
    runs: dict[tuple[str, str], set[str]] = {}  # (study, loss) -> those that show it
    wanted = {name: current.published(name) for name in study_names}
    try:
        with progress("track", len(pairs), lambda: len(runs), "losses"):
            for name, loss in pairs:
                refuse_foreign_attacks(studies[name], loss)
                runs[name, loss] = contents.mirror_loss(studies[name], loss)
            for name, opened in studies.items():
                if wanted[name] or current.shown(name):
                    found = (runs[name, loss] for loss in opened.study.losses)
                    contents.complete(opened, set().union(contents.mirror_report(opened), *found), wanted[name])
    except Exception as error:
        if not server.is_foreign(error):
            raise
        if "disk is full" in str(error):  # nothing of the database is wrong: to delete it would lose what it holds
            fix = "fix: free some space and run again: python -m pipeline track"
            raise UserError(f"MLflow's database cannot be written, the disk is full; {fix}") from error
        why = reason(error)
        then = "then: python -m pipeline track" if "fix: " in why else server.FIX
        raise UserError(f"MLflow does not take the runs ({why}); {then}") from error
    done = sum(map(bool, runs.values()))
    if not done:
        raise UserError(f"no results yet of {', '.join(study_names)}; make them with: dvc repro")
    if missing := [f"{study}/{loss}" for (study, loss), found in runs.items() if not found]:
        print(f"no results yet: {', '.join(missing)}")
    print(f"{done} losses are in {shown(uri())}; look at them with: python -m pipeline ui")


def refuse_foreign_attacks(opened: OpenStudy, loss_name: str) -> None:
    """A stage passes over the attack on an earlier training, for it is repeated later; here nothing is left out."""
    from pipeline.study.run import runs

    for run in runs(opened.study, loss_name):
        if run.folder("attack").exists():
            opened.folder("attack", loss_name, run.seed)


def _or_warn(action: Callable[[], object], what: str) -> None:
    try:
        action()
    except Exception as error:
        again = "the results are safe in experiments/; once that is fixed: python -m pipeline track"
        print(f"warning: {what} is not in MLflow ({reason(error)}); {again}", file=sys.stderr)
