"""Peak memory of a step of every loss relative to `standard`: python -m benchmarks.memory [batch]

Each step in a process of its own, which reports by how much its peak grows; on a GPU torch counts it.
"""

import multiprocessing
import resource
import sys

import torch

from inputgrad import losses, registry
from inputgrad.gradients.forward import Context
from pipeline.models import cnn

BATCH = int(sys.argv[1]) if len(sys.argv) > 1 else 4096
SIDE, OUTPUTS = 16, 10


def peak(name: str) -> float:
    """MiB by which one step raises the peak."""
    torch.set_num_threads(1)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = cnn.build((1, SIDE, SIDE), OUTPUTS).to(device)
    x, y = torch.rand(BATCH, 1, SIDE, SIDE, device=device), torch.randint(OUTPUTS, (BATCH,), device=device)
    context = Context(
        direction=torch.rand(OUTPUTS, 1, SIDE, SIDE, device=device),
        mask=torch.ones(1, SIDE, SIDE, device=device),
        bounds=(0.0, 1.0),
    )
    loss = losses.load(name)()
    loss(model, x[:8], y[:8], context).backward()  # what is set up once
    before = used(device)
    loss(model, x, y, context).backward(inputs=list(model.parameters()))
    return (used(device) - before) / 2**20


def used(device: str) -> int:
    return (
        torch.cuda.max_memory_allocated()
        if device == "cuda"
        else 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    )


if __name__ == "__main__":
    names = [name for name in registry.names("inputgrad.losses") if "classification" in losses.load(name).tasks]
    names.sort(key=lambda name: name != "standard")
    found = {}
    for name in names:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            found[name] = pool.apply(peak, (name,))
    print(f"digits net at {SIDE}×{SIDE}, batch {BATCH}: peak of one step beyond what lies there before it\n")
    print("| loss | MiB | × `standard` |\n|---|---:|---:|")
    for name, value in sorted(found.items(), key=lambda item: item[1]):
        print(f"| `{name}` | {value:.0f} | {value / found['standard']:.2f} |")
