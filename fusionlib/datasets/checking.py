"""Verify a copy of a published data set: every file that is wrong, in one sentence each."""

from __future__ import annotations

import multiprocessing
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from tqdm.auto import tqdm

from .. import decoding, workers
from . import catalog, layouts
from .labels import Annotation, LabelFile
from .layouts import DatasetFiles


@dataclass
class Report:
    """What a check found.

    Attributes
    ----------
    dataset, layout, root
    pairs : int
    boxes : Counter
        Boxes of each class.
    problems : list of str
        One sentence each; empty where all is well.
    notes : list of str
        What is worth knowing but no fault.
    """

    dataset: str
    layout: str = ""
    root: Path | None = None
    pairs: int = 0
    boxes: Counter = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


# radon C: each kind of problem is reported, and none ends the check
def check(
    name: str,
    directory: str | os.PathLike,
    processes: int = 1,
    progress: bool = False,
    contents: bool = True,
) -> Report:
    """Verify layout, counts, sizes, labels and images of a data set in ``directory``.

    Every file is read to its end. A PNG is judged by its own checksums and a JPEG is decoded at an
    eighth of its size, which reads all of its data: both find damage as surely as decoding every
    pixel, in a fraction of the time. Other formats are decoded.

    Parameters
    ----------
    processes : int
        Worker processes; 1 stays in this one.
    progress : bool
        Show a bar.
    contents : bool
        False looks at counts and names alone and opens no file.

    Raises
    ------
    ValueError
        Unknown data set; everything else is a problem of the report.
    """
    name, facts = catalog.entry(name, directory)
    report = Report(name)
    try:
        files = catalog.find(name, directory)
    except (FileNotFoundError, ValueError) as error:
        report.problems.append(str(error))
        return report
    sources = layouts.SOURCES[facts["kind"]]
    pairs = catalog.pair_names(files)
    report.layout, report.root, report.pairs = files.layout["called"], files.root, len(pairs)
    report.problems += [
        *files.conflicts,
        *_counts(name, facts, files, pairs),
        *_partners(files, sources),
    ]
    if not contents:
        return report
    try:
        known = catalog.annotations_of(facts, files)
    except ValueError as error:
        known = {}
        report.problems.append(str(error))
    else:
        missing = _unlabelled(facts, files, pairs, known)
        (report.notes if facts.get("labels_apart") and not known else report.problems).extend(
            missing
        )
    jobs = []
    for pair in pairs:
        roles = [role for role in (*sources, "reference") if pair in files.files[role]]
        jobs.append(([files.files[role][pair] for role in roles], known.get(pair)))
    size = tuple(facts["size"]) if "size" in facts else None
    for problems, boxes in tqdm(
        _run(jobs, size, processes), name, len(jobs), unit="pair", disable=not progress
    ):
        report.problems += problems
        report.boxes += boxes
    if known and len(pairs) == facts["pairs"] and not report.problems:
        report.notes += _other_box_counts(files.root, facts.get("boxes", {}), report.boxes)
    return report


def _other_box_counts(root: Path, expected: Mapping[str, int], boxes: Counter) -> Iterator[str]:
    """Yield a sentence where others count other boxes of a class than there are."""
    if boxes != Counter(expected):
        told, got = (
            ", ".join(f"{label} {count[label]}" for label in sorted(count))
            for count in (expected, boxes)
        )
        yield f"{root}: others count the boxes {told}; here are {got or 'none'}"


def _counts(name: str, facts: dict, files: DatasetFiles, pairs: list[str]) -> Iterator[str]:
    if len(pairs) != facts["pairs"]:
        yield f"{files.root}: expected {facts['pairs']} pairs of {name}, found {len(pairs)}"
    if files.layout is layouts.OWN[facts["kind"]]:
        return
    for split, count in facts.get("splits", {}).items():
        members = files.splits.get(split, [])
        if len(members) != count:
            location = files.layout.get("lists", {}).get(split, f"the folder {split}")
            yield (
                f"{files.root}: expected {count} pairs of split {split} in {location}, found"
                f" {len(members) or 'none'}"
            )
    pair_set = set(pairs)
    for split, members in files.splits.items():
        if "lists" in files.layout:
            for pair in members:
                if pair not in pair_set:
                    yield (
                        f"{files.root}: expected images of {pair!r}, a name in"
                        f" {files.layout['lists'][split]}, found none"
                    )


def _partners(files: DatasetFiles, sources: tuple[str, str]) -> Iterator[str]:
    for role, other in (sources, sources[::-1]):
        for pair in sorted(files.files[role].keys() - files.files[other].keys()):
            yield (
                f"{files.files[role][pair]}: expected a partner among the {other} images, found"
                " none"
            )


def _unlabelled(facts: dict, files: DatasetFiles, pairs: list[str], known: dict) -> list[str]:
    if "classes" not in facts:
        return []
    if not known:
        return [
            f"{files.root}: expected boxes"
            f" ({files.layout.get('labels', files.layout.get('coco'))}), found none"
        ]
    first = files.files[next(iter(files.files))]
    missing = [
        f"{first[pair]}: expected boxes for this image, found none"
        for pair in pairs
        if pair not in known
    ]
    if spare := sorted(known.keys() - set(pairs)):
        missing.append(
            f"{files.root}: expected an image for each label, {len(spare)} have none, such as"
            f" {spare[0]}"
        )
    return missing


def _run(
    jobs: list, size: tuple[int, int] | None, processes: int
) -> Iterator[tuple[list[str], Counter]]:
    if processes <= 1:
        yield from (_inspect(job, size) for job in jobs)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, context, workers.start) as pool:
        yield from pool.map(partial(_inspect, size=size), jobs, chunksize=32)


# radon C: each file of a pair, its size and its labels
def _inspect(
    job: tuple[list[Path], Annotation | LabelFile | None], size: tuple[int, int] | None
) -> tuple[list, Counter]:
    """Return the problems of one pair, and its boxes by class."""
    (first, *others), annotation = job
    problems, shapes = [], {}
    for path in (first, *others):
        try:
            shapes[path] = decoding.shape(path)
        except (ValueError, OSError) as error:
            problems.append(str(error))
    if size is not None:
        problems += [
            f"{path}: expected {size[0]}x{size[1]} (height x width), got {got[0]}x{got[1]}"
            for path, got in shapes.items()
            if got != size
        ]
    elif len(set(shapes.values())) > 1:
        problems += [
            f"{path}: expected {shapes[first][0]}x{shapes[first][1]} (height x width) as {first},"
            f" got {got[0]}x{got[1]}"
            for path, got in shapes.items()
            if first in shapes and got != shapes[first]
        ]
    boxes: Counter[str] = Counter()
    if annotation is not None and first in shapes:
        try:
            read = annotation.read(shapes[first])
            read.on(shapes[first], annotation.path if isinstance(annotation, LabelFile) else first)
            boxes.update(read.labels)
        except ValueError as error:
            problems.append(str(error))
    return problems, boxes
