"""The MLflow UI over the project's database."""

from __future__ import annotations

import html
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from inputgrad import files
from inputgrad.errors import UserError
from pipeline import interrupts, layout, tracking
from pipeline.quiet import NO_TELEMETRY
from pipeline.study.active import active
from pipeline.tracking import moved, server
from pipeline.tracking.contents import BANDS_TAG, VIEW_TAG

TIMEOUT = 60.0
"""Seconds that the server may take to answer for the first time."""


def serve(port: int, host: str = "127.0.0.1") -> None:
    """Show the UI until Ctrl-C, with what is published now."""
    if server.is_remote():
        refresh()
        print(f"MLFLOW_TRACKING_URI names a server, its UI is at {server.shown(server.uri())}")
        return
    refuse_port_in_use(port, host)
    refresh()
    # a session of its own: Ctrl-C reaches this process alone, which then ends the server with all its workers
    with interrupts.held():
        process = subprocess.Popen(command(port, host), env=environment(), start_new_session=True)
        interrupts.at_end.append(lambda: os.killpg(process.pid, signal.SIGKILL))
        guard = guarded(process.pid)
    try:
        wait_for(process, port, host)
        here = f"http://{host}:{port}/"
        links, charts = ({name: here + path for name, path in pages(tag).items()} for tag in (VIEW_TAG, BANDS_TAG))
        for name, link in links.items():
            print(f"{name}: {link}")
        print(f"all of them, and their charts: {start_page(links, charts).resolve().as_uri()}")
        print(f"MLflow is at http://{host}:{port} (Ctrl-C ends it)", flush=True)
        process.wait()
    finally:
        end(process)
        guard.communicate()


def refresh() -> None:
    """Bring MLflow up to what is published; a database that is missing is made from the run folders."""
    if server.is_remote():
        tracking.catch_up(active())
        return
    server.check()
    if (file := server.database()) is not None and not file.exists():
        tracking.track(active())
    else:
        tracking.catch_up(active())


def guarded(group: int) -> subprocess.Popen[bytes]:
    """A process that ends the group when this one is gone, even by `kill -9`: its end of the pipe is closed then."""
    code = "import os, signal, sys\nsys.stdin.read()\nos.killpg(int(sys.argv[1]), signal.SIGKILL)"
    words = [sys.executable, "-c", code, str(group)]
    return subprocess.Popen(words, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True)


def start_page(links: dict[str, str], charts: dict[str, str]) -> Path:
    """A page with a link to every study, and to its report: MLflow's own first page shows none of them."""
    rows = []
    for name, link in sorted(links.items()):
        report = layout.root() / layout.report(name) / layout.PAGE
        own = f' · <a href="{html.escape(report.as_uri())}">report</a>' if report.exists() else ""
        bands = f' · <a href="{html.escape(charts[name])}">bands</a>' if name in charts else ""
        rows.append(f'<li><a href="{html.escape(link)}">{html.escape(name)}</a>{bands}{own}</li>')
    page = layout.state("ui.html")
    files.write_text(page, START.format(rows="\n".join(rows)))
    return page


START = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Studies</title>
<meta name="viewport" content="width=device-width">
<style>:root {{ color-scheme: light dark; font: 1.1rem/1.8 sans-serif }}
body {{ margin: 3rem auto; max-width: 40rem; padding: 0 1rem }}</style>
<h1>Studies</h1><p>Each opens its runs in MLflow, with score, strength and seed in the table; <i>bands</i> opens
charts with a band for each loss.</p><ul>
{rows}
</ul></html>
"""


def command(port: int, host: str) -> list[str]:
    options = {
        "--backend-store-uri": server.uri(),
        "--registry-store-uri": server.uri(),
        "--artifacts-destination": moved.artifacts(),
        "--host": host,
        "--port": str(port),
        "--workers": "1",
        "--uvicorn-opts": "--log-level warning",
    }
    return [sys.executable, "-m", "mlflow", "server", *(word for pair in options.items() for word in pair)]


def environment() -> dict[str, str]:
    """Ours, without telemetry and without the workers that MLflow starts for its language-model judges."""
    quiet = {**NO_TELEMETRY, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "PYTHONWARNINGS": "ignore"}
    return {**quiet, **os.environ}


def pages(tag: str = VIEW_TAG) -> dict[str, str]:
    """Where the saved view of every study is that has one: the table, or with `BANDS_TAG` the charts."""
    with server.connected() as client:
        found = [e for e in client.search_experiments() if tag in e.tags]
    words = f"workflowType=machine_learning&viewStateShareKey={tag.rpartition('.')[2]}"
    words += "&compareRunsMode=CHART" if tag == BANDS_TAG else ""
    return {e.name: f"#/experiments/{e.experiment_id}/runs?{words}" for e in found}


def refuse_port_in_use(port: int, host: str) -> None:
    """Raise if something listens there already: MLflow itself would end in a traceback."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            other = port + 1 if port < 65535 else port - 1
            raise UserError(
                f"port {port} on {host} is in use or not ours ({error.strerror});"
                f" choose another: python -m pipeline ui --port {other}"
            ) from error


def wait_for(process: subprocess.Popen[bytes], port: int, host: str) -> None:
    deadline = time.monotonic() + TIMEOUT
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise UserError(f"the MLflow server ended with code {process.returncode}; its own words are above")
        try:
            with urlopen(f"http://{host}:{port}/health", timeout=2):
                return
        except (URLError, OSError):
            time.sleep(0.2)
    raise UserError(f"the MLflow server did not answer on {host}:{port} within {TIMEOUT:g} s")


def end(process: subprocess.Popen[bytes]) -> None:
    for sign in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, sign)
            process.wait(timeout=10)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue
