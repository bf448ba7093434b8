"""Weights by name or path: the suite's own files, and official ones in folder and cache.

Official files are looked for in a folder the caller names, then in the cache; only
:func:`download` fetches any. No code in a file is ever run: PyTorch files are read with
``weights_only=True``, TensorFlow files as numbers.
"""

import importlib
import os
import tempfile
from pathlib import Path

import torch

from .checkpoint import Checkpoint, fingerprint, git_blob, sha256
from .official import CHECKPOINTS, File, Official, official
from .own import read_own
from .readers import read_raw

MOST_SEARCHED = 2**26  # bytes; larger files are not searched for weights under another name


def default_cache() -> Path:
    """Return the user's cache folder for official weights."""
    import pooch

    return Path(pooch.os_cache("fusionlib")) / "weights"


# radon C: own file or official one, each in folder and cache, and what to get otherwise
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
        Not in any folder; the sentence says what to get, from whom and where to put it.
    ValueError
        Damaged, truncated, another network's file, code instead of numbers, or an unknown name.
    """
    if isinstance(name, os.PathLike) or str(name).endswith(".safetensors"):
        return read_own(Path(folder or "", name))
    key, entry = official(name)
    if folder is not None and not Path(folder).is_dir():
        raise FileNotFoundError(f"{folder}: expected a folder of weights, found none there")
    cache = default_cache() if cache is None else Path(cache)
    folders = [cache] if folder is None else [Path(folder), cache]
    for parent in folders:
        for files in (entry.files, *entry.copies):
            paths = [path for file in files if (path := _find(file, parent))]
            if len(paths) == len(files):
                return _read(key, entry, files, paths)
        if entry.npz and (path := _find(File(entry.npz), parent)):
            return _read(key, entry, (File(entry.npz),), [path])
    files_of = " and ".join(f"{file.name} from {file.origin}" for file in entry.files)
    fetch = ""
    if all(file.url for file in entry.files):
        fetch = f", or run: fusionlib data weights {key}"
    raise FileNotFoundError(
        f"{entry.method}: no weights found; get {files_of} (licence: {entry.licence}) and put it "
        f"in {folders[0]}{fetch}"
    )


# radon C: by name first, then by content, in two levels of folders
def _find(file: File, parent: Path) -> Path | None:
    """Return the path of ``file`` in ``parent`` or one folder below, known by name or content."""
    if not parent.is_dir():
        return None
    entries = sorted(path for path in parent.iterdir() if not path.name.startswith("."))
    candidates = [path for path in entries if path.is_file()]
    for folder in entries:
        if folder.is_dir():
            candidates += sorted(path for path in folder.iterdir() if path.is_file())
    named = [path for path in candidates if path.name == file.name]
    searched = candidates if file.sha256 or file.blob else []
    small = (path for path in searched if path.stat().st_size <= MOST_SEARCHED)
    for path in (*named, *small):
        if not mismatch(path, file):
            return path
    if named:
        raise ValueError(f"{named[0]}: {mismatch(named[0], file)}")
    return None


def mismatch(path: Path, file: File) -> str:
    """Describe how ``path`` differs from what is known of ``file``; empty where nothing does."""
    size = path.stat().st_size
    if file.size is not None and size != file.size:
        short = ", the file is truncated" if size < file.size else ""
        return f"expected {file.size} bytes of {file.name}, got {size}{short}"
    if file.sha256 and (digest := sha256(path)) != file.sha256:
        hint = _identify(digest)
        return f"expected sha256 {file.sha256[:12]} of {file.name}, got {digest[:12]}{hint}"
    if file.blob and (digest := git_blob(path)) != file.blob:
        return f"expected git id {file.blob[:12]} of {file.name}, got {digest[:12]}"
    return ""


def _identify(digest: str) -> str:
    """Name the official file with this SHA-256, if there is one, for an error sentence."""
    for key, entry in CHECKPOINTS.items():
        for file in entry.files:
            if file.sha256 == digest:
                return f", which is {file.name} of {key}"
    return ", the file is damaged or another one"


# radon C: each way in which a file can be damaged or not the one that is meant
def _read(key: str, entry: Official, files: tuple[File, ...], paths: list[Path]) -> Checkpoint:
    """Read and check the files of a checkpoint; the tensors get our names.

    Parameters
    ----------
    key : str
        Name in the registry.
    files, paths : sequences of equal length
        What is known of each file, and its path.
    """
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


# radon C: addresses by the caller or the registry, and each way in which fetching fails
def download(
    name: str,
    url: str | None = None,
    cache: str | os.PathLike | None = None,
    progress: bool = False,
) -> list[Path]:
    """Download the official files of a checkpoint; each is checked before it gets its name.

    Parameters
    ----------
    name : str
        As for :func:`load_checkpoint`.
    url : str, optional
        Address of the file, or of the folder that holds the files (ending in ``/``); by default
        where the authors publish it.
    cache : path, optional
        Folder below which they go; the user's cache by default.
    progress : bool
        Show a bar.

    Returns
    -------
    list of path
        The files, in the order of the registry.

    Raises
    ------
    ValueError
        No address is known, or what came is not the file (checksum).
    ConnectionError
        The server cannot be reached, refuses, or breaks off.
    """
    import pooch
    import requests

    key, entry = official(name)
    target = Path(default_cache() if cache is None else cache) / key
    target.mkdir(parents=True, exist_ok=True)
    paths = []
    for file in entry.files:
        path = target / file.name
        paths.append(path)
        if path.is_file() and not mismatch(path, file):
            continue
        address = url or file.url
        if url and url.endswith("/"):
            address = url + file.name
        if address is None:
            raise ValueError(
                f"{key}: no address of {file.name} is known; get it from {file.origin} and put it"
                f" in {target}"
            )
        with tempfile.TemporaryDirectory(dir=target, prefix=".download-") as folder:
            try:
                received = Path(folder) / file.name
                pooch.HTTPDownloader(timeout=30, progressbar=progress)(address, str(received), None)
            except (requests.exceptions.RequestException, OSError) as error:
                response = getattr(error, "response", None)
                reason = error.strerror or type(error).__name__
                if response is not None:
                    reason = f"status {response.status_code}"
                raise ConnectionError(
                    f"{file.name}: could not be fetched from {address} ({reason})"
                ) from None
            if problem := mismatch(received, file):
                raise ValueError(f"{address}: {problem}; nothing was kept")
            os.replace(received, path)
    return paths
