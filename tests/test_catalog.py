"""The catalogue against generated copies of each layout: what opens, what is refused, what a check
names.
"""

import json
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from published_copies import SIZE as TINY
from published_copies import flir_on_github

from fusionlib.datasets import catalog, checking, labels, layouts, open_pairs

SIZE = (24, 32)  # height, width of the generated images


@pytest.fixture
def small(monkeypatch):
    """Shrink what the catalogue expects of a data set, so that a copy takes a few files."""

    def shrink(name, pairs, **facts):
        entry = {
            key: value
            for key, value in catalog.entry(name)[1].items()
            if key not in ("boxes", "splits", "drawn")
        }
        entry |= {"pairs": pairs} | ({"size": list(SIZE)} if "size" in entry else {}) | facts
        monkeypatch.setitem(catalog._entries(), name, entry)
        return name

    return shrink


def image(path, seed=0, size=SIZE, colour=False, form=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = (
        np.random.default_rng(seed)
        .integers(0, 256, (*size, 3) if colour else size)
        .astype(np.uint8)
    )
    Image.fromarray(pixels).save(path, format=form)
    return path


def text(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


def voc(objects=(("person", 2, 3, 10, 12),), size=SIZE):
    each = "".join(
        f"<object><name>{name}</name><bndbox><xmin>{x0}</xmin><ymin>{y0}</ymin>"
        f"<xmax>{x1}</xmax><ymax>{y1}</ymax>"
        "</bndbox></object>"
        for name, x0, y0, x1, y1 in objects
    )
    return (
        f"<annotation><filename>other.jpg</filename><size><width>{size[1]}</width>"
        f"<height>{size[0]}</height>"
        f"<depth>3</depth></size>{each}</annotation>"
    )


# ---- a copy of each layout, by hand: two train pairs and one test pair ---------------------------


def m3fd(folder, ir="Ir", vis="Vis", annotation="Annotation"):
    for i in range(3):
        image(folder / f"M3FD_Detection/{ir}/{i:05d}.png", i)
        image(folder / f"M3FD_Detection/{vis}/{i:05d}.png", i + 50, colour=True)
        text(
            folder / f"M3FD_Detection/{annotation}/{i:05d}.xml",
            voc([("People", 2, 3, 10, 12), ("Lamp", 0, 0, 32, 24)]),
        )
    return folder


def m3fd_yolo(folder):
    for i in range(3):
        image(folder / f"ir/{i:05d}.png", i)
        image(folder / f"vi/{i:05d}.png", i + 50, colour=True)
        text(folder / f"labels/{i:05d}.txt", "0 0.1875 0.3125 0.25 0.375\n3  0.5  0.5  1  1")
    text(folder / "meta/train.txt", "00000.png\n00001.png\n")
    text(folder / "meta/val.txt", "00002.png\n")
    return folder


def m3fd_coco(folder):
    m3fd(folder)
    for path in (folder / "M3FD_Detection/Annotation").iterdir():
        path.unlink()
    coco = {
        "images": [
            {"id": i, "file_name": f"{i:05d}.png", "height": 24, "width": 32} for i in range(3)
        ],
        "categories": [
            {"id": 0, "name": "background"},
            {"id": 1, "name": "People"},
            {"id": 5, "name": "Lamp"},
        ],
        "annotations": [
            {"image_id": i, "category_id": c, "bbox": box}
            for i in range(3)
            for c, box in ((1, [2, 3, 8, 9]), (5, [0, 0, 32, 24]))
        ],
    }
    text(folder / "M3FD_Detection/m3fd-train.json", json.dumps(coco))
    return folder


def flir(folder, infrared="JPEGImages", visible="JPEGImages", suffix=".jpg"):
    objects = [("person", 2, 3, 10, 12), ("dog", 1, 1, 5, 5), ("car", 12, 3, 20, 12)]
    for i in range(3):
        image(folder / f"align/{infrared}/FLIR_{i:05d}_PreviewData.jpeg", i)
        image(folder / f"align/{visible}/FLIR_{i:05d}_RGB{suffix}", i + 50, colour=True)
        text(folder / f"align/Annotations/FLIR_{i:05d}_PreviewData.xml", voc(objects))
    text(folder / "align/align_train.txt", "FLIR_00000_PreviewData\nFLIR_00001_PreviewData\n")
    text(folder / "align/align_validation.txt", "FLIR_00002_PreviewData\n")
    return folder


def llvip(folder, infrared="infrared", suffix=".jpg"):
    for name, split in (("010001", "train"), ("010002", "train"), ("190001", "test")):
        for kind in (infrared, "visible"):
            image(folder / f"LLVIP/{kind}/{split}/{name}{suffix}", int(name), colour=True)
        text(folder / f"LLVIP/Annotations/{name}.xml", voc())
    return folder


def msrs(folder):
    for name, split in (("00001D", "train"), ("00002N", "train"), ("00003N", "test")):
        image(folder / f"{split}/ir/{name}.png", 1)
        image(folder / f"{split}/vi/{name}.png", 2, colour=True)
        text(
            folder / f"fusion/{split}/{name}.txt",
            "0  0.1875  0.3125  0.25  0.375\n2  0.5  0.5  0.5  0.5",
        )
    image(folder / "detection/ir/7.png"), image(folder / "detection/vi/7.png")
    text(folder / "detection/labels/7.txt", "1 0.1875 0.3125 0.25 0.375\n")
    return folder


COPIES = {  # data set, copy, labels of the first pair, splits
    "m3fd": ("M3FD", m3fd, ["person", "lamp"], {}),
    "m3fd lower case": (
        "M3FD",
        lambda folder: m3fd(folder, "ir", "VIS", "annotation"),
        ["person", "lamp"],
        {},
    ),
    "m3fd yolo": ("M3FD", m3fd_yolo, ["person", "lamp"], {"meta-train": 2, "meta-val": 1}),
    "m3fd coco": ("M3FD", m3fd_coco, ["person", "lamp"], {}),
    "flir": ("FLIR-aligned", flir, ["person", "car"], {"train": 2, "test": 1}),
    "flir other suffix": (
        "FLIR-aligned",
        lambda folder: flir(folder, suffix=".JPEG"),
        ["person", "car"],
        {"train": 2},
    ),
    "flir copy": (
        "FLIR-aligned",
        lambda folder: flir(folder, "IR", "RGB"),
        ["person", "car"],
        {"train": 2, "test": 1},
    ),
    "flir copy beside JPEGImages": (
        "FLIR-aligned",
        lambda folder: flir(folder, "IR", "JPEGImages"),
        ["person", "car"],
        {"train": 2, "test": 1},
    ),
    "llvip": ("LLVIP", llvip, ["person"], {"train": 2, "test": 1}),
    "llvip upper case": (
        "LLVIP",
        lambda folder: llvip(folder, "INFRARED", ".JPG"),
        ["person"],
        {"train": 2, "test": 1},
    ),
    "msrs": ("MSRS", msrs, ["person", "car"], {"train": 2, "test": 1}),
    "msrs detection": ("MSRS-detection", msrs, ["bicycle"], {}),
}


@pytest.mark.parametrize("copy", COPIES)
def test_layouts_open_and_pass(copy, small, tmp_path):
    name, make, expected, splits = COPIES[copy]
    count = 1 if name == "MSRS-detection" else 3
    small(name, count, **({"splits": {"train": 2, "test": 1}} if "train" in splits else {}))
    folder = make(tmp_path)
    report = checking.check(name.lower(), folder)
    assert report.problems == [] and report.pairs == count, report.problems
    assert report.boxes == {label: count for label in expected}
    pairs = open_pairs(folder, name)
    assert len(pairs) == count and all(pair.infrared.shape == SIZE for pair in pairs)
    assert pairs[0].labels == expected and pairs[0].boxes[0].tolist() == [2, 3, 8, 9]
    for split, members in splits.items():
        assert len(open_pairs(folder, name, split)) == members
    assert pickle.loads(pickle.dumps(pairs)).names == pairs.names, "worker processes read pairs too"
    with pytest.raises(ValueError, match="split: .*'nothing'"):
        open_pairs(folder, name, "nothing")


def test_sets_without_boxes(small, tmp_path):
    for name, ir, vi in (
        ("RoadScene", "cropinfrared", "crop_LR_visible"),
        ("TNO", "TNO/ir", "TNO/vi"),
    ):
        for number, size in enumerate(((20, 30), (25, 31))):  # sizes differ between pairs
            image(tmp_path / name / ir / f"FLIR_{number}.bmp", size=size)
            image(tmp_path / name / vi / f"FLIR_{number}.png", size=size)
        text(tmp_path / name / ir / "Thumbs.db", "stray")
        small(name, 2)
        assert checking.check(name, tmp_path / name).problems == []
        assert [pair.boxes for pair in open_pairs(tmp_path / name, name)] == [None, None]


def test_multi_focus_sets(small, tmp_path):
    copies = {
        "Classic-gray": ("Datasets/lab1.bmp", "Datasets/lab2.bmp", None),
        "MFIFB": ("input/aymaz_01/aymaz_01_A.png", "input/aymaz_01/aymaz_01_B.jpg", None),
        "CBF-20": (
            "MF_images/image1_left.png",
            "MF_images/image1_right.png",
            "MF_images/original/image1.png",
        ),
        "Rendered-4": ("Images/cc1.png", "Images/cc2.png", "Images/cc0.png"),
        "Real-MFF": ("a/1.png", "b/1.png", "ref/1.png"),
    }
    for name, files in copies.items():
        folder = tmp_path / name
        # classic pairs hold TIFF files named .bmp
        for seed, file in enumerate(filter(None, files)):
            image(folder / file, seed, form="TIFF" if file.endswith("lab1.bmp") else None)
        image(folder / "Images/c1.png")  # a picture of something else
        small(name, 1)
        assert checking.check(name, folder).problems == []
        (pair,) = catalog.multi_focus(name, folder)
        assert pair.a.shape == pair.b.shape == SIZE and (pair.reference is not None) == (
            files[2] is not None
        )
        assert not np.array_equal(pair.a, pair.b)
    with pytest.raises(ValueError, match="expected infrared-visible pairs, got MFIFB, multi-focus"):
        open_pairs(tmp_path / "MFIFB", "MFIFB", "train")


# ---- damage: one sentence each that names the file -----------------------------------------------


def damage_truncated(folder):
    path = folder / "M3FD_Detection/Vis/00001.png"
    path.write_bytes(path.read_bytes()[:-40])
    return path, "damaged or truncated"


def damage_inside(folder):
    path = folder / "M3FD_Detection/Ir/00001.png"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(content)
    return path, "damaged"


def damage_empty_image(folder):
    path = folder / "M3FD_Detection/Vis/00001.png"
    path.write_bytes(b"")
    return path, "empty file"


def damage_no_image(folder):
    return (
        text(folder / "M3FD_Detection/Vis/00001.png", "<html>quota exceeded</html>"),
        "content is none of them",
    )


def damage_size(folder):
    return (
        image(folder / "M3FD_Detection/Vis/00001.png", size=(24, 31)),
        "expected 24x32 .* got 24x31",
    )


def damage_no_label(folder):
    (folder / "M3FD_Detection/Annotation/00001.xml").unlink()
    return folder / "M3FD_Detection/Ir/00001.png", "expected boxes for this image"


def damage_empty_label(folder):
    return text(folder / "M3FD_Detection/Annotation/00001.xml", ""), "is empty"


def damage_half_label(folder):
    return text(folder / "M3FD_Detection/Annotation/00001.xml", voc()[:60]), "cannot be read"


def damage_other_xml(folder):
    return (
        text(folder / "M3FD_Detection/Annotation/00001.xml", "<html/>"),
        "outermost element is 'html'",
    )


def damage_class(folder):
    return (
        text(folder / "M3FD_Detection/Annotation/00001.xml", voc([("Peple", 1, 1, 5, 5)])),
        "got 'Peple'",
    )


def damage_other_class(folder):  # a class of the project, but not of this set
    return (
        text(folder / "M3FD_Detection/Annotation/00001.xml", voc([("bicycle", 1, 1, 5, 5)])),
        "got 'bicycle'",
    )


def damage_number(folder):
    return (
        text(folder / "M3FD_Detection/Annotation/00001.xml", voc([("Car", "one", 1, 5, 5)])),
        "object 0 to have four numbers",
    )


def damage_box(folder):
    return (
        text(folder / "M3FD_Detection/Annotation/00001.xml", voc([("Car", 9, 1, 5, 5)])),
        r"got \[9.0, 1.0, -4.0, 4.0\]",
    )


def damage_stated_size(folder):
    return (
        text(
            folder / "M3FD_Detection/Annotation/00001.xml",
            voc(size=(48, 64)).replace("person", "Car"),
        ),
        "expected 48x64",
    )


def damage_twice(folder):
    image(folder / "M3FD_Detection/Ir/00001.bmp")
    return folder / "M3FD_Detection/Ir/00001.png", "expected one file, infrared of 00001"


DAMAGE = [value for name, value in globals().items() if name.startswith("damage_")]


@pytest.mark.parametrize("damage", DAMAGE, ids=lambda damage: damage.__name__)
def test_damage_is_named(damage, small, tmp_path):
    small("M3FD", 3)
    path, message = damage(m3fd(tmp_path))
    problems = checking.check("M3FD", tmp_path).problems
    assert len(problems) == 1 and str(path) in problems[0], problems
    with pytest.raises(ValueError, match=message):
        raise ValueError(problems[0])


def test_every_problem_is_named_at_once(small, tmp_path):
    small("FLIR-aligned", 3, splits={"train": 2, "test": 1})
    align = flir(tmp_path) / "align"
    assert checking.check("FLIR-aligned", tmp_path).problems == []
    (align / "JPEGImages/FLIR_00000_RGB.jpg").unlink()
    text(align / "Annotations/FLIR_00001_PreviewData.xml", "")
    content = (align / "JPEGImages/FLIR_00002_RGB.jpg").read_bytes()
    (align / "JPEGImages/FLIR_00002_RGB.jpg").write_bytes(content[: len(content) * 2 // 3])
    text(align / "align_validation.txt", "")  # without it, test would be what train is not
    problems = checking.check("FLIR-aligned", tmp_path).problems
    for words in (
        ("expected 3 pairs", "found 2"),
        ("FLIR_00000_PreviewData.jpeg", "partner", "visible"),
        ("'FLIR_00000'", "align_train.txt"),
        ("FLIR_00001_PreviewData.xml", "is empty"),
        ("FLIR_00002_RGB.jpg", "truncated"),
        ("expected 1 pairs of split test in align_validation.txt", "none"),
        ("expected an image for each label", "FLIR_00000"),
    ):
        assert sum(all(word in problem for word in words) for problem in problems) == 1, (
            words,
            problems,
        )
    assert len(problems) == 7
    with pytest.raises(ValueError, match="expected a partner"):
        open_pairs(tmp_path, "FLIR-aligned")


def test_yolo_is_judged_by_line(small, tmp_path):
    small("M3FD", 3)
    path = m3fd_yolo(tmp_path) / "labels/00001.txt"
    for content, message in (
        ("0 0.5 0.5 0.1", "line 1 to have five numbers"),
        ("\n6 .5 .5 .1 .1", "line 2 a class from 0 to 5"),
        ("1.5 .5 .5 .1 .1", "class from 0"),
        ("0 12 9 20 30", "shares of the image"),
        ("0 nan .5 .1 .1", "shares of the image"),
        ("0 .5 .5 0 .1", "expected boxes x, y"),
    ):
        text(path, content)
        (problem,) = checking.check("M3FD", tmp_path).problems
        assert str(path) in problem and message in problem
    text(path, "")  # nobody and nothing in it
    assert checking.check("M3FD", tmp_path).problems == []
    assert open_pairs(tmp_path, "M3FD")["00001"].boxes.shape == (0, 4)


def test_coco_misspelt(small, tmp_path):
    small("M3FD", 3)
    path = m3fd_coco(tmp_path) / "M3FD_Detection/m3fd-train.json"
    text(path, path.read_text().replace("Lamp", "Lmap"))
    problem, *_ = checking.check("M3FD", tmp_path).problems
    assert str(path) in problem and "got 'Lmap'" in problem
    with pytest.raises(ValueError, match="got 'Lmap'"):
        open_pairs(tmp_path, "M3FD")


def test_labels_that_come_from_elsewhere(small, tmp_path):
    small("MSRS", 3, splits={"train": 2, "test": 1})
    for path in msrs(tmp_path).glob("fusion/*/*.txt"):
        path.unlink()
    report = checking.check("MSRS", tmp_path)
    assert report.problems == [] and "expected boxes" in report.notes[0]
    assert open_pairs(tmp_path, "MSRS")[0].boxes is None


def test_box_counts_are_a_note(small, tmp_path):
    small("M3FD", 3, boxes={"person": 3, "lamp": 3})
    assert checking.check("M3FD", m3fd(tmp_path)).notes == []
    small("M3FD", 3, boxes={"person": 3, "lamp": 4})
    report = checking.check("M3FD", tmp_path)
    assert report.problems == [] and "lamp 4" in report.notes[0] and "lamp 3" in report.notes[0]


def test_links_in_a_circle(small, tmp_path):
    small("M3FD", 3)
    folder = m3fd(tmp_path / "set")
    for path in (folder, folder / "M3FD_Detection/Ir"):
        (path / "again").symlink_to(".")
        (path / "up").symlink_to("..")
    assert checking.check("M3FD", folder).problems == []
    elsewhere = tmp_path / "links"  # a link that leads to no folder above it is followed
    elsewhere.mkdir()
    (elsewhere / "M3FD_Detection").symlink_to(folder / "M3FD_Detection")
    assert checking.check("M3FD", elsewhere).problems == []


def test_nothing_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="expected LLVIP as infrared, visible, Annotations"):
        catalog.find("LLVIP", tmp_path)
    with pytest.raises(FileNotFoundError, match="expected a folder"):
        open_pairs(tmp_path / "nowhere", "LLVIP")
    assert len(checking.check("LLVIP", tmp_path).problems) == 1
    m3fd(tmp_path / "one"), m3fd(tmp_path / "two")
    with pytest.raises(
        ValueError, match="expected one copy, found one/M3FD_Detection/ and two/M3FD_Detection/"
    ):
        open_pairs(tmp_path, "M3FD")
    assert len(checking.check("M3FD", tmp_path).problems) == 1
    with pytest.raises(FileNotFoundError, match="expected TNO"):
        catalog.find("TNO", tmp_path)  # folders ir and vi further below are those of another set
    with pytest.raises(ValueError, match="name: expected one of M3FD, .*'LLVPI'"):
        checking.check("LLVPI", tmp_path)


def test_thousands_of_files_and_one_is_bad(small, tmp_path):
    count = 667
    small("M3FD", count)
    first = m3fd(tmp_path) / "M3FD_Detection"
    pattern = {
        role: (first / f"{role}/00000{suffix}").read_bytes()
        for role, suffix in (("Ir", ".png"), ("Vis", ".png"), ("Annotation", ".xml"))
    }
    for role, content in pattern.items():
        for i in range(count):
            (first / f"{role}/{i:05d}{'.xml' if role == 'Annotation' else '.png'}").write_bytes(
                content
            )
    assert checking.check("M3FD", tmp_path).problems == []
    bad = first / "Vis/00444.png"
    bad.write_bytes(bad.read_bytes()[:-9])
    for processes in (1, 2):
        report = checking.check("M3FD", tmp_path, processes=processes)
        assert len(report.problems) == 1 and str(bad) in report.problems[0]
        assert report.pairs == count and report.boxes["person"] == count


# ---- splits --------------------------------------------------------------------------------------


def test_drawn_split_of_the_paper():
    members = [f"{i:05d}" for i in range(4200)]
    facts = catalog.entry("M3FD")[1]
    first, again, other = (catalog.draw(members, facts["drawn"], seed) for seed in (0, 0, 1))
    assert {split: len(names) for split, names in first.items()} == {"train": 3900, "test": 300}
    assert set(first["train"]) | set(first["test"]) == set(members) and first == again
    assert 5 < len(set(first["test"]) & set(other["test"])) < 50, (
        "two draws of 300 from 4,200 share about 21"
    )
    assert first == catalog.draw(members, facts["drawn"]), "seed 0 is the default"
    with pytest.raises(ValueError, match=r"expected 3900 \+ 300 pairs to divide, got 4199"):
        catalog.draw(members[1:], facts["drawn"])


def test_drawn_split_opens_and_is_recorded(small, tmp_path):
    small("M3FD", 3, drawn={"train": 2, "test": 1})
    train, test, other = (
        open_pairs(m3fd(tmp_path), "M3FD", split, seed=seed)
        for split, seed in (("train", 3), ("test", 3), ("test", 4))
    )
    assert sorted(train.names + test.names) == open_pairs(tmp_path, "M3FD").names
    assert (
        train.record["seed"] == 3
        and train.record["split"] == "train"
        and train.record["pairs"] == 2
    )
    assert (test.record["names_sha256"] == other.record["names_sha256"]) == (
        test.names == other.names
    )
    (
        image(tmp_path / "M3FD_Detection/Ir/00003.png"),
        image(tmp_path / "M3FD_Detection/Vis/00003.png"),
    )
    with pytest.raises(ValueError, match=r"expected 2 \+ 1 pairs to divide, got 4"):
        open_pairs(tmp_path, "M3FD", "test")


@pytest.mark.parametrize(("name", "copy"), [("M3FD", m3fd), ("FLIR-aligned", flir)])
def test_a_training_opens_a_set_as_it_was_published(small, tmp_path, name, copy):
    """Its layout, splits and classes come from the catalogue; detectors and fusion network train on
    it.
    """
    from fusionlib.training import TrainingConfig, train
    from fusionlib.training.config import catalogued
    from fusionlib.training.config import open_pairs as training_pairs

    small(name, 3, **({"drawn": {"train": 2, "test": 1}} if name == "M3FD" else {}))
    settings = TrainingConfig.from_dict(
        {
            "data": {"folder": str(copy(tmp_path / "set")), "held_out": "test", "size": [32, 48]},
            "network": {"width": 2, "gate_grid": [[2, 3], [2, 3]]},
            "detectors.size": "small",
            "optimization": {"batch": 2, "epochs": 1},
            **catalogued(name.lower()),
        }
    )
    assert (
        settings.data.classes
        == {
            "M3FD": ("person", "car", "bus", "lamp", "motorcycle", "truck"),
            "FLIR-aligned": ("person", "bicycle", "car"),
        }[name]
    )
    pairs, held_out = training_pairs(settings), training_pairs(settings, held_out=True)
    assert len(pairs) == 2 and len(held_out) == 1 and not set(pairs.names) & set(held_out.names)
    model = train(settings, tmp_path / "model", progress=False)
    assert (
        model.record["settings"]["data"]["dataset"] == name
        and (tmp_path / "model" / "model.safetensors").exists()
    )
    assert catalogued("scenes") == {}


# ---- the catalogue itself ------------------------------------------------------------------------


def test_entries_are_consistent():
    for name in catalog.names():
        facts = catalog.entry(name)[1]
        assert (
            facts["terms"]
            and facts["get"]
            and facts["pairs"] > 0
            and facts["kind"] in layouts.SOURCES
        )
        for division in ("splits", "drawn"):
            assert sum(facts.get(division, {}).values()) in (0, facts["pairs"])
        if "classes" in facts:
            assert set(facts["classes"].values()) - {None} <= set(labels.CLASSES.values())
            assert set(facts["numbered"]) <= set(facts["classes"])
            assert set(facts.get("boxes", {})) <= set(facts["classes"].values())
        for layout in facts["layouts"]:
            assert all(role in layout for role in layouts.SOURCES[facts["kind"]])
        assert all(len(checksum) == 64 for checksum in facts.get("files", {}).values())
        assert facts["terms"].split()[0] in catalog.describe(name)
    paper = {"M3FD": (3900, 300), "FLIR-aligned": (4129, 1013), "LLVIP": (12025, 3463)}
    for name, sizes in paper.items():
        facts = catalog.entry(name)[1]
        assert tuple(facts.get("splits", facts.get("drawn")).values()) == sizes


@pytest.mark.parametrize("infrared_twice", [False, True])
def test_the_copy_of_flir_on_github(tmp_path, infrared_twice):
    folder = flir_on_github(tmp_path / "FLIR-align", infrared_twice)
    every, train, test = (
        open_pairs(folder, "FLIR-aligned", split) for split in ("", "train", "test")
    )
    assert (len(every), len(train), len(test)) == (5142, 4129, 1013)
    assert not set(train.names) & set(test.names) and test[0].infrared.shape == TINY
    assert open_pairs(folder, "flir-aligned", "FLIR-1013").names == test.names
    (folder / f"JPEGImages/{test.names[7]}_RGB.jpg").unlink()
    with pytest.raises(ValueError, match="expected a partner"):
        open_pairs(folder, "FLIR-aligned", "test")


def test_a_copy_without_boxes_and_evaluation_list_passes_with_a_note(small, tmp_path):
    small("FLIR-aligned", 3, splits={"train": 2, "test": 1})
    align = flir(tmp_path, "IR", "JPEGImages") / "align"
    shutil.rmtree(align / "Annotations")
    (align / "align_validation.txt").unlink()
    report = checking.check("FLIR-aligned", tmp_path)
    assert report.problems == [] and "expected boxes" in report.notes[0]
    pairs = open_pairs(tmp_path, "FLIR-aligned", "test")
    assert pairs.names == ["FLIR_00002"] and pairs[0].boxes is None


def test_a_subset_of_a_paper_is_whole_or_refused(tmp_path):
    msrs(tmp_path)
    assert len(open_pairs(tmp_path, "MSRS", "test")) == 1
    with pytest.raises(ValueError, match="expected the 361 pairs MSRS-361, found 1"):
        open_pairs(tmp_path, "MSRS", "MSRS-361")
    assert catalog.subset("msrs-361") == ("MSRS", "test", 361)
    for dataset, facts in catalog._entries().items():
        for name, about in facts.get("subsets", {}).items():
            if "split" in about:
                assert catalog.subset(name)[0] == dataset
                sizes = facts.get("splits", {}) | {"": facts["pairs"]}
                assert sizes[about["split"]] == about["pairs"]
    with pytest.raises(ValueError, match="which pairs TNO-25 are is unknown here; known: .*TNO-42"):
        catalog.subset("TNO-25")
    with pytest.raises(ValueError, match="subset: expected one of .*FLIR-1013, .*got 'MSRS-20'"):
        catalog.subset("MSRS-20")
    assert "FLIR-1013 (test)" in catalog.describe("FLIR-aligned")
    assert "M3FD-300 (unknown which)" in catalog.describe("M3FD")


def test_linked_folders(small, tmp_path):
    small("M3FD", 3)
    m3fd(tmp_path / "disk")
    (tmp_path / "here").mkdir()
    for role in ("Ir", "Vis", "Annotation"):
        (tmp_path / "here" / role).symlink_to(tmp_path / "disk/M3FD_Detection" / role)
    assert checking.check("M3FD", tmp_path / "here").problems == []


def test_what_is_present(tmp_path):
    m3fd(tmp_path / "ivif/m3fd_detection_2022")
    msrs(tmp_path / "MSRS-main")
    assert catalog.present(tmp_path) == {
        "M3FD": (tmp_path / "ivif/m3fd_detection_2022", 3),
        "MSRS": (tmp_path / "MSRS-main", 3),
    }


def fusionlib(*words):
    return subprocess.run(
        [sys.executable, "-m", "fusionlib", *map(str, words)],
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_command_line(tmp_path):
    listed = fusionlib("data", "--folder", msrs(tmp_path / "MSRS").parent)
    assert listed.returncode == 0 and all(name in listed.stdout for name in catalog.names())
    assert "3 of 1444 pairs" in listed.stdout
    told = fusionlib("data", "llvip")
    assert told.returncode == 0 and "Non-commercial" in told.stdout and "12025" in told.stdout
    checked = fusionlib("data", "MSRS-detection", "--check", tmp_path / "MSRS")
    assert (
        checked.returncode == 1 and "expected 80 pairs of MSRS-detection, found 1" in checked.stderr
    )
    assert all(line.startswith("problem: ") for line in checked.stderr.splitlines())
    for words, message in (
        (("data", "LLVPI"), "name: expected one of"),
        (("data", "get", "LLVIP", "--yes"), "lies in no public repository, get it by hand"),
        (("data", "get", "TNOO", "--to", tmp_path), "name: expected some of sample, general"),
        (("data", "LLVIP", "TNO"), "expected one name, or get NAME"),
    ):
        done = fusionlib(*words)
        assert done.returncode == 1 and message in done.stderr and done.stderr.count("\n") == 1
    assert "densefuse" in fusionlib("data", "weights").stdout


# ---- the real small sets -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "folder", "split", "count"),
    [
        ("MSRS", "msrs", "val", 60),
        ("RoadScene", "roadscene", "val", 22),
        ("M3FD", "m3fd", "train", 6),
        ("LLVIP", "llvip", "test", 4),
        ("TNO", "tno", "", 12),
    ],
)
def test_real_sets(name, folder, split, count, fusion_data):
    pairs = open_pairs(fusion_data / "ivif" / folder, name, split)
    assert len(pairs) == count and pairs[0].infrared.ndim == 2
    assert (pairs[0].boxes is None) == (folder in ("llvip", "tno"))
    problems = [
        problem
        for problem in checking.check(name, fusion_data / "ivif" / folder).problems
        if "pairs of" not in problem and "expected boxes (annotations.json)" not in problem
    ]
    assert problems == []


@pytest.mark.parametrize(
    ("name", "folder"),
    [("Classic-gray", "gray_classic"), ("CBF-20", "sports_gt"), ("MFIFB", "lytro")],
)
def test_real_multi_focus_sets(name, folder, fusion_data):
    pairs = catalog.multi_focus(name, fusion_data / "mfif" / folder)
    assert len(pairs) == len(list(Path(fusion_data / "mfif" / folder / "a").iterdir()))
    assert (next(iter(pairs)).reference_kind == "exact") == (folder == "sports_gt")
