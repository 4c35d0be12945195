"""A correct penalty on ordinary nets: nothing fails, whatever the net is made of."""

import pytest
import torch
import torchvision
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.utils.parametrizations import spectral_norm

from inputgrad import audit
from inputgrad.errors import UserError
from tests.inputgrad.audit.test_audit import failed
from tests.inputgrad.audit.test_hard_losses import penalty


class WithMathKernel(nn.Module):
    """A net whose attention runs on the kernel that can be differentiated twice."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        with sdpa_kernel(SDPBackend.MATH):
            return self.net(x)


class LSTM(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn, self.out = nn.LSTM(6, 16, num_layers=2, batch_first=True), nn.Linear(16, 4)

    def forward(self, x):
        return self.out(self.rnn(x)[0][:, -1])


def small_vgg():
    """VGG-11 with a small head: its own has 120 million weights."""
    net = torchvision.models.vgg11(num_classes=4)
    net.avgpool, net.classifier = nn.AdaptiveAvgPool2d(1), nn.Sequential(*net.classifier[1:3], nn.Linear(512, 4))
    return net


def transformer():
    layer = nn.TransformerEncoderLayer(6, 2, 16, dropout=0.1, batch_first=True)
    return WithMathKernel(nn.Sequential(nn.TransformerEncoder(layer, 2), nn.Flatten(), nn.Linear(30, 4)))


def vision_transformer():
    """Its last layer starts at 0, and with it every input gradient: that is told."""
    return WithMathKernel(torchvision.models.VisionTransformer(32, 8, 2, 2, 16, 32, num_classes=4))


def relu_cnn():
    layers = [nn.Conv2d(3, 8, 3), nn.ReLU(inplace=True), nn.MaxPool2d(2), nn.Conv2d(8, 8, 3), nn.ReLU()]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(8 * 13 * 13, 4))


def group_norm():
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.GroupNorm(2, 8), nn.SiLU(), nn.Flatten(), nn.Linear(7200, 4))


def dropout():
    return nn.Sequential(nn.Flatten(), nn.Linear(3072, 16), nn.ReLU(), nn.Dropout(), nn.Linear(16, 4))


def spectral():
    return nn.Sequential(nn.Flatten(), spectral_norm(nn.Linear(3072, 16)), nn.ReLU(), spectral_norm(nn.Linear(16, 4)))


def resnet():
    return torchvision.models.resnet18(num_classes=4)


def mobilenet():
    return torchvision.models.mobilenet_v2(num_classes=4)


IMAGES, SEQUENCES = (4, 3, 32, 32), (4, 5, 6)
SHAPES = {LSTM: SEQUENCES, transformer: SEQUENCES}
NETS = [resnet, small_vgg, mobilenet, vision_transformer, relu_cnn, LSTM, transformer, group_norm, dropout, spectral]


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("build", NETS)
def test_a_correct_penalty_has_no_failed_row(build, training):
    torch.manual_seed(0)
    x = torch.rand(SHAPES.get(build, IMAGES))
    found = audit(penalty, build().train(training), x, torch.arange(4))
    assert found.kind == "depends", str(found)
    assert failed(found) == set(), str(found)
    assert found.explanation == ""


def test_an_activation_without_a_second_derivative_is_named():
    """MobileNetV3: PyTorch has none for its hard sigmoid."""
    net = torchvision.models.mobilenet_v3_small(num_classes=4)
    with pytest.raises(UserError, match=r"scale_activation.* and 6 more has no double backward.*nn\.Sigmoid") as error:
        audit(penalty, net, torch.rand(4, 3, 32, 32), torch.arange(4))
    assert "kernel" not in str(error.value)
