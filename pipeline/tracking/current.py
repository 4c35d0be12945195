"""Is MLflow up to what is published? Whatever shows it asks first, for DVC's cache tells nobody what it restores.

Nothing heavy is imported to find that it is: the experiment of a study carries a hash of what its runs show.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

from pipeline import layout
from pipeline.fingerprint import hash_of, hash_of_file
from pipeline.tracking import server

if TYPE_CHECKING:
    from pipeline.results.opened import OpenStudy

TAG = "shows"
"""Of an experiment: `published` at the time when all of it was shown; empty while only a part is."""
QUERY = "SELECT value FROM experiment_tags JOIN experiments USING (experiment_id) WHERE name = ? AND key = ?"


def published(study: str) -> str:
    """A hash of what is published of a study, and of what the study states; empty where nothing is published."""
    files = layout.results(study)
    return hash_of([[str(f), hash_of_file(f)] for f in (layout.study_file(study), *files)]) if files else ""


def shown(study: str) -> str:
    """What `published` was when MLflow last showed all of it."""
    file = server.database()
    if file is None:
        with server.connected() as client:
            found = client.get_experiment_by_name(study)
            return str(found.tags.get(TAG, "")) if found else ""
    try:
        with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True, timeout=server.WAIT)) as base:
            row = base.execute(QUERY, (study, TAG)).fetchone()
    except sqlite3.Error:  # what is wrong with it is said when it is written
        return ""
    return row[0] if row else ""


def is_shown(study: str) -> bool:
    """Whether a database shows all that is published of a study now; a server is not asked."""
    return server.database() is not None and shown(study) == published(study) != ""


def show(study_name: str, opened: OpenStudy | None = None) -> None:
    """Make the current runs of a study those that are published, unless they are; it is opened here unless it is."""
    wanted = published(study_name)
    if wanted == shown(study_name):
        return
    from pipeline.results.opened import OpenStudy
    from pipeline.study.read import read_study
    from pipeline.tracking import contents

    contents.mirror_study(opened or OpenStudy(read_study(study_name)), wanted)
