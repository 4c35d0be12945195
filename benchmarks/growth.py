"""How time grows with work: python -m benchmarks.growth [repeats]

Each point is a command in a folder of its own, in CPU seconds of all its processes; start + unit · size^exponent is
fitted to them. Exponent 1: twice the work takes twice the time, once the start is paid. Workers: seconds of the clock.
"""

import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from scipy.optimize import curve_fit
from scipy.stats import t as student

REPEATS = int(sys.argv[1]) if len(sys.argv) > 1 else 3
ROOT = Path(__file__).parents[1]
STUDY = """\
data: {{name: digits}}
model: {{name: cnn, width: 8, activation: silu}}
training: {{epochs: {epochs}, batch_size: 64, learning_rate: 0.001, seeds: {seeds}}}
losses: {{standard: {{}}, {losses}}}
attack:
  norm: linf
  epsilon: 0.15
  grid: {grid}
  examples: {examples}
  attacks: {{noise: {{}}, fgsm: {{}}, pgd: {{steps: 10, restarts: 1}}}}
"""
SIZES = {
    "losses": (1, 2, 4, 8),
    "seeds": (1, 2, 4, 8),
    "examples": (45, 90, 180, 360),
    "ε": (1, 2, 4, 8),
    "trials": (2, 4, 8, 16),
}
SMALL = {"losses": 1, "seeds": 1, "examples": 45, "ε": 1, "trials": 2}
WIDEST = 1.0
"""An interval of an exponent that is wider on one side says nothing about it."""
OTHERS = {"examples": {"ε": 8}, "ε": {"examples": 360}}
"""What must not be small, so that more than the start is seen."""


def study(sizes: dict[str, int], epochs: int) -> str:
    loss = "own_{0}: {{use: 'inputgrad.losses.gradient_norm:GradientNorm', strength: {1}}}"
    return STUDY.format(
        epochs=epochs,
        seeds=list(range(sizes["seeds"])),
        losses=", ".join(loss.format(n, (n + 1) / 10) for n in range(sizes["losses"])),
        grid=[round(0.15 * (n + 1) / sizes["ε"], 4) for n in range(sizes["ε"])],
        examples=sizes["examples"],
    )


def taken(text: str, *command: str) -> tuple[float, float]:
    """CPU seconds and seconds of `python -m pipeline …` in a project of this study."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "experiments").mkdir()
        (Path(folder) / "experiments/own.yaml").write_text(text, encoding="utf-8")
        (Path(folder) / "params.yaml").write_text("studies: [own]\n", encoding="utf-8")
        where = {"cwd": folder, "env": {**os.environ, "PYTHONPATH": str(ROOT)}, "check": True}
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        subprocess.run(["git", "init", "--quiet"], **where)
        subprocess.run([sys.executable, "-m", "pipeline", "check", "--write"], **where, **quiet)
        before, start = cpu_of_children(), time.perf_counter()
        subprocess.run([sys.executable, "-m", "pipeline", *command], **where, **quiet)
        return cpu_of_children() - before, time.perf_counter() - start


def cpu_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def seconds(what: str, size: int) -> float:
    text = study({**SMALL, **OTHERS.get(what, {}), what: size}, epochs=1 if what in OTHERS else 8)
    if what == "trials":
        return taken(text, "search", "own", "own_0", "--trials", str(size), "--workers", "1")[0]
    return taken(text, "run", "own", "--jobs", "1")[0]


def exponent(sizes: list[int], values: list[float]) -> tuple[float, float]:
    """Of the fit, and half the width of its 95 % interval."""

    def law(size: np.ndarray, start: float, unit: float, power: float) -> np.ndarray:
        return start + unit * size**power

    guess = (min(values) / 2, (max(values) - min(values)) / max(sizes), 1.0)
    found, covariance = curve_fit(law, np.array(sizes, float), np.array(values), p0=guess, maxfev=20000)
    wide = student.ppf(0.975, len(sizes) - len(guess)) * np.sqrt(covariance[2, 2])
    return float(found[2]), float(wide)


if __name__ == "__main__":
    print(f"CPU seconds, median of {REPEATS} in turn\n")
    print("| what | sizes | seconds | exponent, 95 % interval |\n|---|---|---|---|")
    for what, sizes in SIZES.items():
        points = [(size, seconds(what, size)) for _ in range(REPEATS) for size in sizes]
        medians = [np.median([value for size, value in points if size == one]) for one in sizes]
        power, wide = exponent(*map(list, zip(*points, strict=True)))
        shown = ", ".join(f"{median:.1f}" for median in medians)
        found = f"{power:.2f} ± {wide:.2f}" if wide < WIDEST else "not determined by so few points"
        print(f"| {what} | {', '.join(map(str, sizes))} | {shown} | {found} |", flush=True)
    text = study({**SMALL, "seeds": 8}, epochs=24)
    walls = [[taken(text, "run", "own", "--jobs", str(jobs))[1] for jobs in (1, 2)] for _ in range(REPEATS)]
    one, two = np.median(np.array(walls), axis=0)
    print(f"\nTwo workers against one, eight seeds: {one:.0f} s and {two:.0f} s, {one / two:.2f} × faster")
