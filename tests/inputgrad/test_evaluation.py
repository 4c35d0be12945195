"""Evaluate anybody's model: closed forms, the same outcome after a kill, and mistakes in one line before any attack."""

import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
from torch import nn

from inputgrad import Evaluation, UserError, evaluate
from inputgrad.robustness import attacking as steps
from inputgrad.robustness import evaluation, given, scores, text
from inputgrad.robustness.settings import Attack

ROOT = Path(__file__).parents[2]
QUICK = Attack(
    norm="linf",
    epsilon=0.1,
    grid=[0.0, 0.05, 0.1, 0.5],
    attacks={"noise": {}, "fgsm": {}, "pgd": {"steps": 5}, "fab": {"steps": 5}},
    at_epsilon={"apgd_ce": {"steps": 5}},
)
CHEAP = Attack(norm="linf", epsilon=0.1, grid=[0.0, 0.1, 0.8])


def points(n=60, d=4, seed=0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def linear(weights, bias=0.0):
    net = nn.Linear(len(weights), 1)
    net.weight.data, net.bias.data = torch.tensor([weights]), torch.tensor([bias])
    return net


W = [1.0, -2.0, 0.5, 0.0]
L1, L2 = 3.5, (1 + 4 + 0.25) ** 0.5


@pytest.mark.parametrize(("norm", "dual"), [("linf", L1), ("l2", L2)])
def test_the_robust_accuracy_of_a_linear_classifier_is_its_margin(norm, dual):
    """One logit, two classes: an example stands exactly where its margin exceeds ε times the dual norm of w."""
    x, net = points(), linear(W, 0.1)
    logit = net(x).detach()[:, 0]
    y = (logit > 0).long()
    y[:6] = 1 - y[:6]  # wrong without any attack
    found = evaluate(net, x, y, epsilon=0.2, norm=norm, bounds=None)
    margin = torch.where(y == 1, logit, -logit)
    assert found.clean == pytest.approx(54 / 60)
    for epsilon in found.attack.radii:
        assert found.robust_at(epsilon) == pytest.approx(float((margin > epsilon * dual).float().mean())), epsilon
    assert 0.2 < found.robust < 0.9
    assert "one logit is taken as two classes" in found.notes
    nearest = found.outcomes[(found.outcomes.attack == "fab") & found.outcomes.broken].groupby("example").distance.min()
    exact = margin.clamp_min(0)[nearest.index.to_list()] / dual
    assert (nearest.to_numpy() >= exact.numpy() - 1e-5).all()
    torch.testing.assert_close(torch.tensor(nearest.to_numpy()), exact.double(), rtol=0.02, atol=1e-3)


def test_the_error_of_a_linear_regression_under_attack():
    x, net = points(), linear(W)
    y = net(x).detach() + points(60, 1, seed=1)
    found = evaluate(net, x, y, epsilon=0.1, bounds=None, task="regression")
    error = (net(x) - y).detach().abs() + 0.1 * L1
    assert found.robust == pytest.approx(float(error.square().mean().sqrt()), rel=1e-4)
    assert "RMSE" in str(found)


def images(n=24, classes=5):
    g = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.SiLU(), nn.Dropout(0.5), nn.Flatten(), nn.Linear(4 * 36, classes))
    x = torch.rand(n, 1, 8, 8, generator=g)
    return net, x, net.eval()(x).argmax(1)


def test_the_whole_ensemble_on_images():
    net, x, y = images()
    net.train()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    net[0].bias.requires_grad_(False)
    found = evaluate(net, x, y, epsilon=0.02)
    assert isinstance(found, Evaluation)
    assert {"apgd_ce", "apgd_t", "fab_t", "square"} <= set(found.attack.at_epsilon)
    assert found.notes == ()
    assert net.training
    assert [p.requires_grad for p in net.parameters()] == [True, False, True, True]
    assert all(torch.equal(before[key], value) for key, value in net.state_dict().items())
    worst = found.outcomes[found.outcomes.epsilon <= 0.02].groupby("example").broken.any()
    assert found.robust == pytest.approx(1 - worst.mean())
    assert found.clean == 1.0
    assert len(found.descriptors) == len(x)
    assert set(found.masking) >= {"monotone", "black_box", "zero_gradient"}
    text = str(found)
    assert f"robust accuracy   {100 * found.robust:.1f} % [" in text
    assert "can the robust score be trusted?" in text


