"""Download of official weights from their public addresses."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from ... import places
from ...download import Wanted, address, bring
from .files import find_file, mismatch
from .official import CHECKPOINTS, File, official


def wanted(
    names: Sequence[str], to: str | os.PathLike | None = None, mirror: str = ""
) -> tuple[Path, list[Wanted], list[str]]:
    """Return what belongs to some checkpoints: the folder, its files, and a sentence for each file
    that has no address.

    Parameters
    ----------
    names : sequence of str
        As for :func:`load_checkpoint`; "all" is every checkpoint.
    to : path, optional
        Folder below which they go; by default the first of :func:`.places.folders`.
    mirror : str
        As for :func:`.download.address`.

    Raises
    ------
    ValueError
        An unknown name, or no folder.
    """
    if not (looked := places.folders("weights", to)):
        raise ValueError("FUSION_WEIGHTS: expected a folder, or one named by --to, got none")
    keys = list(CHECKPOINTS) if "all" in names else [official(name)[0] for name in names]
    files: dict[str, Wanted] = {}  # by address: checkpoints share files
    lacking = []
    for key in keys:
        entry = CHECKPOINTS[key]
        for file in entry.files:
            path = _path_of(file, looked[0], looked[0] / entry.method.lower() / file.name)
            if file.at is None:
                lacking.append(
                    f"{key}: {file.name} has no plain address; get it from {file.origin}"
                    f" and put it in {path.parent}"
                )
                continue
            where = address(*file.at, mirror)
            files[where] = Wanted(path, where, file.size, partial(mismatch, file=file))
    return looked[0], list(files.values()), lacking


def _path_of(file: File, folder: Path, otherwise: Path) -> Path:
    """Return where a file lies already in ``folder`` or one below, else ``place``."""
    with contextlib.suppress(ValueError):  # another file of its name
        return find_file(file, folder) or otherwise
    return otherwise


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
        As ``to`` of :func:`wanted`.
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
    folder, files, lacking = wanted([name], cache)
    if lacking:
        raise ValueError(lacking[0])
    if url:
        names = url if url.endswith("/") else ""
        files = [file._replace(address=names + file.path.name if names else url) for file in files]
    for file, error in bring(files, folder, progress=progress).items():
        raise type(error)(f"{file.path.name}: {error} ({file.address})")
    return [file.path for file in files]
