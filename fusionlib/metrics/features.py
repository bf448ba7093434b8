"""FMI: how much of the position of features inside small windows the fused image shares.

Images are 8-bit gray levels ``(H, W)``. The feature decides the value (0.40 to 0.92 for one pair):
values of different features must never be compared.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import numpy as np

from fusionlib.metrics.arrays import strips
from fusionlib.metrics.fidelity import along_rows
from fusionlib.metrics.gradient import sobel
from fusionlib.metrics.undefined import Undefined, choice

POSITION = np.arange(1.0, 10.0)  # of a pixel in its window of 3 x 3, column by column
CHUNK = 4096  # windows at a time: they fit the processor's cache
MEYER_TAPS = 101


def feature_information(
    fused: np.ndarray, a: np.ndarray, b: np.ndarray, *, feature: str = "pixel"
) -> float:
    """Return FMI, the feature mutual information of the fused image with both sources.

    Parameters
    ----------
    fused, a, b : (H, W) uint8, one size
    feature : "pixel", "edge", "dct" or "wavelet"
        What is looked at: gray levels, thinned Sobel edges, the cosine transform of the whole
        image, or its first wavelet decomposition with the discrete Meyer filter.

    Returns
    -------
    float
        0 to 1, 1 for identical images; undefined below 3 x 3 pixels. Each window is spread by
        itself, so contrast and brightness do not count.

    Notes
    -----
    Haghighat, Aghagolzadeh & Seyedarabi 2011; Haghighat & Razian 2014. The gray levels of a window,
    spread to 0..1 and divided by their sum, are taken as a distribution over its nine positions in
    COLUMN order: transposed images have another FMI. ASSUMPTION: a flat window correlates with
    nothing; the evaluator's own value, 1 for two flat windows of different level, is a rounding
    error.
    """
    choice("feature", feature, tuple(FEATURES))
    if min(fused.shape) < 3:
        height, width = fused.shape
        return Undefined(f"FMI needs at least 3 x 3 pixels, the images have {height} x {width}")
    f, *sources = (FEATURES[feature](np.asarray(x, dtype=np.float64)) for x in (fused, a, b))
    total = 0.0
    for rows in strips(f.shape[0], f.shape[1], 3):
        levels_f, *levels = (_windows(x[rows]) for x in (f, *sources))
        for start in range(0, levels_f.shape[1], CHUNK):
            chunk = slice(start, start + CHUNK)
            of_f = _Distributions(levels_f[:, chunk])
            total += sum(_shared(of_f, _Distributions(of_s[:, chunk])) for of_s in levels)
    return total / (2 * (f.shape[0] - 2) * (f.shape[1] - 2))


def _windows(x: np.ndarray) -> np.ndarray:
    """Return the levels of all windows of 3 x 3, (9, N), column by column of a window."""
    height, width = x.shape
    shifts = [(row, column) for column in range(3) for row in range(3)]
    return np.stack([x[r : height - 2 + r, c : width - 2 + c].ravel() for r, c in shifts])


class _Distributions:
    """Levels of windows, (9, N), and the distributions p over the nine positions made of them."""

    def __init__(self, levels: np.ndarray):
        low, span = levels.min(axis=0), np.ptp(levels, axis=0)
        self.levels, self.flat = levels, span == 0
        spread = (levels - low) / np.where(self.flat, 1.0, span)
        spread[:, self.flat] = 1.0
        self.p = spread / spread.sum(axis=0)
        self.log_p = _log2(self.p)


def _shared(of_f: _Distributions, of_s: _Distributions) -> float:
    """Return the sum over windows of 2 I / (H + H), which is 1 where both are equal."""
    differ = np.flatnonzero((of_f.levels != of_s.levels).any(axis=0))
    p, q, log_p, log_q = (x.take(differ, axis=1) for x in (of_f.p, of_s.p, of_f.log_p, of_s.log_p))
    correlation = _correlation(p, q, (of_f.flat | of_s.flat)[differ])
    # The least joint distribution of p and q is the greatest one of p and of q turned round.
    turned = correlation < 0
    q, log_q = (np.where(turned, x[::-1], x) for x in (q, log_q))
    entropies = -(p * log_p + q * log_q).sum(axis=0)
    shared = 2.0 * (entropies - _joint_entropy(p, q, log_p, log_q, np.abs(correlation)))
    np.divide(shared, entropies, out=shared, where=entropies > 0)
    return float(shared.sum()) + of_f.flat.size - differ.size


def _correlation(p: np.ndarray, q: np.ndarray, flat: np.ndarray) -> np.ndarray:
    """Return Pearson's correlation of the numbers p and q, 0 for flat windows."""
    off_p, off_q = p - 1.0 / 9.0, q - 1.0 / 9.0
    squares = (off_p * off_p).sum(axis=0) * (off_q * off_q).sum(axis=0)
    product = (off_p * off_q).sum(axis=0)
    return np.where(flat, 0.0, product / np.sqrt(np.where(flat, 1.0, squares)))


