"""Is a damaged, foreign or older file ever used? nice python -m benchmarks.damage [mutations] (about 12 minutes)

Applies mutations one at a time to every kind of result and state file of a study of seconds, in a temporary copy of
the project, and runs whatever reads the file. Counts what came of it; the command that a refusal advises is run, here
by the stages' functions and for one refusal of each kind of folder by DVC itself, and must restore every byte.
A number draws so many mutations with a fixed seed and leaves DVC out; 0 is DVC alone. The tests take one of each kind.
"""

from __future__ import annotations

import io
import os
import random
import re
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import chdir, redirect_stderr
from pathlib import Path

import pandas as pd

from benchmarks import small_study as small
from benchmarks.mutants import Mutation, bases, folders, mutations
from benchmarks.small_study import LOSS, LOSSES, NAME, Files
from inputgrad.errors import UserError
from pipeline.results import read
from pipeline.results.opened import OpenStudy
from pipeline.study.read import read_study
from pipeline.tracking import refuse_foreign_attacks
from pipeline.tracking.results import LossFolder

GOOD = ("refused, then repaired", "repaired with a note", "no effect")
BAD = ("silently used", "traceback", "refused without advice", "not repaired")


def track() -> None:
    """What MLflow is told of a loss."""
    opened = OpenStudy(read_study(NAME))
    refuse_foreign_attacks(opened, LOSS)
    loss = LossFolder(opened, LOSS)
    _ = list(loss.points), loss.facts, loss.audit, loss.sheet


READERS: dict[str, Callable[[], object]] = {
    "train": lambda: small.make("train", LOSS),
    "attack": lambda: small.make("attack", LOSS),
    "report": lambda: read.read_results(OpenStudy(read_study(NAME)), LOSSES),
    "page": lambda: OpenStudy(read_study(NAME)).report(),
    "track": track,
}


def prepared() -> tuple[list[Mutation], dict[str, Files]]:
    """Run the study in the current folder and, elsewhere, as it was before an edit; all mutations, and the files."""
    files, now = bases(small.STUDY)
    with tempfile.TemporaryDirectory() as other, chdir(other):
        older, before = bases(small.OLDER)
    return [m for folder in folders(now, before) for m in mutations(folder, files, older)], files


def apply(mutation: Mutation, files: dict[str, Files]) -> None:
    """Put the project into the state before the damage, and damage it."""
    changed = {**files[mutation.folder.base], **mutation.change}
    small.put({name: contents for name, contents in changed.items() if contents is not None})


def refusal(mutation: Mutation, reader: Callable[[], object]) -> tuple[str | None, str]:
    """The error's line or None, and what went to stderr, of one reader."""
    said = io.StringIO()
    small.forget()
    try:
        with redirect_stderr(said):
            reader()
    except UserError as error:
        return str(error), said.getvalue()
    return None, said.getvalue()


def advice(line: str, mutation: Mutation) -> str | None:
    """The command in an error that is one line and names a damaged file or its folder."""
    named = any(name in line or f"{Path(name).parent} is " in line for name in mutation.change)
    found = re.search(r"fix: (dvc repro(?: -f)?(?: \w+@[\w-]+)*)", line)
    return found[1] if found and named and "\n" not in line else None


def left(mutation: Mutation, files: Files) -> list[str]:
    """What differs from the files of an undamaged project: the outputs, and the state that was damaged."""
    state = [mutation.folder.path] if mutation.folder.path.parts[0] == ".state" else []
    paths = [small.DATA, small.HERE, *state]
    return small.different(small.contents(paths), {n: b for n, b in files.items() if small.inside(n, paths)})


def outcome(mutation: Mutation, files: dict[str, Files]) -> tuple[str, str]:
    """What comes of a mutation, and the details where that is bad."""
    apply(mutation, files)
    command, notes = None, ""
    try:
        for name in mutation.folder.readers:
            line, said = refusal(mutation, READERS[name])
            notes += said
            if line is None and (rest := left(mutation, files["finished"])):
                return ("not repaired" if said else "silently used"), f"{name}: {said}{rest}"
            if line is not None and (command := advice(line, mutation)) is None:
                return "refused without advice", f"{name}: {line}"
        if command is None:
            return ("repaired with a note" if notes else "no effect"), ""
        small.repro(command, files["finished"])
        again = [line for name in mutation.folder.readers if (line := refusal(mutation, READERS[name])[0])]
    except Exception:
        return "traceback", traceback.format_exc()
    if again or (rest := left(mutation, files["finished"])):
        return "not repaired", f"{command}: {again or rest}"
    return "refused, then repaired", ""


def table(todo: Sequence[Mutation], files: dict[str, Files]) -> pd.DataFrame:
    """A row per kind of folder: how many mutations, and what came of them; bad ones are printed."""
    counts: dict[str, Counter[str]] = {}
    for mutation in todo:
        result, details = outcome(mutation, files)
        counts.setdefault(mutation.folder.kind, Counter())[result] += 1
        if result in BAD:
            print(f"{result.upper()}: {mutation.kind}: {', '.join(mutation.change)}: {details}")
    frame = pd.DataFrame(counts).T.reindex(columns=[*GOOD, *BAD]).fillna(0).astype(int)
    frame.loc["all"] = frame.sum()
    frame.insert(0, "mutations", frame.sum(axis=1))
    return frame


def by_dvc(todo: Sequence[Mutation], files: dict[str, Files]) -> str:
    """One mutation of every kind of folder, read and repaired by real commands."""
    repaired, tried = 0, {m.folder.kind: m for m in todo if m.kind == "truncated"}
    for mutation in tried.values():
        apply(mutation, files)
        stage = mutation.folder.readers[0].replace("page", "track")
        said = small.shell("python", "-m", "pipeline", stage, *{"track": [], "report": [NAME]}.get(stage, [NAME, LOSS]))
        if command := advice("".join(line for line in said.splitlines() if line.startswith("error: ")), mutation):
            small.shell(*command.split())
        rest = left(mutation, files["finished"])
        repaired += not rest
        print(f"{'repaired' if not rest else f'NOT REPAIRED {rest}'}: {mutation.folder.kind}: {said.splitlines()[0]}")
    return f"{repaired} of {len(tried)} repaired by the commands themselves"


def main(drawn: int | None) -> None:
    from tests.pipeline.test_repro import clone

    with tempfile.TemporaryDirectory() as folder, chdir(clone(Path(folder))):
        todo, files = prepared()
        some = todo if drawn is None else random.Random(0).sample(todo, drawn)
        if some:
            print(table(some, files).to_string(), flush=True)
        if not drawn:
            small.put(files["finished"])
            print(small.shell("dvc", "repro").splitlines()[-1])
            files["finished"] = small.contents()
            print(by_dvc(todo, files))


if __name__ == "__main__":
    for name in ("DVC_ROOT", "MLFLOW_TRACKING_URI"):
        os.environ.pop(name, None)
    main(int(sys.argv[1]) if len(sys.argv) > 1 else None)
