"""The example of docs/audit.md is a test that passes, as it stands there."""

from pathlib import Path

from inputgrad.audit.verdict import Kind

PAGE = (Path(__file__).parents[3] / "docs" / "audit.md").read_text(encoding="utf-8")


def test_the_example_runs():
    code = PAGE.split("```python\n")[1].split("```")[0]
    names = {}
    exec(compile(code, "test_my_loss.py", "exec"), names)
    names["test_my_loss_trains_on_the_input_gradient"]()


def test_the_page_lists_every_verdict():
    rows = [line.split("|")[1].strip() for line in PAGE.splitlines() if line.endswith(("True |", "False |"))]
    assert rows == list(Kind.__args__)
