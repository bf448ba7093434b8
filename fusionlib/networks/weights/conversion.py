"""From the names of others to ours: the tensors of an official file, or of one like it."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor

from ..compared import COMPARED
from .checkpoint import compare, in_words
from .official import CHECKPOINTS
from .readers import State

UNLIKE = (ValueError, KeyError, IndexError, TypeError, RuntimeError)  # of another network's tensors


def converted(key: str, states: Sequence[State], path: Path) -> dict[str, Tensor]:
    """Return the tensors of official files under our names, as float32.

    Parameters
    ----------
    key : str
        Name in the registry.
    states : sequence of state dicts
        Of each file, under its authors' names; tensors on "meta" do, their shapes are judged alike.
    path : path
        For errors.

    Raises
    ------
    ValueError
        They are not the tensors of that network, by name, shape or kind of numbers.
    """
    entry = CHECKPOINTS[key]
    module, function = entry.converter.split(":")
    convert = getattr(importlib.import_module(f"...compared.{module}", __name__), function)
    try:
        state = plain(convert(*states))
    except UNLIKE as error:
        raise ValueError(f"{path}: not the weights of {entry.method} ({error})") from None
    expected = tensors_of(key)
    if expected and (differences := compare(expected, state)):
        raise ValueError(
            f"{path}: expected the tensors of {entry.method}, got {in_words(differences)}"
        )
    return state


def plain(state: State) -> dict[str, Tensor]:
    """Return tensors as single-precision numbers; counters stay as they are."""
    return {
        name: value.contiguous().float() if value.is_floating_point() else value
        for name, value in state.items()
    }


def tensors_of(key: str) -> Mapping[str, Tensor]:
    """Return the tensors that the network of a checkpoint has, random; {} where none takes it."""
    for method in COMPARED.values():
        for name, variant in method.variants.items():
            if variant.checkpoint == key:
                return method.build(name).state_dict()
    return {}
