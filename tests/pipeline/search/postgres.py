"""A PostgreSQL server for the tests: on loopback, on a free port, in a folder of its own, gone afterwards."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


def program(name: str) -> str:
    """Where one of PostgreSQL's programs is; Debian keeps them out of the PATH."""
    found = shutil.which(name) or next(
        (str(p) for p in sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))), None
    )
    if found is None:
        pytest.fail(f"PostgreSQL is not installed here: no {name}; fix: make test-scale")
    return found


def user() -> str:
    """Who runs the server: it refuses to run as root."""
    if os.geteuid():
        return pwd.getpwuid(os.geteuid()).pw_name
    names = {entry.pw_name for entry in pwd.getpwall()}
    return next((name for name in ("postgres", "nobody") if name in names), "") or pytest.fail(
        "PostgreSQL does not run as root, and there is no user postgres or nobody here"
    )


@contextmanager
def server() -> Iterator[str]:
    """A running server; gives the address of an empty database, as SQLAlchemy writes it."""
    initdb, postgres, createdb = program("initdb"), program("postgres"), program("createdb")
    owner = user()
    with tempfile.TemporaryDirectory(prefix="postgres-") as place:
        folder = Path(place)
        if not os.geteuid():
            folder.chmod(0o755)
            shutil.chown(folder, owner)
        run_as = {"user": owner} if not os.geteuid() else {}
        options = ["-D", place + "/data", "-U", "tester", "--auth=trust", "--no-sync"]
        made = subprocess.run([initdb, *options], cwd="/", capture_output=True, text=True, **run_as)  # type: ignore[call-overload]
        if made.returncode:
            pytest.fail(f"PostgreSQL cannot be set up here: {made.stderr.strip().splitlines()[-1]}")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = str(probe.getsockname()[1])
        settings = ["-c", "listen_addresses=127.0.0.1", "-c", f"unix_socket_directories={place}", "-c", "fsync=off"]
        process = subprocess.Popen(
            [postgres, "-D", place + "/data", "-p", port, *settings],
            cwd="/",
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            **run_as,  # type: ignore[call-overload]
        )
        try:
            wait_for(process, [createdb, "-h", "127.0.0.1", "-p", port, "-U", "tester", "searches"])
            yield f"postgresql://tester:secret@127.0.0.1:{port}/searches"
        finally:
            process.send_signal(signal.SIGINT)  # a fast shutdown: it does not wait for its clients
            process.wait(30)


def wait_for(process: subprocess.Popen[bytes], create: list[str]) -> None:
    """Until the server has made the database."""
    deadline = time.monotonic() + 30
    while True:
        made = subprocess.run(create, cwd="/", capture_output=True, text=True)
        if made.returncode == 0:
            return
        assert process.poll() is None, made.stderr
        assert time.monotonic() < deadline, made.stderr
        time.sleep(0.2)
