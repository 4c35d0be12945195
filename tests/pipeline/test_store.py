"""Folders of results: sealed, and opened only when they are whole and made from what is asked for."""

import json
import os
import random
import re
import shutil
import socket
import subprocess
import sys
from contextlib import suppress

import pytest
import torch

from inputgrad import files
from inputgrad.errors import UserError
from pipeline import store
from pipeline.fingerprint import Origin, hash_of
from tests.conftest import reseal

FIX = "fix: make it again"
ORIGIN = Origin(
    settings={"training": {"epochs": 3}}, data={"data/a.npz": "11"}, code={"pipeline.x": "22"}, versions={"torch": "2"}
)
NAMES = ("a.txt", "figures/b.bin")


@pytest.fixture
def sealed(tmp_path):
    """A sealed folder with two files."""
    folder = tmp_path / "result"
    files.write_text(folder / "a.txt", "all is well\n")
    (folder / "figures").mkdir()
    (folder / "figures/b.bin").write_bytes(bytes(range(256)))
    store.seal(folder, ORIGIN, NAMES)
    return folder


def refusal(folder, origin=ORIGIN):
    """The one line that says why the folder is not opened."""
    with pytest.raises(UserError) as caught:
        store.opened(folder, origin, FIX)
    message = str(caught.value)
    assert "\n" not in message
    assert message.endswith(f"; {FIX}")
    return message.removesuffix(f"; {FIX}")


def test_a_whole_folder_of_the_right_origin_is_opened(sealed):
    (sealed / "another").write_text("not of the result, and of no interest")
    assert store.opened(sealed, ORIGIN, FIX) == sealed


@pytest.mark.parametrize("name", NAMES)
def test_a_file_that_is_not_as_it_was_written_is_named(sealed, name):
    file = sealed / name
    whole = file.read_bytes()
    damaged = f"{file} is damaged: its bytes are not those that were written"
    for contents in (b"", whole[:-1], whole + b"\n", whole[:5] + bytes([whole[5] ^ 1]) + whole[6:]):
        file.write_bytes(contents)
        assert refusal(sealed) == damaged
    file.unlink()
    assert refusal(sealed) == f"{file} is missing"
    file.mkdir()
    assert refusal(sealed) == f"{file} is missing"


@pytest.mark.parametrize(
    "contents",
    [b"", b"{", b"no JSON", b"\xff\xfe\x00", b"[" * 200_000, b'{"a":' * 200_000],
    ids=["empty", "truncated", "words", "no text", "nested lists", "nested objects"],
)
def test_a_manifest_that_is_no_json_is_named(sealed, contents):
    file = sealed / "manifest.json"
    file.write_bytes(contents)
    assert re.fullmatch(rf"{file} is not valid JSON \(.+\)", refusal(sealed))


def test_a_missing_manifest_or_folder_is_named(sealed):
    (sealed / "manifest.json").unlink()
    assert refusal(sealed) == f"{sealed}/manifest.json is missing"
    shutil.rmtree(sealed)
    assert refusal(sealed) == f"{sealed}/manifest.json is missing"


def nested(depth):
    """A dictionary in a dictionary in …"""
    value: dict[str, object] = {}
    for _ in range(depth):
        value = {"a": value}
    return value


def shortened(manifest):
    """Without the second file, which may be damaged then."""
    manifest["files"].popitem()


def another_origin(manifest):
    """With settings that it was not made with."""
    manifest["origin"]["settings"]["training"]["epochs"] = 4


def another_origin_and_its_fingerprint(manifest):
    """With a name that fits its new settings."""
    another_origin(manifest)
    manifest["fingerprint"] = Origin(**manifest["origin"]).fingerprint


def another_fingerprint(manifest):
    """With a name that does not fit."""
    manifest["fingerprint"] = "0" * 16


def without_a_key(manifest):
    """Without what it was made from."""
    del manifest["origin"]


