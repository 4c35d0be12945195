"""Every snippet on docs/question.md and docs/for/: the void ones are void, the right ones right, as the page says."""

import re
from pathlib import Path

import pytest
import torch

from inputgrad import audit

DOCS = Path(__file__).parents[1] / "docs"
PAGES = [DOCS / "question.md", *sorted((DOCS / "for").glob("*.md"))]
BLOCK = re.compile(
    r"^```python\n# (setup|void|right|ours)\b[^\n]*\n(.*?)^```\n(.*?)(?=^```python|\Z)", re.MULTILINE | re.DOTALL
)
"""A snippet whose first word says what it is; `test_sentences.py` trains with it."""


def blocks(page):
    """(kind, code, what the page says of it up to the next one)."""
    return BLOCK.findall(page.read_text(encoding="utf-8"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_snippets_are_what_the_page_says(page):
    names, seen = {}, []
    for kind, code, text in blocks(page):
        exec(compile(code, str(page), "exec"), names)
        if kind == "setup":
            continue
        found = audit(names["loss"], names["model"], names["x"], names["y"], names.pop("context", None))
        said = re.search(r"Audit: \*\*(.+?)\*\*", text)
        assert said, f"{page.name}: no verdict behind\n{code}"
        assert found.kind == said[1], f"{page.name}:\n{code}\n{found}"
        assert found.depends == (kind != "void")
        seen.append(kind)
    assert {"void", "right", "ours"} <= set(seen)
    assert page.read_text(encoding="utf-8").count("```python") == len(blocks(page)), "a snippet without its kind"


def test_every_page_is_linked_from_the_question_and_the_question_from_the_readme():
    question = (DOCS / "question.md").read_text(encoding="utf-8")
    assert all(f"(for/{page.name})" in question for page in PAGES[1:])
    readme = (DOCS.parent / "README.md").read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)]+)\)", readme)
    assert links[0] == "docs/question.md"


def test_the_void_and_the_right_lines_of_the_readme():
    readme = (DOCS.parent / "README.md").read_text(encoding="utf-8")
    names = {}
    exec("import torch\nfrom torch.nn import functional as F", names)
    model, x, y = torch.nn.Linear(4, 3), torch.rand(5, 4), torch.randint(3, (5,))
    found = {}
    for kind, code, _ in BLOCK.findall(readme):
        exec(compile(code, "README.md", "exec"), names)
        found[kind] = audit(names["loss"], model, x, y).depends
    assert found == {"void": False, "right": True}
