"""A file that is damaged, older or of another run is never used; the whole measurement is benchmarks/damage.py."""

import os
import random
import socket

import pytest
import torch

from benchmarks import damage
from benchmarks import small_study as small
from inputgrad import files
from inputgrad.errors import UserError
from pipeline import data, layout, store
from pipeline.fingerprint import Origin
from pipeline.results.opened import OpenStudy
from pipeline.stages import attack, runner
from pipeline.study.read import read_study
from pipeline.study.run import Run
from pipeline.tracking import refuse_foreign_attacks

ORIGIN = Origin(settings={"a": 1}, data={}, code={}, versions={})


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """The small study, run once in the current folder: all mutations of its files, and the files."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("study"))
        for name in ("DVC_ROOT", "MLFLOW_TRACKING_URI"):
            patch.delenv(name, raising=False)
        yield damage.prepared()


def test_a_mutation_of_every_kind_of_folder_is_noticed_and_repaired(study):
    todo, contents = study
    drawn = {m.folder.kind: m for m in random.Random(0).sample(todo, len(todo))}
    assert len(drawn) == 11
    for mutation in drawn.values():
        result, details = damage.outcome(mutation, contents)
        assert result in damage.GOOD, (mutation.folder.kind, mutation.kind, list(mutation.change), details)


def test_the_sample_can_fail(study, monkeypatch):
    """A reader that checks nothing is found out."""
    todo, contents = study
    mutation = next(m for m in todo if m.folder.kind == "published training" and m.kind == "zeros")
    assert damage.outcome(mutation, contents)[0] == "refused, then repaired"
    monkeypatch.setattr(store, "opened", lambda folder, *_: folder)
    assert damage.outcome(mutation, contents)[0] in damage.BAD


def test_a_rebuilt_mlflow_does_not_leave_out_a_damaged_attack(study):
    small.put(study[1]["finished"])
    small.forget()
    refuse_foreign_attacks(OpenStudy(read_study("tiny")), small.LOSS)
    (small.HERE / "runs" / small.LOSS / "attack" / "seed-1" / "masking.json").unlink()
    with pytest.raises(UserError, match=r"masking\.json is missing; fix: dvc repro -f attack@tiny-gradient_norm"):
        refuse_foreign_attacks(OpenStudy(read_study("tiny")), small.LOSS)


def test_a_data_file_with_one_changed_bit_anywhere_is_refused(project):
    file = runner.prepare("tiny")
    whole, read = (
        file.read_bytes(),
        lambda: data.read_data("tiny", read_study("tiny").data, ("train",)),
    )
    read()
    for place in (
        10,
        14,
        len(whole) // 2,
        len(whole) - 90,
        len(whole) - 1,
    ):  # 10: the date of a member, which no one reads
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(
            UserError, match=r"data/tiny\.npz is (damaged|not readable).*fix: dvc repro -f prepare@tiny"
        ):
            read()


def test_a_manifest_is_what_was_written_or_nothing(tmp_path):
    (tmp_path / "a").write_text("a")
    store.seal(tmp_path, ORIGIN, ["a"])
    manifest = tmp_path / layout.MANIFEST
    assert store.opened(tmp_path, ORIGIN, "") == tmp_path
    manifest.write_bytes(manifest.read_bytes()[:-1])  # as JSON it is still the same
    with pytest.raises(UserError, match="is not a manifest"):
        store.opened(tmp_path, ORIGIN, "")


def test_a_checkpoint_never_asks_for_gradients(tmp_path):
    """That is one bit of the file, and the snapshots of a resumed run could not be written."""
    contents = {"x": torch.ones(2)}
    asking = {"x": torch.ones(2, requires_grad=True), "sha256": store.hash_of_contents(contents)}
    torch.save(asking, tmp_path / "a.pt")
    assert not store.load_checkpoint(tmp_path / "a.pt", "")["x"].requires_grad


def test_who_holds_a_folder_sweeps_it_whatever_process_has_the_number_today(tmp_path):
    left = tmp_path / f".last.pt.{socket.gethostname()}-{os.getppid()}.tmp"
    left.write_text("half")
    files.sweep(tmp_path)
    assert left.exists()  # its process is alive, and may be writing
    with store.locked(tmp_path):
        assert not left.exists()


def test_steps_that_a_kill_after_sealing_has_left_are_removed(study):
    small.put(study[1]["finished"])
    small.forget()
    evaluation = attack.Evaluation(Run(read_study("tiny"), small.LOSS, small.SEED))
    files.write_text(evaluation.state / attack.STEPS / "000-noise.parquet", "")
    attack.evaluate(evaluation)
    assert not (evaluation.state / attack.STEPS).exists()
