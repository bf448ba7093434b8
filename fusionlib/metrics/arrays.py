"""Exact sums of 8-bit images, and strips of rows that fit the processor's cache."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np


def signed(image: np.ndarray) -> np.ndarray:
    """Return an image whose differences do not wrap around: int16 for uint8, float64 for floats."""
    image = np.asarray(image)
    return image.astype(np.int16 if image.dtype == np.uint8 else np.float64)


def inner(x: np.ndarray, y: np.ndarray) -> int | float:
    """Return sum x y: an exact Python integer for integer images, a float for others."""
    whole = x.dtype.kind in "biu" and y.dtype.kind in "biu"
    total = np.einsum("ij,ij->", x, y, dtype=np.int64 if whole else np.float64, casting="unsafe")
    return total.item()


def strips(length: int, width: int, window: int) -> Iterator[slice]:
    """Cut an axis of an image into overlapping strips: the 'valid' windows of one follow those of
    the last.

    A strip starts at an even index. It has about 32 000 pixels, few enough for the processor's
    cache and for an allocator that then need not ask the system for memory, which costs more than
    the arithmetic. (Not the tiles of ``fusionlib.networks``, of which metrics know nothing: these
    have no halo but a window that ends inside.)

    Parameters
    ----------
    length, width : int
        Pixels along the axis that is cut, and along the other.
    window : int
        Size of the window; at most ``length``.
    """
    step, last = max(16, 32_000 // width // 2 * 2), length - window + 1
    for start in range(0, last, step):
        yield slice(start, min(start + step, last) + window - 1)
