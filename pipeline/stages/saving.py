"""What a run has on disk while it trains and when it is finished: checkpoints, history, snapshots of gradients."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch

from inputgrad import files
from inputgrad.errors import UserError
from inputgrad.gradients.descriptors import describe
from inputgrad.gradients.looking import looking
from pipeline import layout, store
from pipeline.study.run import Run, kept_row

if TYPE_CHECKING:
    from pipeline.stages.train import Trainer

FILES = (layout.BEST, layout.LAST, layout.HISTORY, layout.GRADIENTS, layout.RUN)
"""What a finished run consists of."""
ASIDE = "it is set aside, and the run starts from the newest good point"
SHOWN = 8
"""How many validation examples have their input gradients kept."""
SNAPSHOTS = 5
"""At how many epochs they are kept."""


def resume(trainer: Trainer, folder: Path) -> None:
    """Continue from the newest checkpoint that is whole and of this run; any other is set aside, in one line."""
    said: set[str] = set()
    for name in (layout.LAST, layout.PREVIOUS):
        file = folder / name
        if file.exists():
            try:
                state = checkpoint(trainer.run, file)
                refuse_other_best(trainer.run, folder, state["history"])
            except UserError as error:
                file.replace(file.with_suffix(".damaged"))
                if str(error) not in said:  # a damaged best.pt spoils both
                    print(f"note: {error}", file=sys.stderr)
                said.add(str(error))
            else:
                trainer.restore(state)
                return


def checkpoint(run: Run, file: Path) -> dict[str, Any]:
    contents = store.load_checkpoint(file, ASIDE)
    if contents.get("fingerprint") != run.fingerprint:
        raise UserError(f"{file} is a checkpoint of another run; {ASIDE}")
    return contents


def refuse_other_best(run: Run, folder: Path, history: list[dict[str, float]]) -> None:
    """Raise a UserError where best.pt is not that of `history`, nor of a later epoch, which is then written again."""
    found, best = checkpoint(run, folder / layout.BEST)["epoch"], kept_row(run, history)["epoch"]
    if found != best and found <= history[-1]["epoch"]:
        raise UserError(f"{folder / layout.BEST} is of epoch {found}, not of the kept one, {best}; {ASIDE}")


def save_epoch(trainer: Trainer, folder: Path) -> None:
    """Keep the epoch. last.pt is written last: whatever else is newer than it is written again on resuming."""
    row, run = trainer.history[-1], trainer.run
    if trainer.epoch in snapshot_epochs(run.epochs):
        x, y, _ = trainer.dataset.first("validation", SHOWN)
        with looking(run.device, trainer.kept) as model:
            trainer.snapshots[trainer.epoch] = describe(model, x, y)[2].cpu()
    if row is kept_row(run, trainer.history):
        contents = {"model": trainer.kept.state_dict(), "epoch": trainer.epoch, "fingerprint": run.fingerprint}
        store.save_checkpoint(folder / layout.BEST, contents)
    if (folder / layout.LAST).exists():
        with files.replacing(folder / layout.PREVIOUS) as temporary:
            os.link(folder / layout.LAST, temporary)
    store.save_checkpoint(folder / layout.LAST, trainer.state())
    write_history(trainer.history, folder)


def write_history(history: list[dict[str, float]], folder: Path) -> None:
    """history.csv: a view of what last.pt holds, for people and for the progress display."""
    with files.replacing(folder / layout.HISTORY) as temporary:
        pd.DataFrame(history).to_csv(temporary, index=False, encoding="utf-8")


def snapshot_epochs(epochs: int) -> set[int]:
    return {int(e) for e in np.linspace(1, epochs, min(SNAPSHOTS, epochs)).round()}


def finish(trainer: Trainer, folder: Path) -> None:
    """Write what only a finished run has; the manifest comes last and says that the rest is complete."""
    run, validation = trainer.run, (trainer.dataset.inputs("validation"), trainer.dataset.y["validation"])
    refuse_other_best(run, folder, trainer.history)
    write_history(trainer.history, folder)
    with files.replacing(folder / layout.GRADIENTS) as temporary, temporary.open("wb") as f:
        np.savez(
            f,
            allow_pickle=False,
            x=validation[0][:SHOWN].cpu().numpy(),
            y=validation[1][:SHOWN].cpu().numpy(),
            epochs=np.array(sorted(trainer.snapshots)),
            gradients=torch.stack([trainer.snapshots[e] for e in sorted(trainer.snapshots)]).numpy(),
        )
    best = kept_row(run, trainer.history)
    facts = {
        "fingerprint": run.fingerprint,
        **run.settings,
        "task": trainer.dataset.task.name,
        "outputs": trainer.dataset.outputs,
        "parameters": sum(p.numel() for p in trainer.model.parameters()),
        "steps": run.epochs * trainer.steps_per_epoch,
        "best_epoch": best["epoch"],
        "best": best,
        "last": trainer.history[-1],
        "torch": torch.__version__,
        "device": run.device.type,
    }
    files.write_json(folder / layout.RUN, facts)
    files.remove(folder / layout.PREVIOUS)
    store.seal(folder, run.origin, FILES)
