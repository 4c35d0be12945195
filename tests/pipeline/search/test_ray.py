"""A search on a Ray cluster of two nodes, one of which is killed: trials in a journal, runs in an `mlflow server`."""

import os
import subprocess
import sys
import time

import pytest

from pipeline.search import loop
from tests.conftest import edit
from tests.pipeline.search.conftest import ROOT, check_complete, found, search, stored, task


@pytest.fixture(scope="module")
def nodes():
    """Two nodes on loopback, each with one CPU for workers."""
    nodes_of = pytest.importorskip(
        "tests.pipeline.test_ray", reason="Ray is not installed; pip install -r requirements-scale.txt"
    )
    from ray.cluster_utils import Cluster

    here = {"num_cpus": 1, "node_ip_address": "127.0.0.1", "include_dashboard": False}
    both = Cluster(initialize_head=True, head_node_args=here)
    both.add_node(num_cpus=1, node_ip_address="127.0.0.1")
    yield both
    nodes_of.ray.shutdown()
    both.shutdown()


def start(nodes, of, **environment):
    """The command of a search, as a process of its own."""
    options = ["--trials", str(of.trials), "--workers", "2", "--engine", "ray", "--address", nodes.address]
    return subprocess.Popen(
        [sys.executable, "-m", "pipeline", "search", "tiny", of.loss, *options],
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(process, of, count):
    """Until that many trials are finished."""
    while len(found(of)) < count:
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)


def test_a_search_on_two_nodes_one_of_which_dies(searchable, nodes, tmp_path_factory):
    """No trial is lost or even failed, the count is exact, and every trial is in the MLflow of the server."""
    from mlflow import MlflowClient

    from tests.pipeline.test_ray import tracking_server

    edit(searchable / "experiments/tiny.yaml", "epochs: 8", "epochs: 40")
    of = task(trials=12)
    with tracking_server(tmp_path_factory.mktemp("server")) as address:
        process = start(nodes, of, MLFLOW_TRACKING_URI=address)
        wait_for(process, of, 3)
        before = found(of)
        (victim,) = nodes.worker_nodes
        nodes.remove_node(victim, allow_graceful=False)
        try:
            output, errors = process.communicate()
        finally:
            nodes.add_node(num_cpus=1, node_ip_address="127.0.0.1")
        assert process.returncode == 0, output + errors
        client = MlflowClient(address)
        runs = client.search_runs([client.get_experiment_by_name("tiny-search").experiment_id])
    check_complete(of)
    assert {trial.state for trial in stored(of).trials} <= set(loop.FINISHED)
    assert [trial for trial in found(of) if trial in before] == before
    assert len(runs) == 13  # a run for the search, and one for each trial


def test_a_killed_command_is_continued_on_this_machine_alone(searchable, nodes):
    """Trials and trainings lie in files that all machines share, so that it does not matter who goes on."""
    edit(searchable / "experiments/tiny.yaml", "epochs: 8", "epochs: 40")
    of = task(trials=8)
    process = start(nodes, of)
    wait_for(process, of, 2)
    process.kill()
    process.communicate()
    before = found(of)
    search(of)
    check_complete(of)
    assert [trial for trial in found(of) if trial in before] == before
