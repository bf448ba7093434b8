"""Labels as programs of others write them: which image they mean, what a box is, and one sentence
for what cannot be known.
"""

import itertools
import json
import time
import unicodedata
import warnings

import numpy as np
import pytest

from fusionlib import images
from fusionlib.datasets import labels, open_pairs, survey
from fusionlib.datasets.infrared_visible import InfraredVisible
from fusionlib.experiments import detection_table
from fusionlib.training import samples

SIZE = (40, 50)
BOX = [5, 5, 20, 30]


def folder_of(path, names=("a", "b"), infrared="ir", visible="vi", suffixes=(".png", ".png")):
    for name in names:
        images.write(path / infrared / (name + suffixes[0]), np.zeros(SIZE, np.uint8))
        images.write(path / visible / (name + suffixes[1]), np.zeros((*SIZE, 3), np.uint8))
    return path


def coco(path, entries, boxes=((0, {}),), encoding="utf-8"):
    """Write ``annotations.json``: entries are file names or dicts, boxes an entry's number each."""
    entries = [{"file_name": entry} if isinstance(entry, str) else entry for entry in entries]
    content = {
        "images": [{"id": i} | entry for i, entry in enumerate(entries)],
        "categories": [{"id": 1, "name": "person"}, {"id": 2, "name": "car"}],
        "annotations": [
            {"id": i, "image_id": number, "category_id": 1, "bbox": BOX} | facts
            for i, (number, facts) in enumerate(boxes)
        ],
    }
    path.mkdir(parents=True, exist_ok=True)
    (path / "annotations.json").write_bytes(json.dumps(content).encode(encoding))
    return path


def boxes_of(path):
    return {
        pair.name: None if pair.boxes is None else pair.boxes.tolist()
        for pair in InfraredVisible(path)
    }


# ---- which image an entry means ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("a", "train\\a.png"),
        ("a", "C:\\data\\vi\\a.png"),
        ("a", "./images/a.jpg"),
        ("a1", "A1.PNG"),
        ("A1", "a1.png"),
        ("a", "a"),
        ("v1.0_01", "v1.0_01"),
        ("v1.0_01", "V1.0_01.JPEG"),
        ("a.png", "a.png"),  # a.png.png, written without its suffix
        (unicodedata.normalize("NFD", "café"), unicodedata.normalize("NFC", "café.png")),
        ("12:30:00", "12:30:00.png"),
    ],
)
def test_name_of_an_entry(tmp_path, name, written):
    coco(folder_of(tmp_path, [name, "other"]), [written])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        boxes = boxes_of(tmp_path)
    boxes = {unicodedata.normalize("NFC", pair): value for pair, value in boxes.items()}
    assert boxes == {unicodedata.normalize("NFC", name): [BOX], "other": None}


def test_a_name_without_suffix_is_not_that_of_a_shorter_one(tmp_path):
    coco(folder_of(tmp_path, ["v1", "b"]), ["v1.0_01", "b.png"], [(0, {}), (1, {})])
    with pytest.warns(UserWarning, match="1 of 2 annotations are of no image, such as 'v1.0_01'"):
        assert boxes_of(tmp_path) == {"v1": None, "b": [BOX]}


def test_case_that_does_not_tell(tmp_path):
    folder_of(tmp_path, ["aB", "Ab", "ab"])
    if len(list((tmp_path / "ir").iterdir())) < 3:
        pytest.skip("this file system does not tell the case of names")
    coco(tmp_path, ["Ab.PNG", "AB.png"], [(0, {}), (1, {})])
    with pytest.warns(UserWarning, match="'AB.png'"):
        assert boxes_of(tmp_path) == {"aB": None, "Ab": [BOX], "ab": None}


def test_entries_of_no_image_are_said(tmp_path):
    folder_of(tmp_path)
    coco(tmp_path, ["a.png", "c.png", "d.png"])
    with pytest.warns(UserWarning, match="2 of 3 annotations are of no image, such as 'c.png'"):
        InfraredVisible(tmp_path, names=["a"])
    coco(tmp_path, ["c.png", "d.png"])
    with pytest.raises(ValueError, match="expected annotations of its images, got 2 that are of"):
        InfraredVisible(tmp_path)


