"""No model is ever asked about an empty batch: `x.view(x.size(0), -1)` ends in a traceback there."""

import pytest
import torch
from torch import nn

from inputgrad import registry
from inputgrad.attacks import Threat, Worst
from inputgrad.gradients.forward import Draws
from inputgrad.robustness.attacking import Victim, attacked, plan
from inputgrad.robustness.settings import Attack

CLASSES = 5
EVERY_STEP = Attack(
    norm="linf",
    epsilon=0.3,
    grid=[0.0, 0.05, 0.3, 0.9],
    secondary={"norm": "l2", "epsilon": 1.0, "grid": [0.0, 1.0]},
    attacks={"noise": {}, "fgsm": {}, "pgd": {"steps": 2, "restarts": 2}, "fab": {"targets": 1, "steps": 3}},
    at_epsilon={
        "apgd_ce": {"steps": 3, "restarts": 2},
        "apgd_t": {"steps": 3},
        "fab_t": {"targets": 2, "steps": 3},
        "square": {"queries": 5},
        "hop_skip_jump": {"steps": 2, "queries": 5},
        "random_search": {"queries": 5},
    },
)
DTYPES = {
    "example": "int64",
    "attack": "str",
    "norm": "str",
    "epsilon": "float64",
    "broken": "bool",
    "loss_before": "float32",
    "loss_after": "float32",
    "distance": "float64",
    "overshoot": "float64",
}


class Viewing(nn.Module):
    """A net as many are written: `view` cannot tell the width of nothing."""

    def __init__(self, seed, scale=1.0):
        super().__init__()
        torch.manual_seed(seed)
        self.layers = nn.Sequential(nn.Linear(36, 16), nn.SiLU(), nn.Linear(16, CLASSES))
        for p in self.parameters():
            p.data *= scale
        self.eval().requires_grad_(False)

    def forward(self, x):
        return self.layers(x.view(x.size(0), -1))


def victim(model, wrong=False):
    torch.manual_seed(1)
    x = torch.rand(6, 1, 6, 6)
    y = (model(x).argmax(1) + wrong) % CLASSES
    return Victim(name="v", model=model, source=Viewing(3), x=x, y=y, bounds=(0.0, 1.0), seed=0)


def test_the_net_of_these_tests_takes_no_empty_batch():
    with pytest.raises(RuntimeError, match="0 elements"):
        Viewing(0)(torch.rand(0, 1, 6, 6))


@pytest.mark.parametrize("name", registry.names("inputgrad.attacks"))
def test_every_attack_of_the_room_is_in_the_plan(name):
    assert f"inputgrad.attacks.{name}" in {step.module.__name__ for step in plan(EVERY_STEP)}


@pytest.mark.parametrize(
    "given",
    [victim(Viewing(0)), victim(Viewing(0), wrong=True), victim(Viewing(0, scale=0.0))],
    ids=["some stand", "none stands", "every margin is 0"],
)
def test_all_steps_run_and_the_types_are_those_of_a_full_table(given, tmp_path):
    found = attacked(given, EVERY_STEP, tmp_path)
    assert dict(found.dtypes.astype(str)) == DTYPES
    assert len(list(tmp_path.glob("*.parquet"))) == len(plan(EVERY_STEP))
    seen = set(found["attack"])
    assert {"clean", "noise", "fgsm", "pgd", "pgd_10x1", "pgd_40x5", "fab", "transfer"} <= seen
    if found.loc[found["attack"] == "clean", "broken"].all():
        assert not seen & set(EVERY_STEP.at_epsilon)  # nothing was left for them


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("name", registry.names("inputgrad.attacks"))
def test_an_attack_on_nothing_gives_nothing(name, norm):
    threat, draws = Threat(norm=norm, epsilon=0.1, bounds=(0.0, 1.0)), Draws(torch.Generator().manual_seed(0))
    x, y = torch.rand(0, 1, 6, 6), torch.zeros(0, dtype=torch.long)
    moved = registry.module("inputgrad.attacks", name).perturb(Viewing(0), x, y, threat, draws)
    assert moved.shape == x.shape


def test_the_worst_of_nothing():
    x = torch.rand(0, 1, 6, 6)
    worst = Worst(Viewing(0), x, torch.zeros(0, dtype=torch.long))
    assert worst.measure(x, torch.arange(0)).shape == (0,)
