"""Tables as programs write them: each gives the numbers of the plain one, at once or after the fix that is named."""

import gzip
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from inputgrad.errors import UserError
from pipeline.data import table
from pipeline.stages import runner
from pipeline.study.read import read_study
from tests.conftest import edit, only

N = 60
OPTIONS = {"target": "price", "task": "regression"}


def frame():
    g = np.random.default_rng(0)
    x = pd.DataFrame({"rooms": g.integers(1, 9, N), "area": g.normal(50, 9, N).round(2)})
    return x.assign(price=(3000 * x.rooms + 100 * g.normal(size=N)).round(2))


def grouped(group, point="."):
    """Prices such as 20,971.26."""
    swapped = {",": group, ".": point}
    price, area = (
        [*map(lambda v: "".join(swapped.get(c, c) for c in f"{v:,.2f}"), frame()[n])] for n in ("price", "area")
    )
    return frame().assign(price=price, area=area)


def write(content, encoding="utf-8", name="mine.csv"):
    raw = content.encode(encoding)
    Path(name).write_bytes(gzip.compress(raw) if name.lower().endswith(".gz") else raw)
    return name


def numbers(name="mine.csv", **options):
    found = table.load(file=name, **OPTIONS | options)
    return {s: np.concatenate([found.x[s], found.y[s]], 1) for s in found.x}


