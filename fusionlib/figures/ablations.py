"""Figures of ablations and sweeps: the mean of each variant beside that of a baseline."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from fusionlib.figures import COLOURS

BETTER, WORSE, OPEN = COLOURS[0], COLOURS[1], "0.45"
# colour, and fill of the marker
LOOK_OF_VERDICT = {
    "better": (BETTER, BETTER),
    "worse": (WORSE, WORSE),
    "indicative: better": (BETTER, "white"),
    "indicative: worse": (WORSE, "white"),
    "equivalent": (OPEN, OPEN),
}


# radon C: names side by side, or positions on a logarithmic axis
def variants(
    table: pd.DataFrame,
    baseline: str,
    order: Sequence[str] = (),
    positions: Sequence[float] = (),
    xlabel: str = "",
    columns: int = 4,
) -> plt.Figure:
    """Draw the means of variants, a panel a metric in its own unit.

    The line is the baseline. The bar at a variant is the 95 % interval of its difference to the
    baseline over trainings and images, drawn around its mean. Filled: the difference is shown;
    hollow in colour: indicative, by too few trainings; gray and filled: equivalent; gray: neither.

    Parameters
    ----------
    table : DataFrame
        From :func:`fusionlib.experiments.ablations.differences`.
    baseline : str
        One of the variants.
    order : sequence of str
        Variants from left to right; by default as in the table.
    positions : sequence of float
        Of the variants on a logarithmic axis; by default they stand side by side under their names.
    xlabel : str
    columns : int
        Of panels.
    """
    names = list(order or dict.fromkeys(table["variant"]))
    metrics = list(dict.fromkeys(table["metric"]))
    rows = -(-len(metrics) // columns)
    x = np.asarray(positions, dtype=float) if len(positions) else np.arange(len(names))
    figure, axes = plt.subplots(
        rows,
        columns,
        figsize=(2.4 * columns, 1.75 * rows + (0.3 if len(positions) else 0.9)),
        squeeze=False,
        sharex=True,
    )
    for axis, metric in zip(axes.flat, metrics, strict=False):
        means = table[table["metric"] == metric].set_index("variant").loc[names]
        _panel(axis, x, means, baseline)
        if len(positions):
            axis.plot(x, means["value"], color="0.8", lw=1, zorder=0)
        axis.set_title(metric)
        axis.margins(x=0.08)
        axis.locator_params(axis="y", nbins=4)
        axis.ticklabel_format(axis="y", useOffset=False)
    for axis in axes.flat[len(metrics) :]:
        axis.axis("off")
    if len(positions):
        axes[0, 0].set_xscale("log")
        axes[0, 0].set_xticks(x, [f"{position:g}" for position in x])
        axes[0, 0].xaxis.set_minor_locator(matplotlib.ticker.NullLocator())
    else:
        axes[0, 0].set_xticks(x)
        for axis in axes[-1]:
            axis.set_xticklabels(names, rotation=90)
    if xlabel:
        figure.supxlabel(xlabel, fontsize=9)
    figure.legend(
        handles=_handles(baseline, (table["verdict"] == "equivalent").any()),
        loc="outside upper center",
        ncols=3,
    )
    return figure


def _panel(axis: plt.Axes, positions: np.ndarray, means: pd.DataFrame, baseline: str) -> None:
    """Draw the means of one metric; ``means`` has a row for each position."""
    middle = means.loc[baseline, "value"]
    axis.axhline(middle, color="0.7", lw=1, zorder=0)
    for x, (name, row) in zip(positions, means.iterrows(), strict=True):
        if name == baseline:
            colour, marker, fill = "black", "s", "black"
        else:
            colour, fill = LOOK_OF_VERDICT.get(row["verdict"], (OPEN, "white"))
            marker = "o"
            axis.plot([x, x], [middle + row["low"], middle + row["high"]], color=colour, lw=1.3)
        axis.plot(x, row["value"], marker, color=colour, ms=4.5, mew=1.3, mfc=fill)


def _handles(baseline: str, equivalent: bool) -> list[plt.Line2D]:
    handles = [plt.Line2D([], [], marker="s", ls="", color="black", label=baseline)]
    for label, colour, fill in (
        ("better, shown", BETTER, BETTER),
        ("worse, shown", WORSE, WORSE),
        ("better, indicative", BETTER, "white"),
        ("worse, indicative", WORSE, "white"),
        ("not shown, or no verdict", OPEN, "white"),
        *([("equivalent", OPEN, OPEN)] if equivalent else []),
    ):
        handles.append(plt.Line2D([], [], marker="o", color=colour, mfc=fill, label=label))
    return handles
