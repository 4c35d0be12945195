"""A tracking server that does not answer costs its time-out once, not once for every stage of a `dvc repro`."""

from __future__ import annotations

import time
from pathlib import Path

from inputgrad import files
from inputgrad.errors import UserError
from pipeline import store
from pipeline.tracking.address import shown, uri

WAIT = 5.0
"""Seconds that a server may take to say that it is there."""
REMEMBERED = 600.0
"""Seconds after which a server that was silent is asked again."""


class NoAnswer(UserError):
    """A server that was asked, now or a moment ago, and said nothing."""


def refuse() -> None:
    """Ask a server whether it is there; what is no server is not asked.

    Raises:
        NoAnswer: it is not, or was not a moment ago, when another command or stage asked.
    """
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
