"""Curvelets: numbers of the reference transform, tight frame, adjoint = inverse, any size, bad
input.
"""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusionlib.transforms import Curvelet
from fusionlib.transforms.curvelet import FINEST
from fusionlib.transforms.wrapping import default_scales

GOLDEN = json.loads((Path(__file__).parent / "oracles" / "fdct_golden.json").read_text())["images"]
CASES = [
    pytest.param(
        image, case, id=f"{image['H']}x{image['W']}-{case['finest']}-{'real' * case['is_real']}"
    )
    for image in GOLDEN
    for case in image["configs"]
]
SIZES = [(31, 31), (31, 500), (33, 33), (48, 64), (64, 48), (100, 301), (128, 127)]


def picture(height: int, width: int, seed: int) -> np.ndarray:
    """Return the pseudo-random image of the oracle (Park-Miller generator)."""
    values = np.empty(height * width)
    for i in range(values.size):
        seed = 16807 * seed % (2**31 - 1)
        values[i] = seed >> 23
    return values.reshape(height, width)


def scales_of(bands) -> list[list[np.ndarray]]:
    """List the wedges of each scale, coarsest first."""
    return [[bands.low]] + [
        scale if isinstance(scale, list) else [scale] for scale in reversed(bands.high)
    ]


def energy(bands) -> float:
    return sum(float((np.abs(band) ** 2).sum()) for band in bands.arrays())


def inner(a, b) -> complex:
    return sum(np.vdot(p, q) for p, q in zip(a.arrays(), b.arrays(), strict=True))


def random_like(bands, seed: int):
    """Return coefficients that are not the transform of any image."""
    rng = np.random.default_rng(seed)

    def draw(band):
        values = rng.normal(size=band.shape)
        return values + 1j * rng.normal(size=band.shape) if np.iscomplexobj(band) else values

    return bands.map(draw)


def test_the_oracle_holds_850_wedges():
    assert sum(len(case["wedges"]) for image in GOLDEN for case in image["configs"]) == 850


@pytest.mark.parametrize(("image", "case"), CASES)
def test_every_wedge_equals_the_reference(image, case):
    x = picture(image["H"], image["W"], image["seed"])
    assert (x.sum(), (x**2).sum()) == (image["sum"], image["sumsq"])
    transform = Curvelet(x.shape, finest=case["finest"], real=case["is_real"])
    assert transform.scales == case["nbscales"] == default_scales(x.shape)
    bands = transform.forward(x)
    scales = scales_of(bands)
    assert [len(scale) for scale in scales] == case["nbangles"]
    for j, angle, rows, columns, total, real, imaginary, k_real, k_imaginary in case["wedges"]:
        c = scales[j - 1][angle - 1]
        assert c.shape == (rows, columns)
        k = (c.ravel() * (np.arange(c.size) % 7 + 1)).sum()
        # Relative to the energy, to the typical coefficient, and to a checksum without
        # cancellation.
        assert abs((np.abs(c) ** 2).sum() - total) <= 1e-10 * total
        assert abs(c[0, 0] - complex(real, imaginary)) <= 1e-10 * np.sqrt(total / c.size)
        assert abs(k - complex(k_real, k_imaginary)) <= 1e-10 * np.sqrt(total * c.size)
    assert energy(bands) == pytest.approx(image["sumsq"], rel=1e-13)


@pytest.mark.parametrize("real", [True, False])
@pytest.mark.parametrize("finest", FINEST)
@pytest.mark.parametrize("shape", SIZES)
def test_reconstruction_energy_and_dot_test_at_any_size(shape, finest, real):
    rng = np.random.default_rng(0)
    x = rng.random(shape) if real else rng.random(shape) + 1j * rng.random(shape)
    transform = Curvelet(shape, finest=finest, real=real)
    bands = transform.forward(x)
    assert np.abs(transform.inverse(bands) - x).max() < 1e-12
    assert energy(bands) == pytest.approx((np.abs(x) ** 2).sum(), rel=1e-13)  # tight frame
    other = random_like(bands, 1)
    back = transform.inverse(other)
    scale = np.sqrt(energy(other) * energy(bands))
    # <T x, c> = <x, T* c>; over the reals the real parts agree, over the complex numbers all.
    assert abs(inner(bands, other) - np.vdot(x, back)) < 1e-12 * scale
    assert np.isrealobj(back) == real


@settings(deadline=None, max_examples=25)
@given(
    st.integers(31, 90),
    st.integers(31, 90),
    st.sampled_from([8, 16, 24]),
    st.sampled_from(FINEST),
    st.booleans(),
)
def test_any_size_and_angle_count_reconstructs(height, width, angles, finest, real):
    x = np.random.default_rng(height).random((height, width))
    transform = Curvelet(x.shape, angles=angles, finest=finest, real=real)
    assert np.abs(transform.inverse(transform.forward(x)) - x).max() < 1e-12


@pytest.mark.parametrize("finest", FINEST)
def test_real_coefficients_are_the_parts_of_the_complex_ones(finest):
    x = picture(96, 80, 4)
    real, full = (
        scales_of(Curvelet(x.shape, finest=finest, real=kind).forward(x)) for kind in (True, False)
    )
    for cosines, wedges in zip(real, full, strict=True):
        half = len(wedges) // 2
        for angle in range(half):
            np.testing.assert_allclose(cosines[angle], np.sqrt(2) * wedges[angle].real, atol=1e-11)
            np.testing.assert_allclose(
                cosines[angle + half], np.sqrt(2) * wedges[angle].imag, atol=1e-11
            )
            np.testing.assert_allclose(wedges[angle + half], wedges[angle].conj(), atol=1e-11)


