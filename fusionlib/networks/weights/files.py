"""Official files on disk, known by name, size and checksum; that needs no torch."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

from ... import download
from .official import CHECKPOINTS, File
from .tensorflow_bundle import read_index

MOST = 2**26  # bytes of a file and of what is in it; the largest network has 30 MB
PARTS = (".index", ".data-00000-of-00001")  # of a TensorFlow bundle


# radon C: by name first, then by content, in two levels of folders
def find_file(file: File, parent: Path) -> Path | None:
    """Return the path of ``file`` in ``parent`` or one folder below, known by name or content."""
    if not parent.is_dir():
        return None
    candidates = _files_in(parent)
    named = [path for path in candidates if path.name == file.name]
    for path in named:
        if not mismatch(path, file):
            return path
    if file.sha256 or file.blob:
        for path in candidates:
            if path.stat().st_size <= MOST and not mismatch(path, file):
                return path
    # YDTR's and DATFuse's files have one name; where only the other's is there, this one is absent
    if wrong := [path for path in named if not _is_official(path)]:
        raise ValueError(f"{wrong[0]}: {mismatch(wrong[0], file)}")
    return None


def _files_in(parent: Path) -> list[Path]:
    """Return the files of a folder, then those of the folders in it."""
    entries = sorted(path for path in parent.iterdir() if not path.name.startswith("."))
    files = [path for path in entries if path.is_file()]
    for folder in entries:
        if folder.is_dir():
            files += sorted(path for path in folder.iterdir() if path.is_file())
    return files


def _is_official(path: Path) -> bool:
    """Return whether a file is one of the registry, with a checksum, under its own name."""
    return any(
        file.name == path.name and (file.sha256 or file.blob) and not mismatch(path, file)
        for entry in CHECKPOINTS.values()
        for file in entry.files
    )


def mismatch(path: Path, file: File) -> str:
    """Describe how ``path`` differs from what is known of ``file``; empty where nothing does."""
    try:
        with open(path, "rb") as opened:
            kind = download.sent_instead(opened.read(200))
        size = path.stat().st_size
        if kind:
            return f"expected {file.name}, got {kind} in its place"
        if file.size is not None and size != file.size:
            short = ", the file is truncated" if size < file.size else ""
            return f"expected {file.size} bytes of {file.name}, got {size}{short}"
        if size > MOST:
            return f"expected at most {MOST / 1e6:.0f} MB of {file.name}, got {size / 1e6:.0f} MB"
        return _other_content(path, file)
    except OSError as error:
        return f"cannot be read ({error.strerror})"


def _other_content(path: Path, file: File) -> str:
    if file.sha256:
        digest = sha256(path)
        if digest != file.sha256:
            hint = _identify(digest)
            return f"expected sha256 {file.sha256[:12]} of {file.name}, got {digest[:12]}{hint}"
    elif file.blob:
        if (digest := git_blob(path)) != file.blob:
            return f"expected git id {file.blob[:12]} of {file.name}, got {digest[:12]}"
    elif not _opens(path, Path(file.name).suffix):
        return f"expected {file.name}, got another or a damaged file under its name"
    return ""


def _opens(path: Path, suffix: str) -> bool:
    """Return whether a file whose content nobody knows opens as one of that suffix does."""
    if suffix == PARTS[0]:
        try:
            return bool(read_index(path.read_bytes()))
        except (OSError, ValueError):
            return False
    return suffix != ".npz" or zipfile.is_zipfile(path)


def _identify(digest: str) -> str:
    """Name the official file with this SHA-256, if there is one, for an error sentence."""
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
