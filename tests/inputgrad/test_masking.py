"""The masking sheet flags what is made to fool attacks, and lets an honest adversarially trained model pass."""

import math
from contextlib import chdir
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from inputgrad import registry
from inputgrad.attacks import Threat
from inputgrad.gradients.descriptors import descriptors
from inputgrad.gradients.forward import Draws
from inputgrad.robustness import attacking, masking
from inputgrad.robustness.attacking import Victim, attacked
from inputgrad.robustness.settings import Attack
from inputgrad.tasks import Classification, Regression
from pipeline import data
from pipeline.stages import train
from pipeline.study.read import read_study
from pipeline.study.run import Run

STUDY = """\
data: {name: digits}
model: {name: mlp, hidden: [64], activation: silu}
training: {epochs: 25, batch_size: 64, learning_rate: 0.003, seeds: [0]}
losses: {standard: {}, pgd: {epsilon: 0.1, steps: 5}}
attack:
  norm: linf
  epsilon: 0.1
  grid: [0.05, 0.1, 0.2, 0.5]
  secondary: {norm: l2, epsilon: 0.4, grid: [0.2, 0.4, 0.8, 2.0]}
  attacks: {noise: {}, fgsm: {}, pgd: {}, fab: {}}
  at_epsilon: {apgd_t: {steps: 20}, square: {queries: 500}}
  examples: 120
"""


class Quantised(nn.Module):
    """Rounds its input: the gradient is zero nearly everywhere, the function is nearly the same."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        return self.net((8 * x).round() / 8)


class Saturated(nn.Module):
    """Scales its logits: the softmax is 0 or 1 in float, the predictions are the same."""

    def __init__(self, net, scale=1e4):
        super().__init__()
        self.net, self.scale = net, scale

    def forward(self, x):
        return self.scale * self.net(x)


class Noisy(nn.Module):
    """Adds noise in every pass: a gradient is that of another function than the one that is judged."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        return self.net(x + 0.15 * torch.randn_like(x))


@pytest.fixture(scope="module")
def nets(tmp_path_factory):
    """The test split and two honest nets: trained plainly, and adversarially."""
    home = tmp_path_factory.mktemp("masking")
    (home / "experiments").mkdir()
    (home / "experiments/honest.yaml").write_text(STUDY)
    with chdir(home), pytest.MonkeyPatch.context() as patch:
        patch.delenv("DVC_ROOT", raising=False)
        study = read_study("honest")
        data.prepare("honest", read_study("honest").data)
        dataset = data.read_data("honest", read_study("honest").data, ("test",))
        found = {}
        for loss in study.losses:
            run = Run(study, loss, 0)
            model = run.build(dataset)
            model.load_state_dict(torch.load(train.train(run) / "best.pt", weights_only=True)["model"])
            found[loss] = model.eval().requires_grad_(False)
    return study.attack, dataset.x["test"][:120], dataset.y["test"][:120], found


def evidence_of(model, nets, folder):
    attack, x, y, honest = nets
    victim = Victim(name="net", model=model, source=honest["standard"], x=x, y=y, bounds=(0.0, 1.0), seed=0)
    threat = Threat(norm=attack.norm, epsilon=attack.epsilon, bounds=victim.bounds)
    described, _ = descriptors(model, x, y, threat, Draws(torch.Generator().manual_seed(0)))
    found = attacked(victim, attack, folder)
    return masking.evidence(victim, found, described, attack)


@pytest.fixture(scope="module")
def plain(nets, tmp_path_factory):
    """The evidence on the plainly trained net."""
    return evidence_of(nets[3]["standard"], nets, tmp_path_factory.mktemp("plain"))


def flagged(evidence):
    return {name for name, check in masking.sheet(evidence).items() if not check["ok"]}


def pgd_accuracy(evidence):
    return 1 - evidence.harm(evidence.of("pgd", "linf", 0.1))


def test_an_honest_adversarially_trained_model_passes_every_check(nets, tmp_path):
    evidence = evidence_of(nets[3]["pgd"], nets, tmp_path)
    sheet = masking.sheet(evidence)
    assert [name for name, check in sheet.items() if not check["ok"]] == []
    assert list(sheet) == [check.__name__ for check in masking.CHECKS]
    assert pgd_accuracy(evidence) > 0.5  # it is robust, and believed


def test_a_plainly_trained_model_is_broken_but_hides_nothing(plain):
    assert flagged(plain) == set()


