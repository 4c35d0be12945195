"""Wrong uses that are plausible: one line with a fix, and the fix that it names works."""

import pydoc
import re

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import inputgrad
from inputgrad import (
    FGSM,
    PGD,
    CompiledStep,
    Context,
    GradientNorm,
    GradientTarget,
    JacobianNorm,
    Loss,
    Residual,
    RightReasons,
    Standard,
    Step,
    Sum,
    UserError,
    registry,
)

torch.manual_seed(0)
X, Y = torch.rand(8, 6), torch.tensor([0, 1, 2, 3, 0, 1, 2, 3])
NET = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 4))
ONE = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 1))
G = GradientNorm(0.5)


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(6, 6), nn.Linear(6, 4)

    def forward(self, x):
        h = self.first(x)[:, None, None, :]
        return self.last(F.scaled_dot_product_attention(h, h, h)[:, 0, 0])


def in_place():
    class Shifted(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Linear(6, 8), nn.Linear(8, 4)

        def forward(self, x):
            h = self.first(x).tanh()
            h += 1
            return self.last(h)

    return Shifted()


USES = {
    # how a loss is made
    "a tensor for a strength": (
        lambda: GradientNorm(torch.tensor(0.1)),
        "strength is a tensor, which would be a constant",
    ),
    "a weight for a strength": (
        lambda: GradientNorm(strength=nn.Parameter(torch.ones(()))),
        r"multiply it by loss\.penalty",
    ),
    "a function for a strength": (lambda: GradientNorm(lambda step: 0.1), "strength is a function, not a number"),
    "a negative strength": (lambda: GradientNorm(-1), "GradientNorm: strength: .*greater than or equal to 0"),
    "a text for a strength": (lambda: GradientNorm("high"), "GradientNorm: strength: .*valid number"),
    "nan for a strength": (lambda: GradientNorm(float("nan")), "GradientNorm: strength: .*finite"),
    "a misspelt knob": (lambda: GradientNorm(strenght=0.1), "no 'strenght'; did you mean 'strength'"),
    "a norm that is not there": (lambda: GradientNorm(p=3), "GradientNorm: p: .*1, 2 or 'inf'"),
    "two knobs without a name": (lambda: GradientNorm(0.1, 2), "only the strength has no name; fix"),
    "a loss that is changed": (lambda: setattr(G, "strength", 0.2), r"a loss does not change once it is made; fix"),
    "called before it is made": (
        lambda: GradientNorm(NET, X, Y),
        r"is made first, and then called; fix: loss = GradientNorm\(\)",
    ),
    "points for their name": (lambda: GradientNorm(points=X), 'points is the name of some; fix: points="inside"'),
    "a loss times a number": (lambda: 0.5 * GradientNorm(), "fix: GradientNorm\\(strength=…\\)"),
    # model, x, y
    "y in a dict": (lambda: G(NET, X, {"labels": Y}), "y is a dict, not a tensor; fix: give the tensor in it"),
    "one example": (lambda: G(NET, X[0], Y[:1]), r"x is one example without a batch; fix: x\[None\]"),
    "complex x": (lambda: G(NET, torch.complex(X, X), Y), "x is complex; fix"),
    "x and y exchanged": (lambda: G(NET, Y, X), "x and y are exchanged; fix"),
    "the model behind": (lambda: G(X, Y, NET), r"the model is a tensor; fix: loss\(model, x, y\)"),
    "the outputs for the model": (lambda: G(NET(X), Y), r"the model is a tensor; fix: loss\(model, x, y\)"),
    "no y": (lambda: G(NET, X), r"y is missing: the task loss needs it; fix"),
    "x of integers": (lambda: G(NET, X.long(), Y), r"x is int64, .*; fix: x\.float\(\)"),
    "x of bytes": (lambda: G(NET, (X * 255).byte(), Y), r"x is uint8, .*; fix: x / 255"),
    "x a list": (lambda: G(NET, X.tolist(), Y), r"x is a list, not a tensor; fix: x = torch\.as_tensor\(x\)"),
    "x of NumPy": (lambda: G(NET, X.numpy(), Y), r"x is a ndarray, not a tensor; fix: x = torch\.as_tensor\(x\)"),
    "y a list": (lambda: G(NET, X, Y.tolist()), r"y is a list, not a tensor; fix: y = torch\.as_tensor\(y\)"),
    "y of NumPy": (lambda: G(NET, X, Y.numpy()), r"y is a ndarray, not a tensor; fix"),
    "y one-hot": (lambda: G(NET, X, F.one_hot(Y)), r"do not fit labels of shape \(8, 4\); fix"),
    "y a column": (lambda: G(NET, X, Y[:, None]), r"do not fit labels of shape \(8, 1\); fix"),
    "y of another batch": (lambda: G(NET, X, Y[:5]), r"do not fit labels of shape \(5,\); fix"),
    "a class too many": (lambda: G(NET, X, Y + 1), "Target 4 is out of bounds; fix: a class number is as large as"),
    "classes as floats": (lambda: G(NET, X, Y.float()), r'fix: say which, Context\(task="ce"\)'),
    "labels that may be targets": (lambda: G(ONE, X, (Y > 1).float()), r'fix: say which, Context\(task="ce"\), "bce"'),
    "an empty batch": (lambda: G(NET, X[:0], Y[:0]), "the batch is empty; fix"),
    "x of another width": (lambda: G(NET, X.double(), Y), r"of different width: x = x\.to\("),
    # the model
    "a model that gives a pair": (lambda: G(lambda x: (NET(x), x), X, Y), r"fix: Context\(output=0\)"),
    "a model that gives one number": (lambda: G(lambda x: NET(x).sum(), X, Y), r"outputs of shape \(\) do not fit"),
    "a model that detaches": (lambda: G(lambda x: NET(x).detach(), X, Y), "fix: no graph leads there"),
    "a model without x": (
        lambda: G(lambda x: NET(X), X, Y),
        "fix: the outputs were not computed from that very tensor",
    ),
    "a model under no_grad": (lambda: G(torch.no_grad()(lambda x: NET(x)), X, Y), "fix: no graph leads there"),
    "a fused kernel": (lambda: G(Attention(), X, Y), r"fix: this kernel has no double backward"),
    "no second derivative": (
        lambda: G(nn.Sequential(nn.Linear(6, 4), nn.Hardsigmoid(), nn.Linear(4, 4)), X, Y),
        "layer 1 has no double backward: .*; fix: this operation has no double backward; take another one",
    ),
    "in place": (lambda: G(in_place(), X, Y), "fix: an in-place operation overwrote"),
    "compiled": (
        lambda: G(torch.compile(NET, backend="aot_eager"), X, Y),
        "give the model as it was before",
    ),
    "a step without weights": (
        lambda: Step(G, lambda x: x @ torch.ones(6, 4))(X, Y),
        "no weights that are trained; fix",
    ),
    # what is known
    "a context without a name": (lambda: Context("ce"), "'ce' has no name; fix: Context\\(task='ce'\\)"),
    "a layer for its name": (lambda: Context(layer=NET[0]), "layer is a Linear; fix: layer=the name of the layer"),
    "points without a name": (lambda: Context(points=X), 'points is a Tensor; fix: points={"inside": points}'),
    "bounds of one number": (lambda: Context(bounds=1), "bounds is a int; fix: bounds=\\(lowest, highest\\)"),
    "a class for a task": (
        lambda: Context(task=nn.CrossEntropyLoss),
        "task is a class; fix: task=CrossEntropyLoss\\(red",
    ),
    "points that nobody asks for": (
        lambda: G(NET, X, Y, Context(points={"inside": X})),
        r'no term asks for the points \'inside\'; fix: GradientNorm\(points="inside"\)',
    ),
    "an index of floats": (
        lambda: G(NET, X, Y, Context(index=torch.zeros(8))),
        "index is float32, .*; fix: index.long",
    ),
    "an index of another length": (
        lambda: G(NET, X, Y, Context(index=torch.zeros(3, dtype=torch.long))),
        r"index has shape \(3,\) for 8 rows of x; fix",
    ),
    "every point against every other": (
        lambda: Residual(lambda p: p.d(0) - p.x[:, :1]).penalty(ONE, X),
        r"the equation gives \(N, N\); fix: .*take p\.x\[:, 0\]",
    ),
    "a coordinate too many": (
        lambda: Residual(lambda p: p.d(7)).penalty(ONE, X),
        r"d\(7\): x has the coordinates 0 to 5; fix",
    ),
    "an output too many": (
        lambda: Residual(lambda p: p.d(0, of=1)).penalty(ONE, X),
        "of=1: the model has the outputs 0 to 0",
    ),
    "an equation that is a mean": (
        lambda: Residual(lambda p: p.d(0).mean()).penalty(ONE, X),
        r"gives \(\) for 8 points; fix",
    ),
    "a dict for the context": (lambda: G(NET, X, Y, {"mask": X[0]}), r"context is a dict; fix: Context\(\*\*context\)"),
    "no mask": (lambda: RightReasons()(NET, X, Y), r"a mask is missing; fix: Context\(mask=...\)"),
    "a misspelt name": (lambda: Context(masks=X[0]), r"no 'masks'; did you mean 'mask'\?"),
    "a misspelt example": (
        lambda: GradientTarget()(ONE, X, X[:, :1], Context(examples={"target_gradients": X})),
        r'missing \(given: target_gradients\); fix: Context\(examples=\{"target_gradient"',
    ),
    "a mask of another shape": (
        lambda: RightReasons()(NET, X, Y, Context(mask=torch.ones(5))),
        r"fix: give it shaped as an input",
    ),
    "class labels for a regression": (
        lambda: GradientTarget()(ONE, X, Y, Context(examples={"target_gradient": X})),
        r"defined for regression, y is int64; fix: y\.float\(\)",
    ),
    "of a class for a regression": (
        lambda: GradientNorm(of="true_logit")(ONE, X, X[:, :1]),
        "needs classes; for regression use",
    ),
    "ε in other units": (
        lambda: FGSM(epsilon=8)(NET, X, Y, Context(bounds=(0, 1))),
        "epsilon 8 is wider than the bounds, 1; fix",
    ),
    "every in a plain call": (
        lambda: GradientNorm(every=2)(NET, X, Y),
        r"fix: take step = inputgrad\.Step\(loss, model\)",
    ),
    "a ramp without epochs": (
        lambda: Step(GradientNorm(ramp=2), NET)(X, Y),
        r"fix: Step\(..., steps_per_epoch=len\(loader\)\)",
    ),
}


@pytest.mark.parametrize("use", USES)
def test_a_wrong_use_is_one_line_with_a_fix(use):
    call, said = USES[use]
    with pytest.raises(UserError) as found:
        call()
    text = str(found.value)
    assert re.search(said, text), text
    assert "\n" not in text


def made_under_inference():
    with torch.inference_mode():
        return X * 1


RIGHT = {
    "a strength without a name": lambda: GradientNorm(0.1) == GradientNorm(strength=0.1),
    "a weight as a strength": lambda: (nn.Parameter(torch.ones(())) * GradientNorm().penalty(NET, X, Y)).requires_grad,
    "x.float()": lambda: G(NET, X.long().float(), Y),
    "x / 255": lambda: G(NET, (X * 255).byte() / 255, Y),
    "torch.as_tensor": lambda: G(NET, torch.as_tensor(X.numpy()), torch.as_tensor(Y.tolist())),
    "y of other integer types": lambda: all(
        torch.equal(G(NET, X, Y), G(NET, X, Y.to(kind))) for kind in (torch.int32, torch.uint8, torch.int16)
    ),
    "y of bool": lambda: torch.equal(G(NET, X, Y > 1), G(NET, X, (Y > 1).long())),
    "x of the weights' width": lambda: G(NET, X.double().to(next(NET.parameters()).dtype), Y),
    "Context(task=...)": lambda: G(ONE, X, (Y > 1).float(), Context(task="bce")),
    "an output by number": lambda: G(lambda x: (NET(x), x), X, Y, Context(output=0)),
    "Context(**context)": lambda: G(NET, X, Y, Context(**{"mask": X[0]})),
    "finite_difference for a fused kernel": lambda: inputgrad.FiniteDifference()(Attention(), X, Y),
    "a model before it was compiled": lambda: G(NET, X, Y),
    "a strength of the step": lambda: GradientNorm(every=2)(
        NET, X, Y, strength=GradientNorm(every=2).strength_at(0, 0.0)
    ),
    "a label that is left out": lambda: G(NET, X, torch.where(Y == 3, -100, Y)),
    "points that a term asks for": lambda: GradientNorm(points="inside")(NET, X, Y, Context(points={"inside": (X, Y)})),
    "an equation without a name": lambda: Residual(lambda p: p.d(0) - p.x[:, 0]).penalty(ONE, X),
    "sum of a list": lambda: sum([GradientNorm(0.1), JacobianNorm(0.1)]) == GradientNorm(0.1) + JacobianNorm(0.1),
    "x[None]": lambda: G(NET, X[0][None], Y[:1]),
    "features made under inference_mode": lambda: G(NET, made_under_inference(), Y),
    "numpy numbers": lambda: GradientNorm(float(np.float64(0.1))),
}


@pytest.mark.parametrize("fix", RIGHT)
def test_the_fix_works(fix):
    found = RIGHT[fix]()
    assert bool(torch.isfinite(found)) if isinstance(found, torch.Tensor) else found


def test_the_error_is_said_once_for_every_model_and_its_kind():
    """The graph is looked at in the first call alone, a model of another kind has its own."""
    model = nn.Sequential(nn.Linear(6, 4), nn.Tanh())
    for _ in range(2):
        G(model, X, Y).backward()
    with pytest.raises(UserError, match="has no double backward"):
        G(nn.Sequential(nn.Linear(6, 4), nn.Hardsigmoid()), X, Y)


LOSSES = [getattr(inputgrad, name) for name in inputgrad.__all__ if isinstance(getattr(inputgrad, name), type)]
LOSSES = [loss for loss in LOSSES if issubclass(loss, Loss) and loss is not Loss]


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.__name__)
def test_help_is_one_screen_with_every_knob(loss):
    text = pydoc.render_doc(loss, renderer=pydoc.plaintext)
    assert len(text.splitlines()) <= 60
    for knob in ["terms"] if loss is Sum else loss.model_fields:
        assert re.search(rf"^ \|      {knob}: ", text, re.M), knob
    assert "loss(model, x, y" in text
    assert "mean(" in text
    exec(
        re.search(r"Use:\n \|      (loss = .*)", text)[1],
        vars(inputgrad) | {n: getattr(inputgrad, n) for n in inputgrad.__all__},
    )


def test_the_losses_are_there():
    assert len(LOSSES) == len(registry.names("inputgrad.losses")) + 4  # Sum, Residual, ScoreMatching, AttributionPrior
    assert {Standard, PGD, JacobianNorm} < set(LOSSES)
    assert CompiledStep.__doc__
