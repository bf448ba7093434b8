"""Infrared-visible pairs in folders ``{ir,vi}/NAME``, with COCO boxes that mean the same in both images."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from .. import images

# Spellings met in published sets, compared in lower case.
INFRARED = ("ir", "infrared", "inf", "thermal", "cropinfrared")
VISIBLE = ("vi", "vis", "visible", "rgb", "crop_lr_visible")
CLASSES = {name: name for name in ("person", "bicycle", "car", "motorcycle", "bus", "truck", "lamp", "dog")} | {
    "people": "person", "pedestrian": "person", "bike": "bicycle", "motorbike": "motorcycle"}
SLACK = 1.0  # pixels by which a box may leave its image, as rounding in published files does; it is cut off


@dataclass(frozen=True)
class Pair:
    """An infrared and a visible image of one scene and one size.

    Attributes
    ----------
    name : str
        Stem of the file names.
    infrared : (H, W) uint8
    visible : (H, W) or (H, W, 3) uint8
    boxes : (n, 4) float64 or None
        x, y, width, height in pixels of these images; None where nobody has looked for objects, empty where there
        are none.
    labels : list of str
        A class for each box, in this project's spelling.
    """

    name: str
    infrared: np.ndarray
    visible: np.ndarray
    boxes: np.ndarray | None = None
    labels: list[str] = field(default_factory=list)

    def resized(self, size: tuple[int, int]) -> Pair:
        """Return the pair at ``size`` (height, width), bilinear, the boxes scaled with it."""
        if min(size) < 1:
            raise ValueError(f"size: expected a height and a width of at least 1, got {tuple(size)}")
        height, width = self.infrared.shape
        infrared, visible = (np.asarray(Image.fromarray(image).resize((size[1], size[0]), Image.Resampling.BILINEAR))
                             for image in (self.infrared, self.visible))
        boxes = self.boxes
        if boxes is not None:  # the official MoE-Fusion code resizes the images and forgets the boxes
            boxes = boxes * np.array([size[1] / width, size[0] / height] * 2)
        return Pair(self.name, infrared, visible, boxes, list(self.labels))


class InfraredVisible:
    """The pairs of a folder, in the order of their names; indexed by number or name, read when asked for.

    Parameters
    ----------
    folder : path
        Holds a folder of infrared and one of visible images (``ir``, ``Ir``, ``infrared``, ...; ``vi``, ``Vis``, ...)
        with the same names; suffixes may differ.
    split : str, optional
        A split of ``splits.json`` (lists of names), else of the key "split" of the annotated images.
    names : sequence of str, optional
        These pairs only, in this order; with or without suffix.
    annotations : path or None
        COCO file, relative to ``folder``. The default name may be missing, then no image has boxes; a file that is
        named must exist. None leaves boxes aside.
    classes : sequence of str, optional
        Keep boxes of these classes alone; all by default.
    size : (int, int), optional
        Resize every pair, boxes included, to this height and width.

    Raises
    ------
    FileNotFoundError
        No such folder, no folder of either kind, or a named annotation file that is missing.
    ValueError
        A name without its partner, an unknown split, name or class, an annotation file that is not COCO; on reading a
        pair, images of two sizes or a box outside its image. One sentence each.
    """

    def __init__(
        self,
        folder: str | os.PathLike,
        split: str | None = None,
        names: Sequence[str] | None = None,
        annotations: str | os.PathLike | None = "annotations.json",
        classes: Sequence[str] | None = None,
        size: tuple[int, int] | None = None,
    ):
        self.folder, self.size = Path(folder), size
        if not self.folder.is_dir():
            raise FileNotFoundError(f"{self.folder}: expected a folder with ir and vi, found none there")
        for wanted in classes or ():
            if wanted not in CLASSES.values():
                known = ", ".join(sorted(set(CLASSES.values())))
                raise ValueError(f"classes: expected some of {known}, got {wanted!r}")
        self.infrared = images.list_images(self._modality(INFRARED, "infrared"))
        self.visible = images.list_images(self._modality(VISIBLE, "visible"))
        self._entries, self._boxes = {}, {}
        if annotations is not None:
            path = self.folder / annotations
            if path.exists():
                self._annotate(path, None if classes is None else set(classes))
            elif str(annotations) != "annotations.json":
                raise FileNotFoundError(f"{path}: expected a COCO annotation file, found nothing there")
        self.names = self._select(split, names)

    def _modality(self, spellings: Sequence[str], kind: str) -> Path:
        found = [p for p in sorted(self.folder.iterdir()) if p.is_dir() and p.name.lower() in spellings]
        if len(found) != 1:
            error, what = (ValueError, " and ".join(p.name for p in found)) if found else (FileNotFoundError, "none")
            raise error(f"{self.folder}: expected one folder of {kind} images, {'/'.join(spellings)}, found {what}")
        return found[0]

    def _annotate(self, path: Path, classes: set[str] | None) -> None:
        """Read a COCO file into image entries and boxes by stem."""
        coco = _json(path)
        try:
            stems = {image["id"]: Path(image["file_name"]).stem for image in coco["images"]}
            self._entries = {stems[image["id"]]: image for image in coco["images"]}
            spelled = {category["id"]: str(category["name"]) for category in coco["categories"]}
            self._boxes = {stem: [] for stem in self._entries}
            for number, one in enumerate(coco["annotations"]):
                label, box = str(spelled.get(one["category_id"], one["category_id"])), one["bbox"]
                if one["image_id"] not in stems or len(box) != 4 or not all(isinstance(v, int | float) for v in box):
                    raise ValueError(f"{path}: expected annotation {number} to have four numbers and a listed image, "
                                     f"got bbox {box!r:.60} of image {one['image_id']!r}")
                if label.lower() not in CLASSES:
                    raise ValueError(f"{path}: expected classes out of {', '.join(sorted(CLASSES))}, got {label!r}")
                if classes is None or CLASSES[label.lower()] in classes:
                    self._boxes[stems[one["image_id"]]].append((box, CLASSES[label.lower()]))
        except (KeyError, TypeError) as error:
            raise ValueError(f"{path}: expected COCO lists images, annotations and categories, {error} is missing or "
                             "of a wrong kind") from None

    def _select(self, split: str | None, names: Sequence[str] | None) -> list[str]:
        known = sorted(self.infrared.keys() | self.visible.keys())
        chosen = known
        if split is not None:
            path = self.folder / "splits.json"
            splits = _json(path) if path.exists() else {}
            for stem, entry in self._entries.items():
                if not path.exists() and "split" in entry:
                    splits.setdefault(entry["split"], []).append(stem)
            if not isinstance(splits.get(split), list):
                lists = ", ".join(sorted(name for name in splits if isinstance(splits[name], list)))
                raise ValueError(f"split: {self.folder} has {lists or 'none'}, got {split!r}")
            members = {self._stem(name) for name in splits[split]}
            chosen = [name for name in known if name in members]
            if len(chosen) < len(members):
                raise ValueError(f"split: {split!r} of {self.folder} names {sorted(members - set(chosen))[0]!r}, "
                                 "found no such image")
        if names is not None:
            allowed = set(chosen)
            chosen = [self._stem(name) for name in names]
            for name in chosen:
                if name not in allowed:
                    inside = "" if split is None else f" in split {split!r}"
                    raise ValueError(f"names: expected images of {self.folder}{inside}, got {name!r}")
        for name in chosen:
            if name not in self.infrared or name not in self.visible:
                kind, found = ("infrared", self.visible) if name in self.visible else ("visible", self.infrared)
                raise ValueError(f"{found[name]}: expected a partner among the {kind} images, found none")
        return chosen

    def _stem(self, name: str) -> str:
        """Names may come with or without suffix, and a name may itself hold a dot."""
        return name if name in self.infrared or name in self.visible else Path(name).stem

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[Pair]:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, which: int | str) -> Pair:
        name = self.names[which] if not isinstance(which, str) else which
        if name not in self.names:
            raise KeyError(f"{self.folder}: expected one of its {len(self)} names, got {name!r}")
        paths = self.infrared[name], self.visible[name]
        infrared, visible = images.check_pair(*(images.read(p) for p in paths), names=tuple(map(str, paths)))
        # ASSUMPTION: an infrared file whose three channels differ (JPEG, false colour) is read as its Y.
        infrared = images.luma(infrared)
        boxes, labels = self._boxes_of(name, infrared.shape)
        pair = Pair(name, infrared, visible, boxes, labels)
        return pair if self.size is None else pair.resized(self.size)

    def _boxes_of(self, name: str, shape: tuple[int, int]) -> tuple[np.ndarray | None, list[str]]:
        """Return boxes and labels of an image of this height and width, checked and cut at its border."""
        if name not in self._entries:
            return None, []
        stated = self._entries[name].get("height", shape[0]), self._entries[name].get("width", shape[1])
        if stated != shape:
            raise ValueError(f"{self.infrared[name]}: expected {stated[0]}x{stated[1]} (height x width), the size its "
                             f"boxes were drawn on, got {shape[0]}x{shape[1]}")
        limits, boxes = np.array([shape[1], shape[0]] * 2), []
        for box, _ in self._boxes[name]:
            corners = np.array([box[0], box[1], box[0] + box[2], box[1] + box[3]], np.float64)
            cut = np.clip(corners, 0, limits)
            if not (np.abs(corners - cut) <= SLACK).all() or not (cut[2:] > cut[:2]).all():
                raise ValueError(f"{self.infrared[name]}: expected boxes x, y, width, height inside "
                                 f"{shape[0]}x{shape[1]} (height x width), got {list(box)}")
            boxes.append((*cut[:2], *(cut[2:] - cut[:2])))
        return np.array(boxes, np.float64).reshape(-1, 4), [label for _, label in self._boxes[name]]


def _json(path: Path) -> dict:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise ValueError(f"{path}: expected a JSON file, it cannot be read ({error})") from None
    if not isinstance(found, dict):
        raise ValueError(f"{path}: expected a JSON object, got {type(found).__name__}")
    return found


def pairs(
    folder: str | os.PathLike = "", limit: int = 0, split: str = "", size: tuple[int, int] = (192, 256)
) -> list[Pair]:
    """Return the first ``limit`` pairs of a folder (0: all), or of the generated scenes where ``folder`` is empty.

    Parameters
    ----------
    split : str
        As for :class:`InfraredVisible`; "" for all.
    size : (int, int)
        Of the generated scenes, 8 of them where ``limit`` is 0. Real images keep their size.
    """
    if str(folder):
        found = InfraredVisible(folder, split or None)
        return [found[name] for name in found.names[:limit or None]]
    from .scenes import scene

    made = [(f"scene-{seed:02d}", scene(seed, size)) for seed in range(limit or 8)]
    return [Pair(name, one.infrared, one.visible, one.boxes, one.labels) for name, one in made]
