"""What a result is made from is found by following imports: nothing that can change a number is left out."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from inputgrad.errors import UserError
from pipeline import fingerprint
from pipeline.fingerprint import HARMLESS, closure, code_of
from pipeline.stages import runner
from pipeline.study.active import active
from pipeline.study.code import modules, parts
from pipeline.study.read import read_study
from pipeline.study.run import Run
from pipeline.study.validation import read_yaml

ROOT = Path(__file__).parents[2]

EDIT_EACH = """
import json, sys
from pathlib import Path
from pipeline import fingerprint
roots, found = json.loads(sys.argv[1]), {}
before = fingerprint.code_of(*roots)
for name, file in fingerprint.closure(roots).ours.items():
    text = file.read_text(encoding="utf-8")
    file.write_text(text + "\\n# a comment\\n", encoding="utf-8")
    fingerprint.read_again()
    silent = fingerprint.code_of(*roots) == before
    file.write_text(text + "\\nedited = 1\\n", encoding="utf-8")
    fingerprint.read_again()
    found[name] = [silent, fingerprint.code_of(*roots) != before]
    file.write_text(text, encoding="utf-8")
print(json.dumps(found))
"""


def roots(loss: str, study: str = "digits") -> dict[str, tuple[str, ...]]:
    """The modules with which every kind of result begins."""
    parts = read_study(study).parts
    return {stage: modules(stage, parts, loss) for stage in ("train", "attack", "measured", "report")}


@pytest.fixture
def here(monkeypatch):
    """The project itself as the current folder; nothing is written."""
    monkeypatch.chdir(ROOT)


@pytest.mark.parametrize("kind", ["train", "attack", "measured", "report"])
def test_every_imported_file_counts_or_is_harmless_for_a_reason(here, tmp_path, kind):
    for package in ("inputgrad", "pipeline"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    command = [sys.executable, "-c", EDIT_EACH, json.dumps(roots("pgd")[kind])]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert len(found) > 15
    assert all(silent for silent, _ in found.values())
    assert {name for name, (_, noticed) in found.items() if not noticed} <= set(HARMLESS)
    assert not any(noticed for name, (_, noticed) in found.items() if name in HARMLESS)


def test_every_harmless_module_is_imported_and_has_a_reason(here):
    imported = {name for begins in roots("pgd").values() for name in closure(begins).ours}
    assert set(HARMLESS) <= imported
    assert all(HARMLESS.values())


def test_what_changes_a_training_is_among_the_modules(here):
    found = closure(roots("trades")["train"]).ours
    for name in (
        "pipeline.stages.train",
        "pipeline.study.run",
        "pipeline.data",
        "pipeline.models",
        "pipeline.models.cnn",
        "inputgrad.losses.trades",
        "inputgrad.losses",
        "inputgrad.gradients.forward",
    ):
        assert name in found
    assert "inputgrad.losses.pgd" not in found


def test_the_yaml_of_a_study_names_the_same_code_as_the_study(here):
    """DVC is told by the one, a result by the other; without attacks, DVC is told of all of ours."""
    for name in active():
        study, stated = read_study(name), read_yaml(Path(f"experiments/{name}.yaml"))
        assert parts(stated) == study.parts
        del stated["attack"]["attacks"]
        assert set(parts(stated).attacks) >= set(study.parts.attacks)


def package(folder: Path) -> None:
    """A package of the user's own: a net that takes its activation from a helper, in several ways of importing."""
    (folder / "mine").mkdir()
    (folder / "mine" / "__init__.py").write_text("")
    (folder / "mine" / "nets.py").write_text(
        '"""A net."""\nfrom typing import TYPE_CHECKING\n\nfrom . import _blocks\n\nif TYPE_CHECKING:\n'
        "    from mine import words\n\n\ndef build():\n    from mine.late import size\n    import outside\n"
        "    return _blocks.activation(size, outside)\n"
    )
    (folder / "mine" / "_blocks.py").write_text('"""Blocks."""\n\n\ndef activation(*given):\n    return "silu"\n')
    (folder / "mine" / "late.py").write_text("size = 3\n")
    (folder / "mine" / "words.py").write_text("text = 1\n")
    (folder / "outside.py").write_text("value = 2\n")


def test_a_helper_of_an_own_package_counts(tmp_path, monkeypatch):
    package(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    fingerprint.read_again()
    assert set(closure(["mine.nets"]).ours) == {"mine", "mine.nets", "mine._blocks", "mine.late", "outside"}
    before, _ = code_of("mine.nets")
    (tmp_path / "mine" / "_blocks.py").write_text('"""Blocks."""\n\n\ndef activation(*given):\n    return "relu"\n')
    fingerprint.read_again()
    after, _ = code_of("mine.nets")
    assert [name for name in before if before[name] != after[name]] == ["mine._blocks"]


def test_libraries_count_by_their_version(here):
    code, versions = code_of(*roots("pgd")["attack"])
    assert versions["torch"].startswith("2.")
    assert {"torch", "numpy", "pyautoattack"} <= set(versions)
    assert not {"pydantic", "click"} & set(versions)
    assert all(name.split(".")[0] in ("inputgrad", "pipeline") for name in code)


def test_code_that_is_no_python_is_one_line(tmp_path, monkeypatch):
    (tmp_path / "broken.py").write_text("def f(:\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match=r"broken\.py is not valid Python"):
        code_of("broken")


def test_the_origin_says_in_words_what_differs(project):
    runner.prepare("tiny")
    run = Run(read_study("tiny"), "gradient_norm", 0)
    other = json.loads(json.dumps(vars(run.origin)))
    assert run.origin.difference(other | {"versions": {**other["versions"], "torch": "1.0"}}).startswith(
        "made with torch 1.0, not 2."
    )
    other["settings"]["training"]["learning_rate"] = 5
    assert run.origin.difference(other) == "made with training.learning_rate 5, not 0.01"
    code = {**vars(run.origin)["code"], "pipeline.models": "0"}
    assert run.origin.difference({**vars(run.origin), "code": code}) == "made by another pipeline.models"
