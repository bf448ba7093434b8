"""Ranks of methods and their significance: ranks of means, Friedman's test with Nemenyi's and
Wilcoxon's after it, rank correlation.

Frames are methods x metrics (means) or images x methods (values of one metric).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
import pandas as pd
from scipy import stats

from fusionlib import groups as grouped
from fusionlib.metrics import CONVENTIONS
from fusionlib.results import Paired, paired

Key = TypeVar("Key")

# Columns of tables that are no metrics are at the front: None where neither direction is better.
DIRECTIONS = {"seconds": False, "w1": None, "w2": None} | {
    name: metric.larger_is_better
    for metrics in CONVENTIONS.values()
    for name, metric in metrics.items()
}
ARROWS = {True: "↑", False: "↓", None: ""}
MARKS = ("¹", "²", "³")
# ASSUMPTION: a difference below 1 % of the baseline's mean says nothing of two methods: no paper
# states a margin, and tables print metrics to three or four digits.
MARGIN = 0.01


def larger_is_better(column: str) -> bool | None:
    """Return whether larger is better in a column of a table; None where neither is.

    A metric of :data:`fusionlib.metrics.CONVENTIONS` says it itself, in the same way in each
    convention; any other number, such as an average precision, is better when larger.
    """
    return DIRECTIONS.get(column, True)


def headed(column: str, convention: str = "") -> str:
    """Return the head of a column: its name, its unit in a convention, and the direction that is
    better.

    Examples
    --------
    >>> headed("RMSE"), headed("EN", "moe-fusion"), headed("SF", "moe-fusion"), headed("w1")
    ('RMSE ↓', 'EN [bits] ↑', 'SF ↑', 'w1')
    """
    metric = CONVENTIONS.get(convention, {}).get(column)
    unit = f" [{metric.unit}]" if metric is not None and metric.unit else ""
    return f"{column}{unit} {ARROWS[larger_is_better(column)]}".strip()


def ranks(means: pd.DataFrame, decimals: int = 4) -> pd.DataFrame:
    """Return the rank of each method in each column, 1 the best; equal numbers share the better
    rank.

    Parameters
    ----------
    means : DataFrame, methods x metrics
        NaN gets no rank.
    decimals : int
        Numbers are compared as a table would print them.

    Examples
    --------
    >>> ranks(pd.DataFrame({"EN": [6.8, 7.1], "Nabf": [0.02, 0.05]}, ["LP", "average"])).values
    array([[2, 1],
           [1, 2]], dtype=object)
    """
    signs = [-1 if larger_is_better(metric) is False else 1 for metric in means]
    goodness = means.round(decimals) * signs
    return goodness.rank(ascending=False, method="min").astype("Int64")


def format_with_ranks(
    means: pd.DataFrame, decimals: int = 4, counts: pd.DataFrame | None = None, convention: str = ""
) -> pd.DataFrame:
    """Return the numbers as text, the best three of each column marked ¹ ² ³, NaN as a dash, under
    :func:`headed` columns.

    Parameters
    ----------
    means : DataFrame, methods x metrics
    decimals : int
        As for :func:`ranks`.
    counts : DataFrame, methods x metrics, optional
        Images behind each mean; said in brackets where they are fewer than the largest of them.
    convention : str
        Of the metrics, for their units.
    """
    rank, text = ranks(means, decimals), pd.DataFrame("–", means.index, means.columns)
    for metric in means:
        for method, value in means[metric].dropna().items():
            number = rank.loc[method, metric]
            mark = MARKS[number - 1] if number <= len(MARKS) else ""
            over = ""
            if counts is not None and counts.loc[method, metric] < counts.max(axis=None):
                over = f" ({counts.loc[method, metric]:g})"
            text.loc[method, metric] = f"{value:.{decimals}f}{mark}{over}"
    return text.rename(columns=lambda column: headed(column, convention))


# ---- Friedman ranks ------------------------------------------------------------------------------


class FriedmanResult(NamedTuple):
    """Friedman's test over images, or over groups of them.

    ``mean`` holds the mean rank of each method, best first; ``n`` images, or groups of them;
    ``statistic`` (chi square) and ``p`` say whether the methods differ at all; mean ranks further
    apart than ``difference`` differ by Nemenyi's test; ``groups`` are the largest sets of methods
    that it does not tell apart.
    """

    mean: pd.Series
    n: int
    statistic: float
    p: float
    difference: float
    groups: list[tuple[str, ...]]


def ranks_per_image(values: pd.DataFrame, smaller: bool = False) -> pd.DataFrame:
    """Rank the methods on each image, 1 the best, ties averaged.

    ASSUMPTION: a metric without value for an image (SCD of a copied source) ranks last there: a
    method must not gain from it, and the image stays in the comparison of the others.
    """
    goodness = (-values if smaller else values).astype(np.float64)
    return goodness.fillna(-np.inf).rank(axis=1, ascending=False, method="average")


def friedman(
    values: pd.DataFrame,
    smaller: bool = False,
    level: float = 0.05,
    groups_of_images: pd.Series | None = None,
) -> FriedmanResult:
    """Test whether methods differ over images, and which (Friedman 1937; Nemenyi 1963; as in
    Demsar, JMLR 7, 2006).

    Parameters
    ----------
    values : DataFrame, images x methods
        One metric; NaN ranks last, see :func:`ranks_per_image`.
    smaller : bool
        Whether a smaller value is better.
    level : float
        Of the critical difference.
    groups_of_images : Series indexed by image, optional
        From :func:`.groups.of`: the mean ranks of a group's images are ranked, and the groups are
        the sample.

    Raises
    ------
    ValueError
        No image or no method.
    """
    n, k = values.shape
    if not n or not k:
        raise ValueError(
            f"values: expected at least one image and one method, got {n} images and {k} methods"
        )
    rank = ranks_per_image(values, smaller)
    if groups_of_images is not None:
        in_groups = rank.groupby(groups_of_images.loc[rank.index].to_numpy()).mean()
        rank = ranks_per_image(in_groups, smaller=True)
        n = len(rank)
    mean = rank.mean().sort_values(kind="stable")
    # chi² = 12 n / (k (k + 1)) Σ (R_j - (k + 1) / 2)², divided by 1 - Σ (t³ - t) / (n (k³ - k))
    # over groups of t ties
    ties = sum(
        int((count**3 - count).sum())
        for _, row in rank.iterrows()
        for count in [row.value_counts()]
    )
    correction = 1 - ties / (n * (k**3 - k)) if k > 1 else 0.0
    statistic = 0.0  # all equal everywhere: nothing to tell apart
    if correction > 0:
        statistic = 12 * n / (k * (k + 1)) * float(((mean - (k + 1) / 2) ** 2).sum()) / correction
    p = float(stats.chi2.sf(statistic, k - 1)) if k > 1 else 1.0
    difference = critical_difference(k, n, level)
    return FriedmanResult(mean, n, statistic, p, difference, groups(mean, difference))


def critical_difference(methods: int, images: int, level: float = 0.05) -> float:
    """Return Nemenyi's critical difference q / √2 · √(k (k + 1) / (6 n)) of mean ranks.

    Parameters
    ----------
    methods, images : int
        k methods ranked on n images.
    level : float
        Of significance.
    """
    if methods < 2:
        return 0.0
    q = stats.studentized_range.ppf(1 - level, methods, np.inf) / np.sqrt(2)
    return float(q * np.sqrt(methods * (methods + 1) / (6 * images)))


def groups(mean: pd.Series, difference: float) -> list[tuple[str, ...]]:
    """Return the largest runs of two and more methods whose mean ranks lie within ``difference``,
    best first.
    """
    ordered, runs, reached = mean.sort_values(kind="stable"), [], 0
    for start in range(len(ordered)):
        stop = int((ordered.iloc[start:] - ordered.iloc[start] <= difference).sum()) + start
        if stop > max(reached, start + 1):
            runs.append(tuple(ordered.index[start:stop]))
            reached = stop
    return runs


def over_metrics(frame: pd.DataFrame) -> pd.DataFrame:
    """Return images x methods: the mean over metrics of a method's rank on the image, small is
    good.

    Metrics of one image are no independent samples; so they are averaged first, and the images are
    the sample.

    Parameters
    ----------
    frame : DataFrame
        Rows with image, method, metric, value.
    """
    total = 0
    metrics = frame.groupby("metric", sort=False)
    for metric, part in metrics:
        values = part.pivot(index="image", columns="method", values="value")
        total = ranks_per_image(values, larger_is_better(metric) is False) + total
    return total / metrics.ngroups


def rank_summary(means: pd.DataFrame, method: str) -> str:
    """Describe a method's table rank, the mean over metrics of the rank of its mean, and its gap to
    the best.

    Parameters
    ----------
    means : DataFrame, methods x metrics
        Larger is better in all. A method without any number is not ranked; a metric without value
        ranks last, as in :func:`ranks_per_image`.
    method : str

    Returns
    -------
    str
        A sentence; "" if ``method`` or all others cannot be ranked.
    """
    ranked = means.dropna(how="all")
    if method not in ranked.index or len(ranked) < 2:
        return ""
    mean = ranks_per_image(ranked.T).mean().sort_values(kind="stable")
    gap = f"{mean[method] - mean.iloc[0]:.2f} behind {mean.index[0]} ({mean.iloc[0]:.2f})"
    gap = gap if mean.iloc[0] < mean[method] else "first"
    return (
        f"{method}: table rank {mean[method]:.2f} over {means.shape[1]} metrics among {len(mean)}"
        f" rows, {gap}."
    )


# ---- a baseline and the others -------------------------------------------------------------------


def holm(p: Sequence[float]) -> np.ndarray:
    """Return p values adjusted for their number by Holm's step-down method (Holm 1979)."""
    values = np.asarray(p, dtype=np.float64)
    order = np.argsort(values, kind="stable")
    adjusted = np.maximum.accumulate(values[order] * np.arange(len(p), 0, -1)).clip(max=1.0)
    back = np.empty_like(adjusted)
    back[order] = adjusted
    return back


