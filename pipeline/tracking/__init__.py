"""MLflow as a view: an experiment per study, a run per loss, a child per seed. The run folders are the truth.

Nothing here changes a result, everything can be said again: `python -m pipeline track` rebuilds a deleted database from
the folders alone. MLflow itself is imported when a function first talks to it, never before.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

from inputgrad.errors import UserError
from pipeline.progress import progress
from pipeline.study.read import read_study
from pipeline.study.run import runs
from pipeline.study.schema import Study
from pipeline.tracking.address import reason, shown, uri
from pipeline.tracking.live import following

__all__ = ["following", "mirror", "mirror_report", "track"]


def mirror(study: Study, loss_name: str) -> None:
    """Bring MLflow up to what the folders of one loss hold: its train folder, and its attack folder if it is there.

    A failure is one line on stderr and no exception. This runs at the end of a stage whose results are complete on
    disk: a view that cannot be written must not make DVC throw away hours of training.
    """
    from pipeline.tracking import contents

    _or_warn(lambda: contents.mirror_loss(study, loss_name), f"{study.name}/{loss_name}")


def mirror_report(study: Study) -> None:
    """Put the report of a study into MLflow and its intervals next to the losses; fails like `mirror`."""
    from pipeline.tracking import contents

    _or_warn(lambda: contents.mirror_report(study), f"the report of {study.name}")


def track(study_names: list[str]) -> None:
    """Rebuild MLflow from the folders of these studies; what it has already is left alone."""
    from pipeline.tracking import contents, search, server, silence

    silence.forget()
    studies = [read_study(name) for name in study_names]
    pairs = [(study, name) for study in studies for name in study.losses]
    done: list[str] = []
    missing: list[str] = []
    try:
        with progress("track", len(pairs), lambda: len(done) + len(missing), "losses"):
            for study, name in pairs:
                refuse_foreign_attacks(study, name)
                found = contents.mirror_loss(study, name)
                (done if found else missing).append(f"{study.name}/{name}")
            for study in studies:
                contents.mirror_report(study)
                for folder in search.folders(study):
                    search.mirror(folder)
    except Exception as error:
        if not server.is_foreign(error):
            raise
        raise UserError(f"MLflow does not take the runs ({reason(error)}); {server.FIX}") from error
    if not done:
        raise UserError(f"no results yet of {', '.join(study_names)}; make them with: dvc repro")
    if missing:
        print(f"no results yet: {', '.join(missing)}")
    print(f"{len(done)} losses are in {shown(uri())}; look at them with: python -m pipeline ui")


def refuse_foreign_attacks(study: Study, loss_name: str) -> None:
    """A stage passes over the attack on an earlier training, for it is repeated later; here nothing is left out."""
    for run in runs(study, loss_name):
        if run.folder("attack").exists():
            run.opened("attack")


def _or_warn(action: Callable[[], bool], what: str) -> None:
    try:
        action()
    except Exception as error:
        again = "the results are safe in experiments/; once that is fixed: python -m pipeline track"
        print(f"warning: {what} is not in MLflow ({reason(error)}); {again}", file=sys.stderr)
