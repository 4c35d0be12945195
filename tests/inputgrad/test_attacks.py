"""Every attack, ours and the library's: inside the ball and the box, never helpful, as strong as is known by hand."""

import pytest
import torch
from torch import nn

from inputgrad import registry, tasks
from inputgrad.attacks import Threat, Traits, Worst, fab, pgd
from inputgrad.errors import UserError
from inputgrad.gradients import norms
from inputgrad.gradients.descriptors import descriptors
from inputgrad.gradients.forward import Draws
from pipeline.stages import attack

ATTACKS = registry.names("inputgrad.attacks")


def traits(name: str) -> Traits:
    return registry.module("inputgrad.attacks", name).TRAITS


CASES = [(name, task) for name in ATTACKS for task in ("classification", "regression")]
CASES = [(name, task) for name, task in CASES if task == "classification" or not traits(name).classes]
QUICK = {
    "apgd_ce": {"steps": 20},
    "apgd_t": {"steps": 20},
    "fab_t": {"steps": 20},
    "square": {"queries": 200},
    "hop_skip_jump": {"steps": 3, "queries": 20, "examples": 10},
}


def draws(seed=0):
    return Draws(torch.Generator().manual_seed(seed))


def victim(task, bounds=(0.0, 1.0)):
    """A small random net that is right (or nearly so) on all of 40 inputs of 1x5x5 within `bounds`."""
    torch.manual_seed(0)
    outputs = 5 if task == "classification" else 1
    model = nn.Sequential(nn.Flatten(), nn.Linear(25, 16), nn.Tanh(), nn.Linear(16, outputs))
    x = bounds[0] + (bounds[1] - bounds[0]) * torch.rand(40, 1, 5, 5)
    y = model(x).argmax(1) if task == "classification" else model(x).detach() + 0.1
    return model.eval().requires_grad_(False), x, y


def perturbed(name, model, x, y, threat, seed=0):
    return registry.module("inputgrad.attacks", name).perturb(model, x, y, threat, draws(seed), **QUICK.get(name, {}))


@pytest.mark.parametrize("bounds", [(0.0, 1.0), (-2.0, 3.0), None], ids=["unit box", "wide box", "no box"])
@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize(("name", "task"), CASES)
def test_every_attack_stays_inside_the_ball_and_the_box_and_never_helps(name, task, norm, bounds):
    model, x, y = victim(task, bounds or (-2.0, 3.0))
    threat = Threat(norm=norm, epsilon=0.3 if norm == "linf" else 1.0, bounds=bounds)
    before, clean, state = attack.state_hash(model), x.clone(), torch.get_rng_state()
    moved = perturbed(name, model, x, y, threat)
    size = norms.named(norm).size(moved - x)
    assert float(size.max()) <= threat.epsilon + 1e-6
    # it does move; how far the nearest broken points of ten inputs lie is up to the net and torch's random numbers
    assert float(size.max()) > (0 if name == "hop_skip_jump" else threat.epsilon / 3)
    if bounds:
        assert float(moved.min()) >= bounds[0]
        assert float(moved.max()) <= bounds[1]
    losses = [tasks.losses(model(z), y) for z in (x, moved)]
    harmed = losses[1] >= losses[0] - 1e-6
    if task == "classification":
        harmed |= model(moved).argmax(1) != y  # a broken point may have the smaller loss of two
        assert (model(moved).argmax(1) != y).any()
    assert harmed.float().mean() >= (0.9 if traits(name).classes else 1.0)  # the library ascends other objectives
    assert attack.state_hash(model) == before
    assert torch.equal(x, clean)
    assert torch.equal(torch.get_rng_state(), state), "the global random state was touched"


@pytest.mark.parametrize(("name", "task"), CASES)
def test_the_same_draws_give_the_same_points_and_nobody_left_is_fine(name, task):
    model, x, y = victim(task)
    threat = Threat(norm="linf", epsilon=0.2, bounds=(0.0, 1.0))
    first, second = (perturbed(name, model, x, y, threat, seed=5) for _ in range(2))
    assert torch.equal(first, second)
    if not traits(name).sees_all_examples:
        assert perturbed(name, model, x[:0], y[:0], threat).shape == x[:0].shape


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_stronger_attacks_are_stronger(task):
    model, x, y = victim(task)
    threat = Threat(norm="linf", epsilon=0.2, bounds=(0.0, 1.0))
    names = ("noise", "fgsm", "pgd")
    noise, fgsm, strong = (float(tasks.losses(model(perturbed(n, model, x, y, threat)), y).mean()) for n in names)
    assert noise < fgsm <= strong * 1.001