@pytest.mark.parametrize(
    ("names", "suffixes", "boxes", "expected"),
    [
        # the entry of the other image only lists it, whichever comes first
        (["ir/a.png", "vi/a.png"], (".png", ".png"), [0], [BOX]),
        (["ir/a.png", "vi/a.png"], (".png", ".png"), [1], [BOX]),
        (["vi\\A.PNG", "IR\\A.PNG"], (".png", ".png"), [0], [BOX]),
        # both have the same boxes: they are there once
        (["ir/a.png", "vi/a.png"], (".png", ".png"), [0, 1], [BOX]),
        (["ir/a.png", "vi/a.png"], (".png", ".png"), [], []),
        # the file names tell
        (["a.png", "a.jpg"], (".png", ".jpg"), [0, 1], [BOX]),
        (["x/a.png", "x/a.jpg"], (".jpg", ".png"), [1], [BOX]),
        # the folders tell which of two sets is meant
        (["night/ir/a.png", "day/ir/a.png"], (".png", ".png"), [1], [BOX]),
        (["day/ir/a.png", "night/ir/a.png"], (".png", ".png"), [1], []),
        (["backup/a.png", "vi/a.png"], (".png", ".png"), [0], []),
    ],
)
@pytest.mark.filterwarnings("ignore:.*annotations are of no image")
def test_the_end_of_the_path_decides(tmp_path, names, suffixes, boxes, expected):
    path = folder_of(tmp_path / "day", ["a"], suffixes=suffixes)
    coco(path, names, [(number, {}) for number in boxes])
    assert boxes_of(path) == {"a": expected}


@pytest.mark.parametrize(
    ("names", "boxes", "message"),
    [
        (["day/a.png", "night/a.png"], [0], "two images have the stem 'a': day/a.png and night"),
        (["day/a.png", "night/a.png"], [], "two images have the stem 'a'"),
        (["a.png", "a.png"], [0], "expected one image a file name, 2 have 'a.png'"),
        (["1/ir/a.png", "2/ir/a.png", "vi/a.png"], [0], "two images have the stem 'a': 1/ir/a.png"),
        (["ir/a.png", "vi/a.png"], [0, 1, 1], "one set of boxes for both images of 'a', got two"),
    ],
)
def test_what_the_path_does_not_decide(tmp_path, names, boxes, message):
    coco(folder_of(tmp_path), names, [(number, {}) for number in boxes])
    with pytest.raises(ValueError, match=f"annotations.json: .*{message}"):
        InfraredVisible(tmp_path)


def test_repeated_ids(tmp_path):
    folder_of(tmp_path)
    coco(tmp_path, [{"id": 1, "file_name": "a.png"}, {"id": 1, "file_name": "b.png"}], [(1, {})])
    with pytest.raises(ValueError, match="two have the id 1: a.png and b.png"):
        InfraredVisible(tmp_path)
    coco(tmp_path, ["a.png"], [(0, {"id": 7}), (0, {"id": 7})])
    with pytest.raises(ValueError, match="expected one annotation an id, two have the id 7"):
        InfraredVisible(tmp_path)
    coco(tmp_path, ["a.png"], [(0, {"id": None}), (0, {"id": None})])
    assert len(InfraredVisible(tmp_path)["a"].boxes) == 2
    content = json.loads((tmp_path / "annotations.json").read_text())
    content["categories"].append({"id": 1, "name": "bus"})
    images.write_text(tmp_path / "annotations.json", json.dumps(content))
    with pytest.raises(ValueError, match="one category an id, two have the id 1: person and bus"):
        InfraredVisible(tmp_path)


