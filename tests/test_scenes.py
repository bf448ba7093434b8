"""The built-in street scenes: any size, reproducible, boxes that fit what is drawn, and why fusion
helps in them.
"""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusionlib import images
from fusionlib.datasets import scenes
from fusionlib.datasets.scenes import CLASSES, CONDITIONS, scene, write_scenes


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 10**6), st.integers(32, 130), st.integers(32, 170), st.sampled_from(CONDITIONS)
)
def test_any_size_and_seed(seed, height, width, condition):
    made = scene(seed, (height, width), condition)
    assert made.infrared.shape == (height, width) and made.visible.shape == (height, width, 3)
    assert made.infrared.dtype == made.visible.dtype == np.uint8 and made.condition == condition
    assert made.boxes.shape == (len(made.labels), 4) and set(made.labels) <= set(CLASSES)
    x, y, w, h = made.boxes.T
    assert (x >= 0).all() and (y >= 0).all() and (x + w <= width).all() and (y + h <= height).all()
    assert (np.minimum(w, h) >= scenes.SMALLEST).all()


def test_seed_decides():
    a, b, c = scene(5), scene(5), scene(6)
    assert np.array_equal(a.infrared, b.infrared) and np.array_equal(a.visible, b.visible)
    assert np.array_equal(a.boxes, b.boxes) and not np.array_equal(a.visible, c.visible)
    assert [scene(seed).condition for seed in range(8)] == [*CONDITIONS, *CONDITIONS]


def test_conditions_of_a_seed_show_the_same_street():
    for seed in range(6):
        made = [scene(seed, condition=condition) for condition in CONDITIONS]
        assert all(
            np.array_equal(m.boxes, made[0].boxes) and m.labels == made[0].labels for m in made
        )
        assert len({m.visible.tobytes() for m in made}) == len(CONDITIONS)


def test_every_scene_has_objects_and_all_classes_occur():
    labels = [scene(seed).labels for seed in range(40)]
    assert all("person" in found for found in labels)
    assert min(sum(name in found for found in labels) for name in CLASSES) >= 8


def test_boxes_are_the_visible_extent(monkeypatch):
    """Draw each object by itself over the same street: the box is what of it remains under the
    nearer ones.
    """
    for seed in range(8):
        streets = []

        class Kept(scenes.Street):
            def __init__(self, *arguments, kept=streets):
                super().__init__(*arguments)
                self.drawn = []
                kept.append(self)

            def draw(self, number, o):
                alone = np.full(self.size, -1)
                covering, self.owner = self.owner, alone
                area = super().draw(number, o)
                mask, self.owner = (
                    self.owner == number,
                    np.where(self.owner == number, number, covering),
                )
                self.drawn.append((number, o, mask, area))
                return area

        monkeypatch.setattr(scenes, "Street", Kept)
        made = scene(seed, (96, 128))
        (street,) = streets
        assert [o.z for _, o, _, _ in street.drawn] == sorted(
            (o.z for _, o, _, _ in street.drawn), reverse=True
        )
        expected, nearer = [], np.zeros((96, 128), bool)
        for _, o, mask, area in reversed(street.drawn):
            seen = mask & ~nearer
            nearer |= mask
            if o.label is not None and seen.any() and seen.sum() >= scenes.VISIBLE_SHARE * area:
                rows, columns = np.nonzero(seen)
                box = [columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1]
                if min(box[2:]) >= scenes.SMALLEST:
                    expected.append(box)
        assert np.array_equal(made.boxes, np.array(expected, float).reshape(-1, 4))


def test_larger_images_show_the_same_scene():
    """Boxes scale with the size, up to the pixel grid."""
    for seed in range(5):
        small, large = (scene(seed, size) for size in ((96, 128), (288, 384)))
        for label in ("car",):
            a = small.boxes[[i for i, name in enumerate(small.labels) if name == label]]
            b = large.boxes[[i for i, name in enumerate(large.labels) if name == label]] / 3
            assert all(np.abs(b - box).max(axis=1).min() <= 2 for box in a)


