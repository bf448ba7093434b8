"""Find the files of a data set in a folder, whatever its upper and lower case and however deep it
was unpacked.

A layout is a mapping of roles to patterns of paths: ``infrared`` and ``visible``, or ``a``, ``b``
and ``reference``; ``labels`` for a file of boxes per image, ``coco`` for one of all. In a pattern,
``{name}`` is the name that the files of a pair share, ``{split}`` a folder that says the split,
``{x|y}`` one of several spellings, ``{name=x|y}`` one of these names, and ``.*`` at the end the
suffix of any image. ``lists`` names text files with the members of a split, a name a line;
``rest`` says of a split without such a file which other split it is the rest of; ``strip`` holds
endings that lists and COCO files leave on a name.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .. import images
from ..text_files import read_text
from .infrared_visible import INFRARED, VISIBLE
from .matching import fold, stem

SOURCES = {"infrared-visible": ("infrared", "visible"), "multi-focus": ("a", "b")}
# The layout of this project's own folders, accepted for every data set.
OWN = {
    "infrared-visible": {
        "called": "ir, vi",
        "infrared": f"{{{'|'.join(INFRARED)}}}/{{name}}.*",
        "visible": f"{{{'|'.join(VISIBLE)}}}/{{name}}.*",
        "coco": "annotations.json",
    },
    "multi-focus": {
        "called": "a, b",
        "a": "a/{name}.*",
        "b": "b/{name}.*",
        "reference": "ref/{name}.*",
    },
}


@dataclass
class DatasetFiles:
    """The files of a data set in a folder.

    Attributes
    ----------
    layout : mapping
    root : path
        The folder that the patterns are relative to.
    files : dict of str to dict of str to path
        Role, then name of the pair.
    splits : dict of str to list of str
    coco : list of path
    conflicts : list of str
        A sentence for every file whose place is taken.
    """

    layout: Mapping
    root: Path
    files: dict[str, dict[str, Path]]
    splits: dict[str, list[str]] = field(default_factory=dict)
    coco: list[Path] = field(default_factory=list)
    conflicts: list[str] = field(default_factory=list)

    def canonical_name(self, name: str) -> str:
        """Return the name of a pair from how a list or a COCO file spells it."""
        return stem(name, self.layout.get("strip", ()))


def _compile(pattern: str) -> re.Pattern:
    words = []
    for token in re.split(r"(\{[^}]*\}|\.\*$)", pattern):
        key, _, options = token.strip("{}").partition("=")
        if token == ".*":
            words.append(rf"\.(?:{'|'.join(suffix[1:] for suffix in sorted(images.SUFFIXES))})")
        elif not token.startswith("{"):
            words.append(re.escape(token))
        else:
            words.append(
                f"(?P<{key}>{options or '[^/]+?'})"
                if key in ("name", "split")
                else f"(?:{token[1:-1]})"
            )
    return re.compile(f"(?P<root>(?:.*/)?){''.join(words)}", re.IGNORECASE)


def _patterns(layout: Mapping, role: str) -> list[re.Pattern]:
    patterns = layout.get(role, [])
    return [
        _compile(pattern) for pattern in ([patterns] if isinstance(patterns, str) else patterns)
    ]


def _walk(directory: Path) -> list[str]:
    """Return the paths of all files below a folder, relative to it, sorted; hidden ones and those
    of macOS left out, and folders that a link puts into themselves.
    """
    hits = []
    above = {os.fspath(directory): {images.file_id(directory)}}  # each folder and those it lies in
    # data often lies on another disk
    for folder, below, names in os.walk(directory, followlinks=True):
        parents = above.pop(folder)
        kept = []
        for name in below:
            path = os.path.join(folder, name)
            hidden = name.startswith(".") or name == "__MACOSX"
            if not hidden and (identity := images.file_id(path)) not in parents:
                kept.append(name)
                above[path] = parents | {identity}
        below[:] = kept
        start = Path(folder).relative_to(directory).as_posix()
        hits += [
            name if start == "." else f"{start}/{name}"
            for name in names
            if not name.startswith(".")
        ]
    return sorted(hits)


# radon C: each layout against each folder on the way down
def find(
    directory: str | os.PathLike, layouts: Sequence[Mapping], kind: str
) -> DatasetFiles | None:
    """Return the files of a data set below a folder, None where no layout fits.

    Of two layouts that fit at one place, the one with more files counts, labels included, else the
    first.

    Parameters
    ----------
    layouts : sequence of mapping
        Accepted at any depth; :data:`OWN` is accepted in the folder itself.
    kind : str
        A key of :data:`SOURCES`.

    Raises
    ------
    FileNotFoundError
        No such folder.
    ValueError
        Several folders fit: which one is meant cannot be known.
    """
    directory = Path(directory)
    if not directory.is_dir():
        raise FileNotFoundError(f"{directory}: expected a folder, found none there")
    paths = _walk(directory)
    best: dict[str, tuple[Mapping, dict]] = {}
    for layout in [*layouts, OWN[kind]]:
        roots: dict[str, dict[str, list[re.Match]]] = defaultdict(dict)
        for role in (*SOURCES[kind], "reference", "labels", "coco"):
            for pattern in _patterns(layout, role):
                for match in filter(None, map(pattern.fullmatch, paths)):
                    roots[match["root"] or ""].setdefault(role, []).append(match)
        for root, matches in roots.items():
            fits = all(role in matches for role in SOURCES[kind]) and not (
                layout is OWN[kind] and root
            )
            if fits and _count(matches) > _count(best.get(root, ({}, {}))[1]):
                best[root] = layout, matches
    if len(best) > 1:
        raise ValueError(
            f"{directory}: expected one copy, found"
            f" {' and '.join(root or '.' for root in sorted(best))}; name one of these folders"
        )
    return next(
        (
            _collect(directory, paths, layout, root, matches)
            for root, (layout, matches) in best.items()
        ),
        None,
    )


def _count(matches: Mapping[str, list]) -> int:
    """Return the number of files, those of one role and one name counted once."""
    return sum(
        len({match.groupdict().get("name", match.string) for match in role})
        for role in matches.values()
    )


# radon C: every role of a layout, with the files that lists and boxes add
def _collect(
    directory: Path, paths: list[str], layout: Mapping, root: str, matches: dict[str, list]
) -> DatasetFiles:
    files = DatasetFiles(
        layout, directory / root, {role: {} for role in (*matches, "reference", "labels")}
    )
    files.coco = [directory / match.string for match in matches.pop("coco", [])]
    spelled: dict[str, str] = {}
    members: dict[str, dict[str, None]] = defaultdict(dict)
    for role, hits in matches.items():
        for match in hits:
            name = spelled.setdefault(fold(match["name"]), match["name"])
            path = directory / match.string
            if name in files.files[role]:
                files.conflicts.append(
                    f"{path}: expected one file, {role} of {name}, found also"
                    f" {files.files[role][name]}"
                )
                continue
            files.files[role][name] = path
            if "split" in match.re.groupindex and role not in ("reference", "labels"):
                members[match["split"].lower()][name] = None
    files.splits = {split: list(names) for split, names in members.items()}
    for split, pattern in layout.get("lists", {}).items():
        for match in filter(None, map(_compile(pattern).fullmatch, paths)):
            if (match["root"] or "") == root:
                lines = read_text(directory / match.string, errors="replace").split()
                files.splits[split] = [
                    spelled.get(fold(files.canonical_name(line)), files.canonical_name(line))
                    for line in lines
                ]
    for split, other in layout.get("rest", {}).items():
        if other in files.splits:
            sources = matches.keys() - {"reference", "labels"}
            every = set().union(*(files.files[role] for role in sources))
            files.splits.setdefault(split, sorted(every.difference(files.splits[other])))
    return files
