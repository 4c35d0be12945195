"""What people get wrong about a search is one line, and leaves everything as it was."""

import pytest

from pipeline import fingerprint
from pipeline.search import rung
from pipeline.search import task as task_module
from pipeline.study.run import Run
from tests.conftest import edit
from tests.pipeline.search.conftest import found, search, task
from tests.pipeline.test_cli import expect_refusal

MISTAKES = [
    (["standard"], "losses.standard has no strength to search"),
    (["gradient_nrom"], "did you mean 'gradient_norm'?"),
    (["gradient_norm", "--trials", "0"], "--trials 0: a search needs at least one trial"),
    (["gradient_norm", "--workers", "0"], "--workers 0: a search needs at least one"),
    (["gradient_norm", "--all"], "give a loss or --all"),
    ([], "give a loss or --all"),
    (["gradient_norm", "--storage", "postgresql://me:secret@127.0.0.1:9/x"], "//…@127.0.0.1:9/x"),
    (["gradient_norm", "--storage", "nonsense://x"], "nonsense://x is no storage of Optuna"),
    (["gradient_norm", "--storage", "sqlite:///nowhere/x.db"], "nowhere/x.db cannot be reached"),
    (["gradient_norm", "--seed", "-1"], "--seed -1: no seed of a sampler; fix: a whole number from 0 to 4294967295"),
    (["gradient_norm", "--seed", str(2**32)], f"--seed {2**32}: no seed"),
    (["gradient_norm", "--engine", "rya"], "--engine: no 'rya'; did you mean 'ray'?"),
    (["gradient_norm", "--engine", "ray", "--gpus-per-task", "0.25"], "--gpus-per-task 0.25: training.device"),
    (["gradient_norm", "--address", "x:1"], "--address x:1 needs --engine ray"),
    (["gradient_norm", "--storage", "params.yaml"], "params.yaml is not a readable journal"),
]


@pytest.mark.parametrize(("arguments", "message"), MISTAKES, ids=[" ".join(a) or "none" for a, _ in MISTAKES])
def test_a_mistake_is_one_line(searchable, pipeline, arguments, message):
    before = (searchable / "params.yaml").read_bytes()
    done = pipeline("search", "tiny", "--workers", "1", *arguments)
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
        ("losses:\n", "search: {attacks: {pgd: {steps: 3}}}\nlosses:\n", "judges.pgd.steps: 10 there, 3 here"),
        ("losses:\n", "search: {max_clean_drop: 0.1}\nlosses:\n", "max_clean_drop: 0.02 there, 0.1 here"),
        ("gradient_norm: {strength: 0.3, p: 2", "gradient_norm: {strength: 0.3, p: 1", "loss.p: 2 there, 1 here"),
    ],
)
def test_a_search_of_other_settings_is_refused(searchable, pipeline, old, new, message):
    search(task(trials=1))
    journal = task().storage
    edit(searchable / "experiments/tiny.yaml", old, new)
    expect_refusal(
        pipeline("search", "tiny", "gradient_norm", "--trials", "1", "--workers", "1"), message, f"delete {journal}"
    )


def test_other_code_is_another_search(searchable, pipeline, monkeypatch):
    """Of a loss, of a model, of the training: whatever the run's fingerprint sees."""
    search(task(trials=1))
    honest = Run.fingerprint.fget
    monkeypatch.setattr(Run, "fingerprint", property(lambda run: honest(run)[::-1]))
    expect_refusal(
        pipeline("search", "tiny", "gradient_norm", "--trials", "1", "--workers", "1"), "(code and data: ", " there, "
    )


def test_code_that_changes_while_a_search_runs(searchable, pipeline, monkeypatch):
    """Nothing that was trained by then is told; undone, the same command goes on."""
    honest, measure = fingerprint.hash_of_module, rung.measure

    def edited(at):
        if at.epoch == 8:
            monkeypatch.setattr(fingerprint, "hash_of_module", lambda file: honest(file)[::-1])
        return measure(at)

    monkeypatch.setattr(rung, "measure", edited)
    done = pipeline("search", "tiny", "gradient_norm", "--trials", "2", "--workers", "1")
    expect_refusal(done, "tiny/gradient_norm/robust: code or data were changed while it ran; fix: undo the change")
    assert found(task()) == []
    monkeypatch.undo()
    fingerprint.read_again()
    monkeypatch.chdir(searchable)
    assert len(search(task(trials=2)).finished) == 2


def test_other_strengths_and_other_seeds_of_the_study_are_no_other_search(searchable):
    search(task(trials=1))
    edit(searchable / "experiments/tiny.yaml", "gradient_norm: {strength: 0.3", "gradient_norm: {strength: 0.5")
    edit(searchable / "experiments/tiny.yaml", "seeds: [0, 1]", "seeds: [1]")
    assert len(search(task(trials=2)).finished) == 2


def test_options_that_change_the_trials_are_no_same_search(searchable, pipeline):
    search(task(trials=1))
    for option, message in ((["--seed", "3"], "sampler.seed: 0 there, 3 here"), (["--no-prune"], "sampler.prunes")):
        expect_refusal(pipeline("search", "tiny", "gradient_norm", "--trials", "2", "--workers", "1", *option), message)


def test_another_judge_is_another_search(searchable, monkeypatch):
    """No training imports it: trials judged by an attack before and after an edit were compared without a word."""
    before = task().settings["code and data"]
    real = task_module.code_of

    def edited(*roots):
        code, versions = real(*roots)
        return code | {name: "edited" for name in code if name == "inputgrad.attacks.apgd_t"}, versions

    monkeypatch.setattr(task_module, "code_of", edited)
    assert task().settings["code and data"] != before
