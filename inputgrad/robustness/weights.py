"""Weights from a file into a model; what does not fit is said by name. Nothing in the file is ever run."""

from __future__ import annotations

import pickle
import pickletools
import zipfile
from io import BytesIO
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor, nn

from inputgrad.errors import UserError
from inputgrad.robustness.names import fitted
from inputgrad.robustness.nets import refuse_lazy

WRAPPERS = ("state_dict", "model_state_dict", "model_state", "model", "net", "module", "weights")
"""Under which of these a checkpoint of a training may hold its weights."""
SHOWN = 3


def load(model: nn.Module, file: Path) -> str:
    """Load a state dict with `weights_only=True`; returns what was done to it, in words, where anything was.

    Raises:
        UserError: the file is missing or no state dict, or keys or shapes do not fit the model.
    """
    refuse_lazy(model)
    state, notes = state_in(file), []
    if not all_tensors(state):
        wrapper = wrapper_of(state)
        if wrapper is None:
            raise UserError(f"{file} holds {', '.join(map(str, state))[:80]}, no weights; fix: save model.state_dict()")
        state = state[wrapper]
        notes.append(f"the weights are those under '{wrapper}' in {file}")
    wanted = model.state_dict()
    names, said = fitted([*wanted], [str(key) for key in state], str(file))
    state = {name: value for key, value in state.items() if (name := names.get(str(key), key)) is not None}
    refuse_others(wanted, state, file)
    model.load_state_dict(state)
    return "; ".join(notes + said)


def all_tensors(state: dict[Any, Any]) -> bool:
    return all(isinstance(value, Tensor) for value in state.values())


def wrapper_of(state: dict[Any, Any]) -> str | None:
    """The key under which a checkpoint holds its weights: a usual one, or the only one that holds tensors alone."""
    usual = [key for key in WRAPPERS if isinstance(state.get(key), dict)]
    others = [key for key, value in state.items() if isinstance(value, dict) and value and all_tensors(value)]
    return usual[0] if usual else others[0] if len(others) == 1 else None


def state_in(file: Path) -> dict[Any, Any]:
    """What the file holds, read without running any of it."""
    if is_script(file):
        fix = f"fix: give net = torch.jit.load({str(file)!r}) as the model, and no weights"
        raise UserError(f"{file} holds a scripted model; {fix}")
    try:
        if is_safetensors(file):
            return from_safetensors(file)
        found = torch.load(file, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise UserError(f"{file} is missing; fix: correct the name") from error
    except IsADirectoryError as error:
        raise UserError(f"{file} is a folder; fix: name the file with the weights in it") from error
    except pickle.UnpicklingError as error:
        raise UserError(f"{file} {more_than_weights(file)}") from error
    except Exception as error:  # PyTorch, zipfile and safetensors raise a dozen types for a broken file
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise UserError(f"{file} is not readable ({reason}); fix: get it again") from error
    if not isinstance(found, dict):
        raise UserError(f"{file} holds a {type(found).__name__}; fix: save model.state_dict()")
    return found


def is_safetensors(file: Path) -> bool:
    """By its name, or by its first bytes: a length, then JSON."""
    with file.open("rb") as f:
        head = f.read(9)
    return file.suffix == ".safetensors" or head[8:] == b"{"


def from_safetensors(file: Path) -> dict[Any, Any]:
    try:
        from safetensors.torch import load_file
    except ModuleNotFoundError as error:
        raise UserError(f"{file} needs the package safetensors; fix: pip install safetensors") from error
    found: dict[Any, Any] = load_file(file)
    return found


def is_script(file: Path) -> bool:
    """Whether `torch.jit.save` wrote it, which `torch.load` would say in several lines."""
    if not zipfile.is_zipfile(file):
        return False
    with zipfile.ZipFile(file) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def more_than_weights(file: Path) -> str:
    """What to say of a file that could run code: it is a whole model, or a checkpoint with more in it."""
    said = "holds more than weights, and loading that could run its code; fix: "
    kind, words = contents(file)
    if kind == "nothing":
        return said + "save model.state_dict() instead of the model"
    key = next((word for word in WRAPPERS if word in words), "state_dict")
    part = f"found[{key!r}]" if kind == "dict" else "found.state_dict()"
    lines = f"found = torch.load({str(file)!r}, weights_only=False); torch.save({part}, 'weights.pt')"
    return f"{said}if the file is your own, run once: {lines}"


def contents(file: Path) -> tuple[str, set[str]]:
    """('dict' or 'object', the words in it) of a file of `torch.save`, ('nothing', none) of any other.

    Its pickle is read as a list of commands, none of which is run.
    """
    try:
        if zipfile.is_zipfile(file):
            with zipfile.ZipFile(file) as archive:
                name = next(name for name in archive.namelist() if name.endswith("data.pkl"))
                read = commands(BytesIO(archive.read(name)))
        else:
            with file.open("rb") as f:
                for _ in range(4):  # in the older format, its mark, its version and its system stand in front
                    read = commands(f)
    except (StopIteration, ValueError, zipfile.BadZipFile):
        return "nothing", set()
    first = next((name for name, _ in read if name not in ("PROTO", "FRAME", "MARK")), "")
    words = {value for name, value in read if isinstance(value, str) and "UNICODE" in name}
    return ("dict" if first in ("EMPTY_DICT", "DICT") else "object"), words


def commands(f: IO[bytes]) -> list[tuple[str, Any]]:
    """Names and arguments of the commands of the pickle that begins here, up to its end."""
    return [(code.name, value) for code, value, _ in pickletools.genops(f)]


def refuse_others(wanted: dict[str, Any], state: dict[str, Any], file: Path) -> None:
    missing, unexpected = sorted(wanted.keys() - state.keys()), sorted(state.keys() - wanted.keys())
    shapes = [
        f"{key} {tuple(state[key].shape)} instead of {tuple(wanted[key].shape)}"
        for key in wanted
        if key in state and state[key].shape != wanted[key].shape
    ]
    parts = [
        f"{len(found)} {word} ({', '.join(found[:SHOWN])}{', …' if len(found) > SHOWN else ''})"
        for word, found in (("missing", missing), ("unexpected", unexpected), ("of another shape", shapes))
        if found
    ]
    if parts:
        raise UserError(
            f"{file} holds the weights of another net: {'; '.join(parts)}; fix: the model they were made for"
        )
