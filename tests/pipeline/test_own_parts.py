"""Parts of one's own: a loss, a net, a data set and an attack in a package of the project's folder, named by `use`."""

import inspect
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from inputgrad import losses, registry
from inputgrad.errors import UserError
from inputgrad.robustness.attacking import plan
from pipeline import dvc, fingerprint, imports
from pipeline.study import checks
from pipeline.study.code import modules
from pipeline.study.params import check_all
from pipeline.study.read import read_study
from pipeline.study.run import Run
from tests.conftest import edit

ROOT = Path(__file__).parents[2]

PACKAGE = {
    "__init__": "",
    "_words": "factor = 1.0\n",
    "terms": '''
from inputgrad.gradients.forward import Forward, rows
from inputgrad.losses import Loss
from mypackage import _words

class MyLoss(Loss):
    """A loss."""
    power: int = 4
    def term(self, at: Forward):
        return _words.factor * rows(at.gradient()).norm(dim=1) ** self.power

def inside():
    class Hidden(Loss):
        def term(self, at: Forward):
            return at.losses
    return Hidden

Hidden = inside()
number = 3
''',
    "nets": """
from math import prod
from torch import nn

def build(shape, outputs, *, width: int = 3):
    return nn.Sequential(nn.Flatten(), nn.Linear(prod(shape), width), nn.SiLU(), nn.Linear(width, outputs))

def untyped(shape, outputs, *, width=3):
    return build(shape, outputs)

def one(shape):
    return build(shape, 10)
""",
    "images": """
from pipeline.data import digits
TASK, BOUNDS = "classification", (0.0, 1.0)

def load(*, seed: int = 1):
    return digits.load(split_seed=seed)
""",
    "shift": """
from inputgrad.attacks import Traits
TRAITS = Traits(black_box=True)

def perturb(model, x, y, threat, draws, *, by: float = 1.0):
    moved = x + by * threat.epsilon
    return moved if threat.bounds is None else moved.clamp(*threat.bounds)
""",
    "poor": "TRAITS = 3\nTASK = 'clustering'\nBOUNDS = 1\ndef load(where): ...\ndef perturb(model): ...\n",
    "near": """
from mypackage.shift import TRAITS, perturb
nearest = 3
""",
    "broken": "import there_is_no_such_library\n",
    "crash": "1 / 0\n",
    "syntax": "def f(:\n",
    "ends": "raise SystemExit(0)\n",
}
USES = [
    ("data: {name: digits}", 'data: {name: my_data, use: "mypackage.images"}'),
    (
        "model: {name: mlp, hidden: [8], activation: silu}",
        'model: {name: my_net, use: "mypackage.nets:build", width: 4}',
    ),
    ("losses:\n", 'losses:\n  my_loss: {use: "mypackage.terms:MyLoss", strength: 0.1}\n'),
    ("attacks: {", 'attacks: {my_attack: {use: "mypackage.shift", by: 0.5}, '),
    ("at_epsilon: {", 'at_epsilon: {my_last: {use: "mypackage.shift"}, '),
]


@pytest.fixture
def project(project, monkeypatch):
    """With the package `mypackage`, which no test before it has imported."""
    (project / "mypackage").mkdir()
    for name, text in PACKAGE.items():
        (project / f"mypackage/{name}.py").write_text(text, encoding="utf-8")
    before, path = set(sys.modules), list(sys.path)
    imports.top.cache_clear()
    subprocess.run(["git", "init", "-q"], check=True)
    yield project
    for name in {*sys.modules} - before:
        if name.partition(".")[0] in ("mypackage", "alone"):
            del sys.modules[name]
    sys.path[:] = path
    sys.path_importer_cache.clear()


def with_own_parts(project):
    for old, new in USES:
        edit(project / "experiments/tiny.yaml", old, new)
    return read_study("tiny")


