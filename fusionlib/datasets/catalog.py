"""The catalogue of published data sets: where each is and on which terms, and what it must look
like on disk.

``describe`` says how to get one, ``find`` finds its files in the layout it came in. The facts are
in ``catalog.yaml``, those of a data set of one's own in :data:`OWN_FILE` in its folder; nothing
is fetched here, see :mod:`.get`.
"""

from __future__ import annotations

import hashlib
import os
import re
import textwrap
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import yaml

from ..text_files import read_yaml
from . import grouping, layouts
from .entry_form import ENTRY, check_form
from .infrared_visible import InfraredVisible, Pairs
from .labels import CLASSES, IGNORED, Annotation, LabelFile, read_coco
from .layouts import DatasetFiles
from .matching import agreed, match
from .multi_focus import MultiFocus

OWN_FILE = "dataset.yaml"  # in the folder of a data set: its entry of the catalogue


@cache
def _entries() -> dict[str, dict]:
    return yaml.safe_load((Path(__file__).parent / "catalog.yaml").read_text(encoding="utf-8"))


# radon C: the catalogue, and a set of one's own checked against its form
def entries(directory: str | os.PathLike = "") -> dict[str, dict]:
    """Return the catalogue; for a folder with a ``dataset.yaml``, with what that says.

    The file describes a data set of one's own, ``NAME: {pairs: 120, layouts: [...]}`` as in
    ``catalog.yaml``. Of a set that the catalogue has it need only say what differs, such as the
    numbers of a part of it.

    Raises
    ------
    ValueError
        Not such a file, or an entry without what it must have; one sentence.
    """
    path = Path(directory) / OWN_FILE
    if not str(directory) or not path.is_file():
        return _entries()
    content = read_yaml(path)
    if not isinstance(content, dict):
        raise ValueError(f"{path}: expected NAME: {{pairs: ..., layouts: ...}}, got something else")
    check_form(content, {"*": ENTRY}, OWN_FILE, path)
    for name, facts in content.items():
        known = list(facts.get("classes", CLASSES))
        if unknown := [label for label in facts.get("numbered", ()) if label not in known]:
            raise ValueError(f"{path}: expected numbered classes of {name}, got {unknown[0]!r:.60}")
    defaults = {"kind": "infrared-visible", "terms": "not stated", "get": f"see {path}"}
    described = {
        name: {"title": name, **defaults, **_entries().get(name, {}), **facts}
        for name, facts in content.items()
    }
    for name, facts in described.items():
        roles = {"called", *layouts.SOURCES.get(facts["kind"], ())}
        complete = [roles <= set(layout) for layout in facts.get("layouts", [{}])]
        if len(facts.get("size", (0, 0))) != 2:
            raise ValueError(
                f"{path}: expected size of {name} [height, width], got {facts['size']}"
            )
        if len(roles) == 1 or "pairs" not in facts or not all(complete):
            raise ValueError(
                f"{path}: expected of {name} a kind out of {', '.join(layouts.SOURCES)}, pairs, and"
                f" layouts with {', '.join(sorted(roles))} each, got {facts!r:.300}"
            )
    return _entries() | described


def names(kind: str | None = None, directory: str | os.PathLike = "") -> list[str]:
    """Return the names of all data sets, or of those of a kind: "infrared-visible",
    "multi-focus"; ``directory`` as for :func:`entries`.
    """
    known = entries(directory)
    return [name for name, facts in known.items() if kind in (None, facts["kind"])]


def entry(name: str, directory: str | os.PathLike = "") -> tuple[str, dict]:
    """Return a data set's name as the catalogue spells it and what it says, see ``catalog.yaml``;
    case is ignored, ``directory`` as for :func:`entries`.
    """
    known = entries(directory)
    for spelled, facts in known.items():
        if spelled.lower() == name.lower():
            return spelled, facts
    raise ValueError(f"name: expected one of {', '.join(known)}, got {name!r}")


