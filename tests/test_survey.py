"""What a set holds: counts, light, contrast, and maps from boxes."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusionlib.datasets import survey
from fusionlib.datasets.infrared_visible import InfraredVisible, Pair
from fusionlib.datasets.scenes import scene, write_scenes


def square(inside, outside, box=(20, 12, 16, 24), size=(60, 70)):
    image = np.full(size, outside, np.uint8)
    x, y, w, h = box
    image[y : y + h, x : x + w] = inside
    return image, np.array([box], float)


@given(st.integers(0, 255), st.integers(0, 255))
def test_contrast_of_a_square_is_its_step(inside, outside):
    image, boxes = square(inside, outside)
    assert survey.contrast(image, boxes) == pytest.approx(abs(inside - outside))
    assert survey.contrast(255 - image, boxes) == pytest.approx(abs(inside - outside))


@given(st.integers(0, 54), st.integers(0, 44), st.integers(2, 16), st.integers(2, 16))
def test_contrast_at_the_border_and_of_small_boxes(x, y, w, h):
    """Boxes that touch the border have surroundings on the other sides."""
    image, boxes = square(200, 50, (x, y, w, h))
    assert survey.contrast(image, boxes) == pytest.approx(150)


def test_contrast_ignores_what_is_far():
    image, boxes = square(90, 60)
    image[:, 60:] = 255
    assert survey.contrast(image, boxes) == pytest.approx(30)


def test_contrast_refuses():
    image, boxes = square(1, 2)
    assert survey.contrast(image, np.empty((0, 4))).shape == (0,)
    assert np.isnan(survey.contrast(image[:10, :10], [[0, 0, 10, 10]])).all()
    with pytest.raises(ValueError, match="gray: expected a gray image"):
        survey.contrast(np.stack([image] * 3, axis=2), boxes)
    with pytest.raises(ValueError, match="at least 2 x 2"):
        survey.contrast(image, [[3, 3, 1, 9]])


def test_contrasts_of_a_class():
    image, boxes = square(90, 60)
    boxes = np.concatenate([boxes, boxes, [[50, 40, 4, 9]]])
    pair = Pair(
        "a", image, np.stack([255 - image // 2] * 3, axis=2), boxes, ["person", "car", "person"]
    )
    found = survey.contrasts([pair, Pair("b", image, image)])
    assert found["pair"].tolist() == ["a"] and found.loc[0, ["infrared", "visible"]].tolist() == [
        30,
        15,
    ]
    assert survey.contrasts([Pair("b", image, image)]).columns.tolist() == [
        "pair",
        "infrared",
        "visible",
    ]


def test_contents_and_conditions(tmp_path):
    pairs = list(InfraredVisible(write_scenes(tmp_path, range(6), (40, 56))))
    pairs += [Pair("gray", pairs[0].infrared[:33], pairs[0].infrared[:33], None, [])]
    found = survey.contents(pairs)
    made = [scene(seed, (40, 56)) for seed in range(6)]
    assert found["person"].tolist() == [one.labels.count("person") for one in made] + [0]
    assert found["height"].tolist() == [40] * 6 + [33] and found["colour"].tolist() == [
        True
    ] * 6 + [False]
    assert found["annotated"].tolist() == [True] * 6 + [False]
    assert survey.conditions(tmp_path, found.index) == [one.condition for one in made] + [
        survey.UNSTATED
    ]
    assert survey.conditions(tmp_path / "ir", ["a"]) == [survey.UNSTATED]
    (tmp_path / "annotations.json").write_text(
        json.dumps({"images": [{"file_name": "a.png", "time": "dawn"}]})
    )
    assert survey.conditions(tmp_path, ["a", "b"]) == ["dawn", survey.UNSTATED]


@given(st.floats(0, 60), st.floats(0, 40), st.floats(3, 12), st.floats(3, 12), st.floats(0, 1))
def test_soft_map(x, y, w, h, strength):
    drawn = survey.soft_map(np.array([[x, y, w, h]]), [strength], (60, 80))
    assert drawn.shape == (60, 80) and drawn.min() >= 0 and drawn.max() <= strength + 1e-12
    assert drawn[int(y + h / 2), int(x + w / 2)] == pytest.approx(strength)
    assert drawn[-1, -1] == 0
    both = survey.soft_map(np.array([[x, y, w, h], [0, 0, 80, 60]]), [strength, 0.5], (60, 80))
    assert np.array_equal(both, np.maximum(drawn, 0.5))


def test_soft_map_without_boxes():
    assert (survey.soft_map(None, [], (4, 5)) == 0.5).all()
    assert (survey.soft_map(np.empty((0, 4)), [], (4, 5)) == 0).all()
    with pytest.raises(ValueError, match="strengths: expected 1 numbers"):
        survey.soft_map(np.array([[1, 1, 2, 2]]), [1.5], (4, 5))


def test_generated_persons_stand_out_where_the_light_says(tmp_path):
    """The claim of notebook 10 on few scenes: infrared at night, visible by day."""
    made = [
        scene(seed, (96, 128), condition) for condition in ("day", "night") for seed in range(6)
    ]
    pairs = [Pair(one.condition, one.infrared, one.visible, one.boxes, one.labels) for one in made]
    medians = survey.contrasts(pairs).groupby("pair").median()
    assert medians.loc["night", "infrared"] > 2 * medians.loc["night", "visible"]
    assert medians.loc["day", "visible"] > 2 * medians.loc["day", "infrared"]
