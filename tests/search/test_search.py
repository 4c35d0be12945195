"""The command: the same trials, the same total, nothing lost, one line for every mistake."""

import dataclasses
import json
import os
import random
import re
import signal
import time

import pandas as pd
import psutil
import pytest

from pipeline import config
from pipeline.errors import UserError
from pipeline.search import command, crew, record, slots, storage, worker
from pipeline.search.task import SearchTask
from tests.conftest import edit
from tests.search.conftest import found, start, task
from tests.test_cli import expect_refusal

FILES = {"trials.csv", "looks.csv", "search.json", "history.png", "slice.png", "front.png"}


@pytest.fixture
def unmirrored(monkeypatch):
    """MLflow takes seconds; most tests are not about it."""
    from pipeline.tracking import search

    monkeypatch.setattr(search, "mirror", lambda *_: None)


def test_the_same_seed_and_one_worker_give_the_same_trials(searchable):
    runs = [task(trials=14, url=f"{name}.log") for name in "ab"]
    for of in runs:
        worker.run_trials(of)
    assert found(runs[0]) == found(runs[1])
    other = task(trials=14, url="c.log", seed=1)
    worker.run_trials(other)
    assert found(other) != found(runs[0])


def test_a_search_that_is_continued_is_the_one_that_was_not_interrupted(searchable):
    """Beyond the random start: the sampler's memory is the trials alone."""
    for trials in (5, 11, 14):
        worker.run_trials(task(trials=trials, url="continued.log"))
    worker.run_trials(task(trials=14, url="whole.log"))
    assert found(task(trials=14, url="continued.log")) == found(task(trials=14, url="whole.log"))
    assert len({params["strength"] for _, _, params, _ in found(task(trials=14, url="whole.log"))}) == 14


def test_a_killed_trial_changes_nothing_either(searchable):
    of, whole = task(trials=12, url="killed.log"), task(trials=12, url="whole.log")
    worker.run_trials(whole)
    worker.run_trials(task(trials=10, url="killed.log"))
    study = storage.open_study(of)
    trial = slots.claim(of, study)
    trial.set_user_attr("owner", {**slots.me(), "born": 1.0})
    worker.run_trials(of)
    assert found(of) == found(whole)


def test_a_search_writes_its_files_and_says_the_line(searchable, pipeline, unmirrored):
    done = pipeline("search", "tiny", "gradient_norm", "--trials", "6", "--workers", "1")
    assert done.code == 0, done.err
    folder = searchable / "experiments/tiny/search/gradient_norm"
    assert {p.name for p in folder.iterdir()} == FILES | {"journal.log", "journal.log.lock"}
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


def test_apply_writes_the_best_into_the_study(searchable, pipeline, unmirrored):
    before = (searchable / "experiments/tiny.yaml").read_text().splitlines()
    done = pipeline("search", "tiny", "fgsm", "--trials", "3", "--workers", "1", "--apply", "--objective", "pareto")
    assert done.code == 0, done.err
    after = (searchable / "experiments/tiny.yaml").read_text().splitlines()
    changed = [new for old, new in zip(before, after, strict=True) if old != new]
    facts = json.loads((searchable / "experiments/tiny/search/fgsm/pareto/search.json").read_text())
    assert len(changed) == 1
    assert f"# search: trial {facts['best']['trial']} of 3" in changed[0]
    fgsm = config.read("tiny").losses["fgsm"]
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


def test_what_pruning_compares_is_the_robust_score_less_what_is_missing_of_the_clean_one(searchable):
    file = searchable / "experiments/tiny.yaml"
    file.write_text(file.read_text() + "search: {max_clean_drop: 0.4}\n")
    of = task(trials=8, prunes=False)
    worker.run_trials(of)
    now = record.Record.of(of, storage.open_study(of))
    missing = set()
    for trial in now.finished:
        for epoch, value in trial.intermediate_values.items():
            look = trial.user_attrs["looks"][str(epoch)]
            short = max(0.0, now.limit - look["clean"])
            assert value == pytest.approx(look["robust"] - short)
            missing.add(short > 0)
    assert missing == {True, False}


def test_a_regression_s_best_is_the_lowest_error_that_meets_the_constraint(searchable):
    of = task(trials=6, prunes=False)
    worker.run_trials(of)
    now = record.Record.of(of, storage.open_study(of))
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
    worker.run_trials(task(trials=12))
    worker.run_trials(task(trials=12, url="whole.log", prunes=False))
    pruned, whole = (
        record.Record.of(of, storage.open_study(of))
        for of in (task(trials=12), task(trials=12, url="whole.log", prunes=False))
    )
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


