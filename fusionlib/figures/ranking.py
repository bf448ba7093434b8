"""Figures of comparisons: critical differences, intervals beside printed ranges, mean ranks."""

from __future__ import annotations

from collections.abc import Collection

import matplotlib.pyplot as plt
import pandas as pd
import seaborn

from fusionlib.figures import COLOURS
from fusionlib.ranking import FriedmanResult

GRAY = "0.45"  # of trivial methods


def critical_difference(
    ranks: FriedmanResult, trivial: Collection[str] = (), title: str = ""
) -> plt.Figure:
    """Draw mean ranks on a line, and a bar over each group that Nemenyi's test does not separate.

    Parameters
    ----------
    ranks : FriedmanResult
        From :func:`fusionlib.ranking.friedman`.
    trivial : collection of str
        Methods drawn in gray.
    title : str
    """
    mean, k = ranks.mean, len(ranks.mean)
    n_left = -(-k // 2)
    step, bar = 1.0, 0.4
    top = bar * (len(ranks.groups) + 1)
    lowest = top + step * n_left
    figure, axis = plt.subplots(figsize=(7.2, 0.9 + 0.22 * (lowest + 2)))
    axis.set(xlim=(0.9 - 0.32 * k, k + 0.1 + 0.32 * k), ylim=(lowest, -2.6))
    axis.axis("off")
    axis.plot([1, k], [0, 0], color="black", lw=1)
    for rank in range(1, k + 1):
        axis.plot([rank, rank], [-0.25, 0], color="black", lw=1)
        axis.text(rank, -0.4, str(rank), ha="center", va="bottom")
    axis.text(k + 0.2, 0, "Friedman rank, 1 is best", va="center")
    # The length of the critical difference, above the scale.
    if k > 1:
        axis.plot(
            [1, 1 + ranks.difference], [-2.0, -2.0], color=COLOURS[1], lw=2, solid_capstyle="butt"
        )
        axis.text(
            1 + ranks.difference + 0.05 * k,
            -2.0,
            f"critical difference {ranks.difference:.2f}",
            color=COLOURS[1],
            va="center",
        )
    for number, group in enumerate(ranks.groups):
        y = bar * (number + 1)
        axis.plot(
            [mean[group[0]] - 0.03, mean[group[-1]] + 0.03],
            [y, y],
            color=COLOURS[0],
            lw=3,
            solid_capstyle="butt",
        )
    for number, (name, rank) in enumerate(mean.items()):
        colour = GRAY if name in trivial else "black"
        if number < n_left:
            line, x, x_text = number, 0.8, 0.8 - 0.015 * k
            label, side = f"{name}  {rank:.2f}", "right"
        else:
            line, x, x_text = k - 1 - number, k + 0.2, k + 0.2 + 0.015 * k
            label, side = f"{rank:.2f}  {name}", "left"
        y = top + step * (line + 0.5)
        axis.plot([rank, rank, x], [0, y, y], color=colour, lw=0.8)
        axis.text(x_text, y, label, ha=side, va="center", color=colour)
    if title:
        figure.suptitle(title)
    return figure


def intervals(
    frame: pd.DataFrame, spans: pd.DataFrame, trivial: Collection[str] = (), columns: int = 4
) -> plt.Figure:
    """Draw each method's mean with its interval, a panel a metric, over the range of a paper.

    Parameters
    ----------
    frame : DataFrame with method, metric, value, low, high
    spans : DataFrame indexed by metric, columns min and max
        The printed range, shaded.
    trivial : collection of str
        Methods drawn in gray.
    columns : int
        Of panels.
    """
    metrics, names = list(dict.fromkeys(frame["metric"])), list(dict.fromkeys(frame["method"]))
    rows = -(-len(metrics) // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(9, rows * (0.75 + 0.17 * len(names))), sharey=True, squeeze=False
    )
    for axis, metric in zip(axes.flat, metrics, strict=False):
        if metric in spans.index:
            axis.axvspan(*spans.loc[metric, ["min", "max"]], color="0.88", lw=0)
        for row in frame[frame["metric"] == metric].itertuples():
            colour, y = GRAY if row.method in trivial else COLOURS[0], names.index(row.method)
            axis.plot([row.low, row.high], [y, y], color=colour, lw=1.5, solid_capstyle="butt")
            axis.plot(row.value, y, "o", color=colour, ms=4)
        axis.set_title(metric)
        axis.locator_params(axis="x", nbins=4)
        axis.grid(axis="y", color="0.94")
        axis.set_axisbelow(True)
    axes[0, 0].set(yticks=range(len(names)), ylim=(len(names) - 0.4, -0.6))
    for axis in axes[:, 0]:
        axis.set_yticks(range(len(names)), names)
    for axis in axes.flat[len(metrics) :]:
        axis.axis("off")
    return figure


def rank_table(mean_ranks: pd.DataFrame, trivial: Collection[str] = ()) -> plt.Figure:
    """Draw mean ranks, methods x metrics, as numbers on shades: dark is ahead.

    Parameters
    ----------
    mean_ranks : DataFrame, methods x metrics
    trivial : collection of str
        Methods named in gray.
    """
    k, width = mean_ranks.shape
    figure, axis = plt.subplots(figsize=(1.6 + 0.62 * width, 0.6 + 0.25 * k))
    seaborn.heatmap(
        mean_ranks.astype(float),
        annot=True,
        fmt=".1f",
        cmap="Blues_r",
        vmin=1,
        vmax=1.15 * k,
        annot_kws={"fontsize": 8},
        cbar=False,
        ax=axis,
    )
    axis.set(xlabel="", ylabel="")
    for label in axis.get_yticklabels():
        label.set(rotation=0, color=GRAY if label.get_text() in trivial else "black")
    axis.tick_params(length=0, top=True, labeltop=True, bottom=False, labelbottom=False)
    return figure
