"""Tiles of an image that are computed one after the other, each with a halo."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from torch import Tensor


class Area(NamedTuple):
    """Rows ``top`` to ``bottom`` and columns ``left`` to ``right`` of an image, ends excluded."""

    top: int
    bottom: int
    left: int
    right: int

    def grown(self, by: int, size: Sequence[int]) -> Area:
        """Return the area with a halo of ``by`` pixels, as far as the image of ``size`` goes."""
        rows = max(self.top - by, 0), min(self.bottom + by, size[0])
        return Area(*rows, max(self.left - by, 0), min(self.right + by, size[1]))

    def of(self, x: Tensor, around: Sequence[int] = (0, 0, 0, 0)) -> Tensor:
        """Return this part of maps ``x`` of the area ``around``, by default of the whole image."""
        top, left = around[0], around[2]
        return x[..., self.top - top : self.bottom - top, self.left - left : self.right - left]


def tiles(size: Sequence[int], tile: Sequence[int]) -> Iterator[Area]:
    """Yield the areas of at most ``tile`` rows and columns that make up an image of ``size``."""
    (height, width), (rows, columns) = size, tile
    for top in range(0, height, rows):
        for left in range(0, width, columns):
            yield Area(top, min(top + rows, height), left, min(left + columns, width))
