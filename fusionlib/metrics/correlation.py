"""SD, CC and SCD: the second moments, of the fused image alone and together with the sources.

Images are 8-bit gray levels ``(H, W)``: every sum is a Python integer, hence exact, and a constant
image is known as one. Floats are accepted by CC and SCD; then sums round.
"""

from __future__ import annotations

import math

import numpy as np

from fusionlib.images import to_uint8
from fusionlib.metrics.arrays import inner
from fusionlib.metrics.undefined import Undefined, choice, combine, source_names


def standard_deviation(fused: np.ndarray, *, arithmetic: str = "real", ddof: int = 0) -> float:
    """Return SD, the contrast of ``fused``.

    Parameters
    ----------
    fused : (H, W) uint8
    arithmetic : "real" or "uint8"
        Real numbers, or 8-bit arithmetic that rounds and saturates every step: pixels below the
        mean count 0, pixels 16 or more above it 255. That value is an area fraction in disguise,
        never above sqrt(255) = 15.97.
    ddof : int
        Divide by H W - ddof.

    Returns
    -------
    float
        0 to 127.5 for real arithmetic and ddof 0; undefined where ``ddof`` leaves no pixel.
    """
    choice("arithmetic", arithmetic, ("real", "uint8"))
    counts = np.bincount(to_uint8(fused).ravel(), minlength=256)
    levels = np.arange(256.0)
    n = int(counts.sum())
    if n <= ddof:
        return Undefined(f"SD with ddof {ddof} needs more than {ddof} pixels, the image has {n}")
    d = levels - (counts * levels).sum() / n
    if arithmetic == "uint8":
        # 8-bit: sat(F - mean), then min(d^2, 255)
        d = np.clip(np.floor(d + 0.5), 0.0, 255.0)
        squares = np.minimum(d * d, 255.0)
    else:
        squares = d * d
    return float(np.sqrt((counts * squares).sum() / (n - ddof)))


def correlation(fused: np.ndarray, *sources: np.ndarray) -> float:
    """Return CC, Pearson's correlation of ``fused`` with each source, averaged.

    Parameters
    ----------
    fused, *sources : (H, W) uint8, one size

    Returns
    -------
    float
        -1 to 1; undefined where the fused image or a source is constant.

    Notes
    -----
    Eq. (14) with two sources, Eq. (19) with one reference, Abas & Baykan 2021.
    """
    covariance = _covariances([fused, *sources])
    names = ["the fused image", *source_names(sources)]
    # Eq. (14), (19): r = sum (I - mean I)(F - mean F) / sqrt(sum (I - mean I)^2 sum (F - mean F)^2)
    return combine(
        [
            _pearson(covariance[0][k], covariance[0][0], covariance[k][k], (names[0], names[k]))
            for k in range(1, len(names))
        ],
        "mean",
    )


def scd(fused: np.ndarray, a: np.ndarray, b: np.ndarray) -> float:
    """Return SCD, the sum of the correlations of differences: r(F - B, A) + r(F - A, B).

    Parameters
    ----------
    fused, a, b : (H, W) uint8, one size

    Returns
    -------
    float
        -2 to 2; undefined where a source is constant or ``fused`` differs from a source by a
        constant only.

    Notes
    -----
    Aslantas & Bendes 2015.
    """
    cov = _covariances([fused, a, b])
    parts = []
    for source, other, names in ((1, 2, "ab"), (2, 1, "ba")):
        difference = cov[0][0] - 2 * cov[0][other] + cov[other][other]
        words = (f"the difference of the fused image and source {names[1]}", f"source {names[0]}")
        parts.append(
            _pearson(cov[0][source] - cov[other][source], difference, cov[source][source], words)
        )
    return combine(parts)


def _covariances(images: list[np.ndarray]) -> list[list[float]]:
    """Return n^2 times the covariance of every two images: n sum xy - sum x sum y, exact for 8-bit
    images.
    """
    n = images[0].size
    sums = [image.sum().item() for image in images]
    table = [[0.0] * len(images) for _ in images]
    for i, x in enumerate(images):
        for j in range(i, len(images)):
            table[i][j] = table[j][i] = n * inner(x, images[j]) - sums[i] * sums[j]
    return table


def _pearson(
    covariance: float, variance_x: float, variance_y: float, names: tuple[str, str]
) -> float:
    for variance, name in zip((variance_x, variance_y), names, strict=True):
        if variance <= 0:
            return Undefined(f"{name} is constant, so its correlation with anything is 0 / 0")
    return covariance / (math.sqrt(variance_x) * math.sqrt(variance_y))
