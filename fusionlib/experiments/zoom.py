"""Where fused images differ most, and what a small part of them shows: the boxes of figures 3 to 5
of MoE-Fusion.

There a red box marks foreground and a green one background (Cao et al., ICCV 2023, section 4.2),
chosen by hand.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from fusionlib.datasets import Pair
from fusionlib.datasets.survey import contrast
from fusionlib.metrics.gradient import average_gradient

SHARE = 0.25  # of height and width that a chosen box covers
MARGIN = 1.3  # of a red box, over the height or width of its object
LARGEST = 0.45  # share of height and width that an object may have


class Box(NamedTuple):
    """Left and upper edge, width and height in pixels."""

    x: int
    y: int
    width: int
    height: int

    def of(self, image: np.ndarray) -> np.ndarray:
        """Return this part of an image (H, W) or (H, W, 3)."""
        return image[self.y : self.y + self.height, self.x : self.x + self.width]


def check(box: Sequence[int], shape: Sequence[int], name: str = "box") -> Box:
    """Return a box given as four numbers.

    Parameters
    ----------
    box : sequence of int
        x, y, width, height in pixels.
    shape : sequence of int
        Of the image: height, width.
    name : str
        Of the argument, for the error sentence.

    Raises
    ------
    ValueError
        Not four whole numbers, smaller than 2 x 2, or not inside an image of ``shape``.
    """
    values = list(box)
    if len(values) != 4 or any(int(value) != value for value in values):
        raise ValueError(f"{name}: expected x, y, width, height in whole pixels, got {values}")
    box = Box(*map(int, values))
    height, width = shape[:2]
    if (
        min(box[2:]) < 2
        or min(box[:2]) < 0
        or box.x + box.width > width
        or box.y + box.height > height
    ):
        raise ValueError(
            f"{name}: expected at least 2x2 pixels inside {height}x{width} (height x width), got"
            f" {values}"
        )
    return box


def pick(pairs: Iterable[Pair], name: str = "", taken: Collection[str] = ()) -> Pair:
    """Return the pair of a name; without one the first that has objects and is not ``taken``, else
    the first.

    Parameters
    ----------
    pairs : iterable of Pair
    name : str
        "" for none.
    taken : collection of str
        Names not to choose again.

    Raises
    ------
    ValueError
        No such pair, or no pair at all.
    """
    first = None
    for pair in pairs:
        first = first or pair
        if pair.name == name or (not name and pair.labels and pair.name not in taken):
            return pair
    if name or first is None:
        raise ValueError(
            f"pairs: expected one named {name!r}, found none"
            if name
            else "pairs: expected at least one, got none"
        )
    return first


def disagreement(maps: Sequence[np.ndarray]) -> np.ndarray:
    """Return how much (H, W) maps, one a method, disagree at each pixel: their standard deviation,
    (H, W) float64.
    """
    if len(maps) < 2:
        raise ValueError(
            f"pictures: expected those of at least two methods to compare, got {len(maps)}"
        )
    return np.std(np.stack(maps).astype(np.float64), axis=0)


def window_means(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return the mean of (H, W) values in every window of ``size`` (h, w), (H - h + 1, W - w + 1),
    by its upper left corner.
    """
    (height, width), (rows, columns) = size, values.shape
    if not (1 <= height <= rows and 1 <= width <= columns):
        raise ValueError(
            f"size: expected at most {rows}x{columns}, that of the values, got {height}x{width}"
        )
    total = np.pad(values, ((1, 0), (1, 0))).cumsum(axis=0, dtype=np.float64).cumsum(axis=1)
    inside = (
        total[height:, width:]
        - total[:-height, width:]
        - total[height:, :-width]
        + total[:-height, :-width]
    )
    return inside / (height * width)


