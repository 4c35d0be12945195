"""A project's folder that was moved or copied: MLflow's database names artifacts by the place where they were.

Left so, the next artifacts would go into the old folder, or into that of the project that this one is a copy of.
"""

from __future__ import annotations

import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from urllib.parse import unquote, urlsplit

from inputgrad.errors import UserError
from pipeline import layout

PLACES = {
    "experiments": ("artifact_location",),
    "runs": ("artifact_uri",),
    "logged_models": ("artifact_location",),
    "model_versions": ("source", "storage_location"),
}
"""Tables of MLflow, and their columns that begin with where artifacts are."""
BELOW = "({0} = ? OR substr({0}, 1, length(?) + 1) = ? || '/')"
"""Whether a column names a place or something in it; not one whose name only begins in the same way."""
FIX = "python -m pipeline track"


def artifacts() -> str:
    """Where the project's artifacts are, as MLflow writes it."""
    return (layout.root() / layout.ARTIFACTS).as_uri()


def elsewhere(connection: sqlite3.Connection) -> list[str]:
    """The places that the database of this project names and that are not here."""
    if "artifact_location" not in columns(connection, "experiments"):
        return []
    query = "SELECT DISTINCT artifact_location FROM experiments WHERE artifact_location LIKE 'file:%/' || ?"
    return sorted({place for (place,) in connection.execute(query, (layout.ARTIFACTS,))} - {artifacts()})


def columns(connection: sqlite3.Connection, table: str) -> set[str]:
    """Of a table; none where it is not there."""
    return {row[1] for row in connection.execute(f"PRAGMA table_info({table})")}


def bring_here(file: Path) -> None:
    """Let the project's own database name the artifacts that lie beside it; a note on stderr says so.

    A database that is elsewhere, or a link to one, is shared: what it names is left alone.

    Raises:
        UserError: the artifacts have not come along.
    """
    if file.resolve() != layout.database() or file.is_symlink() or not file.exists():
        return
    with closing(sqlite3.connect(file, timeout=5)) as connection, connection:
        for old in elsewhere(connection):
            where = Path(unquote(urlsplit(old).path))
            if count(connection, "runs", "artifact_uri", old) and not (layout.root() / layout.ARTIFACTS).is_dir():
                fix = f"fix: copy {where} here, or delete {file}, then: {FIX}"
                raise UserError(f"{file} was made in {where.parent}, and its {layout.ARTIFACTS} are not here; {fix}")
            for table, names in PLACES.items():
                for name in names:
                    if name in columns(connection, table):
                        replace(connection, table, name, old)
            print(
                f"note: {file} was made in {where.parent}; its artifacts are those of this folder now", file=sys.stderr
            )


def replace(connection: sqlite3.Connection, table: str, name: str, old: str) -> None:
    command = f"UPDATE {table} SET {name} = ? || substr({name}, ?) WHERE {BELOW.format(name)}"
    connection.execute(command, (artifacts(), len(old) + 1, old, old, old))


def count(connection: sqlite3.Connection, table: str, name: str, old: str) -> int:
    query = f"SELECT count(*) FROM {table} WHERE {BELOW.format(name)}"
    return int(connection.execute(query, (old, old, old)).fetchone()[0])
