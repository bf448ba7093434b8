"""Folders of infrared-visible pairs: what they hold, how boxes follow their image, and one sentence
for bad input.
"""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusionlib import images
from fusionlib.datasets.infrared_visible import InfraredVisible, Pair
from fusionlib.datasets.scenes import scene, write_scenes


def make(folder, sizes=None, infrared="ir", visible="vi", suffixes=(".png", ".png")):
    rng = np.random.default_rng(0)
    for name, (height, width) in (sizes or {"a": (40, 50), "b": (33, 47)}).items():
        images.write(
            folder / infrared / (name + suffixes[0]),
            rng.integers(0, 256, (height, width), np.uint8),
        )
        images.write(
            folder / visible / (name + suffixes[1]),
            rng.integers(0, 256, (height, width, 3), np.uint8),
        )
    return folder


def annotate(
    folder,
    boxes=(("a", [1, 2, 10, 20], 1),),
    categories=("person", "bicycle", "car"),
    entries=None,
    **more,
):
    entries = entries or [{"id": i, "file_name": f"{name}.png"} for i, name in enumerate("ab")]
    ids = {entry["file_name"][0]: entry["id"] for entry in entries}
    coco = {
        "images": entries,
        "categories": [{"id": i, "name": n} for i, n in enumerate(categories, 1)],
        "annotations": [
            {"image_id": ids.get(name, name), "bbox": box, "category_id": c}
            for name, box, c in boxes
        ],
    }
    images.write_text(folder / "annotations.json", json.dumps(coco | more))
    return folder


def test_scenes_come_back(tmp_path):
    pairs = InfraredVisible(write_scenes(tmp_path, range(5), (48, 64)))
    assert len(pairs) == 5 and pairs.names == sorted(pairs.names)
    for seed, pair in enumerate(pairs):
        made = scene(seed, (48, 64))
        assert pair.name == f"{seed:05d}_{made.condition}"
        assert np.array_equal(pair.infrared, made.infrared) and np.array_equal(
            pair.visible, made.visible
        )
        assert np.array_equal(pair.boxes, made.boxes) and pair.labels == made.labels
    train, val = (InfraredVisible(tmp_path, split) for split in ("train", "val"))
    assert train.names + val.names == pairs.names and len(val) == 1
    assert pairs[pairs.names[2]].name == pairs.names[2]


@pytest.mark.parametrize(
    ("infrared", "visible"),
    [
        ("Ir", "Vis"),
        ("IR", "VI"),
        ("infrared", "visible"),
        ("Inf", "RGB"),
        ("cropinfrared", "crop_LR_visible"),
    ],
)
def test_spellings(tmp_path, infrared, visible):
    pair = InfraredVisible(
        make(tmp_path, infrared=infrared, visible=visible, suffixes=(".bmp", ".tif"))
    )["b"]
    assert (
        pair.infrared.shape == (33, 47) and pair.visible.shape == (33, 47, 3) and pair.boxes is None
    )


def test_class_spellings_and_selection(tmp_path):
    boxes = [("a", [1, 1, 5, 5], c) for c in (1, 2, 3, 4)]
    annotate(make(tmp_path), boxes, ("People", "bike", "Car", "Lamp"))
    assert InfraredVisible(tmp_path)["a"].labels == ["person", "bicycle", "car", "lamp"]
    chosen = InfraredVisible(tmp_path, classes=["car", "person"])["a"]
    assert chosen.labels == ["person", "car"] and chosen.boxes.shape == (2, 4)
    assert InfraredVisible(tmp_path, annotations=None)["a"].boxes is None


def test_empty_unannotated_and_equal_channels(tmp_path):
    make(tmp_path, {"a": (40, 50), "b": (33, 47), "c": (20, 20)})
    images.write(tmp_path / "ir" / "a.png", np.full((40, 50), 7, np.uint8))
    from PIL import Image

    Image.new("RGB", (50, 40), (9, 9, 9)).save(tmp_path / "ir" / "a.png")
    annotate(tmp_path)
    pairs = InfraredVisible(tmp_path)
    assert pairs["a"].infrared.shape == (40, 50) and (pairs["a"].infrared == 9).all()
    assert pairs["b"].boxes.shape == (0, 4) and pairs["b"].labels == []
    assert pairs["c"].boxes is None


