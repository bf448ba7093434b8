"""Readers of other people's weight files: PyTorch, safetensors, TensorFlow bundles, numpy archives.

No code in a file is ever run: pickles are read with ``weights_only=True``, numpy archives without
pickles, and a bundle holds nothing but numbers. What a file says of itself is judged before its
numbers are unpacked: its size, and, by ``look``, the names and shapes of its tensors.
"""

from __future__ import annotations

import contextlib
import math
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

from ... import download
from .files import MOST, PARTS
from .official import Official
from .tensorflow_bundle import read_data, read_index

State = Mapping[str, Tensor]
Look = Callable[[State], object]  # raises ValueError for tensors without numbers, on "meta"

WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "params", "weight")
HUNGRY = b"bytearray"  # of what PyTorch lets a pickle call: a number makes so many bytes
PREFIXES = ("module.", "_orig_mod.")  # of DataParallel and of torch.compile
NPY_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def read_raw(entry: Official, paths: list[Path], look: Look) -> list[State]:
    """Return the tensors of each official file, or of a bundle's two, under their authors' names.

    Parameters
    ----------
    entry : Official
        What the files are.
    paths : list of path
        One for each of its files, or one .npz.
    look : callable
        Gets the tensors before their numbers are read, where one file has them all and its format
        tells them apart: not an old pickle, nor safetensors, which has the bytes of its file.

    Raises
    ------
    ValueError
        Damaged, another format, too large, or code instead of numbers; or what ``look`` raises.
    """
    for path in paths:
        check_kind(path)
    if paths[0].suffix == ".npz":
        return [_read_npz(paths[0], look)]
    if entry.format == "torch":
        # each of several files has a part of the tensors
        check = look if len(paths) == 1 else None
        return [read_torch(path, (entry.member,), check) for path in paths]
    if entry.format == "archive":
        return [_read_archive(paths[0], entry.member, look)]
    return [_read_bundle(paths[0], paths[1], look)]


def read_any(path: Path, wrappers: tuple[str, ...], look: Look) -> State:
    """Return the tensors of one file, whose name says its format; without the prefixes and the
    wrapping that training programs add.

    Parameters
    ----------
    path : path
        .npz, .index (the bundle's data beside it), .safetensors; all else is PyTorch's.
    wrappers : tuple of str
        Keys under which a PyTorch file may hold its state dict.
    look : callable
        As for :func:`read_raw`, which raises the same.
    """
    check_kind(path)
    if path.suffix == ".npz":
        return _read_npz(path, look)
    if path.suffix == PARTS[0]:
        return _read_bundle(path, path.with_suffix(PARTS[1]), look)
    if path.suffix == ".safetensors":
        return _without_prefix(read_safetensors(path))
    return _without_prefix(read_torch(path, wrappers, lambda state: look(_without_prefix(state))))


def _without_prefix(state: State) -> State:
    for prefix in PREFIXES:
        if all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): value for name, value in state.items()}
    return state


def check_kind(path: Path) -> None:
    """Raise ValueError for a file that cannot be opened, is too large, or was sent in place of
    weights.
    """
    try:
        with open(path, "rb") as opened:
            start, size = opened.read(200), path.stat().st_size
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from None
    if kind := download.sent_instead(start):
        raise ValueError(f"{path}: expected weights, got {kind} in their place")
    _check_size(path, size)


def _check_size(path: Path, size: int, most: int = MOST) -> None:
    if size > most:
        raise ValueError(
            f"{path}: expected weights of at most {most / 1e6:.0f} MB, got {size / 1e6:.0f} MB"
        )


def _check_unpacked(path: Path, archive: zipfile.ZipFile, most: int = MOST) -> None:
    _check_size(path, sum(member.file_size for member in archive.infolist()), most)


def _read_npz(path: Path, look: Look) -> State:
    """Read a numpy archive without pickles."""
    with _reading(path, ".npz of numbers"):
        with zipfile.ZipFile(path) as archive:
            _check_unpacked(path, archive)
            members = {
                member.filename.removesuffix(".npy"): _npy_shape(archive, member)
                for member in archive.infolist()
            }
        look(members)
        with np.load(path, allow_pickle=False) as arrays:
            return {name: torch.from_numpy(arrays[name]) for name in arrays.files}


