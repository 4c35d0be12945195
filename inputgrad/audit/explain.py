"""Every way in which a loss is void that was seen in public: what was written, why it is a constant, what to write."""

from __future__ import annotations

import linecache
from pathlib import Path
from typing import NamedTuple

from inputgrad.audit.cuts import Constant
from inputgrad.audit.recorder import Asked

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
        "a gradient taken by backward(retain_graph=True) and read from .grad (.grad.clone(), .grad.data) or in a hook",
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
        "nothing, where a constant is meant: the target of a published loss that stops the gradient there; else use g"
        " itself, and leave .detach(), .data and .item() to what is printed:\n" + RIGHT,
    ),
    "partly": Way(
        "a term of which a part is cut off: by .detach(), .data, .item(), or a gradient without create_graph",
        "Training follows another function than the one that is printed.",
        "nothing, where that part is meant as a constant weight; else take every gradient with create_graph=True",
    ),
    "script": Way(
        "torch.autograd.grad inside a TorchScript model, without create_graph=True",
        CONSTANT,
        "create_graph=True in that call, in the source of the scripted module",
    ),
    "not connected": Way(
        "a derivative by a tensor that the outputs were not computed from: a slice or a copy of x that was made after"
        " the model was called; materialize_grads=True or allow_unused=True fills in zeros",
        "A slice is a new tensor: the model was called with x, not with it. Zeros stand for the derivative, and the"
        " term holds no derivative at all.",
        "slice first, then give the slices to the model: t = x[:, 1:2].requires_grad_(True); u ="
        " model(torch.cat([s, t], 1)); or differentiate by x itself, and slice the gradient: g[:, 1:2]",
    ),
    "numbers": Way(
        "the model called at points that lie close together: a numerical gradient, made of differences of outputs",
        "The outputs are trained, and so are their differences; no derivative was asked of autograd, and this audit"
        " looks at those. Whether the step is right is in the row on the parameter gradient.",
        "nothing, if the differences are meant: they train; else torch.autograd.grad(..., x, create_graph=True)",
    ),
    "zeros": Way(
        "a derivative that is 0 wherever it is asked: a second derivative of a piecewise linear net (ReLU, LeakyReLU,"
        " max-pool), or a derivative by something that the outputs do not depend on",
        "The term is a constant: its parameter gradient is exactly 0, and the rest of the loss is trained alone.",
        "a smooth activation: nn.Tanh, nn.SiLU, nn.Softplus",
    ),
    "wrong": Way(
        "an operation without a right second derivative: a torch.autograd.Function whose backward does not use"
        " operations that autograd sees (or runs under no_grad), a hook that replaces a gradient",
        "The input gradient is right, and its own derivative is not: training follows something else than the printed"
        " loss.",
        "write backward with differentiable operations (or torch.autograd.functional), test it by"
        " torch.autograd.gradgradcheck; or take finite_difference, which needs no second derivative",
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


def text(ways: list[str], lines: list[Constant]) -> str:
    """The explanations, with the lines of the user's own code that they are about."""
    said: list[str] = []
    for file, number in dict.fromkeys(line.where for line in lines if line.where[0]):
        code = linecache.getline(file, number).strip()
        said.append(f"Where              {Path(file).name}, line {number}: {code}")
    for way in ways:
        said += [*block("What was written", WAYS[way].written), *block("Why it is wrong", WAYS[way].why)]
        said += [*block("What to write", WAYS[way].write), ""]
    return "\n".join(said).rstrip()


def block(title: str, said: str, width: int = 80) -> list[str]:
    """A title and what it says next to it; lines of code stay as they are."""
    import textwrap

    parts = [piece for line in said.split("\n") for piece in ([line] if "\n" in said else textwrap.wrap(line, width))]
    return [f"{title if n == 0 else '':19}{part}" for n, part in enumerate(parts)]
