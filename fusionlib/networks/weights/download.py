"""Download of official weights from their public addresses into the cache."""

import os
import tempfile
from pathlib import Path

from .official import official
from .search import default_cache, mismatch


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
