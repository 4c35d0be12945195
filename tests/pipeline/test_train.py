"""One training loop: reproducible, resumable at any moment, and loud when a loss stops being a number."""

import multiprocessing
import os
import signal
import time
from pathlib import Path

import pandas as pd
import pytest
import torch

from inputgrad import files
from inputgrad.errors import UserError
from pipeline import data, layout, store
from pipeline.stages import runner, saving, train
from pipeline.study.read import read_study
from pipeline.study.run import Run
from tests.conftest import edit


@pytest.fixture
def run(project):
    """A function that makes a run of the study `tiny`, whose data is prepared."""
    runner.prepare("tiny")
    return lambda loss, seed=0: Run(read_study("tiny"), loss, seed)


def contents(folder):
    """Every file of a run's result and its manifest: every byte counts."""
    return {name: (folder / name).read_bytes() for name in (*saving.FILES, layout.MANIFEST)}


def weights(folder, name="last.pt"):
    """The weights in a checkpoint, comparable with ==."""
    return {k: v.numpy().tobytes() for k, v in store.load_checkpoint(folder / name, "")["model"].items()}


def again(run):
    """Train the same run once more, from nothing."""
    files.remove(run.state)
    return contents(train.train(run))


@pytest.mark.parametrize("loss", ["standard", "gradient_norm", "gradient_direction", "fgsm"])
def test_the_same_run_gives_the_same_bytes(run, loss):
    first = contents(train.train(run(loss)))
    assert again(run(loss)) == first


def test_equal_checkpoints_are_equal_files(tmp_path):
    for name in ("a.pt", "b.pt"):
        store.save_checkpoint(tmp_path / name, {"model": {"w": torch.ones(3)}, "epoch": 1})
    assert (tmp_path / "a.pt").read_bytes() == (tmp_path / "b.pt").read_bytes()


def test_seeds_differ_and_losses_of_a_seed_start_alike(run):
    states = {}
    for loss, seed in (("standard", 0), ("standard", 1), ("gradient_norm", 0)):
        r = run(loss, seed)
        model = r.build(data.read_data("tiny", r.study.data, ("train",)))
        states[loss, seed] = torch.nn.utils.parameters_to_vector(model.parameters())
    assert torch.equal(states["standard", 0], states["gradient_norm", 0])
    assert not torch.equal(states["standard", 0], states["standard", 1])


def test_the_control_is_standard_bit_for_bit_and_the_penalty_is_not(run):
    folders = {loss: train.train(run(loss)) for loss in ("standard", "detached_norm", "gradient_norm")}
    for name in ("best.pt", "last.pt"):
        found = {loss: weights(folder, name) for loss, folder in folders.items()}
        assert found["detached_norm"] == found["standard"]
        assert found["gradient_norm"] != found["standard"]


def test_history_records_what_the_issue_asks(run):
    folder = train.train(run("gradient_norm"))
    history = pd.read_csv(folder / "history.csv")
    wanted = {"epoch", "task_loss", "term", "validation_accuracy", "input_gradient_norm", "term_gradient_ratio"}
    assert wanted <= set(history)
    assert list(history.epoch) == [1, 2, 3]
    assert (history.term_gradient_ratio > 0).all()
    control = pd.read_csv(train.train(run("detached_norm")) / "history.csv")
    assert (control.term_gradient_ratio == 0).all()
    assert (control.term > 0).all()  # the printed penalty is there; it only does nothing


def test_the_penalty_lowers_the_input_gradient(run, project):
    edit(project / "experiments/tiny.yaml", "strength: 0.3, p: 2", "strength: 10.0, p: 2")
    edit(project / "experiments/tiny.yaml", "epochs: 3", "epochs: 12")
    norms = {}
    for loss in ("standard", "gradient_norm"):
        norms[loss] = pd.read_csv(train.train(run(loss)) / "history.csv").input_gradient_norm.iloc[-1]
    assert norms["gradient_norm"] < 0.8 * norms["standard"]


def test_best_is_the_best_epoch(run, project):
    edit(project / "experiments/tiny.yaml", "epochs: 3", "epochs: 8")
    folder = train.train(run("standard"))
    history = pd.read_csv(folder / "history.csv")
    best = store.load_checkpoint(folder / "best.pt", "")
    row = history.sort_values(["validation_accuracy", "validation_loss"], ascending=[False, True]).iloc[0]
    assert best["epoch"] == row.epoch


def test_compiled_it_resumes_to_the_same_bytes(run):
    """With random numbers in the loss; and its result is not that of the eager study, which is another one."""
    eager = run("fgsm")
    edit(Path(eager.study.file), "seeds: [0, 1]", "seeds: [0, 1], compile: true")
    r = run("fgsm")
    assert r.fingerprint != eager.fingerprint
    whole = contents(train.train(r))
    files.remove(r.state)
    train.train(r, until=2)
    assert contents(train.train(r)) == whole
    history = [pd.read_csv(train.train(one) / "history.csv") for one in (r, eager)]
    assert history[0]["task_loss"].iloc[0] == pytest.approx(history[1]["task_loss"].iloc[0], rel=0.05)


