"""Figures: a common style, a function a figure; saved as PNG, PDF, caption and data."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from fusionlib import images
from fusionlib.figures import inline
from fusionlib.figures.explorer import explore as explore

WIDTH = 9.6  # inches; no figure is wider, so that 8 points stay 8 points in a notebook's column
PICTURE = 3.2  # inches, the widest picture of a grid
# Colours that stay apart in every kind of colour blindness (Okabe and Ito 2008).
COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"]
STYLE: dict[str, Any] = {
    "savefig.dpi": inline.DPI,
    "savefig.bbox": "tight",
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "image.cmap": "gray",
    "legend.frameon": False,
    "figure.constrained_layout.use": True,
    # Fonts and creation time would change the bytes of a PDF that shows the same thing.
    "pdf.fonttype": 42,
}


def style() -> None:
    """Set the project's figure style."""
    plt.style.use(STYLE)


def save(
    figure: plt.Figure,
    folder: str | Path,
    name: str,
    caption: str,
    data: pd.DataFrame | None = None,
) -> None:
    """Write ``figures/NAME.{png,pdf,txt}`` below ``folder``, and ``NAME.csv`` with the numbers; a
    notebook shows the picture over its caption.

    Parameters
    ----------
    caption : str
        Content and origin of the figure, for the report.
    data : DataFrame, optional
        The numbers that the figure shows.
    """
    target = Path(folder) / "figures"
    images.write_atomically(
        target / f"{name}.pdf",
        lambda path: figure.savefig(path, format="pdf", metadata={"CreationDate": None}),
    )
    images.write_text(target / f"{name}.txt", caption)
    if data is not None:
        images.write_text(target / f"{name}.csv", data.to_csv(index=False))
    # The PNG comes last: a figure that is there has all its parts.
    path = images.write_atomically(
        target / f"{name}.png", lambda path: figure.savefig(path, format="png")
    )
    if inline.here():
        inline.show(figure, path, caption)


def sheet(pictures: Mapping[str, np.ndarray], columns: int = 3) -> plt.Figure:
    """Draw images side by side under their titles, gray on the fixed scale 0..255.

    Parameters
    ----------
    pictures : {title: (H, W) or (H, W, 3) uint8}
    columns : int
        At most.
    """
    height, breadth = next(iter(pictures.values())).shape[:2]
    rows = -(-len(pictures) // columns)
    width = min(PICTURE, WIDTH / columns)
    columns = min(columns, len(pictures))
    titles = [textwrap.fill(title, int(14 * width)) for title in pictures]
    above = 0.15 + 0.15 * max(1 + title.count("\n") for title in titles)
    figure, axes = plt.subplots(
        rows,
        columns,
        squeeze=False,
        figsize=(width * columns, (width * height / breadth + above) * rows),
    )
    for axis in axes.flat:
        # invisible ticks are laid out all the same, and take most of the time
        axis.set(xticks=[], yticks=[])
        axis.axis("off")
    for axis, title, picture in zip(axes.flat, titles, pictures.values(), strict=False):
        axis.imshow(picture, vmin=0, vmax=255)
        axis.set_title(title)
    return figure


def difference(image: np.ndarray, reference: np.ndarray, gain: float) -> np.ndarray:
    """Return 128 + gain * (image - reference) on the luma, clipped; uint8, gray where equal.

    Parameters
    ----------
    image, reference : (H, W) or (H, W, 3) uint8
    gain : float
    """
    delta = images.luma(image).astype(np.float64) - images.luma(reference)
    return images.to_uint8(128 + gain * delta)
