"""Apart from training: what a step of a loss costs, and whether the loss acts. No attack depends on it.

A step is timed relative to one of `standard`: the two in turn, in one process, on the same batch.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from inputgrad import Step, files
from inputgrad.audit import Audit, audit, given
from inputgrad.audit.blame import running
from inputgrad.audit.subject import AnyLoss
from inputgrad.errors import UserError
from inputgrad.gradients.forward import Context
from inputgrad.gradients.looking import looking
from pipeline import data, layout, models, store
from pipeline.data import Dataset
from pipeline.stages.train import Trainer, one_step
from pipeline.stages.training_options import of_training
from pipeline.study import origins
from pipeline.study.active import active
from pipeline.study.read import read_study
from pipeline.study.run import Run
from pipeline.study.schema import Study

FILES = (layout.STEP_TIME, layout.AUDIT)
ROUNDS, FEWEST = 120, 40
"""A round is a step of each loss. A large net gets fewer of them, since a long step averages over more by itself."""
SECONDS = 60.0
"""Of measuring, after which `FEWEST` rounds are enough."""
WARM_UP = 5
BLOCK, DRAWS = 5, 1000
"""Of the bootstrap: rounds that stay together, as the load of a machine does, and how often blocks are drawn."""
LIMIT = 0.1
"""A ratio whose interval reaches further than this share of it to either side, in the mean, says nothing."""

Numbers = dict[str, float | None]


def measure(run: Run) -> Path:
    """Time a step of the loss and audit it, once for a study and code; returns the folder of both files.

    A time that says nothing, because the machine was too busy, is kept too, and taken again at every later call.
    """
    origin = origins.of_measured(run)
    folder = layout.state(origin.fingerprint)
    with store.locked(folder):
        if not (store.is_finished(folder, origin) and is_timed(folder)):
            store.clear(folder)
            dataset = data.read_data(run.study.name, run.study.data, ("train",))
            with looking(run.device, run) as copy:
                files.write_json(folder / layout.STEP_TIME, step_time(copy, dataset))
                files.write_json(folder / layout.AUDIT, of_study(copy.study, copy.loss, dataset).as_json())
            store.seal(folder, origin, FILES)
    return folder


def state(run: Run) -> Path:
    """Where both files of the run's loss are made."""
    return layout.state(origins.of_measured(run).fingerprint)


def is_known(run: Run) -> bool:
    """Whether both files are there, and the time says something."""
    return store.is_whole(state(run), origins.of_measured(run).fingerprint) and is_timed(state(run))


def is_timed(folder: Path) -> bool:
    """Whether the time of a step that a folder holds says anything."""
    return store.read_json(folder / layout.STEP_TIME, "measure it again")["ratio"] is not None


def step_time(run: Run, dataset: Dataset) -> Numbers:
    """Seconds of a step, their ratio to a step of `standard`, and the ratio of the operations, which has no noise."""
    torch.set_num_threads(1)
    both = [Run(run.study, "standard", run.seed), run]
    found = estimate(in_turn([Steps(one, dataset) for one in both]))
    plain, own = (operations(one, dataset) for one in both)
    return {**found, "operations": own / plain if plain else None}


def estimate(seconds: np.ndarray) -> Numbers:
    """The ratio of the lower quartiles with its 95 % interval, from the seconds of each round, (n, 2).

    A neighbour on the machine can only make a step slower, and its lower quartile least of all. The interval is that
    of a bootstrap over blocks of rounds. `ratio` is None where the interval is so wide that it would mean nothing.
    """
    n = len(seconds) // BLOCK * BLOCK
    blocks = seconds[:n].reshape(-1, BLOCK, 2)
    drawn = np.random.default_rng(0).integers(len(blocks), size=(DRAWS, len(blocks)))
    low, high = np.quantile([ratio_of(blocks[some].reshape(-1, 2)) for some in drawn], [0.025, 0.975])
    ratio = ratio_of(seconds)
    plain, own = np.quantile(seconds, 0.25, axis=0)
    return {
        "seconds_per_step_standard": float(plain),
        "seconds_per_step": float(own),
        "ratio": None if (high - low) / 2 > LIMIT * ratio else ratio,
        "low": float(low),
        "high": float(high),
        "n": len(seconds),
    }


def ratio_of(seconds: np.ndarray) -> float:
    plain, own = np.quantile(seconds, 0.25, axis=0)
    return float(own / plain)


