"""What a multi-scale transform gives: one low-pass band (the base) and the high-pass bands."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Bands:
    """A decomposed image.

    Attributes
    ----------
    low : (h, w) array
        The base.
    high : list
        High-pass bands, finest scale first: arrays (pyramid) or lists of arrays (curvelets: the
        wedges of a scale, clockwise from the top left corner of the spectrum).
    shape : (H, W) or None
        Size of the image, where the bands alone do not tell it (a pyramid extends odd sides by one
        sample).
    """

    low: np.ndarray
    high: list
    shape: tuple[int, int] | None = None

    def map(self, high: Callable, *others: Bands, low: Callable | None = None) -> Bands:
        """Apply ``high`` to each high-pass band of this and ``others`` together, ``low`` to the
        bases.

        ``low`` defaults to ``high``: ``a.map(np.add, b)`` is the sum of two decompositions.
        """
        base = (low or high)(self.low, *(other.low for other in others))
        return Bands(base, _zip_map(high, self.high, *(other.high for other in others)), self.shape)

    def arrays(self) -> Iterator[np.ndarray]:
        """Run through all arrays, the base first."""
        yield self.low
        for band in self.high:
            yield from band if isinstance(band, list) else (band,)


def _zip_map(function: Callable, *nested: list) -> list:
    return [
        _zip_map(function, *items) if isinstance(items[0], list) else function(*items)
        for items in zip(*nested, strict=True)
    ]
