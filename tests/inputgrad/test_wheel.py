"""The wheel, in an environment outside the repository that has its four requirements and nothing of a study."""

import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from dataclasses import dataclass
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
SNIPPET = next(
    block
    for block in re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.DOTALL)
    if "for x, y in batches" in block
)
BATCHES = """\
import torch
g = torch.Generator().manual_seed(0)
batches = [(torch.randn(8, 10, generator=g), torch.randn(8, 1, generator=g)) for _ in range(3)]
"""
MINE = """\
import torch
from torch import nn
from torch.nn import functional as F

def good(model, x, y):
    x = x.detach().requires_grad_(True)
    losses = F.cross_entropy(model(x), y, reduction="none")
    g, = torch.autograd.grad(losses.sum(), x, create_graph=True)
    return losses.mean() + 0.1 * g.flatten(1).square().sum(1).mean()

def void(model, x, y):
    x = x.detach().requires_grad_(True)
    loss = F.cross_entropy(model(x), y)
    loss.backward(retain_graph=True)
    return loss + 0.1 * x.grad.clone().norm()

def net():
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))

batch = torch.randn(6, 4), torch.randint(3, (6,))
"""
TYPED = """\
from inputgrad import Context, GradientNorm, audit
loss: GradientNorm = GradientNorm(strength=0.1, p="inf")
context: Context = Context(bounds=(0.0, 1.0))
verdict = audit("not a loss", "anything", 1, 2).depends
loss.no_such_thing
"""


def needed(names):
    """The distributions that `names` need to run here, themselves included."""
    found, todo = {}, [Requirement(name) for name in names]
    while todo:
        requirement = todo.pop()
        key = requirement.name.lower(), *sorted(requirement.extras)
        if key in found:
            continue
        found[key] = distribution(requirement.name)
        for inner in map(Requirement, found[key].requires or []):
            if not inner.marker or any(inner.marker.evaluate({"extra": e}) for e in ("", *requirement.extras)):
                todo.append(inner)
    return found.values()


