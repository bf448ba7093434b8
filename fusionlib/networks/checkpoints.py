"""Weights on disk: the format of our own networks, and the way to the official files of others.

Our own format is two files, ``NAME.safetensors`` (tensors) and ``NAME.json`` (the network's configuration, the list
of tensors and checksums of both); each is checked against the other. Official files (:mod:`.official`) are looked for
in a folder the caller names, then in the cache; nothing is fetched unless :func:`download` is called. No code in a
file is ever run: PyTorch files are read with ``weights_only=True``, TensorFlow files as numbers.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from .. import images
from .official import CHECKPOINTS, File, Official
from .readers import read_raw

FORMAT = "fusionlib checkpoint 1"
MOST_SEARCHED = 2**26  # bytes; larger files are not searched for weights under another name


class Checkpoint(dict):
    """A state dict (name to float32 tensor) that remembers where it comes from.

    Attributes
    ----------
    name : str
        Name in the registry, or the path of a file of our own.
    config : dict
        Configuration of the network (own format), else empty.
    files : dict
        File name to SHA-256.
    verified : bool
        Whether the content is known to be the authors' (or, own format, what was saved).
    licence : str
        As found where the file is published.
    """

    def __init__(self, tensors: Mapping[str, Tensor], name: str, files: dict[str, str], verified: bool,
                 licence: str = "", config: dict | None = None):
        super().__init__(tensors)
        self.name, self.files, self.verified, self.licence, self.config = name, files, verified, licence, config or {}


# ---- our own format -------------------------------------------------------------------------------------------

def save_checkpoint(path: str | os.PathLike, model: nn.Module | Mapping[str, Tensor], config: dict) -> Path:
    """Write tensors to ``path`` (suffix .safetensors) and configuration to the .json beside it, each whole or not at
    all.

    Parameters
    ----------
    model : module or state dict
    config : dict
        Everything needed to build the network again; must be writable as JSON.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise ValueError(f"{path}: expected a name that ends in .safetensors, got {path.suffix!r}")
    try:
        text = json.dumps(config, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise TypeError(f"config: expected what JSON can hold, got {error}") from None
    state = model.state_dict() if isinstance(model, nn.Module) else model
    tensors = {name: value.detach().cpu().contiguous().clone() for name, value in state.items()}
    bound = {"format": FORMAT, "config_sha256": hashlib.sha256(text.encode()).hexdigest()}

    def save(sidecar: str) -> None:
        images.write_atomically(path, lambda temporary: save_file(tensors, temporary, metadata=bound))
        described = {name: {"shape": list(value.shape), "type": str(value.dtype)} for name, value in tensors.items()}
        record = bound | {"sha256": sha256(path), "config": json.loads(text), "tensors": described}
        Path(sidecar).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")

    # The outer write renames right after the inner one: an interruption leaves the old pair or the new one but for an
    # instant.
    images.write_atomically(path.with_suffix(".json"), save)
    return path


def _load_own(path: Path) -> Checkpoint:
    """Read and check both files of our own format."""
    sidecar = path.with_suffix(".json")
    for file in (path, sidecar):
        if not file.is_file():
            raise FileNotFoundError(f"{file}: expected a checkpoint's {file.suffix} file, found none there")
    try:
        record = json.loads(sidecar.read_text(encoding="utf-8"))
        if record["format"] != FORMAT:
            raise ValueError(f"{sidecar}: expected format {FORMAT!r}, got {record['format']!r}")
        config, expected, described = record["config"], record["sha256"], record["tensors"]
        config_sum = hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()
        if config_sum != record["config_sha256"]:
            raise ValueError(f"{sidecar}: its configuration was changed after it was saved (checksum)")
    except (UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError):
        raise ValueError(f"{sidecar}: expected the JSON that belongs to a checkpoint, its content is not") from None
    found = sha256(path)
    if found != expected:
        raise ValueError(f"{path}: expected sha256 {expected[:12]} as {sidecar.name} says, got {found[:12]}: damaged, "
                         "or of another save")
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path}: not a readable safetensors file ({error})") from None
    shapes = {name: list(value.shape) for name, value in tensors.items()}
    if shapes != {name: entry["shape"] for name, entry in described.items()}:
        raise ValueError(f"{path}: its tensors are not those that {sidecar.name} lists")
    return Checkpoint(tensors, str(path), {path.name: found}, verified=True, config=config)


# ---- official files -------------------------------------------------------------------------------------------

def default_cache() -> Path:
    """Return the user's cache folder for official weights."""
    import pooch

    return Path(pooch.os_cache("fusionlib")) / "weights"


def official(name: str) -> tuple[str, Official]:
    """Return name and entry of the registry for a checkpoint (``ifcnn-max``) or for a method's default (``IFCNN``)."""
    for key, entry in CHECKPOINTS.items():
        if name in (key, entry.method):
            return key, entry
    methods = dict.fromkeys(entry.method for entry in CHECKPOINTS.values())
    raise ValueError(f"name: expected a method ({', '.join(methods)}), a checkpoint ({', '.join(CHECKPOINTS)}) or a "
                     f"path that ends in .safetensors, got {name!r}")


