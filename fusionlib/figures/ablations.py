"""Figures of ablations and sweeps: a panel a metric, each variant's mean beside that of the one it
is compared with.
"""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from fusionlib.figures import COLOURS

BETTER, WORSE, OPEN = COLOURS[0], COLOURS[1], "0.45"


def variants(
    table: pd.DataFrame,
    reference: str,
    order: Sequence[str] = (),
    places: Sequence[float] = (),
    xlabel: str = "",
    columns: int = 4,
) -> plt.Figure:
    """Draw the means of variants, a panel a metric in its own unit.

    The line is the reference. The bar at a variant is the 95 % interval of its difference to the
    reference over images, drawn around its mean. Filled: the difference is shown; hollow: it is
    not.

    Parameters
    ----------
    table : DataFrame
        From :func:`fusionlib.experiments.ablations.differences`.
    order : sequence of str
        Variants from left to right; by default as in the table.
    places : sequence of float
        Where each stands on a logarithmic axis that is marked with these numbers; by default side
        by side under their names.
    """
    names = list(order or dict.fromkeys(table["variant"]))
    metrics = list(dict.fromkeys(table["metric"]))
    rows = -(-len(metrics) // columns)
    where = np.asarray(places, dtype=float) if len(places) else np.arange(len(names))
    figure, axes = plt.subplots(
        rows,
        columns,
        figsize=(2.4 * columns, 1.75 * rows + (0.3 if len(places) else 0.9)),
        squeeze=False,
        sharex=True,
    )
    for axis, metric in zip(axes.flat, metrics, strict=False):
        part = table[table["metric"] == metric].set_index("variant").loc[names]
        middle = part.loc[reference, "value"]
        axis.axhline(middle, color="0.7", lw=1, zorder=0)
        if len(places):
            axis.plot(where, part["value"], color="0.8", lw=1, zorder=0)
        for x, (name, row) in zip(where, part.iterrows(), strict=True):
            colour = (
                "black"
                if name == reference
                else {"better": BETTER, "worse": WORSE}.get(row["verdict"], OPEN)
            )
            filled = name == reference or colour != OPEN
            if name != reference:
                axis.plot([x, x], [middle + row["low"], middle + row["high"]], color=colour, lw=1.3)
            axis.plot(
                x,
                row["value"],
                "s" if name == reference else "o",
                color=colour,
                ms=4.5,
                mew=1.3,
                mfc=colour if filled else "white",
            )
        axis.set_title(metric)
        axis.margins(x=0.08)
        axis.locator_params(axis="y", nbins=4)
        axis.ticklabel_format(axis="y", useOffset=False)
    for axis in axes.flat[len(metrics) :]:
        axis.axis("off")
    if len(places):
        axes[0, 0].set_xscale("log")
        axes[0, 0].set_xticks(where, [f"{place:g}" for place in where])
        axes[0, 0].xaxis.set_minor_locator(matplotlib.ticker.NullLocator())
    else:
        axes[0, 0].set_xticks(where)
        for axis in axes[-1]:
            axis.set_xticklabels(names, rotation=90)
    if xlabel:
        figure.supxlabel(xlabel, fontsize=9)
    handles = [
        plt.Line2D([], [], marker="s", ls="", color="black", label=reference),
        *(
            plt.Line2D(
                [],
                [],
                marker="o",
                color=colour,
                mfc=colour if colour != OPEN else "white",
                label=label,
            )
            for colour, label in (
                (BETTER, "better, shown"),
                (WORSE, "worse, shown"),
                (OPEN, "difference not shown"),
            )
        ),
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=4)
    return figure
