"""An Executor of this machine's processes: errors arrive, killed processes are replaced, nothing stays behind."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from inputgrad.errors import UserError
from pipeline.workers import Engine
from pipeline.workers.local import each
from tests.pipeline.test_cli import ROOT


def refuse(number):
    raise UserError(f"refused {number}")


def divide(number):
    return 1 / number


def killed_until(file, times):
    """Kills its own process as long as the file has fewer lines than that."""
    with file.open("a", encoding="utf-8") as f:
        f.write("here\n")
    if len(file.read_text(encoding="utf-8").splitlines()) <= times:
        os.kill(os.getpid(), signal.SIGKILL)
    return os.getpid()


def linger(folder):
    """Says that it runs, and stays."""
    (folder / str(os.getpid())).touch()
    time.sleep(600)


@pytest.mark.parametrize("jobs", [1, 2])
def test_results_and_errors_arrive_in_futures(project, jobs):
    with Engine(jobs=jobs).open() as workers:
        assert workers.jobs == jobs
        assert sorted((item, future.result()) for item, future in each(workers, abs, [-1, 2, -3])) == [
            (-3, 3),
            (-1, 1),
            (2, 2),
        ]
        with pytest.raises(UserError, match=r"^refused 1$"):
            workers.submit(refuse, 1).result()
        with pytest.raises(ZeroDivisionError) as caught:
            workers.submit(divide, 0).result()
        assert (jobs == 1) == (not getattr(caught.value, "__notes__", []))  # the traceback of the other process
        assert workers.submit(str, 2).result() == "2"


def test_one_job_is_this_process():
    with Engine(jobs=1).open() as workers:
        assert workers.submit(os.getpid).result() == os.getpid()

        def stop():
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            workers.submit(stop)


def test_a_task_whose_process_is_killed_is_run_again(project):
    file = project / "runs"
    with Engine(jobs=2).open() as workers:
        other = workers.submit(time.sleep, 1)
        assert workers.submit(killed_until, file, 5).result() != os.getpid()
        other.result()
    assert len(file.read_text(encoding="utf-8").splitlines()) == 6


def test_a_task_that_kills_every_process_fails_and_the_others_go_on(project):
    with Engine(jobs=2).open() as workers:
        with pytest.raises(UserError, match=r"was killed 6 times .*out of memory.*fix: .*fewer --jobs"):
            workers.submit(killed_until, project / "runs", 100).result()
        assert [future.result() for _, future in each(workers, abs, [-1])] == [1]


def test_an_exception_in_the_block_ends_the_processes_at_once(project):
    def interrupted():
        with Engine(jobs=2).open() as workers:
            futures.extend(workers.submit(linger, project) for _ in range(3))
            wait_for(lambda: len(numbers(project)) == 2)
            raise KeyboardInterrupt

    futures = []
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not any(psutil.pid_exists(pid) for pid in numbers(project))
    assert len(numbers(project)) == 2  # the third was never begun
    assert futures[2].cancelled()


def test_processes_die_with_a_parent_that_is_killed(project):
    code = (
        "import sys, pathlib; from pipeline.workers import Engine, process; from tests.pipeline import test_workers\n"
        "process.fresh = sys.argv[1] == 'fork'\n"
        "with Engine(jobs=2).open() as workers:\n"
        "    for _ in range(2): workers.submit(test_workers.linger, pathlib.Path.cwd())\n"
    )
    for method in ("fork", "forkserver"):
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        process = subprocess.Popen([sys.executable, "-c", code, method], env=environment)
        wait_for(lambda: len(numbers(project)) == 2)
        process.kill()
        process.wait()
        wait_for(lambda: not any(psutil.pid_exists(pid) for pid in numbers(project)))
        for pid in numbers(project):
            (project / str(pid)).unlink()


def numbers(folder: Path):
    """The processes that linger."""
    return [int(file.name) for file in folder.iterdir() if file.name.isdecimal()]


def wait_for(condition):
    """Until it is so; a slow machine has two minutes."""
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