@settings(max_examples=30, deadline=None)
@given(
    st.integers(8, 60),
    st.integers(8, 60),
    st.integers(8, 90),
    st.integers(8, 90),
    st.integers(0, 99),
)
def test_boxes_are_resized_with_their_image(height, width, new_height, new_width, seed):
    """A bright rectangle stays inside its box, and the box around it stays tight."""
    rng = np.random.default_rng(seed)
    x, y = rng.integers(0, width - 4), rng.integers(0, height - 4)
    w, h = rng.integers(4, width - x + 1), rng.integers(4, height - y + 1)
    image = np.zeros((height, width), np.uint8)
    image[y : y + h, x : x + w] = 255
    pair = Pair("p", image, image, np.array([[x, y, w, h]], float), ["car"]).resized(
        (new_height, new_width)
    )
    assert pair.infrared.shape == pair.visible.shape == (new_height, new_width)
    rows, columns = np.nonzero(pair.infrared > pair.infrared.max() / 2)
    found = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
    box = pair.boxes[0]
    assert np.abs(np.array([box[0], box[1], box[0] + box[2], box[1] + box[3]]) - found).max() <= 1.5


def test_size_of_the_whole_set(tmp_path):
    annotate(make(tmp_path))
    for pair in InfraredVisible(tmp_path, size=(20, 100)):
        assert pair.infrared.shape == (20, 100) and pair.visible.shape == (20, 100, 3)
    assert InfraredVisible(tmp_path, size=(20, 100))["a"].boxes.tolist() == [[2, 1, 20, 10]]