@pytest.mark.parametrize(
    ("classes", "said"), [(2, ["2 classes: targeted APGD"]), (3, ["3 classes: targeted"]), (4, [])]
)
def test_few_classes_have_the_whole_ensemble_and_say_what_is_raised(classes, said):
    net, x, _ = images(classes=classes)
    attack, notes = given.standard(
        net, x, steps.tasks.named("classification"), steps.Threat(norm="linf", epsilon=0.1, bounds=(0.0, 1.0))
    )
    assert list(attack.at_epsilon) == ["apgd_ce", "apgd_t", "fab_t", "square"]
    assert [note[: len(start)] for note, start in zip(notes, said, strict=True)] == said


def test_a_masked_model_is_not_trusted():
    class Rounded(nn.Module):
        def __init__(self, net):
            super().__init__()
            self.net = net

        def forward(self, x):
            return self.net((x * 4).round() / 4 + 0 * x)

    net, x, y = images()
    found = evaluate(Rounded(net), x, Rounded(net)(x).argmax(1), epsilon=0.1, attack=QUICK)
    assert not found.trusted
    assert not found.masking["zero_gradient"]["ok"]
    assert "FLAG" in str(found)
    assert y is not None


def test_what_was_stopped_goes_on_to_the_same_bytes(tmp_path, monkeypatch):
    net, x, y = images()
    whole = evaluate(net, x, y, epsilon=0.1, attack=QUICK, folder=tmp_path / "whole")
    run_step, done = steps.run_step, []

    def stopped(*given):
        if len(done) == 3:
            raise KeyboardInterrupt
        done.append(1)
        return run_step(*given)

    monkeypatch.setattr(steps, "run_step", stopped)
    with pytest.raises(KeyboardInterrupt):
        evaluate(net, x, y, epsilon=0.1, attack=QUICK, folder=tmp_path / "other")
    assert len(list((tmp_path / "other" / given.STEPS).glob("*.parquet"))) == 3
    counted = []
    monkeypatch.setattr(steps, "run_step", lambda *given: counted.append(1) or run_step(*given))
    evaluate(net, x, y, epsilon=0.1, attack=QUICK, folder=tmp_path / "other")
    assert (
        0 < len(counted) <= len([s for s in steps.plan(QUICK) if not s.transfer]) - 3
    )  # an attack may have nothing left
    names = sorted(file.name for file in (tmp_path / "whole").iterdir())
    assert names == [
        "descriptors.parquet",
        "evaluation.json",
        "input_gradients.npy",
        "masking.json",
        "outcomes.parquet",
    ]
    for name in names:
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "other" / name).read_bytes()
    assert pd.read_parquet(tmp_path / "whole/outcomes.parquet").equals(whole.outcomes)
    assert json.loads((tmp_path / "whole/evaluation.json").read_text())["robust"] == whole.robust


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_nets_with_batch_norm_and_other_precisions(dtype):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 5)).to(dtype)
    x = torch.rand(12, 1, 8, 8, dtype=dtype)
    before = {key: value.clone() for key, value in net.state_dict().items()}
    found = evaluate(net, x, net.eval()(x).argmax(1), epsilon=0.1, attack=QUICK)
    assert found.clean == 1.0
    assert all(torch.equal(before[key], value) for key, value in net.state_dict().items())


