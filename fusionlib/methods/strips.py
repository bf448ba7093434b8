"""Pairs in strips of rows: the memory of a method that looks no further than some rows grows with a
strip, not with the image, and the result is the same to the last bit.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from fusionlib.workers import PROGRAM

GRAY, COLOURED = 100, 250  # bytes a pixel of a strip: a pyramid of both lumas, of all channels
KEPT = 20  # bytes a pixel of the image: both sources, what is fused, and its shares of lost pixels


class Reach(NamedTuple):
    """How far a method looks.

    Attributes
    ----------
    rows : int
        A fused row depends on no source row that lies further away.
    step : int
        Strips start at its multiples, so that every second row of a second row stays the same row.
    """

    rows: int
    step: int


class Strip(NamedTuple):
    """Rows to fuse, ``around``, and those of the result to keep, ``inner``, and their place."""

    around: slice
    inner: slice
    target: slice


def rows_at_once(size: tuple[int, int], coloured: bool, reach: Reach, memory: float) -> int:
    """Return how many rows of an image fit into ``memory`` GB together with the rows around them.

    Raises
    ------
    ValueError
        None do; says what is needed.
    """
    height, width = size
    row = width * (COLOURED if coloured else GRAY)
    kept = PROGRAM + KEPT * height * width
    if kept + height * row <= memory * 1e9:
        return height
    rows = int((memory * 1e9 - kept) / row) - 2 * reach.rows
    if rows < reach.step:
        needed = (kept + (reach.step + 2 * reach.rows) * row) / 1e9
        raise ValueError(
            f"memory: expected at least {needed:.1f} GB for images of {width}x{height}, got"
            f" {memory:.1f}; --memory {needed + 0.1:.1f}"
        )
    return rows // reach.step * reach.step


def strips(height: int, rows: int, reach: Reach) -> Iterator[Strip]:
    """Run through the strips of ``rows`` rows, a multiple of ``reach.step``, the last one lower."""
    margin = -(-reach.rows // reach.step) * reach.step
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        start, end = max(top - margin, 0), min(bottom + margin, height)
        yield Strip(slice(start, end), slice(top - start, bottom - start), slice(top, bottom))