def test_two_coco_files_of_a_set(tmp_path):
    facts = "Own:\n  pairs: 2\n  layouts:\n    - {called: x, infrared: 'ir/{name}_T.*',"
    facts += " visible: 'vi/{name}_RGB.*', coco: '{[a-z]+}/annotations.json', strip: [_T, _RGB]}\n"
    folder_of(tmp_path, suffixes=("_T.png", "_RGB.png"))
    images.write_text(tmp_path / "dataset.yaml", facts)
    coco(tmp_path / "one", ["A_T.PNG", "A_RGB.PNG"])
    coco(tmp_path / "two", ["a_RGB.png", "b_T.png"], [(1, {})])
    pairs = open_pairs(tmp_path, "Own")
    assert [pair.boxes.tolist() for pair in pairs] == [[BOX], [BOX]]
    coco(tmp_path / "two", ["a_RGB.png"], [(0, {"category_id": 2})])
    with pytest.raises(ValueError, match="two/annotations.json: expected one set of boxes .*'a'"):
        open_pairs(tmp_path, "Own")


# ---- crowd regions, ignored and difficult boxes --------------------------------------------------


FLAGS = [{"iscrowd": 0}, {"iscrowd": 1}, {"ignore": 1}, {"iscrowd": "1"}, {"ignore": 0}, {}]


def test_what_is_ignored_is_no_target(tmp_path):
    boxes = [(0, {"bbox": [i, 0, 10, 10]} | facts) for i, facts in enumerate(FLAGS)]
    coco(folder_of(tmp_path), ["a.png", "b.png"], [*boxes, (1, {"iscrowd": 1})])
    pair, crowded = InfraredVisible(tmp_path, size=(80, 50))
    assert pair.boxes[:, 0].tolist() == [0, 4, 5] and pair.labels == ["person"] * 3
    assert pair.ignored.boxes.tolist() == [[i, 0, 10, 20] for i in (1, 2, 3)]
    assert list(pair.ignored.kinds) == ["crowd", "ignored", "crowd"]
    assert crowded.boxes.shape == (0, 4), "somebody has looked, and there is no object"
    training = samples.Samples([pair, crowded], ["person"], annotated=True)
    assert training[0, (0, 0)]["target"]["boxes"][:, 0].tolist() == [0, 4, 5]
    assert len(training[1, (0, 0)]["target"]["labels"]) == 0
    for truth in (
        samples.ground_truth(pair, ["person"]),
        detection_table.annotated(pair, ["person"]),
    ):
        assert truth.corners[:, 0].tolist() == [0, 4, 5, 1, 2, 3]
        assert truth.kinds == ["object"] * 3 + ["crowd", "ignored", "crowd"]
    chosen = InfraredVisible(tmp_path, classes=["car"])["a"]
    assert len(chosen.boxes) == len(chosen.ignored.labels) == 0
    assert survey.contents([pair])["ignored"].tolist() == [3]


def voc(flag="", size="<width>50</width><height>40</height>", head="", name="person"):
    return (
        f"{head}<annotation><folder>红外</folder><size>{size}</size><object><name>{name}</name>{flag}"
        "<bndbox><xmin>5</xmin><ymin>5</ymin><xmax>25</xmax><ymax>35</ymax></bndbox></object>"
        "</annotation>"
    )


@pytest.mark.parametrize("flag", ["", "<difficult>0</difficult>", "<difficult> 1 </difficult>"])
def test_difficult(tmp_path, flag):
    images.write_text(tmp_path / "a.xml", voc(flag))
    difficult = "1" in flag
    annotation = labels.read_voc(tmp_path / "a.xml")
    assert annotation.kinds == (["ignored"] if difficult else ["object"])
    assert labels.read_voc(tmp_path / "a.xml", difficult="object").kinds == ["object"]
    with pytest.raises(ValueError, match="difficult: expected ignored or object, got 'easy'"):
        labels.read_voc(tmp_path / "a.xml", difficult="easy")
    # of a set: by the file that describes it
    folder_of(tmp_path / "set", ["a"])
    images.write_text(tmp_path / "set/boxes/a.xml", voc(flag))
    facts = "Own:\n  pairs: 1\n  layouts:\n    - {called: x, infrared: 'ir/{name}.*',"
    facts += " visible: 'vi/{name}.*', labels: 'boxes/{name}.xml'}\n"
    for rule, count in (("", 0 if difficult else 1), ("  difficult: object\n", 1)):
        images.write_text(tmp_path / "set/dataset.yaml", facts + rule)
        pair = open_pairs(tmp_path / "set", "Own")[0]
        assert len(pair.boxes) == count and len(pair.ignored.labels) == 1 - count