def test_a_folder_of_another_evaluation_is_left_alone(tmp_path):
    net, x, y = images()
    evaluate(net, x, y, epsilon=0.1, attack=CHEAP, folder=tmp_path / "e")
    kept = (tmp_path / "e/evaluation.json").read_bytes()
    with torch.no_grad():
        net[0].bias += 1
    with pytest.raises(UserError, match=r"holds the evaluation of another model.*; fix: another folder, or delete it"):
        evaluate(net, x, y, epsilon=0.1, attack=CHEAP, folder=tmp_path / "e")
    assert (tmp_path / "e/evaluation.json").read_bytes() == kept


class Gives(nn.Module):
    def __init__(self, what):
        super().__init__()
        self.what = what

    def forward(self, x):
        return self.what(x)


NET, X, Y = images()
MISTAKES = [
    (NET, X + 0.5, Y, {}, r"inputs lie in \[.*\], the bounds are \[0, 1\]; fix: put the normalisation into the model"),
    (
        NET,
        (X * 255).byte(),
        Y,
        {},
        r"inputs are torch.uint8; fix: floating-point numbers, for bytes x\.float\(\) / 255",
    ),
    (NET, X[:3], Y, {}, r"3 inputs and 24 labels or targets"),
    (NET, X[:0], Y[:0], {}, r"0 inputs"),
    (NET, X * float("nan"), Y, {}, r"inputs hold NaN or infinite numbers"),
    (NET, X[:, :, :4], Y, {}, r"the model does not take inputs of shape \(24, 1, 4, 8\) \("),
    (NET, X, Y + 3, {}, r"labels from 3 to \d do not fit 5 classes; fix: class numbers \(N,\) from 0 to 4"),
    (NET, X, torch.eye(5).long()[Y], {}, r"shape \(24, 5\) are one-hot; fix: y.argmax\(1\)"),
    (nn.Sequential(NET, nn.Softmax(1)), X, Y, {}, r"the model gives probabilities: all .*; fix: give its logits"),
    (
        Gives(lambda x: {"one": x, "two": x}),
        X,
        Y,
        {},
        r"the model gives a dict of several parts; fix: name the part with the logits",
    ),
    (Gives(lambda x: x), X, Y, {}, r"outputs of shape \(24, 1, 8, 8\); fix: logits \(N, C\)"),
    (Gives(lambda x: x.flatten(1) / 0), X, Y, {}, r"the model's outputs are not finite"),
    (NET, X, Y, {"epsilon": 1.5}, r"ε = 1\.5 is larger than the range of the inputs; fix: at most 1"),
]


@pytest.mark.parametrize(("model", "x", "y", "options", "message"), MISTAKES, ids=[m[4][:30] for m in MISTAKES])
def test_a_mistake_is_one_line_before_any_attack(model, x, y, options, message, monkeypatch):
    monkeypatch.setattr(evaluation, "attacked", lambda *_: pytest.fail("an attack ran"))
    with pytest.raises(UserError, match=message) as error:
        evaluate(model, x, y, **{"epsilon": 0.1} | options)
    assert "\n" not in str(error.value)


def test_a_model_that_changes_in_eval_mode_is_refused():
    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = images()[0]
            self.register_buffer("seen", torch.zeros(1))

        def forward(self, x):
            self.seen += 1
            return self.net(x)

    with pytest.raises(UserError, match="the model changed while it was attacked"):
        evaluate(Counting(), X, Y, epsilon=0.1, attack=CHEAP)


@pytest.mark.parametrize(("share", "n"), [(0.0, 10), (1.0, 10), (0.5, 1), (0.97, 200)])
def test_an_interval_of_a_share_stays_inside(share, n):
    low, high = scores.wilson(share, n)
    assert 0 <= low <= share <= high <= 1
    assert high - low > 0


