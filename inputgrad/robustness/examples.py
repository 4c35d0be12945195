"""The examples that are attacked, from whatever holds them: a pair of tensors or arrays, a Dataset, a DataLoader."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, RandomSampler, SubsetRandomSampler
from torch.utils.data import WeightedRandomSampler as Weighted

from inputgrad.errors import UserError

BATCH = 64
"""Examples that are read at once from a Dataset."""


def tensors_of(found: Any, name: str, examples: int | None) -> tuple[Tensor, Tensor]:
    """x, (N, *input), and y of the first `examples`, or of all.

    Args:
        found: a pair (x, y), a Dataset of such pairs, or a DataLoader that gives batches of them.
        name: of it, for messages.
        examples: how many are read; None: all.

    Raises:
        UserError: it is none of these, holds other things, or has fewer examples.
    """
    if isinstance(found, Dataset):
        found = DataLoader(found, batch_size=BATCH)
    if isinstance(found, DataLoader):
        x, y = read(found, name, examples)
    elif isinstance(found, tuple | list) and len(found) == 2:
        x, y = (tensor(part, name) for part in found)
    else:
        kind = "one thing" if isinstance(found, Tensor) else f"a {type(found).__name__}"
        raise UserError(
            f"{name} gives {kind}; fix: a pair (x, y), a Dataset, a DataLoader, or a function that gives it"
        )
    if examples is not None and examples > len(x):
        raise UserError(f"--examples {examples}: {name} gives {len(x)}")
    return x[:examples], y[:examples]


def tensor(part: Any, name: str) -> Tensor:
    try:
        return torch.as_tensor(part)
    except (TypeError, ValueError, RuntimeError) as error:
        raise UserError(f"{name} gives a {type(part).__name__}; fix: tensors or arrays of numbers") from error


def read(loader: DataLoader[Any], name: str, examples: int | None) -> tuple[Tensor, Tensor]:
    """The batches of a loader until there are enough examples."""
    if isinstance(loader.sampler, RandomSampler | SubsetRandomSampler | Weighted):
        raise UserError(f"{name} gives its examples in another order each time; fix: shuffle=False, or no sampler")
    pairs: list[tuple[Tensor, Tensor]] = []
    for batch in batches(loader, name):
        if not (isinstance(batch, tuple | list) and len(batch) == 2):
            parts = f" of {len(batch)} parts" if isinstance(batch, tuple | list) else ""
            fix = "fix: a Dataset of pairs, or a collate_fn that gives them"
            raise UserError(f"{name}: a batch is a {type(batch).__name__}{parts}, not a pair (x, y); {fix}")
        pairs.append((tensor(batch[0], name), tensor(batch[1], name)))
        if examples is not None and sum(len(x) for x, _ in pairs) >= examples:
            break
    if not pairs:
        raise UserError(f"{name} gives no examples; fix: one or more")
    try:
        return torch.cat([x for x, _ in pairs]), torch.cat([y for _, y in pairs])
    except RuntimeError as error:
        raise UserError(
            f"{name}: its batches have inputs of different shapes; fix: one shape, by a transform"
        ) from error


def batches(loader: Iterable[Any], name: str) -> Iterable[Any]:
    """What the loader gives; what a Dataset holds that is no tensor is one line."""
    try:
        yield from loader
    except TypeError as error:  # images that no transform has made a tensor of
        reason = " ".join(str(error).split())[:120]
        raise UserError(f"{name}: its examples do not make a batch ({reason}); fix: transform=ToTensor()") from error