@pytest.fixture
def plain(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return numbers(write(frame().to_csv(index=False)))


def same(found, plain):
    for split in plain:
        np.testing.assert_allclose(found[split], plain[split], rtol=1e-5)


def ended(text, first="", rest=""):
    """The lines with something at the end of the first, and of every other."""
    head, *others = text.splitlines()
    return "\n".join([head + first, *(line + rest for line in others)]) + "\n"


CSV = frame().to_csv(index=False)
UMLAUT = frame().rename(columns={"area": "Fläche"}).to_csv(index=False)
SHUFFLED = frame().set_axis(np.random.default_rng(0).permutation(N))
FORMS = {
    "semicolons": (frame().to_csv(index=False, sep=";"), "utf-8", [("separator: ';'", {"separator": ";"})]),
    "tabs": (frame().to_csv(index=False, sep="\t"), "utf-8", [("separator: tab", {"separator": "tab"})]),
    "bars": (frame().to_csv(index=False, sep="|"), "utf-8", [(r"separator: '\|'", {"separator": "|"})]),
    "spaces": (frame().to_csv(index=False, sep=" "), "utf-8", [("separator: space", {"separator": "space"})]),
    "decimal commas": (
        frame().to_csv(index=False, sep=";", decimal=","),
        "utf-8",
        [("separator: ';'", {"separator": ";"}), ("'40,91'; fix: data.decimal: ','", {"decimal": ","})],
    ),
    "quoted decimal commas": (frame().to_csv(index=False, decimal=","), "utf-8", [("decimal: ','", {"decimal": ","})]),
    "thousands": (grouped(",").to_csv(index=False), "utf-8", [("fix: data.thousands: ','", {"thousands": ","})]),
    "spaces in thousands": (
        grouped(" ").to_csv(index=False), "utf-8", [("data.thousands: space", {"thousands": "space"})]
    ),
    "points in thousands": (
        grouped(".", ",").to_csv(index=False),
        "utf-8",
        [("'40,91'; fix: data.decimal: ','", {"decimal": ","}), ("fix: data.thousands: '.'", {"thousands": "."})],
    ),
    "latin-1": (UMLAUT, "latin-1", [(r"not readable as utf-8; .*cp1252 \('Fläche' is then", {"encoding": "cp1252"})]),
    "utf-8 with a mark": (UMLAUT, "utf-8-sig", []),
    "utf-16": (UMLAUT, "utf-16", [("data.encoding: utf-16 ", {"encoding": "utf-16"})]),
    "utf-16 without a mark": (CSV, "utf-16-le", [("data.encoding: utf-16-le", {"encoding": "utf-16-le"})]),
    "quoted": (frame().to_csv(index=False, quoting=1), "utf-8", []),
    "an index": (frame().to_csv(), "utf-8", [("1 has no name and counts .*data.index: true", {"index": True})]),
    "a shuffled index": (
        frame().assign(i=SHUFFLED.index).set_index("i").rename_axis(None).to_csv(),
        "utf-8",
        [("column 1 has no name; fix: data.index: true", {"index": True})],
    ),
    "an index with a name": (
        frame().rename_axis("id").to_csv(), "utf-8", [("'id' counts the rows; .*index: true", {"index": True})]
    ),
    "an index saved twice": (
        frame().rename_axis("Unnamed: 0").reset_index().to_csv(),
        "utf-8",
        [
            ("column 1 has no name", {"index": True}),
            (r"data.columns names the inputs, such as \[rooms, area\]", {"columns": ("rooms", "area")}),
        ],
    ),
    "an index that the header leaves out": (
        frame().to_csv()[1:], "utf-8", [("names 3 columns, the next has 4; .*data.index: true", {"index": True})]
    ),
    "no header": (
        frame().to_csv(index=False, header=False),
        "utf-8",
        [(r"first line holds values \(7, .*data.names: \[a, b, …\]", {"names": ("rooms", "area", "price")})],
    ),
    "a separator at every end": (ended(CSV, ",", ","), "utf-8", []),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_a_table_is_read_at_once_or_after_the_fixes_that_are_named(plain, form):
    content, encoding, fixes = FORMS[form]
    write(content, encoding)
    options = {}
    for message, option in fixes:
        with pytest.raises(UserError, match=message) as error:
            numbers(**options)
        assert "\n" not in str(error.value)
        options |= option
    same(numbers(**options), plain)


@pytest.mark.parametrize("name", ["MINE.CSV", "mine.txt", "mine.csv.gz", "Mine.Csv.GZ"])
def test_names_of_files(plain, name):
    same(numbers(write(CSV, name=name)), plain)


MISTAKES = [
    (CSV.replace("rooms", "area", 1), {}, r"2 columns are called 'area'; fix: give each a name of its own in the file"),
    (ended(CSV, rest=","), {}, r"every line but the first ends with ','; fix: write it there too"),
    ("# houses\n" + CSV, {}, r"first line names 1 columns, the next has 3; fix: begin the file with the names"),
    ("sep=;\n" + CSV.replace(",", ";"), {}, r"first line 'sep=;' is for Excel alone; fix: delete .*separator: ';'"),
    (CSV, {"names": ("a", "price")}, r"data\.names gives 2 names, mine\.csv has 3 columns; fix: one name for each"),
    (CSV, {"index": True}, r"first column of mine\.csv does not number the rows, it holds \d twice; fix: leave"),
    (CSV, {"encoding": "latin-11"}, r"data\.encoding: there is no 'latin-11'; fix: utf-8, cp1252"),
    (UMLAUT, {"encoding": "latin-1"}, r"data\.encoding: latin-1: mine\.csv is UTF-8; fix: leave it out"),
    (CSV, {"thousands": ",", "decimal": ","}, r"data\.thousands and data\.decimal are both ','; fix: leave one"),
    (CSV, {"thousands": ".", "decimal": ","}, r"holds '40\.91', no groups of three digits; fix: leave data\.thousands"),
]


@pytest.mark.parametrize(("content", "options", "message"), MISTAKES, ids=[m[2][:30] for m in MISTAKES])
def test_what_a_table_speaks_against_is_one_line(plain, content, options, message):
    write(content)
    with pytest.raises(UserError, match=message) as error:
        numbers(**options)
    assert "\n" not in str(error.value)


def test_a_point_that_may_be_between_thousands_is_asked_for(plain):
    """20.971 beside 912: read with a decimal point, 912 would be the larger one by far."""
    prices = [f"{int(v):,}".replace(",", ".") if v > 999 else str(int(v)) for v in frame().price / 5]
    assert {"." in price for price in prices} == {True, False}
    write(frame().assign(price=prices).drop(columns="area").to_csv(index=False, sep=";"))
    message = r"'price' holds [\d.]+ and \d+: is its point .*fix: data\.decimal: '\.' or data\.thousands: '\.'"
    with pytest.raises(UserError, match=message):
        numbers(separator=";")
    found = {
        thousands: numbers(separator=";", **how) for thousands, how in ((0, {"decimal": "."}), (1, {"thousands": "."}))
    }
    price = np.sort([int(p.replace(".", "")) for p in prices]), np.sort([float(p) for p in prices])
    for wanted, one in zip(price, (found[1], found[0]), strict=True):
        seen = np.sort(np.concatenate([part[:, -1] for part in one.values()]))
        assert np.corrcoef(seen, wanted)[0, 1] > 0.9999


def test_a_comma_that_may_be_either_is_said_to_be(plain):
    write(frame().assign(price=[f"{1000 + n},{100 + n}"[1:] for n in range(N)]).to_csv(index=False))
    with pytest.raises(UserError, match=r"fix: data\.decimal: ',' or data\.thousands: ','"):
        numbers()


@pytest.mark.parametrize("sign", ["?", "-", ".", "none", "NA", ""])
def test_missing_values_are_refused_or_left_out(plain, capsys, sign):
    rows = frame().astype({"area": object})
    rows.loc[[3, 7], "area"] = sign
    write(rows.to_csv(index=False))
    how = {}
    if sign not in ("NA", ""):
        with pytest.raises(UserError, match=re.escape(f"data.missing_as: ['{sign}'] if it stands for a missing value")):
            numbers()
        how = {"missing_as": (sign,)}
    with pytest.raises(UserError, match=r"missing values \('area' 2 of 60 rows\); .*or data\.missing: drop"):
        numbers(**how)
    found = numbers(**how, missing="drop")
    assert sum(map(len, found.values())) == N - 2
    assert capsys.readouterr().err == "note: mine.csv: 2 of 60 rows are left out ('area' 2)\n"


def test_na_is_a_value_where_the_study_says_so(plain):
    """North America, Namibia."""
    write(frame().assign(where=["NA", "EU"] * (N // 2)).to_csv(index=False))
    with pytest.raises(UserError, match=r"missing values \('where' 30 of 60 rows\)"):
        numbers(text="one_hot")
    assert table.load(file="mine.csv", **OPTIONS, text="one_hot", missing_as=()).features[2:] == [
        "where_EU",
        "where_NA",
    ]


def test_numbers_are_not_taken_for_text(plain):
    """`text: one_hot` of 60 numbers with a decimal comma gave 60 columns."""
    write(frame().to_csv(index=False, decimal=","))
    with pytest.raises(UserError, match=r"fix: data\.decimal: ','; if it is text: data\.decimal: '\.'"):
        numbers(text="one_hot", columns=("area",))
    rows = frame().assign(code=["1,2", "3"] * (N // 2))
    write(rows.to_csv(index=False))
    with pytest.raises(UserError, match=r"'code' holds text such as '1,2'; fix: data\.decimal: ','; if it is text"):
        numbers(text="one_hot")
    assert table.load(file="mine.csv", **OPTIONS, text="one_hot", decimal=".").features[2:] == ["code_1,2", "code_3"]


def test_a_class_that_nobody_knows_is_asked_for(plain):
    kinds = ["a", "b", "?"] * (N // 3)
    write(frame().assign(kind=kinds).to_csv(index=False))
    how = {"target": "kind", "task": "classification"}
    with pytest.raises(
        UserError, match=r"'kind' holds text such as '\?'; fix: data\.missing_as: \['\?'\] .*\[\] if not"
    ):
        table.load(file="mine.csv", **how)
    assert table.load(file="mine.csv", **how, missing_as=()).y["train"].max() == 2
    assert table.load(file="mine.csv", **how, missing_as=("?",), missing="drop").y["train"].max() == 1


def test_a_column_that_counts_is_an_input_where_it_is_named(plain):
    write(frame().rename_axis("step").to_csv())
    assert table.load(file="mine.csv", **OPTIONS, columns=("step", "rooms")).features == ["step", "rooms"]


def test_options_of_text_are_not_for_parquet(plain):
    frame().to_parquet("mine.parquet")
    with pytest.raises(UserError, match=r"data\.separator: mine\.parquet is no text file; fix: leave it out"):
        numbers("mine.parquet", separator=";")
    frame().rename_axis("id").reset_index().to_parquet("mine.parquet")
    with pytest.raises(UserError, match=r"'id' counts the rows; fix: data\.index: true"):
        numbers("mine.parquet")
    same(numbers("mine.parquet", index=True), plain)


def test_the_options_are_keys_of_a_study(project):
    write(frame().assign(kind=np.where(frame().rooms > 4, "big", "small")).to_csv(sep="\t", decimal=","))
    only(project, "standard", "gradient_norm")
    said = "{name: table, file: mine.csv, target: kind, task: classification, %s}"
    edit(
        project / "experiments/tiny.yaml",
        "{name: digits}",
        said % "index: true, separator: tab, decimal: ',', missing_as: ['?']",
    )
    study = read_study("tiny")
    assert runner.prepare("tiny").exists()
    edit(project / "experiments/tiny.yaml", "separator: tab", "separator: tabs")
    with pytest.raises(UserError, match=r"data\.separator.*'tab'"):
        read_study(study.name)
