"""Nets by name: they take images in [0, 1], couple no examples, and carry a double backward."""

import pytest
import torch
from torch import nn

from inputgrad.audit import audit
from inputgrad.errors import UserError
from inputgrad.losses import load
from pipeline import data, models
from pipeline.study.read import read_study
from pipeline.study.run import Run
from tests.conftest import edit

NETS = [
    {"name": "cnn", "width": 4, "norm": "group"},
    {"name": "lenet"},
    {"name": "lenet", "activation": "relu", "width": 2},
    {"name": "resnet18"},
    {"name": "torchvision", "net": "resnet18", "activation": "silu"},
    {"name": "torchvision", "net": "mobilenet_v3_small"},
    {"name": "torchvision", "net": "shufflenet_v2_x0_5", "norm": "batch"},
]


def build(settings, channels=1, side=28, outputs=3):
    torch.manual_seed(0)
    return models.build(settings, (channels, side, side), outputs)


@pytest.mark.parametrize("settings", NETS, ids=lambda s: "-".join(map(str, s.values())))
@pytest.mark.parametrize("channels", [1, 3])
def test_every_net_takes_images(settings, channels):
    net = build(settings, channels).eval()
    x = torch.rand(4, channels, 28, 28)
    assert net(x).shape == (4, 3)
    torch.testing.assert_close(net(x)[:2], net(x[:2]), atol=1e-4, rtol=1e-3)
    batch_norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    assert bool(batch_norms) == (settings.get("norm") == "batch")


def mlp(**settings):
    torch.manual_seed(0)
    net = models.build({"name": "mlp", "hidden": [400, 300], **settings}, (200,), 100)
    return [layer for layer in net if isinstance(layer, nn.Linear)]


def test_orthogonal_weights_keep_lengths():
    for layer, plain in zip(mlp(initial="orthogonal"), mlp(), strict=True):
        wide = layer.weight if layer.out_features < layer.in_features else layer.weight.T
        torch.testing.assert_close(wide @ wide.T, torch.eye(len(wide)), atol=1e-4, rtol=0)
        limit = layer.in_features**-0.5  # of PyTorch's own biases
        assert 0.8 * limit < float(layer.bias.detach().abs().max()) <= limit
        assert not torch.equal(layer.weight, plain.weight)


def test_variance_scaling_is_that_of_tensorflow():
    for layer in mlp(initial="variance_scaling"):
        assert float(layer.weight.detach().std() * layer.in_features**0.5) == pytest.approx(1, abs=0.01)
        cut = 2 / 0.87962566 * layer.in_features**-0.5
        assert 0.95 * cut < float(layer.weight.detach().abs().max()) <= cut * 1.0001
        assert not layer.bias.any()


def test_normal_weights_and_biases():
    for layer in mlp(initial="normal"):
        assert float(layer.weight.detach().std()) == pytest.approx(0.1, rel=0.02)
        assert float(layer.weight.detach().abs().max()) > 0.35  # nothing is cut off
        assert float(layer.bias.detach().std()) == pytest.approx(0.1, rel=0.25)


def test_the_last_bias_may_be_left_out():
    for initial in ("torch", "orthogonal", "variance_scaling", "normal"):
        *hidden, last = mlp(initial=initial, last_bias=False)
        assert last.bias is None
        assert all(layer.bias is not None for layer in hidden)


@pytest.mark.parametrize("initial", ["torch", "orthogonal", "variance_scaling", "normal"])
def test_the_seed_alone_decides_the_initial_weights(project, initial):
    plain = "model: {name: mlp, hidden: [8], activation: silu}"
    new = f"model: {{name: mlp, hidden: [8], initial: {initial}, last_bias: false}}"
    edit(project / "experiments/tiny.yaml", plain, new)
    study = read_study("tiny")
    data.prepare("tiny", study.data)
    dataset = data.read_data("tiny", study.data, ("train",))
    found = []
    for loss, seed, global_seed in (("standard", 0, 5), ("gradient_norm", 0, 6), ("standard", 1, 5)):
        torch.manual_seed(global_seed)
        net = Run(study, loss, seed).build(dataset)
        found.append(nn.utils.parameters_to_vector(net.parameters()))
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_lenet_is_the_published_one():
    shapes = [tuple(p.shape) for p in build({"name": "lenet", "activation": "relu"}, outputs=10).parameters()]
    assert shapes == [(16, 1, 4, 4), (16,), (32, 16, 4, 4), (32,), (100, 1568), (100,), (10, 100), (10,)]


@pytest.mark.parametrize("settings", [NETS[1], NETS[3], NETS[4]], ids=["lenet", "resnet18", "torchvision"])
def test_the_penalty_acts_on_it(settings):
    x, y = torch.rand(4, 1, 28, 28), torch.tensor([0, 1, 2, 0])
    found = audit(load("gradient_norm")(strength=1.0), build(settings).train(), x, y)
    assert found.depends, str(found)
    assert not [row.name for row in found.rows if row.ok is False]


def test_weights_are_loaded_and_others_refused(tmp_path):
    settings = {"name": "torchvision", "net": "resnet18"}
    one = build(settings)
    file = tmp_path / "w.pt"
    torch.save(one[-1].state_dict(), file)
    torch.manual_seed(5)
    other = models.build({**settings, "weights": str(file)}, (1, 28, 28), 3)
    assert torch.equal(other[-1].fc.weight, one[-1].fc.weight)
    with pytest.raises(UserError, match=r"w\.pt holds the weights of another net: 2 of another shape \(fc"):
        models.build({**settings, "weights": str(file)}, (1, 28, 28), 5)
    torch.save(one, file)  # a pickle
    with pytest.raises(UserError, match=r"w\.pt holds more than weights"):
        models.build({**settings, "weights": str(file)}, (1, 28, 28), 3)


def test_mistakes_are_one_line(project):
    with pytest.raises(UserError, match=r"model\.net: no 'resnet19' in torchvision; did you mean 'resnet1"):
        build({"name": "torchvision", "net": "resnet19"})
    with pytest.raises(UserError, match=r"model lenet takes images \(channels, height, width\), the data have \(10,\)"):
        models.build({"name": "lenet"}, (10,), 3)
    with pytest.raises(UserError, match=r"1 or 3 channels, the data have 2"):
        build({"name": "torchvision", "net": "resnet18"}, channels=2)
    edit(
        project / "experiments/tiny.yaml",
        "model: {name: mlp, hidden: [8], activation: silu}",
        "model: {name: torchvision}",
    )
    with pytest.raises(UserError, match=r"key 'model\.net' is missing"):
        read_study("tiny")


def test_other_weights_are_another_run(project, tmp_path):
    torch.save({}, tmp_path / "w.pt")
    edit(
        project / "experiments/tiny.yaml",
        "model: {name: mlp, hidden: [8], activation: silu}",
        f"model: {{name: torchvision, net: resnet18, weights: {tmp_path / 'w.pt'}}}",
    )
    study = read_study("tiny")
    assert [file.name for file in models.sources(study.model)] == ["w.pt"]
    (project / "data").mkdir()
    (project / "data/tiny.npz").write_bytes(b"")
    first = Run(study, "standard", 0).fingerprint
    torch.save({"a": torch.ones(1)}, tmp_path / "w.pt")
    assert Run(study, "standard", 0).fingerprint != first
