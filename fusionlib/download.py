"""Fetch files from their public addresses: in parallel, each checked under a temporary name before
it gets its own; what is there and right is not fetched again, so a call that was cut off, even
killed, is simply repeated.

pooch and requests ask for the bytes. Whatever a server does, a file takes no more room than its
size or :data:`LARGEST`, and no longer than :data:`GRACE`, what :data:`SLOWEST` allows for the bytes
that have come, and one timeout.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import subprocess
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import IO, NamedTuple
from urllib.parse import quote, urlsplit

import filelock
import pooch
import requests
import urllib3
from tqdm.auto import tqdm

from fusionlib import images

GITHUB = "https://github.com"
TIMEOUT = (10.0, 30.0)  # seconds for a connection, and without a byte
GRACE = 90.0  # seconds for a file, whatever its size
SLOWEST = 10_000  # bytes a second of a file beyond that
ATTEMPTS = 4  # where a server is busy (429, 5xx), breaks off, or cannot be reached
PAUSE = 1.0  # seconds before the second of them, twice that before the next
LONGEST_PAUSE = 60.0  # that a server may ask for
UNREACHED = 4  # files in a row without a connection, then the rest is not tried
LARGEST = 2**27  # bytes of a file whose size is not known
PIECE = 2**16  # bytes that are asked for at a time
IN_REPOSITORY = r"(.*)/raw/([0-9a-f]{7,40}|HEAD)/(.*)"  # an address: its repository, commit, path
WORK = ".downloading"  # below the folder: what has not got its name yet
ALIKE = 50  # files that fail for one reason are named one by one up to here
KINDS = {  # how what is sent in place of a file starts
    b"<!doctype html": "a web page",
    b"<html": "a web page",
    b"version https://git-lfs": "a Git LFS pointer",
}


class Wanted(NamedTuple):
    """A file to fetch.

    Attributes
    ----------
    path : Path
        Where it goes.
    address : str
        From :func:`address`.
    size : int or None
        In bytes, as far as it is known.
    problem : callable
        Says of a path what is wrong with the file there; "" where it is the right one.
    twins : tuple of Path
        Where the same file may lie already.
    """

    path: Path
    address: str
    size: int | None
    problem: Callable[[Path], str]
    twins: tuple[Path, ...] = ()

    @property
    def is_complete(self) -> bool:
        """Whether it is there and right."""
        return self.path.is_file() and not self.problem(self.path)


def sent_instead(start: bytes) -> str:
    """Return what a file is that begins so and was sent in place of another; "" for all else."""
    start = start[:200].lstrip().lower()
    return next((kind for beginning, kind in KINDS.items() if start.startswith(beginning)), "")


def address(repository: str, commit: str, path: str, mirror: str = "") -> str:
    """Return where a file of a repository is: at GitHub, or on a mirror, a server or a folder that
    stands in its place.

    Parameters
    ----------
    repository : str
        OWNER/NAME.
    commit, path : str
        Of the file.
    mirror : str
        In place of ``https://github.com``; "" for none.
    """
    base = mirror.removeprefix("file://").rstrip("/") or GITHUB
    return f"{base}/{repository}/raw/{commit}/{quote(path) if '://' in base else path}"


@contextlib.contextmanager
def working(folder: Path) -> Iterator[Path]:
    """Hold a folder against other downloads and yield the one for what has not got its name yet; it
    is gone afterwards, with what a killed download left in it.

    Raises
    ------
    RuntimeError
        Another download is at work there.
    OSError
        The folder cannot be written.
    """
    work, lock = folder / WORK, filelock.FileLock(folder / WORK / "lock", timeout=0)
    try:
        work.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except filelock.Timeout:
        raise RuntimeError(f"{folder}: another download is at work there") from None
    except OSError as error:
        raise OSError(f"{folder}: cannot be written ({error.strerror or error})") from None
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)
        lock.release()


def tidy(folder: Path) -> None:
    """Remove what a download left that was killed after its last file had got its name."""
    if (folder / WORK).exists():
        # at work, or not ours to write: its own business
        with contextlib.suppress(RuntimeError, OSError), working(folder):
            pass


def check_room(folder: Path, needed: int) -> None:
    """Raise OSError where the disk of a folder, there or not, has less than ``needed`` bytes."""
    disk = next(path for path in (folder, *folder.parents) if path.exists())
    if (free := shutil.disk_usage(disk).free) < needed:
        raise OSError(
            f"{folder}: expected room for {needed / 1e6:.1f} MB, the disk has {free / 1e6:.1f} MB"
        )


def fetch(
    files: Sequence[Wanted], work: Path, jobs: int = 4, progress: bool = False
) -> dict[Wanted, Exception]:
    """Fetch what is not there and right; return what failed with its reason.

    Parameters
    ----------
    files : sequence of Wanted
        Those of one address are fetched once.
    work : Path
        From :func:`working`.
    jobs : int
        At a time.
    progress : bool
        One bar for all, in a terminal.

    Returns
    -------
    dict of Wanted to Exception
        ConnectionError: not reached, refused, broken off, too slow. ValueError: what came is not
        the file. OSError: it cannot be written.
    """
    groups: dict[str, list[Wanted]] = defaultdict(list)
    for file in files:
        if not file.is_complete:
            groups[file.address].append(file)
    total = sum(group[0].size or 0 for group in groups.values())
    failed: dict[Wanted, Exception] = {}
    stop, unreached = threading.Event(), list[Exception]()  # in a row

    def fetch_group(group: list[Wanted]) -> None:
        try:
            if len(in_a_row := list(unreached)) >= UNREACHED:
                raise in_a_row[-1]
            _fetch_one(group, work, bar, stop)
            unreached.clear()
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None)
            error = OSError(f"cannot be written ({reason})") if reason else error
            failed.update(dict.fromkeys(group, error))
            unreached.extend([error] if isinstance(error, NoConnection) else [])

    options = {"unit": "B", "unit_scale": True, "disable": None if progress else True}
    with tqdm(total=total, **options) as bar, ThreadPoolExecutor(jobs) as threads:
        try:
            list(threads.map(fetch_group, groups.values()))
        except BaseException:
            stop.set()
            raise
    return {file: failed[file] for file in files if file in failed}


def bring(
    files: Sequence[Wanted], folder: Path, jobs: int = 4, progress: bool = False
) -> dict[Wanted, Exception]:
    """Fetch files below a folder as :func:`fetch` does, where the disk has room and nobody else
    fetches.

    Parameters
    ----------
    files : sequence of Wanted
    folder : Path
        Where nobody else may fetch meanwhile.
    jobs, progress
        As for :func:`fetch`.

    Raises
    ------
    OSError, RuntimeError
        As :func:`check_room` and :func:`working`.
    """
    missing = [file for file in files if not file.is_complete]
    if not missing:
        tidy(folder)
        return {}
    check_room(folder, sum(file.size or 0 for file in missing))
    with working(folder) as work:
        return fetch(missing, work, jobs, progress)


class NoConnection(ConnectionError):
    """Nobody answers at all."""


def sentences(failed: dict[Wanted, Exception], folder: Path) -> list[str]:
    """Return a sentence for each file that failed, or one for many that failed for one reason."""
    reasons: dict[str, list[Wanted]] = defaultdict(list)
    for file, error in failed.items():
        reasons[str(error)].append(file)
    lines = []
    for reason, files in reasons.items():
        names = [os.path.relpath(file.path, folder) for file in files]
        if len(files) > ALIKE:
            lines.append(f"{len(files)} files, {names[0]} the first: {reason}")
        else:
            lines += [
                f"{name}: {reason} ({file.address})"
                for name, file in zip(names, files, strict=True)
            ]
    return lines


# radon C: each way in which a server fails has its answer
def _fetch_one(group: list[Wanted], work: Path, bar: tqdm, stop: threading.Event) -> None:
    """Bring one file to all its places; raise what :func:`fetch` returns."""
    first = group[0]
    part = work / hashlib.sha256(first.address.encode()).hexdigest()
    twins = [path for path in first.twins if path.is_file() and not first.problem(path)]
    if twins:
        shutil.copyfile(twins[0], part)
    if part.is_file() and not first.problem(part):  # a killed download may have left it whole
        bar.update(first.size or 0)
    else:
        _read(first, part, bar, stop)
        if problem := first.problem(part):
            part.unlink()
            raise ValueError(f"{problem}; nothing was kept")
    for number, file in enumerate(group, 1):
        file.path.parent.mkdir(parents=True, exist_ok=True)
        last = number == len(group)
        images.rename(part if last else shutil.copyfile(part, f"{part}-{number}"), file.path)


# radon C: bounded in size, in time and by what the content is
def _read(file: Wanted, part: Path, bar: tqdm, stop: threading.Event) -> None:
    """Write the bytes of an address to ``part``, in several attempts where that may help."""
    clock = _Clock(file.size or LARGEST)
    for attempt in range(1, ATTEMPTS + 1):
        with open(part, "wb") as output:
            body = _Body(output, file.size or LARGEST, bar, stop, clock)
            try:
                if "://" not in file.address:
                    return _copy(file, body)
                return _request(file.address, body)
            except requests.exceptions.RequestException as error:
                bar.update(-body.count)
                reason, pause = _reason(error, file.address, PAUSE * 2 ** (attempt - 1))
        if body.is_late:
            raise ConnectionError(
                f"the server is too slow: {clock.count} bytes in {clock.passed():.0f} s"
            )
        left = clock.left() - pause
        if pause < 0 or left < 0 or attempt == ATTEMPTS or stop.wait(pause):
            raise reason
    raise AssertionError  # the last attempt raises


def _reason(error: Exception, address: str, pause: float) -> tuple[Exception, float]:
    """Return the failure of a request in words, and the seconds before the next; -1 for none."""
    answer = getattr(error, "response", None)
    if answer is not None:
        status, asked = answer.status_code, answer.headers.get("Retry-After", "")
        if status != requests.codes.too_many_requests and status < 500:
            return ConnectionError(f"the server answers with status {status}"), -1
        pause = min(float(asked), LONGEST_PAUSE) if asked.isdigit() else pause
        return ConnectionError(f"the server is busy (status {status})"), pause
    cause = next(iter(error.args), error)
    if isinstance(cause, urllib3.exceptions.MaxRetryError):
        kind = type(cause.reason).__name__
        return NoConnection(f"no connection to {urlsplit(address).netloc} ({kind})"), pause
    return ConnectionError(f"the server breaks off or says nothing ({type(cause).__name__})"), pause


class _Clock:
    """The time that a file of some bytes may take, which grows with what has come of it."""

    def __init__(self, size: int):
        self.size, self.count, self.start = size, 0, time.monotonic()

    def passed(self) -> float:
        """Return the seconds since the first attempt."""
        return time.monotonic() - self.start

    def left(self) -> float:
        """Return the seconds within which the next piece has to come."""
        return GRACE + min(self.size, self.count + PIECE) / SLOWEST - self.passed()


class _Body:
    """What pooch writes to: keeps what arrives, and refuses another kind of file or a longer one
    early.
    """

    def __init__(
        self, output: IO[bytes], size: int, bar: tqdm, stop: threading.Event, clock: _Clock
    ):
        self.output, self.size, self.bar, self.stop = output, size, bar, stop
        self.clock = clock
        self.count, self.is_late = 0, False
        self.flush = output.flush

    def write(self, piece: bytes) -> None:
        """Keep a piece; ValueError for what cannot be the file."""
        if not self.count and (kind := sent_instead(piece)):
            raise ValueError(f"got {kind} in place of the file")
        self.count += len(piece)
        self.clock.count += len(piece)
        if self.count > self.size:
            raise ValueError(f"expected {self.size} bytes, got more of them")
        if self.stop.is_set():
            raise ConnectionError("stopped by the user")
        self.output.write(piece)
        self.bar.update(len(piece))

    def late(self, answer: requests.Response) -> None:
        """End a transfer whose time is over; the reading thread then finds it broken off."""
        self.is_late = True
        with contextlib.suppress(OSError, ValueError, RuntimeError):  # it has just ended by itself
            answer.raw.shutdown()


def _request(address: str, body: _Body) -> None:
    """Ask a server for a file, as long as the body's clock allows."""
    ended = threading.Event()

    def wait(answer: requests.Response) -> None:
        while not ended.wait(max(body.clock.left(), 0)):
            if body.clock.left() <= 0:
                return body.late(answer)

    def watch(answer: requests.Response, **_options: object) -> None:
        length = answer.headers.get("Content-Length", "")
        if length.isdigit():
            check_room(Path(body.output.name).parent, int(length))
        threading.Thread(target=wait, args=[answer], daemon=True).start()

    # Lengths only mean something for the bytes as they are: no compression on the way.
    headers = {"Accept-Encoding": "identity"}
    hooks = {"response": watch}
    ask = pooch.HTTPDownloader(chunk_size=PIECE, timeout=TIMEOUT, headers=headers, hooks=hooks)
    try:
        ask(address, body, None)
    finally:
        ended.set()
    if body.is_late:  # without a length, what was broken off looks like the end
        raise requests.exceptions.ConnectionError("late")


def _copy(file: Wanted, body: _Body) -> None:
    """Read a file of a mirror that is a folder: a file there, or of a git repository there."""
    path, where = Path(file.address), re.fullmatch(IN_REPOSITORY, file.address)
    if where and not path.is_file():
        words = ["git", "-C", where[1], "cat-file", "blob", f"{where[2]}:{where[3]}"]
        done = subprocess.run(words, capture_output=True)
        if not done.returncode:
            return body.write(done.stdout)
        path = Path(where[1], where[3])
    if not path.is_file():
        raise ConnectionError("the mirror has no such file")
    with open(path, "rb") as source:
        for piece in iter(partial(source.read, 2**20), b""):
            body.write(piece)
