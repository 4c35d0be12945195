"""The command: the same trials, its files, its words, the best back into the study."""

import dataclasses
import json
import re

import pandas as pd
import pytest

from pipeline.search import command, objective, record
from pipeline.search.task import SearchTask
from pipeline.study.read import read_study
from tests.conftest import edit
from tests.pipeline.search.conftest import found, search, task
from tests.pipeline.test_cli import expect_refusal

FILES = {"trials.csv", "looks.csv", "search.json", "history.png", "slice.png", "front.png"}


@pytest.fixture
def unmirrored(monkeypatch):
    """MLflow takes seconds; most tests are not about it."""
    from pipeline.tracking import search

    monkeypatch.setattr(search, "mirror", lambda *_: None)


def test_the_same_seed_and_one_worker_give_the_same_trials(searchable):
    runs = [task(trials=14, url=f"{name}.log") for name in "ab"]
    for of in runs:
        search(of)
    assert found(runs[0]) == found(runs[1])
    other = task(trials=14, url="c.log", seed=1)
    search(other)
    assert found(other) != found(runs[0])


def test_a_search_that_is_continued_is_the_one_that_was_not_interrupted(searchable):
    """Beyond the random start: the sampler's memory is the trials alone."""
    for trials in (5, 11, 14):
        search(task(trials=trials, url="continued.log"))
    search(task(trials=14, url="whole.log"))
    assert found(task(trials=14, url="continued.log")) == found(task(trials=14, url="whole.log"))
    assert len({params["strength"] for _, _, params, _ in found(task(trials=14, url="whole.log"))}) == 14


def test_a_search_writes_its_files_and_says_the_line(searchable, pipeline, unmirrored):
    done = pipeline("search", "tiny", "gradient_norm", "--trials", "6", "--workers", "1")
    assert done.code == 0, done.err
    folder = searchable / "experiments/tiny/search/gradient_norm"
    assert {p.name for p in folder.iterdir()} == FILES | {"journal.log"}
    facts = json.loads((folder / "search.json").read_text())
    assert facts["trials"]["finished"] == 6
    assert facts["epochs"]["budget"] == 48
    trials = pd.read_csv(folder / "trials.csv")
    assert list(trials["slot"]) == list(range(6))
    assert facts["epochs"]["used"] == trials["epochs"].sum()
    met = trials[trials["meets_constraint"] == True]  # noqa: E712  it has empty cells, too
    best = trials[trials["trial"] == facts["best"]["trial"]].iloc[0]
    assert best["robust"] == met["robust"].max()
    assert (met["clean"] >= facts["limit"] - 1e-9).all()
    assert done.out.startswith("search tiny/gradient_norm/robust: strength 0.001 to 10, log\n")
    assert "clean validation accuracy at most 0.02 below standard's" in done.out
    assert "6 trials of 8 epochs = 48 epochs, the same for every loss; trials train with seed 2" in done.out
    value = facts["best"]["knobs"]["strength"]
    assert f"gradient_norm: {{strength: {value}, p: 2}}  # search: trial {best['trial']} of 6" in done.out
    assert "strength: 0.3, p: 2}\n" in (searchable / "experiments/tiny.yaml").read_text()


def test_a_fresh_clone_has_no_data_yet(project, pipeline, unmirrored):
    assert not (project / "data/tiny.npz").exists()
    done = pipeline("search", "tiny", "gradient_norm", "--trials", "1", "--workers", "1")
    assert done.code == 0, done.err
    assert (project / "data/tiny.npz").exists()


def test_apply_writes_the_best_into_the_study(searchable, pipeline, unmirrored):
    before = (searchable / "experiments/tiny.yaml").read_text().splitlines()
    done = pipeline("search", "tiny", "fgsm", "--trials", "3", "--workers", "1", "--apply", "--objective", "pareto")
    assert done.code == 0, done.err
    after = (searchable / "experiments/tiny.yaml").read_text().splitlines()
    changed = [new for old, new in zip(before, after, strict=True) if old != new]
    facts = json.loads((searchable / "experiments/tiny/search/fgsm/pareto/search.json").read_text())
    assert len(changed) == 1
    assert f"# search: trial {facts['best']['trial']} of 3" in changed[0]
    fgsm = read_study("tiny").losses["fgsm"]
    assert {"strength": fgsm.strength, "epsilon": fgsm.epsilon} == facts["best"]["knobs"]
    assert fgsm.random_start
    scores = [(trial["clean"], trial["robust"]) for trial in facts["front"]]
    assert scores == sorted(scores, key=lambda s: (-s[0], s[1]))
    # the search itself goes on as before: what it is searched with has not changed
    assert pipeline("search", "tiny", "fgsm", "--trials", "4", "--workers", "1", "--objective", "pareto").code == 0


