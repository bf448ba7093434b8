"""Laplacian pyramid: numbers of the reference toolbox, exact reconstruction, linearity, bad
input.
"""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusionlib.transforms import Bands, LaplacianPyramid
from fusionlib.transforms.laplacian import BORDERS, max_levels

GOLDEN = json.loads((Path(__file__).parent / "oracles" / "lap_golden.json").read_text())["images"]
IDS = [f"{image['H']}x{image['W']}" for image in GOLDEN]


def picture(height: int, width: int, seed: int) -> np.ndarray:
    """Return the pseudo-random image of the oracle (Park-Miller generator)."""
    values = np.empty(height * width)
    for i in range(values.size):
        seed = 16807 * seed % (2**31 - 1)
        values[i] = seed >> 23
    return values.reshape(height, width)


def checksum(v: np.ndarray) -> float:
    return float((v.ravel() * (np.arange(v.size) % 7 + 1)).sum())


def close(got, expected, scale):
    """Compare sums relative to the size of what was summed, single values absolutely."""
    np.testing.assert_array_less(
        np.abs(np.subtract(got, expected)), 1e-12 * np.asarray(scale) + 1e-10
    )


@pytest.fixture(scope="module", params=GOLDEN, ids=IDS)
def golden(request):
    image = request.param
    a, b = (picture(image["H"], image["W"], image[seed]) for seed in ("seedA", "seedB"))
    assert (a.sum(), b.sum()) == (image["sumA"], image["sumB"])
    return image, a, b


def test_bands_equal_the_toolbox(golden):
    image, a, _ = golden
    bands = LaplacianPyramid(4).forward(a)
    assert bands.shape == a.shape
    for expected, v in zip(image["bands_of_A"], bands.high, strict=True):
        assert list(v.shape) == expected[1:3]
        close((v**2).sum(), expected[3], (v**2).sum())
        close(checksum(v), expected[4], 4 * np.abs(v).sum())
        close([v[0, 0], v[0, 1], v[1, 1], v[4, 6]], expected[5:], 255)
    v, expected = bands.low, image["base_of_A"]
    assert list(v.shape) == expected[1:3]
    close((v**2).sum(), expected[3], (v**2).sum())
    close(checksum(v), expected[4], 4 * np.abs(v).sum())
    close([v[0, 0], v[1, 1]], expected[5:], 255)


def test_fused_images_equal_the_toolbox(golden):
    image, a, b = golden
    for levels, rule, area, total, squares, k, first, last in image["fused"]:
        pyramid = LaplacianPyramid(levels)
        f = pyramid.inverse(
            pyramid.fuse(pyramid.forward(a), pyramid.forward(b), rule=rule, area=area or 3)
        )
        close(
            [f.sum(), (f**2).sum(), checksum(f)],
            [total, squares, k],
            [f.sum(), (f**2).sum(), 4 * f.sum()],
        )
        close([f[0, 0], f[-1, -1]], [first, last], 255)


@settings(deadline=None, max_examples=60)
@given(
    st.integers(3, 70),
    st.integers(3, 70),
    st.integers(1, 6),
    st.sampled_from(BORDERS),
    st.integers(1),
)
def test_integers_of_any_size_are_rebuilt_exactly(height, width, levels, border, seed):
    levels = min(levels, max_levels((height, width)))
    x = np.random.default_rng(seed).integers(0, 256, (height, width), dtype=np.uint8)
    pyramid = LaplacianPyramid(levels, border)
    bands = pyramid.forward(x)
    # The kernel is dyadic: up to 6 levels of 8 bits each stay far inside the 53 bits of float64.
    assert np.array_equal(pyramid.inverse(bands), x)
    assert bands.low.shape == tuple(-(-side // 2**levels) for side in x.shape)


@pytest.mark.parametrize("shape", [(64, 64), (33, 47)])
@pytest.mark.parametrize("border", BORDERS)
def test_the_pyramid_is_linear_and_the_base_image_is_its_part_of_it(shape, border):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, *shape))
    pyramid = LaplacianPyramid(3, border)
    both = pyramid.forward(2 * x - 3 * y)
    parts = pyramid.forward(x).map(lambda p, q: 2 * p - 3 * q, pyramid.forward(y))
    for got, expected in zip(both.arrays(), parts.arrays(), strict=True):
        np.testing.assert_allclose(got, expected, atol=1e-13)
    only_base = both.map(np.zeros_like, low=lambda low: low)
    np.testing.assert_allclose(
        pyramid.base_image(both.low, shape), pyramid.inverse(only_base), atol=1e-13
    )


