"""Figures of detection: precision-recall curves, intervals of the mAP, images with detections."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from fusionlib.figures import COLOURS, PICTURE, WIDTH
from fusionlib.figures.moe import CLASS_COLOURS, INFRARED, VISIBLE

# Lines that mean the same in every figure; the other methods take turns with the rest.
FIXED = {"Infrared": (INFRARED, "-"), "Visible": (VISIBLE, "-"), "MoE-Fusion": ("black", "-")}
CYCLE = [(colour, dashes) for dashes in ("-", "--", ":") for colour in COLOURS[2:]]


def line_styles(names: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Return colour and line style of each row of the table."""
    free = cycle(CYCLE)
    return {name: FIXED[name] if name in FIXED else next(free) for name in names}


def curves(
    panels: Mapping[str, Mapping[str, tuple[np.ndarray, np.ndarray]]], ap: pd.DataFrame
) -> plt.Figure:
    """Draw precision over recall, a panel a class, with the area under each curve.

    Parameters
    ----------
    panels : {class: {row: (recall, precision)}}
    ap : DataFrame
        AP in percent by row (index) and class (columns), for the legends.
    """
    style = line_styles(list(next(iter(panels.values()))))
    figure, axes = plt.subplots(
        1,
        len(panels),
        squeeze=False,
        sharey=True,
        figsize=(3.0 * len(panels), 2.8 + 0.14 * len(style)),
    )
    for axis, (title, lines) in zip(axes.flat, panels.items(), strict=True):
        # The largest area first; a row whose area is undefined (NaN) comes last.
        for row in ap.loc[list(lines), title].sort_values(ascending=False, kind="stable").index:
            recall, precision = lines[row]
            colour, dashes = style[row]
            width = 1.8 if row in FIXED else 1.1
            axis.plot(
                np.r_[0 * recall[:1], recall],
                np.r_[precision[:1], precision],
                dashes,
                color=colour,
                lw=width,
                label=f"{ap.loc[row, title]:5.1f}  {row}",
            )
        axis.set(
            title=title,
            xlim=(0, 1.01),
            ylim=(0, 1.02),
            xlabel="recall",
            xticks=[0, 0.5, 1],
            yticks=[0, 0.5, 1],
        )
        axis.legend(
            loc="upper center",
            bbox_to_anchor=(0.5, -0.2),
            title="AP in %",
            handlelength=2.2,
            labelspacing=0.25,
        )
    axes[0, 0].set_ylabel("precision")
    return figure


def intervals(frame: pd.DataFrame) -> plt.Figure:
    """Draw the mAP of each row with its interval, the best on top.

    Parameters
    ----------
    frame : DataFrame with method, value, low, high in percent
    """
    frame = frame.sort_values("value", ignore_index=True)
    style = line_styles(list(frame["method"]))
    figure, axis = plt.subplots(figsize=(5.2, 0.9 + 0.26 * len(frame)))
    for row in frame.itertuples():
        colour = style[row.method][0] if row.method in FIXED else "0.35"
        axis.plot([row.low, row.high], [row.Index] * 2, color=colour, lw=1.6, solid_capstyle="butt")
        axis.plot(row.value, row.Index, "o", color=colour, ms=5)
        axis.annotate(
            f"{row.value:.1f}",
            (row.high, row.Index),
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
        )
    axis.set_yticks(frame.index, frame["method"])
    axis.set(
        xlabel="mAP in %, with the 95 % interval when images are drawn anew",
        ylim=(-0.6, len(frame) - 0.4),
    )
    axis.grid(axis="x", color="0.92")
    axis.set_axisbelow(True)
    return figure


# radon C: a panel is a picture with boxes, or the word why there is none
def detections(panels: Mapping[str, tuple], columns: int = 3) -> plt.Figure:
    """Draw images with detections: boxes coloured by class, with scores; annotations dashed white.

    Parameters
    ----------
    panels : {title: (picture, detected, truth) or a sentence}
        ``detected`` and ``truth`` as :class:`fusionlib.detectors.Boxes` (``truth`` or None). A
        sentence stands alone in its panel: why there is no image.
    columns : int
        At most.
    """
    columns = min(columns, len(panels))
    width = min(PICTURE, WIDTH / columns)
    shape = next(panel[0].shape for panel in panels.values() if not isinstance(panel, str))
    rows = -(-len(panels) // columns)
    figure, axes = plt.subplots(
        rows,
        columns,
        squeeze=False,
        figsize=(width * columns, rows * (width * shape[0] / shape[1] + 0.3) + 0.3),
    )
    drawn = set()
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_visible(False)
    for axis, (title, panel) in zip(axes.flat, panels.items(), strict=False):
        axis.set_title(title)
        if isinstance(panel, str):
            axis.set(xlim=(0, shape[1]), ylim=(shape[0], 0), aspect="equal", facecolor="0.93")
            axis.text(shape[1] / 2, shape[0] / 2, panel, ha="center", va="center", color="0.35")
            continue
        picture, detected, truth = panel
        axis.imshow(picture, vmin=0, vmax=255)
        for corners in () if truth is None else truth.corners:
            _box(axis, corners, ec="white", ls=(0, (2, 2)), lw=0.9)
        for corners, label in zip(detected.corners, detected.labels, strict=True):
            colour = CLASS_COLOURS.get(label, COLOURS[2])
            drawn.add((label, colour))
            _box(axis, corners, ec=colour, lw=1.3)
        _scores(axis, detected, shape)
    handles = [plt.Line2D([], [], color=colour, label=label) for label, colour in sorted(drawn)]
    if any(not isinstance(panel, str) and panel[2] is not None for panel in panels.values()):
        handles.append(plt.Line2D([], [], color="0.6", ls=(0, (2, 2)), label="annotated (white)"))
    if handles:
        figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    return figure


def _box(axis: plt.Axes, corners: np.ndarray, **style: Any) -> None:
    x0, y0, x1, y1 = corners
    axis.add_patch(plt.Rectangle((x0 - 0.5, y0 - 0.5), x1 - x0, y1 - y0, fill=False, **style))


def _scores(axis: plt.Axes, detected: Any, shape: tuple[int, ...]) -> None:
    """Write each score at its box, the best first: above, below or inside, where no other is.

    Parameters
    ----------
    shape : (H, W, ...)
        Of the image.
    """
    height, width = shape[:2]
    wide, tall = 0.095 * width, 0.06 * height  # of a label
    taken: list[tuple[float, float]] = []
    for i in np.argsort(detected.scores)[::-1]:
        x0, y0, x1, y1 = detected.corners[i]
        left = min(x0, width - wide) - 0.5
        tops = [y0 - tall, y1, y0, y1 - tall]
        spots = [(x, top) for x in (left, x1 - wide) for top in tops if 0 <= top <= height - tall]
        free = (
            (x, top)
            for x, top in spots
            if all(abs(x - a) >= wide or abs(top - b) >= tall for a, b in taken)
        )
        x, top = next(free, (left, max(y0, 0)))
        taken.append((x, top))
        colour = CLASS_COLOURS.get(detected.labels[i], COLOURS[2])
        box = {"fc": colour, "ec": "none", "pad": 0.4}
        axis.text(x, top + tall, f"{detected.scores[i]:.2f}", fontsize=8, va="bottom", bbox=box)
