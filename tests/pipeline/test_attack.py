"""The attack stage: inside the ball, outcomes per example, the model untouched, the test split its alone."""

import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from inputgrad import files
from inputgrad.attacks import Threat
from inputgrad.errors import UserError
from inputgrad.gradients.descriptors import descriptors, jacobian_norm
from inputgrad.gradients.forward import Draws
from inputgrad.robustness import attacking
from pipeline import data, layout, store
from pipeline.report import attack_words
from pipeline.stages import attack, runner, train
from pipeline.stages.attack import Evaluation
from pipeline.study.read import read_study
from pipeline.study.run import Run, runs
from tests.conftest import edit, reseal


@pytest.fixture
def trained(project):
    """The finished runs of `standard` in the study `tiny`, published where the attack stage looks for them."""
    runner.prepare("tiny")
    study = read_study("tiny")
    found = {f"seed-{run.seed}": train.train(run) for run in runs(study, "standard")}
    store.publish(found, layout.stage(study.name, "standard", "train"))
    return Evaluation(Run(study, "standard", 0))


def afresh(evaluation):
    """The same evaluation, which remembers nothing of what it has checked."""
    run = evaluation.run
    return Evaluation(Run(run.study, run.loss_name, run.seed))


def test_equal_weights_are_attacked_once(trained, monkeypatch):
    study = trained.run.study
    for loss in ("detached_norm", "gradient_norm"):
        found = {f"seed-{run.seed}": train.train(run) for run in runs(study, loss)}
        store.publish(found, layout.stage(study.name, loss, "train"))
    names, attacked = [], attack.attacked
    monkeypatch.setattr(attack, "attacked", lambda victim, *rest: names.append(victim.name) or attacked(victim, *rest))
    twin, other = (attack.evaluate(Evaluation(Run(study, loss, 0))) for loss in ("detached_norm", "gradient_norm"))
    target = attack.evaluate(trained)
    assert names == ["tiny/standard/seed-0", "tiny/gradient_norm/seed-0"]
    assert not (twin / attack.STEPS).exists()
    for name in attack.FILES:
        assert (twin / name).read_bytes() == (target / name).read_bytes()
    assert (other / "outcomes.parquet").read_bytes() != (target / "outcomes.parquet").read_bytes()


def test_outcomes_are_tidy_and_complete(trained):
    target = attack.evaluate(trained)
    outcomes = pd.read_parquet(target / "outcomes.parquet")
    n = len(data.read_data("tiny", read_study("tiny").data, ("test",)).x["test"])
    columns = "example seed attack norm epsilon broken loss_before loss_after distance overshoot"
    assert list(outcomes) == columns.split()
    groups = outcomes.groupby(["attack", "norm", "epsilon"]).size()
    everywhere = [(a, "linf", e) for a in ("noise", "fgsm", "pgd", "fab") for e in (0.1, 0.4)]
    at_headline = [(a, "linf", 0.1) for a in ("pgd_10x1", "pgd_40x5", "transfer")]
    assert (groups[[("clean", "none", 0.0), *everywhere, *at_headline]] == n).all()
    expensive = groups.drop([("clean", "none", 0.0), *everywhere, *at_headline])
    assert set(expensive.index) == {("apgd_ce", "linf", 0.1), ("square", "linf", 0.1)}
    assert (expensive < n).all()
    assert outcomes.overshoot.max() <= 1e-6
    assert (outcomes.distance <= outcomes.epsilon + 1e-6).all()
    pgd = outcomes[outcomes.attack == "pgd"].groupby("epsilon").broken.mean()
    clean = outcomes[outcomes.attack == "clean"].broken.mean()
    assert clean < pgd[0.1] < pgd[0.4]


def test_dear_attacks_see_exactly_what_still_stands(trained):
    outcomes = pd.read_parquet(attack.evaluate(trained) / "outcomes.parquet")
    inside = outcomes[(outcomes.epsilon <= 0.1) & ~outcomes.attack.isin(["apgd_ce", "square"])]
    standing = set(inside.example) - set(inside.example[inside.broken])
    first = outcomes[outcomes.attack == "apgd_ce"]
    assert set(first.example) == standing
    last = outcomes[outcomes.attack == "square"]
    assert set(last.example) == standing - set(first.example[first.broken])


