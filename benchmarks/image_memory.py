"""How much memory images take beyond the framework: python -m benchmarks.image_memory

Random bytes in the shape of CIFAR-10 (60,000 images of 3x32x32) against 600 of them: the peak resident memory of
each stage's largest process, and the difference as a multiple of the bytes that the larger one has more.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]

MODULE = '''"""Random bytes in the shape of CIFAR-10."""

import numpy as np

from pipeline.data import Arrays

TASK, BOUNDS, GIVES = "classification", (0.0, 1.0), ()


def load(*, images: int) -> Arrays:
    rng = np.random.default_rng(0)
    sizes = {"train": images * 3 // 4, "validation": images // 12, "test": images // 6}
    return Arrays(
        x={name: rng.integers(0, 256, (n, 3, 32, 32), dtype=np.uint8) for name, n in sizes.items()},
        y={name: np.arange(n) % 10 for name, n in sizes.items()},
    )
'''
STUDY = """\
data: {{name: noise_images, use: noise_images, images: {images}}}
model: {{name: cnn, width: 4}}
training: {{epochs: 1, batch_size: 128, learning_rate: 0.001, seeds: [0]}}
losses: {{standard: {{}}}}
attack:
  norm: linf
  epsilon: 0.03
  grid: [0.0, 0.03, 0.5]
  examples: 100
  attacks: {{noise: {{}}, fgsm: {{}}, pgd: {{steps: 5, restarts: 1}}}}
"""
STAGES = (("prepare", "noise"), ("train", "noise", "standard"), ("attack", "noise", "standard"), ("report", "noise"))


def peaks(images: int) -> dict[str, float]:
    """Peak resident memory of every stage, in MB."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "experiments").mkdir()
        Path(folder, "experiments/noise.yaml").write_text(STUDY.format(images=images))
        Path(folder, "noise_images.py").write_text(MODULE)
        Path(folder, "params.yaml").write_text("studies: [noise]\n")
        subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
        command = [sys.executable, "-m", "pipeline"]
        subprocess.run([*command, "check", "--write"], cwd=folder, env=environment, check=True, capture_output=True)
        found = {}
        for stage in STAGES:
            process = subprocess.Popen([*command, *stage], cwd=folder, env=environment, stdout=subprocess.DEVNULL)
            _, status, used = os.wait4(process.pid, 0)  # of the process, or of the largest of its own
            if status:
                raise SystemExit(f"{' '.join(stage)} failed")
            found[stage[0]] = used.ru_maxrss / 1e3
        return found


def main() -> None:
    many, few = 60_000, 600
    extra = (many - few) * 3 * 32 * 32 / 1e6
    large, small = peaks(many), peaks(few)
    print(f"{many:,} images against {few:,}: {extra:.0f} MB more of bytes; peak resident memory, MB")
    for stage in large:
        ratio = (large[stage] - small[stage]) / extra
        print(f"  {stage:8} {small[stage]:8.0f} -> {large[stage]:8.0f}   {ratio:+.2f} x the bytes")


if __name__ == "__main__":
    main()
