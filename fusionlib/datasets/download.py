"""Fetch one file over HTTP: resumed after an interruption, checked by its SHA-256, and only then
given its name.

pooch checks and renames; what it cannot do, going on where a download broke off, is :func:`resume`.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pooch
import requests
from tqdm.auto import tqdm

TIMEOUT = 30  # seconds without a byte
CHUNK = 2**18  # bytes


def fetch(url: str, path: str | os.PathLike, sha256: str, progress: bool = False) -> Path:
    """Download ``url`` to ``path`` unless the right file is there already.

    While it runs, and after an interruption, what has come lies in ``path`` with ``.part`` added;
    the next call asks the server for the rest only.

    Parameters
    ----------
    sha256 : str
        Of the whole file, hexadecimal.
    progress : bool
        Show a bar.

    Raises
    ------
    ConnectionError
        The server cannot be reached, refuses, or breaks off; what has come is kept.
    ValueError
        What came is not the file; nothing is kept.
    OSError
        The folder cannot be written, or the disk is full; what has come is kept.
    """
    path = Path(path)
    part = path.with_name(path.name + ".part")
    log = pooch.get_logger()
    level = log.level
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        log.setLevel(logging.WARNING)  # a bar or silence, not a line a file
        pooch.retrieve(
            url,
            f"sha256:{sha256.lower()}",
            fname=path.name,
            path=path.parent,
            downloader=lambda url, output, _: resume(url, part, Path(output), progress),
        )
    except requests.exceptions.RequestException as error:
        answer = getattr(error, "response", None)
        reason = type(error).__name__ if answer is None else f"status {answer.status_code}"
        raise ConnectionError(
            f"{path.name}: could not be fetched from {url} ({reason}){_kept(part)}"
        ) from None
    except ValueError as error:
        if "hash" not in str(error):
            raise
        raise ValueError(
            f"{url}: expected sha256 {sha256[:12]} of {path.name}, got another file or a damaged"
            " one; nothing was kept"
        ) from None
    except OSError as error:
        raise OSError(
            f"{path}: cannot be written ({error.strerror or error}){_kept(part)}"
        ) from None
    finally:
        log.setLevel(level)
    return path


def _kept(part: Path) -> str:
    size = part.stat().st_size if part.is_file() else 0
    return (
        f"; {size} bytes are kept in {part.name}, the same call again goes on from there"
        if size
        else ""
    )


def resume(url: str, part: Path, output: Path, progress: bool = False) -> None:
    """Bring ``part`` to its full length and move it to ``output``.

    Raises
    ------
    requests.exceptions.RequestException
        No connection, a refusal, or fewer bytes than announced.
    """
    have = part.stat().st_size if part.is_file() else 0
    # Lengths only mean something for the bytes as they are: no compression on the way.
    asked = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    with requests.get(url, headers=asked, stream=True, timeout=TIMEOUT) as answer:
        if answer.status_code == requests.codes.requested_range_not_satisfiable and have:
            # nothing is left to send: the checksum says whether the file is whole
            part.replace(output)
            return
        answer.raise_for_status()
        goes_on = answer.status_code == requests.codes.partial_content
        if goes_on and not answer.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            raise requests.exceptions.InvalidHeader(
                f"expected the bytes from {have}, got others", response=answer
            )
        start = have if goes_on else 0  # a server that cannot resume sends all again
        length = (
            int(answer.headers["Content-Length"]) if "Content-Length" in answer.headers else None
        )
        with (
            open(part, "ab" if goes_on else "wb") as file,
            tqdm(
                total=length and start + length,
                initial=start,
                unit="B",
                unit_scale=True,
                desc=output.name,
                disable=not progress,
            ) as bar,
        ):
            for piece in answer.iter_content(CHUNK):
                file.write(piece)
                bar.update(len(piece))
    got = part.stat().st_size - start
    if length is not None and got < length:
        raise requests.exceptions.ConnectionError(f"expected {length} bytes, got {got}")
    part.replace(output)
