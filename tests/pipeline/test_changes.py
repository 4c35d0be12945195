"""What changes while a command runs, or after it: nothing is published or shown under a name that it does not have."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import chdir
from pathlib import Path

import pytest

from inputgrad.errors import UserError
from inputgrad.robustness import attacking, scores
from pipeline import data, dvc, fingerprint, layout, store, tracking
from pipeline.data import _file
from pipeline.report import page
from pipeline.stages import attack, runner, train
from pipeline.study import read
from pipeline.study.read import read_study
from pipeline.study.run import Run
from pipeline.tracking import model
from tests.conftest import PARAMS, TINY, edit, only
from tests.pipeline.test_cli import expect_refusal
from tests.pipeline.test_repro import clone

RUNS = Path("experiments/tiny/runs/standard")
STUDY = Path("experiments/tiny.yaml")
CATCH_UP = tracking.catch_up
MEANWHILE = "this changed while the command ran, so nothing is published"


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A project whose study states `standard` alone, through all stages."""
    root = tmp_path_factory.mktemp("finished")
    (root / "experiments").mkdir()
    (root / STUDY).write_text(TINY, encoding="utf-8")
    (root / "params.yaml").write_text(PARAMS, encoding="utf-8")
    only(root, "standard")
    with chdir(root), pytest.MonkeyPatch.context() as patch:
        patch.delenv("DVC_ROOT", raising=False)
        silence(patch)
        runner.prepare("tiny")
        for stage in (runner.train, runner.attack):
            stage("tiny", "standard", jobs=1)
        runner.report("tiny")
    return root


@pytest.fixture
def project(project, finished):
    """A copy of it, to be changed at will."""
    shutil.copytree(finished, project, dirs_exist_ok=True)
    return project


@pytest.fixture(autouse=True)
def silent(monkeypatch):
    """Whether MLflow is told is tested elsewhere; what a test has said of the code is forgotten after it."""
    silence(monkeypatch)
    yield
    fingerprint.read_again()


def silence(patch):
    """Tell MLflow nothing."""
    patch.setattr(tracking, "mirror", lambda *_: None)
    patch.setattr(tracking, "catch_up", lambda *_: None)


def other_study():
    """Of another learning rate."""
    edit(STUDY, "learning_rate: 0.01", "learning_rate: 0.02")


def other_attack():
    """Of another ε."""
    edit(STUDY, "grid: [0.0, 0.1, 0.4]", "grid: [0.0, 0.1, 0.3]")


def other_device():
    """Named, and the same as before: a setting that no result but the report shows."""
    edit(STUDY, "seeds: [0, 1]", "seeds: [0, 1], device: cpu")


def other_data():
    """The file of the same study and the same code that holds another number."""
    file = layout.data("tiny")
    found = _file.read(file, "")
    found["x_train"][0] = 1 - found["x_train"][0]
    _file.write(file, found)


def other_code(name):
    """A function after which the file of that name is another one."""

    def change():
        original = fingerprint.hash_of_module
        fingerprint.hash_of_module = lambda file: "edited" if file.as_posix().endswith(name) else original(file)

    return change


@pytest.fixture(autouse=True)
def code(monkeypatch):
    """Puts the code back."""
    monkeypatch.setattr(fingerprint, "hash_of_module", fingerprint.hash_of_module)


def contents(folder):
    """Every file in a folder, by its path."""
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def during(monkeypatch, module, name, change):
    """Let `change` happen once, when a function has been called for the first time; returns the calls."""
    original, calls = getattr(module, name), []

    def changing(*arguments):
        calls.append(name)
        if len(calls) == 1:
            change()
        return original(*arguments)

    monkeypatch.setattr(module, name, changing)
    return calls


TRAINING = [
    (other_study, "made with training.learning_rate 0.01, not 0.02"),
    (other_data, "made from another data/tiny.npz"),
    (other_code("pipeline/models/mlp.py"), "made by another pipeline.models.mlp"),
    (other_code("inputgrad/losses/standard.py"), "made by another inputgrad.losses.standard"),
]
STAGES = {"train": (train, "train_epoch"), "attack": (attacking, "run_step"), "report": (page, "write")}


def put_back(monkeypatch, project, finished):
    """As everything was before the change."""
    monkeypatch.undo()
    silence(monkeypatch)
    monkeypatch.chdir(project)
    for file in (STUDY, layout.data("tiny")):
        shutil.copy2(finished / file, file)
    fingerprint.read_again()


