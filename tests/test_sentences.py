"""What README and docs say that a snippet or a loss does to training is true: the snippets are trained with here.

`says` quotes the sentences that a test holds. A sentence of a page that speaks of training (`CLAIM`) and is quoted
nowhere fails, and so does a quoted sentence that no longer stands on its page.
"""

import copy
import json
import re
from collections import defaultdict
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from inputgrad import (
    Context,
    DetachedDerivative,
    DetachedNorm,
    DetachedTarget,
    GradientNorm,
    JacobianNorm,
    Standard,
    Step,
)
from tests.test_pages import PAGES, blocks

ROOT = Path(__file__).parents[1]
README, QUESTION, FORCES = ROOT / "README.md", ROOT / "docs/question.md", ROOT / "docs/for/forces.md"
SETUP = """
import torch
from torch.nn import functional as F

torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(6, 16), torch.nn.SiLU(), torch.nn.Linear(16, 3))
n = 8
x, y = torch.rand(n, 6), torch.randint(3, (n,))
"""
"""Of the README, whose snippets have none."""
CROSS, SQUARED = "F.cross_entropy(model(x), y)", "F.mse_loss(model(x), y)"
TASK = {
    "README": CROSS,
    "question": CROSS,
    "attribution": CROSS,
    "distances": "model(x).abs().mean()",
    "forces": SQUARED,
    "gan": "model(fake).mean() - model(x).mean()",
    "images": CROSS,
    "physics": SQUARED,
    "tokens": CROSS,
    "scores": "0.01 * model(x).square().mean()",
    "imitation": "(model((x - mean) / std) - 1).square().mean() + (model((policy - mean) / std) + 1).square().mean()",
    "surrogates": SQUARED,
    "dynamics": "0 * model(x).sum()",
    "finance": SQUARED,
}
"""What the snippets of a page train on without their term."""
UNMARKED = {
    "README.md": 2,  # the loop, and a loss of one's own: tests/pipeline/test_pages.py and test_repro.py
    "docs/audit.md": 1,  # tests/inputgrad/audit/test_docs.py
    "docs/checkpoints.md": 2,  # how to load a net
    "docs/data.md": 1,  # how to attack one
}
"""Snippets that do not say in their first word what they are."""
CLAIM = re.compile(
    r"bit for bit|counts twice|twice as long|trains? nothing|nothing trains|no weight can|no effect|not train on"
    r"|trains? the task alone|trained down|does nothing|no gradient of|trains them|weights are those"
)
QUOTED: dict[str, list[str]] = defaultdict(list)
QUOTED["README.md"].append("its numbers are those of a run that was not, bit for bit")  # tests/pipeline/test_train.py
QUOTED["docs/data.md"].append("and resume bit for bit")  # tests/pipeline/test_training_options.py
QUOTED["docs/audit.md"].append("may print the input gradient and not train on it")  # tests/inputgrad/audit


def says(page, *sentences):
    """Marks the test that holds these sentences of a page."""
    QUOTED[page] += sentences
    return lambda test: test


def text_of(page):
    """What a reader of the page sees, in one line; of a notebook its texts, of a script all of it."""
    text = (ROOT / page).read_text(encoding="utf-8")
    if page.endswith(".ipynb"):
        text = "\n".join(
            "".join(cell["source"]) for cell in json.loads(text)["cells"] if cell["cell_type"] == "markdown"
        )
    return " ".join(text.split())


def pages():
    """Those that speak of snippets and losses; reports speak from their numbers."""
    found = [README, *ROOT.glob("docs/*.md"), *ROOT.glob("docs/for/*.md"), *ROOT.glob("docs/losses/*.md")]
    found += [*ROOT.glob("examples/*.md"), *ROOT.glob("examples/*.py"), ROOT / "docs/tutorial.ipynb"]
    return [str(page.relative_to(ROOT)) for page in found]