def another_form(manifest):
    """With an origin of another version of the project."""
    manifest["origin"] = {"settings": {}}


def deep(manifest):
    """With an origin that JSON can say and Python cannot walk through."""
    manifest["origin"]["settings"] = nested(600)


def no_origin(manifest):
    """With an origin that is no dictionary."""
    manifest["origin"] = [1]


@pytest.mark.parametrize(
    "change",
    [
        *(shortened, another_origin, another_origin_and_its_fingerprint, another_fingerprint),
        *(without_a_key, another_form, deep, no_origin),
    ],
)
def test_a_manifest_that_was_edited_is_none(sealed, change):
    file = sealed / "manifest.json"
    manifest = json.loads(file.read_text(encoding="utf-8"))
    change(manifest)
    if change is deep:
        file.write_text(json.dumps(manifest), encoding="utf-8")
    else:
        files.write_json(file, manifest)  # in the form of the project: what it says gives it away
    assert refusal(sealed) == f"{file} is not a manifest of this project"


@pytest.mark.parametrize("contents", ["[]", "3", "null", '"text"', "{}"])
def test_other_json_is_no_manifest(sealed, contents):
    (sealed / "manifest.json").write_text(contents, encoding="utf-8")
    assert refusal(sealed) == f"{sealed}/manifest.json is not a manifest of this project"


@pytest.mark.parametrize("place", range(0, 2000, 40))
def test_no_bit_of_a_manifest_can_flip_unseen(sealed, place):
    """Either the line says so, or the manifest says the very same as before (a space that is another one)."""
    file = sealed / "manifest.json"
    contents = bytearray(file.read_bytes())
    contents[place % len(contents)] ^= 1 << place % 7
    before = json.loads(file.read_text(encoding="utf-8"))
    file.write_bytes(contents)
    with suppress(UserError):
        store.opened(sealed, ORIGIN, FIX)
        assert json.loads(file.read_text(encoding="utf-8")) == before


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"settings": {"training": {"epochs": 4}}}, "made with training.epochs 3, not 4"),
        ({"settings": {"training": {"epochs": 3}, "seed": 1}}, "made with seed None, not 1"),
        ({"data": {"data/a.npz": "12"}}, "made from another data/a.npz"),
        ({"data": {}}, "made from another data/a.npz"),
        ({"code": {"pipeline.x": "23"}}, "made by another pipeline.x"),
        ({"code": {"pipeline.x": "22", "pipeline.y": "1"}}, "made by another pipeline.y"),
        ({"versions": {"torch": "3"}}, "made with torch 2, not 3"),
    ],
)
def test_a_folder_of_another_origin_says_what_differs(sealed, changed, words):
    origin = Origin(**{**vars(ORIGIN), **changed})
    assert refusal(sealed, origin) == f"{sealed} is {words}"
    with pytest.raises(store.ForeignError):
        store.opened(sealed, origin, FIX)


def test_a_damaged_folder_is_made_again_with_one_line(sealed, capsys):
    (sealed / "lock").touch()
    assert store.is_finished(sealed, ORIGIN)
    (sealed / "a.txt").write_text("all is lost\n")
    assert not store.is_finished(sealed, ORIGIN)
    said = capsys.readouterr().err
    assert said.startswith(f"note: {sealed}/a.txt is damaged")
    assert said.endswith("; it is made again\n")
    assert said.count("\n") == 1
    assert [path.name for path in sealed.iterdir()] == ["lock"]
    assert not store.is_finished(sealed, ORIGIN)
    assert capsys.readouterr().err == ""


def test_a_folder_that_is_half_emptied_never_looks_finished(sealed, monkeypatch):
    removed = []
    monkeypatch.setattr(store, "remove", lambda path: removed.append(path.name))
    store.clear(sealed)
    assert removed[0] == "manifest.json"


