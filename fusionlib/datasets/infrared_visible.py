"""Infrared-visible pairs, with boxes that mean the same in both images: :class:`Pairs` of known
files, and :class:`InfraredVisible`, those of a folder ``{ir,vi}/NAME``.

:func:`fusionlib.datasets.open_pairs` is the way to them, whatever the layout.
"""

from __future__ import annotations

import copy
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple, overload

import numpy as np
from PIL import Image

from .. import images
from ..text_files import read_json
from .grouping import Rule
from .labels import CLASSES, OBJECT, Annotation, LabelFile, read_coco
from .matching import match, stem

# Spellings met in published sets, compared in lower case.
INFRARED = ("ir", "infrared", "inf", "thermal", "cropinfrared")
VISIBLE = ("vi", "vis", "visible", "rgb", "crop_lr_visible")
KEPT_BYTES = 512 * 2**20  # of decoded images that a sequence of pairs keeps for the next pass


class Ignored(NamedTuple):
    """Boxes (n, 4) that are neither to be found nor wrong to find, a label and a kind each:
    "ignored", or "crowd" for a region of many objects.
    """

    boxes: np.ndarray = np.empty((0, 4))
    labels: Sequence[str] = ()
    kinds: Sequence[str] = ()


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
        x, y, width, height in pixels of these images; None where nobody has looked for objects,
        empty where there are none.
    labels : list of str
        A class for each box, in this project's spelling.
    ignored : Ignored
        What else is annotated: no target of a training, and ignored where detections are scored.
    group : str
        The camera, drive or stretch of video that it is of, and others with it; "" where that is
        not known.
    """

    name: str
    infrared: np.ndarray
    visible: np.ndarray
    boxes: np.ndarray | None = None
    labels: list[str] = field(default_factory=list)
    ignored: Ignored = Ignored()
    group: str = ""

    def resized(self, size: tuple[int, int]) -> Pair:
        """Return the pair at ``size`` (height, width), bilinear, the boxes scaled with it."""
        new_height, new_width = images.check_size(size)
        resample = Image.Resampling.BILINEAR
        height, width = self.infrared.shape
        infrared, visible = (
            np.array(Image.fromarray(image).resize((new_width, new_height), resample))
            for image in (self.infrared, self.visible)
        )
        scale = np.array([new_width / width, new_height / height] * 2)
        # the official MoE-Fusion code resizes the images and forgets the boxes
        boxes = None if self.boxes is None else self.boxes * scale
        ignored = self.ignored._replace(boxes=self.ignored.boxes * scale)
        return Pair(self.name, infrared, visible, boxes, list(self.labels), ignored, self.group)


class Pairs(Sequence[Pair]):
    """Infrared-visible pairs whose files are known, in the order of their names; indexed by number
    or name (a slice gives a list), read when asked for.

    What was read is kept, up to :data:`KEPT_BYTES`, so that a second pass decodes nothing. The
    first pairs stay, not the latest: passes go in one order, and would find only what is gone.

    Parameters
    ----------
    folder : path
        Where they lie, for errors.
    infrared, visible : mapping of str to path
        The files of each name.
    annotations : mapping of str to Annotation or LabelFile, optional
        Names that are not in it are those where nobody has looked for objects; a warning says how
        many of it are no names of images.
    splits : mapping of str to names, optional
    split : str, optional
        A key of ``splits``.
    names : sequence of str, optional
        These pairs only, in this order; with or without suffix.
    classes : sequence of str, optional
        Keep boxes of these classes alone; all by default.
    size : (int, int), optional
        Resize every pair, boxes included, to this height and width.

    Attributes
    ----------
    names : list of str
    record : dict
        Where the pairs come from, for a run's record: layout, split, seed, as far as there is more
        to say than the names.
    grouping : Rule or None
        Which of them belong together, see :mod:`.grouping`; None where that is not known.

    Raises
    ------
    ValueError
        No pair at all, a name without its partner, an unknown split, name or class, annotations
        of which none is of an image; on reading a
        pair, images of two sizes or a box outside its image. One sentence each.
    """

    grouping: Rule | None = None

    def __init__(
        self,
        folder: str | os.PathLike,
        infrared: Mapping[str, Path],
        visible: Mapping[str, Path],
        annotations: Mapping[str, Annotation | LabelFile] | None = None,
        splits: Mapping[str, Sequence[str]] | None = None,
        split: str | None = None,
        names: Sequence[str] | None = None,
        classes: Sequence[str] | None = None,
        size: tuple[int, int] | None = None,
    ):
        self.folder, self.size = Path(folder), size
        self.record: dict[str, object] = {}
        for label in classes or ():
            if label not in CLASSES.values():
                known = ", ".join(sorted(set(CLASSES.values())))
                raise ValueError(f"classes: expected some of {known}, got {label!r}")
        self.infrared, self.visible = infrared, visible
        self.annotations, self.classes = annotations or {}, classes
        self.names = self._select(splits or {}, split, names)
        if not self.names:
            part = "" if split is None else f" in split {split!r}"
            raise ValueError(f"{self.folder}: expected infrared-visible pairs{part}, found none")
        self._check_annotations()
        self._kept: dict[str, Pair] = {}
        self._room = KEPT_BYTES

    def _check_annotations(self) -> None:
        """Say how many annotations are of no image; ValueError where none is of one."""
        count = len(self.annotations)
        spare = sorted(self.annotations.keys() - self.infrared.keys() - self.visible.keys())
        if spare and len(spare) == count:
            raise ValueError(
                f"{self.folder}: expected annotations of its images, got {count} that are of no"
                f" image, such as {spare[0]!r}"
            )
        if spare:
            warnings.warn(
                f"{self.folder}: {len(spare)} of {count} annotations are of no image, such as"
                f" {spare[0]!r}",
                stacklevel=3,
            )

    def only(self, names: Sequence[str]) -> Pairs:
        """Return these pairs alone, some of :attr:`names`, in this order."""
        chosen = copy.copy(self)
        chosen.names, chosen._kept = list(names), {}
        return chosen

    @property
    def groups(self) -> dict[str, str]:
        """The group of each name, "" where it is not known."""
        rule = self.grouping
        return {name: rule.group(name) if rule else "" for name in self.names}

    def __getstate__(self) -> dict:
        # what a worker process is sent: it reads the files itself
        return self.__dict__ | {"_kept": {}, "_room": KEPT_BYTES}

    # radon C: one sentence for each way in which a split or a name can be wrong
    def _select(self, splits: Mapping, split: str | None, names: Sequence[str] | None) -> list[str]:
        known = sorted(self.infrared.keys() | self.visible.keys())
        chosen = known
        if split is not None:
            if not isinstance(splits.get(split), list):
                lists = ", ".join(sorted(name for name in splits if isinstance(splits[name], list)))
                raise ValueError(f"split: {self.folder} has {lists or 'none'}, got {split!r}")
            members = {self._stem(name) for name in splits[split]}
            chosen = [name for name in known if name in members]
            if len(chosen) < len(members):
                raise ValueError(
                    f"split: {split!r} of {self.folder} names {sorted(members - set(chosen))[0]!r},"
                    " found no such image"
                )
        if names is not None:
            allowed = set(chosen)
            chosen = [self._stem(name) for name in names]
            for name in chosen:
                if name not in allowed:
                    inside = "" if split is None else f" in split {split!r}"
                    raise ValueError(
                        f"names: expected images of {self.folder}{inside}, got {name!r}"
                    )
        for name in chosen:
            if name not in self.infrared or name not in self.visible:
                kind, files = (
                    ("infrared", self.visible)
                    if name in self.visible
                    else ("visible", self.infrared)
                )
                raise ValueError(
                    f"{files[name]}: expected a partner among the {kind} images, found none"
                )
        return chosen

    def _stem(self, name: str) -> str:
        """Names may come with or without suffix, and a name may itself hold a dot."""
        return name if name in self.infrared or name in self.visible else stem(name)

    def __len__(self) -> int:
        return len(self.names)

    @overload
    def __getitem__(self, which: int | str) -> Pair: ...
    @overload
    def __getitem__(self, which: slice) -> list[Pair]: ...
    def __getitem__(self, which: int | str | slice) -> Pair | list[Pair]:
        if isinstance(which, slice):
            return [self[name] for name in self.names[which]]
        name = which if isinstance(which, str) else self.names[which]
        if name in self._kept:
            return self._kept[name]
        if name not in self.names:
            raise KeyError(f"{self.folder}: expected one of its {len(self)} names, got {name!r}")
        pair = self._read(name)
        if self.grouping:
            pair = replace(pair, group=self.grouping.group(name))
        size = pair.infrared.nbytes + pair.visible.nbytes
        if size <= self._room:
            self._kept[name] = pair
            self._room -= size
        return pair

    def _read(self, name: str) -> Pair:
        paths = self.infrared[name], self.visible[name]
        infrared, visible = images.check_pair(
            images.read(paths[0]), images.read(paths[1]), (str(paths[0]), str(paths[1]))
        )
        # ASSUMPTION: an infrared file whose three channels differ (JPEG, false colour) is read as
        # its Y.
        infrared = images.luma(infrared)
        pair = Pair(name, infrared, visible)
        if name in self.annotations:
            annotation = self.annotations[name].read(infrared.shape).only(self.classes)
            boxes = annotation.on(infrared.shape, paths[0])
            pair = Pair(name, infrared, visible, *_by_kind(annotation, boxes))
        return pair if self.size is None else pair.resized(self.size)


def _by_kind(annotation: Annotation, boxes: np.ndarray) -> tuple[np.ndarray, list[str], Ignored]:
    """Return boxes and labels of the objects, and the rest."""
    labels, kinds = annotation.labels, annotation.kinds or [OBJECT] * len(boxes)
    objects = [i for i, kind in enumerate(kinds) if kind == OBJECT]
    rest = [i for i, kind in enumerate(kinds) if kind != OBJECT]
    ignored = Ignored(boxes[rest], [labels[i] for i in rest], [kinds[i] for i in rest])
    return boxes[objects], [labels[i] for i in objects], ignored


class InfraredVisible(Pairs):
    """The pairs of a folder.

    Parameters
    ----------
    folder : path
        Holds a folder of infrared and one of visible images (``ir``, ``Ir``, ``infrared``, ...;
        ``vi``, ``Vis``, ...) with the same names; suffixes may differ.
    split : str, optional
        A split of ``splits.json`` (lists of names), else of the key "split" of the annotated
        images.
    names, classes, size
        As for :class:`Pairs`.
    annotations : path or None
        COCO file, relative to ``folder``. The default name may be missing, then no image has boxes;
        a file that is named must exist. None leaves boxes aside.

    Raises
    ------
    FileNotFoundError
        No such folder, no folder of either kind, or a named annotation file that is missing.
    ValueError
        As for :class:`Pairs`, or an annotation file that is not COCO.
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
        self.folder, annotated = Path(folder), {}
        if not self.folder.is_dir():
            raise FileNotFoundError(
                f"{self.folder}: expected a folder with ir and vi, found none there"
            )
        infrared = images.list_images(self._modality(INFRARED, "infrared"))
        visible = images.list_images(self._modality(VISIBLE, "visible"))
        if annotations is not None:
            path = self.folder / annotations
            if path.exists():
                annotated = match(path, read_coco(path), infrared, visible)
            elif str(annotations) != "annotations.json":
                raise FileNotFoundError(
                    f"{path}: expected a COCO annotation file, found nothing there"
                )
        super().__init__(
            folder,
            infrared,
            visible,
            annotated,
            self._splits(annotated) if split is not None else None,
            split,
            names,
            classes,
            size,
        )

    def _modality(self, spellings: Sequence[str], kind: str) -> Path:
        folders = [
            p for p in sorted(self.folder.iterdir()) if p.is_dir() and p.name.lower() in spellings
        ]
        if len(folders) != 1:
            error, what = (
                (ValueError, " and ".join(p.name for p in folders))
                if folders
                else (FileNotFoundError, "none")
            )
            raise error(
                f"{self.folder}: expected one folder of {kind} images, {'/'.join(spellings)}, found"
                f" {what}"
            )
        return folders[0]

    def _splits(self, annotated: Mapping[str, Annotation]) -> dict[str, list[str]]:
        path = self.folder / "splits.json"
        splits: dict[str, list[str]] = {}
        if path.exists():
            splits = read_json(path)
            for split, members in splits.items():
                for name in members if isinstance(members, list) else ():
                    if not isinstance(name, str):
                        raise ValueError(
                            f"{path}: expected names of images in {split!r}, got {name!r:.60}"
                        )
            return splits
        for name, annotation in annotated.items():
            if annotation.split:
                splits.setdefault(annotation.split, []).append(name)
        return splits
