"""A Ray cluster of two nodes on loopback: the results of one machine, a node that is killed, mistakes in a line."""

import os
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import psutil
import pytest

from inputgrad import files
from inputgrad.errors import UserError
from pipeline.quiet import NO_TELEMETRY
from pipeline.tracking import ui
from pipeline.workers import Engine
from pipeline.workers import ray as engine
from tests.conftest import edit, only, stages
from tests.pipeline.test_whole_study import LOSSES, results
from tests.pipeline.test_workers import linger, numbers, wait_for

os.environ.update({engine.LOCAL_ONLY: "0", **NO_TELEMETRY})  # read when Ray is imported: keep to 127.0.0.1, call nobody
import ray

ROOT = Path(__file__).parents[2]


@pytest.fixture
def project(project):
    """Of three losses: all of them are run."""
    only(project, *LOSSES)
    return project


@pytest.fixture(scope="module")
def nodes():
    """Two nodes, each with one CPU for tasks; the second also claims a GPU."""
    from ray.cluster_utils import Cluster

    here = {"num_cpus": 1, "node_ip_address": "127.0.0.1", "include_dashboard": False}
    both = Cluster(initialize_head=True, head_node_args=here)
    both.add_node(num_cpus=1, num_gpus=1, node_ip_address="127.0.0.1")
    yield both
    ray.shutdown()
    both.shutdown()