@pytest.mark.parametrize(("change", "words"), TRAINING)
@pytest.mark.parametrize("published", [False, True])
def test_a_change_while_training_publishes_nothing_and_loses_nothing(
    project, finished, pipeline, monkeypatch, change, words, published
):
    whole = contents(RUNS)
    shutil.rmtree(".state")
    if not published:
        shutil.rmtree(RUNS)
    epochs = during(monkeypatch, *STAGES["train"], change)
    expect_refusal(pipeline("train", "tiny", "standard", "--jobs", "1"), words, MEANWHILE)
    # a seed is trained to its end, and on other data none is begun
    assert len(epochs) == (3 if change is other_data else 6)
    assert (contents(RUNS) if RUNS.exists() else {}) == (whole if published else {})
    put_back(monkeypatch, project, finished)
    left = during(monkeypatch, *STAGES["train"], lambda: None)
    assert pipeline("train", "tiny", "standard", "--jobs", "1").code == 0
    assert len(epochs) + len(left) == 6  # no epoch twice
    for seed in (0, 1):
        assert contents(RUNS / f"train/seed-{seed}") == contents(finished / RUNS / f"train/seed-{seed}")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (other_attack, "standard/seed-0 is made with attack.grid [0.0, 0.1, 0.4], not [0.0, 0.1, 0.3]"),
        (other_study, "train/seed-0 is made with training.learning_rate 0.01, not 0.02; fix: dvc repro -f train@tiny"),
        (other_data, "train/seed-0 is made from another data/tiny.npz; fix: dvc repro -f train@tiny"),
        (other_code("inputgrad/attacks/fgsm.py"), "standard/seed-0 is made by another inputgrad.attacks.fgsm"),
    ],
)
@pytest.mark.parametrize("published", [False, True])
def test_a_change_while_attacking_publishes_nothing_and_loses_nothing(
    project, finished, pipeline, monkeypatch, change, words, published
):
    whole = contents(RUNS)
    shutil.rmtree(".state")
    if not published:
        shutil.rmtree(RUNS / "attack")
    steps = during(monkeypatch, *STAGES["attack"], change)
    expect_refusal(pipeline("attack", "tiny", "standard", "--jobs", "1"), words)
    assert steps
    assert contents(RUNS) == {k: v for k, v in whole.items() if published or not k.startswith("attack")}
    put_back(monkeypatch, project, finished)
    left = during(monkeypatch, *STAGES["attack"], lambda: None)
    assert pipeline("attack", "tiny", "standard", "--jobs", "1").code == 0
    assert len(steps) + len(left) == 2 * len(attacking.plan(read_study("tiny").attack))  # no step twice
    assert contents(RUNS) == whole


def another_result():
    """What an attack that was made again meanwhile publishes: the same, sealed at another time."""
    file = RUNS / "attack/seed-1/manifest.json"
    file.write_bytes(file.read_bytes()[:-2] + b"\n}\n")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (other_attack, "attack/seed-0 is made with attack.grid [0.0, 0.1, 0.4], not [0.0, 0.1, 0.3]"),
        (other_device, f"the report of tiny is made with training.device auto, not cpu: {MEANWHILE}"),
        (other_study, "train/seed-0 is made with training.learning_rate 0.01, not 0.02; fix: dvc repro -f train@tiny"),
        (other_data, "train/seed-0 is made from another data/tiny.npz; fix: dvc repro -f train@tiny"),
        (other_code("report/words.py"), f"the report of tiny is made by another pipeline.report.words: {MEANWHILE}"),
        (lambda: (RUNS / "attack/seed-1/outcomes.parquet").unlink(), "attack/seed-1/outcomes.parquet is missing"),
    ],
)
@pytest.mark.parametrize("published", [False, True])
def test_a_change_while_reporting_publishes_nothing(project, pipeline, monkeypatch, change, words, published):
    target = Path("experiments/tiny/report")
    whole = contents(target)
    if not published:
        shutil.rmtree(target)
    during(monkeypatch, *STAGES["report"], change)
    expect_refusal(pipeline("report", "tiny"), words)
    assert (contents(target) if target.exists() else {}) == (whole if published else {})
    assert {path.name for path in target.parent.iterdir()} <= {"runs", "report"}


