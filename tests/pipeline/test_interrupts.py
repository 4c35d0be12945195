"""Ctrl-C and SIGTERM: whatever a command is at, one line, exit code 130, no process and no half file left behind.

A small sample at moments that do not depend on how fast the machine is; benchmarks/interrupts.py has many.
"""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest

from pipeline.interrupts import LINE
from pipeline.tracking import live
from tests.conftest import edit
from tests.pipeline.test_cli import ROOT
from tests.pipeline.test_workers import wait_for

SAID = f"error: {LINE}\n"


def start(*arguments):
    """A Python process in a session of its own."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen([sys.executable, *arguments], env=environment, start_new_session=True, **pipes)


def listens(process):
    """It has come to our first line, and begins to import."""
    with open(f"/proc/{process.pid}/status", encoding="utf-8") as f:
        caught = next(line for line in f if line.startswith("SigCgt"))
    return int(caught.split()[1], 16) >> (signal.SIGTERM - 1) & 1


def has_workers(process):
    """They have been started, and import or wait."""
    return psutil.Process(process.pid).children()


def wrote(pattern):
    """It has come so far that such a file is there."""
    return lambda process: list(Path.cwd().glob(pattern))


TRAIN, SEARCH = ("train", "tiny", "gradient_norm"), ("search", "tiny", "gradient_norm")
EPOCH, STEP, TRIALS = ".state/*/history.csv", ".state/*/steps/*.parquet", "experiments/tiny/search/gradient_norm/*"


@pytest.mark.parametrize(
    ("arguments", "moment", "sign", "everybody"),
    [
        (("check",), listens, signal.SIGTERM, False),
        (TRAIN, listens, signal.SIGINT, True),
        ((*TRAIN, "--jobs", "2"), has_workers, signal.SIGTERM, False),
        ((*TRAIN, "--jobs", "2"), wrote(EPOCH), signal.SIGINT, True),
        (("run", "tiny", "--jobs", "1"), wrote(EPOCH), signal.SIGTERM, False),
        (("attack", "tiny", "standard", "--jobs", "2"), wrote(STEP), signal.SIGINT, True),
        ((*SEARCH, "--workers", "2"), wrote(TRIALS), signal.SIGTERM, False),
    ],
    ids=["check", "imports", "workers", "epochs", "no workers", "steps", "search"],
)
def test_a_command_ends_with_one_line(project, pipeline, arguments, moment, sign, everybody):
    assert pipeline("prepare", "tiny").code == 0
    if arguments[0] == "attack":
        assert pipeline("train", "tiny", "standard", "--jobs", "1").code == 0
        edit(project / "experiments/tiny.yaml", "pgd: {steps: 3,", "pgd: {steps: 1000000,")
    else:
        edit(project / "experiments/tiny.yaml", "epochs: 3", "epochs: 1000000")
    process = start("-m", "pipeline", *arguments)
    wait_for(lambda: process.poll() is not None or moment(process))
    assert process.poll() is None, process.communicate()
    workers = psutil.Process(process.pid).children(recursive=True)
    (os.killpg if everybody else os.kill)(process.pid, sign)
    _, errors = process.communicate()
    assert (process.returncode, errors) == (130, SAID)
    wait_for(lambda: not any(worker.is_running() for worker in workers))
    assert not list(project.rglob("*.tmp"))


SNIPPETS = {
    "swallowed": """
try:
    stop()
except BaseException:
    pass
while True:
    pass
""",
    "a wait that nothing ends": """
import threading
from pathlib import Path
threading.Thread(target=stop).start()
try:
    time.sleep(600)
finally:
    time.sleep(600)
""",
    "in __del__": """
class Thing:
    def __del__(self):
        stop()
Thing()
time.sleep(600)
""",
    "made an ImportError by a module": """
pathlib.Path("fragile.py").write_text('''
import os, signal
try:
    os.kill(os.getpid(), signal.SIGTERM)
except BaseException:
    raise ImportError("initialization failed")
''', encoding="utf-8")
import fragile
""",
    "made another error": """
try:
    stop()
except BaseException:
    raise SystemError("returned a result with an exception set")
""",
    "made another error of ours": """
from pipeline import cli
try:
    stop()
except BaseException:
    cli.fail("a worker process was killed")
""",
    "swallowed at the very end": """
try:
    stop()
except BaseException:
    pass
""",
    "in atexit": "atexit.register(stop)",
    "while something is started": """
with interrupts.held():
    stop()
    print("started")
print("not printed")
""",
}
HEAD = """
import atexit, os, pathlib, signal, sys, time
from pipeline import interrupts
interrupts.CPU_SECONDS = interrupts.SECONDS = 0.5
stop = lambda: os.kill(os.getpid(), signal.SIGTERM)
"""


@pytest.mark.parametrize("name", SNIPPETS)
def test_an_exception_that_gets_lost_changes_nothing(project, name):
    process = start("-c", f"{HEAD}interrupts.install()\n{SNIPPETS[name]}")
    output, errors = process.communicate()
    assert (process.returncode, errors) == (130, SAID)
    assert output == ("started\n" if "started" in name else "")


def test_after_the_last_function_of_a_command_its_exit_code_counts(project):
    process = start("-c", f"{HEAD}atexit.register(stop)\ninterrupts.install()\nsys.exit(3)")
    assert process.communicate() == ("", "")
    assert process.returncode == 3


def test_a_fork_ends_without_a_word_and_its_half_file_with_it(project):
    code = """
from inputgrad import files
interrupts.install()
if (child := os.fork()) == 0:
    with files.replacing(pathlib.Path("whole")) as temporary:
        temporary.touch()
        time.sleep(600)
while not list(pathlib.Path().glob(".*.tmp")):
    time.sleep(0.01)
os.kill(child, signal.SIGTERM)
os.waitpid(child, 0)
"""
    process = start("-c", HEAD + code)
    assert process.communicate() == ("", "")
    assert process.returncode == 0
    assert not list(project.glob(".*.tmp"))


def test_a_server_that_does_not_answer_does_not_hold_an_interrupt(monkeypatch):
    """MLflow hears of it, but not for long."""
    monkeypatch.setattr(live, "TIMEOUT", 0.1)
    answers, heard = threading.Event(), []

    def update(status):
        heard.append(status)
        answers.wait(60)
        heard.append("answered")

    def interrupted():
        with live.repeating(update, every=600):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    wait_for(lambda: heard)
    assert heard == ["KILLED"]
    answers.set()
