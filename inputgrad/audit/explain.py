"""Every way in which a loss is void that was seen in public: what was written, why it is a constant, what to write."""

from __future__ import annotations

import linecache
from pathlib import Path
from typing import NamedTuple

from inputgrad.audit.probe import Asked

RIGHT = """\
x = x.detach().requires_grad_(True)
losses = F.cross_entropy(model(x), y, reduction="none")
g, = torch.autograd.grad(losses.sum(), x, create_graph=True)
loss = losses.mean() + strength * g.flatten(1).square().sum(1).mean()
loss.backward()                      # once"""


class Way(NamedTuple):
    """What was written, why that is wrong, what to write."""

    written: str
    why: str
    write: str


CONSTANT = (
    "Such a gradient is a plain tensor of numbers: how it was computed from the weights is not recorded. The penalty is"
    " added to the printed loss, and its derivative with respect to every weight is 0."
)
WAYS = {
    "backward": Way(
        "a gradient taken by backward(retain_graph=True) and read from .grad (.grad.clone(), .grad.data)",
        CONSTANT
        + " And if that first backward ran on the task loss, the task's own gradient stays in the weights' .grad"
        " and counts twice.",
        RIGHT,
    ),
    "retain_graph": Way(
        "torch.autograd.grad(..., retain_graph=True) without create_graph=True",
        "retain_graph keeps the first graph for a second use; it records nothing about the gradient itself. "
        + CONSTANT,
        RIGHT,
    ),
    "no create_graph": Way("torch.autograd.grad(...) without create_graph=True", CONSTANT, RIGHT),
    "training mode": Way(
        "create_graph=model.training, or the like, with a model in eval mode",
        "In eval mode no graph is created. " + CONSTANT,
        "create_graph=True wherever the result is trained on, whatever the mode of the model",
    ),
    "detached": Way(
        "a gradient with create_graph=True that is cut off afterwards: .detach(), .data, .item(), float(), .numpy(), or"
        " a computation under torch.no_grad()",
        "create_graph=True did record the graph; what is cut off afterwards is a plain number again.",
        "use g itself, and leave .detach(), .data and .item() to what is printed:\n" + RIGHT,
    ),
    "partly": Way(
        "a term of which a part is cut off: by .detach(), .data, .item(), or a gradient without create_graph",
        "Training follows another function than the one that is printed.",
        "nothing, where that part is meant as a constant weight; else take every gradient with create_graph=True",
    ),
    "frozen": Way(
        "a gradient of a model, or of a part of it, none of whose weights is trained (requires_grad=False)",
        "The gradient has a graph, but no weight that is trained is in it.",
        "take the gradient through the trained weights, or unfreeze those that it depends on",
    ),
    "no graph": Way(
        "a loss that has no graph at all: computed under torch.no_grad(), or from detached outputs",
        "Without a graph .backward() has nothing to follow; in a validation loop that is meant, in training it is not.",
        "with torch.enable_grad(): around the inner pass of a validation loop; no torch.no_grad() around training",
    ),
    "mean": Way(
        "the gradient of the mean loss: torch.autograd.grad(loss, x) with loss = losses.mean()",
        "Each example's gradient is divided by the batch size N: a squared term shrinks by N², and the strength means"
        " something else at every batch size.",
        "torch.autograd.grad(losses.sum(), x, create_graph=True): the examples do not touch each other, so that the sum"
        " gives each its own gradient",
    ),
    "own backward": Way(
        "a term with a .backward() of its own inside the loss",
        "The term is trained, by a backward of its own, and is missing from the printed loss: curves do not show it.",
        "add the term to the loss that is given back, and call .backward() on the sum, once",
    ),
    "left in .grad": Way(
        "a backward() inside the loss, for an input gradient",
        "It also fills .grad of every weight: the next optimiser step adds it, and the task may count twice.",
        "torch.autograd.grad(..., x), which touches no weight's .grad",
    ),
    "scale": Way(
        "a term far larger than the rest: for instance the gradient of scaler.scale(loss) that was not unscaled (AMP)",
        "The scale of 65536 is in the gradient, and squared in its square.",
        "g = g / scaler.get_scale() before the penalty, in float32; or the gradient of the unscaled loss",
    ),
    "nan": Way(
        "a root of an input gradient that is exactly 0: g.square().sum(1).sqrt(), (…) ** 0.5, a division by it",
        "The derivative of a root at 0 is infinite, and infinity times 0 is nan: one example without gradient (a dead"
        " ReLU net) spoils every weight.",
        "the squared norm, or an ε inside the root: (g.square().sum(1) + 1e-12).sqrt()",
    ),
    "model": Way(
        "a .detach(), .data, rounding or torch.no_grad() inside the model, or a layer with a backward of its own",
        "Autograd does not see that part: the gradient that the loss uses is not the derivative of the outputs.",
        "leave it out of the model, or take the gradient with respect to what comes after it",
    ),
}


def way_of(asked: list[Asked], alive: bool, in_training: bool) -> list[str]:
    """The ways in which the derivatives of a void loss are constants.

    Args:
        asked: the derivatives that were asked for.
        alive: whether the loss has a graph.
        in_training: whether the same loss creates a graph when the model is in train mode.
    """
    if in_training:
        return ["training mode"]
    if not alive:
        return ["no graph"]
    if asked and all(a.graph and not a.lives for a in asked):
        return ["frozen"]
    constant = [a for a in asked if not a.graph]
    found = ["backward" if a.backward else "retain_graph" if a.retained else "no create_graph" for a in constant]
    return list(dict.fromkeys(found)) or ["detached"]


def text(ways: list[str], asked: list[Asked]) -> str:
    """The explanations, with the lines of the user's own code that asked for constants."""
    lines: list[str] = []
    for place in dict.fromkeys(a.where for a in asked if not a.graph and a.where[0]):
        code = linecache.getline(*place).strip()
        lines.append(f"Where              {Path(place[0]).name}, line {place[1]}: {code}")
    for way in ways:
        lines += [*block("What was written", WAYS[way].written), *block("Why it is wrong", WAYS[way].why)]
        lines += [*block("What to write", WAYS[way].write), ""]
    return "\n".join(lines).rstrip()


def block(title: str, said: str, width: int = 80) -> list[str]:
    """A title and what it says next to it; lines of code stay as they are."""
    import textwrap

    parts = [piece for line in said.split("\n") for piece in ([line] if "\n" in said else textwrap.wrap(line, width))]
    return [f"{title if n == 0 else '':19}{part}" for n, part in enumerate(parts)]
