"""params.yaml: by hand the active studies, below them what DVC makes its stages of, written from the studies."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from inputgrad import files
from inputgrad.errors import UserError
from pipeline import data, fingerprint, models, repository
from pipeline.study.active import FILE, Entries, active, read_params
from pipeline.study.read import read_study
from pipeline.study.schema import Study
from pipeline.study.validation import read_yaml

WRITE = "python -m pipeline check --write"
MARK = f"# written by: {WRITE}"
"""The line below which everything is generated."""
GENERATED = {
    "per_study": "one prepare and one report stage each",
    "per_loss": "one train and one attack stage each",
    "per_checkpoint": "one stage for each net trained elsewhere",
}
VERSIONS = "requirements.txt"
"""What DVC watches of a package that is installed: its version."""


def check_all(write: bool = False) -> list[Study]:
    """Every active study, complete: the project is ready for `dvc repro`.

    Args:
        write: bring the generated part of params.yaml up to the studies first.
    """
    repository.refuse_without_git()
    studies = [read_study(name) for name in active()]
    if write:
        write_params(studies)
    params = read_params()
    if params.generated != expected(studies):
        raise behind()
    return studies


def add(names: Iterable[str]) -> list[str]:
    """Add studies to those that `dvc repro` runs, unless they are among them; returns what was added."""
    new = [name for name in names if name not in active()]
    for name in new:
        read_study(name)  # a mistake in it is said first
    if new:
        before = FILE.read_text(encoding="utf-8")
        after, count = re.subn(r"(?m)^(studies: *\[[^\]]*?) *\]", rf"\1, {', '.join(new)}]", before, count=1)
        if not count:
            raise UserError(
                f"{FILE}: no 'studies: [...]' on a line of its own; fix: add {', '.join(new)} there by hand"
            )
        with files.replacing(FILE) as temporary:
            temporary.write_text(after, encoding="utf-8")
    return new


def read_in_stage(name: str) -> Study:
    """The study of a DVC stage, once it is known that DVC's stages are those that it states."""
    study, params = read_study(name), read_params()
    written = ({k: v for k, v in part.items() if v.get("study") == name} for part in params.generated)
    if tuple(written) != expected([study] if name in params.studies else []):
        raise behind()
    return study


def behind() -> UserError:
    return UserError(f"{FILE}: the stages of DVC are not those that the studies state; fix: {WRITE}")


def expected(studies: Iterable[Study]) -> tuple[Entries, Entries, Entries]:
    """What the generated part must hold for these studies: `per_study`, `per_loss` and `per_checkpoint`."""
    per_study, per_loss, per_checkpoint = {}, {}, {}
    for study in studies:
        data_code = watched(study.data_module.__name__)
        own = [file.as_posix() for file in data.sources(study.data)]
        per_study[study.name] = {"study": study.name, "data_code": data_code, "data_file": own[0] if own else VERSIONS}
        for name, loss in study.losses.items():
            per_loss[f"{study.name}-{name}"] = {
                "study": study.name,
                "loss": name,
                "loss_code": watched(type(loss).__module__),
                "model_code": watched(study.model_function.__module__),
                "model_file": model_file(study),
                "data_code": data_code,
                "attacks_code": attacks_code(study),
            }
        for name, given in study.checkpoints.items():
            module = study.model_function.__module__ if given.model is None else given.model.partition(":")[0]
            per_checkpoint[f"{study.name}-{name}"] = {
                "study": study.name,
                "checkpoint": name,
                "weights": given.weights or VERSIONS,
                "model_code": watched(module),
                "data_code": data_code,
                "attacks_code": attacks_code(study),
            }
    return per_study, per_loss, per_checkpoint


def watched(module: str) -> str:
    """The file or folder that DVC watches for a part; dvc.yaml names what is shared by all parts of a kind.

    Of ours: its file, or the folder where it uses another part of its kind. Of one's own: the package, or the file of a
    module outside any package. Of an installed one: its version.
    """
    top, here = module.partition(".")[0], Path.cwd()
    file = fingerprint.file_of(module, {top})
    if top in fingerprint.OURS and file is not None:
        kind = module.rpartition(".")[0]
        used = {n for n in fingerprint.closure([module]).ours if n.startswith(f"{kind}.") and n != module}
        shared = all(n.removeprefix(f"{kind}.").startswith("_") for n in used)
        return f"{kind.replace('.', '/')}/{file.name}" if shared else kind.replace(".", "/")
    if file is None or not fingerprint.is_here(file):
        return VERSIONS
    path = here / top
    return (path if path.is_dir() else path.with_suffix(".py")).relative_to(here).as_posix()


def model_file(study: Study) -> str:
    """The user's file of weights that a net begins with, else a file that is watched anyway."""
    return next((file.as_posix() for file in models.sources(study.model)), VERSIONS)


def attacks_code(study: Study) -> str:
    """What DVC watches for the attacks of a study: all of ours, or the one package that has its own attacks."""
    modules = (study.attack.module(name).__name__ for name in (*study.attack.attacks, *study.attack.at_epsilon))
    own = sorted({module.partition(".")[0] for module in modules} - {"inputgrad"})
    if len(own) > 1:
        raise UserError(
            f"{study.file}: attack: own attacks come from {' and '.join(own)}; fix: put them into one package, as DVC"
            " watches one"
        )
    return watched(own[0]) if own else "inputgrad/attacks"


def write_params(studies: Iterable[Study]) -> None:
    """Write the generated part below the hand-written one, which keeps every byte.

    Raises:
        UserError: something that is written by hand stands below the generated part.
    """
    before = FILE.read_text(encoding="utf-8")
    lines = before.splitlines(keepends=True)
    generated = [n for n, line in enumerate(lines) if line.startswith((MARK, *(f"{key}:" for key in GENERATED)))]
    head = "".join(lines[: min(generated, default=len(lines))]).rstrip("\n")
    kept: dict[str, Any] = YAML(typ="safe").load(head) or {}
    if lost := [key for key in read_yaml(FILE) if key not in {*kept, *GENERATED}]:
        raise UserError(f"{FILE}: '{lost[0]}' stands below the generated part; fix: move it above the line '{MARK}'")
    text = [f"{head}\n{MARK}"]
    for (key, stages), entries in zip(GENERATED.items(), expected(studies), strict=True):
        text.append(f"{key}:{'' if entries else ' {}'}  # {stages}")
        text += [f"  {name}: {flow(entry)}" for name, entry in entries.items()]
    if (after := "\n".join(text) + "\n") != before:
        with files.replacing(FILE) as temporary:
            temporary.write_text(after, encoding="utf-8")


def flow(entry: dict[str, str]) -> str:
    """`{key: value}`, on one line; plain names and paths need no quotes."""
    return "{" + ", ".join(f"{key}: {quoted(value)}" for key, value in entry.items()) + "}"


def quoted(value: str) -> str:
    """A path of one's own may hold what means something in YAML."""
    return value if re.fullmatch(r"[\w./-]+", value) else json.dumps(value, ensure_ascii=False)
