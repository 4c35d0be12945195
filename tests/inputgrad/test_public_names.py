"""What `from inputgrad import ...` gives, and what it does not load."""

import ast
import importlib
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import inputgrad
from inputgrad import losses, registry
from inputgrad.audit import audit

ROOT = Path(__file__).parents[2]
HEAVY = {"torch", "numpy", "pydantic", "scipy", "pandas", "mlflow", "optuna", "rich", "sklearn", "matplotlib"}


PYTHON = {"Sum", "Residual", "ScoreMatching", "AttributionPrior"}
"""Losses that no study names: they take losses or functions, have no task, or need baselines."""


def shipped():
    """The losses of this project: those with a page. A loss of one's own in that folder needs no public name."""
    pages = {file.stem for file in (ROOT / "docs" / "losses").glob("*.md")}
    return [name for name in registry.names("inputgrad.losses") if name in pages]


def loaded(code):
    """Which heavy packages a fresh Python has loaded after `code`."""
    code += f"\nimport sys; print(sorted(set(sys.modules) & {HEAVY}))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    return set(ast.literal_eval(done.stdout))


def test_the_table_holds_every_loss_and_no_other():
    found = {losses.load(name).__name__: losses.load(name) for name in shipped()}
    public = {name: thing for name in inputgrad.__all__ if is_loss(thing := getattr(inputgrad, name))}
    assert {name for name in PYTHON if public.pop(name)} == PYTHON
    assert public == found
    assert len(found) >= 13


def is_loss(thing):
    return inspect.isclass(thing) and issubclass(thing, losses.Loss) and thing is not losses.Loss


def test_a_name_lies_where_the_list_for_type_checkers_says():
    for name, home in inputgrad._HOME.items():
        there = getattr(importlib.import_module(home), name)
        assert there.__module__ == home
        assert there is (audit if name == "audit" else getattr(inputgrad, name))


@pytest.mark.parametrize("name", inputgrad.__all__)
def test_every_name_is_there_listed_and_documented(name):
    assert name in dir(inputgrad)
    thing = getattr(inputgrad, name)
    assert inspect.getdoc(thing)
    for method in (n for n, value in vars(thing).items() if inspect.isclass(thing) and n[0] != "_"):
        if inspect.isfunction(getattr(thing, method)):
            assert inspect.getdoc(getattr(thing, method)), method  # that of the overridden method counts


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'GradientNrom'"):
        _ = inputgrad.GradientNrom
    with pytest.raises(ImportError):
        exec("from inputgrad import evaluate_everything")


def test_audit_is_a_function_and_a_package():
    """Whatever was imported before: a test of someone who does not know that it is both."""
    for first in ("import inputgrad", "import inputgrad.audit.given", "from inputgrad.audit import audit"):
        code = (
            f"{first}\nimport inputgrad\nfrom inputgrad import audit\nfrom inputgrad.audit import Audit, audit as f\n"
        )
        code += "assert callable(audit) and audit is inputgrad.audit and audit.audit is f and inputgrad.Audit is Audit"
        loaded(code)
    assert list(inspect.signature(type(inputgrad.audit).__call__).parameters)[1:] == [
        *inspect.signature(audit).parameters
    ]


def test_nothing_is_loaded_that_is_not_used():
    assert loaded("import inputgrad; dir(inputgrad)") == set()
    assert loaded("from inputgrad import UserError") == set()
    assert loaded("from inputgrad import GradientNorm, Context, audit") <= {"torch", "numpy", "pydantic"}