MISTAKES = [
    (["standard"], "losses.standard has no strength to search"),
    (["gradient_nrom"], "did you mean 'gradient_norm'?"),
    (["gradient_norm", "--trials", "0"], "--trials 0: a search needs at least one trial"),
    (["gradient_norm", "--workers", "0"], "--workers 0: a search needs at least one"),
    (["gradient_norm", "--all"], "give a loss or --all"),
    ([], "give a loss or --all"),
    (["gradient_norm", "--storage", "postgresql://me:secret@127.0.0.1:9/x"], "//…@127.0.0.1:9/x"),
    (["gradient_norm", "--storage", "nonsense://x"], "nonsense://x is no storage of Optuna"),
    (["gradient_norm", "--storage", "sqlite:///nowhere/x.db", "--workers", "1"], "nowhere/x.db cannot be reached"),
    (["gradient_norm", "--storage", "sqlite:///x.db", "--workers", "2"], "sqlite does not stand several workers"),
    (["gradient_norm", "--storage", "params.yaml"], "params.yaml is not a readable journal"),
]


@pytest.mark.parametrize(("arguments", "message"), MISTAKES, ids=[" ".join(a) or "none" for a, _ in MISTAKES])
def test_a_mistake_is_one_line(searchable, pipeline, arguments, message):
    before = (searchable / "params.yaml").read_bytes()
    done = pipeline("search", "tiny", *arguments)
    expect_refusal(done, message)
    assert "secret" not in done.err
    assert (searchable / "params.yaml").read_bytes() == before
    assert not (searchable / "experiments/tiny").exists()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("epochs: 8", "epochs: 9", "training.epochs: 8 there, 9 here"),
        ("hidden: [8]", "hidden: [9]", "model.hidden: [8] there, [9] here"),
        ("epsilon: 0.1\n", "epsilon: 0.2\n", "attack.epsilon: 0.1 there, 0.2 here"),
        ("gradient_norm: {strength: 0.3, p: 2", "gradient_norm: {strength: 0.3, p: 1", "loss.p: 2 there, 1 here"),
    ],
)
def test_a_search_of_other_settings_is_refused(searchable, pipeline, old, new, message):
    worker.run_trials(task(trials=1))
    journal = task().storage
    edit(searchable / "experiments/tiny.yaml", old, new)
    expect_refusal(pipeline("search", "tiny", "gradient_norm", "--trials", "1"), message, f"delete {journal}")


def test_other_strengths_and_other_seeds_of_the_study_are_no_other_search(searchable):
    worker.run_trials(task(trials=1))
    edit(searchable / "experiments/tiny.yaml", "gradient_norm: {strength: 0.3", "gradient_norm: {strength: 0.5")
    edit(searchable / "experiments/tiny.yaml", "seeds: [0, 1]", "seeds: [1]")
    assert worker.run_trials(task(trials=2)) == 1


def test_options_that_change_the_trials_are_no_same_search(searchable, pipeline):
    worker.run_trials(task(trials=1))
    for option, message in ((["--seed", "3"], "sampler.seed: 0 there, 3 here"), (["--no-prune"], "sampler.prunes")):
        expect_refusal(pipeline("search", "tiny", "gradient_norm", "--trials", "2", *option), message)


def test_a_slot_that_kills_every_worker_ends_the_search(searchable, monkeypatch):
    """Whatever it is that kills them: the search does not go on for ever."""
    of = task(trials=3)
    study = storage.open_study(of)
    monkeypatch.setattr(crew, "work", suicide)
    monkeypatch.setattr(crew, "start_method", lambda: crew.multiprocessing.get_context("fork"))
    monkeypatch.setattr(crew.multiprocessing, "get_context", lambda _: real("fork"))
    people = crew.Crew(of, study)
    people.start(1)
    with pytest.raises(UserError, match=r"10 workers were killed .* \(the last at: strength 0\.3;"):
        people.watch(lambda: None)
    people.end()
    assert not slots.trials_of(of, study, slots.TrialState.RUNNING)


real = crew.multiprocessing.get_context


