"""What else goes wrong on a machine: python -m benchmarks.chaos (about 10 minutes; as root, on Linux)

In a project with the study of seconds, on a disk of its own (a tmpfs, in a mount namespace that ends with the command):
the disk is full at many moments, or read-only; MLflow's database is deleted, damaged, locked, or a folder; files come
from the future, as after a clock that was set back; two `dvc repro` run at once. A command that cannot do its work must
end with one line, exit code 2 and no traceback; once the trouble is over, the same command must give the bytes of a
run that had none.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks import small_study as small
from benchmarks.small_study import HERE, LOSS, NAME, Files

ROOT = Path(__file__).parents[1]
LARGE = "400m"
FREE = (0, 8, 64, 200, 500)
"""Kilobytes that are left on the disk."""
STAGES = (["prepare", NAME], ["train", NAME, LOSS], ["attack", NAME, LOSS], ["report", NAME], ["track"])


def pipeline(*words: str) -> tuple[int, str, float]:
    """Exit code, what was said as an error, and seconds."""
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-m", "pipeline", *words], capture_output=True, text=True, timeout=300)
    return done.returncode, done.stderr, time.monotonic() - began


def verdict(code: int, said: str, may_finish: bool = True) -> str:
    """Empty where a command ended as it should."""
    if "Traceback" in said:
        return f"traceback: {said.strip().splitlines()[-1]}"
    if code == 0 and may_finish:
        return ""
    lines = [line for line in said.splitlines() if line.startswith("error: ")]
    return "" if code == 2 and len(lines) == 1 else f"exit code {code}, {len(lines)} lines: {said[-200:]!r}"


def remount(options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", "."], check=True)


@contextmanager
def disk(options: str) -> Iterator[None]:
    remount(options)
    try:
        yield
    finally:
        remount(f"rw,size={LARGE}")


def full() -> Iterator[tuple[str, str]]:
    for words in STAGES:
        for free in FREE:
            reset(words[0])
            used = shutil.disk_usage(".").used // 1024
            with disk(f"size={used + free}k"):
                code, said, _ = pipeline(*words)
            found = verdict(code, said)
            after, again, _ = pipeline(*words)
            yield f"disk with {free} kB left, {words[0]}: exit code {code}", found or repaired(after, again)


def read_only() -> Iterator[tuple[str, str]]:
    for words in STAGES[:4]:
        reset(words[0])
        with disk("ro"):
            code, said, _ = pipeline(*words)
        after, again, _ = pipeline(*words)
        yield f"read-only disk, {words[0]}", verdict(code, said, may_finish=False) or repaired(after, again)


def database() -> Iterator[tuple[str, str]]:
    file, whole = Path("mlflow.db"), Path("mlflow.db").read_bytes()

    def gone() -> None:
        file.unlink()

    def damaged() -> None:
        file.write_bytes(b"no database" * 1000)

    def folder() -> None:
        file.unlink(), file.mkdir()

    troubles: list[Callable[[], None]] = [gone, damaged, folder]
    for trouble in troubles:
        trouble()
        code, said, seconds = pipeline("track")
        if file.is_dir():
            file.rmdir()
        for part in Path().glob("mlflow.db*"):
            part.unlink()
        file.write_bytes(whole)
        after, again, _ = pipeline("track")
        yield (
            f"mlflow.db {trouble.__name__}, track: exit code {code}, {seconds:.0f} s",
            verdict(code, said) or verdict(after, again),
        )
    with sqlite3.connect(file) as holder:
        holder.execute("BEGIN EXCLUSIVE")
        code, said, seconds = pipeline("track")
        holder.rollback()
    after, again, _ = pipeline("track")
    yield f"mlflow.db locked, track: exit code {code}, {seconds:.0f} s", verdict(code, said) or verdict(after, again)


def future() -> Iterator[tuple[str, str]]:
    later = time.time() + 2 * 86_400
    for file in Path().rglob("*"):
        if ".dvc" not in file.parts and ".git" not in file.parts:
            os.utime(file, (later, later))
    for words in STAGES:
        code, said, _ = pipeline(*words)
        yield f"files from the future, {words[0]}", verdict(code, said) or repaired(code, said)


def at_once() -> Iterator[tuple[str, str]]:
    for part in (".state", str(HERE), str(small.DATA), "dvc.lock", ".dvc/cache"):  # nothing is remembered
        shutil.rmtree(part) if Path(part).is_dir() else Path(part).unlink()
    dvc = [str(Path(sys.executable).parent / "dvc"), "repro"]
    both = [subprocess.Popen(dvc, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate()[1] for process in both]
    codes = [process.returncode for process in both]
    trouble = next((f"traceback: {text[-200:]}" for text in said if "Traceback" in text), "")
    again = subprocess.run(dvc, capture_output=True, text=True)
    after = repaired(again.returncode, again.stderr, but=f"{HERE}/report")  # it states times, which are measured anew
    yield f"two dvc repro at once: exit codes {codes}", trouble or after


def reset(stage: str) -> None:
    """Every result of the reference, but what this stage makes."""
    small.put(REFERENCE)
    small.forget()
    outputs = {"train": small.outputs("train", LOSS), "attack": small.outputs("attack", LOSS)}
    mine = outputs.get(stage) or (small.outputs(stage, "") if stage in ("prepare", "report") else [])
    folders = [STATES[name] for name in (stage, f"{stage} of a seed") if name in STATES]
    for path in (*mine, *(folders if stage in ("train", "attack") else ()), *KEPT):
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


KEPT = [Path(".state/files.json")]


def repaired(code: int, said: str, but: str = ".gitignore") -> str:
    if code:
        return f"the second time exit code {code}: {said[-200:]!r}"
    others = [
        name
        for name in small.different(small.contents(), REFERENCE)
        if not any(part in name for part in ("files.json", ".gitignore", but))
    ]
    left = [str(path) for path in Path().rglob("*.tmp")]
    return f"other bytes: {others[:3]}" if others else f"left behind: {left[:3]}" if left else ""


def build() -> None:
    """The project: packages, study, DVC and MLflow, everything run once."""
    for name in ("inputgrad", "pipeline"):
        shutil.copytree(ROOT / name, name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "dvc.yaml", "dvc.yaml")
    small.files.write_text(Path("params.yaml"), f"studies: [{NAME}]\n")
    small.files.write_text(Path(f"experiments/{NAME}.yaml"), small.STUDY)
    dvc = str(Path(sys.executable).parent / "dvc")
    for command in (["git", "init", "-q"], [dvc, "init", "-q"], [sys.executable, "-m", "pipeline", "check", "--write"]):
        subprocess.run(command, check=True, capture_output=True)
    subprocess.run([dvc, "repro"], check=True, capture_output=True)


REFERENCE: Files = {}
STATES: dict[str, Path] = {}


def main() -> None:
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    os.environ["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={LARGE}", "tmpfs", folder], check=True)
        os.chdir(folder)
        sys.path.insert(0, folder)
        build()
        REFERENCE.update(small.contents())
        STATES.update(small.states())
        wrong = count = 0
        for kind in (full, read_only, database, future, at_once):
            for what, trouble in kind():
                count, wrong = count + 1, wrong + bool(trouble)
                print(f"{'WRONG' if trouble else 'fine'}  {what}{f': {trouble}' if trouble else ''}", flush=True)
        print(f"{count} troubles, {wrong} handled wrongly")
        os.chdir("/")
        subprocess.run(["umount", "-l", folder], check=True)


if __name__ == "__main__":
    if "--inside" in sys.argv:
        main()
    else:  # mounts are then seen by this command alone, and end with it
        done = subprocess.run(["unshare", "--mount", sys.executable, "-m", "benchmarks.chaos", "--inside"])
        sys.exit(done.returncode)