@pytest.mark.parametrize("page", pages())
def test_every_sentence_about_training_is_held_by_a_test(page):
    text = text_of(page)
    for sentence in QUOTED[page]:
        assert sentence in text, f"{page} no longer says: {sentence}"
        text = text.replace(sentence, "…")
    found = [text[max(0, claim.start() - 80) : claim.end() + 40] for claim in CLAIM.finditer(text)]
    assert found == [], f"{page}: quote it with `says` above a test that trains"


def test_a_sentence_without_a_test_is_noticed(monkeypatch):
    monkeypatch.setitem(QUOTED, "README.md", [])
    with pytest.raises(AssertionError, match="quote it with"):
        test_every_sentence_about_training_is_held_by_a_test("README.md")


@pytest.mark.parametrize("page", [page for page in pages() if page.endswith(".md") and "/losses/" not in page])
def test_every_snippet_says_what_it_is_or_is_listed(page):
    count = (ROOT / page).read_text(encoding="utf-8").count("```python")
    assert count - len(blocks(ROOT / page)) == UNMARKED.get(page, 0)


class Snippet:
    """A loss as its page writes it, a function of (model, x, y), with the page's own net and batch."""

    def __init__(self, kind, code, page, names):
        exec(compile(code, page.name, "exec"), names)
        self.kind, self.names = kind, names
        context = names.pop("context", None)
        self.loss = names["loss"] if context is None else partial(names["loss"], context=context)
        self.task = eval(f"lambda model, x, y: {TASK[page.stem]}", names)

    @classmethod
    def of(cls, page, *changes, kind="void"):
        """The first one of that kind on a page that has these texts, each replaced by the one behind it."""
        names = {}
        exec(SETUP, names)
        for found, code, _ in blocks(page):
            if found == kind and all(old in code for old, _ in changes):
                for change in changes:
                    code = code.replace(*change)
                return cls(kind, code, page, names)
            exec(code, names)
        raise AssertionError(f"no such snippet on {page}: {changes}")

    def train(self, loss, lr=0.05, steps=100):
        """The loop that everybody writes, from the page's net: the weights at its end, and the printed losses."""
        model, printed = copy.deepcopy(self.names["model"]), []
        optimizer = torch.optim.SGD(model.parameters(), lr)
        for _ in range(steps):
            optimizer.zero_grad()
            value = loss(model, self.names["x"], self.names["y"])
            value.backward()
            optimizer.step()
            printed.append(value.item())
        return model, printed

    def gradients(self, loss):
        """What the same loop leaves in every weight's `.grad` at its first step."""
        model = copy.deepcopy(self.names["model"])
        loss(model, self.names["x"], self.names["y"]).backward()
        return [torch.zeros_like(p) if p.grad is None else p.grad for p in model.parameters()]

    def value(self, loss, model):
        return loss(model, self.names["x"], self.names["y"]).item()

    def term(self, model):
        return self.value(self.loss, model) - self.value(self.task, model)


def snippets(page, n=8):
    """Those of a page, with a batch of n examples."""
    names = {}
    exec(SETUP.replace("n = 8", f"n = {n}"), names)
    for kind, code, _ in blocks(page):
        if kind == "setup":
            assert "n = 8\n" in code
            exec(code.replace("n = 8\n", f"n = {n}\n"), names)
        else:
            yield Snippet(kind, code, page, names)


def same(a, b):
    """Are all weights the same, bit for bit?"""
    return all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))


@says("README.md", "Trained with the first, the weights are those of the task alone, bit for bit.")
@says(
    "docs/question.md",
    "*Void*: the weights are those of the task alone, bit for bit. *Right*: its term ends below what the task alone"
    " leaves. *Ours*: loss and gradients are those of the right lines above it.",
    "The same numbers; tested against closed forms.",
)
@says("docs/for/tokens.md", "What lies in front of it is trained too: here the embeddings.")
@pytest.mark.parametrize("page", [README, *PAGES], ids=lambda page: page.stem)
def test_a_snippet_trains_as_its_first_word_says(page):
    right = None
    for one in snippets(page):
        plain, trained = one.train(one.task)[0], one.train(one.loss)[0]
        if one.kind == "void":
            assert same(trained, plain)
            assert one.term(trained) > 0  # it is in the printed loss
            continue
        assert not same(trained, plain)
        assert one.term(trained) < one.term(plain)
        if one.kind == "right":
            right = one
            continue
        model = one.names["model"]
        assert one.value(one.loss, model) == pytest.approx(one.value(right.loss, model), rel=1e-6)
        for ours, written in zip(one.gradients(one.loss), one.gradients(right.loss), strict=True):
            torch.testing.assert_close(ours, written, rtol=1e-5, atol=1e-7)
            # the critic's last bias moves real and fake alike; an energy's adds a constant
            assert page.stem in ("gan", "dynamics") or written.norm() > 0


