"""Interrupt commands at moments spread over their whole lives: does each end with one line, 130 and no process left?

python -m benchmarks.interrupts [--moments N] [--commands NAME …]
"""

import argparse
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path

import psutil

from pipeline.interrupts import LINE
from tests.conftest import PARAMS, TINY

ROOT = Path(__file__).parents[1]

COMMANDS = {
    "train": ["train", "tiny", "gradient_norm"],
    "attack": ["attack", "tiny", "standard"],
    "search": ["search", "tiny", "gradient_norm", "--trials", "4", "--workers", "2"],
    "run": ["run", "tiny", "--jobs", "2"],
}
FIRST = 0.05
"""Seconds after the start at which the first signal is sent."""


def start(arguments, folder, mark=""):
    """The command in a session of its own, which its signals reach as those of a terminal do."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "INTERRUPTED": mark, "DVC_ROOT": str(folder)}
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    command = [sys.executable, "-m", "pipeline", *arguments]
    return subprocess.Popen(command, cwd=folder, env=environment, start_new_session=True, **pipes)


def finish(arguments, folder):
    """Seconds that the command takes."""
    begin = time.monotonic()
    process = start(arguments, folder)
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    return time.monotonic() - begin


def prepared(folder):
    """A tiny study with data and a trained `standard`."""
    (folder / "experiments").mkdir()
    (folder / "experiments/tiny.yaml").write_text(TINY, encoding="utf-8")
    (folder / "params.yaml").write_text(PARAMS, encoding="utf-8")
    finish(["prepare", "tiny"], folder)
    finish(["train", "tiny", "standard"], folder)
    return folder


def is_ready(process):
    """Whether Python has come to our first line: before it, nobody can do anything."""
    status = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8")
    caught = next(line for line in status.splitlines() if line.startswith("SigCgt"))
    return bool(int(caught.split()[1], 16) >> (signal.SIGTERM - 1) & 1)


def left(mark):
    """Processes that outlive their command by more than ten seconds."""
    deadline = time.monotonic() + 10
    while found := [p for p in psutil.process_iter() if has(p, mark)]:
        if time.monotonic() > deadline:
            return found
        time.sleep(0.1)
    return []


def has(process, mark):
    try:
        return process.environ().get("INTERRUPTED") == mark
    except psutil.Error:
        return False


def interrupt(arguments, folder, after, sign, everybody):
    """What became of one command: a kind, and words for a kind that must not be."""
    mark = uuid.uuid4().hex
    process = start(arguments, folder, mark)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(after)
    ready = process.poll() is not None or is_ready(process)
    sent = time.monotonic()
    if process.poll() is None:
        (os.killpg if everybody else os.kill)(process.pid, sign)
    try:
        output, errors = process.communicate(timeout=120)
    except subprocess.TimeoutExpired:
        process.kill()
        output, errors = process.communicate()
        errors += "(it did not end within two minutes)"
    seconds = time.monotonic() - sent
    orphans = left(mark)
    for orphan in orphans:
        orphan.kill()
    words = f"{sign.name} {'to all' if everybody else 'to one'} after {after:.2f} s: {process.returncode}, {errors!r}"
    half = [str(f.relative_to(folder)) for f in folder.rglob("*.tmp")]
    if orphans or half:
        return "left behind", f"{words}; processes {orphans}, files {half}", seconds
    if process.returncode == 130 and errors == f"error: {LINE}\n":
        return "stopped", "", seconds
    if process.returncode == 0 and not errors:
        return "finished", "", seconds
    return ("other" if ready else "no Python yet"), f"{words}, stdout {output[-200:]!r}", seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--moments", type=int, default=60, help="for each command")
    parser.add_argument("--commands", nargs="*", default=list(COMMANDS), choices=list(COMMANDS))
    options = parser.parse_args()
    print(
        "| command | life | moments | 130, the line | finished before | no Python yet | left behind | other | slowest |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    bad = []
    with tempfile.TemporaryDirectory() as place:
        (template := Path(place, "template")).mkdir()
        prepared(template)
        for name in options.commands:
            arguments = COMMANDS[name]
            life = finish(arguments, shutil.copytree(template, Path(place, f"{name}-whole")))
            counts, slowest = dict.fromkeys(("stopped", "finished", "no Python yet", "left behind", "other"), 0), 0.0
            for i in range(options.moments):
                folder = shutil.copytree(template, Path(place, f"{name}-{i}"))
                after = FIRST + (life - FIRST) * i / max(1, options.moments - 1)
                sign = (signal.SIGINT, signal.SIGTERM)[i % 2]
                kind, words, seconds = interrupt(arguments, folder, after, sign, everybody=i % 4 < 2)
                counts[kind] += 1
                slowest = max(slowest, seconds)
                if words:
                    bad.append(f"{name}: {kind}: {words}")
                    print(bad[-1], file=sys.stderr, flush=True)
                shutil.rmtree(folder)
            figures = " | ".join(str(count) for count in counts.values())
            print(f"| {name} | {life:.1f} s | {options.moments} | {figures} | {slowest:.1f} s |", flush=True)
    print("\n".join(["", *bad]))


if __name__ == "__main__":
    main()