def known(
    name: str, kind: str | None = "infrared-visible", directory: str | os.PathLike = ""
) -> str:
    """Return the catalogue's spelling of a data set of this kind (None: of any), "" if it has none
    of that name; ``directory`` as for :func:`entries`.
    """
    spellings = names(kind, directory)
    return next((spelled for spelled in spellings if spelled.lower() == name.lower()), "")


def family(dataset: str) -> str:
    """Return the data set that images come from by the name of theirs, in lower case: "flir" for
    "roadscene", whose images are frames of it; the name itself where the catalogue says nothing.
    """
    for name, facts in _entries().items():
        origin = facts.get("family", name)
        starts = f"({re.escape(name)}|{re.escape(origin)})(?![a-z])"
        if re.match(starts, dataset, re.IGNORECASE):
            return origin.lower()
    return dataset.lower()


def subset(name: str, directory: str | os.PathLike = "") -> tuple[str, str, int]:
    """Return data set, split ("" for all of it) and number of pairs of a subset that papers name,
    such as "MSRS-361"; case is ignored, ``directory`` as for :func:`entries`.

    Raises
    ------
    ValueError
        Not such a name, or nobody has said which pairs these are.
    """
    listed = {
        spelled.lower(): (dataset, spelled, facts)
        for dataset, about in entries(directory).items()
        for spelled, facts in about.get("subsets", {}).items()
    }
    published = ", ".join(spelled for _, spelled, facts in listed.values() if "split" in facts)
    if name.lower() not in listed:
        raise ValueError(f"subset: expected one of {published}, got {name!r}")
    dataset, spelled, facts = listed[name.lower()]
    if "split" not in facts:
        raise ValueError(f"subset: which pairs {spelled} are is unknown here; known: {published}")
    return dataset, facts["split"], facts["pairs"]


def is_evaluation(dataset: str, split: str) -> bool:
    """Return whether a split or subset of a data set, by its exact name, is what the printed tables
    are about; False where no list of that was published.
    """
    facts = _entries().get(dataset, {})
    split = facts.get("subsets", {}).get(split, {}).get("split", split)
    return bool(split) and facts.get("evaluation") == split


def classes(name: str, directory: str | os.PathLike = "") -> tuple[str, ...]:
    """Return the classes of a data set's boxes by the names of this project, in the set's own
    order; ``directory`` as for :func:`entries`.
    """
    facts = entry(name, directory)[1]
    labels = [
        facts["classes"][spelled] for spelled in facts.get("numbered", facts.get("classes", ()))
    ]
    return tuple(dict.fromkeys(label for label in labels if label))


# radon C: a line for each fact that a set may have
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
        "subsets": ", ".join(
            f"{part} ({about.get('split', 'unknown which') or 'all'})"
            for part, about in facts.get("subsets", {}).items()
        ),
        "boxes": ", ".join(f"{label} {count}" for label, count in facts.get("boxes", {}).items()),
        "terms": facts["terms"],
        "how to get it": facts["get"],
        "layouts": "; ".join(
            layout["called"] for layout in [*facts["layouts"], layouts.OWN[facts["kind"]]]
        ),
        "download": f"fusionlib data get {name}" if "clone" in facts else "",
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


def find(name: str, directory: str | os.PathLike) -> DatasetFiles:
    """Return the files of a data set in a folder, see :class:`.layouts.DatasetFiles`.

    Raises
    ------
    FileNotFoundError
        No such folder, or none of the set's layouts in it.
    ValueError
        Unknown data set, or several copies.
    """
    name, facts = entry(name, directory)
    files = layouts.find(directory, facts["layouts"], facts["kind"])
    if files is None:
        known = " or ".join(
            layout["called"] for layout in [*facts["layouts"], layouts.OWN[facts["kind"]]]
        )
        raise FileNotFoundError(f"{directory}: expected {name} as {known}, found none of these")
    return files


