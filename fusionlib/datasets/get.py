"""Real pairs from their public addresses: small sets file by file, as ``addresses.csv`` and
``sources.yaml`` list them, and whole published sets that lie in a public repository as
:mod:`.clones`.

A set opens at once by :func:`fusionlib.datasets.open_pairs`: its boxes are made of the published
labels.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

import pooch
import yaml

from .. import download, images, places
from ..download import Wanted
from . import catalog, clones
from .labels import read_yolo

HERE = Path(__file__).parent
MADE = HERE / "made"  # numbers and masks of this project, by their places in a data folder
ORIGIN = ("split", "origin", "time")  # of each image of ivif/general, in origin.csv


class Plan(NamedTuple):
    """What a call is to fetch.

    Attributes
    ----------
    folder : Path
    sets : list of str
        Of ``addresses.csv``, such as "ivif/msrs".
    clones : dict of str to str
        Data set of the catalogue, and the subset of it that is wanted, "" for all of it.
    files : list of Wanted
        Those that are missing or wrong.
    size : int
        Bytes to come.
    words : str
        Sources, terms and size.
    mirror : str
    """

    folder: Path
    sets: list[str]
    clones: dict[str, str]
    files: list[Wanted]
    size: int
    words: str
    mirror: str


@cache
def _sources() -> dict:
    return yaml.safe_load((HERE / "sources.yaml").read_text(encoding="utf-8"))


@cache
def _table() -> dict[str, list[dict[str, str]]]:
    """Return the rows of ``addresses.csv`` by the set of the file."""
    sets = defaultdict(list)
    with open(HERE / "addresses.csv", newline="", encoding="utf-8") as table:
        for row in csv.DictReader(table):
            sets["/".join(row["file"].split("/")[:2])].append(row)
    return sets


def sets() -> list[str]:
    """Return the sets that are fetched file by file, such as "ivif/msrs"."""
    return [name for name in _table() if name]


# radon C: what lies there, by size and checksum
def present() -> tuple[list[str], list[str]]:
    """Return a sentence for each set that lies where :mod:`.places` looks, and what names the
    others for :func:`plan`.
    """
    complete, lacking = [], []
    for name in [*sets(), *(known for known in catalog.names() if clones.exists(known))]:
        folder = places.find("data", name if name in sets() else str(clones.home(Path(), name)))
        rows = _table().get(name, [])
        files = [(folder or Path()).parent.parent / row["file"] for row in rows]
        count = sum(file.is_file() for file in files) if folder else 0
        if folder:
            complete.append(
                f"{name}: {f'{count} of {len(rows)} files' if rows else 'a clone'}, {folder}"
            )
        if not folder or count < len(rows):
            lacking.append(name)
    return complete, lacking


def make_option(path: str) -> str:
    """Return what ``make data`` needs besides to fetch the set of a path: nothing for those of
    ``sample``.
    """
    name = Path(path).name
    return "" if name in map(os.path.basename, _sources()["groups"]["sample"]) else f" SETS={name}"


# radon C: names of the table, of groups and of the catalogue
def _chosen(name: str) -> tuple[list[str], list[str]]:
    """Return the sets and the clones that a name stands for; case matters: ``tno`` is a part of
    ``TNO``.
    """
    if group := _sources()["groups"].get(name):
        return group, []
    if small := [known for known in sets() if name in (known, known.split("/")[1])]:
        return small, []
    if (spelled := catalog.known(name, None)) and clones.exists(spelled):
        return [], [spelled]
    if spelled:
        how = catalog.entry(spelled)[1]["get"]
        raise ValueError(f"{spelled}: lies in no public repository, get it by hand: {how}")
    whole = [known for known in catalog.names() if clones.exists(known)]
    known = [*_sources()["groups"], *(known.split("/")[1] for known in sets()), *whole]
    raise ValueError(f"name: expected some of {', '.join(known)}, got {name!r}")


# radon C: the kinds of names that one may ask for
def plan(
    names: Sequence[str],
    to: str | os.PathLike | None = None,
    mirror: str = "",
    subsets: Sequence[str] = (),
) -> Plan:
    """Return what is to be fetched for some names.

    Parameters
    ----------
    names : sequence of str
        ``sample`` (what that profile needs), a set (``general``, ``ivif/msrs`` or ``msrs``), or a
        whole published set that lies in a public repository (``MSRS``).
    to : path, optional
        Folder that gets ``ivif`` and ``mfif``; by default the first of :func:`.places.folders`.
    mirror : str
        As for :func:`.download.address`.
    subsets : sequence of str
        Parts of whole published sets, such as ``MSRS-361``; see :func:`.catalog.subset`.

    Raises
    ------
    ValueError
        An unknown name, a set that lies in no public repository, a set and a part of it, or no
        folder.
    """
    chosen = [_chosen(name) for name in names]
    owners = [catalog.subset(subset)[0] for subset in subsets]
    if twice := [name for name in owners if owners.count(name) > 1 or ([], [name]) in chosen]:
        raise ValueError(f"{twice[0]}: expected all of it or one subset, got more")
    chosen += [_chosen(name) for name in owners]
    if not (looked := places.folders("data", to)):
        raise ValueError("FUSION_DATA: expected a folder, or one named by --to, got none")
    small, whole = (list(dict.fromkeys(sum(lists, []))) for lists in zip(*chosen, strict=True))
    wanted = dict.fromkeys(whole, "") | dict(zip(owners, subsets, strict=True))
    base = mirror if "://" in mirror or not mirror else str(Path(mirror).expanduser().resolve())
    folder = looked[0]
    rows = [row for name in small for row in _table()[name]]
    twins = defaultdict(list)
    for row in (row for name in sets() for row in _table()[name]):
        twins[row["repository"], row["path"]].append(folder / row["file"])
    files = []
    for row in rows:
        at = (row["repository"], _sources()["repositories"][row["repository"]]["commit"])
        where = download.address(*at, row["path"], base)
        right = partial(_problem, int(row["bytes"]), row["sha256"])
        others = tuple(twins[row["repository"], row["path"]])
        files.append(Wanted(folder / row["file"], where, int(row["bytes"]), right, others))
    files = [file for file in files if not file.is_complete]
    return Plan(folder, small, wanted, files, *_announce(folder, rows, files, whole), base)


def _problem(size: int, sha256: str, path: Path) -> str:
    if (length := path.stat().st_size) != size:
        return f"expected {size} bytes, got {length}"
    if pooch.file_hash(str(path)) != sha256:
        return f"expected sha256 {sha256[:12]}, got another file or a damaged one"
    return ""


def _announce(
    folder: Path, rows: Sequence[dict], files: Sequence[Wanted], whole: Sequence[str]
) -> tuple[int, str]:
    """Return the bytes to come, and folder, size, sources and terms in words."""
    missing = {file.address: file.size or 0 for file in files}
    sizes, lines = Counter[str](), []
    for row in rows:
        sizes[row["repository"]] += int(row["bytes"])
    for repository, size in sizes.most_common():
        terms = _sources()["repositories"][repository]["terms"]
        lines.append(f"  {repository}, {size / 1e6:.1f} MB; terms: {terms}")
    coming = sum(missing.values())
    for name in whole:
        for repository, megabytes, lacking in clones.parts(folder, name):
            lines.append(f"  {repository}, {megabytes} MB, a clone for {name}")
            coming += megabytes * 10**6 * lacking
        lines.append(f"  terms of {name}: {catalog.entry(name)[1]['terms']}")
    total = f"{len(rows)} files, {sum(sizes.values()) / 1e6:.1f} MB; " if rows else ""
    first = f"{folder}: {total}{coming / 1e6:.1f} MB to fetch, from repositories of GitHub:"
    return coming, "\n".join([first, *lines])


def get(chosen: Plan, jobs: int = 4, progress: bool = False) -> list[str]:
    """Fetch what is missing of a plan; return a sentence for all that failed.

    Parameters
    ----------
    chosen : Plan
    jobs : int
        Files at a time.
    progress : bool
        Show a bar.

    Raises
    ------
    OSError
        The folder cannot be written, or the disk has no room.
    RuntimeError
        Another download is at work there.
    """
    if not (chosen.files or chosen.clones or _stale(chosen)[0]):
        download.tidy(chosen.folder)
        return []
    download.check_room(chosen.folder, chosen.size * (2 if chosen.clones else 1))
    with download.working(chosen.folder) as work:
        failed = download.fetch(chosen.files, work, jobs, progress)
        problems = download.sentences(failed, chosen.folder)
        stale, incomplete = _stale(chosen)
        for path, content in stale:
            path.parent.mkdir(parents=True, exist_ok=True)
            (work / path.name).write_bytes(content)
            images.rename(work / path.name, path)
        for name, subset in chosen.clones.items():
            problems += clones.fetch(name, subset, chosen.folder, chosen.mirror, work, progress)
    return [*problems, *incomplete]


def _stale(chosen: Plan) -> tuple[list[tuple[Path, bytes]], list[str]]:
    """Return what is made here and is not in the folder as it should be, and a sentence for each
    file that lacks labels to be made of.
    """
    stale, incomplete = [], []
    for name in chosen.sets:
        try:
            files = [(chosen.folder / below, content) for below, content in _made(name, chosen)]
            stale += [(path, content) for path, content in files if not _same(path, content)]
        except FileNotFoundError as error:
            incomplete.append(str(error))
    return stale, incomplete


def _made(name: str, chosen: Plan) -> Iterator[tuple[str, bytes]]:
    """Yield path in the data folder and content of what is made here of a set."""
    rules = {path: rule for path, rule in _sources()["boxes"].items() if path.startswith(name)}
    for path in sorted((MADE / name).rglob("*.*")):
        if (below := path.relative_to(MADE).as_posix()) not in rules:
            yield below, path.read_bytes()
    for below, rule in rules.items():
        coco = json.loads((MADE / name / rule["from"]).read_text(encoding="utf-8"))
        yield below, _json(_with_boxes(coco, name, rule, chosen.folder))
    if name == "ivif/general":
        text = io.StringIO()
        table = csv.writer(text, lineterminator="\n")
        table.writerow(("stem", *ORIGIN))
        for image in coco["images"]:
            stem = Path(image["file_name"]).stem
            table.writerow((stem, *(image.get(key, "") for key in ORIGIN)))
        yield f"{name}/origin.csv", text.getvalue().encode()


# radon C: the three sources of boxes
def _with_boxes(coco: dict, name: str, rule: dict, folder: Path) -> dict:
    """Return a COCO file with the boxes of fetched YOLO labels: cut at the border, rounded."""
    labels = {
        Path(row["file"]).stem: folder / row["file"]
        for row in _table()[name]
        if row["file"].startswith(f"{name}/{rule['labels']}/")
    }
    if missing := [path for path in labels.values() if not path.is_file()]:
        raise FileNotFoundError(
            f"{name}: {len(missing)} of its label files are missing, so its boxes were not made"
        )
    numbered = {category["name"]: category["id"] for category in coco["categories"]}
    known = defaultdict(list)
    for entry in coco["annotations"]:
        known[entry["image_id"]].append((entry["bbox"], entry["category_id"]))
    entries: list[dict] = []
    for image in coco["images"]:
        boxes, shape = known[image["id"]], (image["height"], image["width"])
        if path := labels.get(Path(image["file_name"]).stem):
            read = read_yolo(path, list(numbered), shape)
            rounded = read.on(shape, path).round(rule["decimals"]).tolist()
            boxes = [
                (box, numbered[label]) for box, label in zip(rounded, read.labels, strict=True)
            ]
        for box, category in boxes:
            facts = {"image_id": image["id"], "category_id": category, "bbox": box}
            area = round(box[2] * box[3], 1)
            entries.append(facts | {"id": len(entries) + 1, "area": area, "iscrowd": 0})
    return coco | {"annotations": entries}


def _json(content: dict) -> bytes:
    return json.dumps(content, separators=(",", ":")).encode()


def _same(path: Path, content: bytes) -> bool:
    """Tell whether a file holds the content; of JSON the numbers count, not the words on them."""
    present = path.read_bytes() if path.is_file() else None
    if present is None or path.suffix != ".json":
        return present == content
    words = dict.fromkeys(("info", "description"))
    try:
        return json.loads(present) | words == json.loads(content) | words
    except (ValueError, TypeError):
        return False
