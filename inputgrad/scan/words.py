"""What is said of a finding: why the gradient is a constant, and what to write."""

from __future__ import annotations

from typing import NamedTuple


class Said(NamedTuple):
    why: str
    fix: str


TAKE = "(g,) = torch.autograd.grad(loss, x, create_graph=True)"
KINDS = {
    "backward": Said(
        "is read after a backward() that keeps no graph of it (retain_graph does not either)",
        f"{TAKE}, in the place of backward() and .grad",
    ),
    "no_graph": Said("has no create_graph=True (retain_graph alone does not do it)", "create_graph=True"),
    "functional": Said("has no create_graph=True", "create_graph=True, or torch.func.jacrev"),
    "cut": Said("cuts the gradient off its graph", "use the gradient itself; cut off only what is printed"),
    "item": Said("makes the gradient a Python number", "use the tensor itself; make numbers only of what is printed"),
    "no_grad": Said("computes with the gradient under torch.no_grad()", "move it out of torch.no_grad()"),
    "training": Said("has a graph in train mode only", "create_graph=True wherever the result is trained on"),
}
NOTES = ("training",)
"""Kinds that are told and not counted: whether they are wrong depends on the mode in which the model is trained."""
LONGEST = 70


def line_of(kind: str, text: str, reached: int | str) -> str:
    """`text` …: it is a constant in the loss of line N, and trains nothing; fix: …"""
    short = text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"
    said = KINDS[kind]
    if kind in NOTES:
        effect = f"in eval mode its term in the loss of line {reached} trains nothing"
        return f"note: `{short}` {said.why}; {effect}; fix: {said.fix}"
    return (
        f"`{short}` {said.why}: a constant, so its term in the loss of line {reached} trains nothing; fix: {said.fix}"
    )
