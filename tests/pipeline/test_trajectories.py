"""Springs, pendulums and orbits: exact motion of known energies, and the measures of a net that gives it."""

import numpy as np
import pytest
import torch
from torch import nn

from inputgrad.errors import UserError
from pipeline import data
from pipeline.data import _trajectories, pendulum, spring, two_bodies
from pipeline.study.read import read_study
from tests.conftest import edit

MODULES = [spring, pendulum, two_bodies]
EVERY = pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__.rpartition(".")[2])
STATES = {
    spring: np.array([[0.3, -0.4], [1.0, 0.2]]),
    pendulum: np.array([[1.3, -0.4], [-2.0, 0.2]]),
    two_bodies: np.stack([two_bodies.start(np.random.RandomState(seed)) for seed in (7, 8)]),
}


@EVERY
def test_the_gradient_is_that_of_the_energy(module):
    states, found = STATES[module], module.SYSTEM.gradient(STATES[module])
    for place in range(states.shape[1]):
        step = np.zeros(states.shape[1])
        step[place] = 1e-6
        slope = (module.SYSTEM.energy(states + step) - module.SYSTEM.energy(states - step)) / 2e-6
        np.testing.assert_allclose(found[:, place], slope, atol=1e-8)


@EVERY
def test_the_energy_stays_along_the_motion_and_the_motion_is_the_change_of_the_states(module):
    times = np.linspace(0, 3, 3001)
    for start in STATES[module]:
        states = _trajectories.path(lambda s: _trajectories.motion(module.SYSTEM.gradient(s)), start, times, 1e-10)
        assert np.ptp(module.SYSTEM.energy(states)) < 1e-4  # the solver's own error is 1e-5
        change = (states[2:] - states[:-2]) / (times[2] - times[0])
        np.testing.assert_allclose(
            change, _trajectories.motion(module.SYSTEM.gradient(states))[1:-1], atol=1e-3, rtol=1e-3
        )