def test_borders_differ_in_the_corners_only_and_reflect_keeps_a_constant():
    flat = np.full((32, 32), 100.0)
    assert all((band == 0).all() for band in LaplacianPyramid(3, "reflect").forward(flat).high)
    bands = LaplacianPyramid(1, "toolbox").forward(flat)
    # What is left of the kernel [1 4 6 4 1]/16 where the corner block is missing: two of its taps
    # reach over the first border, one over the last (the last kept sample is the last but one).
    assert bands.low[0, 0] == 100 * (1 - (5 / 16) ** 2) == 90.234375
    assert bands.low[0, -1] == bands.low[-1, 0] == 100 * (1 - 5 / 16 * 1 / 16)
    assert bands.low[-1, -1] == 100 * (1 - (1 / 16) ** 2)
    assert (bands.low[1:-1] == 100).all()
    assert (bands.low[:, 1:-1] == 100).all()


def test_only_the_corners_of_the_two_borders_differ_on_a_picture():
    x = picture(64, 64, 5)
    difference = (
        LaplacianPyramid(1, "toolbox").forward(x).high[0]
        != LaplacianPyramid(1, "reflect").forward(x).high[0]
    )
    assert difference.any()
    assert not difference[4:-4].any()
    assert not difference[:, 4:-4].any()


def test_float32_and_integers_are_computed_in_float64():
    x = picture(40, 40, 9)
    for kind in (np.uint8, np.int16, np.float32):
        assert LaplacianPyramid().forward(x.astype(kind)).low.dtype == np.float64
        assert np.array_equal(
            LaplacianPyramid().forward(x.astype(kind)).low, LaplacianPyramid().forward(x).low
        )


@pytest.mark.parametrize(
    ("shape", "levels"), [((3, 3), 1), ((5, 5), 2), ((33, 1000), 5), ((64, 64), 5), ((2, 9), 0)]
)
def test_max_levels_is_the_last_that_works(shape, levels):
    assert max_levels(shape) == levels
    x = np.ones(shape)
    if levels:
        LaplacianPyramid(levels).forward(x)
    with pytest.raises(ValueError, match=f"allows {levels + 1} levels, got {shape[0]}x{shape[1]}"):
        LaplacianPyramid(levels + 1).forward(x)


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: LaplacianPyramid(0), ValueError, "levels: expected a positive integer, got 0"),
        (lambda: LaplacianPyramid(2.5), TypeError, "levels: expected a positive integer, got 2.5"),
        (lambda: LaplacianPyramid(True), TypeError, "levels"),
        (
            lambda: LaplacianPyramid(border="wrap"),
            ValueError,
            "border: expected one of toolbox, reflect, got 'wrap'",
        ),
        (lambda: LaplacianPyramid().forward(np.zeros((64, 64, 3))), TypeError, "real array"),
        (lambda: LaplacianPyramid().forward(np.zeros((64, 64), complex)), TypeError, "real array"),
        (
            lambda: LaplacianPyramid().forward(np.full((64, 64), np.nan)),
            ValueError,
            "x: expected finite values",
        ),
        (
            lambda: LaplacianPyramid(2).inverse(LaplacianPyramid(3).forward(np.ones((64, 64)))),
            ValueError,
            "2 high",
        ),
        (
            lambda: LaplacianPyramid(1).inverse(Bands(np.ones((3, 3)), [np.ones((8, 8))])),
            ValueError,
            "expected a base of",
        ),
        (
            lambda: LaplacianPyramid(1).inverse(Bands(np.ones((4, 4)), [np.ones((8, 6))], (8, 8))),
            ValueError,
            "a band of",
        ),
    ],
)
def test_bad_input_is_one_sentence(make, error, words):
    with pytest.raises(error, match=words) as caught:
        make()
    assert "\n" not in str(caught.value)
