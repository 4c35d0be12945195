"""`inputgrad scan`: constants in losses are found at the right line, and nothing else is accused."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from inputgrad.cli import cli
from inputgrad.errors import UserError
from inputgrad.scan import files, of_text, scan
from tests.inputgrad import scan_cases
from tests.inputgrad.scan_cases import HEAD, body, cases

ROOT = Path(__file__).parents[2]
VOID, RIGHT = cases(scan_cases.VOID), cases(scan_cases.RIGHT)


def found(code, head=HEAD):
    """(kind, the line of the code) of every finding."""
    at = head.count("\n")
    return [
        (f.kind, code.splitlines()[int(f.line) - at - 1].strip())
        for f in of_text(files.Text(head + code), Path("a.py"))
    ]


@pytest.mark.parametrize("name", VOID)
def test_a_constant_in_a_loss_is_found_at_its_line(name):
    kind, code = VOID[name]
    (line,) = [line.strip() for line in code.splitlines() if "# <" in line]
    assert found(code) == [(kind, line)]


@pytest.mark.parametrize("name", RIGHT)
def test_what_is_meant_is_not_accused(name):
    assert found(RIGHT[name][1]) == []


@pytest.mark.parametrize("graph", ["self.training", "model.training", "True if self.training else False"])
def test_a_graph_in_train_mode_only_is_a_note_and_no_error(graph, tmp_path):
    code = f"(g,) = grad(task, x, create_graph={graph}, retain_graph=True)"
    assert found(body(f"{code}\nreturn task + g.norm()")) == [("training", code)]
    assert found(body(f"{code}\nreturn -g")) == []  # a force: its caller may train on it
    (tmp_path / "a.py").write_text(HEAD + body(f"{code}\nreturn task + g.norm()"), encoding="utf-8")
    done = run(tmp_path)
    assert (done.exit_code, "1 file, 0 findings, 1 note" in done.stdout) == (0, True)


@pytest.mark.parametrize(
    "page", [*sorted((ROOT / "docs" / "for").glob("*.md")), ROOT / "docs" / "question.md"], ids=lambda page: page.stem
)
def test_the_void_snippets_of_the_pages_are_found_and_the_right_ones_not(page):
    snippets = re.findall(r"```python\n# (void|right|ours)\b(.*?)```", page.read_text(encoding="utf-8"), re.S)
    assert {"void", "right", "ours"} == {label for label, _ in snippets}
    for label, code in snippets:
        assert bool(found(code, "import torch\n#")) == (label == "void"), code


def run(*arguments):
    return CliRunner().invoke(cli, ["scan", *map(str, arguments)])


VOID_FILE = HEAD + VOID["the recipe"][1]
RIGHT_FILE = HEAD + RIGHT["create_graph"][1]


def test_a_line_for_each_finding_and_the_exit_codes(tmp_path):
    bad, good = tmp_path / "bad.py", tmp_path / "good.py"
    bad.write_text(VOID_FILE, encoding="utf-8")
    good.write_text(RIGHT_FILE, encoding="utf-8")
    done = run(tmp_path)
    first, last = done.stdout.splitlines()
    number = 1 + next(n for n, line in enumerate(VOID_FILE.splitlines()) if "# <" in line)
    assert first.startswith(f"{bad}:{number}: `x.grad` is read after a backward()")
    assert f"the loss of line {number + 1} trains nothing; fix: " in first
    assert re.fullmatch(r"2 files, 1 finding, \d+\.\d s", last)
    assert (done.exit_code, run(good).exit_code, run(tmp_path, "--exclude", "bad*").exit_code) == (1, 0, 0)


def test_what_is_meant_is_silent(tmp_path):
    line = "    g = x.grad.clone()  # <\n"
    for text in (line.replace("<", "inputgrad: meant"), f"    # inputgrad: meant\n{line}"):
        (tmp_path / "a.py").write_text(VOID_FILE.replace(line, text), encoding="utf-8")
        assert run(tmp_path).exit_code == 0
    (tmp_path / "a.py").write_text(VOID_FILE + "# inputgrad: meant\n", encoding="utf-8")
    assert run(tmp_path).exit_code == 1


def test_a_file_that_is_no_python_is_told_and_the_others_are_scanned(tmp_path):
    (tmp_path / "bad.py").write_text(VOID_FILE, encoding="utf-8")
    broken = tmp_path / "broken.py"
    broken.write_text("import torch\nloss.backward(); x.grad\ndef f(:\n", encoding="utf-8")
    done = run(tmp_path)
    assert (done.exit_code, done.stderr.count("\n")) == (1, 1)
    assert done.stderr.startswith(f"warning: {broken}: line 3 is no Python 3")
    assert (run(broken).exit_code, run(broken, tmp_path / "bad.py").exit_code) == (2, 1)


def test_a_path_that_does_not_exist_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"nowhere: no such file or folder; fix: "):
        scan([tmp_path / "nowhere"])


def test_other_peoples_code_is_skipped_unless_it_is_named(tmp_path):
    for folder in (".venv/lib/site-packages/a", "node_modules", ".git", "src/__pycache__"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "bad.py").write_text(VOID_FILE, encoding="utf-8")
    assert scan([tmp_path]).files == 0
    assert len(scan([tmp_path / ".venv"]).findings) == 0  # site-packages lies below it
    assert len(scan([tmp_path / ".venv" / "lib" / "site-packages"]).findings) == 1


def test_a_notebook_names_cell_and_line(tmp_path):
    code = VOID["a step of a script"][1]
    cells = [("markdown", "# x.grad"), ("code", f"%matplotlib inline\n{HEAD}"), ("code", code)]
    whole = {"cells": [{"cell_type": kind, "source": text.splitlines(keepends=True)} for kind, text in cells]}
    (tmp_path / "a.ipynb").write_text(json.dumps(whole), encoding="utf-8")
    (finding,) = scan([tmp_path]).findings
    assert (finding.line, finding.loss) == ("3:5", "3:7")


def test_json_holds_the_same(tmp_path):
    (tmp_path / "bad.py").write_text(VOID_FILE, encoding="utf-8")
    whole = json.loads(run(tmp_path, "--json").stdout)
    (row,) = whole["findings"]
    assert (row["kind"], row["note"], whole["files"], whole["unread"]) == ("backward", False, 1, [])
    assert f"{row['file']}:{row['line']}: {row['message']}" == str(scan([tmp_path]).findings[0])


def test_neither_torch_nor_the_scanned_file_is_imported(tmp_path):
    (tmp_path / "bad.py").write_text(f"raise SystemExit(5)\n{VOID_FILE}", encoding="utf-8")
    code = (
        "import sys; from inputgrad.scan import scan\n"
        f"assert len(scan([{str(tmp_path)!r}]).findings) == 1\n"
        "assert not {'torch', 'numpy', 'bad'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", cwd=ROOT)
    assert done.returncode == 0, done.stderr
