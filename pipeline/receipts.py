"""What a stage leaves behind, so that it need not import torch when it has nothing to compute the next time.

A receipt names every file and library that its results were made from, with their hashes, and the finished folders.
Where all of them are as they were and the folders are whole, the stage publishes these; else it looks properly. A
receipt only saves time: without it, or with a damaged one, everything is decided as if there were none.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from inputgrad.errors import UserError
from inputgrad.files import write_json
from pipeline import fingerprint, store
from pipeline.fingerprint import NOT_COMPUTING, closure, hash_of, hash_of_file, installed
from pipeline.study.active import read_params

if TYPE_CHECKING:
    from pipeline.study.schema import Study

Results = Mapping[Path, Mapping[str, Path]]
"""Published folder -> name of a folder below it -> the state folder that it is a copy of."""
COMMANDS = "pipeline.stages.commands"
"""From here a stage finds all other code."""


def file_of(stage: str, study: str, loss: str) -> Path:
    return store.root() / ".state" / "receipts" / f"{stage}-{study}-{loss}.json"


def seen(study: Study, modules: Sequence[str], files: Iterable[Path]) -> dict[str, Any]:
    """Everything that decides a result, as it is now; to be taken before the last check that nothing has changed.

    Args:
        study: its file and params.yaml count.
        modules: with which the stage begins; what they import is found from them.
        files: what else is read.
    """
    found = closure((COMMANDS, *modules))
    read = (Path("params.yaml"), study.file, *found.ours.values(), *files)
    return {
        "files": {str(file): hashed(file) for file in read},
        "versions": {name: installed(name) for name in sorted(found.libraries - NOT_COMPUTING)},
        "there": there(study.name),
    }


def hashed(file: Path) -> str:
    return fingerprint.hash_of_module(file) if file.suffix == ".py" else hash_of_file(file)


def there(study: str) -> list[str]:
    """What may appear: GPUs, found without asking torch, and results of searches, which a report tells of."""
    found = [*Path("/dev").glob("nvidia[0-9]*"), *Path("experiments", study, "search").glob("**/search.json")]
    return [os.environ.get("CUDA_VISIBLE_DEVICES", "all"), *sorted(map(str, found))]


def write(stage: str, study: str, loss: str, before: dict[str, Any], results: Results) -> None:
    """Keep what a stage has published; `before` is what `seen` gave."""
    folders = {str(target): {name: folder.name for name, folder in parts.items()} for target, parts in results.items()}
    contents = {"stage": [stage, study, loss], **before, "results": folders}
    file = file_of(stage, study, loss)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_json(file, {**contents, "sha256": hash_of(contents)})


def published(stage: str, study: str, loss: str) -> Path | None:
    """Publish what the stage has finished before; None where anything is different, so that it has to look properly."""
    results = results_of(stage, study, loss)
    if not results:
        return None
    for target, parts in results.items():
        if not all(store.is_whole(target / name, folder.name) for name, folder in parts.items()):
            if not all(store.is_whole(folder, folder.name) for folder in parts.values()):
                return None
            store.publish(parts, target)
    return next(iter(results))


def up_to_date(study: str) -> bool:
    """Whether all train and attack stages of a study have nothing to compute; what is missing is published."""
    losses = [entry["loss"] for entry in read_params().per_loss.values() if entry["study"] == study]
    return bool(losses) and all(published(stage, study, loss) for loss in losses for stage in ("train", "attack"))


def results_of(stage: str, study: str, loss: str) -> Results:
    """What a receipt names that still holds; empty where none does."""
    try:
        contents = json.loads(file_of(stage, study, loss).read_text(encoding="utf-8"))
        known = contents.pop("sha256")
        if known != hash_of(contents) or contents["stage"] != [stage, study, loss] or not holds(contents):
            return {}
        folders = contents["results"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, UserError):
        return {}
    return {Path(t): {name: store.state(made) for name, made in parts.items()} for t, parts in folders.items()}


def holds(contents: dict[str, Any]) -> bool:
    return (
        contents["there"] == there(contents["stage"][1])
        and all(installed(name) == version for name, version in contents["versions"].items())
        and all(hashed(Path(file)) == known for file, known in contents["files"].items())
    )
