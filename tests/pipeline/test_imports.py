"""Whatever a run imports, by whatever way, changes its fingerprint when edited; what nobody can follow is refused."""

import shutil
import sys
from functools import cache
from pathlib import Path

import pytest

from inputgrad.errors import UserError
from pipeline import fingerprint, imports
from pipeline.fingerprint import closure, code_of
from tests.conftest import edit

ROOT = Path(__file__).parents[2]
NORM = "inputgrad/losses/gradient_norm.py"
HELPER = "mine/helper.py"
HELP = {HELPER: "def factor():\n    return 2.0\n"}
LOSS = "mine/own.py"
WAYS = {
    "a lazy public name": ({LOSS: "from inputgrad import GradientNorm\n\nclass Mine(GradientNorm): ...\n"}, NORM),
    "an attribute of a lazy package": ({LOSS: "import inputgrad\n\nclass Mine(inputgrad.GradientNorm): ...\n"}, NORM),
    "an attribute under another name": ({LOSS: "import inputgrad as ig\n\nclass Mine(ig.GradientNorm): ...\n"}, NORM),
    "getattr of a lazy package": ({LOSS: "import inputgrad\nBase = getattr(inputgrad, 'GradientNorm')\n"}, NORM),
    "getattr with a computed name": (
        {LOSS: "import inputgrad\nname = 'Gradient'\nBase = getattr(inputgrad, name + 'Norm')\n"},
        NORM,
    ),
    "all public names": ({LOSS: "from inputgrad import *\n\nclass Mine(GradientNorm): ...\n"}, NORM),
    "a lazy name, imported from another own module": (
        {LOSS: "from mine.base import Base\n", "mine/base.py": "from inputgrad import GradientNorm as Base\n"},
        NORM,
    ),
    "a lazy name, imported from an own package": (
        {LOSS: "from mine import GradientNorm\n", "mine/__init__.py": "from inputgrad import GradientNorm\n"},
        NORM,
    ),
    "a lazy package, imported from another own module": (
        {LOSS: "from mine.base import ig\nBase = ig.GradientNorm\n", "mine/base.py": "import inputgrad as ig\n"},
        NORM,
    ),
    "an attribute of an attribute": (
        {LOSS: "import mine.base\nB = mine.base.ig.GradientNorm\n", "mine/base.py": "import inputgrad as ig\n"},
        NORM,
    ),
    "a loss that is loaded by its name": (
        {LOSS: "from inputgrad import losses\nBase = losses.load('gradient_norm')\n"},
        NORM,
    ),
    "import_module": (
        {LOSS: "import importlib\nBase = importlib.import_module('inputgrad.losses.gradient_norm').GradientNorm\n"},
        NORM,
    ),
    "import_module under another name": (
        {LOSS: "from importlib import import_module as find\nhelper = find('.helper', 'mine')\n", **HELP},
        HELPER,
    ),
    "import_module of any module of a package": (
        {LOSS: "from importlib import import_module\ndef f(n):\n    return import_module(f'mine.deep.{n}')\n"}
        | {"mine/deep/__init__.py": "", "mine/deep/one.py": "value = 1.0\n"},
        "mine/deep/one.py",
    ),
    "a lazy package of one's own": (
        {LOSS: "from mine import lazy\nvalue = lazy.late\n"}
        | {"mine/lazy/late.py": "value = 1.0\n"}
        | {
            "mine/lazy/__init__.py": "import importlib\ndef __getattr__(name):\n"
            "    return importlib.import_module(f'{__name__}.{name}')\n"
        },
        "mine/lazy/late.py",
    ),
    "a lazy package by a library": (
        {LOSS: "from mine import lazy\nvalue = lazy.late\n"}
        | {"mine/lazy/late.py": "value = 1.0\n"}
        | {
            "mine/lazy/__init__.py": "import lazy_loader\n"
            "__getattr__, __dir__, _ = lazy_loader.attach(__name__, submod_attrs={'late': ['value']})\n"
        },
        "mine/lazy/late.py",
    ),
    "everything from a module": ({LOSS: "from mine.helper import *\n", **HELP}, HELPER),
    "everything from a package": (
        {LOSS: "from mine import *\n", "mine/__init__.py": "__all__ = ['helper']\n", **HELP},
        HELPER,
    ),
    "a base class in another file": (
        {LOSS: "from mine.helper import Base\n\nclass Mine(Base): ...\n", HELPER: "class Base:\n    power = 2\n"},
        HELPER,
    ),
    "the package's __init__": ({LOSS: "value = 1\n", "mine/__init__.py": "value = 1.0\n"}, "mine/__init__.py"),
    "a relative import": ({LOSS: "from . import helper\n", **HELP}, HELPER),
    "a relative import from above": (
        {LOSS: "from .deep import one\n", "mine/deep/__init__.py": "", "mine/deep/one.py": "from .. import helper\n"}
        | HELP,
        HELPER,
    ),
    "a folder without __init__": (
        {LOSS: "from space.deep import tool\n", "space/deep/tool.py": "v = 1.0\n"},
        "space/deep/tool.py",
    ),
    "a single file": ({LOSS: "import alone\n", "alone.py": "value = 1.0\n"}, "alone.py"),
    "an import inside a function": ({LOSS: "def f():\n    from mine import helper\n", **HELP}, HELPER),
    "an import that type checkers do not see": (
        {LOSS: "from typing import TYPE_CHECKING\nif not TYPE_CHECKING:\n    from mine import helper\n", **HELP},
        HELPER,
    ),
    "a module that another file imports": (
        {LOSS: "import mine, mine.other\nf = mine.helper.factor\n", "mine/other.py": "", **HELP},
        HELPER,
    ),
    "sys.modules": ({LOSS: "import sys\nf = sys.modules['mine.helper'].factor\n", **HELP}, HELPER),
    "the path of a part": (
        {LOSS: "from inputgrad import registry\nf = registry.imported('mine.helper:factor')\n", **HELP},
        HELPER,
    ),
}  # fmt: skip
"""Way of importing -> files of one's own, and the file that is edited."""