MINE = """
import torch
from torch import nn
torch.manual_seed(0)
net = nn.Sequential(nn.Flatten(), nn.Linear(64, 5))
def data():
    x = torch.rand(20, 1, 8, 8)
    return x, net(x).argmax(1)
def many():
    return torch.rand(3, 4)
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(MINE)
    return tmp_path


def command(*arguments):
    run = [sys.executable, "-m", "inputgrad", "evaluate", *arguments]
    return subprocess.run(run, capture_output=True, text=True, env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin"})


def test_the_command(here):
    torch.save({"model": {f"module.{k}": v for k, v in net_of().state_dict().items()}, "epoch": 3}, "w.pt")
    done = command("mine:net", "--weights", "w.pt", "--data", "mine:data", "--epsilon", "0.05", "--examples", "8")
    assert done.returncode in (0, 1), done.stderr
    assert "8 examples, linf ε = 0.05" in done.stdout
    assert (
        "note: the weights are those under 'model' in w.pt; the names in the file begin with 'module.'" in done.stderr
    )
    facts = json.loads((here / "evaluation/evaluation.json").read_text())
    assert done.returncode == (0 if facts["trusted"] else 1)
    assert facts["examples"] == 8
    again = command("mine:net", "--weights", "w.pt", "--data", "mine:data", "--epsilon", "0.06", "--examples", "8")
    assert again.returncode == 2
    assert again.stderr.splitlines()[-1].startswith("error: mine:net: evaluation holds the evaluation of another model")


def net_of():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 5))


def wrong_weights(kind):
    contents = {
        "pickle": net_of(),
        "shape": nn.Sequential(nn.Flatten(), nn.Linear(64, 4)).state_dict(),
        "keys": {"1.weight": torch.zeros(5, 64), "extra": torch.zeros(1)},
        "nothing": {"epoch": 3},
        "list": [1, 2],
    }
    torch.save(contents[kind], "w.pt")


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("pickle", "holds more than weights, and loading that could run its code; fix: if the file is your own, run"),
        ("shape", "holds the weights of another net: 2 of another shape (1.weight (4, 64) instead of (5, 64), 1.bias"),
        ("keys", "another net: 1 missing (1.bias); 1 unexpected (extra); fix: the model they were made for"),
        ("nothing", "w.pt holds epoch, no weights; fix: save model.state_dict()"),
        ("list", "w.pt holds a list; fix: save model.state_dict()"),
    ],
)
def test_weights_that_do_not_fit_are_named(here, kind, message):
    from inputgrad.robustness import weights

    wrong_weights(kind)
    with pytest.raises(UserError) as error:
        weights.load(net_of(), Path("w.pt"))
    assert message in str(error.value)


def test_missing_and_damaged_weights(here):
    from inputgrad.robustness import weights

    with pytest.raises(UserError, match=r"w\.pt is missing; fix: correct the name"):
        weights.load(net_of(), Path("w.pt"))
    Path("w.pt").write_bytes(b"abc")
    with pytest.raises(UserError, match=r"w\.pt (is not readable|holds more than weights)"):
        weights.load(net_of(), Path("w.pt"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("mine:many", "--data", "mine:data"), "error: mine:many gives a Tensor; fix: give a torch.nn.Module"),
        (("mine:net", "--data", "mine:many"), "error: mine:many gives one thing; fix: a pair (x, y)"),
        (("mine:net", "--data", "mine:data", "--bounds", "1", "0"), "error: --bounds 1 0: the first number must be"),
        (("mine:net", "--data", "mine:data", "--examples", "50"), "error: --examples 50: mine:data gives 20"),
        (("mine:net", "--data", "mine:data", "--device", "gpu"), "error: --device gpu: "),
        (("mine:nett", "--data", "mine:data"), "did you mean 'net'"),
    ],
)
def test_mistakes_of_the_command(here, arguments, message):
    done = command(*arguments, "--epsilon", "0.05")
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (here / "evaluation").exists()


def test_a_secondary_norm_is_no_part_of_the_headline_score():
    """ε = 0.25 in linf is a far larger ball than 0.3 in l2: its broken examples are none of the headline's."""
    x, net = points(d=30), linear([1.0, -1.0] * 15)
    y = (net(x).detach()[:, 0] > 0).long()
    l2 = {"norm": "l2", "epsilon": 0.3, "grid": [0.0, 0.3], "attacks": {"noise": {}, "fgsm": {}, "pgd": {"steps": 5}}}
    alone, both = (
        evaluate(net, x, y, epsilon=0.3, norm="l2", bounds=None, attack=Attack.model_validate(l2 | more))
        for more in ({}, {"secondary": {"norm": "linf", "epsilon": 0.25, "grid": [0.0, 0.25]}})
    )
    assert both.outcomes[both.outcomes.norm == "linf"].broken.mean() > alone.outcomes.broken.mean()
    assert both.robust == alone.robust > 0.5
    assert text.left(both) == text.left(alone)
    assert text.distance(both) == text.distance(alone)