def _joint_entropy(
    p: np.ndarray, q: np.ndarray, log_p: np.ndarray, log_q: np.ndarray, correlation: np.ndarray
) -> np.ndarray:
    """Return -sum x log2 |x| over the cells x of t M(i, j) + (1 - t) p_i q_j, t = c / c_M.

    M is the joint distribution of greatest correlation c_M, whose cumulative form is the least of
    the two cumulative distributions. It fills a staircase of 17 cells; everywhere else the
    logarithm is a sum of three, which add up to entropies.
    """
    i, j, mass = _staircase(p, q)
    greatest = _position_correlation(p, q, (mass * (i + 1.0) * (j + 1.0)).sum(axis=0))
    t = np.zeros_like(correlation)
    np.divide(correlation, greatest, out=t, where=greatest > 0)
    rest = 1.0 - t
    log_rest = _log2(np.abs(rest))
    product = rest * _at(p, i) * _at(q, j)
    cell = t * mass + product
    on_stairs = cell * _log2(np.abs(cell)) - product * (log_rest + _at(log_p, i) + _at(log_q, j))
    everywhere = rest * (log_rest + (p * log_p + q * log_q).sum(axis=0))
    return -(everywhere + on_stairs.sum(axis=0))


def _staircase(p: np.ndarray, q: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return row, column and mass of the cells of M, each (17, N).

    The steps of both cumulative distributions cut [0, 1] into 17 pieces; a piece after i steps of
    one and j of the other is the mass of cell (i, j).
    """
    steps = np.concatenate([_running_sum(p[:8]), _running_sum(q[:8])])
    order = np.ascontiguousarray(np.argsort(steps.T, axis=1).T)
    mass = np.diff(_at(steps, order), axis=0, prepend=0.0, append=1.0)
    i = _running_sum(np.pad(order < 8, [(1, 0), (0, 0)]).astype(np.intp))
    return i, np.arange(17)[:, None] - i, mass


def _position_correlation(p: np.ndarray, q: np.ndarray, moment: np.ndarray) -> np.ndarray:
    """Return the correlation of the positions under p and q with the joint ``moment``, 0 where one
    has no spread.
    """
    (mean_p, variance_p), (mean_q, variance_q) = _mean_and_variance(p), _mean_and_variance(q)
    spread = np.sqrt(np.maximum(variance_p * variance_q, 0.0))
    correlation = np.zeros_like(spread)
    np.divide(moment - mean_p * mean_q, spread, out=correlation, where=spread > 1e-12)
    return correlation


def _mean_and_variance(p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and variance of the position; by einsum, for a matrix product starts threads."""
    mean = np.einsum("i,in->n", POSITION, p)
    return mean, np.einsum("i,in->n", POSITION**2, p) - mean**2


def _running_sum(x: np.ndarray) -> np.ndarray:
    """Return the sums of the first rows; adding whole rows is faster than ``cumsum``."""
    total = x.copy()
    for row in range(1, len(total)):
        total[row] += total[row - 1]
    return total


def _at(x: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return x[rows[k, n], n]."""
    return np.take(x, rows * x.shape[1] + np.arange(x.shape[1]))


def _log2(x: np.ndarray) -> np.ndarray:
    """Return log2 of numbers from 0 on; at 0, where it is multiplied by 0, something finite."""
    return np.log2(np.maximum(x, 1e-300))


# ---- features ------------------------------------------------------------------------------------


def _edges(x: np.ndarray) -> np.ndarray:
    """Return 1 on thinned Sobel edges: above twice the root mean square strength, and the highest
    across the edge.
    """
    gx, gy = sobel(x, "edge")
    square = gx * gx + gy * gy
    across = (np.abs(gx) >= np.abs(gy)) & _highest(square)
    along = (np.abs(gy) >= np.abs(gx)) & _highest(square.T).T
    return ((square > 4.0 * square.mean()) & (across | along)).astype(np.float64)


def _highest(x: np.ndarray) -> np.ndarray:
    """Tell which pixels are at least their left neighbour and above their right one; beyond the
    border nothing is as high.
    """
    around = np.pad(x, [(0, 0), (1, 1)], constant_values=-1.0)
    return (x >= around[:, :-2]) & (x > around[:, 2:])


def _cosines(x: np.ndarray) -> np.ndarray:
    """Return the orthonormal cosine transform of the whole image."""
    from scipy.fft import dctn  # on demand: whoever asks for no FMI starts sooner

    return dctn(x, norm="ortho")


def _meyer(x: np.ndarray) -> np.ndarray:
    """Return one level of the discrete Meyer transform, [cA cH; cV cD], spread to 0..1."""
    low, high = _split(x)
    image = np.block([_split(band) for band in (low, high)])
    span = np.ptp(image)
    return (image - image.min()) / span if span > 0 else image


def _split(x: np.ndarray) -> list[np.ndarray]:
    """Return the low and high band along the rows, every second sample, TRANSPOSED.

    The image goes on as its mirror, the edge pixel repeated.
    """
    around = (MEYER_TAPS - 1, MEYER_TAPS - 1 + x.shape[1] % 2)
    padded = np.pad(x, [(0, 0), around], mode="symmetric")
    return [
        np.ascontiguousarray(_every_second(padded[:, start:], taps).T)
        for start, taps in enumerate(_meyer_filters())
    ]


def _every_second(x: np.ndarray, taps: np.ndarray) -> np.ndarray:
    """Return every second sample of the filtered rows: even samples meet even taps, odd ones odd
    taps, and nothing is computed that is not kept.
    """
    even, odd = (
        along_rows(np.ascontiguousarray(x[:, phase::2]), taps[phase::2]) for phase in (0, 1)
    )
    count = (x.shape[1] - taps.size) // 2 + 1
    return even[:, :count] + odd[:, :count]


@functools.cache
def _meyer_filters() -> tuple[np.ndarray, np.ndarray]:
    """Return the low and high pass of Meyer's wavelet, cut to 101 taps, from their spectrum.

    The table of MATLAB, with which FMI is usually computed, differs by up to 4e-11.
    """
    half, samples = MEYER_TAPS // 2, 8192
    frequency = np.abs(2.0 * np.pi * np.fft.fftfreq(samples))
    x = np.clip(3.0 * frequency / np.pi - 1.0, 0.0, 1.0)
    # nu(x) = x^4 (35 - 84 x + 70 x^2 - 20 x^3), spectrum cos(pi nu / 2) from pi / 3 to 2 pi / 3
    rise = x**4 * (35.0 - 84.0 * x + 70.0 * x**2 - 20.0 * x**3)
    spectrum = math.sqrt(2.0) * np.cos(np.pi / 2.0 * rise)
    offset = np.arange(-half, half + 1)
    low = np.fft.ifft(spectrum).real[offset]
    return low, np.where(offset % 2 == 0, -low, low)


FEATURES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "pixel": lambda x: x,
    "edge": _edges,
    "dct": _cosines,
    "wavelet": _meyer,
}
