"""Measures of a data set's own: taken once for every trained net, kept, logged, and shown with intervals."""

import json
import sys

import pytest
import torch

from inputgrad.errors import UserError
from pipeline import layout
from pipeline.data import _measures, digits
from pipeline.fingerprint import code_of, read_again
from pipeline.results.opened import OpenStudy
from pipeline.results.read import read_results
from pipeline.results.summary import summarise
from pipeline.stages import attack, runner
from pipeline.study.code import modules
from pipeline.study.read import read_study
from pipeline.study.run import Run
from pipeline.tracking.results import SeedFolder
from tests.conftest import edit, only

MODULE = """
from pipeline.data import digits
TASK, BOUNDS = "classification", (0.0, 1.0)
load = digits.load
MEASURES = {"mean_logit": "The mean of all outputs on the test split.", "train_share": "Train to test examples."}


def measures(model, dataset):
    outputs = model(dataset.inputs("test"))
    assert outputs.dtype == model[1].weight.dtype and not model.training and outputs.device.type == "cpu"
    return {"train_share": len(dataset.y["train"]) / len(dataset.y["test"]), "mean_logit": outputs.mean()}
"""


@pytest.fixture
def study(project, monkeypatch):
    """The study `tiny` with a data set that measures two things; a function that edits its module."""
    monkeypatch.setattr("pipeline.tracking.mirror", lambda *_: None)
    monkeypatch.setattr("pipeline.tracking.catch_up", lambda *_: None)
    (project / "measuring.py").write_text(MODULE, encoding="utf-8")
    sys.path.insert(0, str(project))
    edit(project / "experiments/tiny.yaml", "data: {name: digits}", 'data: {name: measuring, use: "measuring"}')
    only(project, "standard", "gradient_norm")

    def with_module(old, new):
        edit(project / "measuring.py", old, new)
        sys.modules.pop("measuring", None)
        return read_study("tiny")

    return with_module


def test_they_are_kept_logged_and_reported(study, project):
    runner.prepare("tiny")
    for loss in ("standard", "gradient_norm"):
        runner.train("tiny", loss, jobs=1)
        runner.attack("tiny", loss, jobs=1)
    runner.report("tiny")
    opened = OpenStudy(read_study("tiny"))
    run = Run(opened.study, "gradient_norm", 1)
    kept = json.loads((run.folder("attack") / layout.MEASURES).read_text(encoding="utf-8"))
    victim = attack.victim_of(attack.Evaluation(run))
    with torch.no_grad():
        assert kept["mean_logit"] == pytest.approx(float(victim.model(victim.x).mean()), abs=1e-6)
    share = kept["train_share"]
    logged = {point.name: point.value for point in SeedFolder(opened, "gradient_norm", 1).outcome}
    assert {name: logged[name] for name in kept} == kept
    rows = {row.name: row for row in summarise(read_results(opened, ["standard", "gradient_norm"])).rows}
    found = rows["gradient_norm"].measures
    assert list(found) == ["mean_logit", "train_share"]
    assert found["train_share"].value == pytest.approx((share, share, share, 2))
    assert found["mean_logit"].value.low < found["mean_logit"].value.mean < found["mean_logit"].value.high
    assert rows["standard"].measures["mean_logit"].difference is None
    report = layout.report("tiny")
    metrics = json.loads((report / layout.METRICS).read_text(encoding="utf-8"))
    assert metrics["losses"]["gradient_norm"]["measures"]["mean_logit"]["mean"] == found["mean_logit"].value.mean
    for text in (report / name for name in ("report.md", layout.PAGE)):
        page = text.read_text(encoding="utf-8")
        assert "Measures of the data set" in page
        assert "The mean of all outputs on the test split." in page
        assert f"{share:.3g}" in page


def test_a_data_set_without_measures_has_an_empty_file_and_no_section(project):
    study = read_study("tiny")
    assert _measures.described(study.data) == {}
    assert _measures.take("a run", study.data, torch.nn.Linear(1, 1), "tiny", 0) == {}  # no data are read
    assert not hasattr(digits, "MEASURES")
    assert layout.MEASURES in attack.FILES


def test_an_edited_measure_is_another_result(study):
    """As every edit of the module of the data: they are prepared again, and all that comes after them."""
    one = read_study("tiny")
    before = code_of(*modules("attack", one.parts, "standard"))[0]
    study("outputs.mean()", "outputs.std()")
    read_again()
    after = code_of(*modules("attack", one.parts, "standard"))[0]
    assert [name for name in after if before[name] != after[name]] == ["measuring"]
    assert "pipeline.data._measures" in after


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"mean_logit": outputs.mean()', '"mean_logit": float("nan")', r"gives nan for 'mean_logit'; fix: a finite"),
        (
            '"mean_logit": outputs',
            '"mean_logits": outputs',
            r"'mean_logits', which MEASURES lacks; did you mean 'mean_l",
        ),
        (', "mean_logit": outputs.mean()', "", r"gives no 'mean_logit'; fix: give it, or take it out of MEASURES"),
        ("outputs.mean()}", "outputs}", r"gives Tensor for 'mean_logit'; fix: one number"),
        ("return {", "return [], {", r"measuring\.measures gives tuple; fix: a dict, name -> number"),
    ],
)
def test_a_wrong_number_is_one_line(study, old, new, message):
    one = study(old, new)
    runner.prepare("tiny")
    net = Run(one, "standard", 0).build(_measures.data.read_data("tiny", one.data, ("test",)))
    with pytest.raises(UserError, match=message):
        _measures.take("tiny/standard/seed-0", one.data, net, "tiny", 0)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "def measures(model, dataset)",
            "def other(model, dataset)",
            r"no such measures as is needed; fix: .*dataset\)",
        ),
        ("def measures(model, dataset)", "def measures(model)", r"no such measures as is needed"),
        ("MEASURES = {", "OTHER = {", r"no such MEASURES as is needed; fix: write MEASURES = \{"),
        ('"mean_logit": "The', '"robust": "The', r"no such MEASURES as is needed"),
        ('"mean_logit": "The', '"clean_error": "The', r"no such MEASURES as is needed"),
        ('"mean_logit": "The', '"mean logit": "The', r"no such MEASURES as is needed"),
    ],
)
def test_a_module_that_cannot_measure_is_refused_with_the_study(study, old, new, message):
    with pytest.raises(UserError, match=message):
        study(old, new)


def test_the_net_and_the_random_numbers_are_left_alone(study, project):
    one = study("outputs = model", "import torch; model[1].weight.data += torch.randn(1); outputs = model")
    runner.prepare("tiny")
    net = Run(one, "standard", 0).build(_measures.data.read_data("tiny", one.data, ("test",)))
    before, state = attack.state_hash(net), torch.get_rng_state()
    first, second = (_measures.take("a", one.data, net, "tiny", seed) for seed in (0, 0))
    assert first == second != _measures.take("a", one.data, net, "tiny", 1)
    assert attack.state_hash(net) == before
    assert torch.equal(torch.get_rng_state(), state)
