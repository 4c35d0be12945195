"""What is not one tensor: dicts, tuples, batch objects, output objects, tokens, molecules, plain functions as models.

Everything is held against a textbook that is written out, by the loss and by the gradient of every weight.
"""

from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import NamedTuple

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from inputgrad import (
    ELLE,
    FGSM,
    PGD,
    TRADES,
    Context,
    Curvature,
    Draws,
    FiniteDifference,
    GradientNorm,
    GradientTarget,
    JacobianNorm,
    LocalLinearity,
    Step,
    UserError,
)
from tests.inputgrad.losses.bench import gradients

D = torch.float64


def mlp(d=6, outputs=4):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(d, 8), nn.Tanh(), nn.Linear(8, outputs)).to(D)


G = torch.Generator().manual_seed(1)
X, Y = torch.rand(8, 6, generator=G, dtype=D), torch.randint(4, (8,), generator=G)


def textbook(model, x, y, strength=0.5):
    """The gradient norm of the cross-entropy; x is a leaf."""
    x = x.detach().clone().requires_grad_()
    losses = F.cross_entropy(model(x), y, reduction="none")
    (g,) = torch.autograd.grad(losses.sum(), x, create_graph=True)
    return losses.mean() + strength * g.flatten(1).square().sum(1).mean()


def same(found, wanted, model, rounding=1e-12):
    torch.testing.assert_close(found, wanted, rtol=rounding, atol=0)
    mine, theirs = gradients(found, model), gradients(wanted, model)
    assert (mine - theirs).norm() <= 1e3 * rounding * theirs.norm()


@dataclass
class Output:
    logits: torch.Tensor
    hidden: torch.Tensor


class Two(NamedTuple):
    first: torch.Tensor
    second: torch.Tensor


OUTPUTS = {
    "a dict of one": (lambda z: {"scores": z}, {}),
    "a dict, named": (lambda z: {"energy": z, "more": z * 2}, {"output": "energy"}),
    "a tuple, by number": (lambda z: (z * 2, z), {"output": 1}),
    "an object with logits": (lambda z: Output(z, z * 2), {}),
    "an object, named": (lambda z: SimpleNamespace(first=z * 2, second=z), {"output": "second"}),
    "a named tuple, by name": (lambda z: Two(z * 2, z), {"output": "second"}),
    "a named tuple, by number": (lambda z: Two(z * 2, z), {"output": 1}),
    "a dict with what is no number": (lambda z: {"z": z, "mask": torch.ones(3, dtype=torch.bool)}, {}),
}


@pytest.mark.parametrize("kind", OUTPUTS)
@pytest.mark.parametrize(
    "loss", [GradientNorm(0.5), TRADES(0.5, epsilon=0.1), Curvature(0.5)], ids=lambda one: type(one).__name__
)
def test_what_a_model_gives(kind, loss):
    wrap, known = OUTPUTS[kind]
    model = mlp()
    draws = [Draws(torch.Generator().manual_seed(0)) for _ in range(2)]
    same(loss(lambda x: wrap(model(x)), X, Y, Context(**known), draws[0]), loss(model, X, Y, draws=draws[1]), model)


@pytest.mark.parametrize(
    ("outputs", "known", "said"),
    [
        (lambda z: {"a": z, "b": z}, {}, r"the model gives a dict with 'a', 'b'; fix: Context\(output='a'\)"),
        (lambda z: {"a": z}, {"output": "c"}, r"the model gives a dict with 'a'; fix: Context\(output='a'\)"),
        (lambda z: "text", {}, "the model gives a str with none; fix: give a model whose outputs are a tensor"),
        (lambda z: z, {"output": "c"}, "the model gives a tensor, which has no part 'c'; fix: leave output out"),
    ],
)
def test_an_output_that_is_not_said(outputs, known, said):
    model = mlp()
    with pytest.raises(UserError, match=said):
        GradientNorm()(lambda x: outputs(model(x)), X, Y, Context(**known))


class Named(nn.Module):
    """Takes its inputs by name, as many models do."""

    def __init__(self):
        super().__init__()
        self.net = mlp()

    def forward(self, values, mask=None, scale=1.0):
        return self.net(values * mask * scale)


class Whole(Named):
    """Takes the container as it is, as models of molecules do."""

    def forward(self, batch):
        part = batch if isinstance(batch, dict) else vars(batch)
        return super().forward(part["values"], part["mask"], part["scale"])


MASK = torch.ones(8, 6, dtype=torch.int64)


