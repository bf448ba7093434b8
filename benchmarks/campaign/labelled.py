"""Label files: COCO, Pascal VOC, YOLO and lists of splits, as programs of others write them."""

from __future__ import annotations

import json
import unicodedata
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from fusionlib import images
from fusionlib.datasets import open_pairs
from fusionlib.datasets.infrared_visible import InfraredVisible

from . import damage
from .case import REFUSE, UNKNOWN, Case

CLASSES = ("person", "car", "bus", "bicycle")
SPELLINGS = {"person": "People", "car": "CAR", "bicycle": "bike", "bus": "bus"}
NAMES = ("a", "b1", "v1.0_01", "café", "Night 7", "FLIR_00002")
SIDES = (24, 60)  # smallest and largest height and width of an image
OWN = """Own:
  pairs: {count}
  numbered: [person, car, bus, bicycle]
  layouts:
    - called: x
      infrared: 'ir/{{name}}.*'
      visible: 'vi/{{name}}.*'
      labels: 'boxes/{{name}}{end}'
"""
# what a file may hold in place of a number, a word or a list
ODD: tuple[Any, ...] = (None, True, "", "x", -1, 0, 1e308, 10**400, [], {}, [[]], "0x10", 3.7)


class Scene:
    """A few images of one size and the boxes on them, in whole pixels."""

    def __init__(self, rng: np.random.Generator, folder: Path):
        self.rng, self.folder = rng, folder
        self.size = tuple(int(side) for side in rng.integers(*SIDES, 2))
        count = int(rng.integers(1, 4))
        self.names = [str(name) for name in rng.choice(NAMES, count, replace=False)]
        for name in self.names:
            images.write(folder / "ir" / f"{name}.png", np.zeros(self.size, np.uint8))
            images.write(folder / "vi" / f"{name}.png", np.zeros((*self.size, 3), np.uint8))
        self.boxes = {name: [self.box() for _ in range(rng.integers(4))] for name in self.names}

    def box(self) -> tuple[str, list[int]]:
        """Return a class and x, y, width, height inside the image."""
        height, width = self.size
        left, top = int(self.rng.integers(width)), int(self.rng.integers(height))
        sides = (
            int(self.rng.integers(1, width - left + 1)),
            int(self.rng.integers(1, height - top + 1)),
        )
        return str(self.rng.choice(CLASSES)), [left, top, *sides]

    def truth(self) -> dict[str, object]:
        """Return boxes and labels of each image, sorted."""
        return {name: sorted((label, *map(float, box)) for label, box in self.boxes[name])
                for name in sorted(self.names)}  # fmt: skip

    def spelled(self, name: str) -> str:
        """Return a file name as somebody writes it."""
        forms = [f"{name}.png", f"{name}.jpg", f"vi/{name}.png", f"train\\{name}.png"]
        forms += [f"C:\\data\\vi\\{name}.PNG", f"{name.upper()}.PNG", f"./images/{name}.jpeg"]
        forms += [unicodedata.normalize("NFD", f"{name}.png")]
        return str(self.rng.choice(forms))


