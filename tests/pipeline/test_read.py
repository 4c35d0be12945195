"""Every mistake in a study is one line that names the file, the key and the fix."""

import pytest

from inputgrad.errors import UserError
from inputgrad.robustness.attacking import PROBES
from inputgrad.robustness.scores import CLEAN
from inputgrad.tasks import Classification
from pipeline.results import robustness
from pipeline.study import checks
from pipeline.study.read import read_study
from tests.conftest import edit

STUDY_MISTAKES = [
    ("epochs: 3", "epoch: 3", r"unknown key 'training\.epoch'; did you mean 'epochs'\?"),
    ("gradient_norm: {strength", "gradient_nrom: {strength", r"no 'gradient_nrom'.*did you mean 'gradient_norm'\?"),
    (
        "strength: 0.3, p: 2",
        "stregth: 0.3, p: 2",
        r"unknown key 'losses\.gradient_norm\.stregth'; did you mean 'streng",
    ),
    (
        "strength: 0.3, p: 2",
        "strength: -1, p: 2",
        r"losses\.gradient_norm\.strength: .*greater than or equal to 0, not",
    ),
    ("strength: 0.3, p: 2", "strength: .nan, p: 2", r"losses\.gradient_norm\.strength: .*(finite|greater)"),
    ("strength: 0.3, p: 2", "strength: .inf, p: 2", r"losses\.gradient_norm\.strength: .*finite"),
    ("strength: 0.3, p: 2", "strength: 0.3, p: 3", r"losses\.gradient_norm\.p: "),
    ("standard: {}", "standard: {strength: 1}", r"losses\.standard\.strength: "),
    ("name: digits", "name: digit", r"data\.name: no 'digit'.*did you mean 'digits'\?"),
    ("{name: digits}", "{name: digits, sed: 1}", r"unknown key 'data\.sed'"),
    ("name: mlp", "name: mpl", r"model\.name: no 'mpl'.*did you mean 'mlp'\?"),
    ("hidden: [8]", "hiden: [8]", r"unknown key 'model\.hiden'; did you mean 'hidden'\?"),
    ("activation: silu", "activation: sliu", r"model\.activation: "),
    ("seeds: [0, 1]", "seeds: []", r"training\.seeds: .*at least 1"),
    ("seeds: [0, 1]", "seeds: [1, 1]", r"training\.seeds: .*repeat"),
    ("epochs: 3", "epochs: 0", r"training\.epochs: .*greater than 0"),
    ("epsilon: 0.1\n", "epsilon: 1.5\n", r"attack: epsilon 1\.5 is outside the data's range \[0\.0, 1\.0\]"),
    ("epsilon: 0.1,", "epsilon: 2.0,", r"losses\.fgsm\.epsilon 2 is outside the data's range"),
    ("grid: [0.0, 0.1, 0.4]", "grid: [0.0, 0.4, 0.1]", r"attack\.grid: .*increase"),
    ("grid: [0.0, 0.1, 0.4]", "grid: []", r"attack\.grid: .*at least 1"),
    ("norm: linf", "norm: linff", r"attack\.norm: "),
    ("pgd: {steps: 3,", "pdg: {steps: 3,", r"attack\.attacks: no 'pdg'.*did you mean 'pgd'\?"),
    ("pgd: {steps: 3,", "pgd: {step: 3,", r"unknown key 'attack\.attacks\.pgd\.step'; did you mean 'steps'\?"),
    ("square: {queries: 20}", "sqare: {}", r"attack\.at_epsilon: no 'sqare'.*did you mean 'square'\?"),
    ("square: {queries: 20}", "square: {querys: 2}", r"unknown key 'attack\.at_epsilon\.square\.querys'"),
    ("fgsm: {}, pgd", "pgd", r"attack\.attacks: add 'fgsm: \{\}', the masking sheet compares it"),
    ("norm: linf", "norm: l1", r"attack\.norm: .*'linf' or 'l2'"),
    ("epsilon: 0.1\n", "epsilon: 0.0\n", r"attack\.epsilon: .*greater than 0"),
    ("  grid:", "  examples: 0\n  grid:", r"attack\.examples: .*greater than 0"),
    (
        "  grid:",
        "  secondary: {norm: linf, epsilon: 0.2, grid: [0.2]}\n  grid:",
        r"attack\.secondary\.norm: linf is the headline's norm; give the other one",
    ),
    (
        "  grid:",
        "  secondary: {norm: l2, epsilon: 0.2, grid: [0.2], at_epsilon: [fab_t]}\n  grid:",
        r"attack: .*secondary\.at_epsilon: 'fab_t' is none of attack\.at_epsilon \(square, apgd_ce\)",
    ),
    (
        "data: {name: digits}",
        "data: {name: diabetes}",
        r"attack\.attacks\.fab is not defined for regression.*random_search",
    ),
    ("  standard: {}\n", "", r"losses: add 'standard: \{\}', the others are compared with it"),
    ("standard: {}", "standard: {}\n  standard: {}", r"line 6 states 'standard' a second time"),
    ("training:", "model: {}\ntraining:", r"line 3 states 'model' a second time"),
    ("p: 2", "p: 2, p: 1", r"line \d+ states 'p' a second time"),
    ("gradient_norm: {", "gradient-norm: {", r"losses: 'gradient-norm' is no plain name; fix: letters, digits and _"),
    ("gradient_norm: {", '"x$(touch X)": {', r"losses: 'x\$\(touch X\)' is no plain name"),
    ("gradient_norm: {", '"a\\nb": {', r"losses: 'a\\nb' is no plain name"),
    ("gradient_norm: {", "1: {", r"losses: 1 is no plain name"),
    ("gradient_norm: {", "true: {", r"losses: True is no plain name"),
    ("name: digits", "name: ../digits", r"data\.name: '\.\./digits' is no plain name"),
    ("name: mlp", "name: m;lp", r"model\.name: 'm;lp' is no plain name"),
    ("square: {queries", "squ are: {queries", r"attack\.at_epsilon: 'squ are' is no plain name"),
    ("training:", "trainings:", r"unknown key 'trainings'|key 'training' is missing"),
    ("losses:", "losses: [", r"not valid YAML"),
]


