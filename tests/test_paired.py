"""Paired comparisons: signs, counts, intervals and the words for them."""

import numpy as np
import pytest

from fusionlib import results


def test_a_clear_difference():
    y = np.random.default_rng(0).normal(10, 3, 30)
    x = y - 1 + np.random.default_rng(1).normal(0, 0.2, 30)
    test = results.paired(x, y)
    low, high = test.interval
    assert low < -1 < high < 0 and low < test.difference < high
    assert (
        test.p < 1e-6
        and (test.n, test.lower, test.higher) == (30, 30, 0)
        and test.verdict() == "lower"
    )
    other = results.paired(y, x)
    assert (
        other.difference == -test.difference and other.p == test.p and other.verdict() == "higher"
    )


def test_p_is_that_of_the_signed_ranks():
    # All of n = 6 differences have one sign: 2 of the 2^6 sign patterns are as extreme.
    assert results.paired(np.arange(1.0, 7), np.zeros(6)).p == pytest.approx(2 / 2**6)


def test_nothing_to_see():
    same = results.paired([1.0, 2.0], [1.0, 2.0])
    assert (same.difference, same.interval, same.p, same.lower, same.higher) == (0, (0, 0), 1, 0, 0)
    assert same.verdict() == "no difference shown"
    empty = results.paired([np.nan], [1.0])
    assert empty.n == 0 and empty.p == 1 and empty.verdict() == "no difference shown"


def test_one_that_test_and_interval_judge_differently():
    # Many small gains and one large loss: the ranks see a gain, the mean does not.
    x = np.append(np.full(25, -0.1) - 0.01 * np.arange(25), 8.0)
    test = results.paired(x, np.zeros(26))
    assert (
        test.p < 0.05 and test.interval[0] < 0 < test.interval[1] and test.verdict() == "undecided"
    )


def test_lengths_must_agree():
    with pytest.raises(
        ValueError, match=r"expected two arrays of one length, got shapes \(2,\) and \(3,\)"
    ):
        results.paired([1, 2], [1, 2, 3])
