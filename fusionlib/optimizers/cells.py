"""What the entropy of p + w d can be at most in a cell of weights: counted, not sorted.

A pixel passes gray levels one by one. How many enter and leave a level in a cell bounds how many
are there at any weight in it, and the most even histogram within these bounds has the largest
entropy. A count costs a twentieth of a sort, and its memory does not grow with the image.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import xlogy

from .steps import crossings, levels

PIXELS = 2**14  # counted together: what they need fits a processor's cache
HALVINGS = 60  # of the number of pixels, to less than the rounding of float64


@dataclass(frozen=True)
class Cells:
    """Histograms at the edges of C cells, and what changes in between.

    Attributes
    ----------
    edges : (C + 1,) float64
        Weights, ascending, of equal distance.
    counts : (C + 1, 256) int64
        Pixels of each level at the edges.
    entering, leaving : (C, 256) int64
        How often a pixel comes to a level, or leaves it, in a cell.
    """

    edges: np.ndarray
    counts: np.ndarray
    entering: np.ndarray
    leaving: np.ndarray

    @property
    def steps(self) -> np.ndarray:
        """The number of gray-level changes in each cell, (C,)."""
        return self.entering.sum(axis=1)

    def ceilings(self) -> np.ndarray:
        """Return what the entropy in each cell does not exceed, (C,) in bits."""
        least, most = self.counts[:-1] - self.leaving, self.counts[:-1] + self.entering
        pixels = int(self.counts[0].sum())
        low, high = np.zeros(len(least)), np.full(len(least), float(pixels))
        # the most even histogram: one number for all levels, as far as the bounds let it
        for _ in range(HALVINGS):
            level = (low + high) / 2
            enough = np.clip(level[:, None], least, most).sum(axis=1) >= pixels
            low, high = np.where(enough, low, level), np.where(enough, level, high)
        return entropies(np.clip(high[:, None], least, most))


def entropies(counts: np.ndarray) -> np.ndarray:
    """Return the entropy in bits, eq. (15), of histograms (n, 256)."""
    p = counts / counts.sum(axis=1, keepdims=True)
    return -xlogy(p, p).sum(axis=1) / np.log(2)


def histogram(p: np.ndarray, d: np.ndarray, w: float) -> np.ndarray:
    """Return how many pixels of p + w d, rounded, have each gray level, (256,)."""
    p, d, counts = p.ravel(), d.ravel(), np.zeros(256, np.int64)
    for start in range(0, len(p), PIXELS):
        part = slice(start, start + PIXELS)
        counts += np.bincount(levels(p[part] + w * d[part]), minlength=256)
    return counts


def changes(p: np.ndarray, d: np.ndarray) -> int:
    """Return how often a pixel of p + w d, rounded, changes its gray level for w in [0, 1]."""
    p, d, total = p.ravel(), d.ravel(), 0
    for start in range(0, len(p), PIXELS):
        part = slice(start, start + PIXELS)
        total += int(np.abs(levels(p[part] + d[part]) - levels(p[part])).sum())
    return total


def cells(p: np.ndarray, d: np.ndarray, low: float, high: float, number: int) -> Cells:
    """Count what rounding does to p + w d in ``number`` cells of [low, high].

    Parameters
    ----------
    p, d : (H, W) float64
        Gray levels 0..255 at w = 0 and their change up to w = 1.
    low, high : float in [0, 1]
        With few binary digits, and ``number`` a power of two times their distance: then a weight
        on an edge is known to lie there.
    number : int
    """
    p, d = p.ravel(), d.ravel()
    start, passed = np.zeros(256, np.int64), np.zeros(2 * 256 * number, np.int64)
    scale = number / (high - low)
    at_once = min(int(PIXELS / (high - low)), 16 * PIXELS)  # a pixel changes less in a part
    for begin in range(0, len(p), at_once):
        part = p[begin : begin + at_once], d[begin : begin + at_once]
        first, last = (levels(part[0] + w * part[1]) for w in (low, high))
        start += np.bincount(first, minlength=256)
        weights, _, lower, upwards = crossings(*part, first, last, low, high)
        weights -= low
        weights *= scale
        # half a level rounds up: on an edge a rising pixel has changed, a falling one has not
        cell = weights.astype(np.int64)
        cell -= upwards & (weights == cell)
        np.clip(cell, 0, number - 1, out=cell)
        cell *= 2
        cell += upwards
        cell *= 256
        cell += lower
        passed += np.bincount(cell, minlength=passed.size)
    falling, rising = np.moveaxis(passed.reshape(number, 2, 256), 1, 0)
    above = [np.roll(each, 1, axis=1) for each in (falling, rising)]  # no pixel passes 255
    entering, leaving = falling + above[1], rising + above[0]
    counts = start + np.cumsum(entering - leaving, axis=0)
    edges = low + np.arange(number + 1) / scale
    return Cells(edges, np.concatenate([start[None], counts]), entering, leaving)