def test_all_four_kinds_are_found_in_the_folder_of_the_project(project):
    study = with_own_parts(project)
    assert study.losses["my_loss"].strength == 0.1
    assert study.losses["my_loss"].power == 4
    assert study.data_module.__name__ == "mypackage.images"
    assert study.model_function.__module__ == "mypackage.nets"
    assert study.attack.module("my_attack").__name__ == study.attack.module("my_last").__name__ == "mypackage.shift"
    assert study.attack.traits("my_attack").black_box
    assert study.task.name == "classification"


def test_settings_say_what_is_used_and_those_of_shipped_parts_say_nothing_new(project):
    before = Run(read_study("tiny"), "gradient_norm", 0).settings
    assert before["data"] == {"name": "digits", "split_seed": 0, "shares": [0.6, 0.2, 0.2]}
    plain = {"initial": "torch", "last_bias": True}
    assert before["model"] == {"name": "mlp", "hidden": [8], "activation": "silu", **plain}
    assert "use" not in json.dumps(before)
    study = with_own_parts(project)
    settings = Run(study, "my_loss", 0).settings
    assert (
        settings["loss"].items()
        >= {"name": "my_loss", "use": "mypackage.terms:MyLoss", "strength": 0.1, "power": 4}.items()
    )
    assert settings["model"] == {"name": "my_net", "use": "mypackage.nets:build", "width": 4}
    assert settings["data"] == {"name": "my_data", "use": "mypackage.images", "seed": 1}
    dumped = study.attack.model_dump(mode="json")
    assert dumped["attacks"]["my_attack"] == {"use": "mypackage.shift", "by": 0.5}
    assert dumped["attacks"]["pgd"] == {"steps": 3, "restarts": 2}


def watched(stage: str, key: str) -> str:
    """What DVC holds a stage against."""
    fingerprint.read_again()
    return dvc.current()[stage][key]


def test_own_code_is_watched_by_dvc_and_counts_as_code(project):
    study = with_own_parts(project)
    check_all(write=True)
    train = {"mypackage.terms:MyLoss", "mypackage.nets:build", "mypackage.images"}
    assert train <= set(modules("train", study.parts, "my_loss"))
    assert "mypackage.shift" in modules("attack", study.parts, "my_loss")
    stages = (("train", "tiny-my_loss"), ("train", "tiny-fgsm"), ("attack", "tiny-fgsm"), ("prepare", "tiny"))
    uses = {"_words": "1", "terms": "1", "nets": "111", "images": "1111", "shift": "0010"}
    before = {stage: watched(*stage) for stage in stages}
    for name, changed in uses.items():
        edit(project / f"mypackage/{name}.py", PACKAGE[name], PACKAGE[name] + "\nedited = 1\n")
        found = "".join(str(int(watched(*stage) != before[stage])) for stage in stages)
        expected = {"nets": "1110"}.get(name, changed.ljust(4, "0"))
        edit(project / f"mypackage/{name}.py", PACKAGE[name] + "\nedited = 1\n", PACKAGE[name])
        assert found == expected, name


def test_a_module_that_only_hands_on_a_part_counts(project):
    """`use` names it: it may change what it hands on."""
    with_own_parts(project)
    (project / "mypackage/door.py").write_text("from mypackage.terms import MyLoss\n")
    edit(project / "experiments/tiny.yaml", "mypackage.terms:MyLoss", "mypackage.door:MyLoss")
    run = Run(read_study("tiny"), "my_loss", 0)
    found = fingerprint.closure(modules("train", run.study.parts, "my_loss")).ours
    assert {"mypackage.door", "mypackage.terms", "mypackage._words"} <= set(found)
    again = pickle.loads(pickle.dumps(run))
    assert again.study.parts == run.study.parts


def test_own_attacks_may_come_from_several_packages(project):
    with_own_parts(project)
    (project / "alone.py").write_text(PACKAGE["shift"])
    edit(project / "experiments/tiny.yaml", 'my_last: {use: "mypackage.shift"}', 'my_last: {use: "alone"}')
    [study] = check_all(write=True)
    assert {"alone", "mypackage.shift"} <= set(study.parts.attacks)


