"""Weights by name or path: the suite's own files, and official ones in folder and cache.

Official files are looked for where :mod:`fusionlib.places` says; nothing is fetched here. No code
in a file is ever run: PyTorch files are read with ``weights_only=True``, TensorFlow files as
numbers.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from ... import places
from .checkpoint import Checkpoint, check_finite, fingerprint
from .conversion import converted
from .files import find_file, sha256
from .official import File, Official, official
from .own import read_own
from .readers import read_raw


# radon C: own file or official one, each in several places, and what to get otherwise
def load_checkpoint(
    name: str | os.PathLike,
    folder: str | os.PathLike | None = None,
    cache: str | os.PathLike | None = None,
) -> Checkpoint:
    """Return the tensors of a checkpoint under the names of this package's networks.

    Parameters
    ----------
    name : str or path
        A method, a name in :data:`.official.CHECKPOINTS`, or the path of a .safetensors file of our
        own, below ``folder`` where it is relative.
    folder : path, optional
        Where official files are looked for first, and in its folders one level down; a renamed file
        is known by its content.
    cache : path, optional
        Where they are looked for next; by default the other folders of :func:`.places.folders`.

    Raises
    ------
    FileNotFoundError
        Not in any folder; the sentence says what to get, from whom and where to put it.
    ValueError
        Damaged, truncated, another network's file, code instead of numbers, or an unknown name.
    """
    if isinstance(name, os.PathLike) or str(name).endswith(".safetensors"):
        return read_own(Path(folder or "", name))
    key, entry = official(name)
    if folder and str(folder) != places.NOWHERE and not Path(folder).is_dir():
        came = "a file, which only --unverified takes" if Path(folder).is_file() else "none there"
        raise FileNotFoundError(f"{folder}: expected a folder of weights, got {came}")
    folders = _folders(folder, cache)
    for parent in folders:
        if files := _lying_in(entry, parent):
            return _read(key, entry, *files)
    files_of = " and ".join(f"{file.name} from {file.origin}" for file in entry.files)
    fetch = ""
    if all(file.url for file in entry.files):
        fetch = f", or run: fusionlib data weights {key}"
    raise FileNotFoundError(
        f"{entry.method}: no weights found; get {files_of} (licence: {entry.licence}) and put it "
        f"in {folders[0] if folders else 'a folder'}{fetch}"
    )


def names_in(
    name: str, folder: str | os.PathLike | None, cache: str | os.PathLike | None
) -> list[str]:
    """Return the files of a checkpoint that :func:`load_checkpoint` would find; [] for none.

    Parameters
    ----------
    name, folder, cache
        As it takes them.
    """
    for parent in _folders(folder, cache):
        with contextlib.suppress(ValueError):  # another file of its name
            if files := _lying_in(official(name)[1], parent):
                return [path.name for path in files[1]]
    return []


def _folders(folder: str | os.PathLike | None, cache: str | os.PathLike | None) -> list[Path]:
    if cache is None:
        return places.folders("weights", folder)
    return [Path(parent) for parent in (folder, cache) if parent]


def _lying_in(entry: Official, parent: Path) -> tuple[tuple[File, ...], list[Path]] | None:
    """Return the files of a checkpoint that lie in a folder, with their paths."""
    for files in (entry.files, *entry.copies):
        paths = [path for file in files if (path := find_file(file, parent))]
        if len(paths) == len(files):
            return files, paths
    if entry.npz and (path := find_file(File(entry.npz), parent)):
        return (File(entry.npz),), [path]
    return None


def _read(key: str, entry: Official, files: tuple[File, ...], paths: list[Path]) -> Checkpoint:
    """Read and check the files of a checkpoint; the tensors get our names.

    Parameters
    ----------
    key : str
        Name in the registry.
    files, paths : sequences of equal length
        What is known of each file, and its path.
    """
    states = read_raw(entry, paths, lambda shapes: converted(key, [shapes], paths[0]))
    state = converted(key, states, paths[0])
    check_finite(state, paths[0])
    verified = all(file.sha256 or file.blob for file in files)
    if not verified and entry.fingerprint:
        if fingerprint(state) != entry.fingerprint:
            raise ValueError(
                f"{paths[0]}: expected the tensors of {entry.files[0].name}, got others under their"
                " names"
            )
        verified = True
    digests = {path.name: sha256(path) for path in paths}
    return Checkpoint(state, key, digests, verified, entry.licence)
