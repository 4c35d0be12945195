"""Does a killed stage end with the same bytes? nice python -m benchmarks.kills [moments a kind] (about 10 minutes)

SIGKILL to the process group of train, attack and report of a study of seconds: before chosen file operations (renaming,
flushing, linking, deleting: saving an epoch or a step, sealing, publishing), before chosen forward passes (inside
epochs and attack steps), and after random times with two workers, twice in a row. Then the same command runs to its
end, and every file of outputs and state is compared with that of a run that nobody killed.
Each command is a fork of this process, which has imported everything and run nothing: 60 kills need no 60 imports.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import chdir, nullcontext
from itertools import count
from pathlib import Path
from typing import Any

import pandas as pd
import torch._dynamo  # the train command imports it

from benchmarks import small_study as small
from benchmarks.small_study import LOSS, NAME, Files
from pipeline import tracking
from pipeline.cli import main as command_line
from pipeline.report import page  # noqa: F401  so that no fork has to import it
from pipeline.results import summary  # noqa: F401
from pipeline.tracking import live
from pipeline.workers import local

WATCHED: dict[str, list[tuple[Any, str]]] = {
    "file operation": [(os, name) for name in ("replace", "fsync", "link", "unlink", "rmdir", "mkdir")],
    "forward pass": [(torch.nn.Linear, "forward")],
}
STAGES: dict[str, list[str]] = {name: [name, NAME, LOSS, "--jobs"] for name in ("train", "attack")}
STAGES["report"] = ["report", NAME]


def in_child(action: Callable[[], object], said: Path) -> int:
    """Run `action` in a process group of its own, its output in a file; returns the process."""
    process = os.fork()
    if process:
        return process
    os.setsid()
    with said.open("w") as out:
        os.dup2(out.fileno(), 1), os.dup2(out.fileno(), 2)
    code = 1
    try:
        action()
        code = 0
    except SystemExit as end:
        code = int(end.code or 0)
    finally:
        sys.stdout.flush(), sys.stderr.flush()
        os._exit(code)


def command(stage: str, jobs: int) -> Callable[[], None]:
    """python -m pipeline STAGE …, but for MLflow, which is a view."""

    def run() -> None:
        local.fresh = True
        live.following = lambda *_: nullcontext()
        tracking.mirror = tracking.catch_up = lambda *_: None
        sys.argv = ["pipeline", *STAGES[stage], *([str(jobs)] if stage != "report" else [])]
        command_line()

    return run


def watched(kind: str, action: Callable[[], object], kill_at: int = 0, counted: Path | None = None) -> None:
    """Run `action`, and kill this process group before call number `kill_at` of the functions of that kind."""
    numbers, last = count(1), 0

    def counting(function: Callable[..., object]) -> Callable[..., object]:
        def call(*args: Any, **kwargs: Any) -> object:
            nonlocal last
            last = next(numbers)
            if last == kill_at:
                os.killpg(0, signal.SIGKILL)
            return function(*args, **kwargs)

        return call

    for owner, name in WATCHED[kind]:
        setattr(owner, name, counting(getattr(owner, name)))
    action()
    if counted:
        counted.write_text(str(last))


def ended(process: int) -> bool:
    """Wait for a process; whether it was killed. Anything but success or SIGKILL is an error of the product."""
    status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    assert status in (0, -signal.SIGKILL), f"exit code {status}"
    return status != 0


def attempts(stage: str, moments: int, said: Path, start: Files, generator: random.Random) -> list[tuple[str, Any]]:
    """The moments of a stage: (kind, number of the call), or ("time", seconds)."""
    found: list[tuple[str, Any]] = []
    counted = said.with_name("counted")
    for kind in WATCHED:
        small.put(start)
        ended(in_child(lambda kind=kind: watched(kind, command(stage, 1), counted=counted), said))
        calls = int(counted.read_text())
        found += [(kind, 1 + calls * n // moments) for n in range(min(moments, calls))]
    small.put(start)
    begun = time.monotonic()
    ended(in_child(command(stage, 2), said))
    duration = time.monotonic() - begun
    return found + [("time", generator.uniform(0, duration)) for _ in range(moments)]


def kill(stage: str, kind: str, moment: Any, said: Path) -> int:
    """Run a stage and kill it at a moment; returns how often it was."""
    if kind != "time":
        return ended(in_child(lambda: watched(kind, command(stage, 1), kill_at=moment), said))
    kills = 0
    for _ in range(2):
        process = in_child(command(stage, 2), said)
        time.sleep(moment)
        os.killpg(process, signal.SIGKILL)
        kills += ended(process)
    return kills


def row(stage: str, moments: int, said: Path, finished: Files, states: Sequence[str]) -> dict[str, int]:
    """Every moment of one stage, and what the same command made of it afterwards."""
    away = [*small.outputs(stage, LOSS), *map(Path, states)]
    start = {name: contents for name, contents in finished.items() if not small.inside(name, away)}
    counts = dict.fromkeys(("moments", "kills", "found work to resume", "other bytes", "leftovers", "notes"), 0)
    for kind, moment in attempts(stage, moments, said, start, random.Random(0)):
        small.put(start)
        counts["moments"] += 1
        counts["kills"] += kill(stage, kind, moment, said)
        kept = [n for n in small.contents(map(Path, states)) if n.endswith(("last.pt", ".parquet", "manifest.json"))]
        counts["found work to resume"] += bool(kept)
        assert not ended(in_child(command(stage, 1), said)), "nobody kills it now"
        counts["notes"] += said.read_text().count("note:")
        after = small.contents()
        left = [*(n for n in after if ".tmp" in n), *map(str, Path().rglob("*.damaged"))]
        # the reference was made without `pipeline code`, which alone keeps what it has read
        other = [n for n in small.different(after, finished) if n not in left and "files.json" not in n]
        counts["leftovers"] += bool(left)
        counts["other bytes"] += bool(other)
        if left or other:
            print(f"{stage}, {kind} {moment}: other bytes {other}, leftovers {left}")
    return counts


def main(moments: int) -> None:
    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        said = Path(folder).resolve() / "said"
        Path("project").mkdir()
        os.chdir("project")
        assert not ended(in_child(small.everything, said)), said.read_text()
        assert not ended(in_child(lambda: print("\n".join(f"{n}\t{p}" for n, p in small.states().items())), said))
        where = dict(line.split("\t") for line in said.read_text().splitlines())
        of_stage = {"train": ("train", "train of a seed", "measured"), "attack": ("attack", "attack of a seed")}
        finished, rows = small.contents(), {}
        for stage in STAGES:
            rows[stage] = row(stage, moments, said, finished, [where[name] for name in of_stage.get(stage, ())])
            print(pd.DataFrame(rows).T.to_string(), flush=True)


if __name__ == "__main__":
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 8)
