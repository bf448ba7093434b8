"""What a set of infrared-visible pairs holds: sizes, boxes, light, and how far objects stand out in
either image.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from .. import images
from ..text_files import read_json
from .infrared_visible import Pair
from .matching import stem

UNSTATED = "not stated"


def contents(pairs: Iterable[Pair]) -> pd.DataFrame:
    """Return a row for each pair: its size, whether its visible image is coloured, its boxes.

    Returns
    -------
    DataFrame
        Indexed by pair: ``height``, ``width``, ``colour``, ``annotated`` (somebody looked for
        objects) and a column of counts for each class that occurs, and for "ignored" boxes.
    """
    rows, counts = [], []
    for pair in pairs:
        height, width = pair.infrared.shape
        rows.append(
            {
                "pair": pair.name,
                "height": height,
                "width": width,
                "colour": images.is_colour(pair.visible),
                "annotated": pair.boxes is not None,
            }
        )
        columns = [*pair.labels, *["ignored" for _ in pair.ignored.labels]]
        counts.append(pd.Series(columns, dtype=object).value_counts())
    table = pd.DataFrame(counts).fillna(0).astype(int).reset_index(drop=True)
    return pd.concat([pd.DataFrame(rows), table], axis=1).set_index("pair")


def conditions(folder: str | os.PathLike, names: Sequence[str]) -> list[str]:
    """Return what ``annotations.json`` says under "time" of each image, "not stated" where it or
    the file does not.
    """
    path = Path(folder) / "annotations.json"
    entries = read_json(path)["images"] if path.exists() else []
    stated = {stem(entry["file_name"]): str(entry["time"]) for entry in entries if "time" in entry}
    return [stated.get(name, UNSTATED) for name in names]


def contrast(gray: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Return how far the body in each box differs from what is around the box, in gray levels.

    The body is the middle half of the box, from an eighth to three quarters of its height, so that
    little background counts as body; the surroundings are a frame, half the box wide at its sides
    and a sixth of its height above and below.

    Parameters
    ----------
    gray : (H, W) uint8
    boxes : (n, 4)
        x, y, width, height in pixels.

    Returns
    -------
    (n,) float64
        Absolute difference of the two means; NaN where the box fills the image and nothing is
        around it.

    Raises
    ------
    ValueError
        The image is coloured, or a box is smaller than 2 x 2 pixels.
    """
    if gray.ndim != 2:
        raise ValueError(
            f"gray: expected a gray image (H, W), got {images.describe(gray)}; of a colour image"
            " use Y"
        )
    values = []
    for x, y, w, h in np.asarray(boxes, dtype=np.float64).reshape(-1, 4).astype(int).tolist():
        if min(w, h) < 2:
            raise ValueError(f"boxes: expected boxes of at least 2 x 2 pixels, got {w} x {h}")
        across, along = max(w // 2, 2), max(h // 6, 2)
        outer = gray[max(y - along, 0) : y + h + along, max(x - across, 0) : x + w + across]
        inner = gray[y : y + h, x : x + w]
        body = gray[
            y + h // 8 : y + max(3 * h // 4, h // 8 + 1),
            x + w // 4 : x + max(3 * w // 4, w // 4 + 1),
        ]
        frame = outer.size - inner.size
        around = (
            (outer.sum(dtype=np.int64) - inner.sum(dtype=np.int64)) / frame if frame else np.nan
        )
        values.append(abs(body.mean() - around))
    return np.array(values, dtype=np.float64)


def contrasts(pairs: Iterable[Pair], label: str = "person", smallest: int = 6) -> pd.DataFrame:
    """Return the contrast of every object of a class in both images.

    Parameters
    ----------
    smallest : int
        Boxes narrower or lower than this many pixels are left out: there is no body to tell from
        its edge.

    Returns
    -------
    DataFrame
        A row for each object: ``pair``, ``infrared``, ``visible`` (of the visible image's Y), gray
        levels.
    """
    rows = []
    for pair in pairs:
        boxes = np.empty((0, 4)) if pair.boxes is None else pair.boxes
        kept = [
            i
            for i, name in enumerate(pair.labels)
            if name == label and min(boxes[i, 2:]) >= smallest
        ]
        both = (
            contrast(image, boxes[kept]) for image in (pair.infrared, images.luma(pair.visible))
        )
        rows += [(pair.name, *values) for values in zip(*both, strict=True)]
    return pd.DataFrame(rows, columns=["pair", "infrared", "visible"])


def soft_map(
    boxes: np.ndarray | None, strengths: Sequence[float], size: tuple[int, int], edge: float = 0.3
) -> np.ndarray:
    """Draw boxes as a map with soft edges: a stand-in for the attention of a detector where there
    is none.

    Parameters
    ----------
    boxes : (n, 4) or None
        x, y, width, height in pixels; None, where nobody looked for objects, gives 0.5 everywhere.
    strengths : n floats in [0, 1]
        The value inside each box; where boxes overlap, the larger counts.
    size : (int, int)
        Height and width.
    edge : float
        Width of the edge, outside the box, in box widths and heights.

    Returns
    -------
    (H, W) float64 in [0, 1]
    """
    if boxes is None:
        return np.full(size, 0.5)
    if len(boxes) != len(strengths) or not all(0 <= value <= 1 for value in strengths):
        raise ValueError(
            f"strengths: expected {len(boxes)} numbers from 0 to 1, one a box, "
            f"got {list(strengths)!r:.60}"
        )
    drawn = np.zeros(size)
    rows, columns = (np.arange(n) + 0.5 for n in size)
    for (x, y, w, h), strength in zip(boxes, strengths, strict=True):
        across, along = (
            np.clip(1 - (np.abs(at - start - side / 2) - side / 2) / (edge * side), 0, 1)
            for at, start, side in ((columns, x, w), (rows, y, h))
        )
        ramp = np.outer(along, across)
        drawn = np.maximum(drawn, strength * ramp**2 * (3 - 2 * ramp))
    return drawn
