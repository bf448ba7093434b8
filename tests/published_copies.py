"""Small copies of published data sets: generated scenes in the folders, names and label files that
their authors give. ``dataset.yaml`` says how many pairs a copy has; all else is the catalogue's.
"""

from pathlib import Path

import numpy as np
import yaml

from fusionlib import images
from fusionlib.datasets.scenes import scene

SIZE = (64, 80)  # height, width; the smallest that every metric is defined on
SPELLINGS = {  # the classes of the scenes, as each data set spells them
    "M3FD": {"person": "People", "car": "Car"},
    "FLIR-aligned": {"person": "person", "bicycle": "bicycle", "car": "car"},
    "LLVIP": {"person": "person"},
}
TRAIN, TEST = 2, 3  # pairs; the notebooks look at the third of those not trained on


def write(folder: Path, name: str, text: str) -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def voc(boxes: np.ndarray, labels: list[str], spellings: dict[str, str]) -> str:
    objects = ""
    for (x, y, w, h), label in zip(boxes, labels, strict=True):
        if label in spellings:
            corners = zip(("xmin", "ymin", "xmax", "ymax"), (x, y, x + w, y + h), strict=True)
            box = "".join(f"<{name}>{int(value)}</{name}>" for name, value in corners)
            objects += f"<object><name>{spellings[label]}</name><bndbox>{box}</bndbox></object>"
    size = f"<size><width>{SIZE[1]}</width><height>{SIZE[0]}</height><depth>3</depth></size>"
    return f"<annotation>{size}{objects}</annotation>"


def m3fd(folder: Path, number: int, split: str) -> tuple[str, str, str]:
    return tuple(
        f"M3FD_Detection/{kind}/{number:05d}.{suffix}"
        for kind, suffix in (("Ir", "png"), ("Vis", "png"), ("Annotation", "xml"))
    )


def flir(folder: Path, number: int, split: str) -> tuple[str, str, str]:
    stem = f"FLIR_{number:05d}"
    members = folder / f"align/align_{'train' if split == 'train' else 'validation'}.txt"
    members.parent.mkdir(parents=True, exist_ok=True)
    with members.open("a") as stream:
        stream.write(f"{stem}_PreviewData\n")
    return (
        f"align/JPEGImages/{stem}_PreviewData.jpeg",
        f"align/JPEGImages/{stem}_RGB.jpg",
        f"align/Annotations/{stem}_PreviewData.xml",
    )


def llvip(folder: Path, number: int, split: str) -> tuple[str, str, str]:
    stem = f"{number:06d}"
    return (
        f"LLVIP/infrared/{split}/{stem}.jpg",
        f"LLVIP/visible/{split}/{stem}.jpg",
        f"LLVIP/Annotations/{stem}.xml",
    )


LAYOUTS = {"M3FD": m3fd, "FLIR-aligned": flir, "LLVIP": llvip}


def flir_on_github(folder: Path, infrared_twice: bool = True) -> Path:
    """Write FLIR-aligned as a copy on GitHub holds it, whole in names and counts: 5,142 pairs that
    are one tiny pair, linked, and the list of 4,129 names, with no list of the others.

    ``infrared_twice``: the infrared images lie among the visible ones, too.
    """
    made = scene(0, SIZE)
    folders = {"IR": "PreviewData.jpeg", "JPEGImages": "RGB.jpg"}
    for (below, ending), image in zip(folders.items(), (made.infrared, made.visible), strict=True):
        images.write(folder / below / f"FLIR_00001_{ending}", image)
    stems = [f"FLIR_{number:05d}" for number in range(1, 5143)]
    for below, ending in [*folders.items(), ("JPEGImages", "PreviewData.jpeg")][
        : 2 + infrared_twice
    ]:
        first = folder / ("IR" if "Preview" in ending else below) / f"FLIR_00001_{ending}"
        for stem in stems:
            target = folder / below / f"{stem}_{ending}"
            if target != first:
                target.hardlink_to(first)
    kept = stems[::5][:1013]  # the evaluation pairs lie anywhere between the others
    train = sorted(set(stems) - set(kept), reverse=True)
    write(folder, "align_train.txt", "".join(f"{stem}_PreviewData\n" for stem in train))
    return folder


def copy(folder: Path, dataset: str) -> Path:
    """Write a copy of a published data set, and return its folder."""
    for number in range(TRAIN + TEST):
        split = "train" if number < TRAIN else "test"
        names = LAYOUTS[dataset](folder, number, split)
        made = scene(number, SIZE)
        for name, image in zip(names, (made.infrared, made.visible), strict=False):
            images.write(folder / name, image)
        write(folder, names[2], voc(made.boxes, made.labels, SPELLINGS[dataset]))
    facts = {"pairs": TRAIN + TEST, "size": list(SIZE)}
    if dataset == "FLIR-aligned":
        facts["subsets"] = {"FLIR-1013": {"split": "test", "pairs": TEST}}
    facts["drawn" if dataset == "M3FD" else "splits"] = {"train": TRAIN, "test": TEST}
    write(folder, "dataset.yaml", yaml.safe_dump({dataset: facts}))
    return folder
