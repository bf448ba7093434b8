"""Fusion rules: what each does by hand on small arrays, symmetry, linearity in the weight, bad
input.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusionlib.transforms import Bands, LaplacianPyramid, rules

RNG = np.random.default_rng(3)
A, B = RNG.normal(size=(2, 24, 17))


def test_larger_magnitude_and_larger_signed_value():
    a, b = np.array([[1.0, -5.0, 2.0]]), np.array([[-3.0, 4.0, 2.0]])
    assert rules.select(a, b, "magnitude").tolist() == [[False, True, False]]
    assert rules.select(a, b, "signed").tolist() == [[True, False, False]]
    assert rules.select(1j * a, b, 1).tolist() == [[False, True, False]]


@pytest.mark.parametrize(("name", "number"), rules.RULES.items())
def test_names_and_numbers_are_the_same_rules(name, number):
    assert np.array_equal(rules.select(A, B, name, 3), rules.select(A, B, number, 3))


@pytest.mark.parametrize("area", [3, 5])
def test_consistency_is_window_maxima_and_a_majority_inside_the_band(area):
    weight, margin = rules.select(A, B, "consistency", area), area // 2
    for i in range(2 * margin, A.shape[0] - 2 * margin):
        for j in range(2 * margin, A.shape[1] - 2 * margin):
            votes = 0
            for y in range(i - margin, i + margin + 1):
                for x in range(j - margin, j + margin + 1):
                    window = slice(y - margin, y + margin + 1), slice(x - margin, x + margin + 1)
                    votes += np.abs(A[window]).max() > np.abs(B[window]).max()
            assert weight[i, j] == (votes > area * area / 2)


def test_consistency_removes_a_lone_pixel():
    a, b = np.zeros((15, 15)), np.ones((15, 15))
    a[:, :7] = 2
    b[7, 2] = 1.5
    weight = rules.select(a, b, 3, 3)
    assert weight[:, :6].all()
    assert not weight[:, 9:].any()


def test_salience_averages_alike_sources_and_selects_unlike_ones():
    # Equal up to a small scale: match near 1, both near one half; opposite signs: match -1, the
    # stronger alone.
    near = rules.select(1.01 * A, A, "salience", 3)
    np.testing.assert_allclose(near, 0.5, atol=1e-3)
    assert (near >= 0.5).all()
    assert (rules.select(-2 * A, A, "salience", 3) == 1).all()
    assert (rules.select(A, -2 * A, "salience", 3) == 0).all()


@pytest.mark.parametrize("rule", [1, 2, 3, 4])
@settings(deadline=None, max_examples=20)
@given(st.integers(0, 10_000), st.sampled_from([1, 3, 5]))
def test_weights_of_the_two_sources_sum_to_one(rule, seed, area):
    a, b = np.random.default_rng(seed).normal(size=(2, 9, 12))
    total = rules.select(a, b, rule, area).astype(float) + rules.select(b, a, rule, area)
    # near borders missing votes go to the second source
    inside = total if rule != 3 else total[area:-area, area:-area]
    np.testing.assert_allclose(inside, 1, atol=1e-12)


def test_a_callable_is_a_rule():
    assert (rules.select(A, B, lambda a, b: np.full(a.shape, 0.25)) == 0.25).all()


def test_base_rules():
    a, b = np.full((4, 4), 10.0), np.full((4, 4), 20.0)
    expected = {"average": 15, "first": 10, "second": 20, "weighted": 17, "gradient": 15}
    for name, value in expected.items():
        np.testing.assert_allclose(rules.base(a, b, name, weight=0.3), value)
    assert set(expected) == set(rules.BASES)


def test_gradient_base_follows_the_sharper_source():
    ramp = np.tile(np.arange(8.0) * 10, (8, 1))
    weight = rules.base_weight(ramp, ramp * 0.25 + 3, "gradient")
    np.testing.assert_allclose(weight, 0.8)  # 10 against 2.5 gray levels a sample
    np.testing.assert_allclose(rules.base_weight(ramp, np.full_like(ramp, 4), "gradient"), 1)


@pytest.mark.parametrize("rule", [1, 2, 3, 4])
def test_the_fused_image_is_linear_in_the_weight_of_the_base(rule):
    pyramid = LaplacianPyramid(2)
    a, b = pyramid.forward(A), pyramid.forward(B)
    images = [
        pyramid.inverse(rules.fuse(a, b, rule, 3, "weighted", weight)) for weight in (0, 1, 0.37)
    ]
    np.testing.assert_allclose(images[2], 0.63 * images[0] + 0.37 * images[1], atol=1e-14)


def test_one_selection_serves_several_channels():
    pyramid = LaplacianPyramid(2)
    a, b = pyramid.forward(A), pyramid.forward(B)
    for high_a, high_b in zip(a.high, b.high, strict=True):
        weight = rules.select(high_a, high_b, 3, 3)
        assert np.array_equal(
            rules.mix(weight, 2 * high_a, 2 * high_b), 2 * rules.mix(weight, high_a, high_b)
        )


def test_fuse_walks_nested_bands():
    a = Bands(np.zeros((2, 2)), [[np.ones((3, 3)), -np.ones((3, 2))], [np.full((2, 3), 5.0)]])
    b = a.map(lambda x: 2 * x, low=lambda x: x + 4)
    fused = rules.fuse(a, b, "magnitude", base="weighted", weight=0.25)
    assert [x.max() for x in fused.arrays()] == [3, 2, -2, 10]


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: rules.select(A, B[:5]), ValueError, "bands: expected one shape"),
        (lambda: rules.select(A, B, 5), ValueError, "rule: expected 1 to 4"),
        (
            lambda: rules.select(A, B, "largest"),
            ValueError,
            "rule: expected 1 to 4, magnitude, .* got 'largest'",
        ),
        (
            lambda: rules.select(A, B, 3, 4),
            ValueError,
            "area: expected an odd positive integer, got 4",
        ),
        (lambda: rules.select(A, B, 3, 3.0), ValueError, "area"),
        (lambda: rules.select(A * 1j, B, 4), TypeError, "signed comparison"),
        (
            lambda: rules.base(A, B, "median"),
            ValueError,
            "base: expected one of average, .* got 'median'",
        ),
        (
            lambda: rules.base(A, B, "weighted", np.nan),
            ValueError,
            "weight: expected a finite number, got nan",
        ),
    ],
)
def test_bad_input_is_one_sentence(make, error, words):
    with pytest.raises(error, match=words) as caught:
        make()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("match", "smaller"),
    [(0.8, 0.1), (0.76, 0.02), (0.75, 0.0), (0.74, 0.0), (0.9, 0.3), (1.0, 0.5), (-0.8, 0.0)],
)
def test_salience_weights_by_hand(match, smaller):
    """Burt and Kolczynski 1993: from match 0.75 (weights 0, 1) to match 1 (one half each)."""
    # one sample of energy 1 beside one of energy b^2: match = 2 b / (1 + b^2)
    b = match / (1 + np.sqrt(1 - match**2))
    weak, strong = np.full((3, 3), b), np.ones((3, 3))
    np.testing.assert_allclose(rules.select(weak, strong, 2, 1), smaller, atol=1e-7)
    if abs(match) < 1:
        np.testing.assert_allclose(rules.select(strong, weak, 2, 1), 1 - smaller, atol=1e-7)
    # windows inside a constant band have the same match, and energies 9 times as large
    np.testing.assert_allclose(rules.select(weak, strong, 2, 3)[1, 1], smaller, atol=1e-7)


def test_equal_sources_go_to_the_second():
    same = np.array([[1.0, -2.0, 0.0]])
    for rule in (1, 4):
        assert not rules.select(same, same, rule).any()
    assert not rules.select(np.ones((9, 9)), np.ones((9, 9)), 3).any()
    assert (rules.select(np.zeros((3, 3)), np.zeros((3, 3)), 2, 1) == 0).all()


def test_the_gradient_base_rule_by_hand():
    """Each base is weighted by its mean gradient magnitude over 3 x 3."""
    rng = np.random.default_rng(2)
    a, b = rng.normal(size=(2, 6, 7))

    def average_gradient(x):
        magnitude = np.empty(x.shape)
        for i in range(x.shape[0]):
            for j in range(x.shape[1]):
                squares = 0.0
                for n, k, line in ((x.shape[0], i, x[:, j]), (x.shape[1], j, x[i])):
                    low, high = max(k - 1, 0), min(k + 1, n - 1)
                    squares += ((line[high] - line[low]) / (high - low)) ** 2
                magnitude[i, j] = np.sqrt(squares / 2)
        mean = np.zeros(x.shape)
        for i in range(x.shape[0]):
            for j in range(x.shape[1]):
                for y in (i - 1, i, i + 1):
                    for z in (j - 1, j, j + 1):
                        y_inside = min(max(y, 0), x.shape[0] - 1)
                        z_inside = min(max(z, 0), x.shape[1] - 1)
                        mean[i, j] += magnitude[y_inside, z_inside] / 9
        return mean

    of_a, of_b = average_gradient(a), average_gradient(b)
    weight = rules.base_weight(a, b, "gradient")
    np.testing.assert_allclose(weight, of_a / (of_a + of_b), rtol=1e-12)
    assert (rules.base_weight(0 * a, 0 * b, "gradient") == 0.5).all()
    assert (rules.base_weight(a, 0 * b, "gradient") == 1).all()


def test_bad_areas_and_rules():
    for area in (0, 2, -1, True, 3.0):
        with pytest.raises(ValueError, match="area: expected an odd positive integer"):
            rules.select(A, B, 2, area)
    for rule in (0, 5, True, "best"):
        with pytest.raises(ValueError, match="rule: expected 1 to 4"):
            rules.select(A, B, rule)
    assert rules.select(A, B, 2, np.int64(1)).shape == A.shape