# radon C: with objects or without, with room beside the red box or without
def choose(
    pictures: Sequence[np.ndarray], objects: np.ndarray | None = None, share: float = SHARE
) -> tuple[Box, Box]:
    """Return a red box in the foreground and a green one in the background, where methods disagree
    most.

    ASSUMPTION: how the paper's authors chose their boxes is not given. Red is about the annotated
    object on whose gray levels the methods disagree most; where nobody looked for objects, the
    window on which they do. Green is the window on whose gradients they disagree most, outside the
    red one and, where there is room, without objects.

    Parameters
    ----------
    pictures : sequence of (H, W) uint8
        By different methods, at least two.
    objects : (n, 4), optional
        x, y, width, height in pixels.
    share : float
        Of height and width that a box covers, at most 0.4. Larger objects get a larger red box, up
        to MARGIN times their size; where that leaves too little room beside it, the green one is as
        large as the room.

    Raises
    ------
    ValueError
        A share outside ]0, 0.4], fewer than two pictures, or pictures too small for two boxes side
        by side.
    """
    if not 0 < share <= 0.4:
        raise ValueError(f"share: expected more than 0 and at most 0.4, got {share}")
    shape = pictures[0].shape
    height, width = (max(2, round(share * n)) for n in shape)
    spread = disagreement(pictures)
    objects = np.asarray(() if objects is None else objects, np.float64).reshape(-1, 4)
    bodies = [(x, y, w, h) for x, y, w, h in objects if max(w / shape[1], h / shape[0]) <= LARGEST]
    if bodies:
        x, y, w, h = max(bodies, key=lambda body: _inside(spread, body))
        # the proportions of the picture
        scale = max(share, MARGIN * w / shape[1], MARGIN * h / shape[0])
        rows, columns = (min(max(2, round(scale * n)), n) for n in shape)
        left, top = (
            int(np.clip(round(at), 0, room))
            for at, room in (
                (x + w / 2 - columns / 2, shape[1] - columns),
                (y + h / 2 - rows / 2, shape[0] - rows),
            )
        )
        red = Box(left, top, columns, rows)
    else:
        red = _best(window_means(spread, (height, width)), None, height, width)
    texture = disagreement(
        [np.hypot(*np.gradient(picture.astype(np.float64))) for picture in pictures]
    )
    height, width = _beside(red, shape, height, width)
    score = window_means(texture, (height, width))
    apart = ~_meets(score.shape, red, height, width)
    free = apart & ~np.any(
        [_meets(score.shape, box, height, width) for box in objects] or [np.zeros_like(apart)],
        axis=0,
    )
    return red, _best(score, free if free.any() else apart, height, width)


def _beside(red: Box, shape: Sequence[int], height: int, width: int) -> tuple[int, int]:
    """Return the size of a box that finds room beside ``red``: this one, or one of its proportions
    that is smaller.
    """
    rows = max(red.y, shape[0] - red.y - red.height)
    columns = max(red.x, shape[1] - red.x - red.width)
    if max(rows, columns) < 2:
        raise ValueError(
            f"pictures: expected room for two boxes, got {shape[0]}x{shape[1]} (height x width)"
            f" with {red}"
        )
    scale = min(1, max(rows / height, columns / width))
    smaller = max(2, int(scale * height)), max(2, int(scale * width))
    # At a side of two pixels the proportions end: then the direction that has room is what counts.
    return smaller if smaller[0] <= rows or smaller[1] <= columns else (2, 2)


def _inside(values: np.ndarray, body: Sequence[float]) -> float:
    x, y, w, h = body
    return float(
        values[int(y) : max(int(y + h), int(y) + 1), int(x) : max(int(x + w), int(x) + 1)].mean()
    )


def _meets(
    shape: tuple[int, int], other: Sequence[float] | np.ndarray, height: int, width: int
) -> np.ndarray:
    """Tell for every window, by its upper left corner, whether it meets another box."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    left, top, w, h = other
    return (x < left + w) & (left < x + width) & (y < top + h) & (top < y + height)


def _best(score: np.ndarray, allowed: np.ndarray | None, height: int, width: int) -> Box:
    row, column = np.unravel_index(
        np.argmax(score if allowed is None else np.where(allowed, score, -1)), score.shape
    )
    return Box(int(column), int(row), width, height)


def measure(
    pictures: Mapping[str, np.ndarray], red: Box, green: Box, objects: np.ndarray | None = None
) -> pd.DataFrame:
    """Measure what section 4.2 of the paper sees in the boxes: contrast in the foreground, texture
    in the background.

    Parameters
    ----------
    pictures : {name: (H, W) uint8}
    objects : (n, 4), optional
        x, y, width, height. The contrast is that of the largest one whose middle lies in the red
        box, without any that of the red box itself.

    Returns
    -------
    DataFrame indexed by name
        "foreground contrast" (:func:`fusionlib.datasets.survey.contrast`) and "background gradient"
        (AG of the green box), both in gray levels.
    """
    objects = np.asarray(() if objects is None else objects, np.float64).reshape(-1, 4)
    middle = objects[:, :2] + objects[:, 2:] / 2
    within = ((middle >= red[:2]) & (middle < np.add(red[:2], red[2:]))).all(axis=1) & (
        objects[:, 2:] >= 2
    ).all(axis=1)
    body = np.array([red], np.float64)
    if within.any():
        largest = np.argmax(objects[within][:, 2:].prod(axis=1))
        body = objects[within][[largest]]
    return pd.DataFrame(
        {
            name: {
                "foreground contrast": contrast(picture, body)[0],
                "background gradient": average_gradient(green.of(picture)),
            }
            for name, picture in pictures.items()
        }
    ).T
