"""The recorded study again: equal bit for bit where it was recorded, close elsewhere."""

import json
from pathlib import Path

import pytest

from tests.pipeline import golden

RECORDED = json.loads(Path(__file__).with_name("golden.json").read_text(encoding="utf-8"))
ELSEWHERE = 0.02
"""Relative: what two epochs make of the last bits of another processor's or library's sums, with a wide margin."""


def test_the_numbers_are_those_that_were_recorded(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    found, recorded = golden.measure(), RECORDED["runs"]
    assert set(found) == set(recorded)
    if golden.machine() == RECORDED["machine"]:
        assert found == recorded
    for name, run in recorded.items():
        for key, value in run.get("numbers", {}).items():
            assert found[name]["numbers"][key] == pytest.approx(value, rel=ELSEWHERE, abs=1e-6), f"{name}: {key}"
