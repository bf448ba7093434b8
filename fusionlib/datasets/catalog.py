"""The catalogue of published data sets: where each is and on which terms, and what it must look
like on disk.

``describe`` says how to get one, ``check`` verifies a copy, ``open_pairs`` opens it in the layout
it came in. The facts are in ``catalog.yaml``; nothing is ever fetched unless :func:`download` is
called.
"""

from __future__ import annotations

import hashlib
import os
import textwrap
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import yaml

from . import layouts
from .infrared_visible import InfraredVisible, Pairs
from .labels import CLASSES, Annotation, LabelFile, read_coco
from .layouts import Found
from .multi_focus import MultiFocus


@cache
def _entries() -> dict[str, dict]:
    return yaml.safe_load((Path(__file__).parent / "catalog.yaml").read_text(encoding="utf-8"))


def names(kind: str | None = None) -> list[str]:
    """Return the names of all data sets, or of those of a kind: "infrared-visible",
    "multi-focus".
    """
    return [name for name, entry in _entries().items() if kind in (None, entry["kind"])]


def entry(name: str) -> tuple[str, dict]:
    """Return a data set's name as the catalogue spells it and what it says, see ``catalog.yaml``;
    case is ignored.
    """
    for known, found in _entries().items():
        if known.lower() == name.lower():
            return known, found
    raise ValueError(f"name: expected one of {', '.join(_entries())}, got {name!r}")


def known(name: str, kind: str = "infrared-visible") -> str:
    """Return the catalogue's spelling of a data set of this kind, "" if it has none of that
    name.
    """
    return next((one for one in names(kind) if one.lower() == name.lower()), "")


def classes(name: str) -> tuple[str, ...]:
    """Return the classes of a data set's boxes by the names of this project, in the set's own
    order.
    """
    facts = entry(name)[1]
    labels = [
        facts["classes"][spelled] for spelled in facts.get("numbered", facts.get("classes", ()))
    ]
    return tuple(dict.fromkeys(label for label in labels if label))


def describe(name: str) -> str:
    """Return in words what a data set holds, its terms and how to get it."""
    name, facts = entry(name)
    size = f", {facts['size'][0]}x{facts['size'][1]} (height x width)" if "size" in facts else ""
    splits = facts.get("splits", facts.get("drawn", {}))
    lines = {
        "title": f"{name}: {facts['title']}",
        "holds": f"{facts['pairs']} pairs, {facts['kind']}{size}",
        "splits": (
            ", ".join(f"{split} {count}" for split, count in splits.items())
            + (" (drawn by a seed: the list was never published)" if "drawn" in facts else "")
        ),
        "boxes": ", ".join(f"{label} {count}" for label, count in facts.get("boxes", {}).items()),
        "terms": facts["terms"],
        "how to get it": facts["get"],
        "layouts": "; ".join(
            layout["called"] for layout in [*facts["layouts"], layouts.OWN[facts["kind"]]]
        ),
        "download": (
            f"{len(facts['files'])} of its files have an address and a checksum: fusionlib data"
            f" {name} --download DIR"
            if facts.get("files")
            else ""
        ),
    }
    return "\n".join(
        textwrap.fill(
            text if key == "title" else f"{key}: {text}",
            110,
            subsequent_indent="  ",
            break_on_hyphens=False,
            break_long_words=False,
        )
        for key, text in lines.items()
        if text
    )


def find(name: str, directory: str | os.PathLike) -> Found:
    """Return the files of a data set in a folder, see :class:`.layouts.Found`.

    Raises
    ------
    FileNotFoundError
        No such folder, or none of the set's layouts in it.
    ValueError
        Unknown data set, or several copies.
    """
    name, facts = entry(name)
    found = layouts.find(directory, facts["layouts"], facts["kind"])
    if found is None:
        known = " or ".join(
            layout["called"] for layout in [*facts["layouts"], layouts.OWN[facts["kind"]]]
        )
        raise FileNotFoundError(f"{directory}: expected {name} as {known}, found none of these")
    return found


def present(directory: str | os.PathLike) -> dict[str, tuple[Path, int]]:
    """Return ``{data set: (folder, pairs)}`` of what lies in a folder or one level below, by the
    folders' names.

    A folder is taken for the set whose name it starts with, case and punctuation aside:
    ``m3fd_detection`` is M3FD.
    """
    directory, there = Path(directory), {}
    if not directory.is_dir():
        raise FileNotFoundError(f"{directory}: expected a folder of data sets, found none there")
    folders = sorted(path for pattern in ("*/", "*/*/") for path in directory.glob(pattern))
    for folder in folders:
        fitting = [name for name in names() if _plain(folder.name).startswith(_plain(name))]
        for name in sorted(fitting, key=len)[-1:]:
            try:
                there.setdefault(name, (folder, len(pair_names(find(name, folder)))))
            # another thing of that name, or its parts one level below
            except (FileNotFoundError, ValueError):
                continue
    return there


def _plain(text: str) -> str:
    return "".join(letter for letter in text.lower() if letter.isalnum())


def pair_names(found: Found) -> list[str]:
    """Return the names that have both images, sorted."""
    first, second = (found.files[role] for role in _sources(found))
    return sorted(first.keys() & second.keys())


