"""The best trial goes back into the study, and nothing else of the file moves."""

import difflib
from pathlib import Path

import pytest

from inputgrad.errors import UserError
from pipeline.search import apply
from pipeline.study.read import read_study
from tests.conftest import edit

ROOT = Path(__file__).parents[3]
COMMENT = "search: trial 17 of 30"


def changes(before, after):
    """The lines that went and the lines that came."""
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), lineterm="", n=0)
    return [line for line in lines if line[0] in "+-" and line[:3] not in ("+++", "---")]


@pytest.mark.parametrize("file", sorted(ROOT.glob("experiments/*.yaml")), ids=lambda f: f.stem)
def test_every_loss_of_every_study_changes_one_line(file, tmp_path):
    copy = tmp_path / "study.yaml"
    names = apply.layout().load(file.read_text())["losses"]
    for name in names:
        copy.write_text(file.read_text())
        apply.apply(copy, name, {"strength": 0.2871}, COMMENT)
        gone, come = changes(file.read_text(), copy.read_text())
        assert gone.startswith(f"-  {name}: ")
        assert come.startswith(f"+  {name}: ")
        assert "strength: 0.2871" in come
        assert come.endswith(COMMENT)
        assert apply.MARK.sub("", gone).partition("#")[2] in come


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ("fgsm: {strength: 1.0, epsilon: 0.1}", "fgsm: {strength: 0.5, epsilon: 0.2}  # search: trial 17 of 30"),
        ("fgsm: {strength: 1.0}   # ours", "fgsm: {strength: 0.5, epsilon: 0.2} # ours; search: trial 17 of 30"),
        ("fgsm: {}", "fgsm: {strength: 0.5, epsilon: 0.2}  # search: trial 17 of 30"),
        ("fgsm:", "fgsm: {strength: 0.5, epsilon: 0.2}  # search: trial 17 of 30"),
        (
            "fgsm: {epsilon: 0.1} # search: trial 3 of 9",
            "fgsm: {epsilon: 0.2, strength: 0.5}  # search: trial 17 of 30",
        ),
        (
            "fgsm: {epsilon: 0.1} # a; search: trial 3 of 9",
            "fgsm: {epsilon: 0.2, strength: 0.5} # a; search: trial 17 of 30",
        ),
        (
            "fgsm:\n    strength: 1.0  # of the term\n    epsilon: 0.1",
            "fgsm:  # search: trial 17 of 30\n    strength: 0.5  # of the term\n    epsilon: 0.2",
        ),
    ],
)
def test_layouts(tmp_path, entry, expected):
    file = tmp_path / "study.yaml"
    file.write_text(
        f"# a study\ndata: {{name: digits}}\nlosses:\n  standard: {{}}\n  {entry}\nattack: {{norm: linf}}\n"
    )
    apply.apply(file, "fgsm", {"strength": 0.5, "epsilon": 0.2}, COMMENT)
    wanted = f"# a study\ndata: {{name: digits}}\nlosses:\n  standard: {{}}\n  {expected}\nattack: {{norm: linf}}\n"
    assert file.read_text() == wanted
    apply.apply(file, "fgsm", {"strength": 0.5, "epsilon": 0.2}, COMMENT)
    assert file.read_text() == wanted


def test_a_layout_that_would_not_survive_is_left_alone(tmp_path):
    file = tmp_path / "study.yaml"
    text = "losses:\n      fgsm:   {strength:    1.0}\n"
    file.write_text(text)
    with pytest.raises(UserError, match=r"layout would not survive; write it yourself: losses\.fgsm: {strength: 0\.5}"):
        apply.apply(file, "fgsm", {"strength": 0.5}, COMMENT)
    assert file.read_text() == text


def test_the_line_is_what_would_be_written(project):
    file = project / "experiments/tiny.yaml"
    before = file.read_text()
    said = apply.line(file, "gradient_norm", {"strength": 0.5}, COMMENT)
    assert said == "gradient_norm: {strength: 0.5, p: 2}  # search: trial 17 of 30"
    assert file.read_text() == before
    apply.apply(file, "gradient_norm", {"strength": 0.5}, COMMENT)
    assert said in file.read_text()
    assert read_study("tiny").losses["gradient_norm"].strength == 0.5
    edit(file, said, "gradient_norm: {strength: 0.3, p: 2}")
    assert file.read_text() == before
