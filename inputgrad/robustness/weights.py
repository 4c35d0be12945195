"""Weights from a file into a model; what does not fit is said by name."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from inputgrad.errors import UserError

WRAPPERS = ("state_dict", "model_state_dict", "model", "net")
"""Under which of these a checkpoint of a training may hold its weights."""
SHOWN = 3


def load(model: nn.Module, file: Path) -> str:
    """Load a state dict with `weights_only=True`; returns what was done to it, in words, where anything was.

    Raises:
        UserError: the file is missing or no state dict, or keys or shapes do not fit the model.
    """
    state, notes = state_in(file), []
    if not all(isinstance(value, Tensor) for value in state.values()):
        wrapper = next((key for key in WRAPPERS if isinstance(state.get(key), dict)), None)
        if wrapper is None:
            raise UserError(f"{file} holds {', '.join(map(str, state))[:80]}, no weights; fix: save model.state_dict()")
        state = state[wrapper]
        notes.append(f"the weights are those under '{wrapper}' in {file}")
    if state and all(str(key).startswith("module.") for key in state):
        state = {key.removeprefix("module."): value for key, value in state.items()}
        notes.append("the names in the file begin with 'module.', which was left out")
    refuse_others(model.state_dict(), state, file)
    model.load_state_dict(state)
    return "; ".join(notes)


def state_in(file: Path) -> dict[Any, Any]:
    try:
        found = torch.load(file, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise UserError(f"{file} is missing; fix: correct the name") from error
    except pickle.UnpicklingError as error:
        fix = "fix: save model.state_dict() instead of the model"
        raise UserError(f"{file} holds more than weights, and loading that could run its code; {fix}") from error
    except Exception as error:  # PyTorch and zipfile raise a dozen types for a broken file
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise UserError(f"{file} is not readable ({reason}); fix: get it again") from error
    if not isinstance(found, dict):
        raise UserError(f"{file} holds a {type(found).__name__}; fix: save model.state_dict()")
    return found


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
