"""What a shorter ensemble at the secondary norm's ε costs: examples left standing and CPU seconds, model by model.

    python -m benchmarks.fewer_attacks [STUDY [SEEDS]]    # digits 0,1; after `make study`

Each model is attacked three times in the secondary norm at its headline ε: with the whole standard ensemble, with
APGD-T alone of its members, and with what runs at every ε alone.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from inputgrad.robustness import attacking
from inputgrad.robustness.settings import Attack
from pipeline.stages.attack import Evaluation, victim_of
from pipeline.study.read import read_study
from pipeline.study.run import Run

ENSEMBLE = ("apgd_ce", "apgd_t", "fab_t", "square")
WAYS = {"whole ensemble": ENSEMBLE, "apgd_t": ("apgd_t",), "none of it": ()}


def attacked(victim: attacking.Victim, attack: Attack) -> tuple[int, float]:
    start = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        outcomes = attacking.attacked(victim, attack, Path(folder))
    return int((~outcomes.groupby("example")["broken"].any()).sum()), time.process_time() - start


if __name__ == "__main__":
    torch.set_num_threads(1)
    study = read_study(sys.argv[1] if len(sys.argv) > 1 else "digits")
    seeds = [int(s) for s in (sys.argv[2] if len(sys.argv) > 2 else "0,1").split(",")]
    where = study.attack.secondary
    if where is None:
        sys.exit(f"error: {study.file} has no attack.secondary")
    attacks = {
        way: Attack(
            norm=where.norm,
            epsilon=where.epsilon,
            grid=[where.epsilon],
            attacks=study.attack.attacks,
            at_epsilon={name: {} for name in names},
        )
        for way, names in WAYS.items()
    }
    print("| model | " + " | ".join(f"{way}: stand | s" for way in WAYS) + " |\n|:---|" + "---:|" * 2 * len(WAYS))
    every = []
    for loss in study.losses:
        for seed in seeds if loss != "detached_norm" else ():  # that is `standard`
            victim = victim_of(Evaluation(Run(study, loss, seed)))
            found = [attacked(victim, attack) for attack in attacks.values()]
            every.append(found)
            print(f"| {loss}, seed {seed} | " + " | ".join(f"{n} | {s:.1f}" for n, s in found) + " |", flush=True)
    numbers = np.array(every)
    more = numbers[:, :, 0] - numbers[:, :1, 0]
    print(
        f"\n{len(numbers)} models, {len(victim.x)} examples each. Left standing beyond the whole ensemble, in all:"
        f" {int(more[:, 1].sum())} with apgd_t, {int(more[:, 2].sum())} with none of it."
        f" Work: {numbers[:, 1, 1].sum() / numbers[:, 0, 1].sum():.2f} and"
        f" {numbers[:, 2, 1].sum() / numbers[:, 0, 1].sum():.2f} of the whole."
    )