def test_black_boxes_come_last_whatever_the_order_in_the_study(project):
    """Else the masking sheet would count for a black box what a gradient would have found."""
    attack = read_study("tiny").attack
    assert list(attack.at_epsilon) == ["square", "apgd_ce"]
    assert [s.attack for s in attacking.plan(attack) if s.epsilon == 0.1][-3:] == ["apgd_ce", "transfer", "square"]


def test_an_attack_in_both_lists_has_the_other_knobs_at_the_headline(project):
    edit(project / "experiments/tiny.yaml", "apgd_ce: {steps: 5}", "pgd: {steps: 9}")
    steps = [s for s in attacking.plan(read_study("tiny").attack) if s.attack == "pgd"]
    assert [(s.epsilon, s.knobs, s.sees_all_examples) for s in steps] == [
        (0.4, {"steps": 3, "restarts": 2}, True),
        (0.1, {"steps": 9}, True),
    ]


def test_the_headline_ball_is_attacked_before_the_others(project):
    """`left` asks what stands there; what sees every example, or all radii at once, waits for nothing."""
    file = project / "experiments/tiny.yaml"
    edit(file, "epsilon: 0.1", "epsilon: 0.2")
    edit(file, "grid: [0.0, 0.1, 0.4]", "grid: [0.0, 0.1, 0.2, 0.4]")
    edit(file, "pgd: {steps: 3,", "random_search: {queries: 7}, pgd: {steps: 3,")
    plan = attacking.plan(read_study("tiny").attack)
    assert [(s.epsilon, s.headline) for s in plan if s.attack == "random_search"] == [
        (0.2, None),
        (0.1, 0.2),
        (0.4, None),
    ]
    last = max(number for number, step in enumerate(plan) if step.epsilon == 0.2)
    first = min(number for number, step in enumerate(plan) if step.headline is not None and not step.sees_all_examples)
    assert last < first
    assert [s.headline for s in plan if s.radii] == [None]


@pytest.mark.parametrize(
    ("epsilon", "headline", "classes", "examples"),
    [(0.2, None, True, [2, 3]), (0.1, 0.2, True, [1]), (0.4, None, True, [2]), (0.1, 0.2, False, [1, 2, 3])],
)
def test_what_stands_in_the_headline_ball_is_not_attacked_in_a_smaller_one(epsilon, headline, classes, examples):
    broken = {0: 0.1, 1: 0.2, 3: 0.4}
    outcomes = pd.DataFrame(
        [(e, "linf", r, broken.get(e, 9.0) == r) for r in (0.1, 0.2, 0.4) for e in range(4)]
        + [(2, "l2", 0.1, True)],  # another norm says nothing of this one
        columns=["example", "norm", "epsilon", "broken"],
    )
    broken_at = attacking.BrokenAt(pd.DataFrame({"broken": [False] * 4}))
    broken_at.note(outcomes)
    y = torch.zeros(4, dtype=torch.long) if classes else torch.zeros(4)
    victim = attacking.Victim(name="", model=nn.Identity(), source=None, x=torch.zeros(4, 1), y=y, bounds=None, seed=0)
    step = attacking.AttackStep(
        attack="", module=attacking.pgd, norm="linf", epsilon=epsilon, sees_all_examples=False, headline=headline
    )
    assert attacking.left(broken_at, step, victim).tolist() == examples


def test_the_secondary_norm_may_have_fewer_expensive_attacks(project):
    file = project / "experiments/tiny.yaml"
    edit(file, "  grid:", "  secondary: {norm: l2, epsilon: 0.3, grid: [0.3], at_epsilon: [apgd_ce]}\n  grid:")
    edit(file, "pgd: {steps: 3,", "square: {queries: 7}, pgd: {steps: 3,")
    plan = attacking.plan(read_study("tiny").attack)
    of = {
        norm: [(s.attack, s.knobs) for s in plan if s.norm == norm and s.attack in ("square", "apgd_ce")]
        for norm in ("linf", "l2")
    }
    assert of["l2"] == [("square", {"queries": 7}), ("apgd_ce", {"steps": 5})]
    assert of["linf"] == [("apgd_ce", {"steps": 5}), ("square", {"queries": 20}), ("square", {"queries": 7})]


