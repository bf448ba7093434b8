"""Figures of the metric conventions: ranges of values, and scatter plots of two conventions."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from fusionlib.figures import COLOURS, WIDTH


def ranges(spans: pd.DataFrame, values: pd.DataFrame) -> plt.Figure:
    """Draw values per metric and convention over the span of printed numbers.

    Parameters
    ----------
    spans : DataFrame indexed by metric, columns min and max
    values : DataFrame with metric, convention, value; one point a row
    """
    figure, axes = plt.subplots(2, -(-len(spans) // 2), figsize=(9, 4.2), squeeze=False)
    conventions = list(dict.fromkeys(values["convention"]))
    for axis, (metric, span) in zip(axes.flat, spans.iterrows(), strict=False):
        axis.axhspan(span["min"], span["max"], color="0.85")
        of_metric = values[values["metric"] == metric]
        for x, (convention, marker, colour) in enumerate(
            zip(conventions, "oxs^d", COLOURS, strict=False)
        ):
            y = of_metric.loc[of_metric["convention"] == convention, "value"]
            axis.plot(np.full(len(y), x), y, marker, color=colour, mfc="none", mew=1.3)
        axis.set(title=metric, xlim=(-0.6, len(conventions) - 0.4), xticks=range(len(conventions)))
        axis.set_xticklabels(conventions, fontsize=8)
    for axis in axes.flat[len(spans) :]:
        axis.axis("off")
    return figure


def pair_of_scatters(
    frame: pd.DataFrame, left: tuple[str, str], right: tuple[str, str]
) -> plt.Figure:
    """Draw two scatter plots side by side.

    Parameters
    ----------
    left, right : (str, str)
        Columns of ``frame`` for x and y.
    """
    figure, axes = plt.subplots(1, 2, figsize=(7.4, 2.9))
    for axis, (x, y), colour in zip(axes, (left, right), COLOURS, strict=False):
        axis.plot(frame[x], frame[y], "o", color=colour, mfc="none", ms=5)
        axis.set(xlabel=x, ylabel=y)
    return figure


def one_image(picture: np.ndarray, values: pd.DataFrame) -> plt.Figure:
    """Draw an image beside its values, a row a metric, a column a convention.

    Parameters
    ----------
    picture : (H, W) uint8
    values : DataFrame, metrics x conventions
        NaN where a convention lacks the metric.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(WIDTH, 3.4), width_ratios=(1, 2))
    left.imshow(picture, vmin=0, vmax=255)
    for axis in (left, right):
        axis.set(xticks=[], yticks=[])
        axis.axis("off")
    text = values.map(lambda value: "–" if np.isnan(value) else f"{value:.4g}")
    heads = {"rowLabels": list(text.index), "colLabels": list(text)}
    table = right.table(text.to_numpy(), loc="center", edges="horizontal", **heads)
    table.auto_set_font_size(False)
    table.set_fontsize(9)
    table.scale(1, 1.25)
    return figure
