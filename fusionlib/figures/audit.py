"""Figures of the audit: contradictions and leads in the printed tables, from frames."""

from __future__ import annotations

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from fusionlib.figures import COLOURS

AHEAD, BEHIND = COLOURS[0], COLOURS[1]


def against_equation(frame: pd.DataFrame, limit: float, limit_name: str) -> plt.Figure:
    """Draw printed PSNR values over those of equation (20), a marker per data set.

    Parameters
    ----------
    frame : DataFrame indexed by (dataset, method), columns ``equation`` and ``PSNR``, in dB
    limit, limit_name : float, str
        The largest PSNR that can occur, a line of its own.
    """
    figure, axis = plt.subplots(figsize=(5.6, 3.5))
    low, high = frame["equation"].min() - 2, frame["equation"].max() + 2
    ends = (low, high)
    axis.plot(ends, ends, color="black", lw=1)
    axis.annotate(
        "printed = equation (20)",
        (high, high),
        xytext=(-4, 7),
        textcoords="offset points",
        ha="right",
    )
    axis.axhline(limit, color=BEHIND, lw=1, ls="--")
    axis.annotate(limit_name, (low, limit), xytext=(2, 4), textcoords="offset points", color=BEHIND)
    for (dataset, rows), marker, colour in zip(
        frame.groupby("dataset", sort=False), "osd", COLOURS[::2], strict=False
    ):
        axis.plot(
            rows["equation"], rows["PSNR"], marker, color=colour, mfc="none", mew=1.4, label=dataset
        )
    axis.set(
        xlabel="PSNR by equation (20) from the printed RMSE, dB",
        ylabel="printed PSNR, dB",
        xlim=ends,
        ylim=(0, 1.06 * frame["PSNR"].max()),
    )
    axis.legend(title="data set", loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def _bars(axis: plt.Axes, values: pd.Series, form: str) -> None:
    """Draw a horizontal bar for each value, ahead or behind zero, with the value at its end."""
    ahead = [value > 0 for value in values]
    axis.barh(range(len(values)), values, color=[AHEAD if a else BEHIND for a in ahead], height=0.7)
    for y, value in enumerate(values):
        axis.annotate(
            f"{value:{form}}",
            (value, y),
            xytext=(3 if value > 0 else -3, 0),
            textcoords="offset points",
            ha="left" if value > 0 else "right",
            va="center",
            fontsize=8,
        )
    axis.axvline(0, color="0.3", lw=0.8)


def leads(frame: pd.DataFrame, name: str) -> plt.Figure:
    """Draw the lead of a method over the best other one: a panel per data set, a bar per metric.

    Parameters
    ----------
    frame : DataFrame, datasets x metrics
        Relative leads, negative where behind.
    name : str
        The method.
    """
    figure, axes = plt.subplots(
        1, len(frame), figsize=(3.1 * len(frame), 3.0), sharex=True, sharey=True, squeeze=False
    )
    for axis, (dataset, lead) in zip(axes.flat, (100 * frame).iterrows(), strict=True):
        _bars(axis, lead, "+.2f")
        axis.set(title=dataset, xlabel="lead, %")
    axes[0, 0].set_yticks(range(frame.shape[1]), frame.columns)
    axes[0, 0].invert_yaxis()
    low, high = 100 * frame.min(axis=None), 100 * frame.max(axis=None)
    axes[0, 0].set_xlim(min(low, 0) - 0.25 * (high - low), high + 0.25 * (high - low))
    figure.suptitle(f"{name} against the best of the compared methods", fontsize=10)
    return figure


def removals(changes: pd.DataFrame) -> plt.Figure:
    """Draw the loss of each metric without a part: a panel per data set, a marker per part.

    Parameters
    ----------
    changes : DataFrame indexed by (dataset, metric), a column per removed part
        Relative changes, negative for a loss.
    """
    datasets = list(changes.index.unique("dataset"))
    figure, axes = plt.subplots(
        1,
        len(datasets),
        figsize=(3.1 * len(datasets), 3.3),
        sharex=True,
        sharey=True,
        squeeze=False,
    )
    metrics = list(changes.index.unique("metric"))
    for axis, dataset in zip(axes.flat, datasets, strict=True):
        percent = 100 * changes.loc[dataset].loc[metrics]
        axis.axvspan(-2, 0, color="0.9")
        for (name, values), marker, colour in zip(percent.items(), "osd", COLOURS, strict=False):
            axis.plot(
                values,
                np.arange(len(metrics)),
                marker,
                color=colour,
                mfc="none",
                mew=1.4,
                ms=5,
                label=name,
            )
        axis.axvline(0, color="0.3", lw=0.8)
        axis.grid(axis="y", color="0.94")
        axis.set(title=dataset, xlabel="change, %")
    axes[0, 0].set_yticks(np.arange(len(metrics)), metrics)
    axes[0, 0].invert_yaxis()
    handles = [
        *axes[0, 0].get_legend_handles_labels()[0],
        matplotlib.patches.Patch(color="0.9", label="less than 2 %"),
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles))
    return figure


def gaps(differences: pd.Series, baseline: str) -> plt.Figure:
    """Draw the difference of each method to a baseline, in points, sorted.

    Parameters
    ----------
    differences : Series indexed by method
    baseline : str
        Its name.
    """
    values = differences.sort_values()
    figure, axis = plt.subplots(figsize=(5.6, 2.6))
    _bars(axis, values, "+.1f")
    axis.set_yticks(range(len(values)), values.index)
    axis.margins(x=0.12)
    axis.set(xlabel=f"mAP minus that of {baseline}, points")
    return figure