@pytest.mark.parametrize(("old", "new", "message"), STUDY_MISTAKES, ids=[new[:24] for _, new, _ in STUDY_MISTAKES])
def test_a_mistake_in_a_study_is_one_line(project, old, new, message):
    edit(project / "experiments/tiny.yaml", old, new)
    with pytest.raises(UserError, match=rf"^experiments/tiny\.yaml: .*{message}") as error:
        read_study("tiny")
    assert "\n" not in str(error.value)


def test_the_study_of_the_tests_is_valid(project):
    study = read_study("tiny")
    assert study.task is Classification
    assert study.losses["gradient_norm"].strength == 0.3
    assert study.attack.radii == [0.0, 0.1, 0.4]


def test_an_unknown_study_names_the_nearest(project):
    with pytest.raises(UserError, match=r"experiments/tyni\.yaml is missing: no study 'tyni'; did you mean 'tiny'\?"):
        read_study("tyni")


def test_an_unknown_loss_of_a_study_names_the_nearest(project):
    with pytest.raises(UserError, match=r"losses: no 'gradient_nor'; did you mean 'gradient_norm'\?"):
        read_study("tiny").loss("gradient_nor")


@pytest.mark.parametrize("name", ["x$(touch X)", "../x", "a b", "", "1x", "a-b", "naïve", "x\n", "null", "."])
def test_a_study_has_a_plain_name(project, name):
    with pytest.raises(UserError, match=r"study: .* is no plain name; fix: letters, digits and _ only") as error:
        read_study(name)
    assert "\n" not in str(error.value)


def test_an_attack_has_no_name_that_means_something_else():
    assert set(checks.TAKEN) == {"transfer", robustness.WORST, CLEAN[2], *PROBES}
