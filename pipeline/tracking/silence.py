"""A tracking server that does not answer costs its time-out once, not once for every stage of a `dvc repro`.

A database that is no database is said at once too: MLflow itself tries for two minutes to open a folder.
"""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from pathlib import Path

from inputgrad import files
from inputgrad.errors import UserError
from pipeline import store
from pipeline.tracking.address import database, shown, uri

WAIT = 5.0
"""Seconds that a server may take to say that it is there, and a database to be free."""
FIX = "fix: delete it, then: python -m pipeline track"
FREE = "fix: end what holds it, or make it writable, then: python -m pipeline track"
REMEMBERED = 600.0
"""Seconds after which a server that was silent is asked again."""


class NoAnswer(UserError):
    """A server that was asked, now or a moment ago, and said nothing; or a file that is no database or is held."""


def refuse() -> None:
    """Ask a server whether it is there, or a database whether it can be written.

    Raises:
        NoAnswer: it is not, or was not a moment ago, when another command or stage asked.
    """
    if (file := database()) is not None:
        refuse_file(file)
    if not uri().startswith(("http:", "https:")):
        return
    if remembered():
        raise NoAnswer(f"no answer from {shown(uri())} a moment ago; it is asked again in {REMEMBERED / 60:g} minutes")
    import requests

    try:
        requests.get(f"{uri().rstrip('/')}/health", timeout=WAIT)
    except requests.RequestException as error:
        files.write_text(mark(), shown(uri()))
        raise NoAnswer(f"no answer from {shown(uri())}") from error


def refuse_file(file: Path) -> None:
    if not file.exists():  # MLflow makes it
        return
    if file.is_dir():
        raise NoAnswer(f"{file} is a folder, no database; {FIX}")
    try:
        with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=rw", uri=True, timeout=WAIT)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("SELECT count(*) FROM sqlite_master")
            connection.rollback()
    except sqlite3.Error as error:
        # what is no database is of no use; one that is held, read-only or on a full disk must not be deleted
        whole = isinstance(error, sqlite3.OperationalError)
        raise NoAnswer(f"{file}: {error}; {FREE if whole else FIX}") from error


def mark() -> Path:
    return store.root() / ".state" / "mlflow-silent"


def remembered() -> bool:
    """Whether this server, and no other, was silent a moment ago."""
    try:
        fresh = 0 <= time.time() - mark().stat().st_mtime < REMEMBERED
        return fresh and mark().read_text(encoding="utf-8") == shown(uri())
    except FileNotFoundError:
        return False


def forget() -> None:
    """Ask again at once: a person says that it is there now."""
    mark().unlink(missing_ok=True)
