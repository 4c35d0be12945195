"""What people have trained and what they give with it: judged rightly, or refused with a fix that works."""

import re
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from inputgrad import UserError, evaluate
from inputgrad.robustness import given, nets
from inputgrad.robustness.settings import Attack
from tests.inputgrad.test_evaluation import images

CHEAP = Attack(norm="linf", epsilon=0.02, grid=[0.0, 0.02])
NET, X, Y = images()
ONE = nn.Sequential(nn.Flatten(), nn.Linear(64, 1, bias=False))
ONE[1].weight.data = torch.linspace(-1, 1, 64)[None]
SIDE = (ONE(X).detach()[:, 0] > 0).long()


class Gives(nn.Module):
    """A net whose outputs are changed by a function."""

    def __init__(self, net, change):
        super().__init__()
        self.net, self.change = net, change

    def forward(self, x):
        return self.change(self.net(x))


def judged(net, y, x=X, **options):
    return evaluate(net, x, y, epsilon=0.02, attack=CHEAP, **options)


def checked(net, y, x=X, task=None):
    """What is attacked, before any attack; and the share of examples that it has right."""
    found = given.checked(net, x, y, (0.0, 1.0), task)
    with torch.no_grad():
        return found, float((found.model.eval()(found.x).argmax(1) == found.y).double().mean())


def fix_of(error):
    return str(error).partition("fix: ")[2]


PROBABILITIES = {
    "one sigmoid unit (N, 1)": (ONE, lambda z: z.sigmoid(), SIDE),
    "one sigmoid unit (N,)": (ONE, lambda z: z.sigmoid().flatten(), SIDE),
    "softmax": (NET, lambda z: z.softmax(1), Y),
    "softmax in bfloat16": (NET, lambda z: z.softmax(1).bfloat16(), Y),
    "softmax in float16": (NET, lambda z: z.softmax(1).half(), Y),
    "soft voting": (NET, lambda z: (z.softmax(1) + (0.9 * z).softmax(1)) / 2, Y),
    "sigmoid of each class": (NET, lambda z: z.sigmoid(), Y),
}


@pytest.mark.parametrize("kind", PROBABILITIES)
def test_probabilities_are_refused_and_the_fix_gives_the_scores_of_the_logits(kind):
    logits, change, y = PROBABILITIES[kind]
    net = Gives(logits, change).eval()
    with pytest.raises(UserError, match="the model gives probabilities: all its outputs lie in") as error:
        judged(net, y)
    line = re.search(r"net\.register_forward_hook\(.*\)$", fix_of(error.value))
    exec(line.group(), {"net": net, "torch": torch})
    after, share = checked(net, y)
    assert share == checked(logits, y)[1] == 1.0
    if "16" not in kind:
        x = X.clone().requires_grad_(True)  # the attacks follow it: it must not vanish
        (gradient,) = torch.autograd.grad(after.model(x)[:, -1].sum(), x)
        assert (gradient.flatten(1).norm(dim=1) > 0).all()


def test_logits_that_lie_in_0_and_1_by_chance_are_judged():
    small = Gives(NET, lambda z: 0.01 * z + 0.5)
    with torch.no_grad():
        assert nets.like_probabilities(small(X))
    assert checked(small, Y)[1] == 1.0
    one = Gives(ONE, lambda z: z / 1000 + 0.5)
    assert checked(one, torch.ones(len(X), dtype=torch.long))[1] == 1.0


@pytest.mark.parametrize("flat", [False, True])
def test_one_logit_is_judged_by_its_sign(flat):
    net = Gives(ONE, lambda z: z.flatten()) if flat else ONE
    y = SIDE.clone()
    y[:4] = 1 - y[:4]
    found = judged(net, y)
    assert found.clean == pytest.approx(1 - 4 / len(X))
    assert "one logit is taken as two classes" in found.notes


LABELS = [
    (SIDE.float(), r"y\.long\(\) if they are class numbers, task='regression' \(--task regression\)"),
    (SIDE.float()[:, None], r"fix: y\.long\(\)\.flatten\(\) if they are class numbers"),
    (SIDE[:, None], r"labels of shape \(24, 1\) are no class numbers \(N,\); fix: y\.flatten\(\)"),
    (SIDE.float() + 0.5, r"labels or targets are torch\.float32; fix: task='regression'"),
    (torch.eye(2)[SIDE], r"are one-hot; fix: y\.argmax\(1\)"),
    (torch.tensor([[0.2, 0.8]] * 24), r"are probabilities of the classes; fix: y\.argmax\(1\)"),
    (torch.tensor([[1.0, 1, 0]] * 24), r"several labels of an example are not offered; fix: one of them"),
    (torch.tensor([[1, 1, 0]] * 24), r"several labels of an example are not offered; fix: one of them"),
    (torch.tensor([[1.5, 2.0]] * 24), r"are torch\.float32; fix: task='regression'"),
    (torch.tensor([[3, 2]] * 24), r"are no class numbers \(N,\); fix: one class for an example"),
]


@pytest.mark.parametrize(("y", "said"), LABELS, ids=[str(n) for n in range(len(LABELS))])
def test_a_regression_is_said_and_never_told_from_the_type(y, said):
    """0/1 floats of three labels were judged as a regression, and every check was fine."""
    with pytest.raises(UserError, match=said) as error:
        judged(ONE, y)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "y", [SIDE.float(), SIDE.float()[:, None], SIDE, SIDE.int()], ids=["(N,)", "(N, 1)", "int", "i32"]
)
def test_what_is_said_to_be_a_regression_is_one(y):
    assert given.checked(ONE, X, y, None, "regression").task.name == "regression"


