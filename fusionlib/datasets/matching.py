"""Which pair a label means: names as lists and COCO files write them, against the files there
are.
"""

from __future__ import annotations

import os
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from .. import images
from .labels import Annotation


def stem(name: str, strip: Iterable[str] = ()) -> str:
    """Return the name of an image from how somebody spells it: without folders, written with / or
    \\, without the suffix of an image, and without these endings.
    """
    name = _parts(name)[-1]
    base, _, suffix = name.rpartition(".")
    if base and f".{suffix.lower()}" in images.SUFFIXES:
        name = base
    for ending in strip:
        name = name.removesuffix(ending)
    return name


def _parts(path: str) -> list[str]:
    return path.replace("\\", "/").split("/")


def fold(name: str) -> str:
    """Return a name as it is compared with others: in lower case and composed Unicode."""
    return unicodedata.normalize("NFC", name).lower()


# radon C: names alike, written otherwise, several a pair, and of no image
def match(
    path: str | os.PathLike,
    entries: Mapping[str, Annotation],
    infrared: Mapping[str, Path],
    visible: Mapping[str, Path],
    strip: Iterable[str] = (),
) -> dict[str, Annotation]:
    """Return what a COCO file says of each pair, by the pair's name; entries of no image stay under
    their own.

    Of several entries that have a pair's name, those count whose folders and file name are how the
    path of one of its images ends.

    Parameters
    ----------
    path : path
        The file, for errors.
    entries : mapping of str to Annotation
        By file name, as :func:`.labels.read_coco` gives them.
    infrared, visible : mapping of str to path
        The files of each pair.
    strip : iterable of str
        Endings that file names have and names of pairs have not.

    Raises
    ------
    ValueError
        Two entries of one name of which the end of the path does not say which is meant, or which
        have different boxes for the two images of a pair.
    """
    pairs = infrared.keys() | visible.keys()
    folded: dict[str, list[str]] = defaultdict(list)
    for pair in pairs:
        folded[fold(pair)].append(pair)
    written: dict[str, list[str]] = defaultdict(list)
    for name in entries:
        short = stem(name, strip)
        alike = folded[fold(short)] if short not in pairs else [short]
        written[alike[0] if len(alike) == 1 else name].append(name)
    matched: dict[str, Annotation] = {}
    for pair, names in written.items():
        files = [files[pair] for files in (infrared, visible) if pair in files]
        meant = names if len(names) == 1 else _meant(path, pair, names, files)
        matched |= {name: entries[name] for name in names if name not in meant}
        matched[pair] = entries[meant[0]]
        for other in meant[1:]:
            matched[pair] = agreed(path, pair, matched[pair], entries[other])
    return matched


def _meant(
    path: str | os.PathLike, pair: str, names: Sequence[str], files: Sequence[Path]
) -> list[str]:
    """Return which of several entries are those of a pair's files, by the end of their paths.

    Parameters
    ----------
    path : path
        The COCO file, for errors.
    pair : str
    names : sequence of str
        File names of the entries.
    files : sequence of path
        Of the infrared and the visible image.

    Raises
    ------
    ValueError
        Two fit equally well.
    """
    meant: dict[str, None] = {}
    for file in files:
        fits = [_common_end(name, file) for name in names]
        best = [name for name, fit in zip(names, fits, strict=True) if fit == max(fits)]
        if len(best) == 1:
            meant[best[0]] = None
        elif max(fits) >= (1, False):
            meant.clear()
            break
    if not meant:
        raise ValueError(
            f"{path}: expected one image a name, two images have the stem {pair!r}: {names[0]} and"
            f" {names[1]}"
        )
    return list(meant)


def _common_end(name: str, file: Path) -> tuple[int, bool]:
    """Return how many folders a name and a path have in common, from the end, and whether the file
    names agree, suffix included.
    """
    *folders, last = map(fold, _parts(name))
    *parents, file_name = map(fold, file.absolute().parts)
    count = 0
    for folder, parent in zip(reversed(folders), reversed(parents), strict=False):
        if folder != parent:
            break
        count += 1
    return count, last == file_name


def agreed(path: str | os.PathLike, pair: str, first: Annotation, second: Annotation) -> Annotation:
    """Return the one annotation that two entries of a pair make: boxes mean the same in both of its
    images, and an entry without any may stand for an image that is only listed.

    Parameters
    ----------
    path : path
        The file, for errors.
    pair : str
    first, second : Annotation

    Raises
    ------
    ValueError
        Both have boxes, and not the same ones.
    """
    if first.boxes and second.boxes and first.contents() != second.contents():
        raise ValueError(
            f"{path}: expected one set of boxes for both images of {pair!r}, got two that differ,"
            f" of {len(first.boxes)} and {len(second.boxes)}"
        )
    return first if first.boxes or not second.boxes else second
