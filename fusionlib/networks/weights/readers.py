"""Readers of other people's weight files: PyTorch, TensorFlow bundles, numpy archives.

No code in a file is ever run: pickles are read with ``weights_only=True``, numpy archives without
pickles, and a bundle holds nothing but numbers.
"""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .official import Official
from .tensorflow_bundle import read_bundle

DAMAGED = (
    OSError,
    EOFError,
    KeyError,
    RuntimeError,
    NotImplementedError,
    zipfile.BadZipFile,
    zlib.error,
)


def read_raw(entry: Official, paths: list[Path]) -> list[dict[str, Tensor]]:
    """Return the tensors of each file, or of a bundle's two, under their authors' names.

    Raises
    ------
    ValueError
        Damaged, another format, or code instead of numbers.
    """
    if paths[0].suffix == ".npz":
        return [_read_npz(paths[0])]
    if entry.format == "torch":
        return [_read_torch(path, entry.member) for path in paths]
    try:
        if entry.format == "archive":
            with zipfile.ZipFile(paths[0]) as archive:
                index, data = (
                    archive.read(f"{entry.member}.{part}")
                    for part in ("index", "data-00000-of-00001")
                )
        else:
            index, data = (path.read_bytes() for path in paths)
        return [{name: torch.from_numpy(value) for name, value in read_bundle(index, data).items()}]
    except (ValueError, *DAMAGED) as error:
        raise ValueError(f"{paths[0]}: not a readable TensorFlow checkpoint ({error})") from None


def _read_npz(path: Path) -> dict[str, Tensor]:
    """Read a numpy archive without pickles."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: torch.from_numpy(archive[name]) for name in archive.files}
    except (ValueError, TypeError, AttributeError, *DAMAGED) as error:
        raise ValueError(
            f"{path}: not a readable .npz of numbers ({type(error).__name__})"
        ) from None


def _read_torch(path: Path, member: str) -> dict[str, Tensor]:
    """Read a PyTorch file, old pickle or zip, as tensors and nothing else."""
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        foreign = "weights_only" in str(error) or "Unsupported" in str(error)
        problem = "holds code instead of numbers" if foreign else "cannot be read"
        raise ValueError(
            f"{path}: {problem}, expected tensors saved by PyTorch ({type(error).__name__})"
        ) from None
    state = loaded.get(member) if member and isinstance(loaded, dict) else loaded
    if not isinstance(state, dict):
        where = f" under {member!r}" if member else ""
        raise ValueError(f"{path}: expected a state dict{where}, got {type(loaded).__name__}")
    # Flags beside the tensors, such as TarDAL's use_eval, are no weights.
    return {str(name): value for name, value in state.items() if isinstance(value, Tensor)}
