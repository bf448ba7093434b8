"""All that 8-bit rounding does to an image that is a straight line in w.

Each pixel of p + w d changes its gray level at known weights. Whatever is computed from the rounded
image (histogram, entropy, sums with another image) is therefore a step function of w, and all its
steps follow from one sort.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

AT_ONCE = 2**18  # gray-level changes handled together, or half as many as pixels; bounds the memory


@dataclass(frozen=True)
class Steps:
    """Step functions of w in [0, 1]; the value at w stands at :meth:`index`.

    Attributes
    ----------
    weights : (E,) float64
        Where a pixel changes its 8-bit gray level, ascending; several pixels may share one.
    entropies : (E + 1,) float64
        Entropy in bits before the first step, between steps, after the last.
    sums : (2 + S, E + 1) int64 or None
        Sums over the pixels of the rounded image, of its square, of its product with each of S
        other images.
    """

    weights: np.ndarray
    entropies: np.ndarray
    sums: np.ndarray | None = None

    def index(self, w: float | np.ndarray) -> np.ndarray:
        """Return how many steps lie at or below each weight."""
        return np.searchsorted(self.weights, w, side="right")


def steps(
    p: np.ndarray,
    d: np.ndarray,
    others: tuple[np.ndarray, ...] | None = None,
    start: float = 0.0,
    end: float = 1.0,
) -> Steps:
    """Follow the image p + w d, rounded to 8 bits as the image contract rounds, from w = start to
    w = end.

    Parameters
    ----------
    p, d : (H, W) float64
        Gray levels 0..255 at w = 0 and their change up to w = 1.
    others : tuple of (H, W) uint8, optional
        Images for whose products sums are wanted; no sums where None.
    start, end : float in [0, 1]
        What the steps outside of are left out.
    """
    p, d = p.ravel(), d.ravel()
    first, last = levels(p + start * d), levels(p + end * d)
    counts = np.bincount(first, minlength=256)
    n_log_n = np.arange(counts.sum() + 2) * np.log2(np.maximum(np.arange(counts.sum() + 2), 1))
    gain = np.diff(n_log_n, prepend=0)
    weights, changes = [np.empty(0)], [n_log_n[counts].sum(keepdims=True)]
    factors = [image.ravel().astype(np.int64) for image in others or ()]
    wide = first.astype(np.int64)
    starts = [wide.sum(), wide @ wide, *(wide @ factor for factor in factors)]
    sums = [[np.atleast_1d(start)] for start in starts]
    moving = np.flatnonzero(first != last)
    parts = 1 + int(np.abs(last - first).sum()) // max(AT_ONCE, p.size // 2)
    p, d, first = p[moving], d[moving], first[moving]
    ends = start + (end - start) * np.arange(parts + 1) / parts
    for low, high in pairwise(ends):
        last = levels(p + high * d)
        at, pixel, lower, upwards = _events(p, d, first, last, low, high)
        weights.append(at)
        changes.append(_entropy_changes(counts, lower, upwards, gain))
        if others is not None:
            sign = np.where(upwards, 1, -1)
            sums[0].append(sign)
            sums[1].append(sign * (2 * lower.astype(np.int64) + 1))  # (l + 1)^2 - l^2
            for total, factor in zip(sums[2:], factors, strict=True):
                total.append(sign * factor.take(moving.take(pixel)))
        counts += np.bincount(last, minlength=256) - np.bincount(first, minlength=256)
        first = last
    # Eq. (15), Abas and Baykan 2021: EN = -sum p log2 p = log2 N - (1/N) sum n log2 n
    entropies = np.log2(counts.sum()) - np.concatenate(changes).cumsum() / counts.sum()
    return Steps(
        np.concatenate(weights),
        entropies,
        None if others is None else np.stack([np.concatenate(each).cumsum() for each in sums]),
    )


def levels(values: np.ndarray) -> np.ndarray:
    """Return 8-bit gray levels as :func:`fusionlib.images.to_uint8` rounds them, in a type that can
    be subtracted.
    """
    return np.clip(np.floor(values + 0.5), 0, 255).astype(np.int32)


def crossings(p, d, first, last, low: float, high: float) -> tuple[np.ndarray, ...]:
    """Return where in [low, high] pixels pass half a level, pixel by pixel; which pixel, the level
    below, and if upwards.

    ``first``, ``last``: the pixels' levels at ``low`` and ``high``.
    """
    size = np.abs(last - first)
    # One event a pixel and threshold: the j-th threshold of a pixel lies half a level above its
    # level lower + j.
    pixel = np.repeat(np.arange(len(p), dtype=np.int32), size)
    offset = np.cumsum(size, dtype=np.int32) - size - np.minimum(first, last)
    lower = np.arange(len(pixel), dtype=np.int32) - offset.take(pixel)
    slope = d.take(pixel)
    weights = np.clip((lower + 0.5 - p.take(pixel)) / slope, low, high)
    return weights, pixel, lower, slope > 0


def _events(p, d, first, last, low: float, high: float) -> tuple[np.ndarray, ...]:
    """Return :func:`crossings` in (low, high], ascending."""
    weights, pixel, lower, upwards = crossings(p, d, first, last, low, high)
    # Half a level rounds up: a rising pixel changes at the weight itself, a falling one just after
    # it.
    np.nextafter(weights, high, out=weights, where=~upwards)
    order = np.argsort(weights)
    return (
        weights.take(order),
        pixel.take(order),
        lower.astype(np.uint8).take(order),
        upwards.take(order),
    )


def _entropy_changes(
    counts: np.ndarray, lower: np.ndarray, upwards: np.ndarray, gain: np.ndarray
) -> np.ndarray:
    """Return by how much each event changes the sum of n log2 n over the histogram, which starts at
    ``counts``.

    ``gain[n]``: what the pixel adds that makes a level n strong, n log2 n - (n - 1) log2 (n - 1).
    """
    # Each event takes a pixel out of one level and puts it into the next. Seen level by level, in
    # the order of w:
    level = np.empty(2 * len(lower), np.uint8)
    level[0::2], level[1::2] = lower + ~upwards, lower + upwards
    by_level = np.argsort(level, kind="stable")
    step = (by_level.astype(np.int8) & 1) * np.int8(2) - np.int8(1)
    number = np.cumsum(step, dtype=np.int32)
    # ... which is the number of pixels there after each event, once each level starts from its own
    # count.
    sizes = np.bincount(level, minlength=256)
    before = np.concatenate([[0], number])[np.cumsum(sizes) - sizes]
    number += np.repeat((counts - before).astype(np.int32), sizes)
    change = np.empty(len(level))
    change[by_level] = step * gain.take(number + (step < 0))
    return change[0::2] + change[1::2]