def command(*arguments, **environment):
    """`python -m pipeline run tiny …` as a process of its own, in the current folder."""
    return subprocess.Popen(
        [sys.executable, "-m", "pipeline", "run", "tiny", *arguments],
        env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finished(process):
    """What it printed, once it has ended well."""
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 0, output + errors
    return output, errors


def on_one_machine(project):
    """The study's results from the local engine, out of the way."""
    finished(command("--jobs", "2"))
    reference = results(project)
    for folder in (project / ".state", project / "experiments/tiny", project / "mlflow.db"):
        files.remove(folder)
    return reference


@contextmanager
def tracking_server(folder):
    """A real `mlflow server` on loopback; yields its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = ["--backend-store-uri", f"sqlite:///{folder}/server.db", "--artifacts-destination", f"{folder}/kept"]
    options += ["--host", "127.0.0.1", "--port", str(port), "--workers", "1", "--uvicorn-opts", "--log-level warning"]
    server = subprocess.Popen(
        [sys.executable, "-m", "mlflow", "server", *options], env=ui.environment(), start_new_session=True
    )
    try:
        ui.wait_for(server, port, "127.0.0.1")
        yield f"http://127.0.0.1:{port}"
    finally:
        ui.end(server)


def test_a_study_of_two_nodes_is_that_of_one_machine(project, nodes, tmp_path_factory):
    """Byte by byte, every file of every run; the runs are in the MLflow of a server, and nowhere else."""
    from mlflow import MlflowClient

    reference = on_one_machine(project)
    with tracking_server(tmp_path_factory.mktemp("server")) as address:
        output, errors = finished(command("--engine", "ray", "--address", nodes.address, MLFLOW_TRACKING_URI=address))
        assert "3 losses trained, 3 attacked" in output
        assert "warning" not in errors
        client = MlflowClient(address)
        runs = client.search_runs([client.get_experiment_by_name("tiny").experiment_id])
    kinds = [run.data.tags["kind"] for run in runs]
    assert (kinds.count("loss"), kinds.count("seed")) == (len(LOSSES), 2 * len(LOSSES))
    assert all(run.info.status == "FINISHED" for run in runs)
    assert results(project) == reference
    assert not (project / "mlflow.db").exists()
    assert not list(project.glob(".state/shared-*"))


WAITS = """
import itertools
import time
from pathlib import Path

import torch

from inputgrad.gradients.forward import Forward
from inputgrad.losses import Loss

steps = itertools.count()

class Waits(Loss):
    def term(self, at: Forward):
        late = at.losses.dtype == torch.float32 and next(steps) > 60
        while late and not Path("go_on").exists():
            time.sleep(0.02)
        return at.losses
"""
"""A loss whose training waits after some epochs until a file is there, however fast or slow a node begins.

The audit calls it too, and nearly always in float64: those calls are no steps of a training.
"""


def test_a_node_that_is_killed_costs_nothing(project, nodes):
    """SIGKILL to a node in the middle: its training goes on from its last epoch on the other, to the same bytes."""
    (project / "waits.py").write_text(WAITS)
    edit(project / "experiments/tiny.yaml", "epochs: 3", "epochs: 20")
    edit(
        project / "experiments/tiny.yaml",
        "  standard: {}",
        '  standard: {}\n  waits: {use: "waits:Waits", strength: 0.1}',
    )
    (project / "params.yaml").write_text(stages("standard", "waits"))
    only(project, "standard", "waits")
    (project / "go_on").touch()
    reference = on_one_machine(project)
    (project / "go_on").unlink()
    process = command("--engine", "ray", "--address", nodes.address)
    try:  # one CPU a node: each waits in one training
        wait_for(lambda: process.poll() is not None or sorted(epochs(project).values())[-4:-3] > [1])
        assert process.poll() is None, process.communicate()
    except BaseException:
        process.kill()
        raise
    (victim,) = nodes.worker_nodes
    nodes.remove_node(victim, allow_graceful=False)
    try:
        least = epochs(project)
        assert sorted(least.values())[1] < 20
        (project / "go_on").touch()
        while process.poll() is None:
            now = epochs(project)
            assert all(now[file] >= least[file] for file in least), "a training started again from nothing"
            least = now
            time.sleep(0.05)
    finally:
        nodes.add_node(num_cpus=1, num_gpus=1, node_ip_address="127.0.0.1")
        nodes.wait_for_nodes(timeout=120)  # Ray notices a dead node after some seconds
    finished(process)
    assert results(project) == reference


def epochs(project):
    """Epochs that every run has behind it."""
    return {file: file.read_text().count("\n") - 1 for file in project.glob(".state/*/history.csv")}


def where(_):
    """What a task sees of the machine it runs on."""
    time.sleep(1)
    return Path.cwd(), os.environ.get("CUDA_VISIBLE_DEVICES"), ray.get_runtime_context().get_node_id()


def refuse(number):
    raise UserError(f"refused {number}")


def die(_):
    os._exit(1)


def test_tasks_run_in_the_project_on_both_nodes(project, nodes):
    with Engine(name="ray", address=nodes.address).open() as workers:
        seen = list(workers.map(where, [0, 1, 2, 3]))
        assert workers.jobs == 2
        assert {folder for folder, _, _ in seen} == {project}
        assert len({node for _, _, node in seen}) == 2
        assert list(workers.map(abs, [-3, 2, -1])) == [3, 2, 1]


def test_a_share_of_a_gpu(project, nodes):
    with Engine(name="ray", address=nodes.address, gpus_per_task=0.5).open() as workers:
        seen = list(workers.map(where, [0, 1]))
        assert workers.jobs == 2
    assert {devices for _, devices, _ in seen} == {"0"}
    assert len({node for _, _, node in seen}) == 1  # the one that has it
    with (
        pytest.raises(UserError, match="the cluster has 1 GPUs"),
        Engine(name="ray", address=nodes.address, gpus_per_task=2).open(),
    ):
        pass


def test_what_a_task_says_reaches_the_user(project, nodes, monkeypatch):
    monkeypatch.setattr(engine, "ATTEMPTS", 2)
    with Engine(name="ray", address=nodes.address).open() as workers:
        with pytest.raises(UserError, match=r"^refused 1$"):
            workers.submit(refuse, 1).result()
        with pytest.raises(UserError, match=r"a task died 2 times.*fix: run it again, it resumes"):
            workers.submit(die, 1).result()


def test_an_interrupt_leaves_no_task_behind(project, nodes):
    def interrupted():
        with Engine(name="ray", address=nodes.address).open() as workers:
            futures.extend(workers.submit(linger, project) for _ in range(3))
            wait_for(lambda: len(numbers(project)) == 2)
            raise KeyboardInterrupt

    futures = []
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert all(future.done() for future in futures)
    wait_for(lambda: not any(psutil.pid_exists(pid) for pid in numbers(project)))


def test_no_more_tasks_at_a_time_than_jobs(project, nodes):
    with Engine(name="ray", address=nodes.address, jobs=1).open() as workers:
        begun = list(workers.map(moment, range(3)))
    assert all(later - earlier > 0.3 for earlier, later in pairwise(begun))


def moment(_):
    now = time.time()
    time.sleep(0.3)
    return now


def test_a_machine_without_the_project_or_with_another_torch(project):
    """What a task does before anything else; on loopback, every node sees the same disk."""
    token = project / "token"
    there = engine.There(project, token, engine.version("torch"))
    with pytest.raises(UserError, match="does not share"):
        there(abs, -1)
    token.touch()
    assert there(abs, -1) == 1
    with pytest.raises(UserError, match=r"this machine 0\.1; install the same"):
        engine.There(project, token, "0.1")(abs, -1)


def test_without_an_address_a_ray_of_this_machine(project, monkeypatch):
    """It listens on loopback alone, and it is gone afterwards."""
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")  # else Ray keeps a token of its own in the home folder
    with Engine(name="ray", jobs=2).open() as workers:
        assert {folder for folder, _, _ in workers.map(where, [0, 1])} == {project}
        assert ray.get_runtime_context().gcs_address.startswith("127.0.0.1:")
    assert not ray.is_initialized()
