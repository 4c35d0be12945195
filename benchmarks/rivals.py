"""A step with the gradient penalty: ours, the textbook loop and others in turn: python -m benchmarks.rivals [rounds]

Ratios to the eager plain step, taken within a round, next to the ratio of operations: what a step would cost if time
were operations alone. First it is checked that ours and the textbook's give the same parameter gradient.
"""

import sys
import time
from collections.abc import Callable

import numpy as np
import torch
import torchvision
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import inputgrad
from benchmarks.step_cost import DEVICE, lenet
from inputgrad import losses
from pipeline.models import cnn
from pipeline.stages.measured import Operations

ROUNDS = int(sys.argv[1]) if len(sys.argv) > 1 else 20
WARM_UP, STRENGTH = 3, 0.1
Value = Callable[[nn.Module, Tensor, Tensor], Tensor]
Step = Callable[[Tensor, Tensor], object]
"""Puts the gradient of a batch into the parameters."""
Build = Callable[[nn.Module], Step]


def plain(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return cross_entropy(model(x), y)


def textbook(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """As the manuals write it: the gradient of the mean loss, kept in the graph."""
    x = x.clone().requires_grad_()
    task = cross_entropy(model(x), y)
    (gradient,) = torch.autograd.grad(task, x, create_graph=True)
    return task + STRENGTH * len(x) * gradient.square().sum()  # mean over examples of the squared norms


def projected(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """One random projection of the Jacobian, as its published package does (Hoffman et al. 2019)."""
    x = x.clone().requires_grad_()
    outputs = model(x)
    v = nn.functional.normalize(torch.randn_like(outputs), dim=1)
    (gradient,) = torch.autograd.grad(outputs, x, v, create_graph=True)
    return cross_entropy(outputs, y) + STRENGTH / 2 * outputs.shape[1] * gradient.square().sum() / len(x)


def eager(value: Value) -> Build:
    """A step as everybody writes it."""

    def build(model: nn.Module) -> Step:
        def step(x: Tensor, y: Tensor) -> None:
            model.zero_grad(set_to_none=True)
            value(model, x, y).backward(inputs=list(model.parameters()))

        return step

    return build


def ours(name: str) -> Build:
    return lambda model: inputgrad.Step(losses.load(name)(strength=STRENGTH), model)


def compiled(name: str, **knobs: float) -> Build:
    return lambda model: inputgrad.CompiledStep(losses.load(name)(**knobs), model)


STEPS: dict[str, Build] = {
    "plain": eager(plain),
    "ours, `gradient_norm`": ours("gradient_norm"),
    "ours, `gradient_norm`, compiled": compiled("gradient_norm", strength=STRENGTH),
    "textbook double backward": eager(textbook),
    "ours, `jacobian_norm`": ours("jacobian_norm"),
    "Jacobian package's way": eager(projected),
    "ours, `finite_difference`": ours("finite_difference"),
    "plain, compiled": compiled("standard"),
}


def resnet() -> nn.Module:
    """ResNet-18 for 32×32: a small first layer, GroupNorm."""
    net = torchvision.models.resnet18(num_classes=10, norm_layer=lambda channels: nn.GroupNorm(8, channels))
    net.conv1, net.maxpool = nn.Conv2d(3, 64, 3, padding=1, bias=False), nn.Identity()
    return net


def operations(name: str, model: nn.Module, x: Tensor, y: Tensor) -> int:
    step = STEPS[name.removesuffix(", compiled")](model)
    with Operations() as counter:
        step(x, y)
    return counter.total


def refuse_other_answer(model: nn.Module, x: Tensor, y: Tensor) -> None:
    found = []
    for name in ("textbook double backward", "ours, `gradient_norm`", "ours, `gradient_norm`, compiled"):
        STEPS[name](model)(x, y)
        found.append([p.grad for p in model.parameters()])
    for mine in found[1:]:
        torch.testing.assert_close(mine, found[0], rtol=1e-3, atol=1e-5)


def seconds(step: Step, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor) -> float:
    start = time.perf_counter()
    step(x, y)
    optimizer.step()
    if DEVICE == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def measure(title: str, build: Callable[[], nn.Module], shape: tuple[int, ...], rounds: int) -> None:
    torch.manual_seed(0)
    x, y = torch.rand(*shape, device=DEVICE), torch.randint(10, shape[:1], device=DEVICE)
    models = [build().to(DEVICE, memory_format=torch.channels_last) for _ in STEPS]
    refuse_other_answer(models[0], x, y)
    optimizers = [torch.optim.Adam(m.parameters()) for m in models]
    counts = [operations(name, m, x, y) for name, m in zip(STEPS, models, strict=True)]
    steps = [build(m) for build, m in zip(STEPS.values(), models, strict=True)]
    taken = np.array(
        [[seconds(*t, x, y) for t in zip(steps, optimizers, strict=True)] for _ in range(WARM_UP + rounds)]
    )[WARM_UP:]
    ratio = np.quantile(taken / taken[:, :1], [0.25, 0.5, 0.75], axis=0)
    print(f"\n{title}, batch {shape[0]}, {DEVICE}, n = {rounds} rounds\n")
    print("| step | × plain, median [quartiles] | operations, × plain |\n|---|---:|---:|")
    for name, (low, middle, high), count in zip(STEPS, ratio.T, counts, strict=True):
        print(f"| {name} | {middle:.2f} [{low:.2f}, {high:.2f}] | {count / counts[0]:.2f} |")


if __name__ == "__main__":
    torch.set_num_threads(1)
    measure("digits net, 8×8", lambda: cnn.build((1, 8, 8), 10), (128, 1, 8, 8), ROUNDS)
    measure("LeNet, 28×28", lenet, (128, 1, 28, 28), ROUNDS)
    measure("ResNet-18 with GroupNorm, 32×32", resnet, (16, 3, 32, 32), max(3, ROUNDS // 4))
