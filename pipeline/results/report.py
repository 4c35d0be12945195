"""The report of a study as a result: what it is made from, and whether it is that of the study as it stands."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from pipeline import store
from pipeline.fingerprint import Origin
from pipeline.results import elsewhere
from pipeline.results.files import measured_folder
from pipeline.study import origins
from pipeline.study.run import runs
from pipeline.study.schema import Study


def opened(study: Study) -> Path:
    """experiments/STUDY/report, once it is known to be made from the results of the study as they stand."""
    fix = f"fix: dvc repro report@{study.name}; if nothing changes by that: dvc repro -f report@{study.name}"
    return store.opened(study.folder / "report", origin(study, list(study.losses)), fix)


def origin(study: Study, losses: Sequence[str]) -> Origin:
    """The study, the results of the losses that are reported, and what writes the report."""
    return origins.of_report(study, losses, manifests(study, losses))


def manifests(study: Study, losses: Sequence[str]) -> Iterator[Path]:
    """Those of every result that a report reads, each checked, and the searches that it tells of."""
    yield from sorted((study.folder / "search").glob("**/search.json"))
    for loss in losses:
        for run in runs(study, loss):
            yield from (run.opened(stage) / store.MANIFEST for stage in ("train", "attack"))
        yield measured_folder(study, loss) / store.MANIFEST
    for name in study.checkpoints:
        yield elsewhere.opened(study, name) / store.MANIFEST
