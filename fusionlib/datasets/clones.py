"""Whole published data sets, or the subsets of them that papers name, as clones of the public
repositories that hold them; checked by counts and names.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from .. import download, images
from . import catalog, checking

# ends a transfer that brings less than 10 kB a second for a minute
SPEED = ("-c", "http.lowSpeedLimit=10000", "-c", "http.lowSpeedTime=60")
GIT = ("git", "-c", "core.autocrlf=false", *SPEED)
SOURCE = ".source"  # in the folder of a clone: address, commit and subset ("" for the whole set)
NAMED = 10  # problems that are named


def exists(name: str) -> bool:
    """Tell whether a data set lies in public repositories."""
    return "clone" in catalog.entry(name)[1]


def home(folder: Path, name: str) -> Path:
    """Return the folder of a whole published set in a data folder."""
    below = {"infrared-visible": "ivif", "multi-focus": "mfif"}[catalog.entry(name)[1]["kind"]]
    return folder / below / name


def parts(folder: Path, name: str) -> list[tuple[str, int, bool]]:
    """Return the repositories that hold a set, the MB of each and whether it is missing."""
    return [
        (repository, megabytes, not (home(folder, name) / Path(part).name).is_dir())
        for repository, (part, megabytes) in catalog.entry(name)[1]["clone"].items()
    ]


# radon C: clone, checks and what is made of it, in order; each may fail
def fetch(
    name: str, subset: str, folder: Path, mirror: str, work: Path, progress: bool = False
) -> list[str]:
    """Clone a data set unless it is there; return a sentence for each thing that is wrong with it.

    Parameters
    ----------
    name : str
        Of the catalogue.
    subset : str
        Only these pairs of it; "" for all.
    folder : Path
        Of all data.
    mirror : str
        Address or folder in place of GitHub; "" for GitHub.
    work : Path
        For unfinished clones.
    progress : bool
        Show git's own.
    """
    target, split = home(folder, name), catalog.subset(subset)[1] if subset else ""
    repositories = catalog.entry(name)[1]["clone"]
    for repository, (part, _) in repositories.items():
        only = split if repository == next(iter(repositories)) else ""  # the others hold labels
        goal, copy = target / Path(part).name, work / repository.replace("/", "-")
        if goal.is_dir():
            if (cloned := _cloned_subset(goal)).lower() not in ("", subset.lower()):
                wanted = subset or f"all of {name}"
                return [f"{target}: holds {cloned} alone; remove this folder to get {wanted}"]
            continue
        url = f"{mirror or download.GITHUB}/{repository}"
        url = url if "://" in url else Path(url).as_uri()  # --depth means nothing for a mere path
        try:
            commit = _clone(url, copy, progress, blobs=not only)
            if only:
                _check_out(name, only, copy, part)
            if not (copy / part).is_dir():
                raise RuntimeError(f"no folder {part}")
        except (RuntimeError, FileNotFoundError, ValueError) as error:
            return [f"{name}: could not be cloned from {url} ({error})"]
        shutil.rmtree(copy / ".git")
        (copy / part / SOURCE).write_text(f"{url} {commit} {subset if only else ''}")
        goal.parent.mkdir(parents=True, exist_ok=True)
        images.rename(copy / part, goal)
    return _problems(name, _cloned_subset(target), target)


def _cloned_subset(goal: Path) -> str:
    """Return the subset that a clone was restricted to, "" for none."""
    words = (goal / SOURCE).read_text().split() if (goal / SOURCE).is_file() else []
    return words[2] if len(words) > 2 else ""


def _git(*words: str, progress: bool = False, paths: list[str] | None = None) -> str:
    """Return what git prints; RuntimeError with its own sentence where it fails."""
    done = subprocess.run(
        [*GIT, *words],
        input="\0".join(paths).encode() if paths is not None else None,
        stdout=subprocess.PIPE,
        stderr=None if progress else subprocess.PIPE,
        env=os.environ | {"GIT_TERMINAL_PROMPT": "0", "GIT_LITERAL_PATHSPECS": "1"},
    )
    if done.returncode:
        output = (done.stderr or b"").decode(errors="replace").splitlines()
        fatal = [line for line in output if line.startswith("fatal")]
        raise RuntimeError(next(iter(fatal), f"git {words[0]} failed"))
    return done.stdout.decode(errors="surrogateescape")


def _clone(url: str, copy: Path, progress: bool, blobs: bool) -> str:
    """Clone the newest commit, without ``blobs`` the names alone; return the commit."""
    shutil.rmtree(copy, ignore_errors=True)
    part = () if blobs else ("--filter=blob:none", "--no-checkout")
    spoken = "--progress" if progress else "--quiet"
    _git("clone", spoken, "--depth", "1", *part, url, str(copy), progress=progress)
    return _git("-C", str(copy), "rev-parse", "HEAD").strip()


# radon C: empty images first, then those of the split
def _check_out(name: str, split: str, copy: Path, part: str) -> None:
    """Bring the files of a split, and all that belongs to no pair, into a clone of names.

    Empty images are put in place of all first, so that the catalogue finds the pairs by name.
    """
    listed = _git("-C", str(copy), "ls-tree", "-r", "-z", "--name-only", "HEAD")
    names = [path for path in listed.split("\0") if path]
    for path in names:
        (copy / path).parent.mkdir(parents=True, exist_ok=True)
        (copy / path).touch()
    from_list = ("--pathspec-from-file=-", "--pathspec-file-nul")
    checkout = ("-C", str(copy), "checkout", "--quiet", *from_list, "HEAD")
    lists = [path for path in names if path.endswith(".txt")]
    _git(*checkout, paths=lists)
    files = catalog.find(name, copy / part)
    members = set(files.splits.get(split, ()))
    others = {
        path.relative_to(copy).as_posix()
        for role in files.files.values()
        for pair, path in role.items()
        if pair not in members
    }
    for path in others:
        (copy / path).unlink()
    _git(*checkout, paths=[path for path in names if path not in others])


def _problems(name: str, subset: str, target: Path) -> list[str]:
    """Return what is wrong with a clone: Git LFS pointers, and counts and names."""
    problems = [
        f"{path}: is a Git LFS pointer in place of the file"
        for path in sorted(target.rglob("*.*"))
        if path.is_file() and path.stat().st_size < 200 and path.read_bytes().startswith(b"version")
    ]
    if subset:
        try:
            catalog.pairs(name, target, subset, 0, "", None, None)
        except (ValueError, FileNotFoundError) as error:
            problems.append(str(error))
    else:
        problems += checking.check(name, target, contents=False).problems
    more = [f"{len(problems) - NAMED} more"] if len(problems) > NAMED else []
    return [f"{name}: {problem}" for problem in problems[:NAMED] + more]
