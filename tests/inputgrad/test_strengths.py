"""Published strengths: the factor of each source against its own code's arithmetic, there and back."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from inputgrad.errors import UserError
from inputgrad.gradients.ascent import Adversary
from inputgrad.gradients.forward import Context, Draws, Forward
from inputgrad.losses.curvature import Curvature
from inputgrad.losses.elle import ELLE
from inputgrad.losses.finite_difference import FiniteDifference
from inputgrad.losses.gradient_alignment import GradientAlignment
from inputgrad.losses.gradient_direction import GradientDirection
from inputgrad.losses.gradient_norm import GradientNorm
from inputgrad.losses.gradient_target import GradientTarget
from inputgrad.losses.right_reasons import RightReasons
from inputgrad.losses.standard import Standard
from inputgrad.strengths import Setting, convert, describe, sources

N, D, C = 6, 5, 3
SETTING = Setting(batch_size=N, epsilon=0.1, alpha=0.7)


def problem(n=N):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(D, 4), nn.Tanh(), nn.Linear(4, C)).double()
    x = torch.rand(n, D, dtype=torch.float64)
    return model, x, torch.randint(C, (n,))


def input_gradient(value, x):
    return torch.autograd.grad(value, x, create_graph=True)[0]


def test_ross_2018():
    """Their code penalises w · ½ · the sum of squares of the gradient of the mean loss."""
    model, x, y = problem()
    leaf = x.clone().requires_grad_()
    theirs = 12.0 * 0.5 * input_gradient(F.cross_entropy(model(leaf), y), leaf).square().sum()
    ours = GradientNorm(strength=convert("ross2018", 12.0, SETTING))
    torch.testing.assert_close(ours(model, x, y) - F.cross_entropy(model(x), y), theirs)


def test_ross_2018_as_published():
    assert convert("ross2018", 56234.13, Setting(batch_size=256)) == pytest.approx(109.83, abs=0.01)


def test_finlay_2019():
    """w · mean(dl²) / 2, dl the difference quotient along the gradient: w for our own, w / 2 for the exact norm."""
    model, x, y = problem()
    leaf = x.clone().requires_grad_()
    g = input_gradient(F.cross_entropy(model(leaf), y, reduction="sum"), leaf).detach()
    h = 1e-4
    here, there = (F.cross_entropy(model(z), y, reduction="none") for z in (x, x + h * g / g.norm(dim=1)[:, None]))
    theirs = 3.0 * ((there - here) / h).square().mean() / 2
    task = F.cross_entropy(model(x), y)
    torch.testing.assert_close(FiniteDifference(strength=3.0, h=h)(model, x, y) - task, theirs)
    exact = GradientNorm(strength=convert("finlay2019", 3.0, SETTING))(model, x, y) - task
    torch.testing.assert_close(exact, theirs, rtol=1e-3, atol=0)


@pytest.mark.parametrize("n", [16, 32, 64])
def test_cure_divides_by_no_batch_size(n):
    """Their lines, with the sum over ones(N) that torch 1.0.1 makes where a scalar gets N incoming gradients."""
    model, x, y = problem(n)
    leaf, h, w = x.clone().requires_grad_(), 0.5, 4.0
    ones = torch.ones(n, dtype=x.dtype).sum_to_size(())  # today's torch refuses the shape, the old one sums
    loss = F.cross_entropy(model(leaf), y)
    (g,) = torch.autograd.grad(loss, leaf, grad_outputs=ones)
    z = h * (g.sign() + 1e-7) / (g.sign().norm(dim=1)[:, None] + 1e-7)
    change = F.cross_entropy(model(leaf + z), y) - F.cross_entropy(model(leaf), y)
    (difference,) = torch.autograd.grad(change, leaf, grad_outputs=ones, create_graph=True)
    theirs = (w * difference.norm(dim=1)).sum() / n
    ours = Curvature(h=h).term(Forward(model, x, y)).sqrt().mean()  # squared here, not squared there
    weight = convert("cure", w, Setting(batch_size=n))
    assert weight == w
    torch.testing.assert_close(theirs / ours, torch.tensor(weight, dtype=x.dtype), rtol=1e-6, atol=0)


def test_the_eccv_2024_weight_in_unit_range():
    """w · α · (ε/σ) · mean ‖gradient of the normalised input‖₁: σ cancels."""
    model, x, y = problem()
    std, mean = 0.25, 0.4
    normalised = ((x - mean) / std).requires_grad_()
    g = input_gradient(F.cross_entropy(model(normalised * std + mean), y, reduction="sum"), normalised)
    theirs = 2.0 * 0.7 * (0.1 / std) * g.abs().sum(1).mean()
    ours = GradientNorm(strength=convert("eccv2024", 2.0, SETTING), p=1, squared=False)
    torch.testing.assert_close(ours(model, x, y) - F.cross_entropy(model(x), y), theirs)


def test_pag_multiplies_by_ten():
    model, x, y = problem()
    means = torch.rand(C, D, dtype=torch.float64)
    context = Context(direction=means)

    def of(strength):
        return GradientDirection(strength=strength)(model, x, y, context, Draws(torch.Generator().manual_seed(0)))

    base, ours = of(1.0) - F.cross_entropy(model(x), y), of(convert("pag", 1.5, SETTING))
    torch.testing.assert_close(ours - F.cross_entropy(model(x), y), 15 * base)


def test_rrr_sums_both_and_its_ports_one():
    model, x, y = problem()
    mask = torch.tensor([1.0, 0, 1, 0, 0], dtype=torch.float64)
    leaf = x.clone().requires_grad_()
    g = input_gradient(model(leaf).log_softmax(1).sum(), leaf) * mask
    both = F.cross_entropy(model(x), y, reduction="sum") + 3.0 * g.square().sum()
    port = F.cross_entropy(model(x), y) + 3.0 * g.square().sum()
    context = Context(mask=mask)
    ours = RightReasons(strength=convert("rrr", 3.0, SETTING))(model, x, y, context)
    torch.testing.assert_close(ours, both / N)
    ours = RightReasons(strength=convert("rrr_mean_task", 3.0, SETTING))(model, x, y, context)
    torch.testing.assert_close(ours, port)


@pytest.mark.parametrize("w", [1.0, 0.3])
def test_differential_machine_learning_is_alpha_times_ours(w):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(D, 4), nn.Softplus(), nn.Linear(4, 1)).double()
    x, y, slopes = (torch.rand(N, k, dtype=torch.float64) for k in (D, 1, D))
    leaf, weight = x.clone().requires_grad_(), 1 / slopes.square().mean(0).sqrt()
    values = model(leaf)
    found = input_gradient(values.sum(), leaf)
    alpha = 1 / (1 + w * D)
    theirs = alpha * F.mse_loss(values, y) + (1 - alpha) * F.mse_loss(weight * found, weight * slopes)
    context = Context(examples={"target_gradient": slopes, "gradient_weight": weight.expand(N, D)})
    ours = GradientTarget(strength=convert("huge2020", w, SETTING))(model, x, y, context)
    torch.testing.assert_close(alpha * ours, theirs)


def test_the_whole_objective_of_rrr_with_its_weight_decay():
    """Sums of task and term plus w·‖θ‖², against means and the `weight_decay` of torch's optimisers, 2·w/N.

    Every gradient of theirs is N times ours: Adam, from the same weights, takes the same steps.
    """
    decay, strength, masks = 1e-2, 3.0, (torch.rand(N, D) < 0.5).double()
    theirs, x, y = problem()
    optimizer = torch.optim.Adam(theirs.parameters(), eps=0.0)
    for _ in range(5):
        leaf = x.clone().requires_grad_()
        g = input_gradient(theirs(leaf).log_softmax(1).sum(), leaf)
        objective = F.cross_entropy(theirs(x), y, reduction="sum") + strength * (masks * g).square().sum()
        objective = objective + decay * sum(p.square().sum() for p in theirs.parameters())
        optimizer.zero_grad()
        objective.backward()
        optimizer.step()
    ours = problem()[0]
    optimizer = torch.optim.Adam(ours.parameters(), eps=0.0, weight_decay=2 * decay / N)
    loss = RightReasons(strength=convert("rrr", strength, SETTING))
    for _ in range(5):
        optimizer.zero_grad()
        loss(ours, x, y, Context(examples={"mask": masks})).backward()
        optimizer.step()
    assert (ours[0].weight - problem()[0][0].weight).abs().min() > 1e-4
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(one, other)


def test_elle_of_the_fastat_benchmark():
    """Theirs: lin_reg · the mean of (l(c) - (1 - α)·l(a) - α·l(b))², a and b uniform in the box, no bounds."""
    model, x, y = problem()
    draws = Draws(torch.Generator().manual_seed(0))
    a, b = (x + 0.1 * (2 * draws.uniform(x) - 1) for _ in range(2))
    alpha = draws.uniform(x.new_empty(N))
    at_a, at_b, at_c = (
        F.cross_entropy(model(z), y, reduction="none") for z in (a, b, (1 - alpha)[:, None] * a + alpha[:, None] * b)
    )
    theirs = F.cross_entropy(model(x), y) + 1e9 * F.mse_loss(at_c, (1 - alpha) * at_a + alpha * at_b)
    ours = ELLE(strength=convert("fastat_elle", 1e9, SETTING), epsilon=0.1)
    found = ours(model, x, y, draws=Draws(torch.Generator().manual_seed(0)))
    torch.testing.assert_close(found, theirs)
    assert found > 2 * F.cross_entropy(model(x), y)  # most of it is the term


def test_grad_align_of_the_fastat_benchmark():
    """Theirs: the task at the FGSM input, plus w · (1 - mean cosine), the clean gradient detached; all in [0, 1]."""
    model, x, y = problem()
    leaf = x.clone().requires_grad_()
    clean = input_gradient(F.cross_entropy(model(leaf), y), leaf).detach()
    moved = (x + 0.1 * clean.sign()).clamp(0, 1)
    noise = Draws(torch.Generator().manual_seed(0)).uniform(x)
    there = (x + 0.1 * (2 * noise - 1)).clamp(0, 1).requires_grad_()
    cosine = F.cosine_similarity(clean, input_gradient(F.cross_entropy(model(there), y), there), dim=1)
    theirs = F.cross_entropy(model(moved), y) + 0.2 * (1 - cosine.mean())
    ours = GradientAlignment(
        strength=convert("fastat_grad_align", 0.2, SETTING), epsilon=0.1, on=Adversary(epsilon=0.1)
    )
    draws = Draws(torch.Generator().manual_seed(0))
    torch.testing.assert_close(ours(model, x, y, Context(bounds=(0.0, 1.0)), draws), theirs)


@pytest.mark.parametrize("source", sources())
def test_there_and_back(source):
    assert convert(source, convert(source, 3.7, SETTING), SETTING, back=True) == pytest.approx(3.7)
    loss, entry = sources()[source]
    text = describe(source, 3.7, SETTING)
    for piece in (entry.formula, entry.writes, loss, entry.knobs):
        assert piece in text
    assert text.splitlines()[-1] == f"checked: {entry.checked}"
    assert len(entry.checked) > 40


def test_a_source_belongs_to_one_loss(monkeypatch):
    monkeypatch.setattr(Standard, "published", {"cure": Curvature.published["cure"]})
    with pytest.raises(TypeError, match="two losses: curvature and standard"):
        sources()


def test_what_is_missing_is_named():
    with pytest.raises(UserError, match="ross2018 needs --batch-size"):
        convert("ross2018", 1.0, Setting())
    with pytest.raises(UserError, match="did you mean 'ross2018'"):
        convert("ross2017", 1.0, SETTING)
    with pytest.raises(UserError, match="finite number"):
        convert("pag", -1.0, SETTING)