@pytest.mark.parametrize("n", [2, 13])
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_ours_are_the_right_numbers_at_other_batch_sizes_too(page, n):
    right, compared = None, 0
    for one in snippets(page, n):
        if one.kind == "right":
            right = one
        elif one.kind == "ours":
            model = one.names["model"]
            assert one.value(one.loss, model) == pytest.approx(one.value(right.loss, model), rel=1e-6)
            for ours, written in zip(one.gradients(one.loss), one.gradients(right.loss), strict=True):
                torch.testing.assert_close(ours, written, rtol=1e-5, atol=1e-7)
            compared += 1
    assert compared


@says(
    "README.md",
    "runs, prints a falling loss, and its penalty trains nothing, because that gradient is a constant",
    "void: a number, which no weight can change",
)
@says(
    "docs/question.md",
    "It runs, its printed loss falls (the task's part falls), and the trained weights are those without the penalty,"
    " bit for bit. `retain_graph=True` keeps the graph of the *loss*; the gradient itself gets none.",
    "The recipe that circulates: its penalty trains nothing",
    "may use it, but no weight can change it, so nothing trains on it",
)
@pytest.mark.parametrize("page", [README, QUESTION], ids=lambda page: page.stem)
def test_the_copied_recipe_prints_a_falling_loss_and_trains_the_task_alone(page):
    one = Snippet.of(page)
    (trained, printed), (plain, falling) = one.train(one.loss), one.train(one.task)
    assert printed[-1] < printed[0]
    assert falling[-1] < falling[0]
    assert same(trained, plain)
    cut = Snippet.of(
        page, ("gradient = x.grad.clone()", "gradient = x.grad.clone(); assert not gradient.requires_grad")
    )
    cut.gradients(cut.loss)


@says("README.md", "without it the task counts twice")
@says(
    "docs/question.md",
    "the penalty still trains nothing, and the task counts twice, exactly. A step of SGD is then twice as long.",
    "the task counts once, and the sum of the outputs is trained down, too",
)
@pytest.mark.parametrize("page", [README, QUESTION], ids=lambda page: page.stem)
def test_where_nothing_clears_the_gradients_the_task_counts_twice(page):
    line = re.search(r"    model\.zero_grad\(\).*\n", page.read_text(encoding="utf-8"))[0]
    one = Snippet.of(page, (line, ""))
    assert all(torch.equal(a, 2 * b) for a, b in zip(one.gradients(one.loss), one.gradients(one.task), strict=True))
    assert same(one.train(one.loss, lr=0.05)[0], one.train(one.task, lr=0.1)[0])
    assert not same(one.train(one.loss)[0], one.train(one.task)[0])
    of_outputs = ("task.backward(retain_graph=True)", "model(x).sum().backward()")
    left, cleared = Snippet.of(page, of_outputs, (line, "")), Snippet.of(page, of_outputs)
    both = left.gradients(lambda model, x, y: left.task(model, x, y) + model(x).sum())
    torch.testing.assert_close(left.gradients(left.loss), both)
    assert same(cleared.train(cleared.loss)[0], cleared.train(cleared.task)[0])


