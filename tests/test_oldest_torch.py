"""The oldest torch: one number in pyproject.toml, in README and in what `make test-oldest` installs."""

import re
import subprocess
import tomllib
from pathlib import Path

import torch
from packaging.requirements import Requirement

from inputgrad import step

ROOT = Path(__file__).parents[1]


def bound():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (requirement,) = (r for r in map(Requirement, project["dependencies"]) if r.name == "torch")
    (only,) = requirement.specifier
    assert only.operator == ">="
    return only.version


def test_the_readme_states_the_bound_of_the_package():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert re.findall(r"torch (\d+\.\d+) or newer", readme) == [bound()]


def test_make_installs_the_bound_of_the_package():
    command = ["make", "--dry-run", "--always-make", "test-oldest"]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    (script,) = re.findall(r"\$\((sed .*? pyproject\.toml)\)", said)
    found = subprocess.run(["bash", "-c", script], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert found.strip() == bound()


def test_every_page_states_the_torch_of_the_compiled_step():
    pages = {page: (ROOT / page).read_text(encoding="utf-8") for page in ("README.md", "docs/faq.md")}
    for page, text in pages.items():
        (line,) = (line for line in text.splitlines() if "CompiledStep" in line and "torch 2" in line)
        assert re.findall(r"torch (\d+\.\d+)", line) == [step.COMPILES], page
    assert f"needs torch {step.COMPILES} " in step.CompiledStep.__doc__
    assert torch.__version__ >= step.COMPILES