def boxes_of(folder: Path, dataset: str = "", split: str | None = None) -> dict[str, object]:
    """Return boxes and labels of each pair of a folder, sorted, as the library reads them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pairs = open_pairs(folder, dataset) if dataset else InfraredVisible(folder, split)
        return {
            pair.name: None
            if pair.boxes is None
            else sorted(
                (label, *map(float, box))
                for label, box in zip(pair.labels, pair.boxes, strict=True)
            )
            for pair in pairs
        }


def encoded(text: str, rng: np.random.Generator, xml: bool = False) -> tuple[str, bytes]:
    """Return a text in an encoding that programs write, and its name."""
    encoding = str(rng.choice(["utf-8", "utf-8", "utf-8-sig", "utf-16"]))
    if xml and rng.random() < 0.5:
        encoding = str(rng.choice(["utf-8", "gb18030", "utf-16"]))
        text = f'<?xml version="1.0" encoding="{encoding}"?>\n{text}'
    return encoding, text.encode(encoding)


# ---- COCO ----------------------------------------------------------------------------------------


def coco(scene: Scene) -> dict[str, Any]:
    """Return the content of a COCO file, as various programs write it."""
    rng = scene.rng
    start = int(rng.integers(3))
    sizes = [{}, {"height": scene.size[0], "width": scene.size[1]}, {"height": 0, "width": 0}]
    sizes += [{"height": str(scene.size[0]), "width": str(scene.size[1])}, {"height": None}]
    size = sizes[rng.integers(len(sizes))]
    spelling = SPELLINGS if rng.random() < 0.3 else {name: name for name in CLASSES}
    rows, listed = [], []
    for number, name in enumerate(scene.names, start):
        listed.append({"id": number, "file_name": scene.spelled(name)} | size)
        for label, box in scene.boxes[name]:
            row = {"id": len(rows), "image_id": number, "bbox": box}
            rows.append(row | {"category_id": 1 + CLASSES.index(label)})
            if rng.random() < 0.2:
                rows[-1] |= {"iscrowd": 0, "area": box[2] * box[3], "segmentation": []}
    categories = [{"id": 1 + i, "name": spelling[name]} for i, name in enumerate(CLASSES)]
    rng.shuffle(rows)
    return {"images": listed, "annotations": rows, "categories": categories}


def add_crowd(content: dict, scene: Scene) -> str:
    """Add regions that are no objects: the truth stays."""
    flag = [{"iscrowd": 1}, {"ignore": 1}, {"iscrowd": "1"}, {"iscrowd": True}]
    box = {"bbox": [0, 0, scene.size[1], scene.size[0]], "category_id": 1}
    image = content["images"][0]["id"]
    content["annotations"].append(
        box | {"id": 10_000, "image_id": image} | flag[scene.rng.integers(len(flag))]
    )
    return "a crowd region"


def add_neighbours(content: dict, scene: Scene) -> str:
    """List images of the file that are not in the folder, with boxes of their own."""
    for number in (9001, 9002):
        content["images"].append({"id": number, "file_name": f"elsewhere_{number}.png"})
        row = {"id": number, "image_id": number, "category_id": 1, "bbox": [0, 0, 5, 5]}
        content["annotations"].append(row)
    return "images that are not there"


def round_outwards(content: dict, scene: Scene) -> str:
    """Let a box that fills an image leave it by half a pixel on each side, as rounding does."""
    name = scene.names[0]
    image = content["images"][0]["id"]
    height, width = scene.size
    content["annotations"] = [r for r in content["annotations"] if r["image_id"] != image]
    box = [-0.5, -0.5, width + 1, height + 1]
    row = {"id": 20_000, "image_id": image, "category_id": 1, "bbox": box}
    content["annotations"].append(row)
    scene.boxes[name] = [("person", [0, 0, width, height])]
    return "half a pixel outside"


HARMLESS = (add_crowd, add_neighbours, round_outwards)


def refuse_same_id(content: dict, scene: Scene) -> str:
    key = str(scene.rng.choice(["images", "categories", "annotations"]))
    if not content[key]:
        key = "categories"
    again = dict(content[key][0])
    again |= {"file_name": "another.png"} if key == "images" else {}
    again |= {"name": "lamp"} if key == "categories" else {}
    content[key].append(again)
    return f"two {key} of one id"


def refuse_same_stem(content: dict, scene: Scene) -> str:
    name = scene.names[0]
    content["images"][0]["file_name"] = f"day/{name}.png"
    content["images"].append({"id": 9001, "file_name": f"night/{name}.png"})
    return "two images of one stem"


def refuse_outside(content: dict, scene: Scene) -> str:
    height, width = scene.size
    image = content["images"][0]["id"]
    boxes = [[width - 2, 0, 10, 10], [0, 0, 0, 5], [0, 0, 5, -5], [-9, 0, 5, 5]]
    boxes += [[0, 0, float("nan"), 5], [0, 0, float("inf"), 5], [0, 0, 5], ["a", 0, 5, 5], None]
    box = boxes[scene.rng.integers(len(boxes))]
    row = {"id": 9001, "image_id": image, "category_id": 1, "bbox": box}
    content["annotations"].append(row)
    return f"a box {box}"


def refuse_unknown(content: dict, scene: Scene) -> str:
    image = content["images"][0]["id"]
    row = {"id": 9001, "image_id": image, "category_id": 1, "bbox": [0, 0, 5, 5]}
    change: dict[str, Any] = [{"image_id": 777}, {"category_id": 77}][scene.rng.integers(2)]
    content["annotations"].append(row | change)
    return f"a row of {change}"


def refuse_size(content: dict, scene: Scene) -> str:
    size = [
        {"height": 5000, "width": 4000},
        {"height": "high", "width": 4},
        {"height": 3.5, "width": 4},
    ]
    for entry in content["images"]:
        entry |= size[scene.rng.integers(len(size))]
    return "another size"


REFUSED = (refuse_same_id, refuse_same_stem, refuse_outside, refuse_unknown, refuse_size)


def put_odd(content: Any, rng: np.random.Generator) -> str:
    """Replace one value somewhere in a JSON content, or leave a key out; return what was done."""
    parents = [content]
    for parent in parents:
        children = parent.values() if isinstance(parent, dict) else parent
        parents += [child for child in children if isinstance(child, (dict, list)) and child]
    parent = parents[rng.integers(len(parents))]
    keys = list(parent) if isinstance(parent, dict) else list(range(len(parent)))
    key = keys[rng.integers(len(keys))]
    if isinstance(parent, dict) and rng.random() < 0.3:
        del parent[key]
        return f"without {key!r}"
    value = ODD[rng.integers(len(ODD))]
    parent[key] = value
    return f"{key!r} is {value!r:.20}"


def coco_case(scene: Scene) -> tuple[str, object, str]:
    """Write a COCO file; return recipe, truth and its name."""
    rng, content = scene.rng, coco(scene)
    path = scene.folder / "annotations.json"
    chance, recipe, truth = rng.random(), "COCO", None
    if chance < 0.35:
        recipe += ", " + HARMLESS[rng.integers(len(HARMLESS))](content, scene)
    elif chance < 0.6:
        recipe += ", " + REFUSED[rng.integers(len(REFUSED))](content, scene)
        truth = REFUSE
    elif chance < 0.8:
        recipe += ", " + put_odd(content, rng)
        truth = UNKNOWN
    encoding, data = encoded(json.dumps(content), rng)
    if chance > 0.92:
        harm = damage.RANDOM[rng.integers(len(damage.RANDOM))]
        data, truth, recipe = harm(data, rng), UNKNOWN, f"{recipe}, {harm.__name__}"
    path.write_bytes(data)
    return f"{recipe}, {encoding}", scene.truth() if truth is None else truth, path.name


# ---- Pascal VOC, YOLO ----------------------------------------------------------------------------


def voc_text(scene: Scene, name: str) -> str:
    """Return the Pascal VOC file of an image."""
    height, width = scene.size
    size = f"<size><width>{width}</width><height>{height}</height><depth>3</depth></size>"
    size = "" if scene.rng.random() < 0.2 else size
    objects = "".join(
        f"<object><name>{label}</name><difficult>0</difficult><bndbox><xmin>{x}</xmin>"
        f"<ymin>{y}</ymin><xmax>{x + w}</xmax><ymax>{y + h}</ymax></bndbox></object>\n"
        for label, (x, y, w, h) in scene.boxes[name]
    )
    return f"<annotation><folder>红外</folder>{size}{objects}</annotation>"


def yolo_text(scene: Scene, name: str) -> str:
    """Return the YOLO file of an image."""
    height, width = scene.size
    return "".join(
        f"{CLASSES.index(label)} {(x + w / 2) / width!r} {(y + h / 2) / height!r} {w / width!r}"
        f" {h / height!r}\n"
        for label, (x, y, w, h) in scene.boxes[name]
    )


WRONG_LINES = ("0 0.5 0.5 0.1", "9 0.5 0.5 0.1 0.1", "0,0.5,0.5,0.1,0.1", "0 nan 0.5 0.1 0.1")
WRONG_LINES += ("-1 0.5 0.5 0.1 0.1", "0 0.5 0.5 2 0.1", "0 0.5 0.5 -0.1 0.1", "a b c d e")
WRONG_LINES += ("0 0.5 0.5 0.1 0.1 0.9", "0.5 0.5 0.5 0.1 0.1", "1e400 0.5 0.5 0.1 0.1")
WRONG_XML = (
    ("<name>", "<name>un"),
    ("<xmin>", "<xmin>x"),
    ("</object>", ""),
    ("<xmax>", "<xmax>99999"),
    ("<bndbox>", "<box>"),
    ("annotation>", "annotations>"),
    ("<ymax>", "<ymax>-"),
    ("<height>", "<height>9"),
)


def text_case(scene: Scene, kind: str) -> tuple[str, object, str]:
    """Write a Pascal VOC or YOLO file for each image; return recipe, truth and a name."""
    rng, end = scene.rng, ".xml" if kind == "VOC" else ".txt"
    facts = OWN.format(count=len(scene.names), end=end)
    images.write_text(scene.folder / "dataset.yaml", facts)
    first = scene.names[0]
    if not scene.boxes[first]:
        scene.boxes[first].append(scene.box())
    chance, recipe, truth = rng.random(), kind, None
    for name in scene.names:
        text = voc_text(scene, name) if kind == "VOC" else yolo_text(scene, name)
        if name == first and 0.5 < chance < 0.8:
            truth = REFUSE
            if kind == "VOC":
                old, new = WRONG_XML[rng.integers(len(WRONG_XML))]
                recipe += f", {old} becomes {new}"
                truth = truth if old in text else None
                text = text.replace(old, new, 1)
            else:
                line = WRONG_LINES[rng.integers(len(WRONG_LINES))]
                recipe, text = f"{recipe}, {line}", text + line
        encoding, data = encoded(text, rng, kind == "VOC")
        if name == first and chance > 0.8:
            harm = damage.RANDOM[rng.integers(len(damage.RANDOM))]
            data, truth, recipe = harm(data, rng), UNKNOWN, f"{recipe}, {harm.__name__}"
        path = scene.folder / "boxes" / (name + end)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
    names = "\n".join(f"{first}{suffix}" for suffix in (end, ".png"))
    return f"{recipe}, {encoding}", scene.truth() if truth is None else truth, names


# ---- splits --------------------------------------------------------------------------------------


def split_case(scene: Scene) -> tuple[str, object, str]:
    """Write splits.json; return recipe, truth and a name."""
    rng = scene.rng
    members = [n if rng.random() < 0.5 else f"{n}.png" for n in scene.names]
    content: dict[str, Any] = {"val": members, "test": [], "seed": 3}
    truth: object = dict.fromkeys(sorted(scene.names))
    chance, recipe = rng.random(), "splits.json"
    if chance < 0.3:
        recipe, truth = f"{recipe}, {put_odd(content, rng)}", UNKNOWN
    elif chance < 0.5:
        content["val"], truth = [*members, "nobody.png"], REFUSE
        recipe += " with a name of no image"
    encoding, data = encoded(json.dumps(content), rng)
    if chance > 0.8:
        harm = damage.RANDOM[rng.integers(len(damage.RANDOM))]
        data, truth, recipe = harm(data, rng), UNKNOWN, f"{recipe}, {harm.__name__}"
    (scene.folder / "splits.json").write_bytes(data)
    return f"{recipe}, {encoding}", truth, f"splits.json\n{scene.folder}"


def case(rng: np.random.Generator, folder: Path) -> Case:
    """Return a folder of pairs with a label file, whose boxes are read."""
    scene = Scene(rng, folder)
    kind = str(rng.choice(["COCO", "COCO", "COCO", "VOC", "YOLO", "splits"]))
    if kind == "COCO":
        recipe, truth, names = coco_case(scene)
    elif kind == "splits":
        recipe, truth, names = split_case(scene)
    else:
        recipe, truth, names = text_case(scene, kind)
    dataset = "Own" if kind in ("VOC", "YOLO") else ""
    split = "val" if kind == "splits" else None
    names_of_images = [f"{name}.png" for name in scene.names] if kind == "COCO" else []
    return Case(
        recipe,
        lambda: boxes_of(folder, dataset, split),
        [*names.splitlines(), *names_of_images],
        truth,
    )
