"""Find another explanation, on Toy Colors (Ross, Hughes & Doshi-Velez 2017): python -m benchmarks.find_another [seeds]

Nobody says which inputs must not matter: the inputs with the largest gradients of a first net are held down in a
second one (of every example its own), those of both in a third. No study: its masks come from a trained net. Set-up and
strengths of the studies `toy_colors_*`; accuracy after the last epoch on the test split, next to the published one, and
where the largest gradients lie: on the corners (rule 1), on the middle of the top row (rule 2), or elsewhere.
"""

import sys
import time

import torch
from torch import Tensor, nn

from inputgrad import RightReasons, Standard, Step
from inputgrad.losses import Loss
from pipeline.data import toy_colors
from pipeline.models import mlp

SEEDS = int(sys.argv[1]) if len(sys.argv) > 1 else 3
EPOCHS, BATCH, RATE, DECAY = 64, 256, 1e-3, 1e-4
LARGE = 0.67
"""An input belongs to a mask from this share of its example's largest |gradient|, as published."""


def trained(loss: Loss, x: Tensor, y: Tensor, masks: Tensor | None, seed: int) -> nn.Module:
    """A net after all epochs; the batches are cut from the data as they lie, and each example has its own mask."""
    torch.manual_seed(seed)
    net = mlp.build(tuple(x.shape[1:]), 2, hidden=(50, 30), activation="relu", initial="normal")
    step = Step(loss, net)
    optimizer = torch.optim.Adam(net.parameters(), RATE, weight_decay=2 * DECAY / BATCH)
    for _ in range(EPOCHS):
        for place in range(0, len(x), BATCH):
            batch = slice(place, place + BATCH)
            step(x[batch], y[batch], examples=None if masks is None else {"mask": masks[batch]})
            optimizer.step()
    return net


def largest(net: nn.Module, x: Tensor) -> Tensor:
    """1 where the input gradient of Σ_k log p_k is among the largest of its example, shaped as x."""
    leaf = x.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(net(leaf).log_softmax(1).sum(), leaf)
    size = gradient.abs()
    return (size > LARGE * size.amax((1, 2, 3), keepdim=True)).float()


def line(name: str, net: nn.Module, x: Tensor, y: Tensor, published: float) -> str:
    """A row of the table: accuracy, and the share of the largest gradients on the pixels of each rule."""
    with torch.no_grad():
        accuracy = float((net(x).argmax(1) == y).double().mean())
    found = largest(net, x).sum(0)
    shares = [
        float((found * torch.from_numpy(toy_colors.marked(toy_colors.PIXELS[rule]))).sum() / found.sum())
        for rule in ("rule_1", "rule_2")
    ]
    return f"| {name} | {accuracy:.4f} | {published} | {shares[0]:.3f} | {shares[1]:.3f} | {1 - sum(shares):.3f} |"


def main() -> None:
    torch.set_num_threads(1)
    print("| net | accuracy | published | on the corners | on the top | elsewhere |\n|:---|---:|---:|---:|---:|---:|")
    start = time.process_time()
    for seed in range(SEEDS):
        arrays = toy_colors.load(split_seed=seed)
        x, y, test_x, test_y = (torch.from_numpy(part[s]) for s in ("train", "test") for part in (arrays.x, arrays.y))
        first = trained(Standard(), x, y, None, seed)
        print(line(f"plain, seed {seed}", first, test_x, test_y, 0.9998), flush=True)
        masks = largest(first, x)
        second = trained(RightReasons(strength=1e3), x, y, masks, seed)
        print(line("not the inputs of the first", second, test_x, test_y, 0.9915), flush=True)
        masks = torch.maximum(masks, largest(second, x))
        third = trained(RightReasons(strength=1e6), x, y, masks, seed)
        print(line("not those of both", third, test_x, test_y, 0.5442), flush=True)
    print(f"\n{time.process_time() - start:.0f} CPU seconds for {SEEDS} seeds")


if __name__ == "__main__":
    main()