def test_all_losses_get_the_same_budget(searchable, pipeline, unmirrored):
    file = searchable / "experiments/tiny.yaml"
    file.write_text(file.read_text() + "search: {trials: 2, epochs: 2, max_clean_drop: 1.0}\n")
    done = pipeline("search", "tiny", "--all", "--workers", "1")
    assert done.code == 0, done.err
    facts = [json.loads(file.read_text()) for file in searchable.glob("experiments/tiny/search/*/search.json")]
    assert {f["loss"] for f in facts} == {"detached_norm", "gradient_norm", "gradient_direction", "fgsm"}
    assert {f["epochs"]["budget"] for f in facts} == {4}
    control = next(f for f in facts if f["loss"] == "detached_norm")
    assert {(t["clean"], t["robust"]) for t in control["front"]} == {tuple(control["standard"].values())}


def test_pruning_compares_robust_scores_at_the_rungs(searchable):
    of = task(trials=4, prunes=False)
    for trial in search(of).finished:
        looks = trial.user_attrs["looks"]
        *rungs, end = objective.rungs(of.run.epochs)
        assert trial.intermediate_values == {epoch: looks[str(epoch)]["robust"] for epoch in rungs} != {}
        assert trial.values == [looks[str(end)]["robust"]]


def test_the_sampler_is_told_how_far_a_trial_is_beyond_the_clean_limit(untrained):
    now = search(task(prunes=False))
    told = [trial.constraints["clean"] for trial in now.finished]
    assert told == pytest.approx([now.limit - record.facts(trial)["clean"] for trial in now.finished])
    assert min(told) < 0 < max(told)


def test_a_regression_s_best_is_the_lowest_error_that_meets_the_constraint(searchable):
    of = task(trials=6, prunes=False)
    now = search(of)
    regression = dataclasses.replace(now, task=Lower(**{f.name: getattr(of, f.name) for f in dataclasses.fields(of)}))
    met = [t for t in now.finished if record.facts(t)["clean"] <= now.standard["clean"] + 0.02]
    assert (
        regression.best.number == min(met, key=lambda t: (record.facts(t)["robust"], record.facts(t)["clean"])).number
    )
    front = [tuple(record.facts(t)[key] for key in ("clean", "robust")) for t in regression.front]
    assert front == sorted(front, key=lambda s: (s[0], -s[1]))
    assert front[0][0] == min(record.facts(t)["clean"] for t in now.finished)


class Lower(SearchTask):
    """The same scores read as errors."""

    higher_is_better = False


def test_pruning_ends_trials_early_and_counts_them(searchable):
    pruned, whole = (search(of) for of in (task(trials=12), task(trials=12, url="whole.log", prunes=False)))
    assert len(pruned.finished) == len(whole.finished) == 12
    assert pruned.pruned > 3
    assert pruned.epochs_used < whole.epochs_used == 12 * 8


def test_an_impossible_constraint_says_how_many_met_it(searchable, pipeline, unmirrored):
    file = searchable / "experiments/tiny.yaml"
    narrow = "ranges: {gradient_norm: {strength: [9, 10]}}"
    file.write_text(file.read_text() + f"search: {{max_clean_drop: 0.0, {narrow}}}\n")
    before = file.read_text()
    done = pipeline("search", "tiny", "gradient_norm", "--trials", "2", "--workers", "1", "--no-prune", "--apply")
    expect_refusal(done, "0 of 2 complete trials meet the constraint", "raise search.max_clean_drop in", "to 0.")
    assert file.read_text() == before
    allowed = re.search(r"to (0\.\d+) or more", done.err).group(1)
    edit(file, "max_clean_drop: 0.0", f"max_clean_drop: {allowed}")
    done = pipeline(
        "search", "tiny", "gradient_norm", "--trials", "2", "--workers", "1", "--no-prune", "--storage", "j"
    )
    assert done.code == 0, done.err


def test_the_command_s_words(searchable):
    of = task(trials=2)
    said = command.conclusion(search(of))
    assert re.match(r"2 of 2 trials(, \d pruned)?, \d+ of 16 epochs; best: trial \d, strength [\d.]+: robust", said)
