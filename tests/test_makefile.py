"""What the Makefile does besides calling commands: it hides no error, and makes the command `inputgrad`."""

import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MINE = """
import torch
from torch.nn import functional as F

def penalised(model, x, y):
    x = x.detach().requires_grad_(True)
    losses = F.cross_entropy(model(x), y, reduction="none")
    g, = torch.autograd.grad(losses.sum(), x, create_graph=True)
    return losses.mean() + 0.1 * g.flatten(1).square().sum(1).mean()

net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 3))
batch = torch.randn(6, 4), torch.randint(3, (6,))
"""


@pytest.fixture
def clone(tmp_path):
    """The library and the Makefile, with an environment that has what is installed here; nothing is downloaded."""
    root = tmp_path / "clone"
    root.mkdir()
    shutil.copytree(ROOT / "inputgrad", root / "inputgrad", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("Makefile", "pyproject.toml", "README.md", "LICENSE", "requirements.txt"):
        shutil.copy2(ROOT / name, root)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", root / ".venv"], check=True)
    (site,) = (root / ".venv/lib").glob("python*/site-packages")
    (site / "here.pth").write_text(f"{sysconfig.get_paths()['purelib']}\n", encoding="utf-8")
    (root / ".venv/bin/uv").symlink_to(Path(sysconfig.get_paths()["scripts"]) / "uv")
    (root / ".venv/installed").touch()  # the requirements, which are those of this environment
    return root


def test_setup_makes_the_command_of_the_readme(clone, tmp_path):
    done = subprocess.run(["make", "setup"], cwd=clone, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (
        "inputgrad audit my_file:my_loss --model my_file:net --batch my_file:batch" in (ROOT / "README.md").read_text()
    )
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "my_file.py").write_text(MINE, encoding="utf-8")
    words = "inputgrad audit my_file:penalised --model my_file:net --batch my_file:batch"
    line = f"source {clone}/.venv/bin/activate && type -P inputgrad && {words}"
    said = subprocess.run(["bash", "-c", line], cwd=elsewhere, capture_output=True, text=True)
    assert said.returncode == 0, said.stderr
    assert said.stdout.startswith(f"{clone}/.venv/bin/inputgrad\n")
    assert "training follows it" in said.stdout


def test_no_error_is_hidden():
    """`dvc --quiet` says nothing at all when it fails; a stream of errors is thrown away nowhere."""
    for line in (ROOT / "Makefile").read_text(encoding="utf-8").splitlines():
        assert not re.search(r"dvc .*(--quiet|-q\b)", line), line
        assert not re.search(r"2> ?/dev/null|2>&1|&> ?/dev/null|\|\| (true|:)", line), line
        assert not re.search(r"[^|]\|[^|]", line) or line.startswith(("\t@grep -hE", "#")), (
            f"a pipe hides a code: {line}"
        )


def test_what_dvc_cannot_do_is_said(tmp_path):
    """The recipe of `make study` in a folder that is no repository, with the two commands around it left out."""
    recipe = re.search(r"^study: .*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)[1]
    (line,) = [line for line in recipe.splitlines() if "dvc repro" in line]
    (tmp_path / "Makefile").write_text(f"SHELL := /bin/bash\nstudy:\n{line}\n", encoding="utf-8")
    path = f"{sysconfig.get_paths()['scripts']}:/usr/bin:/bin"
    done = subprocess.run(["make", "study"], cwd=tmp_path, capture_output=True, text=True, env={"PATH": path})
    assert done.returncode == 2
    assert "ERROR: you are not inside of a DVC repository" in done.stderr
