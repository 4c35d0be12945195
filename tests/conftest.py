"""A project of its own for every test: two small studies in an empty folder."""

import gc
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from pipeline import layout
from pipeline.fingerprint import read_again

os.environ.setdefault("OMP_NUM_THREADS", "1")  # two workers of xdist with two threads each wait for each other
gc.set_threshold(100_000, 20, 100)
os.fsync = lambda _: None  # no test cuts the power, and thousands of small files would each wait for the disk

TINY = """\
data: {name: digits}
model: {name: mlp, hidden: [8], activation: silu}
training: {epochs: 3, batch_size: 256, learning_rate: 0.01, seeds: [0, 1]}
losses:
  standard: {}
  detached_norm: {strength: 0.3}
  gradient_norm: {strength: 0.3, p: 2}
  gradient_direction: {strength: 0.3}
  fgsm: {strength: 1.0, epsilon: 0.1, random_start: true}
attack:
  norm: linf
  epsilon: 0.1
  grid: [0.0, 0.1, 0.4]
  attacks: {noise: {}, fgsm: {}, pgd: {steps: 3, restarts: 2}, fab: {targets: 2, steps: 5}}
  at_epsilon: {square: {queries: 20}, apgd_ce: {steps: 5}}
"""
LOSSES = ("standard", "detached_norm", "gradient_norm", "gradient_direction", "fgsm")


def stages(*losses: str, study: str = "tiny") -> str:
    """The params.yaml of one study on the digits, as `python -m pipeline check --write` writes it."""
    lines = [f"  {study}-{loss}: {{study: {study}, loss: {loss}}}\n" for loss in losses]
    return (
        f"studies: [{study}]\n# written by: python -m pipeline check --write\n"
        f"per_loss:  # one train and one attack stage each\n{''.join(lines)}"
        "per_checkpoint: {}  # one stage for each net trained elsewhere\n"
    )


PARAMS = stages(*LOSSES)


def only(root: Path, *losses: str) -> None:
    """Let the study `tiny` of a project state these losses alone: for tests that run all of them."""
    file = root / "experiments/tiny.yaml"
    others = tuple(f"  {name}: " for name in LOSSES if name not in losses)
    lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
    file.write_text("".join(line for line in lines if not line.startswith(others)), encoding="utf-8")
    (root / "params.yaml").write_text(stages(*losses), encoding="utf-8")


def write_project(root: Path) -> None:
    """The study `tiny` in an empty folder."""
    (root / "experiments").mkdir()
    (root / "experiments" / "tiny.yaml").write_text(TINY)
    (root / "params.yaml").write_text(PARAMS)


NO_GPU = "no GPU here"
"""The only reason to skip a test."""

SLOW = ("test_repro", "test_whole_study", "test_kills", "test_search")
"""Files of minutes. They come first, so that no core waits for the last of them."""


SCALE = ("test_ray", "test_fleet", "test_postgres")
"""Files that need Ray or PostgreSQL: the marker `scale`, run by `make test-scale`."""


def gate_of(file: Path) -> str | None:
    """The marker of the tests that have a `make` target of their own, since they need more packages."""
    return "scale" if file.stem in SCALE else "stacks" if file.parent.name == "stacks" else None


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Without its marker such a file is not even imported: what it needs may not be installed."""
    gate = gate_of(collection_path)
    return True if gate is not None and config.option.markexpr != gate else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Slow files first; `make test` gives whole files to the cores in this order."""
    for item in items:
        if gate := gate_of(item.path):
            item.add_marker(gate)
    items.sort(key=lambda item: SLOW.index(item.path.stem) if item.path.stem in SLOW else len(SLOW))


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A test that is skipped for want of anything but a GPU fails the run: nobody would see what it tests break."""
    terminal = session.config.pluginmanager.get_plugin("terminalreporter")
    if terminal is None:  # in a worker of pytest-xdist
        return
    for report in terminal.stats.get("skipped", []):
        if NO_GPU not in str(report.longrepr):
            terminal.write_line(f"error: skipped, which only a test of a GPU may be: {report.nodeid}", red=True)
            session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty project with the study `tiny`, as the current folder; MLflow and states stay inside it."""
    monkeypatch.setattr("sys.path", [*sys.path])
    write_project(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    read_again()  # the last test may have had another file of the same name
    yield tmp_path
    for name, module in [*sys.modules.items()]:  # the next test may have another file of this name
        if (getattr(module, "__file__", None) or "").startswith(str(tmp_path)):
            del sys.modules[name]


@dataclass
class Done:
    """What a command left: its exit code and what it printed."""

    code: int
    out: str
    err: str


@pytest.fixture
def pipeline(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    """A function that runs `python -m pipeline …` in this process, in the current folder."""

    def run(*arguments: str) -> Done:
        from pipeline.cli import main

        monkeypatch.setattr("sys.argv", ["pipeline", *arguments])
        capfd.readouterr()
        code = 0
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
        return Done(code, *capfd.readouterr())

    return run


def edit(file: Path, old: str, new: str) -> None:
    """Replace a piece of a file that is known to be there."""
    text = file.read_text()
    assert old in text, f"{old!r} is not in {file}"
    file.write_text(text.replace(old, new))


def reseal(folder: Path) -> None:
    """List the files as they are now in the manifest: for tests of what a file holds, not of whether it is whole."""
    from pipeline import store
    from pipeline.fingerprint import Origin

    manifest = store.read_json(folder / layout.MANIFEST, "")
    store.seal(folder, Origin(**manifest["origin"]), [name for name in manifest["files"] if (folder / name).exists()])
