"""What a study may not hold: values of another type, numbers without meaning, files that only look small."""

import time

import pytest

from inputgrad.errors import UserError
from pipeline.study import validation
from pipeline.study.read import read_study
from tests.conftest import edit

ROWS = [
    ("epochs: 3", "epochs: true", r"training\.epochs: .*not True"),
    ("epochs: 3", 'epochs: "6"', r"training\.epochs: .*not '6'"),
    ("epochs: 3", "epochs: 6.0", r"training\.epochs: .*not 6\.0"),
    ("epochs: 3", "epochs: 1000000000", r"training\.epochs: .*10000000"),
    ("learning_rate: 0.01", "learning_rate: 1.0e+300", r"training\.learning_rate: .*1e\+?30"),
    ("learning_rate: 0.01", "learning_rate: .nan", r"training\.learning_rate: "),
    ("learning_rate: 0.01", "learning_rate: [0.01]", r"training\.learning_rate: .*not \[0\.01\]"),
    ("hidden: [8]", "hidden: [-1]", r"model\.hidden: -1 is not between 1 and"),
    ("hidden: [8]", "hidden: 8", r"model\.hidden: .*not 8"),
    ("hidden: [8]", "hidden: [8.5]", r"model\.hidden"),
    ("hidden: [8]", "hidden: [true]", r"model\.hidden"),
    ("name: digits", "name: digits, split_seed: -1", r"data\.split_seed: -1 is not between 0 and"),
    ("name: digits", "name: digits, split_seed: 2026-01-01", r"data\.split_seed"),
    ("name: digits", "name: digits, shares: [0.6, 0.6, 0.3]", r"data\.shares: \[0\.6, 0\.6, 0\.3\] must be three pos"),
    ("name: digits", "name: digits, shares: [.nan, 0.5, 0.5]", r"data\.shares"),
    ("name: digits", "name: digits, shares: [0.5, 0.5]", r"data\.shares"),
    ("p: 2", 'p: "2"', r"losses\.gradient_norm\.p"),
    ("strength: 0.3, p: 2", "strength: true, p: 2", r"losses\.gradient_norm\.strength: .*not True"),
    ("random_start: true", "random_start: 1", r"losses\.fgsm\.random_start: .*not 1"),
    ("steps: 3, restarts: 2", "steps: 3.0, restarts: 2", r"attack\.attacks\.pgd\.steps"),
    (
        "  grid:",
        "  secondary: {norm: l2, epsilon: 1.0e+9, grid: [1.0]}\n  grid:",
        r"attack\.secondary: epsilon 1e\+09 is",
    ),
    ("seeds: [0, 1]", "seeds: [0, true]", r"training\.seeds"),
    ("data: {name: digits}", "data: {null: digits}", r"data: None is no plain name; fix: letters"),
    ("data: {name: digits}", "data: {name: digits}\n3: 4", r"at the top: 3 is no plain name"),
    ("gradient_norm: {", f"{'a' * 5000}: {{", r"not valid YAML: "),
    ("gradient_norm: {", f"{'a' * 500}: {{", r"losses: 'a+… is no plain name; fix: letters"),
    ("norm: linf", 'norm: "lin\\x07f"', r"attack\.norm: "),
]


@pytest.mark.parametrize(("old", "new", "message"), ROWS, ids=[row[1][:30] for row in ROWS])
def test_a_value_without_meaning_is_one_short_line(project, old, new, message):
    edit(project / "experiments/tiny.yaml", old, new)
    with pytest.raises(UserError, match=message) as error:
        read_study("tiny")
    said = str(error.value)
    assert said.isprintable()
    assert len(said) < 400
    assert "experiments/tiny.yaml" in said


def test_whole_numbers_are_numbers_where_a_fraction_is_asked_for(project):
    edit(project / "experiments/tiny.yaml", "strength: 1.0", "strength: 1")
    assert read_study("tiny").losses["fgsm"].strength == 1.0


BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 10)
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (BOMB, "holds more than 100000 values, by its references; fix: write them out"),
        ("data: " + "[" * 400 + "]" * 400, "nested too deeply; fix: at most 20 levels"),
        ("data: " + "[" * 100_000 + "]" * 100_000, "(nested too deeply|not valid YAML)"),
        ("x: " + "y" * 1_000_001, "is larger than 1000000 bytes; fix: no study needs as much"),
        ("a: \0", "not valid YAML"),
        ("&a a: *a", "data"),
        ("a: &a [*a]", "(nested too deeply|holds more than)"),
    ],
    ids=["references", "deep", "deeper", "large", "null byte", "key", "itself"],
)
def test_a_file_that_would_hang_is_refused_at_once(project, text, message):
    (project / "experiments/tiny.yaml").write_text(text, encoding="utf-8")
    start = time.monotonic()
    with pytest.raises(UserError, match=message) as error:
        read_study("tiny")
    assert str(error.value).isprintable()
    assert time.monotonic() - start < 60  # it took for ever


def test_a_folder_in_the_place_of_a_study(project):
    (project / "experiments/other.yaml").mkdir()
    with pytest.raises(UserError, match=r"other\.yaml cannot be read \(Is a directory\); fix: make it a file"):
        read_study("other")


def test_long_and_odd_text_is_shown_short():
    assert validation.shortened("a" * 100) == "a" * 59 + "…"
    assert validation.shortened("a\nb\x07") == "a\\nb\\x07"
