"""The report of a study as a result: what it is made from, and whether it is that of the study as it stands."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pipeline import store
from pipeline.fingerprint import Origin
from pipeline.study import origins
from pipeline.study.run import folder, runs
from pipeline.study.schema import Study


def opened(study: Study) -> Path:
    """experiments/STUDY/report, once it is known to be made from the results of the study as they stand.

    Raises:
        UserError: it is missing, damaged or older; the line names the command that writes it.
    """
    fix = f"fix: dvc repro report@{study.name}; if nothing changes by that: dvc repro -f report@{study.name}"
    return store.opened(study.folder / "report", origin(study), fix)


def origin(study: Study) -> Origin:
    """The study, all results of its losses, and what writes the report."""
    return origins.of_report(study, manifests(study))


def manifests(study: Study) -> Iterator[Path]:
    """Those of every result that a report reads, and the searches that it tells of."""
    yield from sorted((study.folder / "search").glob("**/search.json"))
    for loss in study.losses:
        yield folder(study, loss, "measured") / store.MANIFEST
        for run in runs(study, loss):
            yield from (run.folder(stage) / store.MANIFEST for stage in ("train", "attack"))