# ---- encodings, sizes, numbers -------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_byte_order_marks(tmp_path, encoding):
    coco(folder_of(tmp_path), ["a.png"], encoding=encoding)
    (tmp_path / "splits.json").write_bytes('{"test": ["a.png"]}'.encode(encoding))
    assert InfraredVisible(tmp_path, "test")["a"].boxes.tolist() == [BOX]
    assert survey.conditions(tmp_path, ["a"]) == ["not stated"]
    (tmp_path / "a.txt").write_bytes("0 0.5 0.5 0.25 0.5\r\n".encode(encoding))
    assert labels.read_yolo(tmp_path / "a.txt", ["car"], SIZE).boxes == [(18.75, 10, 12.5, 20)]
    (tmp_path / "a.xml").write_bytes(voc().encode(encoding))
    assert labels.read_voc(tmp_path / "a.xml").boxes == [tuple(BOX)]
    path = folder_of(tmp_path / "own", infrared="t", visible="c")
    facts = "Own:\n  pairs: 2\n  layouts:\n    - {called: x, infrared: 't/{name}.*',"
    facts += " visible: 'c/{name}.*', lists: {test: 'test.txt'}}\n"
    images.write_text(path / "dataset.yaml", facts)
    (path / "test.txt").write_bytes("images\\a.png\r\nB.png\r\n".encode(encoding))
    assert open_pairs(path, "Own", "test").names == ["a", "b"]


@pytest.mark.parametrize("encoding", ["gb2312", "GBK", "gb18030", "big5", "shift_jis", "utf-16"])
def test_encodings_of_xml(tmp_path, encoding):
    text = voc(head=f'<?xml version="1.0" encoding="{encoding}"?>')
    text = text.replace("红外", "夜" if encoding in ("big5", "shift_jis") else "红外")
    (tmp_path / "a.xml").write_bytes(text.encode(encoding))
    assert labels.read_voc(tmp_path / "a.xml").boxes == [tuple(BOX)]


def test_an_encoding_that_nobody_knows(tmp_path):
    for encoding in ("klingon", "gb2312"):
        text = voc(head=f'<?xml version="1.0" encoding="{encoding}"?>')
        (tmp_path / "a.xml").write_bytes(text.encode() + b"\xff\xff")
        with pytest.raises(ValueError, match="a.xml: expected a Pascal VOC XML file, it cannot be"):
            labels.read_voc(tmp_path / "a.xml")


@pytest.mark.parametrize(
    "size",
    [
        {"height": -1, "width": -1},
        {"height": None, "width": None},
        {"height": 0, "width": 0},
        {"height": "", "width": ""},
        {"height": 40},
        {"height": "40", "width": " 50 "},
        {"height": 40.0, "width": 50},
    ],
)
def test_sizes_that_are_open_or_text(tmp_path, size):
    coco(folder_of(tmp_path), [{"file_name": "a.png"} | size])
    assert InfraredVisible(tmp_path)["a"].boxes.tolist() == [BOX]
    words = "".join(f"<{side}>{value}</{side}>" for side, value in size.items())
    if None not in size.values():
        images.write_text(tmp_path / "a.xml", voc(size=words))
        assert labels.read_voc(tmp_path / "a.xml").size in (None, SIZE)


@pytest.mark.parametrize("side", ["forty", 40.5, [40], 10**400, "9" * 5000, float("inf")])
def test_sizes_that_are_none(tmp_path, side):
    coco(folder_of(tmp_path), [{"file_name": "a.png", "height": side, "width": 50}])
    message = "expected height and width in whole pixels, got .{1,20} and 50"
    with pytest.raises(ValueError, match=f"annotations.json: a.png: {message}"):
        InfraredVisible(tmp_path)
    images.write_text(tmp_path / "a.xml", voc(size=f"<width>50</width><height>{side}</height>"))
    with pytest.raises(ValueError, match="a.xml: expected height and width in whole pixels"):
        labels.read_voc(tmp_path / "a.xml")


