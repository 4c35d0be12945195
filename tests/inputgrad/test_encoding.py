"""Files are UTF-8 whatever the locale, and no command fails where the terminal cannot show ε."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted(file for package in ("inputgrad", "pipeline") for file in (ROOT / package).rglob("*.py"))
TEXT = {"read_text", "write_text", "to_csv"}
OPENING = {"open": 0, "fdopen": 1, "NamedTemporaryFile": 0, "TemporaryFile": 0}
"""Function -> where its mode stands, as a method of a path; the built-in `open` has the path in front."""
WRAPPING = {"run", "Popen", "check_output", "TextIOWrapper"}
ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def careless(source):
    """Lines that open a file as text, or read a process as text, in the encoding of the locale."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        keywords = {keyword.arg: keyword.value for keyword in node.keywords}
        if "encoding" in keywords or opens_no_file(node):
            continue
        if name in TEXT or (name in WRAPPING and {"text", "universal_newlines"} & set(keywords)):
            found.append(node.lineno)
        elif name in OPENING:
            place = 1 if isinstance(node.func, ast.Name) and name == "open" else OPENING[name]
            mode = keywords.get("mode", node.args[place] if len(node.args) > place else None)
            default = "w+b" if "Temporary" in name else "r"
            if "b" not in (default if mode is None else ast.literal_eval(mode)):
                found.append(node.lineno)
    return found


def opens_no_file(node):
    """`engine.open()` starts workers, `os.open` gives a number, and our own `write_text` is UTF-8."""
    function = ast.unparse(node.func)
    return function in ("os.open", "write_text", "files.write_text") or function.endswith("engine.open")


@pytest.mark.parametrize("file", SOURCES, ids=[str(f.relative_to(ROOT)) for f in SOURCES])
def test_no_source_file_leaves_the_encoding_to_the_locale(file):
    assert careless(file.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "line",
    [
        "p.read_text()",
        "p.write_text(t)",
        "frame.to_csv(p, index=False)",
        "open(p)",
        "open(p, 'w')",
        "p.open()",
        "p.open('a')",
        "p.open(mode='w')",
        "os.fdopen(n, 'w')",
        "NamedTemporaryFile('w')",
        "subprocess.run(c, text=True)",
    ],
)
def test_the_search_finds_what_it_is_for(line):
    assert careless(line) == [1]
    assert careless(line[:-1].removesuffix("(") + ("(" if line.endswith("()") else ", ") + "encoding='utf-8')") == []


@pytest.mark.parametrize("line", ["open(p, 'rb')", "p.open('wb')", "NamedTemporaryFile()", "p.read_bytes()"])
def test_bytes_need_no_encoding(line):
    assert careless(line) == []


def run(folder, *arguments, **environment):
    """A command in a process of its own, which uses the locale that is given."""
    given = {k: v for k, v in os.environ.items() if k not in ("PYTHONIOENCODING", "PYTHONUTF8", "LANG", "LC_ALL")}
    done = subprocess.run(
        [sys.executable, *arguments],
        env=given | {"PYTHONPATH": str(ROOT)} | environment,
        cwd=folder,
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_file_written_in_a_locale_that_knows_ascii_only_has_the_same_bytes(tmp_path):
    encoding = run(tmp_path, "-c", "import locale; print(locale.getencoding())", **ASCII)
    assert b"utf" not in encoding.lower(), "this test needs a Python that follows LC_ALL=C"
    run(tmp_path, "-m", "pipeline", "docs", **ASCII)
    written = {file.name: file.read_bytes() for file in (tmp_path / "docs" / "losses").glob("*.md")}
    assert written == {file.name: file.read_bytes() for file in (ROOT / "docs" / "losses").glob("*.md")}


@pytest.mark.parametrize("package", ["inputgrad", "pipeline"])
def test_what_a_terminal_cannot_show_is_escaped(tmp_path, package):
    command = ["-m", package, "strength", "finlay2019", "1"]
    assert rb"\u03bb = w" in run(tmp_path, *command, PYTHONIOENCODING="latin-1")
    assert "λ = w".encode() in run(tmp_path, *command, **ASCII)  # click prints UTF-8 where the locale is plain C
