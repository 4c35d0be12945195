"""A trained net of a study, in one line: `pipeline.load("digits", "gradient_norm", seed=0)`."""

from __future__ import annotations

from torch import nn

from inputgrad.errors import UserError, nearest
from pipeline import data
from pipeline.stages.attack import trained
from pipeline.study.read import read_study
from pipeline.study.run import Run


def load(study: str, loss: str, *, seed: int | None = None) -> nn.Module:
    """The net that the train stage kept: the epoch with the best validation score, in eval mode, on the study's device.

    It takes inputs as `data/STUDY.npz` holds them (normalisation, if any, is inside the net). Nothing is unpickled.

    Args:
        study: name of a file of experiments/.
        loss: one of the study's losses.
        seed: one of the study's seeds; default: its first.

    Raises:
        UserError: no such study, loss or seed, nothing trained yet, or a training of another study, code or data.
    """
    found = read_study(study)
    if loss not in found.losses:
        raise UserError(f"{found.file}: no loss '{loss}'; {nearest(loss, found.losses)}")
    seeds = found.training.seeds
    if seed is not None and seed not in seeds:
        raise UserError(f"{found.file}: no seed {seed}; fix: one of {', '.join(map(str, seeds))}")
    run = Run(found, loss, seeds[0] if seed is None else seed)
    dataset = data.read_data(found.name, found.data, ("test",))
    return trained(run, dataset).requires_grad_(True)
