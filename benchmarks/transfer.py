"""The pattern of Ross & Doshi-Velez (AAAI 2018): python -m benchmarks.transfer [STUDY [LOSS ...]]; after its run.

They report that nets with a penalty on the input gradient withstand examples made on other nets, and that examples
made on such nets fool all others about equally well. Here: FGSM at the study's ε on the net of one loss (row), judged
on the net of another (column) of the next seed, so that also a loss against itself is another net; and on the net
itself (white box). Mean accuracy over the seeds, with its 95 % interval.
"""

from __future__ import annotations

import sys

import pandas as pd
import torch
from torch import Tensor, nn

from inputgrad.attacks import Threat, fgsm
from inputgrad.gradients.forward import Draws
from pipeline import data
from pipeline.results.statistics import estimate
from pipeline.stages.attack import examples_of, trained
from pipeline.study.read import read_study
from pipeline.study.run import Run

STUDY = sys.argv[1] if len(sys.argv) > 1 else "digits"
LOSSES = sys.argv[2:] or ["standard", "gradient_norm", "fgsm", "pgd"]


def main() -> None:
    study = read_study(STUDY)
    dataset = data.read_data(study.name, study.data, ("test",))
    wanted, seeds = examples_of(study, dataset), study.training.seeds
    x, y = dataset.inputs("test", wanted), dataset.y["test"][wanted]
    threat = Threat(norm=study.attack.norm, epsilon=study.attack.epsilon, bounds=dataset.context.bounds)
    nets = {(loss, seed): trained(Run(study, loss, seed), dataset) for loss in LOSSES for seed in seeds}

    def moved(net: nn.Module) -> Tensor:
        return fgsm.perturb(net, x, y, threat, Draws(torch.Generator().manual_seed(0)))

    def right(net: nn.Module, points: Tensor) -> float:
        with torch.no_grad():
            return float((net(points).argmax(1) == y).double().mean())

    def cell(values: list[float]) -> str:
        found = estimate(pd.Series(values), study.task.limits)
        return f"{100 * found.mean:.1f} [{100 * (found.low or 0):.1f}, {100 * (found.high or 0):.1f}]"

    made = {key: moved(net) for key, net in nets.items()}
    after = {seed: seeds[(n + 1) % len(seeds)] for n, seed in enumerate(seeds)}
    where = f"FGSM {threat.norm} ε = {threat.epsilon:g}"
    print(f"{study.name}: accuracy in % on {len(x)} examples, {where}, {len(seeds)} seeds")
    print("| made on | itself | " + " | ".join(f"`{loss}`" for loss in LOSSES) + " |")
    print("|:---|" + "---:|" * (1 + len(LOSSES)))
    print(f"| nothing (clean) | – | {' | '.join(cell([right(nets[o, s], x) for s in seeds]) for o in LOSSES)} |")
    for loss in LOSSES:
        white = cell([right(nets[loss, s], made[loss, s]) for s in seeds])
        others = [cell([right(nets[o, after[s]], made[loss, s]) for s in seeds]) for o in LOSSES]
        print(f"| `{loss}` | {white} | {' | '.join(others)} |")


if __name__ == "__main__":
    main()