def test_what_is_said_to_be_class_numbers():
    assert checked(ONE, SIDE.float(), task="classification")[1] == 1.0
    for integer in (torch.int32, torch.uint8, torch.bool):
        assert checked(ONE, SIDE.to(integer))[1] == 1.0
    with pytest.raises(UserError, match="no task 'regresion'; did you mean 'regression'"):
        judged(ONE, SIDE, task="regresion")
    with pytest.raises(UserError, match=r"outputs of shape .* do not fit targets of shape"):
        judged(NET, Y.float(), task="regression")


def test_one_of_several_labels_as_the_fix_says():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    y = (net(X) > 0).float()
    with pytest.raises(UserError, match="not offered") as error:
        judged(net, y)
    exec(re.search(r"net\.register_forward_hook\(.*?\]\)", fix_of(error.value)).group(), {"net": net})
    assert checked(net, y[:, 0].long())[1] == 1.0


@pytest.mark.parametrize(
    "form", [lambda z: {"logits": z, "hidden": z + 1}, lambda z: SimpleNamespace(logits=z, loss=None)]
)
def test_an_object_with_logits_is_taken(form):
    assert judged(Gives(NET, form), Y).robust == judged(NET, Y).robust


def test_a_tuple_is_refused_with_a_fix_that_works():
    net = Gives(NET, lambda z: (z, z + 1))
    with pytest.raises(UserError, match="the model gives a tuple of several parts") as error:
        judged(net, Y)
    exec(re.search(r"net\.register_forward_hook\(.*?\]\)", fix_of(error.value)).group(), {"net": net})
    assert checked(net, Y)[1] == 1.0


def test_lazy_layers_are_one_line_and_are_not_filled_at_random():
    net = nn.Sequential(nn.Flatten(), nn.LazyLinear(5))
    with pytest.raises(
        UserError, match=r"lazy layers without weights \(1\.weight, …\); fix: call it once, net\(x\[:1\]\)"
    ):
        judged(net, Y)
    assert nn.parameter.is_lazy(net[1].weight)
    net(X[:1])
    checked(net, Y)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("inputs", [torch.float32, "its own"])
def test_nets_in_16_bits(dtype, inputs):
    net = images()[0].to(dtype)
    x = X.to(dtype if inputs == "its own" else inputs)
    y = net(X.to(dtype)).argmax(1)
    found = judged(net, y, x)
    assert found.clean == 1.0
    assert next(net.parameters()).dtype == dtype
    assert found.masking["inside"]["ok"]  # the points are not rounded out of the ball
    assert any("16" in note for note in found.notes)


@pytest.mark.parametrize(
    ("net", "x", "fix"), [(torch.float32, torch.float64, "x.float()"), (torch.float64, torch.float32, "x.to(")]
)
def test_other_precisions_of_net_and_inputs_are_one_line(net, x, fix):
    with pytest.raises(UserError, match=r"does not take inputs of shape .* its weights are") as error:
        judged(images()[0].to(net), Y, X.to(x))
    assert fix_of(error.value).startswith(fix)


@pytest.mark.parametrize("kind", ["script", "trace"])
def test_scripted_nets(kind):
    net = torch.jit.script(NET) if kind == "script" else torch.jit.trace(NET, X[:2])
    found, plain = judged(net, Y), judged(NET, Y)
    assert (found.clean, found.robust) == (plain.clean, plain.robust)


@pytest.mark.compiles
@pytest.mark.parametrize("whole", [True, False])
def test_compiled_nets_run_uncompiled(whole):
    calls = []

    def backend(graph, _):
        calls.append(1)
        return graph.forward

    net = images()[0]
    if whole:
        net = torch.compile(net, backend=backend)
    else:
        net[4].compile(backend=backend)
    found = judged(net, Y)
    assert not calls
    assert found.robust == judged(NET, Y).robust
    assert any("before torch.compile" in note for note in found.notes)


class Counting(nn.Module):
    def __init__(self, net):
        super().__init__()
        self.net, self.seen = net, []

    def forward(self, x):
        self.seen.append(len(x))
        return self.net(x)


def test_never_more_rows_at_once_than_the_batch_size():
    attack = Attack(
        norm="linf", epsilon=0.02, grid=[0.0, 0.02], at_epsilon={"apgd_t": {"steps": 3}, "fab_t": {"steps": 2}}
    )
    net = Counting(NET)
    found = evaluate(net, X, Y, epsilon=0.02, attack=attack, batch_size=7)
    assert max(net.seen) == 7
    assert abs(found.robust - evaluate(NET, X, Y, epsilon=0.02, attack=attack).robust) <= 2 / len(X)
    with pytest.raises(UserError, match="batch_size is 0"):
        evaluate(net, X, Y, epsilon=0.02, batch_size=0)


def test_parts_have_the_gradients_of_the_whole_and_are_computed_in_turn():
    net = Counting(NET)
    x = X.clone().requires_grad_(True)
    outputs = nets.Plain(net, None, 5)(x)
    (found,) = torch.autograd.grad(outputs.square().sum(), x)
    y = X.clone().requires_grad_(True)
    (wanted,) = torch.autograd.grad(NET(y).square().sum(), y)
    torch.testing.assert_close(found, wanted)
    assert net.seen.count(5) == 8  # four parts of five, and again in the backward pass
    assert checkpoint is nets.checkpoint


@pytest.mark.parametrize(("x", "y"), [([1.0], torch.zeros(1)), (torch.zeros(1, 2), [0])])
def test_what_is_no_tensor_is_said(x, y):
    with pytest.raises(UserError, match=r"[xy] is a list; fix: a tensor"):
        given.checked(NET, x, y, None)
