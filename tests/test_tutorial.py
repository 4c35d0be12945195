"""The tutorial runs from its first cell to its last, and no output is kept in it that could be out of date."""

import json
from pathlib import Path

import matplotlib
import pytest

NOTEBOOK = Path(__file__).parents[1] / "docs" / "tutorial.ipynb"


def cells():
    return [cell for cell in json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]


def test_every_cell_runs_and_its_claims_hold(capsys):
    matplotlib.use("Agg")
    names = {}
    for cell in cells():
        exec(compile("".join(cell["source"]), NOTEBOOK.name, "exec"), names)
    said = capsys.readouterr().out
    assert "What to write" in said or "create_graph" in said
    assert names["gradient_norm"](names["with_void"]) > 0.5 * names["gradient_norm"](names["without"])
    assert said.count("robust") >= 2


def test_the_claims_can_fail():
    names = {}
    first, *rest = cells()
    exec(compile("".join(first["source"]), NOTEBOOK.name, "exec"), names)
    audit = next("".join(cell["source"]) for cell in rest if "assert not found.depends" in "".join(cell["source"]))
    names["void"] = names["inputgrad"].GradientNorm(strength=1.0)
    with pytest.raises(AssertionError):
        exec(compile(audit, NOTEBOOK.name, "exec"), names)


def test_no_output_is_kept():
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in cells())
