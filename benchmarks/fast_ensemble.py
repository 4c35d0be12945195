"""The fast ensemble against the standard one, model by model: passes, CPU seconds, verdicts at every ε.

    python -m benchmarks.fast_ensemble [STUDY,STUDY [SEEDS]]    # digits,decoy_digits 0,1; after `make study` of each

Both in turn, on one thread: attacks, descriptors and masking sheet. A pass is one of one example through the net, with
or without its gradient; they are counted, so that they are the same on a busy machine. Besides the models of the
studies: some whose gradient is hidden (rounded inputs, a saturated softmax), and nets that a plain loop trains here.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from inputgrad.attacks import Threat
from inputgrad.gradients.descriptors import descriptors
from inputgrad.gradients.forward import Draws
from inputgrad.robustness import masking
from inputgrad.robustness.attacking import Victim, attacked
from inputgrad.robustness.settings import Attack
from pipeline import data
from pipeline.stages.attack import Evaluation, victim_of
from pipeline.study.read import read_study
from pipeline.study.run import Run
from pipeline.study.schema import Study

LOSSES = ("standard", "gradient_norm", "fgsm", "pgd", "curvature")


class Rounded(nn.Module):
    """Sixteen shades: no gradient passes."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.net((16 * x).round() / 16)
        return found


class Saturated(Rounded):
    """Logits so large that the softmax has no gradient in float32."""

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = 1000 * self.net(x)
        return found


def elsewhere(study: Study, seed: int) -> nn.Module:
    """A net with ReLU, trained by a plain loop."""
    torch.manual_seed(seed)
    dataset = data.read_data(study.name, study.data, ("train",))
    x, y = dataset.inputs("train"), dataset.y["train"]
    net = nn.Sequential(nn.Flatten(), nn.Linear(x[0].numel(), 128), nn.ReLU(), nn.Linear(128, 10))
    optimizer = torch.optim.Adam(net.parameters(), 1e-3)
    for _ in range(30):
        for some in torch.randperm(len(x)).split(64):
            optimizer.zero_grad()
            F.cross_entropy(net(x[some]), y[some]).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    return net.eval().requires_grad_(False)


def victims(study: Study, seeds: list[int]) -> Iterator[Victim]:
    for loss in (name for name in LOSSES if name in study.losses):
        for seed in seeds:
            victim = victim_of(Evaluation(Run(study, loss, seed)))
            yield victim
            if loss in ("standard", "pgd") and seed == seeds[0]:
                yield replace(victim, name=f"{victim.name}, rounded", model=Rounded(victim.model).eval())
                yield replace(victim, name=f"{victim.name}, saturated", model=Saturated(victim.model).eval())
    for seed in seeds:
        yield replace(victim, name=f"{study.name}, plain loop, seed {seed}", model=elsewhere(study, seed), source=None)


@dataclass(frozen=True)
class Found:
    """Passes forward and backward for each example, CPU seconds, who is broken at every ε, (radii, examples), flags."""

    forward: float
    backward: float
    seconds: float
    broken: np.ndarray
    flags: list[str]


@contextmanager
def counting(net: nn.Module) -> Iterator[dict[str, int]]:
    """How many examples go through a net, and how many of them with a gradient."""
    count = {"forward": 0, "backward": 0}

    def note(_: nn.Module, args: tuple[Tensor], output: Tensor) -> None:
        count["forward"] += len(output)
        count["backward"] += len(output) if args[0].requires_grad and torch.is_grad_enabled() else 0

    hook = net.register_forward_hook(note)
    try:
        yield count
    finally:
        hook.remove()


def evaluated(victim: Victim, attack: Attack) -> Found:
    threat = Threat(norm=attack.norm, epsilon=attack.epsilon, bounds=victim.bounds)
    begin = time.thread_time()
    with tempfile.TemporaryDirectory() as folder, counting(victim.model) as count:
        outcomes = attacked(victim, attack, Path(folder))
    draws = Draws(torch.Generator().manual_seed(victim.seed))
    described, _ = descriptors(victim.model, victim.x, victim.y, threat, draws, victim.examples)
    sheet = masking.sheet(masking.evidence(victim, outcomes, described, attack))
    seconds = time.thread_time() - begin
    flags = [name for name, check in sheet.items() if not check["ok"]]
    forward, backward = (count[kind] / len(victim.x) for kind in ("forward", "backward"))
    return Found(forward, backward, seconds, np.array([*broken(outcomes, attack).values()]), flags)


def broken(outcomes: pd.DataFrame, attack: Attack) -> dict[tuple[str, float], np.ndarray]:
    found = {}
    for threat in attack.threat_models:
        for epsilon in (radius for radius in threat.radii if radius > 0):
            inside = outcomes["norm"].isin(["none", threat.norm]) & (outcomes["epsilon"] <= epsilon)
            found[threat.norm, epsilon] = outcomes[inside].groupby("example")["broken"].any().to_numpy()
    return found


def report(name: str, before: Found, after: Found) -> tuple[float, float]:
    weaker, stronger = (before.broken & ~after.broken).sum(), (after.broken & ~before.broken).sum()
    passes = (after.forward + after.backward) / (before.forward + before.backward)
    flags = "" if before.flags == after.flags else f"; flags {before.flags} became {after.flags}"
    seconds = after.seconds / before.seconds
    print(
        f"{name:44s} {before.forward:6.0f} + {before.backward:5.0f} passes, {passes:.2f} x;"
        f" {before.seconds:6.2f} s, {seconds:.2f} x; broken less {weaker}, more {stronger}{flags}",
        flush=True,
    )
    return passes, seconds


if __name__ == "__main__":
    torch.set_num_threads(1)
    studies = (sys.argv[1] if len(sys.argv) > 1 else "digits,decoy_digits").split(",")
    seeds = [int(seed) for seed in (sys.argv[2] if len(sys.argv) > 2 else "0,1").split(",")]
    shares, verdicts = [], 0
    for study in map(read_study, studies):
        standard, fast = (study.attack.model_copy(update={"ensemble": name}) for name in ("standard", "fast"))
        for victim in victims(study, seeds):
            before, after = evaluated(victim, standard), evaluated(victim, fast)
            shares.append(report(victim.name, before, after))
            verdicts += before.broken.size
    print(f"{len(shares)} models, {verdicts} verdicts; fast / standard, median [quartiles]:")
    for kind, values in zip(("passes", "CPU seconds"), np.array(shares).T, strict=True):
        low, median, high = np.quantile(values, [0.25, 0.5, 0.75])
        print(f"{kind}: {median:.2f} [{low:.2f}, {high:.2f}]")
