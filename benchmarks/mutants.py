"""Every kind of damage to every kind of file of the small study, for `damage`."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks import small_study as small
from benchmarks.small_study import LOSS, NAME, SEED, Files
from inputgrad import files
from inputgrad.robustness.attacking import attacked
from pipeline.stages import attack, train
from pipeline.study.read import read_study
from pipeline.study.run import Run

RUNS = small.HERE / "runs"
FLIPS = 3
"""Single-bit flips of each file at random places; one more hits the head and one the tail."""


@dataclass(frozen=True)
class Folder:
    """One kind of folder: where it is, who reads it, and folders that hold files of the same names.

    Attributes:
        kind: for the table.
        base: what the project holds before the damage: `finished`, or `half` with interrupted states.
        path: below the project's root.
        readers: see `damage.READERS`.
        foreign: folders of another loss and another seed in the same project.
        older: the folder of the same role in the project whose study was edited since.
    """

    kind: str
    base: str
    path: Path
    readers: tuple[str, ...]
    foreign: tuple[Path, ...] = ()
    older: Path | None = None


@dataclass(frozen=True)
class Mutation:
    """Some files of one folder replaced, or deleted where the contents are None."""

    folder: Folder
    kind: str
    change: dict[str, bytes | None]


def bases(text: str) -> tuple[dict[str, Files], dict[str, Path]]:
    """Run the study in the current folder: its files when it is finished, and with interrupted states; its states."""
    finished = small.everything(text)
    study, where = read_study(NAME), small.states()
    for loss, seed in ((LOSS, SEED), ("detached_norm", SEED), (LOSS, 1)):
        run = Run(study, loss, seed)
        evaluation = attack.Evaluation(run)
        files.remove(evaluation.state)
        attacked(attack.victim_of(evaluation), study.attack, evaluation.state / attack.STEPS, evaluation.fingerprint)
        for file in sorted((evaluation.state / attack.STEPS).iterdir())[4:]:
            files.remove(file)
        files.remove(run.state)
        train.train(run, until=2)
    return {"finished": finished, "half": small.contents()}, where


def folders(now: dict[str, Path], before: dict[str, Path]) -> list[Folder]:
    """All kinds of folders."""

    def state(kind: str, role: str, base: str = "finished", reader: str = "train") -> Folder:
        foreign = tuple(path for name, path in now.items() if name.startswith(f"{role} of"))
        return Folder(kind, base, now[role], (reader,), foreign, before[role])

    def published(kind: str, path: Path, *readers: str) -> Folder:
        path = RUNS / path
        names = (str(path).replace(f"/{LOSS}/", "/detached_norm/"), str(path).replace("seed-0", "seed-1"))
        return Folder(kind, "finished", path, readers, tuple(Path(n) for n in names if n != str(path)), path)

    return [
        Folder("data", "finished", Path("data"), ("train", "attack", "report"), older=Path("data")),
        state("state of a training", "train"),
        state("state of half a training", "train", "half"),
        state("state of an attack", "attack", reader="attack"),
        state("state of half an attack", "attack", "half", "attack"),
        state("state of what is measured", "measured"),
        published("published training", Path(LOSS, "train", "seed-0"), "attack", "report", "track"),
        published("published training of standard", Path("standard", "train", "seed-1"), "attack", "report"),
        published("published attack", Path(LOSS, "attack", "seed-0"), "report", "track"),
        published("published measurements", Path(LOSS, "measured"), "report", "track"),
        Folder("report", "finished", small.HERE / "report", ("page",), older=small.HERE / "report"),
    ]


def mutations(folder: Folder, now: dict[str, Files], before: dict[str, Files], seed: int = 0) -> Iterator[Mutation]:
    """Every mutation of every file of a folder, and the exchange of the whole folder."""
    generator = random.Random(f"{seed} {folder.kind}")
    here = {n: b for n, b in now[folder.base].items() if small.inside(n, [folder.path])}
    figures = [name for name in here if name.endswith(".png")]
    others = [(f"foreign ({path.parts[-1]})", now[folder.base], path) for path in folder.foreign]
    if folder.older is not None:
        others.append(("older", before[folder.base], folder.older))
    for name in sorted(here.keys() - {*figures[1:]}):
        contents = here[name]
        for kind, changed in (*broken(contents, generator), *malformed(Path(name).suffix, contents)):
            if changed != contents:
                yield Mutation(folder, kind, {name: changed})
        for kind, files_of, path in others:
            if (other := same_role(Path(name).relative_to(folder.path), files_of, path)) not in (None, contents):
                yield Mutation(folder, kind, {name: other})
    for kind, files_of, path in others:
        theirs = {n: b for n, b in files_of.items() if small.inside(n, [path])}
        moved = {str(folder.path / Path(n).relative_to(path)): b for n, b in theirs.items()}
        if moved != here:
            yield Mutation(folder, f"whole folder {kind}", dict.fromkeys(here) | moved)


def same_role(name: Path, files_of: Files, folder: Path) -> bytes | None:
    """The contents of the file of that name in another folder; a step's name ends in a hash, which differs."""
    stem = name.stem.rpartition("-")[0] if name.parent.name == attack.STEPS else name.stem
    wanted = str(folder / name.parent / stem)
    return next((b for n, b in files_of.items() if n.startswith(wanted) and n.endswith(name.suffix)), None)


def broken(contents: bytes, generator: random.Random) -> Iterator[tuple[str, bytes | None]]:
    """Damage that any file can suffer."""
    ends = (min(10, len(contents) - 1), max(0, len(contents) - 12))
    for place in (*ends, *(generator.randrange(len(contents)) for _ in range(FLIPS))):
        flipped = bytearray(contents)
        flipped[place] ^= 1 << generator.randrange(8)
        yield "bit flip", bytes(flipped)
    yield "truncated", contents[: len(contents) // 2]
    yield "truncated", contents[:-1]
    yield "emptied", b""
    yield "zeros", bytes(len(contents))
    yield "deleted", None


def malformed(suffix: str, contents: bytes) -> Iterator[tuple[str, bytes]]:
    """Text that is not what it should be."""
    if suffix == ".json":
        value = json.loads(contents)
        for key in sorted({"origin", "files", *[*value][:1]} & value.keys()):
            for wrong in (None, [[0]], "x", float("nan")):
                yield "malformed", json.dumps(value | {key: wrong}).encode()
        texts = (b"[" * 100_000, b"null", b"[]", b"{}", b'"x"', b"\xff\xfe{}", json.dumps(list(value)).encode())
        yield from (("malformed", text) for text in texts)
    if suffix == ".csv":
        head, *rows = contents.decode().splitlines()
        bodies = (
            rows,
            [head, *("nan," * len(row.split(",")) for row in rows)],
            [head, '"' * 1001],
            [head],
            ["x\xff", "1"],
        )
        yield from (("malformed", "\n".join(body).encode("latin-1")) for body in bodies)
