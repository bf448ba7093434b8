"""Weights on disk: our own format and official files, found, read, checked and fetched.

Names are imported when they are asked for: listing and fetching files needs no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from .download import download
from .official import CHECKPOINTS

if TYPE_CHECKING:
    from .checkpoint import Checkpoint, check_fits, fill
    from .own import save_checkpoint
    from .readers import load_torch
    from .search import load_checkpoint, names_in
    from .unverified import load_unverified

_HOMES = {
    "Checkpoint": "checkpoint",
    "check_fits": "checkpoint",
    "fill": "checkpoint",
    "names_in": "search",
    "load_checkpoint": "search",
    "load_torch": "readers",
    "load_unverified": "unverified",
    "save_checkpoint": "own",
}
__all__ = [
    "CHECKPOINTS",
    "Checkpoint",
    "check_fits",
    "download",
    "fill",
    "names_in",
    "load_checkpoint",
    "load_torch",
    "load_unverified",
    "save_checkpoint",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
