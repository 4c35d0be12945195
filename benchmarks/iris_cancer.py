"""Iris-Cancer of Ross, Hughes & Doshi-Velez 2017 over many splits: python -m benchmarks.iris_cancer [repeats]

A study trains on one split; the paper's figures are means over 350. Here the nets of all splits are stepped together,
each on its own rows, with the set-up of the study `iris_cancer`. Means with 95 % intervals, next to the published ones.
"""

import sys
import time

import numpy as np
import torch
from torch import Tensor, nn

from inputgrad import Context, RightReasons, StackedStep, Standard
from inputgrad.losses import Loss
from pipeline.data import iris_cancer
from pipeline.models import mlp

REPEATS = int(sys.argv[1]) if len(sys.argv) > 1 else 350
STEPS, RATE, DECAY = 200, 1e-3, 1e-4
PUBLISHED = {
    ("standard", "accuracy with the iris columns"): 0.9155,
    ("standard", "accuracy without"): 0.8113,
    ("standard", "iris columns among the ten largest gradients"): 2.63,
    ("right_reasons", "iris columns among the ten largest gradients"): 0.0019,
}


def splits() -> list[dict[str, Tensor]]:
    """Of every repeat: training rows and labels, test rows with and without the iris columns, test labels."""
    found = []
    for seed in range(REPEATS):
        arrays = iris_cancer.load(split_seed=seed)
        whole = arrays.x["test"].copy()
        whole[:, : iris_cancer.IRIS] = arrays.examples["iris"]["test"]
        parts = {"x": arrays.x["train"], "y": arrays.y["train"], "test_x": arrays.x["test"], "whole_x": whole}
        found.append({k: torch.from_numpy(v) for k, v in (parts | {"test_y": arrays.y["test"]}).items()})
    return found


def trained(loss: Loss, parts: list[dict[str, Tensor]]) -> list[nn.Module]:
    """A net for each split, after all steps. Their decay stands next to a sum over the rows: 2·decay/rows here."""
    x, y = (torch.stack([one[name] for one in parts]) for name in ("x", "y"))
    nets = []
    for seed in range(len(parts)):
        torch.manual_seed(seed)
        nets.append(mlp.build(x.shape[2:], 2, hidden=(50, 30), activation="relu", initial="normal"))
    mask = torch.zeros(x.shape[2:])
    mask[: iris_cancer.IRIS] = 1
    step = StackedStep(loss, nets, Context(mask=mask))
    optimizer = torch.optim.Adam(step.model.parameters(), RATE, weight_decay=2 * DECAY / x.shape[1])
    for _ in range(STEPS):
        step(x, y)
        optimizer.step()
    step.model.write_back(nets)
    return nets


def figures(net: nn.Module, part: dict[str, Tensor]) -> dict[str, float]:
    """Of one net, on its own test rows."""
    return {
        "accuracy with the iris columns": iris_cancer.accuracy(net, part["whole_x"], part["test_y"]),
        "accuracy without": iris_cancer.accuracy(net, part["test_x"], part["test_y"]),
        "iris columns among the ten largest gradients": iris_cancer.iris_among_largest(net, part["whole_x"]),
    }


def main() -> None:
    torch.set_num_threads(1)
    start, parts = time.process_time(), splits()
    print(f"{REPEATS} splits; mean [95 % interval]\n| loss | figure | here | published |\n|:---|:---|---:|---:|")
    for name, loss in (("standard", Standard()), ("right_reasons", RightReasons(strength=1000.0))):
        found = [figures(net, part) for net, part in zip(trained(loss, parts), parts, strict=True)]
        for figure in found[0]:
            values = np.array([one[figure] for one in found])
            half = 1.96 * values.std(ddof=1) / np.sqrt(len(values))
            mean, published = values.mean(), PUBLISHED.get((name, figure), "")
            print(f"| `{name}` | {figure} | {mean:.4f} [{mean - half:.4f}, {mean + half:.4f}] | {published} |")
    print(f"\n{time.process_time() - start:.0f} CPU seconds")


if __name__ == "__main__":
    main()