def test_an_own_attack_is_planned_with_its_knobs(project):
    steps = {(s.attack, s.epsilon): s for s in plan(with_own_parts(project).attack)}
    step = steps["my_attack", 0.4]
    assert (step.module.__name__, step.knobs, step.sees_all_examples) == ("mypackage.shift", {"by": 0.5}, False)
    assert steps["my_last", 0.1].knobs == {}


def test_a_shipped_class_may_run_a_second_time_under_another_name(project):
    edit(project / "experiments/tiny.yaml", "losses:\n", 'losses:\n  strong: {use: "inputgrad.losses.fgsm:FGSM"}\n')
    study = read_study("tiny")
    assert type(study.losses["strong"]) is losses.load("fgsm")
    assert study.parts.losses["strong"] == ("inputgrad.losses.fgsm:FGSM",)


def test_another_process_finds_the_parts(project):
    study = with_own_parts(project)
    (project / "run.pickle").write_bytes(pickle.dumps(Run(study, "my_loss", 0)))
    code = "import pickle; run = pickle.load(open('run.pickle', 'rb')); print(run.loss.power, run.study.model_function)"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(project)])}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.stdout.startswith("4 <function build"), done.stderr


LOSS, NET, DATA = '"mypackage.terms:MyLoss"', '"mypackage.nets:build"', '"mypackage.images"'
ATTACK = '"mypackage.shift", by'
MISTAKES = [
    (
        LOSS,
        "mypackage.trems:MyLoss",
        r"losses: my_loss\.use: no module 'mypackage\.trems' in this folder, and none instal",
    ),
    (LOSS, "nopackage.terms:MyLoss", r"losses: my_loss\.use: no module 'nopackage' in this folder, and none installed"),
    (
        LOSS,
        "mypackage.terms:MyLos",
        r"losses: my_loss\.use: .*/mypackage/terms\.py has no 'MyLos'; did you mean 'MyLoss'\?",
    ),
    (LOSS, "mypackage.terms", r"losses: my_loss\.use: mypackage\.terms is no class of a loss; fix: name a class"),
    (LOSS, "mypackage.terms:number", r"losses: my_loss\.use: mypackage\.terms:number is no class of a loss"),
    (LOSS, "inputgrad.losses:Loss", r"losses: my_loss\.use: inputgrad\.losses:Loss is no class of a loss"),
    (
        LOSS,
        "mypackage.terms:Hidden",
        r"losses: my_loss\.use: .*cannot be found in another process; fix: define the class",
    ),
    (
        LOSS,
        "mypackage/terms.py:MyLoss",
        r"losses: my_loss\.use: 'mypackage/terms\.py:MyLoss' is no path to a module; fix: ",
    ),
    (
        LOSS,
        "mypackage.terms:MyLoss.x",
        r"losses: my_loss\.use: .* is no path to a module; fix: write mypackage\.module",
    ),
    (LOSS, "", r"losses: my_loss\.use: '' is no path to a module; fix: write mypackage\.module or"),
    (
        LOSS,
        "mypackage.broken:MyLoss",
        r"losses: my_loss\.use: importing mypackage\.broken fails \(ModuleNotFoundError: .*lib",
    ),
    (
        LOSS,
        "mypackage.crash:MyLoss",
        r"losses: my_loss\.use: importing mypackage\.crash fails \(ZeroDivisionError: .*fix: ",
    ),
    (LOSS, "mypackage.ends:MyLoss", r"losses: my_loss\.use: importing mypackage\.ends fails \(SystemExit: 0\); fix: "),
    (
        LOSS,
        "mypackage.syntax:MyLoss",
        r"losses: my_loss\.use: importing mypackage\.syntax fails \(SyntaxError: .*syntax\.py",
    ),
    (
        'my_loss: {use: "mypackage.terms:MyLoss"',
        'my_loss: {use: "mypackage.terms:MyLoss", pwer: 2',
        r"unknown key 'losses\.my_loss\.pwer'; did you mean 'power'\?",
    ),
    ("my_loss: {use:", "my_loss: {uses:", r"losses: no 'my_loss' in inputgrad/losses/"),
    (
        "my_loss: {use:",
        "pgd: {use:",
        r"losses: pgd\.use: inputgrad/losses/pgd\.py and mypackage\.terms:MyLoss have one name; fix: give yours",
    ),
    (
        NET,
        "mypackage.nets:bild",
        r"model\.name: my_net\.use: .*/mypackage/nets\.py has no 'bild'; did you mean 'build'\?",
    ),
    (
        NET,
        "mypackage.nets",
        r"model\.name: my_net\.use: mypackage\.nets is no function build\(shape, outputs, \*, \.\.\.\)",
    ),
    (NET, "mypackage.nets:one", r"model\.name: my_net\.use: mypackage\.nets:one is no function build"),
    (NET, "mypackage.nets:untyped", r"mypackage\.nets\.untyped: its parameters have no types .*'width'"),
    ("width: 4", "widht: 4", r"unknown key 'model\.widht'; did you mean 'width'\?"),
    (
        "name: my_net",
        "name: cnn",
        r"model\.name: cnn\.use: pipeline/models/cnn\.py and mypackage\.nets:build have one name",
    ),
    (DATA, "mypackage.images:load", r"data\.name: my_data\.use: this names a thing in a module; fix: name the module"),
    (
        DATA,
        "mypackage.poor",
        r"data\.name: my_data\.use: mypackage\.poor has no such TASK as is needed; fix: write TASK = 'class",
    ),
    (DATA, "mypackage.terms", r"data\.name: my_data\.use: mypackage\.terms has no such TASK as is needed"),
    (
        "name: my_data",
        "name: digits",
        r"data\.name: digits\.use: pipeline/data/digits\.py and mypackage\.images have one name",
    ),
    (
        ATTACK,
        '"mypackage.poor", by',
        r"attack\.attacks: my_attack\.use: mypackage\.poor has no such TRAITS as is needed; fix: write TRAITS",
    ),
    (
        ATTACK,
        '"mypackage.near", by',
        r"attack\.attacks: my_attack\.use: mypackage\.near has no such nearest as is needed; fix: write a func",
    ),
    ("by: 0.5", "bye: 0.5", r"unknown key 'attack\.attacks\.my_attack\.bye'; did you mean 'by'\?"),
    ("by: 0.5", "by: far", r"attack\.attacks\.my_attack\.by: .*number"),
    ("my_attack:", "transfer:", r"attack\.attacks: 'transfer' means something else; fix: another name"),
    (
        "my_attack:",
        "square:",
        r"attack\.attacks: square\.use: inputgrad/attacks/square\.py and mypackage\.shift have one name",
    ),
    (
        'my_last: {use: "mypackage.shift"}',
        'my_attack: {use: "mypackage.other"}',
        r"attack\.at_epsilon: my_attack\.use: no module 'mypackage\.oth",
    ),
    (
        'my_last: {use: "mypackage.shift"}',
        'my_attack: {use: "mypackage.late"}',
        r"attack\.at_epsilon\.my_attack\.use is not that of attack\.attacks",
    ),
]


@pytest.mark.parametrize(("old", "new", "message"), MISTAKES, ids=[new[:40] for _, new, _ in MISTAKES])
def test_a_mistake_in_the_path_of_a_part_is_one_line(project, old, new, message):
    with_own_parts(project)
    (project / "mypackage/late.py").write_text(PACKAGE["shift"])
    edit(project / "experiments/tiny.yaml", old, f'"{new}"' if old in (LOSS, NET, DATA) else new)
    with pytest.raises(UserError, match=rf"^experiments/tiny\.yaml: {message}") as error:
        read_study("tiny")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("kind", "package"), [("attack", "inputgrad.attacks"), ("data_set", "pipeline.data"), ("model", "pipeline.models")]
)
def test_every_shipped_part_offers_what_one_s_own_must(kind, package):
    for name in registry.names(package):
        found = getattr(checks, kind)(name, None)
        assert found is not None
        assert inspect.getmodule(found) is registry.module(package, name) or found is registry.module(package, name)
