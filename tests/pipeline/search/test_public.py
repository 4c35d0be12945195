"""Optuna is used through its public names alone, and nowhere but in the search."""

import ast
from importlib import import_module

import pytest

from tests.pipeline.search.conftest import ROOT

FILES = sorted((ROOT / "pipeline/search").glob("*.py"))


def private(source: str) -> list[str]:
    """Names with an underscore in front that are imported from Optuna, or asked of anything but `self`."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("optuna"):
            found += [part for part in [*node.module.split("."), *(a.name for a in node.names)] if part[0] == "_"]
        elif isinstance(node, ast.Import):
            found += [a.name for a in node.names if a.name.startswith("optuna") and "._" in a.name]
        elif isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__"):
            found += [node.attr] if not (isinstance(node.value, ast.Name) and node.value.id == "self") else []
    return found


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_no_private_name(file):
    assert private(file.read_text(encoding="utf-8")) == []


def test_every_name_of_optuna_is_one_that_it_documents():
    """A name is public where its module says so: in `__all__`, or in the documented module itself."""
    names = set()
    for file in FILES:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("optuna"):
                names |= {(node.module, alias.name) for alias in node.names}
    assert len(names) > 10
    for module, name in sorted(names):
        public = getattr(import_module(module), "__all__", None)
        assert public is None or name in public, f"{module}.{name}"


@pytest.mark.parametrize(
    "source",
    [
        "from optuna.storages._heartbeat import get_heartbeat_thread",
        "from optuna.storages import _CachedStorage",
        "import optuna.study._tell",
        "study._storage",
        "study.trials[0]._trial_id",
    ],
)
def test_what_the_test_sees(source):
    assert private(source)


def test_nobody_else_imports_optuna():
    for package in ("inputgrad", "pipeline"):
        for file in (ROOT / package).rglob("*.py"):
            text = file.read_text(encoding="utf-8")
            assert file in FILES or ("import optuna" not in text and "from optuna" not in text), file