def test_a_radius_that_was_not_tried_has_no_score():
    x, net = points(), linear(W)
    found = evaluate(net, x, (net(x) > 0).long()[:, 0], epsilon=0.1, bounds=None, attack=CHEAP)
    assert found.robust_at(0.1 + 1e-12) == found.robust < found.robust_at(0.0) == found.clean
    for epsilon in (0.099, 0.2, 5.0, -1.0, float("nan")):
        with pytest.raises(UserError, match=r"no attack was run at ε = .* \(at 0, 0.1, 0.8\); fix: "):
            found.robust_at(epsilon)


@pytest.mark.parametrize(
    ("attack", "said"),
    [
        ({"epsilon": 0.2}, "the attack is for linf ε = 0.2, the arguments say linf ε = 0.1; fix: "),
        ({"norm": "l2"}, "the attack is for l2 ε = 0.1, the arguments say linf ε = 0.1; fix: norm='l2'"),
        ({"examples": 5}, "attack.examples is 5, there are 60 examples; fix: give x"),
        ({"attacks": {"noise": {}, "fgsm": {}}}, "the masking sheet compares 'pgd'; fix: "),
        ({"at_epsilon": {"hop_skip_jump": {}}}, "attack hop_skip_jump is not defined for regression"),
    ],
)
def test_attacks_that_contradict_the_arguments(attack, said):
    x, net = points(), linear(W)
    with pytest.raises(UserError, match=said):
        evaluate(
            net,
            x,
            net(x).detach(),
            epsilon=0.1,
            bounds=None,
            attack=Attack.model_validate(CHEAP.model_dump() | attack),
            task="regression",
        )


def test_a_target_that_is_nan_is_said():
    """Pandas leaves it out of the worst case and of the mean: the score of the other examples was printed."""
    x, net = points(), linear(W)
    y = net(x).detach()
    y[:20] = float("nan")
    with pytest.raises(UserError, match="targets hold NaN"):
        evaluate(net, x, y, epsilon=0.1, bounds=None, attack=CHEAP)


class Factor(nn.Module):
    """Something that no weight and no buffer shows: code and plain numbers of the user's own."""

    def __init__(self, net, factor):
        super().__init__()
        self.net, self.factor = net, factor

    def forward(self, x):
        return self.net(self.factor * x)


def test_another_model_with_the_same_weights_takes_nothing_over(tmp_path, monkeypatch):
    """Stopped, the normalisation corrected, and run again: attacks that were finished are of the other model."""
    x, net = points(), linear(W)
    y = (net(x) > 0).long()[:, 0]
    monkeypatch.setattr(evaluation.masking, "sheet", lambda _: sys.exit("stopped"))
    with pytest.raises(SystemExit):
        evaluate(Factor(net, -1.0), x, y, epsilon=0.1, bounds=None, attack=CHEAP, folder=tmp_path)
    monkeypatch.undo()
    assert list((tmp_path / "steps").glob("*.parquet"))
    found = evaluate(
        Factor(net, 1.0), x.requires_grad_(True), y, epsilon=0.1, bounds=None, attack=CHEAP, folder=tmp_path
    )
    expected = evaluate(net, x, y, epsilon=0.1, bounds=None, attack=CHEAP)
    assert found.robust == expected.robust
    assert found.masking["monotone"] == expected.masking["monotone"]
    pd.testing.assert_series_equal(found.outcomes.broken, expected.outcomes.broken)
