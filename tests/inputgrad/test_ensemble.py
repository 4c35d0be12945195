"""Our members of the standard ensemble against the authors' own code: the same points, distances and verdicts."""

import itertools
from dataclasses import replace

import pytest
import torch
from pyautoattack.autopgd_base import APGDAttack, APGDAttack_targeted
from pyautoattack.fab_pt import FABAttack_PT
from pyautoattack.square import SquareAttack
from torch import nn

from inputgrad.attacks import Threat, Traits, _apgd, apgd_ce, apgd_t, fab, fab_t, square
from inputgrad.attacks._classes import targets_of
from inputgrad.attacks._square import TRIES, Walk
from inputgrad.gradients.forward import Draws

THREATS = [Threat(norm="linf", epsilon=0.06, bounds=(0.0, 1.0)), Threat(norm="l2", epsilon=0.3, bounds=(0.0, 1.0))]


def draws(seed=0):
    return Draws(torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def victim():
    """A net that is right on all of 60 images of 1x8x8; about half of them can be broken."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        nn.SiLU(),
        nn.Conv2d(8, 8, 3, stride=2),
        nn.SiLU(),
        nn.Flatten(),
        nn.Linear(72, 6),
    )
    x, y = torch.rand(60, 1, 8, 8), torch.arange(60) % 6
    x[torch.arange(60), 0, y] += 0.15  # a brighter row tells the class
    x = x.clamp(0, 1)
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for _ in range(120):
        optimizer.zero_grad()
        noisy = (x + 0.3 * torch.randn_like(x)).clamp(0, 1)
        nn.functional.cross_entropy(model(noisy), y).backward()
        optimizer.step()
    model.eval().requires_grad_(False)
    right = model(x).argmax(1) == y
    return model, x[right], y[right]


def broken(model, moved, y):
    return model(moved).argmax(1) != y


def some_but_not_all(flags):
    assert 0.1 < flags.float().mean() < 0.95


@pytest.mark.parametrize("threat", THREATS, ids=["linf", "l2"])
@pytest.mark.parametrize("steps", [7, 40])
@pytest.mark.parametrize("loss", ["ce", "dlr-targeted"])
def test_every_ascent_is_the_authors(victim, threat, loss, steps, monkeypatch):
    """From the same starts, row by row, the path that is not stopped early is theirs.

    A path may turn on the last bit of a number, which depends on the processor and the number of threads: one row may.
    """
    model, x, y = victim
    start = threat.project(x + threat.on_surface(draws(), x), x)
    targets = targets_of("", Traits(), model, x, 1)
    kind = APGDAttack_targeted if loss == "dlr-targeted" else APGDAttack
    theirs = kind(model, n_iter=steps, norm=threat.norm.capitalize(), eps=threat.epsilon, seed=0, device="cpu")
    theirs.init_hyperparam(x)
    theirs.loss, theirs.y_target = loss, targets[:, 0]
    best, right, value, _ = theirs.attack_single_run(x, y, x_init=start)
    objective = apgd_t.ratio if loss == "dlr-targeted" else apgd_ce.cross_entropy
    last = []
    monkeypatch.setattr(_apgd, "note", lambda found, standing, rows, wrong: last.append(rows))  # nothing is stopped
    monkeypatch.setattr(_apgd.Rows, "at_rest", lambda rows: torch.zeros(len(rows.moved), dtype=torch.bool))
    _apgd.apgd(model, x, y, threat, objective, targets, draws(), steps)
    assert len(last) == steps + 1
    same = (last[-1].best - best).abs().flatten(1).amax(1) <= 1e-3
    assert int((~same).sum()) <= 1
    torch.testing.assert_close(last[-1].best, best, atol=1e-2, rtol=0)
    torch.testing.assert_close(last[-1].best_value[same], value[same], atol=1e-3, rtol=1e-3)
    monkeypatch.undo()
    ours = broken(model, _apgd.apgd(model, x, y, threat, objective, targets, draws(), steps), y)
    some_but_not_all(ours)
    assert torch.equal(ours, ~right)


def test_rows_at_rest_would_have_stayed_there(victim, monkeypatch):
    model, x, y = victim
    at_rest, seen = _apgd.Rows.at_rest, []
    monkeypatch.setattr(_apgd, "note", lambda found, standing, rows, wrong: seen.append((rows.moved, at_rest(rows))))
    monkeypatch.setattr(_apgd.Rows, "at_rest", lambda rows: torch.zeros(len(rows.moved), dtype=torch.bool))
    targets = targets_of("", Traits(), model, x, 5)
    _apgd.apgd(model, x, y, THREATS[0], apgd_t.ratio, targets, draws(), 60)
    resting = torch.zeros(len(x) * 5, dtype=torch.bool)
    for (moved, rests), (later, _) in itertools.pairwise(seen[2:]):
        resting |= rests
        assert torch.equal(moved[resting], later[resting])
    assert resting.float().mean() > 0.05


def test_a_row_away_from_its_best_is_not_at_rest():
    """It did not move, but the next check takes it back."""
    here, best = torch.ones(2, 3), torch.stack([torch.ones(3), torch.zeros(3)])
    zero, no = torch.zeros(2), torch.zeros(2, dtype=torch.bool)
    images = dict.fromkeys(("clean", "moved", "before", "gradient", "best_gradient"), here)
    numbers = dict.fromkeys(("label", "target", "value", "step", "best_value", "last_best", "rises"), zero)
    rows = _apgd.Rows(example=torch.arange(2), best=best, halved=no, **images, **numbers)
    assert rows.at_rest().tolist() == [True, False]
    _apgd.check(rows, 1)
    assert torch.equal(rows.moved, best)


@pytest.mark.parametrize("threat", THREATS, ids=["linf", "l2"])
def test_all_targets_break_what_the_authors_break(victim, threat):
    model, x, y = victim
    ours = broken(model, apgd_t.perturb(model, x, y, threat, draws(), steps=60), y)
    theirs = APGDAttack_targeted(
        model, n_iter=60, norm=threat.norm.capitalize(), eps=threat.epsilon, n_target_classes=5, seed=0, device="cpu"
    )
    theirs.loss = "dlr-targeted"
    some_but_not_all(ours)
    assert (ours != broken(model, theirs.perturb(x, y), y)).sum() <= 1  # the starts are drawn in another order


@pytest.mark.parametrize("steps", [3, 20])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_the_distances_of_fab_are_the_authors(victim, norm, steps):
    model, x, y = victim
    ball = Threat(norm=norm, epsilon=1.0).ball
    theirs = FABAttack_PT(model, n_iter=steps, norm=ball.name.capitalize(), eps=1.0, device="cpu")
    distance = torch.full((len(x),), torch.inf)
    for rank in (2, 3, 4):
        theirs.target_class = rank
        found = theirs.attack_single_run(x, y, is_targeted=True)
        distance = torch.where(broken(model, found, y), torch.minimum(distance, ball.size(found - x)), distance)
    distance = distance.where(distance.isfinite(), 0)  # not found: the example itself
    assert (distance > 0).float().mean() > 0.5
    ours = fab.nearest(model, x, y, norm, (0.0, 1.0), targets=3, steps=steps)
    torch.testing.assert_close(ball.size(ours - x), distance, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("threat", THREATS, ids=["linf", "l2"])
def test_the_verdicts_of_long_fab_are_the_authors(victim, threat):
    model, x, y = victim
    theirs = FABAttack_PT(
        model,
        n_iter=40,
        norm=threat.norm.capitalize(),
        eps=threat.epsilon,
        n_target_classes=5,
        device="cpu",
        targeted=True,
    )
    there = theirs.perturb(x, y)
    verdict = broken(model, there, y) & (threat.ball.size(there - x) <= threat.epsilon)
    ours = broken(model, fab_t.perturb(model, x, y, threat, draws(), steps=40), y)
    some_but_not_all(ours)
    assert torch.equal(ours, verdict)


@pytest.mark.parametrize("rows", [1, 512])
def test_the_walk_of_square_is_the_authors(victim, rows, monkeypatch):
    """Bit for bit, whether tries are looked at one by one or together, though most are not looked at twice."""
    from inputgrad.attacks import _square

    monkeypatch.setattr(_square, "FEW", rows)
    model, x, y = victim
    threat, seen = THREATS[0], []

    def counting(points):
        seen.append(len(points))
        return model(points)

    ours = square.perturb(counting, x, y, threat, draws(3), queries=1500)
    count = sum(seen)
    seen.clear()
    theirs = SquareAttack(counting, n_queries=1500, eps=threat.epsilon, seed=3, resc_schedule=False, device="cpu")
    found = theirs.perturb(x, y)
    some_but_not_all(broken(model, ours, y))
    assert torch.equal(ours, found)
    assert count < 0.7 * sum(seen)


@pytest.mark.parametrize("rows", [1, 512])
def test_the_walk_of_square_in_l2_is_the_authors(victim, rows, monkeypatch):
    """As long as nothing is broken: afterwards the authors draw fewer numbers."""
    monkeypatch.setattr("inputgrad.attacks._square.FEW", rows)
    model, x, y = victim
    threat = Threat(norm="l2", epsilon=0.3, bounds=(0.0, 1.0))
    theirs = SquareAttack(
        model, norm="L2", n_queries=150, eps=threat.epsilon, seed=3, resc_schedule=False, device="cpu"
    )
    for _ in range(4):  # until what is left stands to the end
        stands = ~broken(model, theirs.perturb(x, y), y)
        x, y = x[stands], y[stands]
    assert stands.all()
    assert len(x) > 10
    theirs.init_hyperparam(x)
    torch.manual_seed(3)
    _, there = theirs.attack_single_run(x.clone(), y)
    walk = Walk(model, y, TRIES["l2"](x, threat, draws(3), 150))
    walk.run()
    assert (walk.at - x).flatten(1).norm(dim=1).max() <= threat.epsilon + 1e-6
    torch.testing.assert_close(walk.at, there, atol=2e-3, rtol=0)
    assert (walk.at - walk.tries.start).abs().max() > 0.05  # it went somewhere


def test_fab_searches_no_further_than_epsilon(victim):
    model, x, y = victim
    count = []

    def counting(points):
        count.append(len(points))
        return model(points)

    fab.perturb(counting, x, y, Threat(norm="linf", epsilon=0.06), draws())
    part = sum(count)
    count.clear()
    fab.nearest(counting, x, y, "linf", None)
    assert part < 0.9 * sum(count)


def test_more_rows_than_a_batch_holds_change_no_verdict(victim, monkeypatch):
    model, x, y = victim
    x, y = x[:20], y[:20]
    whole = [broken(model, f.perturb(model, x, y, THREATS[0], draws(), steps=10), y) for f in (fab_t, apgd_t)]
    monkeypatch.setattr(_apgd, "ROWS", 7)
    monkeypatch.setattr("inputgrad.attacks._fab.ROWS", 7)
    parts = [broken(model, f.perturb(model, x, y, THREATS[0], draws(), steps=10), y) for f in (fab_t, apgd_t)]
    assert torch.equal(whole[0], parts[0])
    assert (whole[1] != parts[1]).sum() <= 1


def few(classes, seed=0):
    """A net of few classes and 40 images that it has right, of which about half can be broken."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 12), nn.SiLU(), nn.Linear(12, classes)).requires_grad_(False)
    x = torch.rand(40, 1, 8, 8)
    model[3].bias -= model(x).mean(0)  # else nearly all are in one class
    return model, x, model(x).argmax(1)


@pytest.mark.parametrize("threat", THREATS, ids=["linf", "l2"])
@pytest.mark.parametrize("classes", [2, 3, 4, 8])
def test_every_member_runs_for_any_number_of_classes(classes, threat):
    model, x, y = few(classes)
    for attack, knobs in (
        (apgd_ce, {"steps": 5}),
        (apgd_t, {"steps": 5}),
        (fab_t, {"steps": 5}),
        (square, {"queries": 20}),
    ):
        moved = attack.perturb(model, x, y, threat, draws(), **knobs)
        assert torch.isfinite(moved).all()
        assert float(threat.ball.size(moved - x).max()) <= threat.epsilon + 1e-6


@pytest.mark.parametrize("threat", THREATS, ids=["linf", "l2"])
@pytest.mark.parametrize("classes", [2, 3])
def test_few_classes_break_what_the_authors_break_with_classes_that_never_win(classes, threat):
    model, x, y = few(classes)

    class Padded(nn.Module):
        def forward(self, x):
            z = model(x)
            return torch.cat([z, *(z.amin(1, keepdim=True) - 10 * n for n in range(1, 5 - classes))], 1)

    threat = replace(threat, epsilon=threat.epsilon / 3)
    theirs = APGDAttack_targeted(
        Padded(), n_iter=40, norm=threat.norm.capitalize(), eps=threat.epsilon, seed=0, device="cpu"
    )
    theirs.n_target_classes, theirs.loss = classes - 1, "dlr-targeted"
    found = broken(model, apgd_t.perturb(model, x, y, threat, draws(), steps=40), y)
    assert len(y.unique()) == classes
    some_but_not_all(found)
    assert (found != broken(model, theirs.perturb(x, y), y)).sum() <= 1


def test_the_ratio_of_few_logits_leads_towards_every_class():
    """With z_3 alone in the denominator, the ratio towards the least likely of three is -1, without gradient."""
    z = torch.tensor([[3.0, 1.0, 0.5]], requires_grad=True)
    for target in (1, 2):
        (gradient,) = torch.autograd.grad(apgd_t.ratio(z, torch.tensor([0]), torch.tensor([target])).sum(), z)
        assert gradient[0, target] > 0.1
    two = torch.tensor([[3.0, 1.0]])
    assert float(apgd_t.ratio(two, torch.tensor([0]), torch.tensor([1]))) == -2.0
    four = torch.tensor([[3.0, 1.0, 0.5, 0.0]])
    assert float(apgd_t.ratio(four, torch.tensor([0]), torch.tensor([1]))) == pytest.approx(-2 / 2.75)
