"""Measuring a model leaves it, and everybody's random numbers, as they were."""

from __future__ import annotations

import copy
import random
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


@contextmanager
def random_state(devices: Iterable[torch.device]) -> Iterator[None]:
    """Global random numbers go on afterwards as if nothing had been drawn: PyTorch's, Python's and NumPy's.

    Args:
        devices: those in use; the CPU is always one of them.
    """
    numpy: Any = sys.modules.get("numpy")
    others = random.getstate(), numpy and numpy.random.get_state()
    try:
        with torch.random.fork_rng(devices=[device for device in devices if device.type == "cuda"]):
            yield
    finally:
        random.setstate(others[0])
        if numpy:
            numpy.random.set_state(others[1])


@contextmanager
def looking(device: torch.device, *things: Any) -> Iterator[Any]:
    """A copy of one thing, or of each of several, to measure on; random numbers go on afterwards as before.

    A pass through a net in train mode moves the statistics of a BatchNorm and draws for a Dropout, and a net or a loss
    of one's own may keep anything in its attributes. Generators that a thing holds are copied with it.

    Args:
        device: where they are.
        things: nets, losses, runs.
    """
    with random_state([device]):
        copies = tuple(copy.deepcopy(thing, made_by_hooks(thing)) for thing in things)
        yield copies[0] if len(copies) == 1 else copies


def made_by_hooks(thing: Any) -> dict[int, Any]:
    """What `copy.deepcopy` cannot copy: weights that hooks make anew for every pass, such as `weight_norm`'s."""
    modules = thing.modules() if isinstance(thing, nn.Module) else ()
    held = [value for module in modules for value in vars(module).values() if isinstance(value, Tensor)]
    return {id(value): value.detach() for value in held if not value.is_leaf}
