"""Which method is ahead, and by how much more than chance: places, Friedman ranks, tests after
them, rank correlation.

Frames are methods x metrics (means) or images x methods (values of one metric). Larger is better
but for the metrics in :data:`SMALLER`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from fusionlib.results import paired

SMALLER = frozenset({"MSE", "RMSE", "seconds"})
MARKS = ("¹", "²", "³")


def places(means: pd.DataFrame, decimals: int = 4) -> pd.DataFrame:
    """Return the place of each method in each column, 1 the best; equal numbers share the better
    place.

    Parameters
    ----------
    means : DataFrame, methods x metrics
        NaN takes no place.
    decimals : int
        Numbers are compared as a table would print them.
    """
    goodness = means.round(decimals) * [-1 if metric in SMALLER else 1 for metric in means]
    return goodness.rank(ascending=False, method="min").astype("Int64")


def marked(means: pd.DataFrame, decimals: int = 4) -> pd.DataFrame:
    """Return the numbers as text, the best three of each column marked ¹ ² ³; a dash where there is
    none.
    """
    place, text = places(means, decimals), pd.DataFrame("–", means.index, means.columns)
    for metric in means:
        for method, value in means[metric].dropna().items():
            rank = place.loc[method, metric]
            text.loc[method, metric] = (
                f"{value:.{decimals}f}{MARKS[rank - 1] if rank <= len(MARKS) else ''}"
            )
    return text


# ---- Friedman ranks ------------------------------------------------------------------------------


class Ranks(NamedTuple):
    """Friedman's test over images.

    ``mean`` holds the mean rank of each method, best first; ``n`` images; ``statistic`` (chi
    square) and ``p`` say whether the methods differ at all; mean ranks further apart than
    ``difference`` differ by Nemenyi's test; ``groups`` are the largest sets of methods that it does
    not tell apart.
    """

    mean: pd.Series
    n: int
    statistic: float
    p: float
    difference: float
    groups: list[tuple[str, ...]]


def ranks(values: pd.DataFrame, smaller: bool = False) -> pd.DataFrame:
    """Rank the methods on each image, 1 the best, ties averaged.

    ASSUMPTION: a metric without value for an image (SCD of a copied source) ranks last there: a
    method must not gain from it, and the image stays in the comparison of the others.
    """
    goodness = (-values if smaller else values).astype(np.float64)
    return goodness.fillna(-np.inf).rank(axis=1, ascending=False, method="average")


def friedman(values: pd.DataFrame, smaller: bool = False, level: float = 0.05) -> Ranks:
    """Test whether methods differ over images, and which (Friedman 1937; Nemenyi 1963; as in
    Demsar, JMLR 7, 2006).

    Parameters
    ----------
    values : DataFrame, images x methods
        One metric; NaN ranks last, see :func:`ranks`.
    smaller : bool
        Whether a smaller value is better.
    level : float
        Of the critical difference.

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
    rank = ranks(values, smaller)
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
    return Ranks(mean, n, statistic, p, difference, groups(mean, difference))


def critical_difference(methods: int, images: int, level: float = 0.05) -> float:
    """Return Nemenyi's critical difference q / √2 · √(k (k + 1) / (6 n)) of mean ranks."""
    if methods < 2:
        return 0.0
    q = stats.studentized_range.ppf(1 - level, methods, np.inf) / np.sqrt(2)
    return float(q * np.sqrt(methods * (methods + 1) / (6 * images)))


def groups(mean: pd.Series, difference: float) -> list[tuple[str, ...]]:
    """Return the largest runs of two and more methods whose mean ranks lie within ``difference``,
    best first.
    """
    ordered, found, reached = mean.sort_values(kind="stable"), [], 0
    for start in range(len(ordered)):
        stop = int((ordered.iloc[start:] - ordered.iloc[start] <= difference).sum()) + start
        if stop > max(reached, start + 1):
            found.append(tuple(ordered.index[start:stop]))
            reached = stop
    return found


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
    ranked = [
        ranks(part.pivot(index="image", columns="method", values="value"), metric in SMALLER)
        for metric, part in frame.groupby("metric", sort=False)
    ]
    return sum(ranked) / len(ranked)


