"""A search on a Ray cluster of two nodes, one of which is killed: trials in PostgreSQL, runs in an `mlflow server`."""

import os
import subprocess
import sys
import time

import pytest

from inputgrad.errors import UserError
from pipeline.search import command, slots, storage
from pipeline.search.fleet import Fleet
from pipeline.workers import Engine
from tests.conftest import edit
from tests.pipeline.search.conftest import ROOT, task
from tests.pipeline.search.postgres import server


@pytest.fixture(scope="module")
def nodes():
    """Two nodes on loopback, each with one CPU for workers."""
    room = pytest.importorskip(
        "tests.pipeline.test_ray", reason="Ray is not installed; pip install -r requirements-scale.txt"
    )
    from ray.cluster_utils import Cluster

    both = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 1, "node_ip_address": "127.0.0.1", "include_dashboard": False},
    )
    both.add_node(num_cpus=1, node_ip_address="127.0.0.1")
    yield both
    room.ray.shutdown()
    both.shutdown()


@pytest.fixture(scope="module")
def database(nodes):
    with server() as url:
        yield url


def test_a_search_on_two_nodes_one_of_which_dies(searchable, nodes, database, tmp_path_factory):
    """No finished trial is lost, the count is exact, and every trial is in the MLflow of the server."""
    from mlflow import MlflowClient

    from tests.pipeline.test_ray import tracking_server

    edit(searchable / "experiments/tiny.yaml", "epochs: 8", "epochs: 40")
    of = task(trials=12, url=database)
    options = ["gradient_norm", "--trials", "12", "--workers", "2", "--storage", database]
    options += ["--engine", "ray", "--address", nodes.address]
    with tracking_server(tmp_path_factory.mktemp("server")) as address:
        process = subprocess.Popen(
            [sys.executable, "-m", "pipeline", "search", "tiny", *options],
            env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "MLFLOW_TRACKING_URI": address},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        study = storage.open_study(of)
        deadline = time.monotonic() + 240
        while len(before := slots.finished(of, study)) < 3:
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        (victim,) = nodes.worker_nodes
        nodes.remove_node(victim, allow_graceful=False)
        try:
            output, errors = process.communicate(timeout=300)
        finally:
            nodes.add_node(num_cpus=1, node_ip_address="127.0.0.1")
        assert process.returncode == 0, output + errors
        client = MlflowClient(address)
        experiment = client.get_experiment_by_name("tiny-search")
        runs = client.search_runs([experiment.experiment_id])
    after = {trial.number: trial.values for trial in slots.finished(of, study)}
    assert [slots.slot(trial) for trial in slots.finished(of, study)] == list(range(12))
    assert all(after[trial.number] == trial.values for trial in before)
    assert len(runs) == 13  # a run for the search, and one for each trial


def test_trials_in_a_file_are_refused_on_a_cluster(searchable):
    engine = Engine(name="ray", address="127.0.0.1:1")
    with pytest.raises(UserError, match=r"needs a database.*add --storage postgresql://"):
        Fleet.check_storage(task(), engine)
    with pytest.raises(UserError, match=r"--engine: no 'rya'; did you mean 'ray'\?"):
        command.search("tiny", "gradient_norm", False, None, False, 2, engine=Engine(name="rya"))
    with pytest.raises(UserError, match=r"--address x:1 needs --engine ray"):
        command.search("tiny", "gradient_norm", False, None, False, 2, engine=Engine(address="x:1"))