def test_only_what_the_manifest_lists_is_published(sealed, tmp_path):
    for name in ("lock", "last.damaged", "figures/old.png"):
        (sealed / name).touch()
    target = tmp_path / "published"
    files.write_text(target / "seed-7/left.txt", "of an earlier publication")
    store.publish({"seed-0": sealed, "seed-1": sealed}, target)
    there = {str(file.relative_to(target)) for file in target.rglob("*") if file.is_file()}
    assert there == {f"seed-{n}/{name}" for n in (0, 1) for name in (*NAMES, "manifest.json")}
    for n in (0, 1):
        assert store.opened(target / f"seed-{n}", ORIGIN, FIX)
    assert not list(tmp_path.glob(".*.tmp"))


def test_publishing_what_is_not_whole_leaves_the_old(sealed, tmp_path):
    target = tmp_path / "published"
    store.publish({"": sealed}, target)
    (sealed / "figures/b.bin").unlink()
    with pytest.raises(FileNotFoundError):
        store.publish({"": sealed}, target)
    assert store.opened(target, ORIGIN, FIX)
    assert {path.name for path in tmp_path.iterdir()} == {"result", "published"}


@pytest.fixture
def dead():
    """The number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


@pytest.fixture
def living():
    """The number of a process that lives as long as the test."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield process.pid
    process.communicate(b"\n")


def test_what_dead_processes_left_is_swept_and_nothing_else(tmp_path, dead, living):
    host = socket.gethostname()
    swept = [f".last.pt.{host}-{dead}.tmp", f".figures.{host}-{dead}.tmp"]
    kept = [
        f".last.pt.{host}-{living}.tmp",
        f".last.pt.other.{host}x-{dead}.tmp",  # of a machine that shares the disk
        f".last.pt.{host}-{dead}x.tmp",
        f"last.pt.{host}-{dead}.tmp",
        f".last.pt.{host}-{dead}",
        "last.pt",
    ]
    for name in (swept[0], *kept):
        (tmp_path / name).write_text("half")
    (tmp_path / swept[1]).mkdir()
    (tmp_path / swept[1] / "b.png").touch()
    files.sweep(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == set(kept)


def test_writing_a_file_sweeps_what_was_left_of_it_alone(tmp_path, dead, living):
    host = socket.gethostname()
    own, alive, other = (f".a.json.{host}-{dead}.tmp", f".a.json.{host}-{living}.tmp", f".b.json.{host}-{dead}.tmp")
    for name in (own, alive, other):
        (tmp_path / name).touch()
    files.write_json(tmp_path / "a.json", {})
    assert {path.name for path in tmp_path.iterdir()} == {"a.json", alive, other}


def checkpoint():
    """Contents as a training has them: views, shared tensors and texts, every kind of value."""
    shared, text = torch.arange(6.0), "".join(["sha", "red"])
    return {
        "model": {"layer.weight": torch.arange(12.0).reshape(3, 4).T, "layer.bias": shared, "again": shared},
        "half": torch.ones(3, dtype=torch.bfloat16, requires_grad=True),
        "optimizer": {"state": {0: {"step": torch.tensor(3.0)}}, "groups": [{"betas": (0.9, 0.999), "name": text}]},
        "generators": [torch.Generator().manual_seed(3).get_state()],
        "history": [{text: 1.5, "epoch": 1}, {text: float("inf"), "epoch": 2}],
        "fingerprint": text,
        "nothing": None,
        "yes": True,
    }


def test_equal_contents_are_equal_files_also_after_loading(tmp_path):
    """Pickle writes an object that it has met before as a mark: who shares what must not matter."""
    store.save_checkpoint(tmp_path / "a.pt", checkpoint())
    loaded = store.load_checkpoint(tmp_path / "a.pt", FIX)
    store.save_checkpoint(tmp_path / "another name.pt", loaded)
    unshared = checkpoint()
    unshared["model"]["again"] = torch.arange(6.0)
    unshared["model"]["layer.weight"] = unshared["model"]["layer.weight"].contiguous()
    unshared["fingerprint"] = "".join(["sha", "red"])
    unshared["history"][1] = {"".join(["shar", "ed"]): float("inf"), "".join(["epo", "ch"]): 2}
    store.save_checkpoint(tmp_path / "c.pt", unshared)
    assert len({file.read_bytes() for file in tmp_path.iterdir()}) == 1
    assert store.hash_of_contents(loaded) == store.hash_of_contents(checkpoint())


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("yes", False),
        ("yes", 1),
        ("nothing", 0),
        ("fingerprint", "shared "),
        ("half", torch.ones(3, dtype=torch.float16)),
        ("half", torch.ones(3, 1, dtype=torch.bfloat16)),
        ("history", [{"shared": 1.5, "epoch": 1}]),
        ("history", ({"shared": 1.5, "epoch": 1}, {"shared": float("inf"), "epoch": 2})),
    ],
)
def test_other_contents_have_another_hash(key, value):
    assert store.hash_of_contents({**checkpoint(), key: value}) != store.hash_of_contents(checkpoint())