def test_what_cannot_be_compiled_names_the_study(run, pipeline):
    study = run("fgsm").study.file
    edit(Path(study), "seeds: [0, 1]", "seeds: [0, 1], compile: true")
    edit(Path(study), "gradient_norm: {strength: 0.3", "gradient_norm: {ramp: 2, strength: 0.3")
    done = pipeline("train", "tiny", "gradient_norm")
    assert done.code == 2
    assert done.err.startswith(f"error: {study}: training.compile: tiny/gradient_norm/seed-")
    assert done.err.count("\n") == 1


@pytest.mark.parametrize("loss", ["gradient_direction", "fgsm"])
def test_killed_between_any_two_writes_it_resumes_to_the_same_bytes(run, loss, monkeypatch):
    """Every write to disk is one moment at which the machine may die; each of them is tried."""
    r = run(loss)
    whole = contents(train.train(r))
    original, survived = os.replace, 0
    while True:
        files.remove(r.state)
        left = iter(range(survived))

        def dies(source, target, left=left):
            if next(left, None) is None:
                raise KeyboardInterrupt
            original(source, target)

        with monkeypatch.context() as patched:
            patched.setattr(os, "replace", dies)
            try:
                train.train(r)
                break
            except KeyboardInterrupt:
                pass
        assert contents(train.train(r)) == whole
        survived += 1
    assert survived > 8  # three epochs of best.pt, last.pt and history.csv, then the rest


def test_sigkill_in_the_middle_of_an_epoch(run, project):
    edit(project / "experiments/tiny.yaml", "epochs: 3", "epochs: 60")
    r = run("fgsm")
    process = multiprocessing.get_context("spawn").Process(target=train.train, args=(r,))
    process.start()
    while not (r.state / "history.csv").exists():
        assert process.is_alive()
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert not (r.state / layout.MANIFEST).exists()
    interrupted = contents(train.train(r))
    assert again(r) == interrupted


def test_a_loss_that_turns_nan_stops_with_the_step(run, project):
    edit(project / "experiments/tiny.yaml", "learning_rate: 0.01", "learning_rate: 1.0e+30")
    with pytest.raises(UserError, match=r"tiny/standard/seed-0: the loss became (nan|inf) at step \d+ \(epoch \d\)"):
        train.train(run("standard"))
    assert not (run("standard").state / "run.json").exists()


def truncated(file):
    """As a full disk leaves it."""
    file.write_bytes(file.read_bytes()[:200])


def flipped(file):
    """One bit of a weight is another, which torch reads without complaint."""
    contents = bytearray(file.read_bytes())
    weight = next(iter(store.load_checkpoint(file, "")["model"].values()))
    contents[contents.index(weight.numpy().tobytes()[:64])] ^= 1
    file.write_bytes(contents)


@pytest.fixture
def stopped(run, monkeypatch):
    """A run of three epochs that was stopped after the second, the bytes of the whole run, and what is trained next."""
    r = run("fgsm")
    whole = contents(train.train(r))
    files.remove(r.state)
    train.train(r, until=2)
    trained, train_epoch = [], train.train_epoch
    monkeypatch.setattr(train, "train_epoch", lambda t: trained.append(t.epoch + 1) or train_epoch(t))
    return r, whole, trained


def notes(capsys):
    """What was said on stderr, line by line."""
    return capsys.readouterr().err.splitlines()


@pytest.mark.parametrize("damage", [truncated, flipped])
def test_a_damaged_checkpoint_is_set_aside_and_the_one_before_it_goes_on(stopped, damage, capsys):
    r, whole, trained = stopped
    damage(r.state / "last.pt")
    damaged = (r.state / "last.pt").read_bytes()
    assert contents(train.train(r)) == whole
    assert trained == [2, 3]
    (line,) = notes(capsys)
    assert line.startswith(f"note: {r.state}/last.pt is ")
    assert line.endswith(f"; {saving.ASIDE}")
    assert (r.state / "last.damaged").read_bytes() == damaged


@pytest.mark.parametrize(("loss", "seed"), [("standard", 0), ("fgsm", 1)])
def test_a_checkpoint_of_another_run_is_set_aside_too(stopped, run, loss, seed, capsys):
    r, whole, trained = stopped
    other = train.train(run(loss, seed), until=2)
    (r.state / "last.pt").write_bytes((other / "last.pt").read_bytes())
    trained.clear()
    assert contents(train.train(r)) == whole
    assert trained == [2, 3]
    assert notes(capsys) == [f"note: {r.state}/last.pt is a checkpoint of another run; {saving.ASIDE}"]


@pytest.mark.parametrize("damage", [truncated, flipped, Path.unlink])
def test_a_damaged_best_checkpoint_is_trained_again(stopped, damage, capsys):
    r, whole, trained = stopped
    damage(r.state / "best.pt")
    assert contents(train.train(r)) == whole
    assert trained == [1, 2, 3]
    (line,) = notes(capsys)
    assert line.startswith(f"note: {r.state}/best.pt is ")