@pytest.mark.parametrize(
    ("masked", "at_least"),
    [
        (Quantised, {"zero_gradient", "linearity", "black_box", "unit_test", "large_epsilon", "noise_beats_fgsm"}),
        (Saturated, {"zero_gradient", "large_epsilon"}),
        (Noisy, {"repeatable"}),
    ],
)
def test_a_masked_model_is_flagged(nets, plain, tmp_path, masked, at_least):
    torch.manual_seed(0)
    evidence = evidence_of(masked(nets[3]["standard"]), nets, tmp_path)
    assert flagged(evidence) >= at_least
    if masked is not Noisy:
        assert pgd_accuracy(evidence) > pgd_accuracy(plain) + 0.1  # PGD alone is fooled: the sheet is needed


def test_a_mildly_saturated_softmax_does_not_hide_from_the_ensemble(nets, plain, tmp_path):
    """Too mild for zero gradients, strong enough to slow PGD: the worst case over attacks still finds the truth."""
    mild = evidence_of(Saturated(nets[3]["standard"], 8.0), nets, tmp_path)
    worst = [e.harm(e.outcomes[(e.outcomes.norm != "l2") & (e.outcomes.epsilon <= 0.1)]) for e in (plain, mild)]
    assert worst[1] >= worst[0] - 1 / 120


# every check sees the one thing it is for: evidence by hand


def by_hand(task=Classification, **harm):
    """Outcomes of 200 examples: `harm` says how many of them an attack breaks at ε = 0.1 and 0.2."""
    rows = [("clean", "none", 0.0, 0)]
    base = {"noise": (5, 10), "fgsm": (50, 90), "pgd": (80, 200), "pgd_10x1": (75,), "pgd_40x5": (80,)}
    for name, counts in (base | harm).items():
        rows += [(name, "linf", epsilon, count) for epsilon, count in zip((0.1, 0.2), counts, strict=False)]
    frames = []
    for name, norm, epsilon, count in rows:
        broken = np.arange(200) < count
        after = 1.0 + broken
        frames.append(
            pd.DataFrame(
                {
                    "example": range(200),
                    "attack": name,
                    "norm": norm,
                    "epsilon": epsilon,
                    "broken": broken if task is Classification else False,
                    "loss_after": after,
                    "overshoot": 0.0,
                }
            )
        )
    attack = Attack(norm="linf", epsilon=0.1, grid=[0.0, 0.1, 0.2])
    described = pd.DataFrame({"gradient_norm_l2": [1.0] * 200, "gradient_stability": [0.9] * 200})
    return masking.Evidence(
        outcomes=pd.concat(frames, ignore_index=True),
        descriptors=described,
        attack=attack,
        task=task,
        change=0.0,
        missed=(0, 20),
    )


def test_nothing_is_wrong_with_the_plain_evidence():
    assert flagged(by_hand()) == set()
    assert flagged(by_hand(Regression)) == set()


@pytest.mark.parametrize("task", [Classification, Regression], ids=str)
@pytest.mark.parametrize(
    ("harm", "check"),
    [
        ({"pgd": (200, 190)}, "monotone"),
        ({"pgd_10x1": (90,)}, "more_steps"),
        ({"square": (90,)}, "black_box"),
        ({"transfer": (90,)}, "black_box"),
        ({"noise": (60, 200)}, "noise_beats_fgsm"),
    ],
)
def test_the_checks_on_outcomes_see_one_thing_each(task, harm, check):
    found = flagged(by_hand(task, **harm))
    assert check in found
    assert found <= {check, "large_epsilon"}


def test_a_large_ball_must_leave_nothing():
    assert flagged(by_hand(pgd=(80, 150))) == {"large_epsilon"}
    assert "large_epsilon" not in masking.sheet(by_hand(Regression))


@pytest.mark.parametrize("broken", [0.0, np.nan, np.inf])
def test_a_gradient_that_leads_nowhere(broken):
    evidence = by_hand()
    evidence.descriptors.loc[:4, "gradient_norm_l2"] = broken
    assert flagged(evidence) == {"zero_gradient"}
    assert masking.sheet(evidence)["zero_gradient"] | {"reason": ""} == {
        "ok": False,
        "value": 5,
        "threshold": 2,
        "of": 200,
        "reason": "",
    }


def test_a_direction_that_holds_nowhere_else():
    evidence = by_hand()
    evidence.descriptors["gradient_stability"] = np.nan  # of a zero gradient
    assert flagged(evidence) == {"linearity"}
    evidence.descriptors.loc[:99, "gradient_stability"] = 0.9  # half of them have one: the others count as 0
    assert masking.sheet(evidence)["linearity"]["value"] == pytest.approx(1 - 0.9 / 2)


def test_a_point_outside_the_ball_and_a_net_that_changes_its_mind():
    evidence = by_hand()
    evidence.outcomes.loc[7, "overshoot"] = 1e-3
    assert flagged(evidence) == {"inside"}
    assert flagged(replace(by_hand(), change=0.1)) == {"repeatable"}
    unknown = masking.sheet(replace(by_hand(), change=float("nan")))["repeatable"]
    assert (unknown["ok"], unknown["value"]) == (False, None)


