"""Ranks over metrics: errors are better when smaller, everything else when larger."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from fusionlib import ranking


@pytest.mark.parametrize(
    "metric, first",
    [("RMSE", "a"), ("MSE", "a"), ("PSNR", "b"), ("SSIM", "b"), ("EN", "b"), ("MI", "b")],
)
def test_smaller_errors_rank_first(metric, first):
    frame = pd.DataFrame(
        [
            {"image": image, "method": method, "metric": metric, "value": value}
            for image in ("x", "y")
            for method, value in (("a", 1.0), ("b", 2.0))
        ]
    )
    mean = ranking.over_metrics(frame).mean()
    assert mean.idxmin() == first
    assert sorted(mean) == [1.0, 2.0]


def test_friedman_with_ties_by_hand():
    values = pd.DataFrame(
        [[3.0, 2.0, 1.0], [5.0, 5.0, 1.0], [4.0, 6.0, 2.0], [9.0, 7.0, 8.0]], columns=list("abc")
    )
    outcome = ranking.friedman(values)
    expected = np.array([[1, 2, 3], [1.5, 1.5, 3], [2, 1, 3], [1, 3, 2]]).mean(axis=0)
    assert dict(outcome.mean) == dict(zip("abc", expected, strict=True))
    reference = stats.friedmanchisquare(*values.to_numpy().T)
    assert outcome.statistic == pytest.approx(reference.statistic)
    assert outcome.p == pytest.approx(reference.pvalue)
    assert outcome.n == 4
    # Demsar 2006, table 5: q = 2.343 for three methods at 0.05
    assert outcome.difference == pytest.approx(2.343 * np.sqrt(3 * 4 / (6 * 4)), rel=1e-3)


def test_critical_differences_of_none_and_one():
    assert ranking.critical_difference(1, 10) == 0.0
    assert ranking.critical_difference(2, 10) == pytest.approx(1.960 * np.sqrt(0.1), rel=1e-3)
    single = ranking.friedman(pd.DataFrame({"a": [1.0, 2.0]}))
    assert (single.statistic, single.p, single.difference) == (0.0, 1.0, 0.0)
    equal = ranking.friedman(pd.DataFrame({"a": [1.0, 2.0], "b": [1.0, 2.0]}))
    assert equal.statistic == 0.0 and equal.p == pytest.approx(1.0)


def test_groups_reach_exactly_the_difference():
    mean = pd.Series({"a": 1.0, "b": 1.5, "c": 2.0, "d": 3.0})
    assert ranking.groups(mean, 0.5) == [("a", "b"), ("b", "c")]
    assert ranking.groups(mean, 1.0) == [("a", "b", "c"), ("c", "d")]
    assert ranking.groups(mean, 0.4) == []


def test_holm_by_its_definition():
    p = [0.04, 0.01, 0.03, 0.5, 0.9]
    np.testing.assert_allclose(ranking.holm(p), [0.12, 0.05, 0.12, 1.0, 1.0])
    np.testing.assert_allclose(ranking.holm([0.02]), [0.02])


def test_agreement_needs_three_methods_and_an_order():
    names = list("abcd")
    left = pd.DataFrame({"EN": [1.0, 2, 3, 4], "MI": [1.0, 1, 1, 1]}, index=names)
    right = pd.DataFrame({"EN": [1.0, 3, 2, 4], "MI": [1.0, 2, 3, 4]}, index=names)
    table = ranking.agreement(left, right)
    assert table.loc["EN", "kendall"] == pytest.approx(4 / 6)
    assert table.loc["EN", "spearman"] == pytest.approx(0.8)
    assert table.loc["EN", "methods"] == 4
    assert np.isnan(table.loc["MI", "kendall"]) and np.isnan(table.loc["MI", "spearman"])
    three = ranking.agreement(left.iloc[:3], right).loc["EN"]
    assert three["methods"] == 3 and three["kendall"] == pytest.approx(1 / 3)
    assert np.isnan(ranking.agreement(left.iloc[:2], right).loc["EN", "kendall"])
