"""Weights of one's own for a compared network: the same tensors, trained by somebody else.

Nothing is known of such a file but what is in it: names, shapes and finite numbers are checked, and
whoever fuses with it says so beside the method's name.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from .checkpoint import Checkpoint, check_finite, compare, in_words
from .conversion import converted, plain, tensors_of
from .files import PARTS, sha256
from .official import CHECKPOINTS
from .readers import WRAPPERS, State, read_any


def load_unverified(path: str | os.PathLike, key: str) -> Checkpoint:
    """Return the tensors of a file, or of the files in a folder, under the names of our network.

    Parameters
    ----------
    path : path
        A file of PyTorch, safetensors, a .npz, or the .index of a TensorFlow bundle, with the
        authors' names of the tensors or ours; the prefix of DataParallel, a state dict within a
        larger file and half precision are accepted. Where the authors have several files: a folder
        with files of their names.
    key : str
        The official checkpoint that it stands for, in :data:`.official.CHECKPOINTS`.

    Raises
    ------
    FileNotFoundError, ValueError
        Not there; damaged, code instead of numbers, or not the tensors of that network.
    """
    path, names = Path(path), names_of(key)
    paths = [path / name for name in names] if path.is_dir() else [path]
    for file in paths:
        if not file.is_file():
            raise FileNotFoundError(f"{file}: expected a file of weights, found none there")

    def look(shapes: State) -> None:
        if len(paths) == 1:  # one of several files has a part of the tensors
            _named(key, [shapes], path)

    wrappers = (CHECKPOINTS[key].member, *WRAPPERS)
    state = _named(key, [read_any(file, wrappers, look) for file in paths], path)
    check_finite(state, path)
    return Checkpoint(state, str(path), {file.name: sha256(file) for file in paths}, verified=False)


def names_of(key: str) -> list[str]:
    """Return the names of an official checkpoint's files; of a bundle that of its index."""
    return [file.name for file in CHECKPOINTS[key].files if not file.name.endswith(PARTS[1])]


def _named(key: str, states: Sequence[State], path: Path) -> dict[str, Tensor]:
    """Return tensors under our names, which they may have already."""
    ours = {name: value for state in states for name, value in state.items()}
    if not ours:
        raise ValueError(f"{path}: expected the tensors of a network, got none")
    expected, names = tensors_of(key), names_of(key)
    differences = compare(expected, ours)
    if not differences:
        return plain(ours)
    try:
        if len(states) == len(names):
            return converted(key, states, path)
        raise ValueError(
            f"{path}: expected a folder with {' and '.join(names)}, got one file with tensors such"
            f" as {min(ours)!r:.80}"
        )
    except ValueError:
        if 2 * len(expected.keys() & ours.keys()) <= len(expected):
            raise  # the names are not ours
    raise ValueError(
        f"{path}: expected the tensors of {CHECKPOINTS[key].method}, got {in_words(differences)}"
    )