def _sources(found: Found) -> tuple[str, str]:
    return next(sources for sources in layouts.SOURCES.values() if sources[0] in found.files)


def annotations(name: str, found: Found) -> dict[str, Annotation | LabelFile]:
    """Return what is known of the boxes of each image; files of one image are read when asked for.

    Raises
    ------
    ValueError
        A COCO file that is not one, or with an unknown class.
    """
    facts = entry(name)[1]
    if "classes" not in facts:
        known = dict(CLASSES)
    else:  # spellings of others are accepted for classes that the set has
        classes = {spelled.lower(): label for spelled, label in facts["classes"].items()}
        known = {
            spelled: label for spelled, label in CLASSES.items() if label in classes.values()
        } | classes
    numbered = [known[spelled.lower()] for spelled in facts.get("numbered", ())]
    if found.files["labels"]:
        return {
            pair: LabelFile(path, known, numbered) for pair, path in found.files["labels"].items()
        }
    return {
        found.bare(stem): one for path in found.coco for stem, one in read_coco(path, known).items()
    }


def draw(members: list[str], sizes: Mapping[str, int], seed: int = 0) -> dict[str, list[str]]:
    """Divide names into splits at random, the same for a seed on any machine and in any version.

    Names are ordered by the SHA-256 of "seed name"; the first split takes the first ones, and so
    on.

    Raises
    ------
    ValueError
        The sizes do not add up to the number of names.
    """
    if sum(sizes.values()) != len(members):
        raise ValueError(
            f"split: expected {' + '.join(map(str, sizes.values()))} pairs to divide, got"
            f" {len(members)}"
        )
    ordered = sorted(members, key=lambda name: hashlib.sha256(f"{seed} {name}".encode()).digest())
    ends = [sum(list(sizes.values())[: i + 1]) for i in range(len(sizes))]
    return {
        split: sorted(ordered[end - count : end])
        for (split, count), end in zip(sizes.items(), ends, strict=True)
    }


def open_pairs(
    name: str, directory: str | os.PathLike, split: str | None = None, seed: int = 0, **options
) -> Pairs | MultiFocus:
    """Open a data set in whatever layout it lies in ``directory``.

    Parameters
    ----------
    name : str
        As in the catalogue; case is ignored.
    split : str, optional
        As the set divides itself (``train``, ``test``), or drawn by ``seed`` where the division was
        never published (M3FD: 3,900 and 300). Multi-focus sets have none.
    seed : int
        Of a drawn split.
    **options
        ``names``, ``classes``, ``size`` of :class:`.infrared_visible.Pairs`; ``names`` alone for
        multi-focus sets.

    Returns
    -------
    Pairs or MultiFocus
        ``record`` of the former says data set, layout, split, seed and the checksum of the names,
        for a run's record.

    Raises
    ------
    FileNotFoundError
        Nothing of this set in the folder.
    ValueError
        Unknown set, split or class; a set that is not complete where a split is to be drawn; two
        files of one name; a name without its partner.
    """
    name, facts = entry(name)
    found = find(name, directory)
    if found.doubled:
        raise ValueError(found.doubled[0])
    if facts["kind"] == "multi-focus":
        return _multi_focus(name, found, split, **options)
    drawn = split in facts.get("drawn", ()) and split not in found.splits
    own = found.layout is layouts.OWN[facts["kind"]]
    if own and not (drawn and len(pair_names(found)) == facts["pairs"]):
        pairs, drawn = InfraredVisible(found.root, split, **options), False
    else:
        splits = found.splits | (draw(pair_names(found), facts["drawn"], seed) if drawn else {})
        pairs = Pairs(
            found.root,
            found.files["infrared"],
            found.files["visible"],
            annotations(name, found),
            splits,
            split,
            **options,
        )
    checksum = hashlib.sha256("\n".join(pairs.names).encode()).hexdigest()
    pairs.record = {
        "dataset": name,
        "layout": found.layout["called"],
        "split": split,
        "seed": seed if drawn else None,
        "pairs": len(pairs),
        "names_sha256": checksum,
    }
    return pairs


def _multi_focus(name: str, found: Found, split: str | None, **options) -> MultiFocus:
    if split is not None:
        raise ValueError(f"split: {name} has none, got {split!r}")
    if found.layout is layouts.OWN["multi-focus"]:
        return MultiFocus(found.root, **options)
    first, second = found.files["a"], found.files["b"]
    if alone := sorted(first.keys() ^ second.keys()):
        raise ValueError(
            f"{found.root}: expected both images of each pair, one of {', '.join(alone)} is missing"
        )
    return MultiFocus(
        found.root,
        files={pair: (first[pair], second[pair]) for pair in first},
        references=found.files["reference"],
        **options,
    )


def download(name: str, directory: str | os.PathLike, progress: bool = False) -> list[Path]:
    """Fetch the files of a data set that have an address and a checksum, resuming where it was
    interrupted.

    Raises
    ------
    ValueError
        The set has none, or what came is not the file.
    OSError
        See :func:`.download.fetch`.
    """
    from .download import fetch

    name, facts = entry(name)
    if not facts.get("files"):
        raise ValueError(f"{name}: no address with a checksum is known; {facts['get']}")
    return [
        fetch(facts["address"] + path, Path(directory) / path, checksum, progress)
        for path, checksum in facts["files"].items()
    ]