def test_a_planted_example_that_is_not_found():
    assert flagged(replace(by_hand(), missed=(2, 20))) == {"unit_test"}
    unknown = masking.sheet(replace(by_hand(), missed=(0, 0)))["unit_test"]
    assert (unknown["ok"], unknown["value"]) == (False, None)


def test_every_attack_is_known_as_seeing_gradients_or_not():
    plain = Attack(norm="linf", epsilon=0.1, grid=[0.1])
    blind = {name for name in registry.names("inputgrad.attacks") if masking.is_black_box(name, plain)}
    assert blind == {"noise", "random_search", "square", "hop_skip_jump"}
    assert masking.is_black_box("transfer", plain)
    assert not any(masking.is_black_box(name, plain) for name in attacking.PROBES)


# the rule for everything that counts examples


@pytest.mark.parametrize(
    ("against", "in_favour", "of", "ok", "limit"),
    [
        (1, 0, 100, True, 3),  # one example never decides
        (1, 0, 1000, True, 5),
        (3, 0, 100, True, 3),  # a fair coin does that in one of eight tries (mid-p: of sixteen)
        (4, 0, 100, False, 3),  # … and that in one of sixteen (of 32)
        (25, 21, 120, True, 11),  # two draws of one attack
        (20, 5, 120, False, 8),
        (0, 0, 100, True, 3),
        (5, 0, 1000, True, 5),  # more than chance explains, less than half a point
        (6, 0, 1000, False, 5),
    ],
)
def test_two_attacks_are_compared_example_by_example(against, in_favour, of, ok, limit):
    found = masking.counted(against, of, masking.TOLERANCE, "why", in_favour)
    assert (found.ok, found.value, found.threshold, found.of) == (ok, against - in_favour, limit, of)


@pytest.mark.parametrize(
    ("count", "of", "share", "ok", "limit"),
    [(1, 17, 0.05, True, 1), (2, 20, 0.05, False, 1), (1, 50, 0.01, True, 1), (57, 5700, 0.01, True, 57)],
)
def test_a_count_against_a_share(count, of, share, ok, limit):
    found = masking.counted(count, of, share, "why")
    assert (found.ok, found.threshold) == (ok, limit)


@pytest.mark.parametrize("differing", [4, 5, 10, 31, 100])
def test_what_chance_explains_is_what_the_sign_test_does_not_reject(differing):
    limit = masking.by_chance(differing)
    for against in range(differing + 1):
        p = sum(math.comb(differing, i) for i in range(against + 1, differing + 1)) / 2**differing
        p += math.comb(differing, against) / 2 ** (differing + 1)
        assert (2 * against - differing > limit) == (p < 0.05)


@pytest.mark.parametrize("task", [Classification, Regression], ids=str)
@pytest.mark.parametrize(
    "harm",
    [
        {"pgd": (200, 199)},
        {"pgd": (80, 200), "pgd_10x1": (81,)},
        {"square": (81,)},
        {"transfer": (81,)},
        {"noise": (51, 51), "fgsm": (50, 90)},
    ],
    ids=["monotone", "more_steps", "black_box", "transfer", "noise_beats_fgsm"],
)
def test_one_example_flags_nothing(task, harm):
    """In `digits`, 100 examples at a limit of 0.005: one of them said that a score cannot be trusted."""
    evidence = by_hand(task, **harm)
    assert flagged(evidence) == set()
    evidence.descriptors.loc[0, "gradient_norm_l2"] = 0.0
    assert flagged(replace(evidence, missed=(1, 17))) == set()


@pytest.mark.parametrize("far_off", [[7], [7, 8]])
def test_one_example_of_a_regression_flags_nothing_however_far_off(far_off):
    evidence = by_hand(Regression)
    here = (evidence.outcomes["attack"] == "pgd_10x1") & evidence.outcomes["example"].isin(far_off)
    evidence.outcomes.loc[here, "loss_after"] = 20.0
    assert flagged(evidence) == (set() if len(far_off) == 1 else {"more_steps"})


def test_a_figure_is_written_with_the_examples_it_counts():
    sheet = by_hand(pgd_10x1=(81,))
    found = masking.more_steps(sheet)
    assert (found.figure, found.limit) == ("1 of 200 examples", "3 examples")
    assert masking.more_steps(by_hand()).figure == "\N{MINUS SIGN}5 of 200 examples"
    assert (masking.linearity(sheet).figure, masking.linearity(sheet).limit) == ("0.1", "0.5")
    assert masking.counted(1234, 5000, 0.1, "why").figure == "1234 of 5000 examples"
