"""The command `inputgrad`: in any folder, for anybody's loss; 0, 1 or 2, and never 1 for a crash."""

import subprocess
import sys

import pytest

from inputgrad.cli import main
from tests.conftest import Done
from tests.inputgrad.test_public_names import loaded

MINE = """\
import torch
from torch import nn
from torch.nn import functional as F
from inputgrad import Context

def good(model, x, y):
    import helper  # found while it runs too
    x = x.detach().requires_grad_(True)
    losses = F.cross_entropy(model(x), y, reduction="none")
    g, = torch.autograd.grad(losses.sum(), x, create_graph=True)
    return losses.mean() + helper.WEIGHT * g.flatten(1).square().sum(1).mean()

class Good:
    def __call__(self, model, x, y):
        return good(model, x, y)

def void(model, x, y):
    x = x.detach().requires_grad_(True)
    loss = F.cross_entropy(model(x), y)
    loss.backward(retain_graph=True)
    return loss + 0.1 * x.grad.clone().norm()

def nothing(model, x, y):
    return F.cross_entropy(model(x), y)

def key(model, x, y):
    return {}["a key"]

def shapes(model, x, y):
    return F.cross_entropy(model(x[:, :2]), y)

def number(model, x, y):
    return F.cross_entropy(model(x), y).item()

def vector(model, x, y):
    return F.cross_entropy(model(x), y, reduction="none")

def leaves(model, x, y):
    raise SystemExit(1)

def two(outputs, y):
    return F.cross_entropy(outputs, y)

def net():
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))

class Net(nn.Sequential):
    def __init__(self):
        super().__init__(*net())

ready = net()

def unbuilt():
    return 1 / 0

def batch():
    return torch.randn(6, 4), torch.randint(3, (6,))

pair = batch()
with_context = (*pair, Context(direction=torch.randn(3, 4)))
three = (*pair, 3)
uneven = pair[0], pair[1][:5]
single = torch.tensor(1.0), torch.tensor(1)
"""


def place(piece):
    """Where MINE holds it, as a message says it."""
    (number,) = [n for n, line in enumerate(MINE.splitlines(), 1) if piece in line]
    return f"mine.py, line {number}: "


@pytest.fixture
def command(tmp_path, monkeypatch, capfd):
    """A function that runs `inputgrad ...` in a folder with a file of the user's, in this process."""
    files = {"mine": MINE, "helper": "WEIGHT = 0.1\n", "broken": "x = (\n", "ends": "raise SystemExit(1)\n"}
    files["needs"] = "import no_such_thing\n"
    files["lazy"] = "def __getattr__(name):\n    import no_such_thing\n"
    for name, text in files.items():
        (tmp_path / f"{name}.py").write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    for name in files:
        monkeypatch.delitem(sys.modules, name, raising=False)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["inputgrad", *arguments])
        capfd.readouterr()
        code = 0
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
        return Done(code, *capfd.readouterr())

    yield run
    for name in files:
        sys.modules.pop(name, None)


def audited(command, loss, model="mine:net", batch="mine:batch", *more):
    return command("audit", loss, "--model", model, "--batch", batch, *more)


@pytest.mark.parametrize(
    ("loss", "code", "piece"),
    [
        ("mine:good", 0, "training follows it"),
        ("mine:Good", 0, "training follows it"),
        ("mine:void", 1, "create_graph=True"),
        ("mine:nothing", 1, "does not depend on the input gradient"),
        ("mine:two", 1, "called as loss(model(x), y)"),
        ("inputgrad:GradientNorm", 0, "training follows it"),
        ("inputgrad:DetachedNorm", 1, "create_graph=True"),
    ],
)
def test_the_exit_code_is_the_verdict(command, loss, code, piece):
    done = audited(command, loss)
    assert (done.code, done.err) == (code, "")
    assert piece in done.out
    assert done.out.startswith(f"audit of {loss} on mine:net\n")
    assert sum(done.out.count(f"  {state:5}  ") for state in ("ok", "FAILS", "-")) == 12
    assert max(map(len, done.out.splitlines())) <= 100


@pytest.mark.parametrize("model", ["mine:net", "mine:Net", "mine:ready"])
@pytest.mark.parametrize("batch", ["mine:batch", "mine:pair"])
def test_models_and_batches_are_things_or_what_builds_them(command, model, batch):
    assert audited(command, "mine:good", model, batch).code == 0