@dataclass
class Fresh:
    """An environment, and an empty folder to work in."""

    folder: Path
    here: Path

    def run(self, *command, **options):
        """Run a program of the environment."""
        done = subprocess.run(
            [self.folder / "bin" / command[0], *command[1:]],
            cwd=self.here,
            env={"PATH": "/usr/bin:/bin", "HOME": str(self.here)},
            capture_output=True,
            encoding="utf-8",
            **options,
        )
        assert "Traceback" not in done.stderr, done.stderr
        return done


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built from a copy, so that nothing is left in the repository."""
    copy = tmp_path_factory.mktemp("copy")
    for name in ("inputgrad", "pipeline", "tests"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for file in (ROOT / "pyproject.toml", ROOT / "README.md", *ROOT.glob("LICENSE*")):
        shutil.copy(file, copy)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    build = ["wheel", "--quiet", "--no-deps", "--no-index", "--no-build-isolation", "--wheel-dir", "out", "."]
    done = subprocess.run([*pip, *build], cwd=copy, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (file,) = (copy / "out").glob("*.whl")
    return file


@pytest.fixture(scope="module")
def fresh(wheel, tmp_path_factory):
    """A new environment with the wheel in it; what it needs is linked from this one, which downloads nothing."""
    folder, here, links = (tmp_path_factory.mktemp(name) for name in ("env", "here", "links"))
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    for dist in needed(PROJECT["dependencies"]):
        for top in {file.parts[0] for file in dist.files if file.parts[0] not in ("..", "__pycache__")}:
            if not (links / top).exists():
                (links / top).symlink_to(dist.locate_file(top))
    (site,) = (folder / "lib").glob("python*/site-packages")
    (site / "links.pth").write_text(f"{links}\n", encoding="utf-8")
    pip = [sys.executable, "-m", "pip", "--python", folder / "bin" / "python", "--disable-pip-version-check"]
    done = subprocess.run(
        [*pip, "install", "--quiet", "--no-deps", "--no-index", wheel], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    (here / "mine.py").write_text(MINE, encoding="utf-8")
    return Fresh(folder, here)


def test_the_wheel_holds_the_library_and_nothing_else(wheel):
    inside = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    library = {str(f.relative_to(ROOT)) for f in (ROOT / "inputgrad").rglob("*.py")}
    assert inside == library | {"inputgrad/__init__.pyi", "inputgrad/py.typed"}


def test_the_packages_of_the_study_are_not_there(fresh):
    """Else the other tests here would show nothing."""
    for name in ("pandas", "scipy", "mlflow", "rich", "pyautoattack", "pipeline", "tests"):
        assert fresh.run("python", "-c", f"import importlib.util as i; print(i.find_spec('{name}'))").stdout == "None\n"


def test_the_loop_of_the_readme_runs_there(fresh):
    """Its import lines too: nothing but torch and the library is loaded."""
    code = f"{BATCHES}{SNIPPET}\nimport inputgrad; print(inputgrad.__file__, float(loss(model, x, y)))"
    done = fresh.run("python", "-c", code)
    assert done.returncode == 0, done.stderr
    file, value = done.stdout.split()
    assert Path(file).is_relative_to(fresh.folder)
    assert float(value) > 0


def test_the_audit_runs_there_on_anybodys_loss(fresh):
    for name, code, piece in (("good", 0, "training follows it"), ("void", 1, "create_graph=True")):
        done = fresh.run("inputgrad", "audit", f"mine:{name}", "--model", "mine:net", "--batch", "mine:batch")
        assert done.returncode == code, done.stderr
        assert piece in done.stdout
    assert fresh.run("python", "-m", "inputgrad", "strength", "cure", "4").stdout.startswith("cure 4  =  strength 4 ")


def test_every_public_name_is_there(fresh):
    """Those for attacks say what to install."""
    code = """
import inputgrad
for name in inputgrad.__all__:
    try:
        getattr(inputgrad, name)
    except ModuleNotFoundError as error:
        print(error)
print(inputgrad.__all__)
"""
    *needing, names = fresh.run("python", "-c", code).stdout.splitlines()
    assert "GradientNorm" in names
    assert needing == [
        f"inputgrad.{name} needs pandas; fix: pip install pandas pyarrow scipy pyautoattack foolbox"
        for name in ("Evaluation", "evaluate")
    ]


def test_a_type_checker_sees_the_types_of_the_wheel(fresh):
    """What is right passes, what is wrong is found: a package without py.typed would be `Any` throughout."""
    (fresh.here / "typed.py").write_text(TYPED, encoding="utf-8")
    mypy = [sys.executable, "-m", "mypy", "--strict", "--python-executable", fresh.folder / "bin" / "python"]
    done = subprocess.run([*mypy, "typed.py"], cwd=fresh.here, capture_output=True, encoding="utf-8")
    errors = re.findall(r"typed\.py:(\d+): error: .*\[([\w-]+)\]", done.stdout)
    wrong = [("4", "arg-type"), ("5", "attr-defined")]
    assert errors == wrong, done.stdout + done.stderr


def test_the_package_list_and_the_extras_are_complete():
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]["packages"]
    folders = {file.parent.relative_to(ROOT) for file in (ROOT / "inputgrad").rglob("*.py")}
    assert set(packages) == {".".join(folder.parts) for folder in folders}
    runs, _, _ = (ROOT / "requirements.in").read_text(encoding="utf-8").partition("# development")
    asked = {Requirement(line.partition("#")[0]).name for line in runs.splitlines() if line.partition("#")[0].strip()}
    extras = {Requirement(text).name for text in PROJECT["optional-dependencies"]["study"]}
    assert extras == asked - {Requirement(text).name for text in PROJECT["dependencies"]}
