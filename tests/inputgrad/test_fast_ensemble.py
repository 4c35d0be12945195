"""The fast ensemble: which rows go on, what that spares, what it leaves out, and that nothing else changes."""

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from inputgrad.attacks import Threat, apgd_t
from inputgrad.attacks._apgd import apgd
from inputgrad.attacks._classes import most_of_each
from inputgrad.gradients.forward import Draws
from inputgrad.robustness.attacking import BrokenAt, plan
from inputgrad.robustness.settings import Attack

LINF = Threat(norm="linf", epsilon=0.08, bounds=(0.0, 1.0))
ENSEMBLE = {"apgd_ce": {}, "apgd_t": {}, "fab_t": {}, "square": {}}


@pytest.fixture(scope="module")
def trained():
    """A net for ten clouds of points, and 60 points; some of them can be moved across a boundary, some cannot."""
    torch.manual_seed(0)
    centres = torch.rand(10, 20)
    y = torch.arange(600) % 10
    x = (centres[y] + 0.12 * torch.randn(600, 20)).clamp(0, 1)
    net = nn.Sequential(nn.Linear(20, 40), nn.SiLU(), nn.Linear(40, 10))
    optimizer = torch.optim.Adam(net.parameters(), 1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        F.cross_entropy(net(x), y).backward()
        optimizer.step()
    return net.eval().requires_grad_(False), x[:60], y[:60]


def draws():
    return Draws(torch.Generator().manual_seed(0))


def rows_seen(net, call):
    """How many rows the net is given."""
    seen = []
    hook = net.register_forward_hook(lambda _, args, out: seen.append(len(out)))
    found = call()
    hook.remove()
    return found, sum(seen)


def test_the_best_rows_of_every_example_are_kept():
    generator = torch.Generator().manual_seed(0)
    for _ in range(50):
        example = torch.randint(6, (30,), generator=generator).sort().values
        value = torch.randint(5, (30,), generator=generator).float()  # ties
        kept = most_of_each(example, value, 3)
        for one in example.unique():
            rows = (example == one).nonzero()[:, 0]
            best = rows[value[rows].argsort(descending=True, stable=True)[:3]]
            assert set(kept[rows].nonzero()[:, 0].add(rows[0]).tolist()) == set(best.tolist())


def test_a_plan_that_drops_nothing_changes_nothing(trained):
    net, x, y = trained
    whole = apgd_t.perturb(net, x, y, LINF, draws(), steps=20, targets=9)
    assert torch.equal(apgd_t.perturb(net, x, y, LINF, draws(), steps=20, targets=9, prune=((5, 9), (10, 9))), whole)


def test_the_targets_with_the_best_values_go_on(trained):
    """An objective that is the better, the smaller the number of the target; in a ball in which nothing breaks."""
    net, x, y = trained
    right = net(x).argmax(1) == y
    x, y, seen = x[right][:5], y[right][:5], []

    def objective(outputs, labels, target):
        seen.append(target.tolist())
        return 1e-3 * outputs.gather(1, target[:, None])[:, 0] - target

    small = Threat(norm="l2", epsilon=1e-3, bounds=(0.0, 1.0))  # in linf a row comes to rest in a corner
    targets = torch.stack([torch.tensor([c for c in range(10) if c != label]) for label in y.tolist()])
    apgd(net, x, y, small, objective, targets, draws(), 4, prune=((2, 2), (3, 1)))
    assert seen[:3] == [targets.flatten().tolist()] * 3  # the start and two steps
    assert seen[3] == targets[:, :2].flatten().tolist()
    assert seen[4] == targets[:, 0].tolist()


def test_dropped_targets_spare_work_and_hardly_break_less(trained):
    net, x, y = trained
    knobs = {"steps": 60, "targets": 9}
    whole, all_rows = rows_seen(net, lambda: apgd_t.perturb(net, x, y, LINF, draws(), **knobs))
    fast, some_rows = rows_seen(
        net, lambda: apgd_t.perturb(net, x, y, LINF, draws(), **knobs, prune=((10, 3), (30, 1)))
    )
    standing, standing_then = (int((net(moved).argmax(1) == y).sum()) for moved in (whole, fast))
    assert 0 < standing <= standing_then <= standing + 1 < len(x)
    assert some_rows < 0.6 * all_rows
    assert LINF.ball.size(fast - x).max() <= LINF.epsilon + 1e-6


def test_what_the_fast_ensemble_changes():
    settings = {"norm": "linf", "epsilon": 0.1, "grid": [0.05, 0.1]}
    at_every = {"noise": {}, "fgsm": {}, "pgd": {}, "apgd_t": {"steps": 15}}
    standard, fast = (
        Attack(**settings, attacks=at_every, at_epsilon=ENSEMBLE, ensemble=e) for e in ("standard", "fast")
    )
    before, after = ([(s.attack, s.norm, s.epsilon) for s in plan(attack)] for attack in (standard, fast))
    assert [step for step in before if step[0] != "fab_t"] == after != before
    assert {
        step.attack: step.knobs["prune"] for step in plan(fast) if "prune" in step.knobs and step.epsilon == 0.1
    } == {"apgd_t": ((10, 3), (30, 1))}
    assert not any("prune" in step.knobs for step in plan(standard))
    (short,) = (step for step in plan(fast) if step.attack == "apgd_t" and step.epsilon == 0.05)
    assert short.knobs == {"steps": 15, "prune": ((5, 3),)}


def test_stated_knobs_come_first():
    own = Attack(norm="linf", epsilon=0.1, grid=[0.1], at_epsilon={"apgd_t": {"prune": ((2, 1),)}}, ensemble="fast")
    assert [step.knobs for step in plan(own) if step.attack == "apgd_t"] == [{"prune": ((2, 1),)}]


def test_who_stands_is_what_the_outcomes_say():
    """Against the definition: a row that broke the example, in the norm or clean, in a ball that is not larger."""
    generator = np.random.default_rng(0)
    n, radii = 30, [0.1, 0.2, 0.3]
    clean = pd.DataFrame({"example": range(n), "norm": "none", "epsilon": 0.0, "broken": generator.random(n) < 0.2})
    frames, broken_at = [clean], BrokenAt(clean)
    for norm in ("linf", "l2"):
        for epsilon in generator.permutation(radii):
            some = np.flatnonzero(generator.random(n) < 0.5)
            broken = generator.random(len(some)) < 0.3
            frames.append(pd.DataFrame({"example": some, "norm": norm, "epsilon": epsilon, "broken": broken}))
            broken_at.note(frames[-1])
    rows = pd.concat(frames)
    for norm in ("linf", "l2"):
        for epsilon in radii:
            inside = rows[rows["norm"].isin(["none", norm]) & (rows["epsilon"] <= epsilon)]
            stands = ~inside.groupby("example")["broken"].any().to_numpy()
            assert (broken_at.standing(norm, epsilon) == stands).all()
            assert 0 < stands.sum() < n