def present(directory: str | os.PathLike) -> dict[str, tuple[Path, int]]:
    """Return ``{data set: (folder, pairs)}`` of what lies in a folder or one level below, by the
    folders' names.

    A folder is taken for the set whose name it starts with, case and punctuation aside:
    ``m3fd_detection`` is M3FD.
    """
    directory = Path(directory)
    present_sets: dict[str, tuple[Path, int]] = {}
    if not directory.is_dir():
        raise FileNotFoundError(f"{directory}: expected a folder of data sets, found none there")
    folders = sorted(path for pattern in ("*/", "*/*/") for path in directory.glob(pattern))
    for folder in folders:
        fitting = [name for name in names() if _plain(folder.name).startswith(_plain(name))]
        for name in sorted(fitting, key=len)[-1:]:
            try:
                present_sets.setdefault(name, (folder, len(pair_names(find(name, folder)))))
            # another thing of that name, or its parts one level below
            except (FileNotFoundError, ValueError):
                continue
    return present_sets


def _plain(text: str) -> str:
    return "".join(letter for letter in text.lower() if letter.isalnum())


def pair_names(files: DatasetFiles) -> list[str]:
    """Return the names that have both images, sorted."""
    first, second = (files.files[role] for role in _sources(files))
    return sorted(first.keys() & second.keys())


def _sources(files: DatasetFiles) -> tuple[str, str]:
    return next(sources for sources in layouts.SOURCES.values() if sources[0] in files.files)


# radon C: spellings of classes, files of one image and files of all
def annotations_of(facts: dict, files: DatasetFiles) -> dict[str, Annotation | LabelFile]:
    """Return what is known of the boxes of each image; files of one image are read when asked for.

    Parameters
    ----------
    facts : dict
        The data set's entry.
    found : DatasetFiles

    Raises
    ------
    ValueError
        A COCO file that is not one, with an unknown class, or with other boxes of an image than
        another one.
    """
    if "classes" not in facts:
        known = dict(CLASSES)
    else:  # spellings of others are accepted for classes that the set has
        classes = {spelled.lower(): label for spelled, label in facts["classes"].items()}
        known = {
            spelled: label for spelled, label in CLASSES.items() if label in classes.values()
        } | classes
    numbered = [known[spelled.lower()] for spelled in facts.get("numbered", ())]
    is_yolo = any(path.suffix.lower() == ".txt" for path in files.files["labels"].values())
    if is_yolo and not numbered:
        raise ValueError(
            f"{files.root / OWN_FILE}: expected numbered, the classes of its YOLO files in their"
            " order, got none"
        )
    if files.files["labels"]:
        difficult = facts.get("difficult", IGNORED)
        return {
            pair: LabelFile(path, known, numbered, difficult)
            for pair, path in files.files["labels"].items()
        }
    annotations: dict[str, Annotation] = {}
    infrared, visible = (files.files[role] for role in _sources(files))
    for path in files.coco:
        strip = files.layout.get("strip", ())
        matched = match(path, read_coco(path, known), infrared, visible, strip)
        for pair, annotation in matched.items():
            first = annotations.get(pair, annotation)
            annotations[pair] = agreed(path, pair, first, annotation)
    return {**annotations}


