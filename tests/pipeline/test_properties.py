"""Whatever a study holds: it is read, or refused in one short line that names the file. Never a traceback or a hang.

More examples than here: PROPERTY_EXAMPLES=2000 python -m pytest tests/pipeline/test_properties.py
"""

import copy
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from inputgrad.errors import UserError
from pipeline.study.read import read_study
from pipeline.study.schema import Study
from tests.conftest import TINY

EXAMPLES = int(os.environ.get("PROPERTY_EXAMPLES", "200"))
PLAIN = YAML(typ="safe").load(TINY)
PLAIN["attack"]["secondary"] = {"norm": "l2", "epsilon": 0.5, "grid": [0.5], "at_epsilon": ["square"]}
PLAIN["search"] = {"trials": 3, "ranges": {"fgsm": {"strength": [0.5, 2.0]}}}
PLAIN["published"] = [{"name": "trees", "clean": 0.9, "robust": 0.7, "certified": True, "source": "a paper"}]
PLAIN["checkpoints"] = {"theirs": {"model": "math:pi"}}
FILE = Path("experiments/tiny.yaml")

often = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
words = st.sampled_from(
    ["digits", "mlp", "linf", "l2", "pgd", "silu", "cuda", "adam", "inf", "true", "", "../x", "a b"]
)
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.sampled_from([-1, 0, 1, 2, 3, 0.5, 1.0, 1e-300, 1e300, -0.0, float("nan"), float("inf")])
    | st.floats()
    | words
    | st.text(max_size=20)
    | st.dates(),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(words | st.text(max_size=5) | st.integers(), inner, max_size=3)
    ),
    max_leaves=6,
)


def places(part, path=()):
    """Every path into the study."""
    found = [path]
    pairs = part.items() if isinstance(part, dict) else enumerate(part) if isinstance(part, list) else ()
    for key, inner in pairs:
        found += places(inner, (*path, key))
    return found


PLACES = [path for path in places(PLAIN) if path]
changes = st.lists(
    st.tuples(st.sampled_from(PLACES), st.sampled_from(["replace", "delete", "add"]), words, values),
    min_size=1,
    max_size=3,
)


def changed(wanted):
    study = copy.deepcopy(PLAIN)
    for path, how, name, value in wanted:
        part = study
        try:
            for key in path[:-1]:
                part = part[key]
            if how == "replace":
                part[path[-1]] = value
            elif how == "delete":
                del part[path[-1]]
            else:
                part[path[-1]][name] = value
        except (KeyError, IndexError, TypeError):
            continue  # an earlier change has taken that place away
    return study


def written(study):
    with FILE.open("w", encoding="utf-8", errors="surrogatepass") as f:
        YAML(typ="safe").dump(study, f)


def check():
    """Read the study; what is refused is refused as a user should see it."""
    try:
        return read_study("tiny")
    except UserError as error:
        said = str(error)
        assert said.isprintable()
        assert len(said) < 700
        assert str(FILE) in said
        return None


@often
@given(wanted=changes)
def test_a_changed_study_is_read_or_refused(project, wanted):
    written(changed(wanted))
    found = check()
    if found is not None:
        assert isinstance(found, Study)
        assert found.training.epochs >= 1
        assert found == read_study("tiny")


@often
@given(text=st.text(max_size=200) | st.binary(max_size=200))
def test_any_text_in_the_place_of_a_study(project, text):
    FILE.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
    assert check() is None


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1, 0, True, "6", None, [], {}])
def test_no_odd_value_passes_as_a_number_of_epochs(project, value):
    study = copy.deepcopy(PLAIN)
    study["training"]["epochs"] = value
    written(study)
    assert check() is None
