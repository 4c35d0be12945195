"""The pages of the losses and the README say what the code says and does now."""

import re
from pathlib import Path

import pytest
import torch
from torch import nn

from inputgrad import losses, registry
from pipeline import pages

ROOT = Path(__file__).parents[2]
COMMITTED = sorted((ROOT / "docs" / "losses").glob("*.md"))
README = (ROOT / "README.md").read_text()


def python_blocks():
    """The Python code of the README, block by block."""
    return re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


@pytest.mark.parametrize("file", COMMITTED, ids=[f.stem for f in COMMITTED])
def test_a_committed_page_is_what_the_code_generates(file, tmp_path):
    pages.write(tmp_path)
    fix = "out of date: python -m pipeline docs"
    if file.name == "README.md":  # a loss of one's own may be missing from it
        assert set(file.read_text().splitlines()) <= set((tmp_path / file.name).read_text().splitlines()), fix
    else:
        assert file.read_text() == (tmp_path / file.name).read_text(), fix


def test_every_page_has_formula_source_and_use():
    for file in COMMITTED:
        name = file.stem
        if name == "README":
            continue
        text = pages.page(name)
        assert "mean(l_i)" in text
        assert f"  {name}: {{" in text
        if name not in ("standard", "detached_norm"):
            for word in ("Source:", "Cost:", "Helps"):
                assert word in text, (name, word)


@pytest.mark.parametrize("name", [f.stem for f in COMMITTED if f.stem != "README"])
def test_the_example_of_a_page_imports_from_the_top_and_runs(name):
    example = re.search(r"```python\n(from inputgrad import .*?)```", pages.page(name), flags=re.DOTALL)[1]
    x, y = torch.rand(4, 6), torch.tensor([0, 1, 2, 1])
    scope = {"model": nn.Linear(6, 3), "x": x, "y": y, "direction": torch.rand(3, 6), "mask": torch.ones(6)}
    if losses.load(name).tasks == ("regression",):
        scope |= {"model": nn.Linear(6, 1), "y": torch.rand(4, 1), "derivative": torch.rand(4)}
        scope |= dict.fromkeys(("target_gradient", "derivative_direction"), torch.rand(4, 6))
    exec(example, scope)
    assert scope["model"].weight.grad.norm() > 0


def test_a_loss_without_a_public_name_is_imported_from_its_file(monkeypatch):
    monkeypatch.setattr("inputgrad.__all__", [])
    assert pages.importing("pgd") == "from inputgrad.losses.pgd import PGD"


def test_the_readme_links_every_page_and_no_other():
    linked = set(re.findall(r"\(docs/losses/(\w+)\.md\)", README))
    assert linked == {f.stem for f in COMMITTED} - {"README"}


def test_the_loop_of_the_readme_runs_without_the_rest_of_the_pipeline():
    loop = next(block for block in python_blocks() if "for x, y in batches" in block)
    g = torch.Generator().manual_seed(0)
    batches = [(torch.randn(8, 10, generator=g), torch.randn(8, 1, generator=g)) for _ in range(3)]
    torch.manual_seed(0)
    scope = {"batches": batches}
    exec(loop, scope)
    torch.manual_seed(0)
    before = nn.Sequential(nn.Linear(10, 32), nn.SiLU(), nn.Linear(32, 1)).state_dict()
    assert all(not torch.equal(v, before[k]) for k, v in scope["model"].state_dict().items())
    assert len(loop.strip().splitlines()) <= 12


def test_the_commands_of_the_readme_exist():
    from inputgrad.cli import cli as library
    from pipeline.cli import cli

    named = set(re.findall(r"python -m pipeline (\w+)", README))
    assert named <= set(cli.commands)
    assert set(re.findall(r"(?:^|`)inputgrad (\w+)", README, flags=re.MULTILINE)) == set(library.commands)
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    assert set(re.findall(r"make ([\w-]+)", README)) <= targets


def test_every_room_of_the_readme_is_there():
    for path in re.findall(r"(?:pipeline|inputgrad|docs|benchmarks)/\w+(?:/|\.\w+)", README):
        if "my_loss" not in path:
            assert (ROOT / path).exists(), path
    assert registry.names("inputgrad.losses")
