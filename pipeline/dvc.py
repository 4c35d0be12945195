"""What DVC is told: code.json, a hash of the code and of the user's files of every stage, and which stages are done.

Nothing heavy is imported: DVC has code.json written at the start of every `dvc repro`.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from inputgrad import files
from inputgrad.errors import UserError
from pipeline import fingerprint, imports, layout, store
from pipeline.fingerprint import code_of, files_of, hash_of, hash_of_file, read_again, stamp
from pipeline.study.active import Params, read_params
from pipeline.study.code import mapping, modules, parts, templates
from pipeline.study.validation import read_yaml

FILE = Path("code.json")
LOCK = Path("dvc.lock")
KINDS = ("prepare", "train", "attack", "checkpoint", "report")
RECENT = 2.0
"""Seconds in which a file may change without a change of its time and size: such a file is always read."""


def write() -> Path:
    """Write code.json: of every stage that params.yaml names a hash of the code and of the user's files it reads."""
    files.write_json(FILE, current())
    return FILE


def current() -> dict[str, dict[str, str]]:
    """What code.json says when it is written now: stage -> its key in dvc.yaml -> hash."""
    params, memo = read_params(), Memo()
    studies: dict[str, dict[str, Any] | str] = {}
    found: dict[str, dict[str, str]] = {stage: {} for stage in KINDS}
    for stage, key, study, name in stages(params):
        if study not in studies:
            studies[study] = stated(study)
        found[stage][key] = hash_of_stage(stage, study, name, studies[study], memo)
    memo.keep()
    return found


def stages(params: Params) -> Iterator[tuple[str, str, str, str]]:
    """Every stage of dvc.yaml: its kind, its key, its study, and its loss or checkpoint."""
    for study in params.studies:
        yield from ((stage, study, study, "") for stage in ("prepare", "report"))
    for key, entry in params.per_loss.items():
        yield from ((stage, key, entry["study"], entry["loss"]) for stage in ("train", "attack"))
    for key, entry in params.per_checkpoint.items():
        yield "checkpoint", key, entry["study"], entry["checkpoint"]


def stated(study: str) -> dict[str, Any] | str:
    """What a study states, unchecked; where it cannot be read, why: its own stages say it, no other one stops."""
    try:
        return read_yaml(layout.study_file(study))
    except UserError as error:
        return str(error)


def hash_of_stage(stage: str, study: str, name: str, stated: dict[str, Any] | str, memo: Memo) -> str:
    """Changes when the stage would run other code or read other files of the user."""
    if isinstance(stated, str):
        return stated
    try:
        used = parts(stated)
        roots = modules(stage, used, name) + (modules("measured", used, name) if stage == "train" else ())
        code, versions = code_of(*roots)
    except (UserError, KeyError) as error:  # the stage itself says it properly, and is never recorded as done
        return f"{type(error).__name__}: {error}"
    read = {str(path): memo.hash_of(path) for path in files_read(stage, study, name, stated)}
    told = [stated.get(key) for key in ("published", "figures")] if stage == "report" else None
    return hash_of([code, versions, read, told])  # told: DVC watches no key that a study may leave out


def files_read(stage: str, study: str, name: str, stated: dict[str, Any]) -> list[Path]:
    """The files of the user that a stage reads; those that other stages write are known to DVC."""
    if stage == "prepare":
        return files_of("data", mapping(stated.get("data")))
    if stage == "report":
        return [*templates(), *layout.searches(study)]
    if stage == "checkpoint":
        return files_of("checkpoint", mapping(mapping(stated.get("checkpoints")).get(name)))
    return files_of("model", mapping(stated.get("model")))


class Memo:
    """What is known of files from the commands before.

    Of code: under the hash of its bytes. Of the user's files: under their size and time, so that large ones are not
    read again; only for what DVC is told, a result that is read is held against its bytes.
    """

    def __init__(self) -> None:
        self.file = layout.state("files.json")
        self.reader = hash_of(
            [sys.version, *(hash_of_file(Path(one.__file__ or "")) for one in (imports, fingerprint))]
        )
        try:
            before = mapping(store.read_json(self.file, ""))
        except UserError:  # missing or damaged: everything is read
            before = {}
        self.before = before if before.get("reader") == self.reader else {}
        self.files: dict[str, list[Any]] = {}
        fingerprint.known |= mapping(self.before.get("code"))

    def hash_of(self, path: Path) -> str:
        """Of a file, or of the names and contents of all files below a folder."""
        if not path.exists():
            return "missing"
        if path.is_dir():
            inside = sorted(file for file in path.rglob("*") if file.is_file())
            return hash_of([[file.relative_to(path).as_posix(), self.hash_of(file)] for file in inside])
        key, now = str(path), [*stamp(path)]
        known = mapping(self.before.get("files")).get(key)
        if not isinstance(known, list) or known[:2] != now:
            known = [*now, hashlib.sha256(path.read_bytes()).hexdigest()]
        if time.time() - now[0] / 1e9 > RECENT:
            self.files[key] = known
        return str(known[2])

    def keep(self) -> None:
        code = {key: fingerprint.known[key] for key in sorted(fingerprint.used)}
        after = {"reader": self.reader, "files": self.files, "code": code}
        if after != self.before:
            files.write_json(self.file, after)


CHANGED = "a study, its data or code changed meanwhile"


class Record:
    """Tells DVC which stages are done, so that `dvc repro` skips them: what `dvc repro` would find had it run them.

    Made before any work. Where anything that DVC holds a stage against has changed since, nothing is recorded: the next
    `dvc repro` then finds out by itself.
    """

    def __init__(self, studies: Iterable[str]) -> None:
        self.studies = list(studies)
        self.before = self.seen()
        self.data: list[str] = []

    def prepared(self) -> None:
        """The data of all studies are written: from now on they must not change either."""
        self.data = self.data_hashes()

    def seen(self) -> tuple[dict[str, dict[str, str]], list[bytes]]:
        """The code of all stages, and the bytes of the studies."""
        read_again()
        found = (layout.study_file(name) for name in self.studies)
        return current(), [file.read_bytes() if file.exists() else b"" for file in found]

    def data_hashes(self) -> list[str]:
        """By their bytes: `dvc commit` itself may write a file anew, with the same ones."""
        found = (layout.data(name) for name in self.studies)
        return [hash_of_file(file) if file.exists() else "missing" for file in found]

    def unchanged(self) -> bool:
        return self.data_hashes() == self.data and self.seen() == self.before

    def write(self, done: Iterable[str]) -> None:
        """Record those of the stages, such as `train@digits-pgd`, that DVC knows; their outputs are complete."""
        stages = {f"{kind}@{key}" for kind, hashes in self.before[0].items() for key in hashes}
        todo = [stage for stage in done if stage in stages]
        if not Path(".dvc").is_dir() or not todo:
            return
        before = LOCK.read_bytes() if LOCK.exists() else None
        if wrong := self.commit(todo):
            if before is None:
                LOCK.unlink(missing_ok=True)
            else:
                files.write_text(LOCK, before.decode())
            print(f"note: DVC was not told what is finished ({wrong}); dvc repro finds out", file=sys.stderr)

    def commit(self, todo: list[str]) -> str:
        """Let DVC record stages; returns why it must not stay so, or nothing."""
        if not self.unchanged():
            return CHANGED
        files.write_json(FILE, self.before[0])
        command = [sys.executable, "-m", "dvc", "commit", "--force", "--quiet", "code", *todo]
        ran = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", errors="replace")
        if ran.returncode:
            return (ran.stderr.strip().splitlines() or ["no reason given"])[-1]
        return "" if self.unchanged() else CHANGED