def test_a_result_that_is_replaced_while_it_is_read_is_noticed(project, pipeline, monkeypatch):
    from pipeline.results import read as numbers

    manifest = RUNS / "measured/manifest.json"

    def measured_again():
        """As the train stage does when nothing else has changed: the time of a step is another one."""
        from pipeline import store
        from tests.conftest import reseal

        file = manifest.with_name("step_time.json")
        numbers = store.read_json(file, "")
        file.write_text(str({**numbers, "ratio": 9.0}).replace("'", '"'), encoding="utf-8")
        reseal(manifest.parent)

    during(monkeypatch, numbers, "cost", measured_again)
    expect_refusal(pipeline("report", "tiny"), f"the report of tiny is made from another {manifest}", MEANWHILE)


def counted(monkeypatch, module, name):
    """How often a function was called with each first argument."""
    original, calls = getattr(module, name), Counter()

    def counting(first, *rest):
        calls[str(first)] += 1
        return original(first, *rest)

    monkeypatch.setattr(module, name, counting)
    return calls


def test_a_report_checks_every_folder_once_and_computes_harm_once(project, pipeline, monkeypatch):
    """With all that follows in MLflow; the study is read at the door, and once more in front of publishing."""
    for name in ("mirror", "score"):
        monkeypatch.setattr(model, name, lambda *_: "models:/m-none")
    shutil.rmtree("experiments/tiny/report")
    tracking.track(["tiny"])
    monkeypatch.setattr(tracking, "catch_up", CATCH_UP)
    checked, manifests = (counted(monkeypatch, store, name) for name in ("opened", "manifest_of"))
    studies, harms = counted(monkeypatch, read, "read_yaml"), counted(monkeypatch, scores, "harm")
    assert pipeline("report", "tiny").code == 0
    folders = [RUNS / stage / f"seed-{seed}" for stage in ("train", "attack") for seed in (0, 1)]
    folders += [RUNS / "measured", Path("experiments/tiny/report")]
    assert checked == manifests == dict.fromkeys(map(str, folders), 1)
    assert studies == {str(STUDY): 2}
    assert sum(harms.values()) == 2


def test_data_that_are_replaced_before_they_are_read_are_not_trained_on(project, finished, pipeline, monkeypatch):
    """Else the state of the old data would hold a net of the new ones."""
    shutil.rmtree(".state")
    during(monkeypatch, data, "read_data", other_data)
    epochs = during(monkeypatch, *STAGES["train"], lambda: None)
    expect_refusal(pipeline("train", "tiny", "standard", "--jobs", "1"), "made from another data/tiny.npz", MEANWHILE)
    assert epochs == []
    put_back(monkeypatch, project, finished)
    during(monkeypatch, data, "read_data", other_data)
    steps = during(monkeypatch, *STAGES["attack"], lambda: None)
    expect_refusal(pipeline("attack", "tiny", "standard", "--jobs", "1"), "made from another data/tiny.npz")
    assert steps == []


def test_a_worker_with_other_code_than_its_command_does_no_work(project, monkeypatch):
    """It may start later, here or on another machine: its results must not carry the name of the command's code."""
    shutil.rmtree(".state")
    run = Run(read_study("tiny"), "standard", 0)
    _ = run.attack_origin  # asked for by the command; what follows runs in the worker
    work = {"pipeline/models/mlp.py": lambda: train.train(run), "inputgrad/attacks/fgsm.py": lambda: attacked(run)}
    for name, begin in work.items():
        with monkeypatch.context() as patched:
            patched.setattr(fingerprint, "hash_of_module", fingerprint.hash_of_module)
            done = [during(patched, *STAGES[stage], lambda: None) for stage in ("train", "attack")]
            other_code(name)()
            fingerprint.read_again()
            module = name.removesuffix(".py").replace("/", ".")
            with pytest.raises(UserError, match=f"tiny/standard/seed-0 is made by another {module}: {MEANWHILE}"):
                begin()
            assert done == [[], []]
        fingerprint.read_again()
        begin()


def attacked(run):
    """The attack on a run."""
    return attack.evaluate(attack.Evaluation(run))


