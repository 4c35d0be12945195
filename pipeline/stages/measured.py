"""Apart from training: the time of a step of a loss, and whether the loss acts. No attack depends on it."""

from __future__ import annotations

from pathlib import Path

from inputgrad import files
from pipeline import data, store
from pipeline.stages import step_time
from pipeline.stages.audit import of_study
from pipeline.study import origins
from pipeline.study.run import Run

FILES = ("step_time.json", "audit.json")


def measure(run: Run) -> Path:
    """Time a step of the loss and audit it, once for a study, code and machine; returns the folder of both files."""
    origin = origins.of_measured(run)
    folder = store.state(origin.fingerprint)
    with store.locked(folder):
        if not store.is_finished(folder, origin):
            dataset = data.read_data(run.study.name, run.study.data, ("train",))
            files.write_json(folder / "step_time.json", step_time.measure(run, dataset))
            files.write_json(folder / "audit.json", of_study(run.study, run.loss, dataset).as_json())
            store.seal(folder, origin, FILES)
    return folder