def standing(means: pd.DataFrame, method: str) -> str:
    """Say which mean rank over the metrics a method has, and whether it is first or by how much
    not.

    Parameters
    ----------
    means : DataFrame, methods x metrics
        Larger is better in all. A method that lacks a metric is not ranked.

    Returns
    -------
    str
        A sentence; "" if ``method`` or any other is not there to be ranked.
    """
    complete = means.dropna()
    if method not in complete.index or len(complete) < 2:
        return ""
    mean = ranks(complete.T).mean().sort_values(kind="stable")
    ahead = mean[mean < mean[method]]
    place = (
        "first"
        if ahead.empty
        else f"{mean[method] - ahead.iloc[0]:.2f} behind {ahead.index[0]} ({ahead.iloc[0]:.2f})"
    )
    return (
        f"{method}: mean rank {mean[method]:.2f} over {means.shape[1]} metrics among {len(mean)}"
        f" methods, {place}."
    )


# ---- one method against the others ---------------------------------------------------------------


def holm(p: Sequence[float]) -> np.ndarray:
    """Return p values adjusted for their number by Holm's step-down method (Holm 1979)."""
    p = np.asarray(p, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    adjusted = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)).clip(max=1.0)
    back = np.empty_like(adjusted)
    back[order] = adjusted
    return back


def against(
    values: pd.DataFrame, control: str, smaller: bool = False, level: float = 0.05
) -> pd.DataFrame:
    """Compare one method with every other over the same images: Wilcoxon's signed-rank test,
    adjusted by Holm.

    Parameters
    ----------
    values : DataFrame, images x methods
    control : str
        The method held against the others.

    Returns
    -------
    DataFrame indexed by method
        difference (control minus method), low and high (bootstrap interval), p, p_holm, images
        (pairs with both values), verdict ("better", "worse" or "not shown", of the control; "–"
        where no image has both values).
    """
    if control not in values:
        raise ValueError(f"control: expected one of {', '.join(map(str, values))}, got {control!r}")
    rows = []
    for method in values.columns.drop(control):
        found = paired(values[control], values[method])
        rows.append(
            {
                "method": method,
                "difference": found.difference,
                "low": found.interval[0],
                "high": found.interval[1],
                "p": found.p,
                "images": found.n,
            }
        )
    table = pd.DataFrame(
        rows, columns=["method", "difference", "low", "high", "p", "images"]
    ).set_index("method")
    table["p_holm"] = holm(table["p"])
    gain = -table["difference"] if smaller else table["difference"]
    shown = (table["p_holm"] < level) & (gain != 0)
    table["verdict"] = np.where(shown, np.where(gain > 0, "better", "worse"), "not shown")
    table.loc[table["images"] == 0, "verdict"] = "–"
    return table


# ---- orders --------------------------------------------------------------------------------------


def agreement(one: pd.DataFrame, other: pd.DataFrame) -> pd.DataFrame:
    """Compare the order of methods in two tables, metric by metric.

    Parameters
    ----------
    one, other : DataFrame, methods x metrics

    Returns
    -------
    DataFrame indexed by metric
        methods (in both), kendall (tau b), spearman; NaN with fewer than 3 methods in common or no
        order at all.
    """
    rows = []
    for metric in one.columns.intersection(other.columns, sort=False):
        both = pd.concat([one[metric], other[metric]], axis=1, join="inner").dropna()
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


def gamed(means: pd.DataFrame, trivial: Iterable[str]) -> pd.DataFrame:
    """Say for each metric how far a row that needs no method comes.

    Returns
    -------
    DataFrame indexed by metric
        row (the best trivial one), value, place among all, ahead_of (how many of the methods it
        beats), methods.
    """
    place, rows = places(means), []
    trivial = [name for name in trivial if name in means.index]
    for metric in means:
        column = place[metric].dropna()
        ours = column[column.index.isin(trivial)]
        others = column[~column.index.isin(trivial)]
        if len(ours):
            best = ours.idxmin()
            rows.append(
                {
                    "metric": metric,
                    "row": best,
                    "value": means.loc[best, metric],
                    "place": int(ours[best]),
                    "ahead_of": int((others > ours[best]).sum()),
                    "methods": len(others),
                }
            )
    return pd.DataFrame(
        rows, columns=["metric", "row", "value", "place", "ahead_of", "methods"]
    ).set_index("metric")
