"""SIGKILL to a random worker at random moments: python -m benchmarks.search_kills [kills]

`digits`, `gradient_norm` with short trials, two workers, as the command runs it, until that many workers were killed.
Counts the finished trials that were lost or changed, and whether every slot was finished exactly once.
"""

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[1]

from benchmarks.elsewhere import elsewhere
from pipeline.search import slots, storage
from pipeline.search.task import SearchTask
from pipeline.stages import commands
from pipeline.study.read import read_study


def finished(task: SearchTask) -> dict[int, tuple[object, ...]]:
    """Slot -> what it holds."""
    study = storage.open_study(task)
    return {slots.slot(t): (t.number, t.state.name, str(t.params), t.values) for t in slots.finished(task, study)}


def victims(task: SearchTask, command: int) -> list[psutil.Process]:
    """The workers that have a trial now."""
    running = storage.open_study(task).get_trials(states=(slots.TrialState.RUNNING,))
    owners = {trial.user_attrs["owner"]["pid"] for trial in running}
    return [child for child in psutil.Process(command).children(recursive=True) if child.pid in owners]


def main(kills: int) -> None:
    """Kill, wait for the end, print the counts."""
    commands.prepare("digits")
    task = SearchTask(study=read_study("digits"), loss="gradient_norm", trials=3 * kills)
    command = [sys.executable, "-m", "pipeline", "search", "digits", "gradient_norm", "--trials", str(task.trials)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([*command, "--workers", "2"], env=environment, stdout=subprocess.DEVNULL)
    generator, killed, seen = random.Random(0), 0, {}
    while killed < kills:
        time.sleep(generator.uniform(0.5, 3.0))
        assert process.poll() is None, f"the search ended after {killed} kills: too few trials"
        if found := victims(task, process.pid):
            seen |= finished(task)
            generator.choice(found).kill()
            killed += 1
    code = process.wait()
    end, study = finished(task), storage.open_study(task)
    lost = sum(end.get(slot) != value for slot, value in seen.items())
    counted = [slots.slot(t) for t in study.get_trials() if t.state in slots.FINISHED]
    exact = sorted(counted) == list(range(task.trials))
    print(f"{killed} kills, exit code {code}: {lost} finished trials lost or changed, {len(counted)} trials", end=" ")
    print(f"({'every slot exactly once' if exact else 'NOT EXACT'}) of {task.trials} asked,", end=" ")
    print(f"{sum(t.state == slots.TrialState.FAIL for t in study.trials)} tried again")


if __name__ == "__main__":
    with elsewhere(epochs=8):
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 20)