def test_a_file_is_named_by_its_path(command, tmp_path, monkeypatch):
    """Whatever its name and folder are; what lies beside it is found when it imports."""
    folder = tmp_path / "some-where"
    folder.mkdir()
    (folder / "01_train.py").write_text(f"import beside\n{MINE}", encoding="utf-8")
    (folder / "beside.py").write_text("", encoding="utf-8")
    own = "some-where/01_train.py"
    done = audited(command, f"{own}:good", f"{own}:net", f"{own}:pair")
    assert (done.code, done.err) == (0, "")
    assert audited(command, "mine.py:void", f"{folder}/01_train.py:net").code == 1
    sys.modules.pop("beside")


def test_a_loss_that_needs_a_context_gets_it_from_the_batch(command):
    assert audited(command, "inputgrad:GradientDirection", batch="mine:with_context").code == 0
    assert audited(command, "inputgrad:GradientDirection").code == 2


@pytest.mark.parametrize(
    ("given", "pieces"),
    [
        (["mine:key"], [place('{}["a key"]'), "KeyError: 'a key'", "fix:"]),
        (["mine:shapes"], [place("x[:, :2]"), "shapes cannot be multiplied", "fix:"]),
        (["mine:number"], ["mine:number", "gives a float", "fix:"]),
        (["mine:vector"], ["mine:vector", "shape (6,)", "fix:"]),
        (["mine:leaves"], [place("SystemExit"), "SystemExit", "fix:"]),
        (["mine:goood"], ["mine.py has no 'goood'", "did you mean 'good'?"]),
        (["mine:pair"], ["mine:pair is a tuple", "fix:"]),
        (["broken:x"], ["broken.py, line 1", "SyntaxError", "fix:"]),
        (["needs:x"], ["needs.py, line 1", "No module named 'no_such_thing'", "fix:"]),
        (["lazy:x"], ["lazy.py, line 2", "No module named 'no_such_thing'", "fix:"]),
        (["ends:x"], ["ends.py, line 1", "SystemExit", "fix:"]),
        (["nowhere:x"], ["no module 'nowhere'", "fix:"]),
        (["folder/mine:good"], ["give MODULE:NAME"]),
        (["mine.py"], ["give MODULE:NAME"]),
        (["nowhere.py:x"], ["nowhere.py: no such file", "fix:"]),
        (["broken.py:x"], ["broken.py, line 1", "SyntaxError", "fix:"]),
        (["mine.py:goood"], ["mine.py has no 'goood'", "did you mean 'good'?"]),
        (["good"], ["give MODULE:NAME"]),
        (["mine:good", "mine:unbuilt"], [place("1 / 0"), "ZeroDivisionError", "fix:"]),
        (["mine:good", "mine:batch"], ["mine:batch gives a tuple", "fix:"]),
        (["mine:good", "mine:net", "mine:net"], ["mine:net gives a Sequential", "fix:"]),
        (["mine:good", "mine:net", "mine:three"], ["'tuple' object has no attribute", "fix:"]),
        (["mine:good", "mine:net", "mine:uneven"], [place("losses = F."), "batch_size (6)", "fix:"]),
        (["mine:good", "mine:net", "mine:single"], [place("losses = F."), "fix:"]),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) and ":" in value[0] else "",
)
def test_what_cannot_be_audited_is_one_line_and_code_2(command, given, pieces):
    done = audited(command, *given)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("error: ")
    assert done.err.count("\n") == 1, done.err
    for piece in pieces:
        assert piece in done.err


def test_the_whole_traceback_is_shown_on_request(command):
    done = audited(command, "mine:key", "mine:net", "mine:batch", "--traceback")
    assert done.code == 2
    assert 'return {}["a key"]' in done.err
    assert done.err.splitlines()[-1].startswith("error: ")


def test_a_strength(command):
    done = command("strength", "ross2018", "56234.13", "--batch-size", "256")
    assert done.code == 0
    assert "strength 109.832 here" in done.out
    assert "checked: " in done.out
    assert command("strength", "cure", "4", "--back").out.startswith("cure 4  =  strength 4 here")
    done = command("strength", "cuer", "4")
    assert (done.code, "did you mean 'cure'?" in done.err) == (2, True)


def test_help_loads_nothing_heavy():
    for arguments in (["--help"], ["audit", "--help"], ["scan", "--help"], ["strength", "--help"]):
        code = (
            "import contextlib, io; from inputgrad.cli import cli; out = io.StringIO()\n"
            f"with contextlib.redirect_stdout(out):\n    cli({arguments}, standalone_mode=False)\n"
            "assert 'Usage' in out.getvalue()"
        )
        assert loaded(code) == set()


def test_it_is_a_module_too(tmp_path):
    done = subprocess.run([sys.executable, "-m", "inputgrad", "audit"], capture_output=True, encoding="utf-8")
    assert done.returncode == 2
    assert "Missing argument" in done.stderr
