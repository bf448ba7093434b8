"""Boxes as published: Pascal VOC xml, COCO json and YOLO txt, read as x, y, width, height in pixels
and class names.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

# Class names of this project, and spellings met in published sets, compared in lower case.
CLASSES = {
    name: name for name in ("person", "bicycle", "car", "motorcycle", "bus", "truck", "lamp", "dog")
} | {"people": "person", "pedestrian": "person", "bike": "bicycle", "motorbike": "motorcycle"}
# pixels by which a box may leave its image, as rounding in published files does; it is cut off
SLACK = 1.0


@dataclass(frozen=True)
class Annotation:
    """What a file says about one image.

    Attributes
    ----------
    boxes : list of (x, y, width, height)
        In pixels, as written; see :meth:`on`.
    labels : list of str
        A class for each box, in this project's spelling.
    size : (int, int) or None
        Height and width that the file states, if it does.
    split : str
        The split that the file states, else "".
    """

    boxes: list[Sequence[float]] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    size: tuple[int, int] | None = None
    split: str = ""

    def only(self, classes: Iterable[str] | None) -> Annotation:
        """Return the annotation with boxes of these classes alone; None keeps all."""
        if classes is None:
            return self
        wanted = set(classes)
        kept = [i for i, label in enumerate(self.labels) if label in wanted]
        return Annotation(
            [self.boxes[i] for i in kept], [self.labels[i] for i in kept], self.size, self.split
        )

    def read(self, shape: tuple[int, int]) -> Annotation:
        """Return itself: what is read already needs no image's height and width."""
        return self

    def on(self, shape: tuple[int, int], where: str | os.PathLike) -> np.ndarray:
        """Return the boxes on an image of this height and width, cut at its border.

        Parameters
        ----------
        where : path
            The image; errors name it.

        Returns
        -------
        (n, 4) float64

        Raises
        ------
        ValueError
            The file states another size, or a box is empty, not finite or more than ``SLACK``
            pixels outside.
        """
        if self.size is not None and tuple(self.size) != tuple(shape):
            raise ValueError(
                f"{where}: expected {self.size[0]}x{self.size[1]} (height x width), the size its"
                f" boxes were drawn on, got {shape[0]}x{shape[1]}"
            )
        limits, boxes = np.array([shape[1], shape[0]] * 2), []
        for box in self.boxes:
            corners = np.array([box[0], box[1], box[0] + box[2], box[1] + box[3]], np.float64)
            cut = np.clip(corners, 0, limits)
            if not (np.abs(corners - cut) <= SLACK).all() or not (cut[2:] > cut[:2]).all():
                raise ValueError(
                    f"{where}: expected boxes x, y, width, height inside {shape[0]}x{shape[1]}"
                    f" (height x width), got {list(box)}"
                )
            boxes.append((*cut[:2], *(cut[2:] - cut[:2])))
        return np.array(boxes, np.float64).reshape(-1, 4)


@dataclass(frozen=True)
class LabelFile:
    """The annotation of one image in a file of its own, Pascal VOC (.xml) or YOLO (.txt), read when
    asked for.

    Attributes
    ----------
    path : path
    known : mapping of str to str or None
        Spelling in lower case to class; None leaves it out.
    numbered : sequence of str or None
        The class of each YOLO number from 0.
    """

    path: Path
    known: Mapping[str, str | None]
    numbered: Sequence[str | None] = ()

    def read(self, shape: tuple[int, int]) -> Annotation:
        """Return the annotation for an image of this height and width."""
        if self.path.suffix.lower() == ".xml":
            return read_voc(self.path, self.known)
        return read_yolo(self.path, self.numbered, shape)


def spell(
    label: str, where: str | os.PathLike, known: Mapping[str, str | None] | None = None
) -> str | None:
    """Return a class in this project's spelling, None if it is to be left out.

    Parameters
    ----------
    known : mapping, optional
        Spelling in lower case to class or None; :data:`CLASSES` by default.

    Raises
    ------
    ValueError
        Not a known spelling: a class that is misspelt must not vanish.
    """
    known = CLASSES if known is None else known
    if label.lower() not in known:
        raise ValueError(
            f"{where}: expected classes out of {', '.join(sorted(known))}, got {label!r}"
        )
    return known[label.lower()]