def test_pgd_reaches_the_optimum_of_a_linear_regression():
    """|residual| + ε‖w‖₁ is the worst case, known by hand; random search must come near it without a gradient."""
    torch.manual_seed(1)
    model = nn.Linear(5, 1)
    x, y = torch.randn(20, 5), torch.randn(20, 1)
    model.requires_grad_(False)
    threat = Threat(norm="linf", epsilon=0.2)
    best = (model(x) - y).abs()[:, 0] + 0.2 * model.weight.abs().sum()
    reached = (model(pgd.perturb(model, x, y, threat, draws())) - y).abs()[:, 0]
    torch.testing.assert_close(reached, best, rtol=1e-4, atol=1e-5)
    blind = (model(perturbed("random_search", model, x, y, threat)) - y).abs()[:, 0]
    torch.testing.assert_close(blind, best, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_random_search_climbs_where_luck_alone_does_not(norm):
    """In 40 dimensions no corner is found by chance: what was better must be kept."""
    torch.manual_seed(1)
    model = nn.Linear(40, 1).requires_grad_(False)
    x = torch.randn(20, 40)
    y, threat = model(x) - 1, Threat(norm=norm, epsilon=0.2)
    gained = (model(perturbed("random_search", model, x, y, threat)) - model(x))[:, 0]
    assert (gained > 0.9 * 0.2 * model.weight.norm(p=1 if norm == "linf" else 2)).all()


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_the_distance_to_a_flat_boundary_is_known_by_hand(norm):
    """|margin| / ‖w_y - w_j‖ in the dual norm, the smallest over the other classes."""
    torch.manual_seed(2)
    model = nn.Linear(6, 5).requires_grad_(False)
    x = torch.randn(30, 6)
    y = model(x).argmax(1)
    found = fab.nearest(model, x, y, norm, None, targets=4)
    z, w = model(x), model.weight
    dual = (w[y][:, None] - w[None]).norm(p=1 if norm == "linf" else 2, dim=2)
    distance = ((z.gather(1, y[:, None]) - z) / dual).masked_fill(nn.functional.one_hot(y, 5).bool(), torch.inf)
    reached = norms.named(norm).size(found - x)
    torch.testing.assert_close(reached, distance.min(1).values, rtol=1e-2, atol=1e-5)  # it overshoots on purpose
    assert (reached >= distance.min(1).values * (1 - 1e-4)).all()
    assert (model(found).argmax(1) != y).all()


def test_a_wrong_prediction_is_at_distance_zero():
    model, x, y = victim("classification")
    y = (y + 1) % 5
    assert torch.equal(fab.nearest(model, x, y, "linf", (0.0, 1.0)), x)


def test_worst_keeps_a_broken_point_even_when_a_standing_one_has_a_larger_loss():
    """Three classes: a wrong prediction at loss 0.8 beats a right one at loss 0.95."""
    logits = {
        0.0: [2.0, 0.0, 0.0],  # right, small loss
        0.1: [0.0, 0.1, -9.0],  # wrong, loss about 0.74
        0.2: [0.01, 0.0, 0.0],  # right, loss about 1.09
    }
    rows = torch.tensor(list(logits.values()))
    model = nn.Module()
    model.forward = lambda x: rows[(x[:, 0] * 10).round().long()]
    worst = Worst(model, torch.zeros(1, 1), torch.zeros(1, dtype=torch.long))
    for value in (0.1, 0.2):
        worst.measure(torch.full((1, 1), value), torch.tensor([0]))
    assert float(worst.x) == pytest.approx(0.1)
    assert bool(worst.broken)
    assert len(worst.unbroken()) == 0


def test_attacks_that_the_data_have_no_meaning_for():
    model = nn.Linear(4, 3).requires_grad_(False)
    x = torch.rand(5, 4)
    y, threat = model(x).argmax(1), Threat(norm="linf", epsilon=0.1)
    with pytest.raises(UserError, match="mine needs 4 classes or more, the model has 3"):
        Traits(classes=True, least_classes=4).refuse("mine", x.shape[1:], 3)
    with pytest.raises(UserError, match=r"square needs images .* not \(4,\); use random_search"):
        perturbed("square", model, x, y, threat)


def test_fab_without_bounds_where_all_numbers_of_the_inputs_are_the_same():
    """The range of such inputs is 0: the search ran on 0 / 0 and found nothing, without a word."""
    net = nn.Linear(3, 2)
    net.weight.data, net.bias.data = torch.tensor([[1.0, 1, 1], [-1, -1, -1]]), torch.zeros(2)
    x = torch.full((4, 3), 0.2)
    found = fab.nearest(net, x, net(x).argmax(1), "linf", None)
    torch.testing.assert_close((found - x).abs().amax(1), torch.full((4,), 0.2), rtol=0.02, atol=0)


def test_the_sparsity_of_a_tiny_gradient():
    net = nn.Linear(4, 2, bias=False)
    net.weight.data = torch.tensor([[1.0, 0.2, 0.1, 0], [-1.0, 0, 0, 0]])
    x, y = torch.tensor([[27.0, 0.1, 0.1, 0.1], [1.0, 0.1, 0.1, 0.1]]), torch.tensor([0, 0])
    threat, draws = Threat(norm="linf", epsilon=0.1), Draws(torch.Generator().manual_seed(0))
    sparsity = descriptors(net, x, y, threat, draws)[0].gradient_sparsity
    exact = descriptors(net.double(), x.double(), y, threat, draws)[0].gradient_sparsity
    assert sparsity.to_list() == pytest.approx(exact.to_list(), rel=1e-5)  # was -inf
