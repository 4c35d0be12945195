"""Where MLflow is, and how a failure to reach it is put in one line."""

from __future__ import annotations

import os
import re
from pathlib import Path

from inputgrad.errors import UserError
from pipeline import store

SQLITE = "sqlite:///"


def uri() -> str:
    """MLFLOW_TRACKING_URI, or mlflow.db in the project's root."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{store.root() / 'mlflow.db'}"


def database() -> Path | None:
    """The file of a database that is one, which need not be there yet; else None."""
    return Path(uri().removeprefix(SQLITE)) if uri().startswith(SQLITE) else None


def is_remote() -> bool:
    """Whether a server keeps the runs, and therefore also the artifacts."""
    return uri().startswith(("http:", "https:", "databricks", "uc:"))


def artifacts() -> str:
    """Where artifacts go when no server keeps them."""
    return (store.root() / "mlartifacts").as_uri()


def shown(text: str) -> str:
    """`text` without the passwords of addresses in it."""
    return re.sub(r"//[^/@\s]+@", "//…@", text)


def reason(error: Exception) -> str:
    text = " ".join(str(error).split())
    if isinstance(error, UserError):
        return shown(text)
    if "Max retries exceeded" in text:  # else requests tells the story of its connection pool
        return f"no answer from {shown(uri())}"
    return shown(f"{type(error).__name__}: {text}")[:200]