def adjusted(tests: Mapping[Key, Paired]) -> dict[Key, Paired]:
    """Return the tests of one table with their p adjusted together by :func:`holm`."""
    p = holm([test.p for test in tests.values()])
    return {
        key: test._replace(p=float(value))
        for (key, test), value in zip(tests.items(), p, strict=True)
    }


def compare_to_baseline(
    values: pd.DataFrame,
    baseline: str,
    smaller: bool = False,
    level: float = 0.05,
    groups_of_images: pd.Series | None = None,
    margin: float = 0.0,
) -> pd.DataFrame:
    """Compare the baseline with every other method over the same images: Wilcoxon's signed-rank
    test, adjusted by Holm.

    Parameters
    ----------
    values : DataFrame, images x methods
        One metric.
    baseline : str
        The method that all others are compared with.
    smaller : bool
        Whether a smaller value is better.
    level : float
        Of significance, for p_holm.
    groups_of_images : Series indexed by image, optional
        From :func:`.groups.of`; tests, rates and intervals take groups. None: images are taken as
        independent.
    margin : float
        Share of the baseline's mean size: differences whose whole interval is below it are
        "equivalent", a test of two one-sided hypotheses at 2.5 % each; 0: none is.

    Returns
    -------
    DataFrame indexed by method
        difference (baseline minus method), low and high (bootstrap interval), p, p_holm, rate (a
        :class:`.groups.Rate`: share of groups or images that the baseline wins), images (pairs
        with both values), groups (NaN where none is known), verdict ("equivalent", else "better",
        "worse" or "not shown", of the baseline; "too few groups for a verdict"; "–" where no image
        has both values).

    Raises
    ------
    ValueError
        ``values`` has no such method.
    """
    table = _tests(values, baseline, smaller, groups_of_images, margin)
    return _verdicts(table, level)


