"""Weights by name or path: our own files, and the official ones wherever they lie.

Official files are looked for in a folder the caller names, then in the cache; nothing is fetched
here. No code in a file is ever run: PyTorch files are read with ``weights_only=True``, TensorFlow
files as numbers.
"""

from __future__ import annotations

import importlib
import os
from pathlib import Path

import torch

from .checkpoint import Checkpoint, fingerprint, git_blob, sha256
from .official import CHECKPOINTS, File, Official, official
from .own import load_own
from .readers import read_raw

MOST_SEARCHED = 2**26  # bytes; larger files are not searched for weights under another name


def default_cache() -> Path:
    """Return the user's cache folder for official weights."""
    import pooch

    return Path(pooch.os_cache("fusionlib")) / "weights"


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
        Where they are looked for next; the user's cache by default.

    Raises
    ------
    FileNotFoundError
        Nowhere found; the sentence says what to get, from whom and where to put it.
    ValueError
        Damaged, truncated, another network's file, code instead of numbers, or an unknown name.
    """
    if isinstance(name, os.PathLike) or str(name).endswith(".safetensors"):
        return load_own(Path(folder or "", name))
    key, entry = official(name)
    if folder is not None and not Path(folder).is_dir():
        raise FileNotFoundError(f"{folder}: expected a folder of weights, found none there")
    cache = default_cache() if cache is None else Path(cache)
    for place in [cache] if folder is None else [Path(folder), cache]:
        for files in (entry.files, *entry.others):
            paths = [_find(file, place) for file in files]
            if all(paths):
                return _read(key, entry, files, [path for path in paths if path])
        if entry.npz and (path := _find(File(entry.npz), place)):
            return _read(key, entry, (File(entry.npz),), [path])
    wanted = " and ".join(f"{file.name} from {file.origin}" for file in entry.files)
    fetch = (
        f", or run: fusionlib data weights {key}" if all(file.url for file in entry.files) else ""
    )
    raise FileNotFoundError(
        f"{entry.method}: no weights found; get {wanted} (licence: {entry.licence}) and put it in "
        f"{folder if folder is not None else cache}{fetch}"
    )


def _find(file: File, place: Path) -> Path | None:
    """Return where ``file`` lies in ``place`` or one folder below, by name or else by content; None
    if nowhere.
    """
    if not place.is_dir():
        return None
    below = sorted(path for path in place.iterdir() if not path.name.startswith("."))
    candidates = [path for path in below if path.is_file()]
    for folder in below:
        if folder.is_dir():
            candidates += sorted(path for path in folder.iterdir() if path.is_file())
    named = [path for path in candidates if path.name == file.name]
    for path in named:
        if not mismatch(path, file):
            return path
    if file.sha256 or file.blob:
        for path in candidates:
            if path.stat().st_size <= MOST_SEARCHED and not mismatch(path, file):
                return path
    if named:
        raise ValueError(f"{named[0]}: {mismatch(named[0], file)}")
    return None


def mismatch(path: Path, file: File) -> str:
    """Say how ``path`` differs from what is known of ``file``; empty where nothing does."""
    size = path.stat().st_size
    if file.size is not None and size != file.size:
        short = ", the file is truncated" if size < file.size else ""
        return f"expected {file.size} bytes of {file.name}, got {size}{short}"
    if file.sha256 and (found := sha256(path)) != file.sha256:
        return (
            f"expected sha256 {file.sha256[:12]} of {file.name}, got {found[:12]}{_known_as(found)}"
        )
    if file.blob and (found := git_blob(path)) != file.blob:
        return f"expected git id {file.blob[:12]} of {file.name}, got {found[:12]}"
    return ""


def _known_as(digest: str) -> str:
    """Name the official file with this SHA-256, if there is one."""
    for key, entry in CHECKPOINTS.items():
        for file in entry.files:
            if file.sha256 == digest:
                return f", which is {file.name} of {key}"
    return ", the file is damaged or another one"


def _read(key: str, entry: Official, files: tuple[File, ...], paths: list[Path]) -> Checkpoint:
    """Read the files of one checkpoint, give the tensors our names and check them."""
    states = read_raw(entry, paths)
    module, function = entry.converter.split(":")
    convert = getattr(importlib.import_module(f"...compared.{module}", __name__), function)
    try:
        state = {
            name: value.contiguous().float() if value.is_floating_point() else value
            for name, value in convert(*states).items()
        }
    except (ValueError, KeyError) as error:
        raise ValueError(f"{paths[0]}: not the weights of {entry.method} ({error})") from None
    broken = [name for name, value in state.items() if not torch.isfinite(value).all()]
    if broken:
        raise ValueError(
            f"{paths[0]}: expected finite numbers, tensor {broken[0]} holds NaN or infinite ones"
        )
    known = all(file.sha256 or file.blob for file in files)
    if not known and entry.fingerprint:
        if fingerprint(state) != entry.fingerprint:
            raise ValueError(
                f"{paths[0]}: expected the tensors of {entry.files[0].name}, got others under their"
                " names"
            )
        known = True
    return Checkpoint(state, key, {path.name: sha256(path) for path in paths}, known, entry.licence)