def test_a_minimal_norm_attack_is_run_once_and_judged_at_every_epsilon(trained):
    found = pd.read_parquet(attack.evaluate(trained) / "outcomes.parquet")
    assert [s.attack for s in attacking.plan(trained.run.study.attack)].count("fab") == 1
    near, far = (found[(found.attack == "fab") & (found.epsilon == e)].set_index("example") for e in (0.1, 0.4))
    assert near.broken.mean() < far.broken.mean()
    assert (near.distance[near.broken] == far.distance[near.broken]).all()  # the same points


def test_transfer_starts_from_another_net(trained, monkeypatch):
    study = trained.run.study
    assert trained.run.source.seed == 1
    assert Run(study, "gradient_norm", 1).source == Run(study, "standard", 0)
    outcomes = pd.read_parquet(attack.evaluate(trained) / "outcomes.parquet")
    broken = outcomes[outcomes.epsilon <= 0.1].groupby("attack").broken.mean()
    assert broken["clean"] < broken["transfer"] < broken["pgd"]


def test_with_one_seed_standard_is_not_its_own_transfer(trained):
    """PGD's examples against the very same weights are no black box: what they add was counted as masking."""
    study = trained.run.study
    one = study.model_copy(update={"training": study.training.model_copy(update={"seeds": [trained.run.seed]})})
    assert attack.victim_of(attack.Evaluation(Run(one, "standard", trained.run.seed))).source is None
    assert attack.victim_of(trained).source is not None
    assert "itself gets none with one seed" in attack_words.source(one)
    assert attack_words.source(study) == "another seed of `standard`"


@pytest.mark.parametrize("steps", [1, 4])
def test_a_killed_evaluation_goes_on_where_it_was_with_the_same_outcome(trained, monkeypatch, steps):
    target = attack.evaluate(trained)
    names = ("outcomes.parquet", "descriptors.parquet", "masking.json", "gradients.npz", "input_gradients.npy")
    whole = {name: (target / name).read_bytes() for name in names}
    files.remove(trained.state)
    ran, run_step = [], attacking.run_step

    def killed_after(victim, step, index):
        if len(ran) == steps:
            raise KeyboardInterrupt
        ran.append(step)
        return run_step(victim, step, index)

    monkeypatch.setattr(attacking, "run_step", killed_after)
    with pytest.raises(KeyboardInterrupt):
        attack.evaluate(trained)
    assert trained.done == steps
    monkeypatch.setattr(attacking, "run_step", lambda *given: ran.append(given[1]) or run_step(*given))
    attack.evaluate(trained)
    assert len(ran) == trained.steps == trained.done  # no step twice
    assert {name: (target / name).read_bytes() for name in names} == whole
    assert not (target / "steps").exists()


def emptied(file, steps):
    """As a full disk leaves it."""
    file.write_bytes(b"")


