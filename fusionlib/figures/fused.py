"""Figures 3 to 5 of MoE-Fusion: sources and fused images, each with two details enlarged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.layout_engine import PlaceHolderLayoutEngine

from fusionlib.figures import PICTURE, WIDTH

RED, GREEN = "#E2231A", "#00A651"
GAP, TITLE = 0.06, 0.24  # inches


def zooms(
    pictures: Mapping[str, np.ndarray], red: Sequence[int], green: Sequence[int], columns: int = 3
) -> plt.Figure:
    """Draw each picture with both boxes and, below, the details in them: red left, green right.

    Parameters
    ----------
    pictures : {title: (H, W) or (H, W, 3) uint8}
        Of one size.
    red, green : (x, y, width, height)
        In pixels.
    columns : int
        At most.
    """
    rows = -(-len(pictures) // columns)
    columns = -(-len(pictures) // rows)  # no row nearly empty
    width = min(PICTURE, (WIDTH + GAP) / columns - GAP)
    height, breadth = next(iter(pictures.values())).shape[:2]
    tall = width * height / breadth
    half = (width - GAP / 2) / 2
    below = half * max(box[3] / box[2] for box in (red, green))
    size = columns * (width + GAP) - GAP, rows * (TITLE + tall + GAP / 2 + below + GAP)
    # Positions are exact here. "none" instead of this engine is forgotten by the first savefig.
    figure = plt.figure(
        figsize=size, layout=PlaceHolderLayoutEngine(adjust_compatible=True, colorbar_gridspec=True)
    )

    def add_axes(left: float, top: float, w: float, h: float) -> plt.Axes:
        axis = figure.add_axes((left / size[0], 1 - (top + h) / size[1], w / size[0], h / size[1]))
        axis.set(xticks=[], yticks=[])
        return axis

    for number, (title, picture) in enumerate(pictures.items()):
        left = (number % columns) * (width + GAP)
        top = (number // columns) * (size[1] / rows) + TITLE
        axis = add_axes(left, top, width, tall)
        axis.imshow(picture, vmin=0, vmax=255, aspect="auto")
        axis.spines[:].set_visible(False)
        axis.set_title(title, pad=3)
        for side, ((x, y, w, h), colour) in enumerate(((red, RED), (green, GREEN))):
            axis.add_patch(plt.Rectangle((x - 0.5, y - 0.5), w, h, fill=False, ec=colour, lw=1.3))
            x0, y0 = left + side * (half + GAP / 2), top + tall + GAP / 2
            detail = add_axes(x0, y0, half, half * h / w)
            detail.imshow(picture[y : y + h, x : x + w], vmin=0, vmax=255, aspect="auto")
            detail.spines[:].set(visible=True, color=colour, lw=1.6)
    return figure