def _npy_shape(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Tensor:
    """Return an array of an archive without its numbers."""
    with archive.open(member) as opened:
        header = NPY_HEADERS[np.lib.format.read_magic(opened)]
        shape, _, dtype = header(opened)
        start = opened.tell()
    if start + math.prod(shape) * dtype.itemsize != member.file_size:
        raise ValueError(f"{member.filename} does not have the bytes of its shape {shape}")
    return _without_numbers(shape, dtype)


def _without_numbers(shape: tuple[int, ...], dtype: np.dtype) -> Tensor:
    return torch.empty(shape, dtype=torch.from_numpy(np.empty(0, dtype)).dtype, device="meta")


def _read_archive(path: Path, member: str, look: Look) -> State:
    """Read a bundle that lies in a zip file."""
    with _reading(path, "TensorFlow checkpoint"):
        with zipfile.ZipFile(path) as archive:
            _check_unpacked(path, archive)
            index, data = (archive.read(member + part) for part in PARTS)
        return _unpacked(index, data, look)


def _read_bundle(index: Path, data: Path, look: Look) -> State:
    """Read the two files of a bundle."""
    if not data.is_file():
        raise ValueError(f"{index}: expected {data.name} beside it, found none there")
    check_kind(data)
    with _reading(index, "TensorFlow checkpoint"):
        return _unpacked(index.read_bytes(), data.read_bytes(), look)


def _unpacked(index: bytes, data: bytes, look: Look) -> State:
    """Return the tensors of a bundle."""
    variables = read_index(index)
    look({name: _without_numbers(x.shape, x.type) for name, x in variables.items()})
    return {name: torch.from_numpy(value) for name, value in read_data(variables, data).items()}


def read_safetensors(path: Path) -> State:
    """Read a safetensors file; ValueError where it is damaged."""
    with _reading(path, "safetensors file"):
        return safetensors.torch.load_file(path)


def read_torch(path: Path, wrappers: tuple[str, ...] = (), look: Look | None = None) -> State:
    """Read a PyTorch file, old pickle or zip, as tensors and nothing else.

    Parameters
    ----------
    path : path
    wrappers : tuple of str
        Keys of which the first that is there holds the state dict.
    look : callable, optional
        As for :func:`read_raw`, which raises the same.
    """
    if look is not None and zipfile.is_zipfile(path):
        # mapped, the numbers stay in the file; their checksums are compared when they are read
        shapes = _tensors(path, load_torch(path, mapped=True), wrappers)
        look({name: value.to("meta") for name, value in shapes.items()})
    return _tensors(path, load_torch(path), wrappers)


# radon C: files of several programs, each with its own wrapping
def _tensors(path: Path, loaded: object, wrappers: tuple[str, ...]) -> State:
    """Return the tensors of what a PyTorch file holds."""
    if isinstance(loaded, dict):
        loaded = next(
            (loaded[key] for key in wrappers if isinstance(loaded.get(key), dict)), loaded
        )
    if not isinstance(loaded, dict):
        raise ValueError(f"{path}: expected a state dict, got {type(loaded).__name__}")
    if not any(isinstance(value, Tensor) for value in loaded.values()):
        # a dict of state dicts, one for each part of a network, such as CDDFuse's
        parts = {part: value for part, value in loaded.items() if isinstance(value, dict)}
        loaded = {f"{part}/{name}": x for part, value in parts.items() for name, x in value.items()}
    # Flags beside the tensors, such as TarDAL's use_eval, are no weights.
    state = {str(name): value for name, value in loaded.items() if isinstance(value, Tensor)}
    for name, value in state.items():
        if not is_plain(value):
            raise ValueError(f"{path}: expected plain numbers, tensor {name} holds others")
    # a shape may repeat few numbers often
    _check_size(path, sum(value.numel() * value.element_size() for value in state.values()))
    return state


def is_plain(value: Tensor) -> bool:
    """Return whether a tensor is an array of numbers: not sparse, nested, quantized or without."""
    dense = value.layout == torch.strided and not value.is_nested
    return dense and value.device.type == "cpu" and not value.is_quantized


def load_torch(path: Path, most: int = MOST, mapped: bool = False) -> Any:
    """Return what a PyTorch file holds; ValueError for one that is damaged, holds code, or unpacks
    to more than ``most`` bytes. ``mapped`` leaves the numbers of a zip in the file.
    """
    with _reading(path, "PyTorch file"):
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                _check_unpacked(path, archive, most)
                names = [name for name in archive.namelist() if name.endswith(".pkl")]
                pickles = [archive.read(name) for name in names]
        else:
            pickles = [path.read_bytes()]
        if any(HUNGRY in content for content in pickles):
            raise ValueError(f"{path}: expected tensors, its pickle makes a {HUNGRY.decode()}")
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except Exception as error:  # whatever a pickle of others makes of PyTorch's reader
        foreign = "weights_only" in str(error) or "Unsupported" in str(error)
        problem = "holds code instead of numbers" if foreign else "cannot be read"
        raise ValueError(
            f"{path}: {problem}, expected tensors saved by PyTorch ({type(error).__name__})"
        ) from None


@contextlib.contextmanager
def _reading(path: Path, what: str) -> Iterator[None]:
    """Turn what a damaged file makes its reader raise into one sentence that names the file."""
    try:
        yield
    except Exception as error:  # whatever others' readers make of a damaged file
        words = str(getattr(error, "strerror", None) or error)
        reason = " ".join(words.split()) or type(error).__name__
        if reason.startswith(str(path)):
            raise ValueError(reason) from None
        raise ValueError(f"{path}: not a readable {what} ({reason:.200})") from None
