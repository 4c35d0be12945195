"""What the pages point at is there: their links, and the files of ours that they name."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("[!.]*/README.md")]
OLD = ROOT / "CHANGELOG.md"
"""It names what was there before, too."""


def missing(page: Path, text: str) -> list[str]:
    """Links (seen from the page) and files (seen from the root) that do not exist; NAME stands for any name."""
    links = [page.parent / link for link in re.findall(r"\]\(([^)#:\s]+)", text)]
    named = re.findall(r"`((?:inputgrad|pipeline|tests|benchmarks|examples|docs)/[\w./]+\.\w+)`", text)
    files = [ROOT / file for file in named if "NAME" not in file and "my_" not in file]
    return [str(path) for path in links + files if not path.exists()]


@pytest.mark.parametrize("page", [page for page in PAGES if page != OLD], ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_points_at_is_there(page):
    assert missing(page, page.read_text(encoding="utf-8")) == []


def test_a_file_that_moved_is_noticed():
    page = ROOT / "README.md"
    assert (
        len(missing(page, "[a](docs/nowhere.md), `pipeline/training.py`, `pipeline/data/NAME.py`, [b](LICENSE)")) == 2
    )
