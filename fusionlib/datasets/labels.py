"""Boxes as published: Pascal VOC xml, COCO json and YOLO txt, read as x, y, width, height in pixels
and class names.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from fusionlib.text_files import read_json, read_text

# Class names of this project, and spellings met in published sets, compared in lower case.
CLASSES = {
    name: name for name in ("person", "bicycle", "car", "motorcycle", "bus", "truck", "lamp", "dog")
} | {"people": "person", "pedestrian": "person", "bike": "bicycle", "motorbike": "motorcycle"}
# pixels by which a box may leave its image, as rounding in published files does; it is cut off
SLACK = 1.0
# What a box is: an object; one that is neither to be found nor wrong to find; a region of many.
OBJECT, IGNORED, CROWD = "object", "ignored", "crowd"
LARGEST = 1e9  # of numbers in pixels that a file may state


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
    kinds : list of str
        :data:`OBJECT`, :data:`IGNORED` or :data:`CROWD` for each box; empty where all are objects.
    """

    boxes: list[Sequence[float]] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    size: tuple[int, int] | None = None
    split: str = ""
    kinds: list[str] = field(default_factory=list)

    def only(self, classes: Iterable[str] | None) -> Annotation:
        """Return the annotation with boxes of these classes alone; None keeps all."""
        if classes is None:
            return self
        wanted = set(classes)
        kept = [i for i, label in enumerate(self.labels) if label in wanted]
        boxes, labels = [self.boxes[i] for i in kept], [self.labels[i] for i in kept]
        kinds = [self.kinds[i] for i in kept] if self.kinds else []
        return replace(self, boxes=boxes, labels=labels, kinds=kinds)

    def contents(self) -> list[tuple]:
        """Return box, label and kind of all that is annotated, in an order of their own."""
        kinds = self.kinds or [OBJECT] * len(self.labels)
        return sorted(zip(map(tuple, self.boxes), self.labels, kinds, strict=True))

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
        boxes = np.array(self.boxes, np.float64).reshape(-1, 4)
        with np.errstate(invalid="ignore"):  # infinite ones are refused below
            corners = np.c_[boxes[:, :2], boxes[:, :2] + boxes[:, 2:]]
            cut = np.clip(corners, 0, [shape[1], shape[0]] * 2)
            near = (np.abs(corners - cut) <= SLACK + 1e-6).all(axis=1)
        inside = near & (cut[:, 2:] > cut[:, :2]).all(axis=1)
        if not inside.all():
            raise ValueError(
                f"{where}: expected boxes x, y, width, height inside {shape[0]}x{shape[1]}"
                f" (height x width), got {list(self.boxes[int(inside.argmin())])}"
            )
        return np.c_[cut[:, :2], cut[:, 2:] - cut[:, :2]]


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
    difficult : str
        What VOC's difficult objects are, as for :func:`read_voc`.
    """

    path: Path
    known: Mapping[str, str | None]
    numbered: Sequence[str | None] = ()
    difficult: str = IGNORED

    def read(self, shape: tuple[int, int]) -> Annotation:
        """Return the annotation for an image of this height and width."""
        if self.path.suffix.lower() == ".xml":
            return read_voc(self.path, self.known, self.difficult)
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


def read_voc(
    path: str | os.PathLike, known: Mapping[str, str | None] | None = None, difficult: str = IGNORED
) -> Annotation:
    """Read a Pascal VOC file.

    ASSUMPTION: xmin, ymin, xmax, ymax are edges, so the width is xmax - xmin, as tools for these
    sets write them; VOC's own convention of 1-based inclusive pixels would make boxes a pixel
    larger.

    ASSUMPTION: an object marked as difficult is ignored, as VOC's protocol does in evaluation; the
    papers do not say what they do with them, in evaluation or in training.

    Parameters
    ----------
    path : path
    known : mapping, optional
        As for :func:`spell`.
    difficult : "ignored" or "object"
        What an object that is marked as difficult is.

    Raises
    ------
    ValueError
        Not XML, not VOC, a number that is none, an unknown class; one sentence that names the file.
    """
    path = Path(path)
    if difficult not in (IGNORED, OBJECT):
        raise ValueError(f"difficult: expected {IGNORED} or {OBJECT}, got {difficult!r}")
    root = _read_xml(path)
    height, width = (root.findtext(f"size/{side}") for side in ("height", "width"))
    annotation = Annotation(size=_size(height, width, path))
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
                f" one that is none ({error!s:.80})"
            ) from None
        if (name := spell(label, path, known)) is not None:
            annotation.boxes.append((left, top, right - left, bottom - top))
            annotation.labels.append(name)
            annotation.kinds.append(difficult if _is_set(entry.findtext("difficult")) else OBJECT)
    return annotation


def _read_xml(path: Path) -> ElementTree.Element:
    """Return the outermost element of a Pascal VOC file; ValueError where it is none."""
    try:
        root = _parse_xml(path.read_bytes())
    except (ElementTree.ParseError, OSError, ValueError, LookupError) as error:
        state = (
            "is empty" if path.exists() and not path.stat().st_size else f"cannot be read ({error})"
        )
        raise ValueError(f"{path}: expected a Pascal VOC XML file, it {state}") from None
    if root.tag != "annotation":
        raise ValueError(
            f"{path}: expected a Pascal VOC XML file, its outermost element is {root.tag!r:.40}"
        )
    return root


def _parse_xml(content: bytes) -> ElementTree.Element:
    """Return the outermost element of an XML file; one in an encoding that the parser does not know
    is decoded first, GB2312 and GBK as GB18030, which holds both.
    """
    try:
        return ElementTree.fromstring(content)
    except (ValueError, LookupError):
        stated = re.match(rb"<\?xml[^>]*?encoding=[\"']([\w.:-]+)", content)
        if stated is None:
            raise
        encoding = stated[1].decode().lower()
        larger = {"gb2312": "gb18030", "gbk": "gb18030"}
        return ElementTree.fromstring(content.decode(larger.get(encoding, encoding)))


def _is_set(flag: object) -> bool:
    """Tell whether a flag of a file, a number or text, is on; None is off."""
    return str(flag).strip().lower() in ("1", "1.0", "true")


def _size(height: object, width: object, where: str | os.PathLike) -> tuple[int, int] | None:
    """Return the height and width that a file states as numbers or text, None where it leaves one
    of them open: no value, 0 or less, as some converters write.

    Raises
    ------
    ValueError
        Not whole numbers, or larger than any image.
    """
    try:
        sides = [float(side or 0) for side in (height, width)]  # type: ignore[arg-type]
        if not all(side.is_integer() and abs(side) <= LARGEST for side in sides):
            raise ValueError
    except (TypeError, ValueError, OverflowError):
        raise ValueError(
            f"{where}: expected height and width in whole pixels, got {height!r:.20} and"
            f" {width!r:.20}"
        ) from None
    return (int(sides[0]), int(sides[1])) if min(sides) > 0 else None


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
        outside [0, 1] by more than ``SLACK`` pixels a side.
    """
    path = Path(path)
    boxes: list[Sequence[float]] = []
    labels: list[str] = []
    try:
        lines = read_text(path).splitlines()
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
        # a box may leave the image on either side, so be 2 SLACK longer
        spare = [2 * SLACK / max(side, 1) for side in (shape[1], shape[0]) * 2]
        if not all(-room <= v <= 1 + room for v, room in zip((x, y, w, h), spare, strict=True)):
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
    """Read a COCO file as ``{file name of the image, as written: annotation}``.

    Crowd regions and boxes with the flag ``ignore`` are kept as such. Which image of a folder a
    name means is said by :func:`.matching.match`.

    Raises
    ------
    ValueError
        Not JSON, not COCO, an id or a name that two have, an object of an image that is not listed,
        an unknown class.
    """
    path, coco = Path(path), read_json(path)
    try:
        for part in ("images", "annotations", "categories"):
            if not isinstance(coco[part], list):  # nothing of another kind would mean no objects
                raise TypeError(repr(part))
        categories = _by_id(path, coco["categories"], "category", "name")
        listed = _by_id(path, coco["images"], "image", "file_name")
        annotations = {number: _of_image(path, entry) for number, entry in listed.items()}
        with_id = [row for row in coco["annotations"] if row.get("id") is not None]
        _by_id(path, with_id, "annotation", "bbox")
        for number, entry in enumerate(coco["annotations"]):
            box = entry["bbox"]
            if entry["image_id"] not in annotations or not _is_box(box):
                raise ValueError(
                    f"{path}: expected annotation {number} to have four numbers and a listed image,"
                    f" got bbox {box!r:.60} of image {entry['image_id']!r:.60}"
                )
            category = categories.get(entry["category_id"], {"name": entry["category_id"]})
            if (name := spell(str(category["name"]), path, known)) is not None:
                annotation = annotations[entry["image_id"]]
                annotation.boxes.append(box)
                annotation.labels.append(name)
                annotation.kinds.append(_kind(entry))
        names = {number: str(entry["file_name"]) for number, entry in listed.items()}
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path}: expected COCO lists images, annotations and categories, {error} is missing or"
            " of a wrong kind"
        ) from None
    for name, count in Counter(names.values()).items():
        if count > 1:
            raise ValueError(f"{path}: expected one image a file name, {count} have {name!r}")
    return {names[number]: annotation for number, annotation in annotations.items()}