def outcome(file):
    """What a checkpoint holds, or the line that refuses it."""
    try:
        return store.load_checkpoint(file, FIX), ""
    except UserError as error:
        return None, str(error)


def test_a_checkpoint_with_a_flipped_bit_is_refused_or_holds_the_very_same(tmp_path):
    file = tmp_path / "a.pt"
    store.save_checkpoint(file, checkpoint())
    whole, expected = file.read_bytes(), store.hash_of_contents(checkpoint())
    places, refused = random.Random(0), 0
    for _ in range(200):
        contents = bytearray(whole)
        contents[places.randrange(len(whole))] ^= 1 << places.randrange(8)
        file.write_bytes(contents)
        found, said = outcome(file)
        if found is None:
            assert re.fullmatch(rf"{file} is [^\n]+; {FIX}", said)
            refused += 1
        else:
            assert store.hash_of_contents(found) == expected
            assert found.keys() == checkpoint().keys()
    assert refused > 50  # much of so small a file is padding


@pytest.mark.parametrize("contents", [b"", b"garbage", b"PK\x03\x04"])
def test_a_checkpoint_that_is_none_is_refused(tmp_path, contents):
    file = tmp_path / "a.pt"
    with pytest.raises(UserError, match=rf"^{file} is missing; {FIX}$"):
        store.load_checkpoint(file, FIX)
    file.write_bytes(contents)
    with pytest.raises(UserError, match=rf"^{file} is not a readable checkpoint \(\w+\); {FIX}$"):
        store.load_checkpoint(file, FIX)


def test_a_checkpoint_without_its_hash_or_with_another_is_refused(tmp_path):
    file = tmp_path / "a.pt"
    torch.save({"epoch": 1}, file)
    with pytest.raises(UserError, match=r"is not a readable checkpoint \(KeyError\)"):
        store.load_checkpoint(file, FIX)
    torch.save(torch.ones(3), file)
    with pytest.raises(UserError, match="is not a readable checkpoint"):
        store.load_checkpoint(file, FIX)
    torch.save({"epoch": 2, "sha256": store.hash_of_contents({"epoch": 1})}, file)
    with pytest.raises(UserError, match=r"is damaged: its contents are not those that were written"):
        store.load_checkpoint(file, FIX)


def test_resealing_is_for_tests_of_contents(sealed):
    """The helper of these tests keeps the origin and lists what is there."""
    (sealed / "a.txt").write_text("other")
    (sealed / "figures/b.bin").unlink()
    reseal(sealed)
    assert store.opened(sealed, ORIGIN, FIX)
    manifest = store.read_json(sealed / "manifest.json", FIX)
    assert list(manifest["files"]) == ["a.txt"]
    assert manifest["sha256"] == hash_of([manifest["origin"], manifest["files"]])
    assert os.stat(sealed / "a.txt").st_size == manifest["files"]["a.txt"]["size"]