def load_checkpoint(name: str | os.PathLike, folder: str | os.PathLike | None = None,
                    cache: str | os.PathLike | None = None) -> Checkpoint:
    """Return the tensors of a checkpoint under the names of this package's networks.

    Parameters
    ----------
    name : str or path
        A method, a name in :data:`.official.CHECKPOINTS`, or the path of a .safetensors file of our own.
    folder : path, optional
        Where official files are looked for first, and in its folders one level down; a renamed file is known by its
        content.
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
        return _load_own(Path(name))
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
    fetch = f", or run: fusionlib data weights {key}" if all(file.url for file in entry.files) else ""
    raise FileNotFoundError(f"{entry.method}: no weights found; get {wanted} (licence: {entry.licence}) and put it in "
                            f"{folder if folder is not None else cache}{fetch}")


def _find(file: File, place: Path) -> Path | None:
    """Return where ``file`` lies in ``place`` or one folder below, by name or else by content; None if nowhere."""
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
        return f"expected sha256 {file.sha256[:12]} of {file.name}, got {found[:12]}{_known_as(found)}"
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


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with open(path, "rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def git_blob(path: Path) -> str:
    """Return the id that git gives the content of a file, as ``git hash-object`` does."""
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def fingerprint(state: Mapping[str, Tensor]) -> str:
    """Return a SHA-256 over names, shapes and values of tensors, the same for any file format."""
    total = hashlib.sha256()
    for name in sorted(state):
        value = state[name].detach().cpu().contiguous().numpy()
        total.update(f"{name} {value.shape} {value.dtype}\n".encode() + value.tobytes())
    return total.hexdigest()


def _read(key: str, entry: Official, files: tuple[File, ...], paths: list[Path]) -> Checkpoint:
    """Read the files of one checkpoint, give the tensors our names and check them."""
    states = read_raw(entry, paths)
    module, function = entry.converter.split(":")
    convert = getattr(importlib.import_module(f"{__package__}.{module}"), function)
    try:
        state = {name: value.contiguous().float() if value.is_floating_point() else value
                 for name, value in convert(*states).items()}
    except (ValueError, KeyError) as error:
        raise ValueError(f"{paths[0]}: not the weights of {entry.method} ({error})") from None
    broken = [name for name, value in state.items() if not torch.isfinite(value).all()]
    if broken:
        raise ValueError(f"{paths[0]}: expected finite numbers, tensor {broken[0]} holds NaN or infinite ones")
    known = all(file.sha256 or file.blob for file in files)
    if not known and entry.fingerprint:
        if fingerprint(state) != entry.fingerprint:
            raise ValueError(f"{paths[0]}: expected the tensors of {entry.files[0].name}, got others under their names")
        known = True
    return Checkpoint(state, key, {path.name: sha256(path) for path in paths}, known, entry.licence)


def fill(network: nn.Module, checkpoint: Checkpoint) -> nn.Module:
    """Put the tensors of ``checkpoint`` into ``network`` and return it; ValueError unless names and shapes agree.

    Subnormal numbers, below 1.2e-38, become zero: they are nothing beside the other weights, but a processor computes
    with them 20 times slower. Weight decay left 190 000 of them in TarDAL's CT.
    """
    own = network.state_dict()
    missing, foreign = own.keys() - checkpoint.keys(), checkpoint.keys() - own.keys()
    reshaped = [name for name in own.keys() & checkpoint.keys() if own[name].shape != checkpoint[name].shape]
    if missing or foreign or reshaped:
        said = [f"{len(names)} {what} (such as {min(names)})" for names, what in
                ((missing, "missing"), (foreign, "unknown"), (reshaped, "of another shape")) if names]
        raise ValueError(f"{checkpoint.name}: expected the tensors of {type(network).__name__}, got {', '.join(said)}")
    network.load_state_dict({name: value.masked_fill(value.abs() < torch.finfo(value.dtype).tiny, 0)
                             if value.is_floating_point() else value for name, value in checkpoint.items()})
    return network


# ---- download -------------------------------------------------------------------------------------------------

def download(name: str, url: str | None = None, cache: str | os.PathLike | None = None,
             progress: bool = False) -> list[Path]:
    """Fetch the official files of a checkpoint into the cache, each checked before it gets its name.

    Parameters
    ----------
    name : str
        As for :func:`load_checkpoint`.
    url : str, optional
        Address of the file, or of the folder that holds the files (ending in ``/``); by default where the authors
        publish it.

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
        address = file.url if url is None else url + file.name if url.endswith("/") else url
        if address is None:
            raise ValueError(f"{key}: no address of {file.name} is known; get it from {file.origin} and put it in "
                             f"{target}")
        with tempfile.TemporaryDirectory(dir=target, prefix=".download-") as folder:
            try:
                got = Path(folder) / file.name
                pooch.HTTPDownloader(timeout=30, progressbar=progress)(address, str(got), None)
            except (requests.exceptions.RequestException, OSError) as error:
                answer = getattr(error, "response", None)
                reason = error.strerror or type(error).__name__ if answer is None else f"status {answer.status_code}"
                raise ConnectionError(f"{file.name}: could not be fetched from {address} ({reason})") from None
            if problem := mismatch(got, file):
                raise ValueError(f"{address}: {problem}; nothing was kept")
            os.replace(got, path)
    return paths