def compare_all(
    frame: pd.DataFrame, baseline: str, level: float = 0.05, margin: float = MARGIN
) -> pd.DataFrame:
    """Compare the baseline with every other method in every metric, all p of the table adjusted
    together by Holm.

    Parameters
    ----------
    frame : DataFrame
        Rows with image, method, metric, value, and group where it is known.
    baseline, level, margin
        As for :func:`compare_to_baseline`.

    Returns
    -------
    DataFrame indexed by metric and method
        As :func:`compare_to_baseline`.

    Raises
    ------
    ValueError
        There is no such method.
    """
    labels, tables = grouped.of(frame), {}
    for metric, part in frame.groupby("metric", sort=False):
        values = part.pivot(index="image", columns="method", values="value")
        smaller = larger_is_better(metric) is False
        tables[metric] = _tests(values, baseline, smaller, labels, margin)
    return _verdicts(pd.concat(tables, names=["metric"]), level)


def _tests(
    values: pd.DataFrame,
    baseline: str,
    smaller: bool,
    groups_of_images: pd.Series | None,
    margin: float,
) -> pd.DataFrame:
    """Return :func:`compare_to_baseline` without what depends on the number of tests, and the
    columns gain (positive where the baseline is better), few and equivalent.
    """
    if baseline not in values:
        raise ValueError(
            f"baseline: expected one of {', '.join(map(str, values))}, got {baseline!r}"
        )
    labels = grouped.at(groups_of_images, values.index)
    rows = {}
    for method in values.columns.drop(baseline):
        test = paired(values[baseline], values[method], groups=labels)
        rows[method] = {
            "difference": test.difference,
            "low": test.interval[0],
            "high": test.interval[1],
            "p": test.p,
            "rate": test.rate.turned() if smaller else test.rate,
            "images": test.n,
            "groups": test.groups,
            "gain": -test.difference if smaller else test.difference,
            "few": test.few(),
            "equivalent": test.equivalent(margin * values[baseline].abs().mean()),
        }
    columns = ["difference", "low", "high", "p", "rate", "images", "groups", "gain", "few"]
    table = pd.DataFrame.from_dict(rows, orient="index", columns=[*columns, "equivalent"])
    return table.rename_axis("method")