def draw(members: list[str], sizes: Mapping[str, int], seed: int = 0) -> dict[str, list[str]]:
    """Divide names into splits at random, the same for a seed on any machine and in any version.

    Names are ordered by the SHA-256 of "seed name"; the first split takes the first ones, and so
    on.

    Parameters
    ----------
    members : list of str
        Names of all images.
    sizes : mapping of str to int
        How many each split gets, in the order in which they take.
    seed : int

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


# radon C: published layouts, plain folders, splits by list, by draw and by name
def pairs(
    name: str,
    directory: str | os.PathLike,
    split: str | None,
    seed: int,
    annotations: str,
    classes: Sequence[str] | None,
    size: tuple[int, int] | None,
) -> Pairs:
    """Return the infrared-visible pairs of a data set, in whatever layout it lies in a folder.

    Parameters
    ----------
    name : str
        As in the catalogue; case is ignored.
    directory : path
    split : str or None
        As the set divides itself (``train``, ``test``), or drawn by ``seed`` where the division was
        never published (M3FD: 3,900 and 300); or a subset, see :func:`subset`; None for all.
    seed : int
        Of a drawn split.
    annotations : str
        COCO file of a copy in this project's own layout; see
        :class:`.infrared_visible.InfraredVisible`.
    classes, size
        As for :class:`.infrared_visible.Pairs`.

    Raises
    ------
    FileNotFoundError
        Nothing of this set in the folder.
    ValueError
        Unknown set, split or class, or one of multi-focus pairs; a set that is not complete where a
        split is to be drawn or a subset is meant; two files of one name; a name without its
        partner.
    """
    name, facts = entry(name, directory)
    part, count = split or "", 0
    if part.lower() in map(str.lower, facts.get("subsets", {})):
        _, split, count = subset(part, directory)
        split = split or None
    if facts["kind"] != "infrared-visible":
        raise ValueError(f"name: expected infrared-visible pairs, got {name}, {facts['kind']}")
    files = find(name, directory)
    if files.conflicts:
        raise ValueError(files.conflicts[0])
    drawn = split in facts.get("drawn", ()) and split not in files.splits
    is_own_layout = files.layout is layouts.OWN[facts["kind"]]
    opened: Pairs
    if is_own_layout and not (drawn and len(pair_names(files)) == facts["pairs"]):
        opened = InfraredVisible(files.root, split, None, annotations, classes, size)
        drawn = False
    else:
        splits = files.splits | (draw(pair_names(files), facts["drawn"], seed) if drawn else {})
        opened = Pairs(
            files.root,
            files.files["infrared"],
            files.files["visible"],
            annotations_of(facts, files),
            splits,
            split,
            None,
            classes,
            size,
        )
    if count and len(opened) != count:
        raise ValueError(f"{files.root}: expected the {count} pairs {part}, found {len(opened)}")
    opened.grouping = grouping.rule(facts)
    opened.record = {
        "dataset": name,
        "layout": files.layout["called"],
        "seed": seed if drawn else None,
    }
    return opened


def grouping_of(dataset: str, directory: str | os.PathLike = "") -> grouping.Rule | None:
    """Return which pairs of a data set belong together; of built-in and generated ones, which lie
    in no ``directory``, none does. None where nobody has said.
    """
    if not str(directory):
        return grouping.SCENE
    name = known(dataset, None, directory)
    return grouping.rule(entry(name, directory)[1]) if name else None


def multi_focus(
    name: str, directory: str | os.PathLike, names: list[str] | None = None
) -> MultiFocus:
    """Return the pairs of a multi-focus data set, in whatever layout it lies in a folder.

    Parameters
    ----------
    name : str
        Of the catalogue, case ignored.
    directory : path
        Where the set lies.
    names : list of str, optional
        Only these pairs.

    Raises
    ------
    FileNotFoundError
        Nothing of this set in the folder.
    ValueError
        Unknown set; two files of one name; a name without its partner.
    """
    name = entry(name, directory)[0]
    files = find(name, directory)
    if files.conflicts:
        raise ValueError(files.conflicts[0])
    if files.layout is layouts.OWN["multi-focus"]:
        return MultiFocus(files.root, names)
    first, second = files.files["a"], files.files["b"]
    if alone := sorted(first.keys() ^ second.keys()):
        raise ValueError(
            f"{files.root}: expected both images of each pair, one of {', '.join(alone)} is missing"
        )
    return MultiFocus(
        files.root,
        names,
        {pair: (first[pair], second[pair]) for pair in first},
        files.files["reference"],
    )