def contrast(gray, box):
    """Difference of the means of a person's trunk and of a frame around the box, in gray levels."""
    x, y, w, h = (int(v) for v in box)
    across, along = max(w // 2, 2), max(h // 6, 2)
    around = gray[max(y - along, 0) : y + h + along, max(x - across, 0) : x + w + across].astype(
        float
    )
    inside = gray[y : y + h, x : x + w].astype(float)
    body = gray[y + h // 8 : y + 3 * h // 4, x + w // 4 : x + 3 * w // 4]
    return abs(body.mean() - (around.sum() - inside.sum()) / (around.size - inside.size))


@pytest.fixture(scope="module")
def person_contrasts():
    """Per condition (infrared, visible) of every person at least 6 pixels wide in 25 streets."""
    found = {}
    for condition in CONDITIONS:
        values = []
        for seed in range(25):
            made = scene(seed, (96, 128), condition)
            gray = images.luma(made.visible)
            values += [
                (contrast(made.infrared, box), contrast(gray, box))
                for box, label in zip(made.boxes, made.labels, strict=True)
                if label == "person" and box[2] >= 6
            ]
        found[condition] = np.array(values)
    return found


@pytest.mark.parametrize("condition", ["dusk", "night", "smoke"])
def test_persons_stand_out_in_infrared(person_contrasts, condition):
    infrared, visible = person_contrasts[condition].T
    assert len(infrared) > 50
    assert np.median(infrared) > 1.5 * np.median(visible) and (infrared > visible).mean() > 0.85


def test_persons_stand_out_in_the_visible_image_by_day(person_contrasts):
    infrared, visible = person_contrasts["day"].T
    assert np.median(visible) > 1.5 * np.median(infrared) and (visible > infrared).mean() > 0.7


def test_infrared_looks_infrared():
    """Cold sky above warm ground, no texture of paint; the visible day is bright, the night dark
    with glare.
    """
    for seed in range(4):
        day, night = scene(seed, condition="day"), scene(seed, condition="night")
        assert night.infrared[:8].mean() + 30 < night.infrared[-20:].mean()
        assert day.visible[:8].mean() > 120 and np.median(night.visible) < 0.6 * np.median(
            day.visible
        )
        assert (night.visible.max(axis=2) > 250).mean() > 0.0005
        # Neighbouring pixels differ less in infrared: a softer lens, and no paint.
        roughness = [
            np.abs(np.diff(gray.astype(float))).mean()
            for gray in (day.infrared, images.luma(day.visible))
        ]
        assert roughness[0] < 0.75 * roughness[1]


def test_written_set(tmp_path):
    write_scenes(tmp_path, [3, 8, 1], (40, 56), evaluation=1 / 3)
    coco = json.loads((tmp_path / "annotations.json").read_text())
    assert [entry["file_name"] for entry in coco["images"]] == [
        "00003_smoke.png",
        "00008_day.png",
        "00001_dusk.png",
    ]
    assert [entry["split"] for entry in coco["images"]] == ["train", "train", "val"]
    splits = json.loads((tmp_path / "splits.json").read_text())
    assert splits == {"train": ["00003_smoke", "00008_day"], "val": ["00001_dusk"]}
    made = scene(8, (40, 56))
    assert np.array_equal(images.read(tmp_path / "ir" / "00008_day.png"), made.infrared)
    assert np.array_equal(images.read(tmp_path / "vi" / "00008_day.png"), made.visible)
    number = coco["images"][1]["id"]
    assert [
        one["bbox"] for one in coco["annotations"] if one["image_id"] == number
    ] == made.boxes.tolist()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((-1,), "seed: expected 0 or more, got -1"),
        ((0, (31, 64)), "size: expected height and width of at least 32"),
        ((0, ("a", 64)), r"size: expected .* of at least 32, got \('a', 64\)"),
        ((0, (64.5, 64)), "size: expected .*got"),
        ((0, (64, 64, 3)), "size: expected .*got"),
        ((0, "64"), "size: expected .*got '64'"),
        ((0, (64, 64), "fog"), "condition: expected one of .*got 'fog'"),
    ],
)
def test_bad_input(arguments, message):
    with pytest.raises(ValueError, match=message):
        scene(*arguments)
