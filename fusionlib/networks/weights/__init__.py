"""Weights on disk: our own format and official files, found, read, checked and fetched."""

from .checkpoint import Checkpoint, check_fits, fill
from .download import download
from .official import CHECKPOINTS
from .own import save_checkpoint
from .readers import load_torch
from .search import found_in, load_checkpoint
from .unverified import load_unverified

__all__ = [
    "CHECKPOINTS",
    "Checkpoint",
    "check_fits",
    "download",
    "fill",
    "found_in",
    "load_checkpoint",
    "load_torch",
    "load_unverified",
    "save_checkpoint",
]