def in_turn(both: list[Steps]) -> np.ndarray:
    """Seconds of a step of both in every round, (n, 2); the one that comes second comes first in the next round."""
    for _ in range(WARM_UP):
        for steps in both:
            steps()
    found: list[list[float]] = []
    while len(found) < FEWEST or (len(found) < ROUNDS and np.sum(found) < SECONDS):
        order = (0, 1) if len(found) % 2 else (1, 0)
        taken = {which: timed(both[which]) for which in order}
        found.append([taken[0], taken[1]])
    return np.array(found)


class Steps:
    """Training steps of a run on the first batch, as the training loop takes them: with all that the study asks for.

    A call takes one step, or `every` of them where the loss leaves its term out of all but one.
    """

    def __init__(self, run: Run, dataset: Dataset) -> None:
        self.trainer = Trainer.fresh(run, dataset)
        self.trainer.schedule = None  # it ends with the training's own steps
        self.trainer.model.train()
        known = self.trainer.dataset.known("train")
        size = min(run.study.training.batch_size, len(self.trainer.dataset.y["train"]))
        self.batch = torch.arange(size, device=run.device)
        self.examples = {name: values[self.batch] for name, values in known.items()}
        self.strengths = [run.loss.strength_at(step, math.inf) for step in range(run.loss.period)]

    def __call__(self) -> None:
        for strength in self.strengths:
            one_step(self.trainer, self.batch, strength, self.examples)


def timed(steps: Steps) -> float:
    """Seconds of one step: those that this thread computed, whatever else the machine does; a GPU has its own clock."""
    return clock(steps, steps.trainer.run.device) / len(steps.strengths)


def clock(work: Callable[[], None], device: torch.device) -> float:
    if device.type != "cuda":
        before = time.thread_time()
        work()
        return time.thread_time() - before
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    work()
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end)) / 1000


class Operations(TorchDispatchMode):
    """Counts multiplications and additions; FlopCounterMode itself follows modules and stops at `autograd.grad`."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if (count := flop_registry.get(func._overloadpacket)) is not None:
            self.total += count(*args, **(kwargs or {}), out_val=out)
        return out


def operations(run: Run, dataset: Dataset) -> float:
    """Of one step, by products of matrices and convolutions; 0 for a net that has neither. Compiled it has as many."""
    steps = Steps(run, dataset)
    steps.trainer.step = Step(run.loss, steps.trainer.model, steps.trainer.dataset.context)
    with Operations() as counter:
        steps()
    return float(counter.total) / len(steps.strengths)


def audit_command(subject: tuple[str, ...], model: str | None, data_of: str | None) -> int:
    """Audit STUDY LOSS, or MODULE:FUNCTION on the batch of a study; prints, and gives the exit code."""
    if len(subject) > 2:
        raise UserError("give STUDY LOSS, or MODULE:FUNCTION")
    foreign = ":" in subject[0]
    if len(subject) == 1 and not foreign:
        raise UserError(f"'{subject[0]}': give STUDY LOSS, or MODULE:FUNCTION for a loss from anywhere")
    study = read_study(data_of or active()[0] if foreign else subject[0])
    loss = given.loss_of(subject[0]) if foreign else study.loss(subject[1])
    if not layout.data(study.name).exists():  # nobody who asks for an audit should have to know about stages
        data.prepare(study.name, study.data)
    dataset = data.read_data(study.name, study.data, ("train",))
    title = " ".join(subject)
    net = fresh(study, dataset) if model is None else built(model, dataset)
    with running(title):
        found = audit(loss, net, *batch(study, dataset))
    print(f"audit of {title}\n{found}")
    return 0 if found.depends else 1


def of_study(study: Study, loss: AnyLoss, dataset: Dataset) -> Audit:
    """The audit on the first batch of a study's training split, with its first seed's fresh weights."""
    return audit(loss, fresh(study, dataset), *batch(study, dataset))


def batch(study: Study, dataset: Dataset) -> tuple[Tensor, Tensor, Context]:
    """As the training loop sees it: with label smoothing and class weights, where the study has them."""
    return of_training(study, dataset).first("train", study.training.batch_size)


def fresh(study: Study, dataset: Dataset) -> nn.Module:
    return Run(study, "standard", study.training.seeds[0]).build(dataset).to("cpu")


def built(model: str, dataset: Dataset) -> Any:
    """A model of pipeline/models by name, or what MODULE:FUNCTION gives."""
    if ":" in model:
        return given.model_of(model)
    return models.build({"name": model}, dataset.shape, dataset.outputs)