def _by_id(path: Path, rows: list[dict], what: str, fact: str) -> dict[object, dict]:
    """Return rows of a COCO file by their id.

    Parameters
    ----------
    path : path
        The file.
    rows : list of dict
    what, fact : str
        What a row is, and the key of what tells it from others, for errors.

    Raises
    ------
    ValueError
        Two rows with one id.
    """
    by_id: dict[object, dict] = {}
    for row in rows:
        if (other := by_id.setdefault(row["id"], row)) is not row:
            raise ValueError(
                f"{path}: expected one {what} an id, two have the id {row['id']!r}:"
                f" {other[fact]!s:.60} and {row[fact]!s:.60}"
            )
    return by_id


def _of_image(path: Path, entry: Mapping) -> Annotation:
    """Return the annotation, still without boxes, of an image in a COCO file."""
    split = entry.get("split") or ""
    if not isinstance(entry["file_name"], str) or not isinstance(split, str):
        raise ValueError(
            f"{path}: expected file names and splits as text, got {entry['file_name']!r:.60} and"
            f" {split!r:.60}"
        )
    size = _size(entry.get("height"), entry.get("width"), f"{path}: {entry['file_name']}")
    return Annotation(size=size, split=split)


def _is_box(box: object) -> bool:
    """Tell whether a value of a COCO file is four numbers; not a number is left to the image."""
    return (
        isinstance(box, list)
        and len(box) == 4
        and all(isinstance(v, int | float) and not abs(v) > LARGEST for v in box)
    )


def _kind(entry: Mapping) -> str:
    if _is_set(entry.get("iscrowd")):
        return CROWD
    return IGNORED if _is_set(entry.get("ignore")) else OBJECT
