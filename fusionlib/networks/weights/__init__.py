"""Weights on disk: our own format and official files, found, read, checked and fetched."""

from .checkpoint import Checkpoint, fill
from .download import download
from .official import CHECKPOINTS
from .own import save_checkpoint
from .readers import load_torch
from .search import load_checkpoint

__all__ = [
    "CHECKPOINTS",
    "Checkpoint",
    "download",
    "fill",
    "load_checkpoint",
    "load_torch",
    "save_checkpoint",
]
