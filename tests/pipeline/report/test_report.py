"""The report as a whole: its files, their schema, their determinism, and what happens when a result is missing."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from inputgrad.errors import UserError
from pipeline import report
from pipeline.report import pictures
from pipeline.report.style import styles
from pipeline.results.opened import OpenStudy
from pipeline.results.read import Results, read_results
from pipeline.results.summary import summarise
from pipeline.study.read import read_study
from pipeline.study.schema import Study
from tests.conftest import edit, reseal
from tests.pipeline.report.conftest import CHECKS, LOSSES, write_runs, write_study

FIGURES = {"score_against_epsilon", "clean_against_robust", "input_gradients", "training_curves", "score_by_attack"} | {
    *("pairwise", "what_each_attack_adds", "distance_to_boundary")
}
DESCRIPTORS = ["gradient_norm_l1", "input_gradient_norm", "jacobian_norm"] + [
    f"gradient_{name}" for name in ("sparsity", "alignment", "stability")
]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in sorted(folder.rglob("*")) if f.is_file()}


def test_report_is_complete_self_contained_and_deterministic(study: Study) -> None:
    target = report.write(OpenStudy(study), LOSSES)
    first = contents(target)
    assert target == Path("experiments/toy/report")
    assert set(first) == {
        "report.html",
        "report.md",
        "metrics.json",
        "robustness.csv",
        "pairwise.csv",
        "manifest.json",
    } | {f"figures/{name}.png" for name in FIGURES}
    check_page(first["report.html"].decode())
    check_metrics(json.loads(first["metrics.json"]))
    for loss in LOSSES:
        assert f"| `{loss}` |" in first["report.md"].decode()
    assert contents(report.write(OpenStudy(study), LOSSES)) == first


def check_page(html: str) -> None:
    loaded = re.findall(r"""(?:src|href|srcset|data|action)\s*=\s*["'](?!#)([^"']*)|url\(([^)]*)\)|@import""", html)
    assert len(loaded) == len(FIGURES)
    assert all(source.startswith("data:image/png;base64,") for source, _ in loaded)
    assert "<script" not in html
    assert "<link" not in html
    assert len(re.findall(r'<img [^>]*alt="[^"]{20,}"', html)) == len(FIGURES)
    for loss in LOSSES:
        assert f"<code>{loss}</code>" in html
    assert html.index("Yes. 1 of 3 losses") < html.index("<table>")
    assert "3 of 3 seeds" in html
    assert "dvc repro report@toy" in html


def check_metrics(metrics: dict[str, object]) -> None:
    losses = metrics.pop("losses")
    assert metrics == {"study": "toy", "task": "classification", "epsilon": 0.1}
    assert isinstance(losses, dict)
    assert list(losses) == LOSSES
    for values in losses.values():
        sheet = values.pop("masking")
        assert list(sheet) == list(CHECKS)
        assert values.pop("step_time")["ratio"] > 0
        distances = ["median_distance_linf", "median_distance_l2"]
        assert list(values) == ["clean_accuracy", "robust_accuracy", *DESCRIPTORS, *distances]
        for value in filter(None, values.values()):
            assert list(value) == ["mean", "low", "high", "n"]
            assert value["low"] <= value["mean"] <= value["high"]
            assert value["n"] == 3
    assert losses["standard"]["clean_accuracy"]["mean"] == pytest.approx(0.95)
    assert losses["fgsm"]["robust_accuracy"]["mean"] == pytest.approx(0.68)
    assert losses["fgsm"]["input_gradient_norm"]["mean"] == pytest.approx(1.32)


def test_robustness_csv_is_long(results: Results) -> None:
    from pipeline.results.summary import curves

    table = curves(results)
    assert list(table) == ["loss", "norm", "epsilon", "score", "low", "high", "n"]
    assert list(table["loss"].unique()) == LOSSES
    part = table[(table["loss"] == "fgsm") & (table["norm"] == "linf")]
    assert list(part["epsilon"]) == [0.0, 0.1, 0.2]
    assert part["score"].to_numpy() == pytest.approx([0.95, 0.68, 0.68])


def test_regression_with_one_seed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    losses = ["standard", "fgsm"]
    target = report.write(OpenStudy(write_runs(write_study("patients", "diabetes", (0,)), losses)), losses)
    value = json.loads((target / "metrics.json").read_text())["losses"]["fgsm"]
    assert value["robust_rmse"] == {"mean": pytest.approx(2.0), "low": None, "high": None, "n": 1}
    text = (target / "report.md").read_text()
    assert "Undecided: with n = 1 seed there is no interval" in text
    assert "n = 1, no interval" in text
    assert "training target's standard deviations" in text


def test_all_seeds_of_the_study_are_needed(study: Study) -> None:
    """A seed that is gone, and one more that the study asks for since: neither is left out without a word."""
    for stage in ("train", "attack"):
        Path(f"experiments/toy/runs/fgsm/{stage}/seed-1").rename(f"experiments/toy/runs/fgsm/{stage}/gone")
    expected = "experiments/toy/runs/fgsm/train/seed-1/manifest.json is missing; fix: dvc repro -f train@toy-fgsm"
    with pytest.raises(UserError, match=f"^{re.escape(expected)}$"):
        report.write(OpenStudy(study), LOSSES)
    edit(study.file, "seeds: [0, 1, 2]", "seeds: [0, 1, 2, 3]")
    with pytest.raises(UserError, match=r"^\S*standard/train/seed-3/manifest.json is missing; .*train@toy-standard$"):
        report.write(OpenStudy(read_study("toy")), LOSSES)
    assert not Path("experiments/toy/report").exists()


def test_the_order_of_losses_is_the_argument(study: Study) -> None:
    names = ["gradient_norm", "fgsm", "standard"]  # neither the alphabet nor the study
    assert list(summarise(read_results(OpenStudy(study), names)).metrics()["losses"]) == names


@pytest.mark.parametrize(
    ("file", "stage"),
    [
        ("attack/seed-1/outcomes.parquet", "attack@toy-fgsm"),
        ("attack/seed-1/descriptors.parquet", "attack@toy-fgsm"),
        ("attack/seed-1/masking.json", "attack@toy-fgsm"),
        ("attack/seed-0/gradients.npz", "attack@toy-fgsm"),
        ("train/seed-1/history.csv", "train@toy-fgsm"),
        ("train/seed-1/best.pt", "train@toy-fgsm"),
        ("train/seed-1/last.pt", "train@toy-fgsm"),
        ("train/seed-1/manifest.json", "train@toy-fgsm"),
        ("attack/seed-1/manifest.json", "attack@toy-fgsm"),
        ("measured/step_time.json", "train@toy-fgsm"),
        ("measured/audit.json", "train@toy-fgsm"),
        ("measured/manifest.json", "train@toy-fgsm"),
    ],
)
@pytest.mark.parametrize("damage", ["missing", "garbage", "empty"])
def test_a_broken_result_is_named_with_its_fix(study: Study, file: str, stage: str, damage: str) -> None:
    path = Path("experiments/toy/runs/fgsm") / file
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(b"" if damage == "empty" else b"\x93garbage\xff")
    with pytest.raises(UserError) as caught:
        report.write(OpenStudy(study), LOSSES)
    message = str(caught.value)
    assert message.startswith(f"{path} is ")
    assert message.endswith(f"fix: dvc repro -f {stage}")
    assert "\n" not in message
    assert not Path("experiments/toy/report").exists()


def test_a_loss_that_never_ran_is_named(study: Study) -> None:
    Path("experiments/toy/runs/fgsm").rename("experiments/toy/runs/other")
    fix = "experiments/toy/runs/fgsm/train/seed-0/manifest.json is missing; fix: dvc repro -f train@toy-fgsm"
    with pytest.raises(UserError, match=re.escape(fix)):
        read_results(OpenStudy(study), LOSSES)


def test_other_test_examples_are_refused(study: Study) -> None:
    path = Path("experiments/toy/runs/fgsm/attack/seed-0/gradients.npz")
    with np.load(path) as found:
        changed = {**found, "x": found["x"] + 1}
    np.savez(path, **changed)
    reseal(path.parent)
    with pytest.raises(UserError, match="shows other test examples than standard does"):
        read_results(OpenStudy(study), LOSSES)


def test_standard_is_needed(study: Study) -> None:
    with pytest.raises(UserError, match="add 'standard'"):
        report.write(OpenStudy(study), ["fgsm"])


def test_a_failing_report_keeps_the_old_one(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    old = Path("experiments/toy/report/report.html")
    old.parent.mkdir(parents=True)
    old.write_text("old")

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("pipeline.report.page.write", stop)
    with pytest.raises(KeyboardInterrupt):
        report.write(OpenStudy(study), LOSSES)
    assert [f.name for f in old.parent.parent.iterdir() if "report" in f.name] == ["report"]
    assert old.read_text() == "old"


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 12, 10), (6, 7), (5,), (60,)])
def test_pictures_of_any_shape(results: Results, shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    one = {
        "examples": np.arange(3),
        "y": np.arange(3),
        "x": rng.random((3, *shape)),
        "gradients": np.zeros((3, *shape)),
    }
    figure, caption = pictures.panel(replace(results, pictures={loss: one for loss in LOSSES}))
    names = {ax.get_ylabel() for ax in figure.axes} | {ax.get_title("left") for ax in figure.axes}
    assert {"input", *LOSSES} <= names | {ax.get_title() for ax in figure.axes}
    assert caption


def test_eighteen_losses_look_different() -> None:
    looks = styles(["standard", *(f"loss_{i}" for i in range(18))])
    assert len({(look.color, look.dashes) for look in looks.values()}) == 19