class Triple(NamedTuple):
    values: torch.Tensor
    mask: torch.Tensor
    scale: float


@dataclass(frozen=True, slots=True)
class Frozen:
    values: torch.Tensor
    mask: torch.Tensor
    scale: float


class ByAttribute(Named):
    """Takes what has attributes."""

    def forward(self, batch):
        return super().forward(batch.values, batch.mask, batch.scale)


CONTAINERS = {
    "a named tuple": (ByAttribute, Triple(X, MASK, 0.5)),
    "a frozen dataclass": (ByAttribute, Frozen(X, MASK, 0.5)),
    "a dict, by name": (Named, {"values": X, "mask": MASK, "scale": 0.5}),
    "a dict, whole": (Whole, {"values": X, "mask": MASK, "scale": 0.5}),
    "an object": (Whole, SimpleNamespace(values=X, mask=MASK, scale=0.5)),
    "a tuple": (Named, (X, MASK, 0.5)),
    "a list": (Named, [X, MASK, 0.5]),
}


@pytest.mark.parametrize("kind", CONTAINERS)
def test_what_a_model_takes(kind):
    make, given = CONTAINERS[kind]
    model = make()
    same(GradientNorm(0.5)(model, given, Y), textbook(lambda x: model.net(x * MASK * 0.5), X, Y), model)


@pytest.mark.parametrize("kind", CONTAINERS)
@pytest.mark.parametrize(
    "name", ["FGSM", "PGD", "TRADES", "JacobianNorm", "FiniteDifference", "ELLE", "LocalLinearity"]
)
def test_every_kind_of_loss_takes_containers(kind, name):
    import inputgrad

    make, given = CONTAINERS[kind]
    model, loss = make(), getattr(inputgrad, name)()
    plain = loss(lambda x: model.net(x * MASK * 0.5), X, Y, draws=Draws(torch.Generator().manual_seed(0)))
    found = loss(model, given, Y, draws=Draws(torch.Generator().manual_seed(0)))
    same(
        found, plain, model, 1e-10 if name == "ELLE" else 1e-12
    )  # its points go through the model in one batch, or each


class Place(nn.Module):
    """u(x, t), as equations have it."""

    def __init__(self):
        super().__init__()
        self.net = mlp(3, 1)

    def forward(self, x, t):
        return self.net(torch.cat([x, t], 1))


@pytest.mark.parametrize("given", [(X[:, :2], X[:, 2:3]), {"x": X[:, :2], "t": X[:, 2:3]}], ids=["tuple", "dict"])
def test_several_tensors_are_one_point(given):
    model, names = Place(), [0, 1] if isinstance(given, tuple) else ["x", "t"]
    y, loss = X[:, 3:4], GradientNorm(0.5, of="outputs")
    for wrt, columns in ((names, [0, 1, 2]), (names[1], [2]), (names[::-1], [0, 1, 2])):
        point = X[:, :3].clone().requires_grad_()
        u = model.net(point)
        (g,) = torch.autograd.grad(u.sum(), point, create_graph=True)
        wanted = F.mse_loss(u, y) + 0.5 * g[:, columns].square().sum(1).mean()
        same(loss(model, given, y, Context(wrt=wrt)), wanted, model)


@pytest.mark.parametrize(
    ("given", "known", "said"),
    [
        ((X, X), {}, r"x holds 2 floating-point tensors \(0, 1\), not one; fix: Context\(wrt=0\), or several names"),
        ({"a": MASK}, {}, r"x holds 0 floating-point tensors \(none\), not one"),
        ({"values": X, "mask": MASK}, {"wrt": "value"}, r"no floating-point tensor 'value'; did you mean 'values'\?"),
        ((X, X[:3]), {"wrt": [0, 1]}, r"0 \(8, 6\), 1 \(3, 6\) have different numbers of rows"),
    ],
)
def test_a_part_of_the_inputs_that_is_not_said(given, known, said):
    with pytest.raises(UserError, match=said):
        GradientNorm()(Named(), given, Y, Context(**known))


class Attributes(dict):
    """A dict that gives its keys as attributes too."""

    __getattr__ = dict.__getitem__


class Mirrored(dict):
    """A dict that keeps its keys as attributes."""

    def __init__(self, **named):
        super().__init__(**named)
        self.__dict__.update(named)


@pytest.mark.parametrize("kind", [Attributes, Mirrored])
def test_a_dict_with_attributes_stays_one(kind):
    model = mlp()
    same(GradientNorm(0.5)(lambda batch: model(batch.state), kind(state=X), Y), textbook(model, X, Y), model)