def test_splits_and_names(tmp_path):
    entries = [
        {"id": 7, "file_name": "vi/a.png", "split": "train"},
        {"id": 9, "file_name": "b.png", "split": "val"},
    ]
    annotate(make(tmp_path), (), entries=entries)
    assert InfraredVisible(tmp_path, "val").names == ["b"]
    assert InfraredVisible(tmp_path, names=["b.png", "a"]).names == ["b", "a"]
    images.write_text(tmp_path / "splits.json", json.dumps({"val": ["a.png"]}))
    assert InfraredVisible(tmp_path, "val").names == ["a"]
    for call, message in (
        (lambda: InfraredVisible(tmp_path, "test"), "split: .* has val, got 'test'"),
        (
            lambda: InfraredVisible(tmp_path, "val", ["b"]),
            "names: expected images of .* in split 'val', got 'b'",
        ),
        (lambda: InfraredVisible(tmp_path, names=["z"]), "names: expected images of .*, got 'z'"),
        (
            lambda: InfraredVisible(tmp_path, classes=["dragon"]),
            "classes: expected some of .*'dragon'",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            call()
    images.write_text(tmp_path / "splits.json", json.dumps({"val": ["a", "z"]}))
    with pytest.raises(ValueError, match="'val' of .* names 'z', found no such image"):
        InfraredVisible(tmp_path, "val")


def test_slack_is_cut(tmp_path):
    annotate(make(tmp_path), [("a", [-0.6, 0, 51.2, 40.5], 1)])
    assert InfraredVisible(tmp_path)["a"].boxes.tolist() == [[0, 0, 50, 40]]


@pytest.mark.parametrize(
    ("boxes", "message"),
    [
        (
            [("a", [45, 2, 10, 5], 1)],
            r"a.png: expected boxes .* inside 40x50 .*, got \[45, 2, 10, 5\]",
        ),
        ([("a", [-3, 2, 10, 5], 1)], "expected boxes .* inside 40x50"),
        ([("a", [3, 2, 0, 5], 1)], "expected boxes .* inside 40x50"),
        ([("a", [3, 2, float("nan"), 5], 1)], "expected boxes .* inside 40x50"),
        ([("a", [3, 2, 5], 1)], "expected annotation 0 to have four numbers"),
        ([("a", [3, 2, "5", 5], 1)], "expected annotation 0 to have four numbers"),
        ([("z", [3, 2, 5, 5], 1)], "expected annotation 0 to have four numbers and a listed image"),
        ([("a", [3, 2, 5, 5], 4)], "expected classes out of .*, got '4'"),
    ],
)
def test_bad_boxes(tmp_path, boxes, message):
    annotate(make(tmp_path), boxes)
    with pytest.raises(ValueError, match=message):
        InfraredVisible(tmp_path)["a"]


def test_bad_folders(tmp_path):
    with pytest.raises(FileNotFoundError, match="expected a folder with ir and vi"):
        InfraredVisible(tmp_path / "none")
    with pytest.raises(FileNotFoundError, match="expected one folder of infrared images"):
        InfraredVisible(tmp_path)
    make(tmp_path)
    with pytest.raises(FileNotFoundError, match="other.json: expected a COCO annotation file"):
        InfraredVisible(tmp_path, annotations="other.json")
    images.write_text(tmp_path / "annotations.json", "[]")
    with pytest.raises(ValueError, match="annotations.json: expected a JSON object, got list"):
        InfraredVisible(tmp_path)
    images.write_text(tmp_path / "annotations.json", "{")
    with pytest.raises(ValueError, match="annotations.json: expected a JSON file"):
        InfraredVisible(tmp_path)
    images.write_text(tmp_path / "annotations.json", '{"images": []}')
    with pytest.raises(ValueError, match="expected COCO lists .*'annotations' is missing"):
        InfraredVisible(tmp_path)
    annotate(tmp_path, categories=("dragon",))
    with pytest.raises(ValueError, match="expected classes out of .*, got 'dragon'"):
        InfraredVisible(tmp_path)
    annotate(tmp_path, entries=[{"id": 0, "file_name": "a.png", "height": 80, "width": 100}])
    with pytest.raises(ValueError, match="expected 80x100 .* got 40x50"):
        InfraredVisible(tmp_path)["a"]
    (tmp_path / "IR").mkdir()
    with pytest.raises(
        ValueError, match="expected one folder of infrared images.* found IR and ir"
    ):
        InfraredVisible(tmp_path)


def test_bad_pairs(tmp_path):
    make(tmp_path)
    images.write(tmp_path / "vi" / "b.png", np.zeros((33, 48), np.uint8))
    with pytest.raises(ValueError, match="b.png: expected one size, got 33x47 and 33x48"):
        InfraredVisible(tmp_path)["b"]
    (tmp_path / "vi" / "b.png").unlink()
    with pytest.raises(ValueError, match="ir.b.png: expected a partner among the visible images"):
        InfraredVisible(tmp_path)
    assert InfraredVisible(tmp_path, names=["a"]).names == ["a"]
    with pytest.raises(KeyError, match="expected one of its 1 names, got 'b'"):
        InfraredVisible(tmp_path, names=["a"])["b"]


@pytest.mark.parametrize("name", ["msrs", "roadscene", "m3fd"])
def test_real_sets(fusion_data, name):
    folder = fusion_data / "ivif" / name
    pairs = InfraredVisible(folder, "val")
    coco = json.loads((folder / "annotations.json").read_text())
    expected = {entry["id"] for entry in coco["images"] if entry["split"] == "val"}
    boxes = sum(len(pair.boxes) for pair in pairs)
    assert len(pairs) == len(expected) > 0
    assert boxes == sum(one["image_id"] in expected for one in coco["annotations"])
    assert all(pair.infrared.ndim == 2 and pair.visible.ndim == 3 for pair in pairs)


def test_real_set_without_boxes(fusion_data):
    pairs = InfraredVisible(fusion_data / "ivif" / "tno")
    assert len(pairs) == 12 and all(pair.boxes is None for pair in pairs)
