"""No measurement touches a run: a net that every pass in train mode changes is trained as if nobody looked."""

import copy
import random
import sys

import numpy as np
import pytest
import torch
from torch import nn

from inputgrad import files
from inputgrad.attacks import Threat
from inputgrad.audit import audit
from inputgrad.gradients.descriptors import descriptors
from inputgrad.gradients.forward import Draws
from inputgrad.gradients.looking import looking
from pipeline import data, store
from pipeline.search import objective
from pipeline.stages import measured, saving, train
from pipeline.study.read import read_study
from pipeline.study.run import Run
from tests.conftest import edit
from tests.pipeline.test_train import contents

NET = """
import random
import numpy
import torch
from torch import nn

class Noise(nn.Module):
    \"\"\"Draws in every mode, from all global generators, and counts its passes.\"\"\"

    def __init__(self):
        super().__init__()
        self.register_buffer("passes", torch.zeros(()))

    def forward(self, x):
        self.passes += 1
        return x + 0.01 * (torch.randn_like(x) + random.gauss(0, 1) + numpy.random.normal())

def build(shape, outputs):
    return nn.Sequential(
        nn.Flatten(), Noise(), nn.Linear(64, 16), nn.BatchNorm1d(16), nn.SiLU(), nn.Dropout(0.3), nn.Linear(16, outputs)
    )
"""
MODEL = "{name: mlp, hidden: [8], activation: silu}"


@pytest.fixture
def run(project):
    """A function that makes a run of the study `tiny` whose net has BatchNorm, Dropout and noise."""
    (project / "noisy.py").write_text(NET, encoding="utf-8")
    sys.path.insert(0, str(project))
    edit(project / "experiments/tiny.yaml", MODEL, "{name: noisy, use: 'noisy:build'}")
    data.prepare("tiny", read_study("tiny").data)
    return lambda loss: Run(read_study("tiny"), loss, 0)


def last(run, average=False):
    """What last.pt holds of a training from nothing, without what was measured."""
    files.remove(run.state)
    random.seed(0)
    np.random.seed(0)
    state = store.load_checkpoint(train.train(run) / "last.pt", "")
    return {key: value for key, value in state.items() if key not in ("fingerprint", "history", "snapshots")}


def test_the_control_is_standard_in_every_tensor(run):
    """Batches tracked, means, variances, and whatever Dropout drew: of 3 epochs."""
    found = {loss: last(run(loss)) for loss in ("standard", "detached_norm", "gradient_norm")}
    plain, control = found["standard"]["model"], found["detached_norm"]["model"]
    assert {name for name in plain if not torch.equal(plain[name], control[name])} == set()
    assert store.hash_of_contents(found["detached_norm"]) == store.hash_of_contents(found["standard"])
    assert not torch.equal(found["gradient_norm"]["model"]["2.weight"], plain["2.weight"])


@pytest.mark.parametrize("average", ["", ", average: 0.9"])
def test_with_every_measurement_a_run_ends_as_without_any(run, project, monkeypatch, average):
    edit(project / "experiments/tiny.yaml", "seeds: [0, 1]", f"seeds: [0, 1]{average}")
    study_run, save = run("fgsm"), train.save_epoch

    def look_at_everything(trainer, folder):
        save(trainer, folder)
        x, y, context = trainer.dataset.first("train", 16)
        audit(trainer.run.loss, trainer.model, x, y, context)
        with looking(trainer.run.device, trainer.kept) as model:
            threat = Threat(norm="linf", epsilon=0.1, bounds=(0.0, 1.0))
            descriptors(model, x, y, threat, Draws(torch.Generator().manual_seed(1)))
        files.remove(measured.measure(trainer.run))
        look = objective.kept(trainer.run, trainer.dataset, folder)
        with looking(trainer.run.device, look) as model:
            objective.scores(model, trainer.run, trainer.dataset)
        objective.refuse_unusable(trainer.run, trainer.dataset)

    monkeypatch.setattr(train, "save_epoch", look_at_everything)
    monkeypatch.setattr("pipeline.stages.measured.ROUNDS", 10)
    monkeypatch.setattr("pipeline.stages.measured.FEWEST", 10)
    looked_at = last(study_run)
    nothing = {"validation_accuracy": 0.5, "validation_loss": 1.0}
    monkeypatch.setattr(train, "validate", lambda trainer: nothing)
    monkeypatch.setattr(saving, "snapshot_epochs", lambda epochs: set())
    monkeypatch.setattr(train, "finish", lambda trainer, folder: None)
    monkeypatch.setattr(train, "save_epoch", save)
    assert store.hash_of_contents(last(study_run)) == store.hash_of_contents(looked_at)


def test_a_run_of_such_a_net_that_was_stopped_ends_with_the_same_bytes(run, project):
    """With Dropout, whose numbers a checkpoint holds; Python's and NumPy's belong to no checkpoint."""
    edit(project / "noisy.py", " + random.gauss(0, 1) + numpy.random.normal()", "")
    sys.modules.pop("noisy", None)
    whole = run("fgsm")
    before = contents(train.train(whole))
    files.remove(whole.state)
    train.train(whole, until=2)
    assert contents(train.train(whole)) == before


@pytest.mark.parametrize("normed", [torch.nn.utils.weight_norm, torch.nn.utils.spectral_norm])
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_a_net_whose_hooks_make_its_weights_can_be_looked_at(normed):
    net = nn.Sequential(normed(nn.Linear(4, 4)), nn.BatchNorm1d(4))
    x = torch.rand(8, 4)
    net(x).sum().backward()  # a pass: the weight is now the end of a graph, which `copy.deepcopy` refuses
    with pytest.raises(RuntimeError, match="deepcopy"):
        copy.deepcopy(net)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    with looking(torch.device("cpu"), net) as model:
        model(x).sum().backward()
        assert all(p.grad is not None for p in model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_random_numbers_go_on_also_after_an_error():
    def three():
        return float(torch.rand(())), random.random(), float(np.random.rand())

    net = nn.Linear(1, 1)
    torch.manual_seed(1)
    random.seed(1)
    np.random.seed(1)
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()
    expected = three()
    torch.set_rng_state(states[0])
    random.setstate(states[1])
    np.random.set_state(states[2])

    def fail():
        with looking(torch.device("cpu"), net) as model:
            three()
            model()

    with pytest.raises(TypeError):
        fail()
    assert three() == expected


def test_the_ratio_of_a_net_with_dropout_compares_the_same_units(run):
    """Both passes drop the same units: for the task alone against itself the ratio is exact."""
    study_run = run("fgsm")
    dataset = data.read_data("tiny", study_run.study.data, ("train", "validation"))
    torch.manual_seed(0)
    trainer = train.Trainer.fresh(study_run, dataset)
    trainer.model.train()
    assert train.term_gradient_ratio(trainer) == train.term_gradient_ratio(trainer) > 0