def flipped(file, steps):
    """One bit is another."""
    contents = bytearray(file.read_bytes())
    contents[len(contents) // 2] ^= 1
    file.write_bytes(contents)


def of_another_step(file, steps):
    """What another attack found, under the name of this one."""
    file.write_bytes(steps[-1].read_bytes())


def another_step(file, steps):
    """The file of another attack, whole, in the place of this one's."""
    stem, digits = file.stem.rpartition("-")[0], steps[-1].stem.rpartition("-")[2]
    shutil.copy(steps[-1], file.with_name(f"{stem}-{digits}.parquet"))
    file.unlink()


def of_another_evaluation(file, steps):
    """The same step on the other seed, which has a name of its own."""
    other = Evaluation(Run(read_study("tiny"), "standard", 1))
    attack.evaluate(other)
    victim, step = attack.victim_of(other), attacking.plan(other.run.study.attack)[1]
    contents = attacking.run_step(victim, step, torch.arange(len(victim.x))).to_parquet(index=False)
    stem = file.stem.rpartition("-")[0]
    digits = attacking.hash_of(other.fingerprint, stem, contents)
    file.with_name(f"{stem}-{digits}.parquet").write_bytes(contents)
    file.unlink()


@pytest.mark.parametrize("change", [emptied, flipped, of_another_step, another_step, of_another_evaluation])
def test_a_damaged_or_foreign_step_is_made_again(trained, monkeypatch, capsys, change):
    target = attack.evaluate(trained)
    names = (*attack.FILES, layout.MANIFEST)
    whole = {name: (target / name).read_bytes() for name in names}
    store.clear(target)
    ran, run_step = [], attacking.run_step

    def counted(victim, step, index):
        if len(ran) == 3:
            raise KeyboardInterrupt
        ran.append(step.attack)
        return run_step(victim, step, index)

    with monkeypatch.context() as patched:
        patched.setattr(attacking, "run_step", counted)
        with pytest.raises(KeyboardInterrupt):
            attack.evaluate(trained)
    steps = sorted((target / "steps").iterdir())
    assert [file.name.split("-")[1] for file in steps] == ran == ["noise", "fgsm", "pgd"]
    change(steps[1], steps)
    capsys.readouterr()
    monkeypatch.setattr(attacking, "run_step", lambda *given: ran.append(given[1].attack) or run_step(*given))
    attack.evaluate(trained)
    assert ran[3] == "fgsm"
    assert len(ran) == trained.steps + 1  # that step and no other
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"note: {target}/steps/001-fgsm-linf-0.1-")
    assert line.endswith(".parquet is damaged or of another evaluation; the step is made again")
    assert {name: (target / name).read_bytes() for name in names} == whole


def test_an_attack_that_changes_the_model_is_found_out(trained, monkeypatch):
    run_step = attacking.run_step

    def careless(victim, step, index):
        next(victim.model.parameters()).data[0] += 1e-6
        return run_step(victim, step, index)

    monkeypatch.setattr(attacking, "run_step", careless)
    with pytest.raises(RuntimeError, match="the attack changed the model"):
        attack.evaluate(trained)
    assert not (trained.state / "outcomes.parquet").exists()


def test_fewer_examples_than_asked_for(trained):
    file = trained.run.study.file
    edit(file, "  grid:", "  examples: 361\n  grid:")
    with pytest.raises(UserError, match=r"tiny\.yaml: attack\.examples: 361 asked for, the test split has 360"):
        attack.evaluate(Evaluation(Run(read_study("tiny"), "standard", 0)))
    edit(file, "examples: 361", "examples: 50")
    target = attack.evaluate(Evaluation(Run(read_study("tiny"), "standard", 0)))
    assert set(pd.read_parquet(target / "outcomes.parquet").example) == set(range(50))
    assert len(pd.read_parquet(target / "descriptors.parquet")) == 50


def test_clean_outcomes_are_the_models_own_mistakes(trained):
    target = attack.evaluate(trained)
    outcomes = pd.read_parquet(target / "outcomes.parquet")
    dataset = data.read_data("tiny", read_study("tiny").data, ("test",))
    model = attack.trained(trained.run, dataset)
    wrong = (model(dataset.x["test"]).argmax(1) != dataset.y["test"]).numpy()
    assert np.array_equal(outcomes[outcomes.attack == "clean"].broken.to_numpy(), wrong)


def test_descriptors_are_the_norms_of_the_input_gradient(trained):
    target = attack.evaluate(trained)
    frame = pd.read_parquet(target / "descriptors.parquet")
    kept = np.load(target / "gradients.npz")
    dataset = data.read_data("tiny", read_study("tiny").data, ("test",))
    model = attack.trained(trained.run, dataset)
    x = torch.from_numpy(kept["x"]).requires_grad_(True)
    nn.functional.cross_entropy(model(x), torch.from_numpy(kept["y"]), reduction="sum").backward()
    np.testing.assert_allclose(kept["gradients"], x.grad.numpy(), atol=1e-6)
    norms = x.grad.flatten(1).norm(dim=1).numpy()
    np.testing.assert_allclose(frame.gradient_norm_l2.to_numpy()[kept["examples"]], norms, rtol=1e-5)


