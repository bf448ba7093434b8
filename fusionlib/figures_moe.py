"""Figures of infrared-visible pairs and of MoE-Fusion; they get arrays and frames and know no network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from fusionlib import images
from fusionlib.figures import COLOURS

# Warm for what comes from the infrared image, cool for the visible, in every figure of this file.
INFRARED, VISIBLE = COLOURS[1], COLOURS[0]
CLASS_COLOURS = {"person": "#E69F00", "car": "#56B4E9", "bicycle": "#CC79A7"}  # of other classes: green


def _bare(axis: plt.Axes) -> None:
    """Take ticks and frame away; ticks that are only hidden still cost most of the time of drawing."""
    axis.set(xticks=[], yticks=[])
    axis.spines[:].set_visible(False)


# ---- pairs ------------------------------------------------------------------------------------------------------

def pairs(shown: Mapping[str, tuple], columns: int = 4, width: float = 2.1) -> plt.Figure:
    """Draw pairs, the infrared image above the visible one, with the same boxes on both.

    Parameters
    ----------
    shown : {title: (infrared, visible, boxes, labels)}
        ``boxes`` (n, 4) as x, y, width, height in pixels of either image, or None.
    """
    columns = min(columns, len(shown))
    rows = -(-len(shown) // columns)
    shape = np.mean([infrared.shape[0] / infrared.shape[1] for infrared, *_ in shown.values()])
    figure, axes = plt.subplots(2 * rows, columns, squeeze=False, figsize=(width * columns, rows * (2 * width * shape + 0.35)))
    for axis in axes.flat:
        _bare(axis)
    drawn = set()
    for number, (title, (infrared, visible, boxes, labels)) in enumerate(shown.items()):
        top, bottom = axes[2 * (number // columns):, number % columns][:2]
        for axis, picture in ((top, infrared), (bottom, visible)):
            axis.imshow(picture, vmin=0, vmax=255, interpolation="auto")
            for (x, y, w, h), label in zip(() if boxes is None else boxes, labels, strict=True):
                colour = CLASS_COLOURS.get(label, COLOURS[2])
                axis.add_patch(plt.Rectangle((x - 0.5, y - 0.5), w, h, fill=False, ec=colour, lw=1.2))
                drawn.add((label, colour))
        top.set_title(title)
    handles = [plt.Line2D([], [], color=colour, label=label) for label, colour in sorted(drawn)]
    if handles:
        figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    return figure


def contrasts(frame: pd.DataFrame) -> plt.Figure:
    """Draw the contrast of objects in the infrared image over that in the visible one, a panel a condition.

    Parameters
    ----------
    frame : DataFrame with the columns condition, infrared, visible
        A row for each object; the cross is at the medians.
    """
    groups = dict(list(frame.groupby("condition", sort=False)))
    figure, axes = plt.subplots(1, len(groups), figsize=(2.1 * len(groups) + 0.4, 2.7), sharex=True, sharey=True, squeeze=False)
    reach = 1.05 * frame[["infrared", "visible"]].max(axis=None)
    for axis, (name, group) in zip(axes.flat, groups.items(), strict=True):
        axis.fill_between([0, reach], [0, reach], reach, color=INFRARED, alpha=0.10, lw=0)
        axis.fill_between([0, reach], 0, [0, reach], color=VISIBLE, alpha=0.10, lw=0)
        axis.plot(group["visible"], group["infrared"], "o", ms=3.5, mfc="none", mec="0.25", mew=0.9)
        axis.plot(group["visible"].median(), group["infrared"].median(), "P", ms=9, mfc="black", mec="white")
        axis.set(title=f"{name}, {len(group)} objects", xlim=(0, reach), ylim=(0, reach), aspect="equal")
    axes[0, 0].text(0.05 * reach, 0.93 * reach, "more in infrared", color=INFRARED, va="top")
    axes[0, -1].text(0.97 * reach, 0.05 * reach, "more in visible", color=VISIBLE, ha="right")
    axes[0, 0].set_ylabel("contrast in infrared, gray levels")
    figure.supxlabel("contrast in visible, gray levels", fontsize=plt.rcParams["font.size"])
    return figure


def steeper(infrared: np.ndarray, visible: np.ndarray) -> np.ndarray:
    """Colour who has the steeper gradient: the infrared image (orange), the visible one (blue), white where both are flat.

    Parameters
    ----------
    infrared, visible : (H, W) float
        Strength of the gradient in either image, any one scale; colours are full at the 95 % quantile of the larger.

    Returns
    -------
    (H, W, 3) uint8
    """
    larger = np.maximum(infrared, visible)
    strength = np.clip(larger / max(np.quantile(larger, 0.95), 1e-12), 0, 1)[..., None]
    winner = np.where((infrared > visible)[..., None], matplotlib.colors.to_rgb(INFRARED), matplotlib.colors.to_rgb(VISIBLE))
    return images.from_unit(1 + strength * (winner - 1))


def gallery(rows: Mapping[str, Sequence[np.ndarray]], titles: Sequence[str], width: float = 1.7) -> plt.Figure:
    """Draw a row of pictures for each name, gray on 0..255, the titles above the columns."""
    height, breadth = next(iter(rows.values()))[0].shape[:2]
    figure, axes = plt.subplots(len(rows), len(titles), squeeze=False,
                                figsize=(width * len(titles) + 0.3, (width * height / breadth + 0.08) * len(rows) + 0.25))
    for line, (name, pictures) in zip(axes, rows.items(), strict=True):
        for axis, picture in zip(line, pictures, strict=True):
            axis.imshow(picture, vmin=0, vmax=255, interpolation="auto")
            _bare(axis)
        line[0].set_ylabel(name)
    for axis, title in zip(axes[0], titles, strict=True):
        axis.set_title(title)
    return figure