def _verdicts(table: pd.DataFrame, level: float) -> pd.DataFrame:
    """Adjust the p of :func:`_tests` for their number and say what they show."""
    tested = table["images"] > 0
    table.insert(table.columns.get_loc("p") + 1, "p_holm", 1.0)
    table.loc[tested, "p_holm"] = holm(table.loc[tested, "p"])
    gain, few, equivalent = (table.pop(name) for name in ("gain", "few", "equivalent"))
    shown = (table["p_holm"] < level) & (gain != 0)
    table["verdict"] = np.where(shown, np.where(gain > 0, "better", "worse"), "not shown")
    table.loc[equivalent.astype(bool), "verdict"] = "equivalent"
    table.loc[few.astype(bool), "verdict"] = grouped.TOO_FEW
    table.loc[~tested, "verdict"] = "–"
    return table


# ---- orders --------------------------------------------------------------------------------------


def agreement(first: pd.DataFrame, second: pd.DataFrame) -> pd.DataFrame:
    """Rank correlation of the methods in two tables, metric by metric.

    Parameters
    ----------
    first, second : DataFrame, methods x metrics

    Returns
    -------
    DataFrame indexed by metric
        methods (in both), kendall (tau b), spearman; NaN with fewer than 3 methods in common or no
        order at all.
    """
    rows = []
    for metric in first.columns.intersection(second.columns, sort=False):
        both = pd.concat([first[metric], second[metric]], axis=1, join="inner").dropna()
        x, y = both.iloc[:, 0], both.iloc[:, 1]
        ordered = len(both) >= 3 and x.nunique() > 1 and y.nunique() > 1
        rows.append(
            {
                "metric": metric,
                "methods": len(both),
                "kendall": float(stats.kendalltau(x, y).statistic) if ordered else np.nan,
                "spearman": float(stats.spearmanr(x, y).statistic) if ordered else np.nan,
            }
        )
    return pd.DataFrame(rows, columns=["metric", "methods", "kendall", "spearman"]).set_index(
        "metric"
    )


def trivial_baseline_ranks(means: pd.DataFrame, trivial: Iterable[str]) -> pd.DataFrame:
    """Return for each metric the best rank that a trivial baseline reaches.

    Parameters
    ----------
    means : DataFrame, methods x metrics
    trivial : iterable of str
        Rows that need no method, such as the average of both images.

    Returns
    -------
    DataFrame indexed by metric
        row (the best trivial one), value, rank among all, ahead_of (how many of the methods it
        beats), methods.
    """
    rank, rows = ranks(means), []
    baselines = means.index.intersection(list(trivial))
    for metric in means:
        column = rank[metric].dropna()
        ours = column[column.index.isin(baselines)]
        others = column[~column.index.isin(baselines)]
        if len(ours):
            best = ours.idxmin()
            rows.append(
                {
                    "metric": metric,
                    "row": best,
                    "value": means.loc[best, metric],
                    "rank": int(ours[best]),
                    "ahead_of": int((others > ours[best]).sum()),
                    "methods": len(others),
                }
            )
    return pd.DataFrame(
        rows, columns=["metric", "row", "value", "rank", "ahead_of", "methods"]
    ).set_index("metric")