@pytest.mark.parametrize("finest", FINEST)
@pytest.mark.parametrize("real", [True, False])
def test_base_image_is_the_inverse_of_the_base_alone(finest, real):
    x = picture(60, 75, 8)
    transform = Curvelet(x.shape, finest=finest, real=real)
    bands = transform.forward(x)
    expected = transform.inverse(bands.map(np.zeros_like, low=lambda low: low))
    np.testing.assert_allclose(transform.base_image(bands.low), expected, atol=1e-12)


def test_a_constant_lives_in_the_base_alone_and_has_the_stated_brightness():
    x = np.full((64, 96), 50.0)
    bands = Curvelet(x.shape).forward(x)
    np.testing.assert_allclose(bands.low, 50 * np.sqrt(x.size / bands.low.size), rtol=1e-13)
    assert max(np.abs(band).max() for scale in bands.high for band in scale) < 1e-12


def test_a_plane_wave_lights_the_wedge_of_its_direction():
    # Seven eighths of the upper half of the spectrum belong to other directions; frequency (-24, 6)
    # lies in the upper quadrant (angles 0 to 3 of 16), a little right of its axis.
    rows, columns = np.mgrid[:128, :128]
    x = np.exp(2j * np.pi * (-24 * rows + 6 * columns) / 128)
    bands = Curvelet(x.shape, scales=3, real=False).forward(x)
    energies = [(np.abs(wedge) ** 2).sum() for scale in bands.high for wedge in scale]
    finest, second = len(bands.high[0]), len(bands.high[1])
    assert (finest, second) == (32, 16)
    upper = sum(energies[:8]) + sum(energies[finest : finest + 4])
    assert upper > 0.999 * sum(energies)
    assert sum(energies[4:8]) + sum(energies[finest + 2 : finest + 4]) > 0.9 * sum(energies)


def test_two_scales_of_wavelets_are_a_low_pass_and_the_rest():
    x = np.random.default_rng(0).random((31, 40))
    bands = Curvelet(x.shape, scales=2, finest="wavelets").forward(x)
    assert [band.shape for band in bands.high] == [x.shape]


def test_plans_are_shared():
    assert Curvelet((64, 64))._plan is Curvelet([64, 64], scales=3)._plan


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (
            lambda: Curvelet((64, 64), angles=12),
            ValueError,
            "angles: expected a positive multiple of 8, got 12",
        ),
        (lambda: Curvelet((64, 64), angles=20), ValueError, "angles"),
        (lambda: Curvelet((64, 64), angles=16.0), ValueError, "angles"),
        (lambda: Curvelet((64, 64), angles=0), ValueError, "angles"),
        (
            lambda: Curvelet((16, 64)),
            ValueError,
            "shape: expected sides of at least 17 pixels for curvelets, got 16x64",
        ),
        (
            lambda: Curvelet((64, 64), scales=1),
            ValueError,
            "scales: expected an integer of at least 2, got 1",
        ),
        (
            lambda: Curvelet((64, 64), scales=6),
            ValueError,
            "large enough for 6 scales and 16 angles, got 64x64",
        ),
        (lambda: Curvelet((40, 40), scales=5), ValueError, "large enough for 5 scales"),
        (lambda: Curvelet((64, 64), scales=40), ValueError, "large enough for 40 scales"),
        (
            lambda: Curvelet((32, 32), angles=512),
            ValueError,
            "large enough for 2 scales and 512 angles",
        ),
        (
            lambda: Curvelet((64, 64), finest="ridgelets"),
            ValueError,
            "finest: expected one of curvelets, wavelets",
        ),
        (lambda: Curvelet(64), TypeError, r"shape: expected \(height, width\), got 64"),
        (lambda: Curvelet((64.5, 64)), TypeError, "shape"),
        (
            lambda: Curvelet((64, 64)).forward(np.zeros((64, 65))),
            ValueError,
            r"of shape \(64, 64\), got \(64, 65\)",
        ),
        (
            lambda: Curvelet((64, 64)).forward(np.zeros((64, 64), complex)),
            TypeError,
            "expected a real array",
        ),
        (
            lambda: Curvelet((64, 64)).forward(np.full((64, 64), np.inf)),
            ValueError,
            "expected finite values, got 4096",
        ),
        (
            lambda: Curvelet((64, 64)).inverse(Curvelet((64, 64), 4).forward(np.ones((64, 64)))),
            ValueError,
            "2 high-pass",
        ),
        (
            lambda: Curvelet((64, 64)).inverse(Curvelet((96, 64)).forward(np.ones((96, 64)))),
            ValueError,
            "bands: expected",
        ),
        (
            lambda: Curvelet((64, 64)).inverse(
                Curvelet((64, 64), angles=8).forward(np.ones((64, 64)))
            ),
            ValueError,
            "wedges",
        ),
    ],
)
def test_bad_input_is_one_sentence(make, error, words):
    with pytest.raises(error, match=words) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_wedges_of_one_shape_share_one_transform():
    groups = Curvelet((64, 81))._plan.groups
    shapes = [group.shape for group in groups]
    assert len(set(shapes)) == len(shapes) < sum(len(group.places) for group in groups)