# radon C: one sentence for each way in which a file can be damaged
def read_voc(path: str | os.PathLike, known: Mapping[str, str | None] | None = None) -> Annotation:
    """Read a Pascal VOC file.

    ASSUMPTION: xmin, ymin, xmax, ymax are edges, so the width is xmax - xmin, as tools for these
    sets write them; VOC's own convention of 1-based inclusive pixels would make boxes a pixel
    larger.

    Raises
    ------
    ValueError
        Not XML, not VOC, a number that is none, an unknown class; one sentence that names the file.
    """
    path = Path(path)
    try:
        root = ElementTree.parse(path).getroot()
    except (ElementTree.ParseError, OSError, ValueError, LookupError) as error:
        state = (
            "is empty" if path.exists() and not path.stat().st_size else f"cannot be read ({error})"
        )
        raise ValueError(f"{path}: expected a Pascal VOC XML file, it {state}") from None
    if root.tag != "annotation":
        raise ValueError(
            f"{path}: expected a Pascal VOC XML file, its outermost element is {root.tag!r:.40}"
        )
    boxes: list[Sequence[float]] = []
    labels: list[str] = []
    for number, entry in enumerate(root.iter("object")):
        label = (entry.findtext("name") or "").strip()
        try:
            left, top, right, bottom = (
                float(entry.findtext(f"bndbox/{edge}", "nothing"))
                for edge in ("xmin", "ymin", "xmax", "ymax")
            )
        except ValueError as error:
            raise ValueError(
                f"{path}: expected object {number} to have four numbers xmin, ymin, xmax, ymax, got"
                f" one that is none ({error})"
            ) from None
        if (name := spell(label, path, known)) is not None:
            boxes.append((left, top, right - left, bottom - top))
            labels.append(name)
    height, width = (root.findtext(f"size/{side}", "") for side in ("height", "width"))
    stated = (int(height), int(width)) if height.isdigit() and width.isdigit() else (0, 0)
    # some converters write 0 x 0
    return Annotation(boxes, labels, stated if min(stated) > 0 else None)


# radon C: every number of a line is checked where it is read
def read_yolo(
    path: str | os.PathLike, classes: Sequence[str | None], shape: tuple[int, int]
) -> Annotation:
    """Read a YOLO file: a line an object, class number, centre x, centre y, width, height as shares
    of the image.

    Parameters
    ----------
    classes : sequence of str or None
        The class of each number from 0; None leaves boxes out.
    shape : (int, int)
        Height and width of the image in pixels; the file does not say them.

    Raises
    ------
    ValueError
        Not text, a line without five numbers, a class number that is not in the list, a share
        outside [0, 1].
    """
    path = Path(path)
    boxes: list[Sequence[float]] = []
    labels: list[str] = []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{path}: expected a YOLO text file, it cannot be read ({error})"
        ) from None
    for number, line in enumerate(lines, 1):
        if not (words := line.split()):
            continue
        try:
            which, x, y, w, h = (float(word) for word in words)
        except ValueError:
            raise ValueError(
                f"{path}: expected line {number} to have five numbers, class, centre x and y,"
                f" width, height, got {line!r:.60}"
            ) from None
        if not (which.is_integer() and 0 <= which < len(classes)):
            raise ValueError(
                f"{path}: expected in line {number} a class from 0 to {len(classes) - 1}, got"
                f" {words[0]}"
            )
        if not all(0 <= value <= 1 for value in (x, y, w, h)):
            raise ValueError(
                f"{path}: expected in line {number} shares of the image from 0 to 1, got"
                f" {line!r:.60}"
            )
        if (name := classes[int(which)]) is not None:
            boxes.append(
                ((x - w / 2) * shape[1], (y - h / 2) * shape[0], w * shape[1], h * shape[0])
            )
            labels.append(name)
    return Annotation(boxes, labels)


# radon C: one sentence for each way in which a file can be damaged
def read_coco(
    path: str | os.PathLike, known: Mapping[str, str | None] | None = None
) -> dict[str, Annotation]:
    """Read a COCO file as ``{stem of the image's name: annotation}``.

    Raises
    ------
    ValueError
        Not JSON, not COCO, an object of an image that is not listed, an unknown class.
    """
    path, coco = Path(path), read_json(path)
    try:
        named = {category["id"]: str(category["name"]) for category in coco["categories"]}
        by_id = {}
        for image in coco["images"]:
            size = (
                (image["height"], image["width"])
                if "height" in image and "width" in image
                else None
            )
            by_id[image["id"]] = (
                Path(image["file_name"]).stem,
                Annotation([], [], size, image.get("split", "")),
            )
        for number, entry in enumerate(coco["annotations"]):
            box = entry["bbox"]
            if (
                entry["image_id"] not in by_id
                or len(box) != 4
                or not all(isinstance(v, int | float) for v in box)
            ):
                raise ValueError(
                    f"{path}: expected annotation {number} to have four numbers and a listed image,"
                    f" got bbox {box!r:.60} of image {entry['image_id']!r}"
                )
            label = named.get(entry["category_id"], str(entry["category_id"]))
            if (name := spell(label, path, known)) is not None:
                _, annotation = by_id[entry["image_id"]]
                annotation.boxes.append(box)
                annotation.labels.append(name)
    except (KeyError, TypeError) as error:
        raise ValueError(
            f"{path}: expected COCO lists images, annotations and categories, {error} is missing or"
            " of a wrong kind"
        ) from None
    return dict(by_id.values())


def read_json(path: str | os.PathLike) -> dict:
    """Read a JSON object; ValueError with one sentence for anything else."""
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise ValueError(f"{path}: expected a JSON file, it cannot be read ({error})") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path}: expected a JSON object, got {type(content).__name__}")
    return content