@says(
    "docs/question.md",
    "The same holds for `x.grad.data`, `.detach()`, `.numpy()`, and for `autograd.grad` without `create_graph`.",
    "void for the same reason where it takes `x.grad`",
)
@pytest.mark.parametrize(
    "change",
    [
        ("create_graph=True)", "create_graph=True); gradient = gradient.detach()"),
        ("create_graph=True)", "create_graph=True); gradient = torch.from_numpy(gradient.detach().numpy())"),
        ("create_graph=True)", "create_graph=True); gradient = gradient.data"),
        ("create_graph=True)", "retain_graph=True)"),
        (
            "(gradient,) = torch.autograd.grad(losses.sum(), x, create_graph=True)",
            "losses.sum().backward(retain_graph=True); gradient = x.grad.data; model.zero_grad()",
        ),
    ],
    ids=["detach", "numpy", "data", "no create_graph", "x.grad.data"],
)
def test_every_way_to_cut_the_gradient_off_is_void(change):
    one = Snippet.of(QUESTION, change, kind="right")
    plain = one.train(lambda model, x, y: F.cross_entropy(model(x), y, reduction="none").mean())[0]
    assert same(one.train(one.loss)[0], plain)


@says("docs/losses/detached_norm.md", "that needs `create_graph=True` (see `gradient_norm`) or `torch.func`")
def test_torch_func_makes_it_a_function_as_well():
    right = Snippet.of(QUESTION, kind="right")
    asked = "(gradient,) = torch.autograd.grad(losses.sum(), x, create_graph=True)"
    taken = "gradient = torch.func.grad(lambda x: F.cross_entropy(model(x), y, reduction='sum'))(x)"
    one = Snippet.of(QUESTION, (asked, taken), kind="right")
    torch.testing.assert_close(one.gradients(one.loss), right.gradients(right.loss))


def test_the_direction_is_void_where_it_takes_x_grad():
    asked = "(gradient,) = torch.autograd.grad(outputs.sum(), x, create_graph=True)"
    taken = "outputs.sum().backward(retain_graph=True); gradient = x.grad.clone(); model.zero_grad()"
    one = Snippet.of(QUESTION, (asked, taken), kind="right")
    assert same(one.train(one.loss)[0], one.train(one.task)[0])


@says("docs/question.md", "so that the gradient of an example does not shrink with the size of the batch")
def test_the_gradient_of_the_sum_does_not_shrink_with_the_batch():
    for asked, shrinks in (("losses.sum()", False), ("losses.mean()", True)):
        one = Snippet.of(QUESTION, ("losses.sum()", asked), kind="right")
        before = one.term(one.names["model"])
        one.names.update(x=one.names["x"].repeat(4, 1), y=one.names["y"].repeat(4))
        assert one.term(one.names["model"]) == pytest.approx(before / 4 if shrinks else before, rel=1e-3)


VECTORS = {"target_gradient": torch.ones(8, 6), "derivative_direction": torch.ones(8, 6), "derivative": torch.ones(8)}


@says("README.md", "because it *is* `standard`: the trained weights are the same bit for bit")
@says("docs/evaluation.md", "leave out `detached_norm`, whose weights are those of `standard`")
@says("docs/concepts.md", "its weights equal those of `standard` bit for bit")
@says("docs/for/forces.md", "void like the first lines, *is* energies alone, bit for bit")
@says("docs/losses/detached_norm.md", "it has no effect, on purpose", "no gradient of the penalty reaches a parameter")
@says("docs/losses/detached_target.md", "trains the task alone", "The weights equal those of `standard` bit for bit.")
@says("docs/losses/detached_derivative.md", "trains the task alone", "those of `standard` bit for bit")
@pytest.mark.parametrize("control", [DetachedNorm, DetachedTarget, DetachedDerivative])
def test_a_control_trains_to_the_weights_of_standard(control):
    one = Snippet.of(FORCES)
    context = Context(examples=VECTORS)
    loss = partial(control(strength=10.0), context=context)
    (trained, printed), (plain, without) = one.train(loss), one.train(Standard())
    assert same(trained, plain)
    assert all(a > b for a, b in zip(printed, without, strict=True))