def test_a_spring_goes_round_a_circle_and_an_orbit_stays_one():
    times = np.linspace(0, 3, 50)
    states = _trajectories.path(
        lambda s: _trajectories.motion(spring.SYSTEM.gradient(s)), np.array([1.0, 0]), times, 1e-10
    )
    np.testing.assert_allclose(states, np.stack([np.cos(2 * times), -np.sin(2 * times)], 1), atol=1e-5)
    place, speed = np.array([0.6, 0.8]), 0.5  # of a circle of radius 1: the pull is 1/4, v²/r too
    circle = np.concatenate([place, -place, speed * np.array([-0.8, 0.6]), -speed * np.array([-0.8, 0.6])])
    states = _trajectories.path(lambda s: _trajectories.motion(two_bodies.gradient(s)), circle, times, 1e-10)
    np.testing.assert_allclose(np.linalg.norm(states[:, :2], axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(states[:, :4], np.concatenate([states[:, :2], -states[:, :2]], 1), atol=1e-5)
    assert two_bodies.energy(circle) == pytest.approx(0.5**2 - 0.5)


@EVERY
def test_what_a_data_set_holds(module):
    derivatives, energy = module.load(), module.load(target="energy")
    for split in data.SPLITS:
        gradient = energy.examples["target_gradient"][split]
        assert derivatives.y[split].shape == derivatives.x[split].shape == gradient.shape
        np.testing.assert_allclose(derivatives.y[split], _trajectories.motion(gradient), rtol=1e-6)
        assert energy.y[split].shape == (len(gradient), 1)
        assert np.array_equal(energy.x[split], derivatives.x[split])
    noise = np.concatenate([module.SYSTEM.gradient(derivatives.x[s]) for s in data.SPLITS]) - np.concatenate(
        [energy.examples["target_gradient"][s] for s in data.SPLITS]
    )
    assert derivatives.known == set()  # ∇H is no gradient of what a net gives there
    if module is spring:  # ∇H = 2x: noise of 0.1 on x is 0.2 on the gradient
        assert noise.std() == pytest.approx(0.2, rel=0.03)
    if module is two_bodies:
        assert np.abs(noise).max() < 1e-5
        assert np.array_equal(module.load(orbits=5).x["test"], derivatives.x["test"][:50])


def test_the_published_points():
    """750 points of 25 trajectories each; the first one starts from the first draws of NumPy's legacy generator."""
    arrays = spring.load()
    assert [len(arrays.x[split]) for split in data.SPLITS] == [750, 300, 750]
    assert [len(two_bodies.load(orbits=10).x[split]) for split in data.SPLITS] == [400, 50, 100]
    draws = np.random.RandomState(0)
    start, radius = draws.rand(2) * 2 - 1, 0.1 + 0.9 * draws.rand()
    start *= radius / np.linalg.norm(start)
    noise = draws.randn(30)
    assert arrays.x["train"][0, 0] == pytest.approx(start[0] + 0.1 * noise[0], rel=1e-6)
    assert arrays.y["train"][0] == pytest.approx(np.array([2 * start[1], -2 * start[0]]), rel=1e-6)
    assert (len(pendulum.load().x["train"]), pendulum.load().x["train"].shape[1]) == (1125, 2)


class Energy(nn.Module):
    """H of a spring, (N, 1), times a factor: with 1 the exact one."""

    def __init__(self, factor=1.0):
        super().__init__()
        self.factor = factor

    def forward(self, x):
        return self.factor * x.square().sum(1, keepdim=True)


class Turning(nn.Module):
    """The derivatives of a spring, (N, 2), with a push outwards: with 0 the exact ones."""

    def __init__(self, outwards=0.0):
        super().__init__()
        self.outwards = outwards

    def forward(self, x):
        return torch.stack([2 * x[:, 1], -2 * x[:, 0]], 1) + self.outwards * x


def dataset(module, target):
    """The exact points in the place of the noisy ones, so that an exact net makes no error."""
    arrays = module.load(target=target)
    gradient = torch.from_numpy(module.load(target="energy").examples["target_gradient"]["test"])
    x = {"test": (gradient / 2).float()} if module is spring else {"test": torch.from_numpy(arrays.x["test"])}
    return data.Dataset(
        x=x,
        y={"test": torch.from_numpy(arrays.y["test"])},
        context=data.Context(),
        task=data.tasks.named("regression"),
        outputs=arrays.y["test"].shape[1],
        examples={"test": {"target_gradient": gradient.float()} if target == "energy" else {}},
    )


@pytest.mark.parametrize(("exact", "target"), [(Energy(), "energy"), (Turning(), "derivatives")])
def test_an_exact_net_makes_no_error(exact, target):
    found = spring.measures(exact, dataset(spring, target))
    assert set(found) == set(spring.MEASURES)
    assert found["test_loss"] < 1e-10
    assert found["energy_error"] < 1e-6


def test_a_wrong_energy_is_kept_all_the_same_and_a_wrong_motion_loses_it():
    """Twice the energy moves twice as fast on the same circle. Pushed outwards, r' = a·r, r² grows by exp(2at)."""
    twice, pushed = Energy(2.0), Turning(0.01)
    points = dataset(spring, "energy")
    found = spring.measures(twice, points)
    wanted = np.square(_trajectories.motion(points.known("test")["target_gradient"].numpy())).mean()
    assert found["test_loss"] == pytest.approx(wanted, rel=1e-5)
    assert found["energy_error"] < 1e-6
    found = spring.measures(pushed, dataset(spring, "derivatives"))
    starts = np.random.RandomState(0).rand(15, 2) * 1.6 - 0.8
    starts += 0.2 * np.sign(starts)
    times = np.linspace(0, spring.FOLLOWED * 1.09, 100)
    drift = np.square(starts).sum(1) * (np.exp(0.02 * times)[:, None] - 1)
    assert found["energy_error"] == pytest.approx(np.square(drift).mean(), rel=1e-3)
    assert found["test_loss"] == pytest.approx(np.square(0.01 * points.x["test"].numpy()).mean(), rel=1e-3)


class Swing(nn.Module):
    """The exact energy of a pendulum, (N, 1), times a factor."""

    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def forward(self, x):
        return self.factor * (3 * (1 - x[:, :1].cos()) + x[:, 1:].square())


def test_the_published_energy_of_a_pendulum_changes_with_its_time():
    """A net that is as slow as the time is stretched is on the true path; the exact one is ahead of it."""
    points = dataset(pendulum, "energy")
    slow, exact = (pendulum.measures(Swing(factor), points) for factor in (1 / 1.09, 1.0))
    assert max(slow["energy_error"], exact["energy_error"]) < 1e-5
    assert slow["radius_error"] < 1e-5
    assert exact["radius_error"] > 1e-2


class Orbits(nn.Module):
    """The exact energy of two bodies, (N, 1)."""

    def forward(self, x):
        apart = (x[:, 0:2] - x[:, 2:4]).norm(dim=1, keepdim=True)
        return x[:, 4:].square().sum(1, keepdim=True) / 2 - 1 / apart


def test_the_exact_energy_of_two_bodies_makes_no_error():
    found = two_bodies.measures(Orbits(), dataset(two_bodies, "energy"))
    assert found["test_loss"] < 1e-10
    assert found["energy_error"] < 1e-6


@EVERY
def test_measures_leave_the_net_and_the_data_as_they_are(module):
    width = module.load().x["test"].shape[1]
    net, points = nn.Linear(width, 1), dataset(module, "energy")
    before = [p.detach().clone() for p in net.parameters()]
    found = module.measures(net, points)
    assert all(np.isfinite(value) for value in found.values())
    assert all(torch.equal(*pair) for pair in zip(before, net.parameters(), strict=True))
    assert all(p.grad is None for p in net.parameters())
    assert not points.x["test"].requires_grad


def test_wrong_options_are_said(project):
    edit(project / "experiments/tiny.yaml", "data: {name: digits}", "data: {name: two_bodies, orbits: 2}")
    with pytest.raises(UserError, match="orbits"):
        read_study("tiny")
    edit(project / "experiments/tiny.yaml", "name: two_bodies, orbits: 2", "name: spring, target: forces")
    with pytest.raises(UserError, match="target"):
        read_study("tiny")
