"""SIGKILL to a random worker at random moments: python -m benchmarks.search_kills [kills]

`digits`, `gradient_norm` with short trials, two workers, as the command runs it, until that many workers were killed.
Counts the finished trials that were lost or changed, and whether every slot was finished exactly once.
"""

import os
import random
import subprocess
import sys
import time

from benchmarks.elsewhere import elsewhere
from pipeline.search import loop
from pipeline.search.task import SearchTask
from pipeline.study.read import read_study
from tests.pipeline.search.conftest import ROOT, stored
from tests.pipeline.search.test_kills import in_training, workers


def finished(task: SearchTask) -> dict[int, tuple[object, ...]]:
    """Slot -> what it holds."""
    return {loop.slot(t): (t.number, t.state.name, str(t.params), t.values) for t in loop.finished(task, stored(task))}


def main(kills: int) -> None:
    """Kill, wait for the end, print the counts."""
    task = SearchTask(study=read_study("digits"), loss="gradient_norm", trials=3 * kills)
    command = [sys.executable, "-m", "pipeline", "search", "digits", "gradient_norm", "--trials", str(task.trials)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([*command, "--workers", "2"], env=environment, stdout=subprocess.DEVNULL)
    generator, killed, seen = random.Random(0), 0, {}
    while killed < kills:
        time.sleep(generator.uniform(0.5, 3.0))
        assert process.poll() is None, f"the search ended after {killed} kills: too few trials"
        if in_training(task) and (found := workers(process)):
            seen |= finished(task)
            generator.choice(found).kill()
            killed += 1
    code = process.wait()
    end, found = finished(task), stored(task).get_trials()
    lost = sum(end.get(slot) != value for slot, value in seen.items())
    counted = [loop.slot(t) for t in found if t.state in loop.FINISHED]
    exact = sorted(counted) == list(range(task.trials))
    print(f"{killed} kills, exit code {code}: {lost} finished trials lost or changed, {len(counted)} trials", end=" ")
    print(f"({'every slot exactly once' if exact else 'NOT EXACT'}) of {task.trials} asked,", end=" ")
    print(f"{len(found) - len(counted)} left over or tried again")


if __name__ == "__main__":
    with elsewhere(epochs=8):
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 20)