@pytest.fixture
def copy(tmp_path, monkeypatch):
    """A copy of the code as the current folder, beside a package of one's own."""
    for package in ("inputgrad", "pipeline"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    top = imports.top

    @cache
    def found(name):
        return (tmp_path / name,) if (tmp_path / name).is_dir() else top(name)

    monkeypatch.setattr(imports, "top", found)
    fingerprint.read_again()
    yield tmp_path
    monkeypatch.undo()
    fingerprint.read_again()
    top.cache_clear()


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in ({"mine/__init__.py": ""} | files).items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")


def codes(*roots):
    """The code of some modules, as it is now."""
    fingerprint.read_again()
    return {root: code_of(root)[0] for root in roots}


@pytest.mark.parametrize("way", WAYS)
def test_what_is_imported_counts_by_whatever_way(copy, way):
    files, edited = WAYS[way]
    write(copy, files)
    before = codes("mine.own", "inputgrad.losses.fgsm")
    file = copy / edited
    text = file.read_text(encoding="utf-8")
    file.write_text(f'"""Another docstring."""\n{text}\n# a comment\n', encoding="utf-8")
    assert codes(*before) == before
    file.write_text(f"{text}\nedited = 1\n", encoding="utf-8")
    after = codes(*before)
    module = edited.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    differs = {name for name, known in before["mine.own"].items() if after["mine.own"][name] != known}
    assert differs == {module}
    assert after["inputgrad.losses.fgsm"] == before["inputgrad.losses.fgsm"]


def test_names_that_are_not_used_do_not_count(copy):
    write(copy, WAYS["an attribute of a lazy package"][0])
    found = closure(["mine.own"]).ours
    assert "inputgrad.losses.gradient_norm" in found
    assert not {"inputgrad.losses.fgsm", "inputgrad.audit", "inputgrad.robustness.evaluation"} & {*found}


def test_a_name_of_a_study_counts_by_the_module_that_gives_it(copy):
    """`use: module:Name`, where the module only hands on what another one defines."""
    write(copy, {"mine/given.py": "from mine.helper import Base\n", HELPER: "class Base: ...\n"})
    assert {"mine.given", "mine.helper"} <= set(closure(["mine.given:Base"]).ours)
    assert "inputgrad.losses.gradient_norm" in closure(["inputgrad:GradientNorm"]).ours


def test_a_compiled_module_counts_by_its_bytes(copy):
    write(copy, {LOSS: "from mine import fast\n"})
    file = copy / f"mine/fast{imports.EXTENSION_SUFFIXES[0]}"
    file.write_bytes(b"one")
    before = codes("mine.own")["mine.own"]
    file.write_bytes(b"two2")
    after = codes("mine.own")["mine.own"]
    assert {name for name in before if before[name] != after[name]} == {"mine.fast"}


REFUSED = {
    "import_module(name)": "from importlib import import_module\ndef f(name):\n    return import_module(name)\n",
    "a name from a table": "import importlib\nTABLE = {1: 'mine.a'}\nimportlib.import_module(TABLE[1])\n",
    "no package before the name": "import importlib\nimportlib.import_module(f'{__package__}{1}')\n",
    "handed on": "import importlib\nf = importlib.import_module\n",
    "handed on under another name": "from importlib import import_module as load\nmap(load, ['mine.a'])\n",
    "__import__": "def f(name):\n    return __import__(name)\n",
    "exec": "exec(open('mine/helper.py').read())\n",
    "a file that is run": "import runpy\nrunpy.run_path('mine/helper.py')\n",
    "a file that is loaded": "from importlib.util import spec_from_file_location as load\nload('a', 'a.py')\n",
}


@pytest.mark.parametrize("way", REFUSED)
def test_what_the_text_does_not_name_is_refused_in_one_line(copy, way):
    write(copy, {LOSS: REFUSED[way]})
    with pytest.raises(
        UserError, match=r"mine/own\.py: line \d: \w+ runs code that this line does not name.*; fix: "
    ) as error:
        code_of("mine.own")
    assert "\n" not in str(error.value)


def test_a_module_that_is_found_by_a_changed_path_is_refused(copy):
    write(copy, {LOSS: "import sys\nsys.path.append('tools')\nimport hidden_tool\n", "tools/hidden_tool.py": "v = 1\n"})
    with pytest.raises(
        UserError, match=r"own\.py changes sys\.path, and no module 'hidden_tool' is found .*; fix: put"
    ):
        code_of("mine.own")
    edit(copy / LOSS, "sys.path.append('tools')\n", "")  # a library that is not there: the import fails, or is optional
    fingerprint.read_again()
    assert code_of("mine.own")[1]["hidden_tool"] == "unknown"


COMPUTES = {"inputgrad", "inputgrad.registry", "pipeline"}
"""Modules of ours that import by a computed name: those of a study and of the user's code, which are followed by it."""


def test_in_our_own_code_import_statements_say_all():
    for package in fingerprint.OURS:
        for file in (ROOT / package).rglob("*.py"):
            name = ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
            if name in COMPUTES:
                continue
            if name == "pipeline.pages":  # writes pages of the public names, computes nothing
                continue
            by_all = imports.read(file, name, *fingerprint.stamp(file))
            assert {*by_all.modules} == {*imports.statements(file, name)}, name
            assert not by_all.below, name
            assert not {*fingerprint.OURS} & by_all.objects, name


def test_nothing_is_loaded_that_is_not_followed(tmp_path):
    """The other way round: in a new process, what Python has really loaded is among what was followed."""
    import json
    import subprocess

    from tests.pipeline.test_fingerprint import roots

    begins = sorted({root for kind in roots("gradient_norm").values() for root in kind})
    script = (
        "import importlib, json, sys\nroots = json.loads(sys.argv[1])\n"
        "for root in roots: importlib.import_module(root)\n"
        "print(json.dumps([m for m in sys.modules if m.split('.')[0] in ('inputgrad', 'pipeline')]))"
    )
    done = subprocess.run([sys.executable, "-c", script, json.dumps(begins)], cwd=ROOT, capture_output=True, text=True)
    loaded = set(json.loads(done.stdout))
    assert len(loaded) > 50
    assert loaded <= set(closure(begins).ours)
