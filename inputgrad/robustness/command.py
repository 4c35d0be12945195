"""The command `inputgrad evaluate`: the model, its weights and the examples, each named by the user."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from inputgrad.audit.blame import running
from inputgrad.audit.given import built, model_of
from inputgrad.errors import UserError
from inputgrad.gradients.norms import BallNorm
from inputgrad.robustness.evaluation import Evaluation
from inputgrad.robustness.evaluation import evaluate as evaluate_it
from inputgrad.robustness.examples import tensors_of
from inputgrad.robustness.weights import load


def run(
    model: str,
    *,
    weights: str | None,
    data: str,
    task: str | None,
    norm: BallNorm,
    epsilon: float,
    bounds: tuple[float, float],
    no_bounds: bool,
    examples: int | None,
    batch_size: int | None,
    out: str,
    seed: int,
    device: str,
) -> Evaluation:
    """Evaluate MODULE:MODEL on MODULE:DATA; the files go to `out`."""
    if not 0 < epsilon < float("inf"):
        raise UserError(f"--epsilon {epsilon:g}: a radius is a number above 0")
    if not bounds[0] < bounds[1]:
        raise UserError(f"--bounds {bounds[0]:g} {bounds[1]:g}: the first number must be the lower one")
    net = loaded(model_of(model), model, weights)
    x, y = tensors_of(built(data, (tuple, list, Tensor, Dataset, DataLoader)), data, examples)
    try:
        net, x, y = net.to(device), x.to(device), y.to(device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"--device {device}: {' '.join(str(error).split())[:120]}; fix: --device cpu") from error
    with running(model):
        box = None if no_bounds else bounds
        options: dict[str, Any] = {"task": task, "batch_size": batch_size, "seed": seed, "folder": out}
        return evaluate_it(net, x, y, norm=norm, epsilon=epsilon, bounds=box, **options)


def loaded(net: Any, name: str, weights: str | None) -> nn.Module:
    """A net with the weights of a file, where one is given; what was done to them is said on stderr."""
    if not isinstance(net, nn.Module):
        raise UserError(f"{name} gives a {type(net).__name__}; fix: one torch.nn.Module")
    if weights is not None and (note := load(net, Path(weights))):
        print(f"note: {note}", file=sys.stderr)
    return net
