"""Figures of comparisons: which methods differ by more than chance, and where they stand beside
printed numbers.
"""

from __future__ import annotations

from collections.abc import Collection

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from fusionlib.figures import COLOURS
from fusionlib.ranking import FriedmanResult

GRAY = "0.45"  # of rows that need no method


def critical_difference(
    ranks: FriedmanResult, plain: Collection[str] = (), title: str = ""
) -> plt.Figure:
    """Draw mean ranks on a line, and a bar over each group of methods that Nemenyi's test does not
    tell apart.

    Parameters
    ----------
    ranks : FriedmanResult
        From :func:`fusionlib.ranking.friedman`.
    plain : collection of str
        Methods drawn in gray.
    """
    mean, k = ranks.mean, len(ranks.mean)
    left = -(-k // 2)
    step, bar = 1.0, 0.4
    top = bar * (len(ranks.groups) + 1)
    lowest = top + step * left
    figure, axis = plt.subplots(figsize=(7.2, 0.9 + 0.22 * (lowest + 2)))
    axis.set(xlim=(0.9 - 0.32 * k, k + 0.1 + 0.32 * k), ylim=(lowest, -2.6))
    axis.axis("off")
    axis.plot([1, k], [0, 0], color="black", lw=1)
    for rank in range(1, k + 1):
        axis.plot([rank, rank], [-0.25, 0], color="black", lw=1)
        axis.text(rank, -0.4, str(rank), ha="center", va="bottom")
    axis.text(k + 0.2, 0, "mean rank, 1 is best", va="center")
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
        first = number < left
        y = top + step * ((number if first else k - 1 - number) + 0.5)
        end = 0.8 if first else k + 0.2
        colour = GRAY if name in plain else "black"
        axis.plot([rank, rank, end], [0, y, y], color=colour, lw=0.8)
        axis.text(
            end + (-0.015 if first else 0.015) * k,
            y,
            f"{name}  {rank:.2f}" if first else f"{rank:.2f}  {name}",
            ha="right" if first else "left",
            va="center",
            color=colour,
        )
    if title:
        figure.suptitle(title)
    return figure


def intervals(
    frame: pd.DataFrame, spans: pd.DataFrame, plain: Collection[str] = (), columns: int = 4
) -> plt.Figure:
    """Draw each method's mean with its interval, a panel a metric; the shaded range is what a paper
    prints.

    Parameters
    ----------
    frame : DataFrame with method, metric, value, low, high
    spans : DataFrame indexed by metric, columns min and max
    plain : collection of str
        Methods drawn in gray.
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
            colour, y = GRAY if row.method in plain else COLOURS[0], names.index(row.method)
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


def rank_table(mean_ranks: pd.DataFrame, plain: Collection[str] = ()) -> plt.Figure:
    """Draw mean ranks, methods x metrics, as numbers on shades: dark is ahead.

    Parameters
    ----------
    mean_ranks : DataFrame, methods x metrics
    plain : collection of str
        Methods named in gray.
    """
    k, width = mean_ranks.shape
    figure, axis = plt.subplots(figsize=(1.6 + 0.62 * width, 0.6 + 0.25 * k))
    shown = axis.imshow(
        mean_ranks.to_numpy(dtype=float), cmap="Blues_r", vmin=1, vmax=k + 0.15 * k, aspect="auto"
    )
    for (y, x), value in np.ndenumerate(mean_ranks.to_numpy(dtype=float)):
        dark = np.dot(shown.to_rgba(value)[:3], [0.299, 0.587, 0.114]) < 0.55
        axis.text(
            x,
            y,
            f"{value:.1f}",
            ha="center",
            va="center",
            color="white" if dark else "black",
            fontsize=8,
        )
    axis.set_xticks(range(width), mean_ranks.columns)
    axis.set_yticks(range(k), mean_ranks.index)
    for label in axis.get_yticklabels():
        label.set_color(GRAY if label.get_text() in plain else "black")
    axis.tick_params(length=0, top=True, labeltop=True, bottom=False, labelbottom=False)
    axis.spines[:].set_visible(False)
    return figure
