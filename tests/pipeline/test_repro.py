"""The whole way: a real `dvc repro` of a tiny study, in a temporary clone of the project."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import chdir
from pathlib import Path

import pandas as pd
import pytest

from tests.conftest import TINY, edit, only

ROOT = Path(__file__).parents[2]
LOSSES = ("standard", "detached_norm", "gradient_norm")


def call(*command, cwd, code=0):
    """Run a command of the clone; its output as one text."""
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    for name in ("DVC_ROOT", "MLFLOW_TRACKING_URI"):
        environment.pop(name, None)
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def clone(target: Path) -> Path:
    """The project as a stranger would get it, every file that git knows or would add, with the study `tiny`."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for name in listed.stdout.splitlines():
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)
    (target / "dvc.lock").unlink(missing_ok=True)
    (target / "experiments" / "tiny.yaml").write_text(TINY)
    only(target, *LOSSES)
    for command in (["init", "-q"], ["add", "-A"], ["-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "t"]):
        subprocess.run(["git", *command], cwd=target, check=True)
    return target


def ran(output):
    """The stages a `dvc repro` really ran, besides `code`, which runs always."""
    return {line.split("'")[1] for line in output.splitlines() if line.startswith("Running stage")} - {"code"}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A clone in which `dvc repro` has run once, and what it printed."""
    root = clone(tmp_path_factory.mktemp("clone"))
    output = call("dvc", "repro", cwd=root)
    return root, output


def test_a_plain_repro_runs_every_stage(study):
    root, output = study
    stages = {f"{s}@tiny-{loss}" for s in ("train", "attack") for loss in LOSSES}
    assert ran(output) == {"prepare@tiny", "report@tiny"} | stages
    assert (root / "experiments/tiny/report/report.html").stat().st_size > 10_000
    metrics = json.loads((root / "experiments/tiny/report/metrics.json").read_text())
    assert set(metrics["losses"]) == set(LOSSES)
    for values in metrics["losses"].values():
        for key in ("clean_accuracy", "robust_accuracy", "input_gradient_norm"):
            assert values[key]["low"] <= values[key]["mean"] <= values[key]["high"]
            assert values[key]["n"] == 2


def test_the_control_equals_standard_and_the_penalty_does_not(study):
    root, _ = study
    losses = json.loads((root / "experiments/tiny/report/metrics.json").read_text())["losses"]
    assert losses["detached_norm"]["clean_accuracy"] == losses["standard"]["clean_accuracy"]
    assert losses["gradient_norm"]["input_gradient_norm"] != losses["standard"]["input_gradient_norm"]
    page = (root / "experiments/tiny/report/report.md").read_text()
    assert "| `detached_norm` | no: a constant |" in page
    assert "| `gradient_norm` | yes |" in page


def test_git_sees_no_results(study):
    root, _ = study
    changed = call("git", "status", "--short", "--untracked-files=all", cwd=root)
    assert changed.split() == ["??", "dvc.lock"]


def test_a_second_repro_does_nothing(study):
    root, _ = study
    assert ran(call("dvc", "repro", cwd=root)) == set()


def test_mlflow_holds_a_parent_per_loss_and_a_child_per_seed(study):
    root, _ = study
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{root}/mlflow.db")
    experiment = client.get_experiment_by_name("tiny")
    runs = client.search_runs([experiment.experiment_id])
    children = [r for r in runs if "mlflow.parentRunId" in r.data.tags]
    assert len(children) == 2 * len(LOSSES)
    parents = {r.info.run_name: r.data.tags for r in runs if r.data.tags.get("kind") == "loss"}
    assert set(parents) == set(LOSSES)
    verdicts = {name: tags["audit"] for name, tags in parents.items()}
    assert verdicts == {"standard": "independent", "detached_norm": "detached", "gradient_norm": "depends"}


def test_dvc_shows_metrics_plots_and_parameters(study):
    root, _ = study
    assert "robust_accuracy" in call("dvc", "metrics", "show", "--json", cwd=root)
    assert "index.html" in call("dvc", "plots", "show", "-o", "plots_here", cwd=root)
    edit(root / "experiments/tiny.yaml", "strength: 0.3, p: 2", "strength: 0.7, p: 2")
    difference = call("dvc", "params", "diff", cwd=root)
    edit(root / "experiments/tiny.yaml", "strength: 0.7, p: 2", "strength: 0.3, p: 2")
    shutil.rmtree(root / "plots_here")
    assert "losses.gradient_norm.strength" in difference
    assert "0.7" in difference


def test_deleted_results_are_checked_out_again(study):
    root, _ = study
    file = root / "experiments/tiny/runs/gradient_norm/train/seed-0/history.csv"
    before = file.read_text()
    shutil.rmtree(root / "experiments/tiny/runs")
    shutil.rmtree(root / "experiments/tiny/report")
    call("dvc", "checkout", cwd=root)
    assert file.read_text() == before
    assert (root / "experiments/tiny/report/report.html").exists()


def test_editing_one_strength_reruns_exactly_that_loss(study):
    root, _ = study
    edit(root / "experiments/tiny.yaml", "strength: 0.3, p: 2", "strength: 0.6, p: 2")
    assert ran(call("dvc", "repro", cwd=root)) == {
        "train@tiny-gradient_norm",
        "attack@tiny-gradient_norm",
        "report@tiny",
    }
    edit(root / "experiments/tiny.yaml", "strength: 0.6, p: 2", "strength: 0.3, p: 2")
    assert ran(call("dvc", "repro", cwd=root)) == set()  # DVC's run cache remembers the first result
    said = call(sys.executable, "-m", "pipeline", "where", "tiny", cwd=root)
    assert said.startswith("report: file://")
    assert said.count("\n") == 1
    assert strengths_in_mlflow(root) == {"0.3": "true", "0.6": "false"}


def strengths_in_mlflow(root):
    """Strength of gradient_norm -> whether it is current in MLflow."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{root}/mlflow.db")
    where = client.get_experiment_by_name("tiny").experiment_id
    found = client.search_runs([where], "params.loss = 'gradient_norm' and tags.kind = 'loss'")
    return {run.data.params["strength"]: run.data.tags["current"] for run in found}


OWN = """\
from inputgrad import GradientNorm
from mine import helper


class Mine(GradientNorm):
    \"\"\"A loss.\"\"\"

    def term(self, at):
        return helper.FACTOR * super().term(at)
"""


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """Another clone, whose study has a loss of one's own that inherits from a public name; trained by `run`, once."""
    root = clone(tmp_path_factory.mktemp("own"))
    (root / "mine").mkdir()
    (root / "mine/__init__.py").write_text("")
    (root / "mine/loss.py").write_text(OWN)
    (root / "mine/helper.py").write_text("FACTOR = 1.0\n")
    edit(root / "experiments/tiny.yaml", "losses:\n", "losses:\n  mine: {use: 'mine.loss:Mine', strength: 0.3}\n")
    edit(root / "experiments/tiny.yaml", "epochs: 3", "epochs: 1")
    call("python", "-m", "pipeline", "run", "--write", "tiny", cwd=root)
    return root


def test_what_the_parallel_runner_made_is_skipped(own):
    """All but the report, which it does not write: DVC was told."""
    assert ran(call("dvc", "repro", cwd=own)) == {"report@tiny"}
    assert ran(call("dvc", "repro", cwd=own)) == set()


def would_run(root):
    """The stages that are not as DVC has recorded them, without those that only follow."""
    from dvc.repo import Repo

    call("python", "-m", "pipeline", "code", cwd=root)
    with chdir(root), Repo() as repo:  # what `dvc status --json` prints; to start it takes longer than to answer
        changed = repo.status()
    return {name for name, why in changed.items() if any("changed deps" in one for one in why if isinstance(one, dict))}


TRAINED = {f"train@tiny-{name}" for name in (*LOSSES, "mine")}
EDITS = {
    "a comment": ("inputgrad/losses/gradient_norm.py", "# a comment\n", set()),
    "a comment of one's own": ("mine/helper.py", "# a comment\n", set()),
    "the class that is inherited": (
        "inputgrad/losses/gradient_norm.py",
        "EDITED = 1\n",
        {"train@tiny-mine", "train@tiny-gradient_norm"},
    ),
    "a helper of one's own": ("mine/helper.py", "EDITED = 1\n", {"train@tiny-mine"}),
    "an attack": ("inputgrad/attacks/_square.py", "EDITED = 1\n", {n.replace("train", "attack") for n in TRAINED}),
    "the training": ("pipeline/stages/training_options.py", "EDITED = 1\n", TRAINED),
    "the report": ("pipeline/report/words.py", "EDITED = 1\n", {"report@tiny"}),
    "a template": ("pipeline/report/report.md.j2", "\nedited\n", {"report@tiny"}),
}


@pytest.mark.parametrize("what", EDITS)
def test_an_edit_reruns_exactly_what_uses_it(own, what):
    name, added, stages = EDITS[what]
    file = own / name
    text = file.read_text(encoding="utf-8")
    file.write_text(text + added, encoding="utf-8")
    found = would_run(own)
    file.write_text(text, encoding="utf-8")
    assert found == stages


def test_after_an_edit_of_the_inherited_class_the_own_loss_is_trained_again(own):
    edit(own / "inputgrad/losses/gradient_norm.py", "1 / (2 * s.of", "1.0 / (2 * s.of")
    target = "train@tiny-mine"
    assert ran(call("dvc", "repro", target, cwd=own)) == {target}
    edit(own / "inputgrad/losses/gradient_norm.py", "1.0 / (2 * s.of", "1 / (2 * s.of")
    assert ran(call("dvc", "repro", cwd=own)) == set()  # from DVC's cache


def test_stages_that_were_run_by_hand_are_recorded_and_skipped(own):
    """As a job array runs them: `run` then finds nothing to compute, and tells DVC."""
    edit(own / "experiments/tiny.yaml", "gradient_norm: {strength: 0.3", "gradient_norm: {strength: 0.4")
    for stage in ("train", "attack"):
        call("python", "-m", "pipeline", stage, "tiny", "gradient_norm", cwd=own)
    written = {file: file.stat().st_mtime_ns for file in own.glob(".state/*/*.p*t")}
    assert "up to date" in call("python", "-m", "pipeline", "run", "tiny", cwd=own)
    assert ran(call("dvc", "repro", cwd=own)) == {"report@tiny"}
    assert {file: file.stat().st_mtime_ns for file in own.glob(".state/*/*.p*t")} == written


def test_killed_and_run_again_the_numbers_are_those_of_a_run_that_was_not(study, tmp_path):
    """SIGKILL to the whole process group in the middle of training, then plain `dvc repro`."""
    root, _ = study
    edited = clone(tmp_path / "killed")
    for project in (root, edited):
        edit(project / "experiments/tiny.yaml", "epochs: 3", "epochs: 40")
    target = "train@tiny-gradient_norm"
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    process = subprocess.Popen(
        ["dvc", "repro", target], cwd=edited, env=environment, start_new_session=True, stdout=subprocess.DEVNULL
    )
    while not list(edited.glob(".state/*/history.csv")):
        assert process.poll() is None
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (edited / "experiments/tiny/runs").exists()
    call("dvc", "repro", target, cwd=edited)
    call("dvc", "repro", target, cwd=root)
    for seed in (0, 1):
        for name in ("history.csv", "run.json", "gradients.npz", "best.pt"):
            file = f"experiments/tiny/runs/gradient_norm/train/seed-{seed}/{name}"
            assert (edited / file).read_bytes() == (root / file).read_bytes(), name


def test_the_report_pairs_what_was_trained(study):
    root, _ = study
    curve = pd.read_csv(root / "experiments/tiny/report/robustness.csv")
    assert set(curve.loss) == set(LOSSES)
    assert set(curve.epsilon) == {0.0, 0.1, 0.4}


def test_the_loss_of_the_readme_is_added_as_it_is_written_there(tmp_path):
    """In a project with all shipped studies; one of them is made short, the commands are those of the README."""
    root = clone(tmp_path / "clone")
    shutil.copy2(ROOT / "params.yaml", root / "params.yaml")
    (root / "experiments/tiny.yaml").unlink()
    section = (root / "README.md").read_text(encoding="utf-8").split("## Add a loss")[1].split("\n## ")[0]
    blocks = {kind: text for kind, text in re.findall(r"```(\w*)\n(.*?)```", section, flags=re.DOTALL)}
    file, study = (root / re.search(rf"`({part}/\w+\.\w+)`", section)[1] for part in ("mypackage", "experiments"))
    file.parent.mkdir()
    file.write_text(blocks["python"], encoding="utf-8")
    lines = (
        study.read_text(encoding="utf-8")
        .replace("epochs: 40", "epochs: 1")
        .replace("seeds: [0, 1, 2, 3, 4]", "seeds: [0]")
    )
    stated = blocks["yaml"].removeprefix("losses:\n")
    study.write_text(re.sub(r"^losses:.*\n", rf"\g<0>{stated}", lines, flags=re.MULTILINE), encoding="utf-8")
    output = [call("bash", "-c", line, cwd=root) for line in blocks[""].splitlines()]
    assert "14 losses" in output[0]
    assert ran(output[1]) == {"prepare@digits", "train@digits-my_loss"}
    assert "depends on the input gradient" in output[2]
    facts = json.loads((root / "experiments/digits/runs/my_loss/train/seed-0/run.json").read_text())
    assert facts["loss"]["use"] == "mypackage.my_loss:MyLoss"
    assert ran(call("dvc", "repro", "train@digits-my_loss", cwd=root)) == set()
    edit(file, ".square().sum(1)", ".abs().sum(1)")
    assert ran(call("dvc", "repro", "train@digits-my_loss", cwd=root)) == {"train@digits-my_loss"}
