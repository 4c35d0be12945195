"""What stands around the results: published figures, longer attacks, limitations, and where the data come from."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from inputgrad.errors import UserError
from pipeline import data, report
from pipeline.report import attack_words, published, tables
from pipeline.report.units import score
from pipeline.results import read
from pipeline.results.opened import OpenStudy
from pipeline.results.read import Results
from pipeline.results.statistics import Estimate
from pipeline.results.summary import summarise
from pipeline.study.read import read_study
from pipeline.study.schema import Published, Study
from tests.pipeline.report.conftest import LOSSES


def row(robust: float, certified: bool = False) -> Published:
    return Published(name="trees", robust=robust, certified=certified, source="a paper")


def test_losses_lie_above_below_or_too_near(results: Results) -> None:
    summary = summarise(results)
    found = {r.name: r.robust[0].value for r in summary.rows}
    assert found["fgsm"].low is not None
    assert found["fgsm"].low > found["standard"].mean
    between = (found["fgsm"].low + found["standard"].mean) / 2
    stated = replace(
        summary,
        study=summary.study.model_copy(update={"published": [row(between, True), row(found["fgsm"].mean), row(0.0)]}),
    )
    section = published.published_section(stated, score(summary.study.task))
    assert section is not None
    first, near, lowest = section["sentences"]
    assert first.startswith("trees, ")
    assert "(certified)" in first
    assert "above `fgsm`;" in first
    assert "too near to tell `fgsm`" in near
    assert "below none" in lowest
    assert section["rows"][0]["clean"] == "–"
    assert section["rows"][0]["robust"].endswith("%, certified")


def test_a_study_states_published_rows_and_the_report_shows_them(study: Study) -> None:
    with study.file.open("a", encoding="utf-8") as file:
        file.write(
            "published:\n  - {name: trees & more, clean: 0.9, robust: 0.768, certified: true, source: a paper}\n"
        )
    target = report.write(OpenStudy(read_study("toy")), LOSSES)
    assert "| trees & more | 90.0 % | 76.8 %, certified | a paper |" in (target / "report.md").read_text()
    assert "trees &amp; more" in (target / "report.html").read_text()


def test_a_published_score_in_percent_is_refused(study: Study) -> None:
    with study.file.open("a", encoding="utf-8") as file:
        file.write("published: [{name: trees, robust: 76.8, source: a paper}]\n")
    with pytest.raises(UserError, match=r"toy.yaml: published: trees: a score lies between 0 and 1; fix: write 0.785"):
        read_study("toy")


def test_a_misspelt_key_of_a_row_is_named(study: Study) -> None:
    with study.file.open("a", encoding="utf-8") as file:
        file.write("published: [{name: trees, robst: 0.7, source: a paper}]\n")
    with pytest.raises(UserError, match=r"unknown key 'published.0.robst'; did you mean 'robust'"):
        read_study("toy")


def test_nets_trained_elsewhere_stand_beside_the_losses(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    one = read.GivenNet(
        name="theirs", source="nets:theirs, <w>.pt", clean=0.9, robust=0.5, examples=100, flags=("black_box",), notes=()
    )
    found = replace(read.read_results(OpenStudy(study), LOSSES), given_nets=[one])
    monkeypatch.setattr(read, "read_results", lambda *_: found)
    target = report.write(OpenStudy(study), LOSSES)
    low, high = 0.4038, 0.5962  # Wilson's interval of 50 of 100
    row = f"| 50.0 % [{100 * low:.1f}, {100 * high:.1f}] | ⚑ black_box |"
    assert row in (target / "report.md").read_text()
    assert "nets:theirs, &lt;w&gt;.pt" in (target / "report.html").read_text()
    metrics = json.loads((target / "metrics.json").read_text())
    assert metrics["checkpoints"] == {"theirs": {"clean": 0.9, "robust": 0.5, "examples": 100, "flags": ["black_box"]}}


def test_longer_attacks_stand_in_the_order_of_their_gradients(results: Results) -> None:
    linf, l2 = tables.iteration_tables(results, summarise(results))
    assert linf["heads"] == ["1 (`fgsm`)", "10 (`pgd_10x1`)", "60 (`pgd`)"]
    assert l2["threat"] == "l2 ε = 0.5"
    here = results.iterations
    assert set(here["loss"]) == set(LOSSES)
    # of the losses' 100 examples the attacks that are no stronger than FGSM break as many
    of_fgsm = results.scores.query("loss == 'fgsm' and seed == 0 and norm == 'linf' and epsilon == 0.1")
    alone = here.query("loss == 'fgsm' and seed == 0 and norm == 'linf'").set_index("attack")["score"]
    assert alone["fgsm"] == of_fgsm.set_index("attack")["score"]["fgsm"]
    assert alone["pgd"] == of_fgsm.set_index("attack")["score"]["pgd"]


def test_limitations_follow_the_study(results: Results) -> None:
    summary = summarise(results)
    said = " ".join(attack_words.limitations(summary, searched=False))
    assert "(`mlp`) and 3 epochs" in said
    assert "100 of" in said
    assert "`apgd_ce`, `fab_t` did not run" in said
    assert "another strength may serve" in said
    whole = {name: {} for name in ("apgd_ce", "apgd_t", "fab_t", "square")}
    attack = summary.study.attack.model_copy(update={"at_epsilon": whole})
    other = replace(summary, study=summary.study.model_copy(update={"attack": attack}))
    assert (
        len(attack_words.limitations(other, searched=True))
        == len(attack_words.limitations(summary, searched=False)) - 2
    )


def test_the_data_name_their_source(study: Study) -> None:
    target = report.write(OpenStudy(study), LOSSES)
    assert "Data: 1,797 handwritten digits" in (target / "report.md").read_text()
    assert "UCI" in Path(target / "report.html").read_text()


def test_a_secondary_norm_without_expensive_attacks_is_said_in_plain_words(study: Study) -> None:
    text = study.file.read_text(encoding="utf-8")
    for chosen, said in (("[square]", "In l2 only `square` of these."), ("[]", "In l2 none of these.")):
        study.file.write_text(text.replace("grid: [0.5]}", f"grid: [0.5], at_epsilon: {chosen}}}"), encoding="utf-8")
        assert attack_words.attacks_run(read_study("toy")).endswith(said)


def test_an_attack_on_some_examples_says_on_how_many(study: Study) -> None:
    text = study.file.read_text(encoding="utf-8")
    for knobs, count in (("{examples: 7}", 7), ("{}", 100)):
        changed = text.replace("square: {}", f"square: {{}}, hop_skip_jump: {knobs}")
        assert changed != text
        study.file.write_text(changed, encoding="utf-8")
        said = attack_words.attacks_run(read_study("toy"))
        assert said.count("`hop_skip_jump`") == 1
        assert f"`hop_skip_jump` there, on the first {count} that still stand." in said


def test_with_one_seed_nothing_is_said_of_intervals(results: Results) -> None:
    """One seed was above or below a published figure "by its interval", and had "intervals over 1 seeds"."""
    summary = summarise(results)
    rows = [
        replace(r, robust=[replace(q, value=Estimate(q.value.mean, None, None, 1)) for q in r.robust])
        for r in summary.rows
    ]
    training = summary.study.training.model_copy(update={"seeds": [0]})
    study = summary.study.model_copy(update={"published": [row(0.5)], "training": training})
    one = replace(summary, rows=rows, study=study)
    section = published.published_section(one, score(study.task))
    assert section is not None
    assert section["sentences"] == [
        "trees, 50.0 %: one seed, which cannot tell " + ", ".join(f"`{r.name}`" for r in rows) + "."
    ]
    said = attack_words.limitations(one, searched=True, repeated=0)
    assert said[1].startswith("One seed has no interval")
    assert "Intervals over 3 seeds" in attack_words.limitations(summary, searched=True)[1]


def test_test_examples_that_were_trained_on_are_counted(results: Results) -> None:
    """A table with repeated rows has them in several splits: their scores are learnt by heart."""
    x = {split: values.clone() for split, values in results.dataset.x.items()}
    before = data.repeated(results.dataset)
    x["test"][:3] = x["train"][5:8]
    assert data.repeated(replace(results.dataset, x=x)) == before + 3
    said = attack_words.limitations(summarise(results), searched=True, repeated=3)
    assert any(line.startswith("3 of the 360 examples of the test split have the same input") for line in said)
