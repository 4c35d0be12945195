"""The UI starts on a free port, says where it is, and leaves nothing behind."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.request import urlopen

import pytest

from inputgrad.errors import UserError
from pipeline import interrupts
from pipeline.tracking import contents, server, ui


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_a_port_in_use_is_one_line_with_the_fix(project):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(UserError, match=rf"port {port} on 127.0.0.1 is in use.*--port {port + 1}"):
            ui.serve(port)


def test_a_remote_server_has_its_own_ui(monkeypatch, capsys):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://mlflow.example.org")
    ui.serve(1)
    assert "https://mlflow.example.org" in capsys.readouterr().out


def test_no_results_are_no_ui(project):
    with pytest.raises(UserError, match="no results yet"):
        ui.serve(free_port())


@pytest.mark.parametrize("job", [False, True], ids=["in the foreground", "as a background job"])
def test_it_answers_until_ctrl_c(project, job):
    """A shell without job control starts background jobs with SIGINT ignored: Ctrl-C's signal must end it even so."""
    from pipeline.study.read import read_study

    with server.connected() as client:
        contents.experiment(client, read_study("tiny"))
    port = free_port()
    command = [sys.executable, "-m", "pipeline", "ui", "--port", str(port)]
    environment = {**os.environ, "PYTHONPATH": str(Path(ui.__file__).parents[2])}
    before = signal.signal(signal.SIGINT, signal.SIG_IGN) if job else None
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(command, env=environment, **pipes)
    if before is not None:
        signal.signal(signal.SIGINT, before)
    try:
        assert process.stdout is not None
        assert "tiny: http" in process.stdout.readline()
        assert "all of them, and their charts: file://" in process.stdout.readline()
        page = Path(".state/ui.html").read_text()
        assert f"http://127.0.0.1:{port}/#/experiments/1/runs" in page
        assert "viewStateShareKey=bands&amp;compareRunsMode=CHART" in page
        assert f"http://127.0.0.1:{port}" in process.stdout.readline()
        with urlopen(f"http://127.0.0.1:{port}/ajax-api/2.0/mlflow/experiments/get?experiment_id=1") as answer:
            assert b'"tiny"' in answer.read()
    finally:
        process.send_signal(signal.SIGINT)
        said = process.communicate()[1]  # MLflow's own greeting, and our line
        assert said.splitlines()[-1] == f"error: {interrupts.LINE}"
        assert "Traceback" not in said
        assert process.returncode == 130
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0


def test_a_ui_that_is_killed_leaves_no_server(project):
    from pipeline.study.read import read_study

    with server.connected() as client:
        contents.experiment(client, read_study("tiny"))
    port = free_port()
    environment = {**os.environ, "PYTHONPATH": str(Path(ui.__file__).parents[2])}
    command = [sys.executable, "-m", "pipeline", "ui", "--port", str(port)]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout is not None
    assert "tiny: http" in process.stdout.readline()
    process.kill()
    process.wait()
    process.stdout.close()
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) != 0:
                return
        time.sleep(0.1)
    pytest.fail(f"a server still listens on port {port}")