def test_the_same_evaluation_gives_the_same_bytes(trained):
    first = (attack.evaluate(trained) / "outcomes.parquet").read_bytes()
    files.remove(trained.state)
    assert (attack.evaluate(trained) / "outcomes.parquet").read_bytes() == first


def test_a_model_that_gives_nan_is_refused(trained, monkeypatch):
    file = trained.run.folder("train") / "best.pt"
    contents = store.load_checkpoint(file, "")
    next(iter(contents["model"].values())).fill_(float("nan"))
    store.save_checkpoint(file, contents)
    reseal(file.parent)
    with pytest.raises(UserError, match="tiny/standard/seed-0: the trained model's outputs are not finite"):
        attack.evaluate(afresh(trained))


def test_a_missing_or_foreign_checkpoint_is_named(trained):
    file = trained.run.folder("train") / "best.pt"
    contents = store.load_checkpoint(file, "")
    contents["model"].popitem()
    store.save_checkpoint(file, contents)
    again = "; fix: dvc repro -f train@tiny-standard$"
    with pytest.raises(UserError, match=rf"best\.pt is damaged: its bytes are not those that were written{again}"):
        attack.evaluate(afresh(trained))
    reseal(file.parent)
    with pytest.raises(UserError, match=rf"best\.pt holds another model than experiments/tiny\.yaml describes{again}"):
        attack.evaluate(afresh(trained))
    file.unlink()
    with pytest.raises(UserError, match=rf"best\.pt is missing{again}"):
        attack.evaluate(afresh(trained))


def test_descriptors_of_a_linear_net_are_known_by_hand():
    torch.manual_seed(0)
    net = nn.Linear(4, 1).requires_grad_(False)
    net.weight.copy_(torch.tensor([[3.0, 0.0, 0.0, 4.0]]))
    x, y = torch.randn(7, 4), torch.randn(7, 1)
    threat = Threat(norm="linf", epsilon=0.01)
    frame, gradients = descriptors(net, x, y, threat, Draws(torch.Generator().manual_seed(0)))
    residual = 2 * (net(x) - y)
    torch.testing.assert_close(gradients, residual * net.weight)
    np.testing.assert_allclose(frame.gradient_norm_l1, 7 * residual.abs()[:, 0], rtol=1e-5)
    np.testing.assert_allclose(frame.gradient_norm_l2, 5 * residual.abs()[:, 0], rtol=1e-5)
    np.testing.assert_allclose(frame.jacobian_norm, 5, rtol=1e-6)
    np.testing.assert_allclose(frame.gradient_sparsity, 2 - 7 / 5, rtol=1e-5)  # (√4 - 7/5) / (√4 - 1)
    cosine = torch.cosine_similarity(x, residual.sign() * net.weight)
    np.testing.assert_allclose(frame.gradient_alignment, cosine, rtol=1e-5)
    np.testing.assert_allclose(frame.gradient_stability.abs(), 1, rtol=1e-5)


def test_a_zero_gradient_has_no_direction_and_no_sparsity():
    net = nn.Linear(4, 1).requires_grad_(False)
    x = torch.randn(3, 4)
    threat = Threat(norm="linf", epsilon=0.1)
    frame, _ = descriptors(net, x, net(x), threat, Draws(torch.Generator().manual_seed(0)))
    assert frame[["gradient_sparsity", "gradient_alignment", "gradient_stability"]].isna().all(axis=None)
    assert (frame.gradient_norm_l2 == 0).all()


def test_the_jacobian_norm_is_that_of_every_output():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)).requires_grad_(False)
    x = torch.randn(5, 4)
    whole = torch.stack([torch.autograd.functional.jacobian(net, row).norm() for row in x])
    torch.testing.assert_close(jacobian_norm(net, x), whole)


def test_training_never_opens_the_test_split(project, monkeypatch):
    runner.prepare("tiny")
    opened = []
    original = data.read_data
    monkeypatch.setattr(data, "read_data", lambda *given: opened.append(given[-1]) or original(*given))
    train.train(Run(read_study("tiny"), "gradient_norm", 0))
    assert opened == [("train", "validation")]
