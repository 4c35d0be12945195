"""Where a search looks, and what it may not be told."""

import pytest

from inputgrad.errors import UserError
from inputgrad.losses import Range
from pipeline.search import space
from pipeline.study.read import read_study
from tests.conftest import edit


def with_search(project, text):
    """The study with a `search:` section."""
    file = project / "experiments/tiny.yaml"
    file.write_text(file.read_text() + f"search: {text}\n")
    return read_study("tiny")


def test_the_range_is_the_loss_s_own_unless_the_study_narrows_it(project):
    study = read_study("tiny")
    assert space.ranges(study, "gradient_norm") == {"strength": Range(1e-3, 10.0)}
    study = with_search(project, "{ranges: {fgsm: {epsilon: [0.05, 0.2]}}}")
    assert space.ranges(study, "fgsm") == {"strength": Range(1e-2, 10.0), "epsilon": Range(0.05, 0.2)}


MISTAKES = [
    ("{trails: 3}", r"unknown key 'search\.trails'; did you mean 'trials'\?"),
    ("{trials: 0}", r"search\.trials: .*greater than 0"),
    ("{max_clean_drop: -0.1}", r"search\.max_clean_drop: .*greater than or equal to 0"),
    ("{ranges: {gradient_nrom: {strength: [0.1, 1]}}}", r"search\.ranges: no 'gradient_nrom'.*'gradient_norm'\?"),
    ("{ranges: {gradient_norm: {stregth: [0.1, 1]}}}", r"ranges\.gradient_norm: no 'stregth'.*'strength'\?"),
    ("{ranges: {gradient_norm: {strength: [1, 0.1]}}}", r"strength: \[1, 0\.1\] must rise and lie inside 0\.001 to 10"),
    (
        "{ranges: {gradient_norm: {strength: [1, 100]}}}",
        r"\[1, 100\] must rise and lie inside .*in inputgrad\.losses\.gradient_norm",
    ),
    ("{ranges: {gradient_norm: {strength: [1]}}}", r"search\.ranges\.gradient_norm\.strength"),
    ("{ranges: {gradient_norm: {strength: [.nan, 1]}}}", r"search\.ranges\.gradient_norm\.strength.*finite"),
    ("{attacks: {pgf: {}}}", r"search\.attacks: no 'pgf' in inputgrad/attacks/; .*'pgd'"),
    ("{attacks: {pgd: {stepz: 3}}}", r"unknown key 'search\.attacks\.pgd\.stepz'; did you mean 'steps'\?"),
    ("{attacks: {}}", r"search\.attacks: .*at least 1 item"),
    ("{ranges: {standard: {strength: [0.1, 1]}}}", r"ranges\.standard: no 'strength' to search"),
]


@pytest.mark.parametrize(("text", "message"), MISTAKES, ids=[text for text, _ in MISTAKES])
def test_a_mistake_in_the_search_section_is_one_line(project, text, message):
    with pytest.raises(UserError, match=rf"^experiments/tiny\.yaml: .*{message}") as error:
        with_search(project, text)
    assert "\n" not in str(error.value)


def test_a_loss_without_strength_has_nothing_to_search(project):
    with pytest.raises(UserError, match=r"losses\.standard has no strength to search; these have: detached_norm, "):
        space.ranges(read_study("tiny"), "standard")


def test_the_first_trial_is_what_the_study_states(project):
    assert space.present(read_study("tiny"), "fgsm") == {"strength": 1.0, "epsilon": 0.1}
    edit(project / "experiments/tiny.yaml", "gradient_norm: {strength: 0.3", "gradient_norm: {strength: 20")
    assert space.present(read_study("tiny"), "gradient_norm") is None


def test_trials_train_with_a_seed_that_is_not_reported_and_their_own_epochs(project):
    assert space.of_trials(read_study("tiny")).training.seeds == [2]
    assert space.of_trials(read_study("tiny")).training.epochs == 3
    assert space.of_trials(with_search(project, "{epochs: 2}")).training.epochs == 2


def test_other_knobs_leave_the_rest_of_the_loss(project):
    changed = space.with_knobs(read_study("tiny"), "fgsm", {"strength": 2.0})
    assert changed.losses["fgsm"].model_dump(exclude_unset=True) == {
        "strength": 2.0,
        "epsilon": 0.1,
        "random_start": True,
    }
    assert changed.losses["gradient_norm"] == read_study("tiny").losses["gradient_norm"]


@pytest.mark.parametrize(
    ("value", "expected"), [(0.001, True), (0.00158, True), (0.0016, False), (0.1, False), (6.3, False), (6.4, True)]
)
def test_the_outer_twentieth_of_a_log_range_is_its_edge(value, expected):
    assert space.at_edge(Range(1e-3, 10.0), value) is expected


def test_the_edge_of_a_linear_range():
    found = {value: space.at_edge(Range(0.0, 1.0, log=False), value) for value in (0.0, 0.04, 0.06, 0.94, 0.96)}
    assert found == {0.0: True, 0.04: True, 0.06: False, 0.94: False, 0.96: True}


def test_what_is_written_is_what_was_trained():
    assert space.rounded(0.28713650413) == 0.2871
    assert space.rounded(9.99999) == 10.0
