"""A rung is the whole task: whatever was trained before it, killed or not, its scores are the same."""

import pytest
import torch

from inputgrad import files
from pipeline import store
from pipeline.search import objective, rung
from pipeline.stages import train
from tests.conftest import edit
from tests.pipeline.search.conftest import search, task


@pytest.fixture
def wandering(searchable):
    """A training of which the best epoch is not the last one."""
    edit(searchable / "experiments/tiny.yaml", "epochs: 8", "epochs: 60")
    edit(searchable / "experiments/tiny.yaml", "learning_rate: 0.01", "learning_rate: 0.1")
    return searchable


def at(project, epoch, place="place"):
    run = task().run
    return rung.Rung(rung.TrialRun(run.study, run.loss_name, run.seed, project / place), epoch)


def seen(task):
    """Without the seconds."""
    found = rung.measure(task)
    return found.scores, found.epochs, found.reason


def test_the_scores_are_those_of_the_weights_that_the_study_keeps(wandering):
    run = task().run
    dataset = objective.read_splits(run.study)
    scores, epochs, _ = seen(at(wandering, 60))
    best = store.load_checkpoint(train.train(run) / "best.pt", "")
    model = run.build(dataset)
    model.load_state_dict(best["model"])
    assert scores == objective.scores(model, run, dataset)
    history = store.load_checkpoint(run.state / "last.pt", "")["history"]
    assert scores.clean == max(row["validation_accuracy"] for row in history)
    assert scores.robust < scores.clean
    assert epochs == 60
    assert best["epoch"] < 60  # else any epoch would do


def test_rung_by_rung_or_at_once(searchable):
    one_by_one = [seen(at(searchable, epoch)) for epoch in (2, 4, 8)]
    assert one_by_one == [seen(at(searchable, epoch, f"afresh-{epoch}")) for epoch in (2, 4, 8)]
    assert len({str(scores) for scores, _, _ in one_by_one}) == 3


class Kill(BaseException):
    """SIGKILL, for a test that wants it at an exact place."""


def test_killed_in_any_epoch_and_asked_again(searchable, monkeypatch):
    expected = seen(at(searchable, 8, "whole"))
    honest = train.train_epoch
    for moment in range(8):

        def killed(trainer, moment=moment):
            if trainer.epoch == moment:
                raise Kill
            return honest(trainer)

        with monkeypatch.context() as patch:
            patch.setattr(train, "train_epoch", killed)
            with pytest.raises(Kill):
                rung.measure(at(searchable, 8, f"killed-{moment}"))
        assert rung.epochs_of(at(searchable, 8, f"killed-{moment}").run) == moment
        assert seen(at(searchable, 8, f"killed-{moment}")) == expected


def test_a_state_that_went_beyond_the_rung_is_not_looked_at(searchable):
    """Its best epoch so far may lie behind the rung."""
    expected = seen(at(searchable, 2, "afresh"))
    beyond = seen(at(searchable, 7))
    assert seen(at(searchable, 2)) == expected
    assert beyond[0] != expected[0]


def test_until_an_epoch_and_then_to_the_end_is_one_training(searchable):
    run = task().run
    whole = {file.name: file.read_bytes() for file in train.train(run).iterdir()}
    files.remove(run.state)
    for epoch in (1, 4, 4, 2):
        train.train(run, until=epoch)
        assert store.load_checkpoint(run.state / "last.pt", "")["epoch"] == max(epoch, 4 if epoch == 2 else 0)
        assert not (run.state / "run.json").exists()
    train.train(run, until=99)
    assert {file.name for file in run.state.iterdir()} == set(whole)
    ours, theirs = (torch.load(path, weights_only=True) for path in (run.state / "best.pt", run.state / "last.pt"))
    assert ours["epoch"] <= theirs["epoch"] == 8
    assert (run.state / "best.pt").read_bytes() == whole["best.pt"]
    assert (run.state / "run.json").read_bytes() == whole["run.json"]


def test_looking_changes_nothing(searchable, monkeypatch):
    """The trials of a search are the trainings of the study: the same scores without any rung between."""
    often = search(task(trials=2, url="often.log", prunes=False)).finished
    monkeypatch.setattr(objective, "rungs", lambda epochs: [epochs])
    once = search(task(trials=2, url="once.log", prunes=False)).finished
    assert [t.values for t in often] == [t.values for t in once]
    assert [list(t.user_attrs["looks"]) for t in once] == [["8"], ["8"]]


def test_equal_trials_do_not_share_a_state(searchable):
    one, other = at(searchable, 2, "slot-0").run, at(searchable, 2, "slot-1").run
    assert one.fingerprint == other.fingerprint
    assert one.state != other.state != task().run.state
