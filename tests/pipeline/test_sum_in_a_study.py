"""A study names a sum of losses in YAML: it is the object that Python makes, its terms count, it is trained."""

import json

import pandas as pd
import pytest

from inputgrad import GradientNorm, JacobianNorm, Sum
from inputgrad.errors import UserError
from pipeline import data, fingerprint
from pipeline.stages import train
from pipeline.study.code import modules
from pipeline.study.read import read_study
from pipeline.study.run import Run
from tests.conftest import edit

BOTH = "losses:\n  both: {terms: {gradient_norm: {strength: 0.3}, jacobian_norm: {strength: 0.2, every: 2}}}\n"


@pytest.fixture
def study(project):
    edit(project / "experiments/tiny.yaml", "losses:\n", BOTH)
    return read_study("tiny")


def test_yaml_and_python_speak_of_the_same_object(study):
    assert study.losses["both"] == Sum.of(GradientNorm(0.3), JacobianNorm(0.2, every=2))
    assert study.stated("both")["terms"]["jacobian_norm"]["every"] == 2
    assert json.loads(json.dumps(study.stated("both"))) == study.stated("both")


def test_the_code_of_every_term_counts(study):
    found = fingerprint.closure(modules("train", study.parts, "both")).ours
    assert {"inputgrad.losses._sum", "inputgrad.losses.gradient_norm", "inputgrad.losses.jacobian_norm"} <= set(found)


def test_it_is_trained_and_each_term_is_recorded(study):
    data.prepare("tiny", study.data)
    folder = train.train(Run(study, "both", 0))
    history = pd.read_csv(folder / "history.csv")
    assert (history["term_gradient_norm"] > 0).all()
    assert (history["term_jacobian_norm"] > 0).all()
    assert (history["term_gradient_ratio"] > 0).all()


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("strength: 0.2, every: 2", "strenght: 0.2", "unknown key 'losses.jacobian_norm.strenght'; did you mean"),
        ("jacobian_norm: {", "jacobian_nrm: {", "losses: no 'jacobian_nrm' in inputgrad/losses/; did you mean"),
        ("both: {", "both: {ramp: 2, ", "losses.both: ramp of a sum is that of its terms; fix: state it there"),
        ("both: {", "both: {strength: 2, ", "losses.both.strength: "),
        (
            "every: 2",
            "points: inside",
            "losses.both.terms.jacobian_norm.points: a data set gives no points",
        ),
    ],
)
def test_mistakes_in_a_sum_are_one_line(project, old, new, said):
    edit(project / "experiments/tiny.yaml", "losses:\n", BOTH.replace(old, new))
    with pytest.raises(UserError) as found:
        read_study("tiny")
    assert said in str(found.value)
    assert "\n" not in str(found.value)
