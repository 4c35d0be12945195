"""Apart from training: the time of a step of a loss, and whether the loss acts. No attack depends on it."""

from __future__ import annotations

from pathlib import Path

from inputgrad import files
from inputgrad.gradients.looking import looking
from pipeline import data, store
from pipeline.stages import step_time
from pipeline.stages.audit import of_study
from pipeline.study import origins
from pipeline.study.run import Run

FILES = ("step_time.json", "audit.json")


def measure(run: Run) -> Path:
    """Time a step of the loss and audit it, once for a study and code; returns the folder of both files.

    A time that says nothing, because the machine was too busy, is kept too, and taken again at every later call.
    """
    origin = origins.of_measured(run)
    folder = store.state(origin.fingerprint)
    with store.locked(folder):
        if not (store.is_finished(folder, origin) and is_timed(folder)):
            store.clear(folder)
            dataset = data.read_data(run.study.name, run.study.data, ("train",))
            with looking(run.device, run) as copy:
                files.write_json(folder / "step_time.json", step_time.measure(copy, dataset))
                files.write_json(folder / "audit.json", of_study(copy.study, copy.loss, dataset).as_json())
            store.seal(folder, origin, FILES)
    return folder


def is_timed(folder: Path) -> bool:
    """Whether the time of a step that a folder holds says anything."""
    return store.read_json(folder / "step_time.json", "measure it again")["ratio"] is not None