def test_a_best_checkpoint_of_another_epoch_is_trained_again(stopped, run, capsys):
    r, whole, trained = stopped
    files.remove(r.state)
    first = (train.train(r, until=1) / "best.pt").read_bytes()
    train.train(r, until=2)
    assert store.load_checkpoint(r.state / "best.pt", "")["epoch"] == 2
    (r.state / "best.pt").write_bytes(first)
    trained.clear()
    assert contents(train.train(r)) == whole
    assert trained == [2, 3]  # the first epoch's checkpoint fits to it
    assert notes(capsys) == [f"note: {r.state}/best.pt is of epoch 1, not of the kept one, 2; {saving.ASIDE}"]


def test_without_any_good_checkpoint_a_run_starts_afresh(stopped, capsys):
    r, whole, trained = stopped
    truncated(r.state / "last.pt")
    flipped(r.state / "previous.pt")
    assert contents(train.train(r)) == whole
    assert trained == [1, 2, 3]
    said = notes(capsys)
    assert [line.split(" is ")[0] for line in said] == [f"note: {r.state}/{name}.pt" for name in ("last", "previous")]


def test_a_run_in_parts_has_the_bytes_of_one_in_one_go(stopped, capsys):
    r, whole, trained = stopped
    assert not (r.state / layout.MANIFEST).exists()
    train.train(r, until=2)  # that far it is already
    assert trained == []
    for until, epochs in ((1, [1]), (2, [2]), (None, [3])):
        if until == 1:
            files.remove(r.state)
        trained.clear()
        train.train(r, until=until)
        assert trained == epochs
    assert contents(r.state) == whole
    assert not (r.state / "previous.pt").exists()
    train.train(r, until=1)  # finished: nothing is left to do
    assert trained == [3]
    assert notes(capsys) == []


@pytest.mark.parametrize("name", [*saving.FILES, layout.MANIFEST])
def test_a_finished_run_that_is_damaged_is_trained_again(stopped, name, capsys):
    r, whole, trained = stopped
    train.train(r)
    trained.clear()
    truncated(r.state / name) if len(whole[name]) > 200 else (r.state / name).write_bytes(b"")
    assert contents(train.train(r)) == whole
    assert trained == [1, 2, 3]
    (line,) = notes(capsys)
    assert line.startswith(f"note: {r.state}/{name} is ")
    assert line.endswith("; it is made again")


def test_a_checkpoint_cannot_run_code(project):
    class Evil:
        def __reduce__(self):
            return os.mkdir, ("hacked",)

    torch.save({"model": Evil()}, "evil.pt")
    with pytest.raises(UserError, match=r"evil\.pt is not a readable checkpoint"):
        store.load_checkpoint(project / "evil.pt", "delete it")
    assert not (project / "hacked").exists()


@pytest.mark.parametrize(
    ("old", "new", "changes"),
    [
        ("strength: 0.3, p: 2", "strength: 0.4, p: 2", {"gradient_norm"}),
        ("epochs: 3", "epochs: 4", {"standard", "gradient_norm"}),
        ("hidden: [8]", "hidden: [9]", {"standard", "gradient_norm"}),
        ("grid: [0.0, 0.1, 0.4]", "grid: [0.0, 0.1]", set()),
        ("seeds: [0, 1]", "seeds: [0, 1, 2]", set()),
    ],
)
def test_the_fingerprint_follows_what_changes_the_result(run, project, old, new, changes):
    before = {loss: run(loss).fingerprint for loss in ("standard", "gradient_norm")}
    edit(project / "experiments/tiny.yaml", old, new)
    after = {loss: run(loss).fingerprint for loss in before}
    assert {loss for loss in before if before[loss] != after[loss]} == changes


def test_the_term_ratio_looks_without_touching(run):
    """Recording the ratio draws no random number of the run: without it the weights are the same."""
    with_ratio = weights(train.train(run("fgsm")))
    r = run("fgsm")
    files.remove(r.state)
    patched = pytest.MonkeyPatch()
    patched.setattr(train, "term_gradient_ratio", lambda trainer: 0.0)
    try:
        assert weights(train.train(r)) == with_ratio
    finally:
        patched.undo()


def test_a_layer_without_double_backward_is_named(run, monkeypatch):
    class Fused(torch.nn.Module):
        def forward(self, x):
            h = x.reshape(-1, 1, 8, 8)
            with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.FLASH_ATTENTION):
                return torch.nn.functional.scaled_dot_product_attention(h, h, h).flatten(1)

    monkeypatch.setattr(
        Run, "build", lambda self, dataset: torch.nn.Sequential(torch.nn.Flatten(), Fused(), torch.nn.Linear(64, 10))
    )
    with pytest.raises(UserError, match=r"tiny/gradient_norm/seed-0: layer 1 has no double backward"):
        train.train(run("gradient_norm"))
    train.train(run("fgsm"))  # a loss without double backward trains on it