@says(
    "docs/for/forces.md", "The force error that it prints falls a little", "right in train mode and void in eval mode"
)
@says("docs/for/forces.md", "the sum of the energies is trained down, too")
def test_what_the_page_of_forces_says():
    one = Snippet.of(FORCES)
    assert one.term(one.train(one.loss)[0]) < one.term(one.names["model"])
    asked = "(gradient,) = torch.autograd.grad(energy.sum(), x, retain_graph=True)"
    taken = "energy.sum().backward(retain_graph=True); gradient = x.grad"
    left, cleared = Snippet.of(FORCES, (asked, taken)), Snippet.of(FORCES, (asked, f"{taken}; model.zero_grad()"))
    both = left.gradients(lambda model, x, y: left.task(model, x, y) + model(x).sum())
    torch.testing.assert_close(left.gradients(left.loss), both)
    assert same(cleared.train(cleared.loss)[0], cleared.train(cleared.task)[0])
    for mode in (True, False):
        trap = Snippet.of(FORCES, ("create_graph=True", "retain_graph=True, create_graph=model.training"), kind="right")
        trap.names["model"].train(mode)
        assert same(trap.train(trap.loss)[0], trap.train(trap.task)[0]) is not mode


@says("docs/tutorial.ipynb", "it adds the task's parameter gradient a second time")
@says("examples/void_loss.py", "a constant, so its penalty trains nothing", "the task counts twice")
@says("examples/void_loss.py", "prints the input gradient and does not train on it")
@says("examples/README.md", "a loss that does not train on the gradient it prints")
@pytest.mark.parametrize("page", ["docs/tutorial.ipynb", "examples/void_loss.py", "docs/audit.md"])
def test_the_void_loss_of_a_longer_page_adds_the_task_a_second_time(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    if page.endswith(".ipynb"):
        text = "\n".join("".join(cell["source"]) for cell in json.loads(text)["cells"] if cell["cell_type"] == "code")
    one = Snippet.of(README)
    names = one.names | {"nn": nn, "Tensor": torch.Tensor}
    exec(re.search(r"^def void\(.*?\n(?=\n\n)", text, re.MULTILINE | re.DOTALL)[0], names)
    left = one.gradients(names["void"])
    assert all(torch.equal(a, 2 * b) for a, b in zip(left, one.gradients(one.task), strict=True))


@says("docs/for/gan.md", 'R1: GradientNorm(of="outputs"), at x', "R1 has γ / 2 in the place of 10")
def test_r1_is_what_the_page_says():
    one = next(one for one in snippets(ROOT / "docs/for/gan.md") if one.kind == "ours")
    model, real = one.names["model"], one.names["real"].clone().requires_grad_()
    (gradient,) = torch.autograd.grad(model(real).sum(), real)
    term = GradientNorm(of="outputs").each(model, real)
    torch.testing.assert_close(term, gradient.square().sum(1))  # Mescheder et al. 2018: γ / 2 times its mean


@says("docs/for/images.md", "ReLU's second derivative is 0", "it couples the examples of a batch")
@says(
    "docs/faq.md",
    "a penalty on the Jacobian reaches the weights that multiply, and no bias",
    "so the gradient of one example depends on the",
)
def test_relu_passes_no_second_derivative_and_batch_norm_couples_examples():
    x, y = torch.rand(5, 4), torch.arange(5) % 3
    for activation, reached in ((nn.ReLU(), 0), (nn.SiLU(), 1)):
        model = nn.Sequential(nn.Linear(4, 8), activation, nn.Linear(8, 3))
        (JacobianNorm(strength=1.0, projections=-1)(model, x, y) - F.cross_entropy(model(x), y)).backward()
        assert model[0].weight.grad.norm() > 1e-3
        assert (model[0].bias.grad.norm() > 1e-6) == reached
    other = torch.cat([x[:-1], x[-1:] + 1])
    for norm, coupled in ((nn.BatchNorm1d(8), True), (nn.GroupNorm(2, 8), False)):
        model = nn.Sequential(nn.Linear(4, 8), norm, nn.SiLU(), nn.Linear(8, 3))
        first = []
        for batch in (x, other):
            leaf = batch.clone().requires_grad_()
            first.append(torch.autograd.grad(F.cross_entropy(model(leaf), y, reduction="sum"), leaf)[0][0])
        assert torch.allclose(*first, rtol=1e-5) is not coupled


@says(
    "docs/faq.md",
    "The forward pass ran under `torch.no_grad()`.",
    "The input did not require a gradient when the forward pass began.",
    "A norm of small gradients underflows in float16. bfloat16 works",
)
def test_the_errors_and_the_underflow_of_the_questions():
    page, model, y = text_of("docs/faq.md"), nn.Linear(4, 3), torch.arange(5) % 3

    def ask(when, tracked=True):
        leaf = torch.rand(5, 4).requires_grad_(when == "before")
        with torch.set_grad_enabled(tracked):
            loss = F.cross_entropy(model(leaf), y)
        torch.autograd.grad(loss, leaf.requires_grad_(when != "never"))

    for when, tracked, message in (
        ("before", False, "element 0 of tensors does not require grad"),
        ("never", True, "One of the differentiated Tensors does not require grad"),
        ("after", True, "appears to not have been used in the graph"),
    ):
        with pytest.raises(RuntimeError, match=message):
            ask(when, tracked)
        assert message in page
    assert torch.tensor(1e-4).half().square() == 0
    assert torch.tensor(1e-4).bfloat16().square() > 0


def percent(value, interval=True):
    mean, low, high = (f"{100 * value[key]:.1f}" for key in ("mean", "low", "high"))
    return f"{mean} [{low}, {high}]" if interval else mean


@says("docs/faq.md", "So a ReLU net gains too, but less, at a higher price in clean accuracy, and with more spread.")
@says("docs/for/images.md", "[gains less](../faq.md)")
def test_the_table_of_activations_is_that_of_the_kept_results():
    page = text_of("docs/faq.md")
    gains, prices, spreads = {}, {}, {}
    for name in ("ReLU", "Softplus", "SiLU", "GELU"):
        metrics = ROOT / f"docs/results/activations_{name.lower()}/metrics.json"
        found = json.loads(metrics.read_text(encoding="utf-8"))["losses"]
        (clean, robust), (clean_after, robust_after) = (
            [found[loss][f"{kind}_accuracy"] for kind in ("clean", "robust")] for loss in ("standard", "gradient_norm")
        )
        before = f"{percent(clean, interval=False)}, {percent(robust, interval=False)}"
        assert f"| {name} | {before} | {percent(clean_after)} | {percent(robust_after)} |" in page
        gains[name], prices[name] = robust_after["mean"] - robust["mean"], clean["mean"] - clean_after["mean"]
        spreads[name] = robust_after["high"] - robust_after["low"]
    smooth = ("SiLU", "GELU")
    assert 0 < gains["ReLU"] < min(gains[name] for name in smooth)
    assert prices["ReLU"] == max(prices.values())
    assert spreads["ReLU"] == max(spreads.values())


@says("docs/faq.md", "(`pgd`, `trades`, `local_linearity`) stands best; pure gradient penalties lie below")
def test_the_order_of_digits_is_that_of_the_kept_results():
    found = json.loads((ROOT / "docs/results/digits/metrics.json").read_text(encoding="utf-8"))["losses"]
    order = sorted(found, key=lambda loss: -found[loss]["robust_accuracy"]["mean"])
    assert set(order[:3]) == {"pgd", "trades", "local_linearity"}


class Counting(TorchDispatchMode):
    """Counts multiplications of matrices and convolutions, as `FlopCounterMode` does, without hooks on modules."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if counted := flop_registry.get(func._overloadpacket):
            self.count += counted(*args, **(kwargs or {}), out_val=out)
        return out


@says("docs/concepts.md", "about 2 × a plain step by the number of operations")
def test_a_double_backward_costs_two_plain_steps():
    model = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.SiLU(), nn.Conv2d(16, 32, 3, padding=1), nn.Flatten())
    model.append(nn.Linear(2048, 10))
    x, y = torch.rand(8, 1, 8, 8), torch.arange(8)
    with Counting() as plain:
        F.cross_entropy(model(x), y).backward()
    with Counting() as penalised:
        Step(GradientNorm(), model)(x, y)
    assert penalised.count / plain.count == pytest.approx(2, abs=0.1)
