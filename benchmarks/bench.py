"""`make bench`: the measurements behind the README's promises, one after another, kept in benchmarks/results.md."""

import importlib.metadata
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

FILE = Path(__file__).parent / "results.md"
PARTS = {
    "Steps with the gradient penalty": ["rivals"],
    "A step of every loss": ["step_cost"],
    "Five small nets together": ["stacked"],
    "Memory of a step": ["memory"],
    "Attacks against the library's ensemble": ["attack_work"],
    "Pipeline against the bare loop": ["overhead"],
    "Growth": ["growth", "1"],
}
LIBRARIES = ("torch", "torchvision", "optuna", "mlflow", "dvc")


def processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def heading() -> str:
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in LIBRARIES)
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    return (
        "# Measured\n\nWritten by `make bench`. Ratios are taken in turn within one run.\n\n"
        f"{datetime.now(UTC).date()}, commit {commit}: {processor()}, {os.cpu_count()} cores, {platform.system()},"
        f" Python {platform.python_version()}, {versions}\n"
    )


if __name__ == "__main__":
    pages = [heading()]
    for title, command in PARTS.items():
        print(f"\n## {title}: python -m benchmarks.{' '.join(command)}\n", flush=True)
        done = subprocess.Popen(
            [sys.executable, "-m", f"benchmarks.{command[0]}", *command[1:]], stdout=subprocess.PIPE, text=True
        )
        lines = []
        for line in done.stdout or ():
            print(line, end="", flush=True)
            lines.append(line)
        if done.wait():
            sys.exit(f"error: benchmarks.{command[0]} failed; {FILE.name} holds the parts before it")
        pages.append(f"## {title}\n\n`python -m benchmarks.{' '.join(command)}`\n\n{''.join(lines).strip()}\n")
        FILE.write_text("\n".join(pages), encoding="utf-8")
    print(f"\nkept in {FILE}")
