"""Built-in street scenes: a visible photograph, an infrared one, and the boxes of persons, bicycles
and cars.

A street is laid out in metres and rendered twice by one pinhole camera from the same maps: what a
surface reflects and where lamps stand give the visible image, what temperature it has gives the
infrared one. So a box means the same in both, and where one image fails (night, glare, smoke;
sun-warmed ground by day) the other shows why fusion helps. Surfaces are textured with the brick,
grass and gravel photographs that ship with scikit-image.

ASSUMPTION: the papers' data sets cannot be shipped; these generated scenes stand in for them at
smoke size, and no number measured on them is compared with a printed one.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage

from .. import images
from .grouping import SCENE
from .infrared_visible import KEPT_BYTES, Pair, Pairs
from .labels import Annotation
from .street import FAR, Street, cloud, layout
from .street_objects import CLIMATES, CONDITIONS

CLASSES = ("person", "bicycle", "car")
# ASSUMPTION: an object is annotated if at least 40 % of it is seen and its box is at least 4 pixels
# wide and high.
VISIBLE_SHARE, SMALLEST = 0.4, 4


@dataclass
class Scene:
    """One pair with its annotation.

    Attributes
    ----------
    infrared : (H, W) uint8
        Warm is bright.
    visible : (H, W, 3) uint8
    boxes : (n, 4) float64
        x, y, width, height in pixels of what is seen of each object, from the nearest to the
        farthest.
    labels : list of str
        "person", "bicycle" or "car", one a box.
    condition : str
    """

    infrared: np.ndarray
    visible: np.ndarray
    boxes: np.ndarray
    labels: list[str]
    condition: str


# radon C: layout, smoke, rendering and boxes of one scene, in the order of its random numbers
def scene(seed: int, size: tuple[int, int] = (96, 128), condition: str | None = None) -> Scene:
    """Render a street scene.

    Parameters
    ----------
    seed : int
        Not negative. Decides everything; two conditions of one seed show the same street.
    size : (int, int)
        Height and width in pixels, at least 32 each.
    condition : "day", "dusk", "night" or "smoke", optional
        By default they take turns with the seed.

    Raises
    ------
    ValueError
        A negative seed, a size below 32, an unknown condition.
    """
    if seed < 0:
        raise ValueError(f"seed: expected 0 or more, got {seed}")
    size = images.check_size(size, least=32)
    condition = CONDITIONS[seed % len(CONDITIONS)] if condition is None else condition
    if condition not in CONDITIONS:
        raise ValueError(f"condition: expected one of {CONDITIONS}, got {condition!r}")
    climate, (height, width) = CLIMATES[condition], size
    street = Street(np.random.default_rng([seed, 0]), climate, height, width)
    objects = layout(np.random.default_rng([seed, 1]), climate, width / 2 / street.focal)
    areas = [street.draw(number, o) for number, o in reversed(list(enumerate(objects)))][::-1]
    rng = np.random.default_rng([seed, 2, CONDITIONS.index(condition)])
    smoke = np.exp(-climate.haze * np.minimum(street.depth, FAR))
    if condition == "smoke":
        column, row = width * rng.uniform(0.25, 0.75), street.row + 0.1 * height
        rows, columns = np.mgrid[:height, :width]
        plume = np.exp(
            -(((columns - column) / (0.32 * width)) ** 2) - ((rows - row) / (0.3 * height)) ** 2
        )
        smoke = smoke * np.exp(
            -6 * plume * cloud(rng, size, 3) * np.clip((street.depth - 4) / 6, 0, 1)
        )
    lamps = [o for o in objects if o.label is None and o.half < 2]
    boxes, labels = [], []
    visible_pixels = np.bincount(street.owner.ravel() + 1, minlength=len(objects) + 1)[1:]
    for number, extent in enumerate(ndimage.find_objects(street.owner + 1, len(objects))):
        label = objects[number].label
        if (
            label is None
            or extent is None
            or visible_pixels[number] < VISIBLE_SHARE * areas[number]
        ):
            continue
        (y, x), (h, w) = (e.start for e in extent), (e.stop - e.start for e in extent)
        if min(w, h) >= SMALLEST:
            boxes.append((x, y, w, h))
            labels.append(label)
    return Scene(
        street.infrared(rng, smoke),
        street.visible(rng, lamps, smoke),
        np.array(boxes, np.float64).reshape(-1, 4),
        labels,
        condition,
    )


class Scenes(Pairs):
    """Generated scenes as pairs ``scene-SEED``, rendered when asked for.

    Parameters
    ----------
    seeds : iterable of int
        One scene each.
    size : (int, int)
        Height and width in pixels.
    classes : sequence of str, optional
        Keep boxes of these classes alone; all by default.
    """

    grouping = SCENE

    def __init__(
        self, seeds: Iterable[int], size: tuple[int, int], classes: Sequence[str] | None = None
    ):
        self.size = None  # they are drawn at theirs
        self.folder, self.drawn_size, self.classes = Path("generated scenes"), size, classes
        self.seeds = {f"scene-{seed:02d}": seed for seed in seeds}
        self.names, self.record = list(self.seeds), {}
        self._kept, self._room = {}, KEPT_BYTES

    def _read(self, name: str) -> Pair:
        made = scene(self.seeds[name], self.drawn_size)
        annotation = Annotation(made.boxes.tolist(), made.labels).only(self.classes)
        boxes = np.array(annotation.boxes, np.float64).reshape(-1, 4)
        return Pair(name, made.infrared, made.visible, boxes, annotation.labels)


def write_scenes(
    folder: str | os.PathLike,
    seeds: Iterable[int],
    size: tuple[int, int] = (96, 128),
    evaluation: float = 0.25,
) -> Path:
    """Write scenes as a data set: ``{ir,vi}/NAME.png``, COCO ``annotations.json`` and
    ``splits.json``.

    Parameters
    ----------
    folder : path
        Made where missing.
    seeds : iterable of int
        One scene each.
    size : (int, int)
        Height and width.
    evaluation : float
        Share of the scenes, the last ones, that form the split "val"; the others are "train".

    Returns
    -------
    Path
        The folder.
    """
    folder, seeds = Path(folder), list(seeds)
    first = round(len(seeds) * (1 - evaluation))
    coco: dict[str, list] = {
        "images": [],
        "annotations": [],
        "categories": [{"id": i, "name": name} for i, name in enumerate(CLASSES, 1)],
    }
    for number, seed in enumerate(seeds):
        made = scene(seed, size)
        name = f"{seed:05d}_{made.condition}.png"
        images.write(folder / "ir" / name, made.infrared)
        images.write(folder / "vi" / name, made.visible)
        coco["images"].append(
            {
                "id": number + 1,
                "file_name": name,
                "height": size[0],
                "width": size[1],
                "split": "val" if number >= first else "train",
                "time": made.condition,
            }
        )
        for box, label in zip(made.boxes.tolist(), made.labels, strict=True):
            coco["annotations"].append(
                {
                    "id": len(coco["annotations"]) + 1,
                    "image_id": number + 1,
                    "bbox": box,
                    "category_id": CLASSES.index(label) + 1,
                    "area": box[2] * box[3],
                    "iscrowd": 0,
                }
            )
    splits = {
        split: [
            Path(entry["file_name"]).stem for entry in coco["images"] if entry["split"] == split
        ]
        for split in ("train", "val")
    }
    images.write_text(folder / "splits.json", json.dumps(splits, indent=1) + "\n")
    images.write_text(folder / "annotations.json", json.dumps(coco, indent=1) + "\n")
    return folder
