"""The zoom boxes of figures 3 to 5: where they are put, what is measured in them, and that the
figure shows them.
"""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fusionlib.datasets.infrared_visible import Pair
from fusionlib.experiments import zoom
from fusionlib.experiments.zoom import Box
from fusionlib.figures import fused as figures_fused

pytestmark = pytest.mark.usefixtures("figures_closed")


@given(st.integers(0, 10_000), st.integers(1, 9), st.integers(1, 9))
@settings(max_examples=30, deadline=None)
def test_window_means_are_means(seed, height, width):
    values = np.random.default_rng(seed).random((9, 11))
    found = zoom.window_means(values, (height, width))
    assert found.shape == (10 - height, 12 - width)
    for (y, x), mean in np.ndenumerate(found):
        assert mean == pytest.approx(values[y : y + height, x : x + width].mean())


def test_disagreement_is_zero_where_all_agree():
    one = np.random.default_rng(0).integers(0, 256, (12, 16)).astype(np.uint8)
    other = one.copy()
    other[3, 4] ^= 0b1000
    spread = zoom.disagreement([one, other])
    assert spread[3, 4] == 4 and np.count_nonzero(spread) == 1
    with pytest.raises(ValueError, match="at least two methods to compare, got 1"):
        zoom.disagreement([one])


def test_red_holds_the_object_that_differs_and_green_the_texture_that_does():
    plain = np.full((60, 80), 100, np.uint8)
    other = plain.copy()
    other[30:42, 50:56] += 60  # the second object
    other[5:15, 5:20:2] += 40  # stripes, no object there
    objects = np.array([[10, 35, 6, 12], [50, 30, 6, 12.0]])
    red, green = zoom.choose([plain, other], objects)
    assert red.x <= 50 and red.x + red.width >= 56 and red.y <= 30 and red.y + red.height >= 42
    assert green.x <= 19 and green.y <= 14
    assert np.ptp(green.of(other)) == 40


@given(st.integers(0, 10_000), st.integers(0, 6), st.floats(0.05, 0.4))
@example(794, 5, 0.375)  # a large object in the middle leaves less than a share on any side
@example(13, 0, 0.4)
@settings(max_examples=40, deadline=None)
def test_boxes_are_inside_and_apart(seed, count, share):
    rng = np.random.default_rng(seed)
    pictures = rng.integers(0, 256, (3, 40, 52)).astype(np.uint8)
    objects = np.c_[
        rng.uniform(0, 40, count), rng.uniform(0, 28, count), rng.uniform(2, 12, (count, 2))
    ]
    red, green = zoom.choose(pictures, objects, share)
    for box in (red, green):
        assert zoom.check(box, pictures[0].shape) == box
    assert (
        red.x + red.width <= green.x
        or green.x + green.width <= red.x
        or red.y + red.height <= green.y
        or green.y + green.height <= red.y
    )


def test_nobody_looked_for_objects():
    plain, other = np.zeros((2, 40, 60), np.uint8)
    other[20:30, 40:55] = 200
    red, green = zoom.choose([plain, other])
    assert red.of(other).sum() == other.sum()
    assert (
        green.x + green.width <= red.x
        or green.y + green.height <= red.y
        or green.y >= red.y + red.height
    )


@pytest.mark.parametrize(
    ("box", "message"),
    [
        ([1, 2, 3], "expected x, y, width, height"),
        ([0, 0, 1, 5], "at least 2x2"),
        ([35, 0, 10, 10], "inside 30x40"),
        ([0.5, 0, 10, 10], "whole pixels"),
    ],
)
def test_bad_boxes(box, message):
    with pytest.raises(ValueError, match=message):
        zoom.check(box, (30, 40), "red")


def test_measure_by_hand():
    picture = np.full((40, 60), 50, np.uint8)
    picture[10:30, 8:18] = 90
    picture[:, 40:] = np.arange(20) * 4
    found = zoom.measure(
        {"a": picture}, Box(5, 5, 20, 28), Box(45, 5, 10, 10), np.array([[8, 10, 10, 20.0]])
    )
    assert found.loc["a", "foreground contrast"] == 40
    # A ramp of 4 a pixel: sqrt((4^2 + 0) / 2), but for how AG treats the border.
    assert found.loc["a", "background gradient"] == pytest.approx(4 / np.sqrt(2), rel=0.25)
    assert (
        zoom.measure({"a": picture}, Box(8, 10, 10, 20), Box(45, 5, 10, 10)).loc[
            "a", "foreground contrast"
        ]
        == 40
    )


def test_pick():
    image = np.zeros((4, 4), np.uint8)
    empty, one, two = (
        Pair(name, image, image, np.zeros((len(labels), 4)), labels)
        for name, labels in (("empty", []), ("one", ["car"]), ("two", ["car"]))
    )
    pairs = [empty, one, two]
    assert (
        zoom.pick(pairs) is one
        and zoom.pick(pairs, taken=["one"]) is two
        and zoom.pick(pairs, "empty") is empty
    )
    assert zoom.pick([empty]) is empty
    with pytest.raises(ValueError, match="expected one named 'three', found none"):
        zoom.pick(pairs, "three")


def test_figure_shows_the_parts(tmp_path):
    rng = np.random.default_rng(1)
    pictures = {name: rng.integers(0, 256, (30, 40, 3)).astype(np.uint8) for name in "abcde"}
    red, green = (4, 6, 12, 9), (22, 15, 10, 10)
    figure = figures_fused.zooms(pictures, red, green, columns=3)
    assert len(figure.axes) == 3 * len(pictures)
    for number, picture in enumerate(pictures.values()):
        whole, left, right = figure.axes[3 * number : 3 * number + 3]
        assert np.array_equal(whole.images[0].get_array(), picture)
        assert [patch.get_bbox().bounds for patch in whole.patches] == [
            (3.5, 5.5, 12, 9),
            (21.5, 14.5, 10, 10),
        ]
        assert np.array_equal(left.images[0].get_array(), picture[6:15, 4:16])
        assert np.array_equal(right.images[0].get_array(), picture[15:25, 22:32])
    places = [axis.get_position() for axis in figure.axes]
    assert all(0 <= one.x0 < one.x1 <= 1.0001 and -0.0001 <= one.y0 < one.y1 <= 1 for one in places)
    assert not any(
        a.overlaps(b)
        for i, a in enumerate(places)
        for b in places[:i]
        if min(a.x1, b.x1) - max(a.x0, b.x0) > 1e-6 and min(a.y1, b.y1) - max(a.y0, b.y0) > 1e-6
    )