def test_a_tensor_inside_another_container():
    model = mlp()
    given = {"obs": {"state": X, "goal": torch.ones(8, 6, dtype=D)}, "step": 3}

    def policy(batch):
        return model(batch["obs"]["state"] * batch["obs"]["goal"])

    same(GradientNorm(0.5)(policy, given, Y, Context(wrt="obs.state")), textbook(model, X, Y), model)
    assert given["obs"]["state"] is X


class Words(nn.Module):
    """A classifier of tokens, with the table of embeddings used again at the end, as language models do."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.table = nn.Embedding(11, 6)
        self.mixed, self.out = nn.Linear(6, 6), nn.Linear(6, 11, bias=False)
        self.out.weight = self.table.weight
        self.to(D)

    def after(self, embedded):
        return self.out(torch.tanh(self.mixed(embedded)).mean(1))

    def forward(self, ids, attention_mask=None):
        return self.after(self.table(ids))


IDS, LABELS = torch.randint(11, (8, 5), generator=G), torch.randint(11, (8,), generator=G)


@pytest.mark.parametrize("given", [IDS, {"ids": IDS, "attention_mask": torch.ones(8, 5)}], ids=["tensor", "dict"])
def test_tokens_by_a_named_layer_train_the_table_as_the_textbook_does(given):
    model = Words()
    embedded = model.table(IDS)
    losses = F.cross_entropy(model.after(embedded), LABELS, reduction="none")
    (g,) = torch.autograd.grad(losses.sum(), embedded, create_graph=True)
    wanted = losses.mean() + 0.5 * g.flatten(1).square().sum(1).mean()
    same(GradientNorm(0.5)(model, given, LABELS, Context(layer="table")), wanted, model)
    assert not model.table._forward_hooks


def test_moved_embeddings_train_the_table_too():
    model = Words()
    embedded = model.table(IDS)
    (g,) = torch.autograd.grad(
        F.cross_entropy(model.after(embedded), LABELS, reduction="sum"), embedded, retain_graph=True
    )
    wanted = F.cross_entropy(model.after(embedded), LABELS) + F.cross_entropy(
        model.after(embedded + 0.1 * g.sign()), LABELS
    )
    same(FGSM(1.0, epsilon=0.1)(model, IDS, LABELS, Context(layer="table")), wanted, model)


def test_a_layer_that_is_not_there_or_comes_twice():
    model = Words()
    with pytest.raises(UserError, match=r"the model has no layer 'tabel'; did you mean 'table'\?"):
        GradientNorm()(model, IDS, LABELS, Context(layer="tabel"))
    with pytest.raises(UserError, match="the model calls 'table' 2 times in one pass; fix"):
        GradientNorm()(lambda ids: model(ids) + model(ids), IDS, LABELS, Context(layer="table"))
    with pytest.raises(UserError, match=r'Context\(layer="…"\) with the name of the embedding'):
        GradientNorm()(model, IDS, LABELS)


ATOMS = torch.tensor([0, 0, 1, 1, 1, 2, 0])  # rows of a molecule need not stand together
POS, FORCES = torch.randn(7, 3, generator=G, dtype=D), torch.randn(7, 3, generator=G, dtype=D)
ENERGY = torch.randn(3, generator=G, dtype=D)


class Molecules(nn.Module):
    """Energies of three molecules, (3,), or (3, 1)."""

    def __init__(self, column):
        super().__init__()
        self.net, self.column = mlp(3, 1), column

    def forward(self, pos, index=ATOMS):
        each = self.net(pos)[:, 0] + self.net(pos * 2)[:, 0] * index
        energies = torch.zeros(3, dtype=D).index_add(0, index, each).tanh()
        return energies[:, None] if self.column else energies


def forces(model):
    pos = POS.clone().requires_grad_()
    energy = model(pos).reshape(3)
    (g,) = torch.autograd.grad(energy.sum(), pos, create_graph=True)
    return energy, g


MEANS = {
    "row": lambda squares: squares.sum(1).mean(),
    "component": lambda squares: squares.mean(),
    "example": lambda squares: squares.sum() / 3,
}


@pytest.mark.parametrize("column", [False, True])
@pytest.mark.parametrize("mean", MEANS)
@pytest.mark.parametrize("weight", [None, (7, 1), (7, 3)])
def test_forces_in_the_mean_that_is_said(column, mean, weight):
    model, known = Molecules(column), {"target_gradient": FORCES}
    w = torch.ones(()) if weight is None else torch.rand(*weight, generator=G, dtype=D)
    if weight is not None:
        known["gradient_weight"] = w
    energy, g = forces(model)
    wanted = F.mse_loss(energy, ENERGY) + 10 * MEANS[mean]((w * (-g - FORCES)).square())
    context = Context(examples=known, index=ATOMS)
    same(GradientTarget(10.0, sign=-1, mean=mean)(model, POS, ENERGY, context), wanted, model)


def test_a_mean_over_examples_needs_to_know_them():
    context = Context(examples={"target_gradient": FORCES})
    GradientTarget(mean="row")(Molecules(False), POS, ENERGY, context)
    said = r"x has 7 rows for 3 examples; fix: Context\(index=...\) says which example a row belongs to"
    for loss in (GradientTarget(mean="example"), GradientNorm(), FiniteDifference(), Curvature(), PGD(norm="l2")):
        with pytest.raises(UserError, match=said):
            loss(Molecules(False), POS, ENERGY, context)
    with pytest.raises(UserError, match="share: a part of a batch needs one tensor with a row per example"):
        GradientTarget(share=0.5)(Molecules(False), POS, ENERGY, context)
    with pytest.raises(UserError, match="norm l2 of an example of several rows is not defined here; fix: norm: linf"):
        PGD(norm="l2")(Molecules(False), POS, ENERGY, Context(index=ATOMS))


@pytest.mark.parametrize("p", [1, 2, "inf"])
def test_a_norm_is_that_of_all_rows_of_an_example(p):
    model = Molecules(False)
    _, g = forces(model)
    wanted = torch.stack([torch.linalg.vector_norm(g[k == ATOMS], float(p)) for k in range(3)])
    found = GradientNorm(of="outputs", p=p, squared=False).each(model, POS, ENERGY, Context(index=ATOMS))
    torch.testing.assert_close(found, wanted)
    named = GradientNorm(of="outputs", p=p, squared=False).each(
        model, {"pos": POS, "index": ATOMS}, ENERGY, Context(index="index")
    )
    assert torch.equal(named, found)


@pytest.mark.parametrize("p", [1, 2, "inf"])
def test_a_finite_difference_is_that_of_all_rows_of_an_example(p):
    """Against one molecule at a time, where a row of the batch is the whole molecule."""
    model, loss = Molecules(False), FiniteDifference(p=p, h=0.01)
    found = loss.each(model, POS, ENERGY, Context(index=ATOMS))
    for k in range(3):
        atoms, number = POS[k == ATOMS], torch.full((int((k == ATOMS).sum()),), k)

        def alone(flat, number=number, k=k):
            return model(flat.reshape(-1, 3), number)[k : k + 1]

        torch.testing.assert_close(found[k : k + 1], loss.each(alone, atoms.reshape(1, -1), ENERGY[k : k + 1]))


@pytest.mark.parametrize(
    "loss", [Curvature(), LocalLinearity(), ELLE(), JacobianNorm(projections=-1)], ids=lambda one: type(one).__name__
)
def test_other_terms_of_molecules_have_a_number_each(loss):
    found = loss.each(Molecules(False), POS, ENERGY, Context(index=ATOMS))
    assert found.shape == (3,)
    assert torch.isfinite(found).all()


class Solver:
    """No module, but it uses one."""

    def __init__(self):
        self.net = mlp()

    def solve(self, x, scale=1.0):
        return self.net(x * scale)


def test_plain_functions_are_models():
    model, solver = mlp(), Solver()
    for function, weights in (
        (lambda x: model(x), model),
        (partial(lambda net, x: net(x), model), model),
        (solver.solve, solver.net),
        (lambda x: solver.solve(x), None),
    ):
        if weights is not None:
            Step(GradientNorm(0.5), function)(X, Y)
            found = torch.cat([p.grad.flatten() for p in weights.parameters()])
            torch.testing.assert_close(found, gradients(textbook(weights, X, Y), weights), rtol=1e-9, atol=1e-13)
        assert torch.isfinite(FGSM(0.5)(function, X, Y))


def test_the_inner_passes_of_a_function_are_in_eval_mode_too():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Linear(8, 4)).to(D)
    before = model[1].num_batches_tracked.clone()
    FGSM(0.5)(lambda x: model(x), X, Y)
    assert model[1].num_batches_tracked - before == 2  # the task's pass and the moved one
    assert model.training
