"""Tables of one's own: two lines of a study; what cannot be a number is refused with its column and count."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from inputgrad.errors import UserError
from pipeline import data, dvc, layout
from pipeline.data import table
from pipeline.report import units
from pipeline.study.params import expected
from pipeline.study.read import read_study
from tests.conftest import edit, only

N = 60


def frame():
    g = np.random.default_rng(0)
    x = pd.DataFrame({"rooms": g.integers(1, 9, N), "age": g.normal(50, 9, N), "city": g.choice(["Bern", "Rome"], N)})
    price = 3 * x.rooms - 0.1 * x.age + g.normal(size=N)
    return x.assign(price=price, kind=np.where(price > price.median(), "high", "low"), same=1.0)


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    frame().to_csv("mine.csv", index=False)
    return "mine.csv"


def test_a_regression(file):
    found = table.load(
        file=file,
        target="price",
        task="regression",
        columns=("rooms", "age", "same"),
        direction={"rooms": 2.0},
        mask=("age",),
    )
    assert found.features == ["rooms", "age", "same"]
    assert sum(map(len, found.x.values())) == N
    np.testing.assert_allclose(found.x["train"].mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(found.x["train"].std(0), [1, 1, 0], atol=1e-6)  # a constant column is 0
    np.testing.assert_allclose(found.y["train"].std(0), 1, atol=1e-6)
    assert found.y["test"].shape[1:] == (1,)
    assert found.direction.tolist() == [2.0, 0.0, 0.0]
    assert found.mask.tolist() == [0.0, 1.0, 0.0]
    original = frame().rooms.to_numpy()
    assert np.corrcoef(np.sort(np.concatenate([*found.x.values()])[:, 0]), np.sort(original))[0, 1] > 0.9999


def test_classes_and_text(file):
    found = table.load(file=file, target="kind", task="classification", columns=("rooms", "city"), text="one_hot")
    assert found.features == ["rooms", "city_Bern", "city_Rome"]
    assert set(np.unique(found.y["train"])) == {0, 1}
    masked = table.load(
        file=file, target="kind", task="classification", columns=("rooms", "city"), text="one_hot", mask=("city",)
    )
    assert masked.mask.tolist() == [0.0, 1.0, 1.0]  # every column that is made of it
    rows = {tuple(row) for row in np.concatenate([*found.x.values()]).round(4)}
    assert len(rows) <= 16


def test_parquet_is_the_same(file):
    frame().to_parquet("mine.parquet")
    one, two = (
        table.load(file=f, target="price", task="regression", columns=("rooms",)) for f in (file, "mine.parquet")
    )
    np.testing.assert_allclose(one.x["train"], two.x["train"])


def changed(**columns):
    def write():
        frame().assign(**columns).to_csv("mine.csv", index=False)

    return write


REGRESSION = {"target": "price", "task": "regression", "columns": ("rooms", "age")}
CLASSES = {"target": "kind", "task": "classification", "columns": ("rooms",)}
SOME = [float("nan")] * 3 + [1.0] * (N - 3)
MISTAKES = [
    (None, REGRESSION | {"columns": ("rooms", "agee")}, r"mine\.csv: no column 'agee'; did you mean 'age'\?"),
    (None, REGRESSION | {"target": "prize"}, r"no column 'prize'; did you mean 'price'\?"),
    (None, REGRESSION | {"columns": ("price",)}, r"target 'price' is among columns; fix: leave it out"),
    (None, REGRESSION | {"columns": ()}, r"column 'city' holds text such as '(Bern|Rome)'; fix: leave it out.*one_hot"),
    (None, REGRESSION | {"mask": ("city",)}, r"no column 'city'"),
    (None, REGRESSION | {"target": "same"}, r"target 'same' is constant; fix: name another"),
    (None, REGRESSION | {"target": "kind"}, r"column 'kind' holds text"),
    (None, CLASSES | {"target": "same"}, r"target 'same' is constant"),
    (None, CLASSES | {"target": "age"}, r"target 'age' has 60 classes in 60 rows; fix: task: regression"),
    (None, CLASSES | {"direction": {"rooms": 1.0}}, r"direction is one for a regression"),
    (changed(age=SOME), REGRESSION, r"missing values \('age' 3 of 60 rows\); fix: fill or drop these rows"),
    (changed(age=[float("inf")] + [1.0] * (N - 1)), REGRESSION, r"column 'age' holds 1 infinite values"),
    (changed(kind=["rare"] * 2 + ["x"] * 58), CLASSES, r"has 2 rows of class 'rare'; fix: five or more"),
    (lambda: Path("mine.csv").write_bytes(b"\xff\xfe\x00"), REGRESSION, r"data\.file: mine\.csv is not readable"),
    (lambda: frame()[:4].to_csv("mine.csv"), REGRESSION, r"mine\.csv has 4 rows; fix: give ten or more"),
]


@pytest.mark.parametrize(("write", "options", "message"), MISTAKES, ids=[m[2][:30] for m in MISTAKES])
def test_a_mistake_is_one_line(file, write, options, message):
    if write is not None:
        write()
    with pytest.raises(UserError, match=message) as error:
        table.load(file=file, **options)
    assert "\n" not in str(error.value)


def test_dates_are_refused(file):
    frame().assign(age=pd.Timestamp("2026-01-01")).to_parquet("mine.parquet")
    with pytest.raises(UserError, match="column 'age' holds dates; fix: leave it out of columns"):
        table.load(file="mine.parquet", **REGRESSION)


def test_no_other_suffix(file):
    with pytest.raises(UserError, match=r"mine\.xlsx is no \.csv, .* or \.parquet file; fix: write"):
        table.load(file="mine.xlsx", **REGRESSION)


@pytest.fixture
def study(project):
    frame().to_csv("mine.csv", index=False)
    only(project, "standard", "gradient_norm")
    edit(
        project / "experiments/tiny.yaml",
        "data: {name: digits}",
        "data: {name: table, file: mine.csv, target: kind, task: classification, columns: [rooms, age]}",
    )
    return read_study("tiny")


def test_the_file_is_a_dependency(study):
    """Of DVC's prepare stage, and of what is prepared: an edited table is never used as it was."""
    before = dvc.current()["prepare"]["tiny"]
    assert data.prepare("tiny", study.data).exists()
    assert data.read_data("tiny", study.data, ("train",)).features == ("rooms", "age")
    frame()[::-1].to_csv("mine.csv", index=False)
    assert dvc.current()["prepare"]["tiny"] != before
    with pytest.raises(UserError, match=r"tiny\.npz is made from another mine\.csv; fix: dvc repro -f prepare@tiny"):
        data.read_data("tiny", study.data, ("train",))


