"""Options and windows of metrics against plain sums, also those no convention uses."""

import math

import numpy as np
import pytest

from fusionlib.metrics.arrays import inner
from fusionlib.metrics.fidelity import gaussian, smooth
from fusionlib.metrics.information import entropy, mutual_information


@pytest.mark.parametrize("base", [2.0, math.e, 10.0])
def test_entropies_in_any_base(base):
    image = np.repeat(np.arange(5, dtype=np.uint8), [1, 2, 3, 4, 6]).reshape(4, 4)
    p = np.array([1, 2, 3, 4, 6]) / 16
    expected = -sum(q * math.log(q, base) for q in p)
    assert entropy(image, base=base) == pytest.approx(expected, rel=1e-12)
    # a copy holds all of its source's entropy; both sources are summed
    both = mutual_information(image, image, image, base=base)
    assert both == pytest.approx(2 * expected, rel=1e-12)


@pytest.mark.parametrize("size", [3, 9, 11, 17, 21, 29])
@pytest.mark.parametrize("step", [1, 2])
def test_smooth_is_a_valid_filter_of_any_window(size, step):
    x = np.random.default_rng(size).normal(size=(34, 40))
    taps = gaussian(size, size / 6)
    assert taps.sum() == pytest.approx(1) and taps.argmax() == size // 2
    middle, next_one = taps[size // 2 : size // 2 + 2]
    assert next_one / middle == pytest.approx(math.exp(-0.5 / (size / 6) ** 2))
    windows = np.lib.stride_tricks.sliding_window_view(x, (size, size))
    expected = np.einsum("ijkl,k,l->ij", windows, taps, taps)[::step, ::step]
    np.testing.assert_allclose(smooth(x, taps, step), expected.T, atol=1e-12)


def test_sums_of_integers_are_exact_and_those_of_floats_keep_their_fractions():
    whole, half = np.array([[3, 2]], dtype=np.int16), np.array([[0.5, 0.25]])
    assert inner(whole, half) == inner(half, whole) == 2.0
    assert inner(half, half) == 0.3125
    total = inner(np.full((2, 2), 255, dtype=np.uint8), np.full((2, 2), 255, dtype=np.uint8))
    assert total == 4 * 255**2 and isinstance(total, int)
    assert isinstance(inner(whole, whole), int) and isinstance(inner(whole, half), float)