def suicide(of, say):
    """A worker that dies in its first trial."""
    slots.claim(of, storage.open_study(of)).suggest_float("strength", 1e-3, 10.0, log=True)
    os.kill(os.getpid(), signal.SIGKILL)


def workers(process):
    """The running workers of a command: they are its children, or of its fork server."""
    try:
        children = psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []
    owners = {t.user_attrs["owner"]["pid"] for t in storage.open_study(SLOW).get_trials() if t.state.name == "RUNNING"}
    return [child for child in children if child.pid in owners]


SLOW = None


@pytest.fixture
def slow(searchable):
    """Trials of half a second, to be killed in the middle."""
    global SLOW
    edit(searchable / "experiments/tiny.yaml", "epochs: 8", "epochs: 80")
    SLOW = task(trials=12)
    return searchable


def wait_for(process, condition):
    """Until the command has come that far."""
    deadline = time.monotonic() + 60
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def check_complete(of):
    """Every slot exactly once, nothing running, every lost trial tried again with its values."""
    study = storage.open_study(of)
    done = [t for t in study.get_trials() if t.state in slots.FINISHED]
    assert sorted(slots.slot(t) for t in done) == list(range(of.trials))
    assert not slots.trials_of(of, study, slots.TrialState.RUNNING, slots.TrialState.WAITING)
    for trial in study.get_trials(states=(slots.TrialState.FAIL,)):
        again = next(t for t in done if slots.slot(t) == slots.slot(trial))
        assert not trial.params or again.params == trial.params


def test_killed_workers_lose_no_finished_trial(slow):
    process = start("gradient_norm", "--trials", "12", "--workers", "2")
    seen, generator = set(), random.Random(0)
    for _ in range(3):
        known = len(seen)
        wait_for(process, lambda known=known: workers(process) and len(found(SLOW)) > known)
        seen |= {(slot, str(params)) for slot, _, params, _ in found(SLOW)}
        running = workers(process)
        if running:
            generator.choice(running).kill()
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    check_complete(SLOW)
    assert seen <= {(slot, str(params)) for slot, _, params, _ in found(SLOW)}
    assert "12 of 12 trials" in out
    assert len(pd.read_csv(SLOW.folder / "trials.csv")) == 12


def test_everything_killed_and_run_again(slow):
    process = start("gradient_norm", "--trials", "12", "--workers", "2")
    wait_for(process, lambda: len(found(SLOW)) >= 2)
    os.kill(process.pid, signal.SIGKILL)  # its workers follow
    process.communicate()
    before = found(SLOW)
    assert 2 <= len(before) < 12
    process = start("gradient_norm", "--trials", "12", "--workers", "2")
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert f"{len(before)} trials are there already" in out
    check_complete(SLOW)
    assert [trial for trial in found(SLOW) if trial in before] == before


def test_ctrl_c_keeps_the_best_so_far_and_the_command_continues(slow):
    process = start("gradient_norm", "--trials", "12", "--workers", "2")
    wait_for(process, lambda: any(state == "COMPLETE" for _, state, _, _ in found(SLOW)))
    os.killpg(process.pid, signal.SIGINT)  # as a terminal sends it: to everybody
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.strip() == "error: stopped; the same command continues where it was"
    assert re.search(r"stopped; \d+ of 12 trials.*; (best: trial|no trial meets)", out)
    assert {"trials.csv", "search.json", "history.png"} <= {p.name for p in SLOW.folder.iterdir()}
    study = storage.open_study(SLOW)
    assert not slots.trials_of(SLOW, study, slots.TrialState.RUNNING)
    process = start("gradient_norm", "--trials", "12", "--workers", "2")
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    check_complete(SLOW)


def test_two_commands_at_once_share_the_search_or_leave_the_other_alone(slow):
    same = [start("gradient_norm", "--trials", "12", "--workers", "1") for _ in range(2)]
    other = start("fgsm", "--trials", "3", "--workers", "1")
    for process in (*same, other):
        _, err = process.communicate(timeout=180)
        assert process.returncode == 0, err
    check_complete(SLOW)
    check_complete(task("fgsm", trials=3))


def test_the_command_s_words(searchable):
    of = task(trials=2)
    worker.run_trials(of)
    said = command.conclusion(record.Record.of(of, storage.open_study(of)))
    assert re.match(r"2 of 2 trials(, \d pruned)?, \d+ of 16 epochs; best: trial \d, strength [\d.]+: robust", said)