def test_the_task_is_that_of_the_options(study, project):
    assert study.task.name == "classification"
    edit(project / "experiments/tiny.yaml", "target: kind, task: classification", "target: price, task: regression")
    with pytest.raises(UserError, match=r"attack\.attacks\.fab is not defined for regression"):
        read_study("tiny")


def test_a_table_that_is_gone_is_said_before_anything_runs(study, project):
    (project / "mine.csv").unlink()
    with pytest.raises(UserError, match=r"data\.file: mine\.csv is missing; fix: correct the name"):
        expected([read_study("tiny")])


def test_a_table_that_grows_while_it_is_read_is_refused(study, monkeypatch):
    load = table.load

    def growing(**options):
        found = load(**options)
        with Path("mine.csv").open("a", encoding="utf-8") as f:
            f.write("1,2,Bern,3,low,1.0\n")
        return found

    monkeypatch.setattr(table, "load", growing)
    with pytest.raises(UserError, match=r"data set 'table': mine\.csv changed while it was read; fix: run it again"):
        data.prepare("tiny", study.data)
    assert not layout.data("tiny").exists()


def test_the_first_examples_of_a_sorted_table_are_of_every_class(file):
    """`attack.examples: 20` takes the first 20 of the test split: of a sorted table they were all of one class."""
    frame().sort_values("kind").to_csv("mine.csv", index=False)
    found = table.load(file=file, target="kind", task="classification", columns=("rooms", "age"))
    for y in found.y.values():
        first = y[: len(y) // 2]
        assert 0.2 < first.mean() < 0.8


def test_a_column_that_is_constant_in_the_training_split_is_0_in_the_others_too(file):
    """0.1 has a deviation of 1e-17 there: another value in the test split became 2.4e15, or kept its own units."""
    rows = frame()
    quartile = np.searchsorted(np.quantile(rows.price, [0.25, 0.5, 0.75]), rows.price)
    part = table.split(N, seed=0, shares=(0.6, 0.2, 0.2), strata=quartile)
    for constant in (0.1, 1e6):
        rows["same"] = constant
        rows.loc[part["test"], "same"] = 2 * constant
        rows.to_csv("mine.csv", index=False)
        found = table.load(file=file, target="price", task="regression", columns=("rooms", "same"))
        assert {split: np.unique(x[:, 1]).tolist() for split, x in found.x.items()} == {
            split: [0.0] for split in found.x
        }
        assert units.standardised(torch.from_numpy(found.x["train"]))  # ε is in standard deviations all the same