def test_a_file_that_is_edited_while_the_command_runs(tmp_path):
    """Nothing is put in the place of anything: a copy of the project, its own process and its workers."""
    root = clone(tmp_path / "clone")
    only(root, "standard")
    edit(root / STUDY, "epochs: 3", "epochs: 40")
    environment = {k: v for k, v in os.environ.items() if k not in ("DVC_ROOT", "MLFLOW_TRACKING_URI")}
    start = {"cwd": root, "env": environment | {"PYTHONPATH": str(root)}, "text": True, "stderr": subprocess.PIPE}
    command = [sys.executable, "-m", "pipeline"]
    subprocess.run([*command, "prepare", "tiny"], check=True, **start)
    process = subprocess.Popen([*command, "train", "tiny", "standard", "--jobs", "2"], **start)
    while len(list(root.glob(".state/*/history.csv"))) < 2:
        assert process.poll() is None
        time.sleep(0.02)
    model = root / "pipeline/models/mlp.py"
    process.send_signal(signal.SIGSTOP)
    edit(model, "width = out\n", "width = out + 0\n")
    process.send_signal(signal.SIGCONT)
    error = process.communicate(timeout=300)[1]
    assert process.returncode == 2
    assert re.fullmatch(
        rf"error: tiny/standard/seed-0 is made by another pipeline\.models\.mlp: {MEANWHILE};.*\n", error
    )
    assert not (root / RUNS).exists()
    written = {f: f.stat().st_mtime_ns for f in root.glob(".state/*/last.pt")}
    assert len(written) == 2
    edit(model, "width = out + 0\n", "width = out  # the same as before\n")
    subprocess.run([*command, "train", "tiny", "standard"], check=True, **start)
    assert {f: f.stat().st_mtime_ns for f in root.glob(".state/*/last.pt")} == written
    assert (root / RUNS / "train/seed-1/best.pt").exists()


AFTER = [
    (other_study, "train/seed-0 is made with training.learning_rate 0.01, not 0.02; fix: dvc repro -f train@tiny"),
    (other_data, "train/seed-0 is made from another data/tiny.npz; fix: dvc repro -f train@tiny-standard"),
    (
        other_code("pipeline/models/mlp.py"),
        "train/seed-0 is made by another pipeline.models.mlp; fix: dvc repro -f tra",
    ),
    (
        other_attack,
        "attack/seed-0 is made with attack.grid [0.0, 0.1, 0.4], not [0.0, 0.1, 0.3]; fix: dvc repro -f att",
    ),
]


@pytest.mark.parametrize(("change", "words"), AFTER)
@pytest.mark.parametrize("command", [("report", "tiny"), ("track",)])
def test_a_result_that_is_older_than_its_study_is_refused(project, pipeline, change, words, command):
    change()
    fingerprint.read_again()
    report = contents(Path("experiments/tiny/report"))
    expect_refusal(pipeline(*command), f"error: {RUNS}/{words}")
    assert contents(Path("experiments/tiny/report")) == report


@pytest.mark.parametrize(("change", "words"), AFTER)
def test_where_says_that_a_report_is_older_than_its_study(project, pipeline, change, words):
    file = "experiments/tiny/report/report.html"
    assert pipeline("where").out == f"report: {(project / file).as_uri()}\n"
    change()
    fingerprint.read_again()
    done = pipeline("where")
    assert done.out.startswith(f"report: {file} is not that of the study as it stands: {RUNS}/{words}")
    assert (done.code, done.err, done.out.count("\n")) == (0, "", 1)


def test_where_says_that_a_report_is_older_than_its_results_or_missing(project, pipeline):
    other_device()
    words = "experiments/tiny/report is made with training.device auto, not cpu; fix: dvc repro report@tiny"
    assert f"as it stands: {words}" in pipeline("where").out
    (Path("experiments/tiny/report/report.html")).unlink()
    assert pipeline("where").out == "report: experiments/tiny/report/report.html is not written yet; run: dvc repro\n"


def test_data_that_dvc_writes_anew_with_the_same_bytes_have_not_changed(project):
    """`dvc commit` does so; other bytes are noticed."""
    runner.prepare("tiny")
    record, file = dvc.Record(["tiny"]), layout.data("tiny")
    record.prepared()
    contents = file.read_bytes()
    file.unlink()
    file.write_bytes(contents)
    os.utime(file, (1e9, 1e9))
    assert record.unchanged()
    file.write_bytes(contents + b"1")
    assert not record.unchanged()
