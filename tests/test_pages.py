"""The pages of the losses say what the code says now."""

from pathlib import Path

from pipeline import pages, rooms

ROOT = Path(__file__).parent.parent


def test_the_committed_pages_are_what_the_code_generates(tmp_path):
    for file in pages.write(tmp_path):
        kept = ROOT / "docs" / "losses" / file.name
        assert kept.read_text() == file.read_text(), f"{file.name} is out of date: python -m pipeline docs"
    assert {f.name for f in (ROOT / "docs" / "losses").glob("*.md")} == {f.name for f in tmp_path.glob("*.md")}


def test_every_page_has_formula_source_and_use():
    for name in rooms.names("losses"):
        text = pages.page(name)
        assert "mean(l_i)" in text
        assert f"  {name}: {{" in text
        if name not in ("standard", "detached_norm"):
            assert "Source:" in text
            assert "Cost:" in text
            assert "Helps" in text


def test_the_readme_links_every_loss():
    readme = (ROOT / "README.md").read_text()
    for name in rooms.names("losses"):
        assert f"docs/losses/{name}.md" in readme
