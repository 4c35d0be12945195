"""A stage with nothing to compute publishes what is finished, without torch; after any change it looks properly."""

import json
import shutil
import subprocess
import sys
from contextlib import chdir
from pathlib import Path

import pytest

from pipeline import receipts
from pipeline.stages import commands
from tests.conftest import PARAMS, TINY, edit, only

ROOT = Path(__file__).parents[2]
STAGES = (("train", "standard"), ("attack", "standard"), ("report", ""))
RUNS = Path("experiments/tiny/runs/standard")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    root = tmp_path_factory.mktemp("receipts")
    (root / "experiments").mkdir()
    (root / "experiments/tiny.yaml").write_text(TINY, encoding="utf-8")
    (root / "params.yaml").write_text(PARAMS, encoding="utf-8")
    only(root, "standard")
    with chdir(root), pytest.MonkeyPatch.context() as patch:
        patch.delenv("DVC_ROOT", raising=False)
        patch.setattr("pipeline.tracking.mirror", lambda *_: None)
        patch.setattr("pipeline.tracking.catch_up", lambda *_: None)
        commands.prepare("tiny")
        commands.train("tiny", "standard", jobs=1)
        commands.attack("tiny", "standard", jobs=1)
        commands.report("tiny")
    return root


@pytest.fixture
def project(project, finished):
    shutil.copytree(finished, project, dirs_exist_ok=True)
    return project


def files_of(folder):
    return {file.relative_to(folder): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def published():
    return {stage: receipts.published(stage, "tiny", loss) is not None for stage, loss in STAGES}


def test_what_is_finished_is_published_without_torch(project):
    before = files_of(RUNS)
    shutil.rmtree(RUNS / "attack")
    shutil.rmtree(RUNS / "train")
    shutil.rmtree(RUNS / "measured")
    script = (
        "import sys; from pipeline.cli import stage, cli; from pipeline import receipts;"
        "stage('train', 'tiny', 'standard', None); stage('attack', 'tiny', 'standard', None);"
        "assert receipts.published('report', 'tiny', '') and receipts.up_to_date('tiny');"
        "assert not {'torch', 'mlflow', 'pandas', 'numpy'} & {*sys.modules}"
    )
    subprocess.run([sys.executable, "-c", script], check=True, env={"PYTHONPATH": str(ROOT)}, cwd=project)
    assert files_of(RUNS) == before


def edit_study():
    edit(Path("experiments/tiny.yaml"), "epsilon: 0.1\n", "epsilon: 0.2\n")


def edit_params():
    edit(Path("params.yaml"), "studies: [tiny]", "studies: [tiny, other]")


def damage_data():
    with Path("data/tiny.npz").open("ab") as file:
        file.write(b" ")


def hide_gpu(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")


def upgrade(monkeypatch):
    monkeypatch.setattr(receipts, "installed", lambda name: "99.9")


def damage_receipts():
    for file in Path(".state/receipts").iterdir():
        file.write_text(file.read_text(encoding="utf-8").replace("standard", "standarf"), encoding="utf-8")


def swap_receipts():
    """Another stage's, in the place of each."""
    texts = {file: file.read_text(encoding="utf-8") for file in sorted(Path(".state/receipts").iterdir())}
    for file, text in zip(texts, reversed(texts.values()), strict=True):
        file.write_text(text if text != texts[file] else "{", encoding="utf-8")


@pytest.mark.parametrize(
    "change", [edit_study, edit_params, damage_data, hide_gpu, upgrade, damage_receipts, swap_receipts]
)
def test_anything_that_changed_is_looked_at_properly(project, monkeypatch, change):
    assert all(published().values())
    change(*([monkeypatch] if change.__code__.co_argcount else []))
    assert not any(published().values())


def test_an_edited_file_of_code_counts(project, monkeypatch):
    """Every file that the receipt names, and the training loop, the attacks and the losses are among them."""
    for stage, loss in STAGES[:2]:
        file = receipts.file_of(stage, "tiny", loss)
        named = {Path(name).name for name in json.loads(file.read_text(encoding="utf-8"))["files"]}
        assert named >= {f"{stage}.py", "forward.py", "mlp.py", "digits.py", "read.py", "tiny.npz"}
    monkeypatch.syspath_prepend(project)
    own = project / "own_part.py"
    own.write_text("A = 1\n", encoding="utf-8")
    seen = receipts.seen(commands.read_study("tiny"), ["own_part"], [])
    assert receipts.holds({"stage": ["", "tiny", ""], **seen})
    own.write_text("A = 22\n", encoding="utf-8")
    assert not receipts.holds({"stage": ["", "tiny", ""], **seen})


def test_a_search_makes_the_report_look_properly(project):
    folder = Path("experiments/tiny/search/fgsm")
    folder.mkdir(parents=True)
    (folder / "search.json").write_text("{}", encoding="utf-8")
    assert receipts.published("report", "tiny", "") is None


def test_damaged_results_are_not_published(project):
    """What is published is replaced from its state; where that is damaged too, the stage has to work."""
    file = RUNS / "train/seed-0/best.pt"
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert receipts.published("train", "tiny", "standard")
    assert file.read_bytes() == whole
    for damaged in (file, *Path(".state").glob("*/best.pt")):
        damaged.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert receipts.published("train", "tiny", "standard") is None