@pytest.mark.parametrize("number", [10**401, -(10**401), float("inf"), 1e300])
def test_boxes_out_of_range(tmp_path, number):
    coco(folder_of(tmp_path), ["a.png"], [(0, {"bbox": [number, 0, 1, 1]})])
    with pytest.raises(ValueError, match="expected annotation 0 to have four numbers"):
        InfraredVisible(tmp_path)
    text = voc().replace("<xmin>5<", f"<xmin>{'9' * 5000}<")
    images.write_text(tmp_path / "a.xml", text)
    with pytest.raises(ValueError, match=r"a.xml: expected boxes .* inside 40x50 .* got \[inf,"):
        labels.read_voc(tmp_path / "a.xml").on(SIZE, tmp_path / "a.xml")


@pytest.mark.parametrize("content", ["[" * 100_000, '{"a": ' * 100_000, "9" * 5000])
def test_json_that_is_none(tmp_path, content):
    images.write_text(folder_of(tmp_path) / "annotations.json", content)
    with pytest.raises(ValueError, match="annotations.json: expected a JSON"):
        InfraredVisible(tmp_path)


@pytest.mark.parametrize("name", [5, None, ["a"], {"a": 1}, True])
def test_names_that_are_no_text(tmp_path, name):
    images.write_text(folder_of(tmp_path) / "splits.json", json.dumps({"val": ["a", name]}))
    with pytest.raises(ValueError, match="splits.json: expected names of images in 'val', got "):
        InfraredVisible(tmp_path, "val")
    for facts in ({"file_name": name}, {"file_name": "a.png", "split": [name]}):
        coco(tmp_path, [facts])
        with pytest.raises(ValueError, match="annotations.json: expected file names and splits"):
            InfraredVisible(tmp_path)
    parts = ("images", "annotations", "categories")
    for key, part in itertools.product(parts, ([name], {}, None, "")):
        coco(tmp_path, ["a.png"])
        content = json.loads((tmp_path / "annotations.json").read_text()) | {key: part}
        images.write_text(tmp_path / "annotations.json", json.dumps(content))
        with pytest.raises(ValueError, match="annotations.json: expected COCO lists"):
            InfraredVisible(tmp_path)


# ---- rounding, and many boxes --------------------------------------------------------------------


@pytest.mark.parametrize("beyond", [0.4, 1.0])
def test_rounding_to_a_pixel_is_accepted_in_every_format(tmp_path, beyond):
    height, width = SIZE
    left, top, right, bottom = -beyond, -beyond, width + beyond, height + beyond
    coco(folder_of(tmp_path), ["a.png"], [(0, {"bbox": [left, top, right - left, bottom - top]})])
    assert InfraredVisible(tmp_path)["a"].boxes.tolist() == [[0, 0, width, height]]
    text = voc()
    for edge, value in zip(
        ("xmin", "ymin", "xmax", "ymax"), (left, top, right, bottom), strict=True
    ):
        start = text.index(f"<{edge}>")
        text = text[:start] + f"<{edge}>{value}" + text[text.index("<", start + 1) :]
    images.write_text(tmp_path / "a.xml", text)
    expected = [[0, 0, width, height]]
    assert labels.read_voc(tmp_path / "a.xml").on(SIZE, "a").tolist() == expected
    line = f"0 0.5 0.5 {(right - left) / width} {(bottom - top) / height}"
    images.write_text(tmp_path / "a.txt", line)
    assert labels.read_yolo(tmp_path / "a.txt", ["car"], SIZE).on(SIZE, "a").tolist() == expected


@pytest.mark.parametrize("line", ["0 0.5 0.5 1.05 1", "0 1.05 .5 .1 .1", "0 .5 .5 -.1 .1"])
def test_more_than_a_pixel_is_not(tmp_path, line):
    images.write_text(tmp_path / "a.txt", line)
    with pytest.raises(ValueError, match="a.txt: expected"):
        labels.read_yolo(tmp_path / "a.txt", ["car"], SIZE).on(SIZE, tmp_path / "a.txt")


def test_many_boxes_are_quick():
    annotation = labels.Annotation([[i % 40, i % 30, 5, 5] for i in range(200_000)])
    started = time.process_time()
    assert annotation.on(SIZE, "a").shape == (200_000, 4)
    assert time.process_time() - started < 2  # a loop of numpy calls a box took 16 s
