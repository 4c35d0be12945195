"""Models: one file each; `build` gives a net that takes inputs in the data's own units."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from torch import Tensor, nn

from inputgrad import registry
from inputgrad.errors import UserError
from pipeline.fingerprint import files_of

Activation = Literal["silu", "gelu", "softplus", "tanh", "relu"]

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    # smooth ones first: a ReLU's second derivative is zero almost everywhere, which starves a gradient penalty
    "silu": nn.SiLU,
    "gelu": nn.GELU,
    "softplus": nn.Softplus,
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
}


def activation(name: str) -> nn.Module:
    return ACTIVATIONS[name]()


class Centre(nn.Module):
    """Pixels of [0, 1] to [-1, 1]: the normalisation lives in the model, so that ε is in the data's own units."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * x - 1


def image_shape(name: str, shape: tuple[int, ...]) -> tuple[int, int, int]:
    """(channels, height, width) of one input."""
    if len(shape) != 3:
        raise UserError(f"model {name} takes images (channels, height, width), the data have {shape}; fix: mlp")
    return shape[0], shape[1], shape[2]


def replaced(net: nn.Module, kind: type[nn.Module], make: Callable[[nn.Module], nn.Module]) -> nn.Module:
    """The net with every layer of a kind replaced."""
    for name, layer in list(net.named_children()):
        if isinstance(layer, kind):
            setattr(net, name, make(layer))
        else:
            replaced(layer, kind, make)
    return net


def grouped(layer: nn.Module) -> nn.GroupNorm:
    """A GroupNorm in the place of a BatchNorm, which would couple the examples of a batch."""
    channels = int(layer.num_features)  # type: ignore[arg-type]
    return nn.GroupNorm(next(groups for groups in (32, 16, 8, 4, 2, 1) if channels % groups == 0), channels)


def function_of(settings: Mapping[str, Any]) -> Callable[..., nn.Module]:
    """The function that builds the net of a `model:`: `build` of a file here, or the one that `use` names."""
    found = registry.find("pipeline.models", settings["name"], settings.get("use"))
    build: Callable[..., nn.Module] = found.build if settings.get("use") is None else found
    return build


def sources(settings: Mapping[str, Any]) -> list[Path]:
    """The file of weights that a study's `model:` names, if any."""
    return files_of("model", settings)


def build(settings: Mapping[str, Any], shape: tuple[int, ...], outputs: int) -> nn.Module:
    return function_of(settings)(shape, outputs, **registry.options(settings))
