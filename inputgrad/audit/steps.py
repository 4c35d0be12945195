"""The steps of an audit: the loss as it is, the same in float64 and bent, and what there is to explain."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from inputgrad.audit import explain
from inputgrad.audit.blame import running
from inputgrad.audit.facts import Facts, First, Row
from inputgrad.audit.forms import Form
from inputgrad.audit.subject import Subject
from inputgrad.audit.verdict import decide
from inputgrad.errors import UserError


def first_call(subject: Subject, ways: Sequence[Form]) -> First:
    """Call the loss in the model's own precision, with its backward, and find the way in which it is called.

    Raises:
        UserError: it fails, in every way in which it may be meant.
    """
    failed: UserError | None = None
    for subject.form in ways:
        try:
            with running(subject.form.text, subject.models, subject.again):
                return called(subject)
        except UserError as error:
            failed = failed or error
    subject.form = ways[0]
    raise failed or UserError("the loss cannot be called")


def called(subject: Subject) -> First:
    subject.fresh()
    before = snapshot(subject)
    total = subject.call()
    touched = [key for key, value in snapshot(subject).items() if not same(before[key], value)]
    left = math.sqrt(sum(float(p.grad.double().square().sum()) for p in subject.learnt if p.grad is not None))
    if left > 0:
        touched.insert(0, f".grad of the weights (norm {left:.3g}, which is added to the step)")
    if total.requires_grad:
        total.backward()
    names = {id(p): name for model in subject.models for name, p in model.named_parameters()}
    spoilt = [names[id(p)] for p in subject.learnt if p.grad is not None and not torch.isfinite(p.grad).all()]
    bad = None
    if spoilt or not torch.isfinite(total):
        what = "the loss" if not torch.isfinite(total) else f"the gradient of {', '.join(spoilt[:3])}"
        figure = f"{what} is nan or infinite{operation(subject)}"
        bad = Row("loss and parameter gradient are finite", False, figure, "one step with it destroys the model")
    return First(tuple(touched), total.requires_grad, bad)


def operation(subject: Subject) -> str:
    """Where nan appears first in the backward, as PyTorch's anomaly mode says."""
    subject.fresh()
    try:
        with warnings.catch_warnings(), torch.autograd.set_detect_anomaly(True):
            warnings.simplefilter("ignore")
            subject.call().backward()
    except RuntimeError as error:
        return f" ({str(error).splitlines()[0]})"
    return ""


def snapshot(subject: Subject) -> dict[str, list[Any]]:
    """What a loss must not change, by what a user would call it."""
    still = not any(m.training for m in subject.modules)  # in train mode a pass moves BatchNorm's statistics
    return {
        "the weights": [p.detach().clone() for p in subject.parameters],
        "buffers": [b.clone() for m in subject.modules for b in m.buffers(recurse=False) if still],
        "train or eval mode": [m.training for m in subject.modules],
        "requires_grad of the weights": [p.requires_grad for p in subject.parameters],
    }


def same(a: list[Any], b: list[Any]) -> bool:
    return all(torch.equal(x, y) if isinstance(x, Tensor) else x == y for x, y in zip(a, b, strict=True))


def measured(subject: Subject, first: First) -> Facts:
    """The bent evaluations, in float64 if the loss runs in it, else in the model's own precision."""
    subject.dtype = torch.float64
    try:
        base = subject.run(backward=True, s=1.0)
    except Exception:  # constants of the user's own are often float32; float64 is our choice, not theirs
        subject.dtype = None
        base = subject.run(backward=True, s=1.0)
    exact = subject.run(backward=True, free=subject.learnt)
    return Facts(subject, decide(subject, base), exact, replace(base, grads=[]), first)


def explanation(f: Facts, found: Sequence[Row]) -> str:
    """What was written, why it is wrong, what to write: for the verdict, and for the rows that failed."""
    failed, asked = {row.name for row in found if row.ok is False}, f.exact.probe.asked
    ways: list[str] = []
    if f.answer.kind == "detached":
        ways += explain.way_of(asked, f.first.alive, in_training(f))
    if f.answer.kind == "partly detached":
        ways.append("partly")
    if f.base.inside:
        ways.append("own backward")
    elif "no side effects" in failed and f.first.touched[0].startswith(".grad") and "backward" not in ways:
        ways.append("left in .grad")
    if "batch repeated" in failed:
        ways.append("mean")
    if "size of the term" in failed and f.answer.kind == "depends":
        ways.append("scale")
    if "the model's input gradient is right" in failed and f.answer.kind != "independent":
        ways.append("model")
    return explain.text(ways, asked if f.answer.kind in ("detached", "partly detached") else []) if ways else ""


def in_training(f: Facts) -> bool:
    """Whether derivatives that are constants here carry the graph when the model is in train mode."""
    if all(m.training for m in f.subject.modules) or all(a.graph for a in f.exact.probe.asked):
        return False
    try:
        return all(a.graph for a in f.subject.run(training=True).probe.asked)
    except Exception:  # BatchNorm may refuse a small batch, for instance
        return False
