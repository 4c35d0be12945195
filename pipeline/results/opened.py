"""The results of a study, checked once: whatever reads results takes an `OpenStudy`, and nothing below checks again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from inputgrad.errors import UserError
from pipeline import layout, store
from pipeline.fingerprint import Origin
from pipeline.study import origins
from pipeline.study.run import Run, runs
from pipeline.study.schema import Study

T = TypeVar("T")


class OpenStudy:
    """The results of a study. A folder is checked when it is first asked for, and is known to be whole from then on.

    Whole: complete, undamaged, and made from study, code and data as they stand; else a UserError in one line names the
    file, what is wrong and the command that repairs it. Only what is asked for is checked, so that a study in the
    middle of its work can be opened too.

    Args:
        study: whose results are read.
        before: the same study, opened when the command began. A folder is checked again only if it has changed since,
            or should be made from something else now.
    """

    def __init__(self, study: Study, before: OpenStudy | None = None) -> None:
        self.study = study
        self._before = before._checked if before else {}
        self._checked: dict[Path, tuple[Origin, store.Stamps]] = {}
        self._origins: dict[tuple[str, str, int | None], Origin] = {}

    def folder(self, stage: str, name: str, seed: int | None = None) -> Path:
        """experiments/STUDY/runs/NAME/STAGE/seed-N, whole; `measured` and `checkpoint` have no seed."""
        place = layout.stage(self.study.name, name, stage)
        place = place if seed is None else place / f"seed-{seed}"
        return self._whole(place, self.origin(stage, name, seed), self.fix(stage, name))

    def read(self, stage: str, name: str, seed: int | None, file: str, how: Callable[[Path], T]) -> T:
        """`how` of a file of a folder; what it cannot read is one line too."""
        path = self.folder(stage, name, seed) / file
        try:
            return how(path)
        except UserError:
            raise
        except Exception as error:  # pandas, pyarrow, NumPy and zipfile raise a dozen types for what they cannot read
            reason = " ".join(str(error).split()) or type(error).__name__
            raise UserError(f"{path} does not hold what it should ({reason}); {self.fix(stage, name)}") from error

    def origin(self, stage: str, name: str, seed: int | None = None) -> Origin:
        """What a folder should be made from; for an attack the trainings that it starts from are checked."""
        key = (stage, name, seed)
        if key not in self._origins:
            self._origins[key] = self._origin(*key)
        return self._origins[key]

    def _origin(self, stage: str, name: str, seed: int | None) -> Origin:
        if stage == "checkpoint":
            return origins.of_checkpoint(self.study, name)
        run = Run(self.study, name, self.study.training.seeds[0] if seed is None else seed)
        if stage == "measured":
            return origins.of_measured(run)
        if stage == "train":
            return run.origin
        return origins.of_attack(run, [self.folder("train", one.loss_name, one.seed) for one in (run, run.source)])

    def fix(self, stage: str, name: str) -> str:
        """The command that repairs a folder."""
        return f"fix: {layout.again('train' if stage == 'measured' else stage, self.study.name, name)}"

    def report(self) -> Path:
        """experiments/STUDY/report, whole: made from the results as they stand, which are checked first."""
        name = self.study.name
        fix = f"fix: dvc repro report@{name}; if nothing changes by that: {layout.again('report', name)}"
        return self._whole(layout.report(self.study.name), self.report_origin(list(self.study.losses)), fix)

    def report_origin(self, losses: Sequence[str]) -> Origin:
        """The study, all results of the losses that are reported, and what writes the report."""
        return origins.of_report(self.study, losses, self.manifests(losses))

    def manifests(self, losses: Sequence[str]) -> Iterator[Path]:
        """Those of every result that a report reads, each checked, and the searches that it tells of."""
        yield from layout.searches(self.study.name)
        for loss in losses:
            for run in runs(self.study, loss):
                yield from (self.folder(stage, loss, run.seed) / layout.MANIFEST for stage in ("train", "attack"))
            yield self.folder("measured", loss) / layout.MANIFEST
        for name in self.study.checkpoints:
            yield self.folder("checkpoint", name) / layout.MANIFEST

    def _whole(self, place: Path, origin: Origin, fix: str) -> Path:
        if place not in self._checked:
            now = (origin, store.stamps(place))  # before it is read: what is replaced meanwhile is noticed
            if self._before.get(place) != now:
                store.opened(place, origin, fix)
            self._checked[place] = now
        return place
