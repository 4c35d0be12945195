"""`list` and `doctor`: what there is, and whether this machine is ready."""

import sqlite3
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest

from inputgrad import registry
from inputgrad.errors import UserError
from pipeline import doctor, listing

ROOT = Path(__file__).parents[2]


def test_every_part_has_a_line(monkeypatch):
    monkeypatch.chdir(ROOT)
    text = list(listing.lines())
    for package in ("inputgrad.losses", "pipeline.data", "pipeline.models", "inputgrad.attacks"):
        for name in registry.names(package):
            (line,) = [line for line in text if line.split()[:1] == [name]][:1]
            assert len(line.split()) > 3
    assert any(line.startswith("  digits*") for line in text)
    assert any(line.startswith("  fashion_mnist ") for line in text)
    assert max(map(len, text)) <= listing.WIDTH


def test_this_machine_is_ready(monkeypatch):
    monkeypatch.chdir(ROOT)
    found = dict(zip([check.__name__ for check in doctor.CHECKS], doctor.lines(), strict=True))
    for name in ("python", "packages", "device", "double_backward", "git", "dvc", "studies"):
        assert found[name][0], found[name][1]


def test_what_is_wrong_comes_with_its_fix(project, monkeypatch):
    (project / "requirements.txt").write_text(
        "torch==0.1\nnumpy==99\nnothere==1.0  # a remark\nold==1 ; python_version < '3'\n"
    )
    with pytest.raises(UserError, match=r"3 of 3 packages differ \(torch .*, not ==0\.1, .*\); fix: make setup"):
        doctor.packages()
    with pytest.raises(UserError, match="not in a git repository, which DVC needs; fix: git init"):
        doctor.git()
    with pytest.raises(UserError, match=r"no folder \.dvc; fix: dvc init"):
        doctor.dvc()
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _: SimpleNamespace(free=1e8))
    with pytest.raises(UserError, match=r"0\.1 GB free, the studies need 2; fix: make room"):
        doctor.disk()


def test_the_database(project):
    assert doctor.database().startswith("no MLflow database yet")
    with sqlite3.connect("mlflow.db") as connection:
        connection.execute("create table runs (id text)")
        connection.execute("insert into runs values ('a')")
    assert doctor.database() == "MLflow database with 1 runs"
    Path("mlflow.db").write_bytes(b"no database at all" * 100)
    with pytest.raises(UserError, match=r"mlflow\.db is damaged \(.*\); fix: delete it, then python -m pipeline track"):
        doctor.database()


def test_a_wrong_thing_does_not_hide_the_others(project):
    subprocess.run(["git", "init", "-q"], check=True)
    found = list(doctor.lines())
    assert len(found) == len(doctor.CHECKS)
    assert {ok for ok, _ in found} == {True, False}
    assert all("\n" not in line for _, line in found)
