"""Qcb and Qcv: what an eye with a contrast sensitivity of its own sees of the sources.

Images are 8-bit gray levels ``(H, W)``; floats are rounded to 8 bits first. Both metrics spread
each image by itself to 0..255 and cannot see the fused image's brightness and global contrast. Both
filter by cycles per image side: another size, crop or resampling is another filter.
"""

from __future__ import annotations

import numpy as np

from fusionlib.images import to_uint8
from fusionlib.metrics.fidelity import smooth
from fusionlib.metrics.gradient import sobel_strength
from fusionlib.metrics.undefined import Undefined, constant

BLOCK = 16


def contrast_preservation(fused: np.ndarray, a: np.ndarray, b: np.ndarray) -> float:
    """Return Qcb, how much of the sources' perceived local contrast the fused image preserves.

    Parameters
    ----------
    fused, a, b : (H, W) uint8, one size

    Returns
    -------
    float
        0 to 1, 1 for identical images; undefined where an image is constant, or where neither
        source has any contrast at some pixel.

    Notes
    -----
    Chen & Blum 2009, with the toolbox's constants k = h = 1, p = 3, q = 2, Z = 1e-4; zeros around
    the image.
    """
    if (flat := constant(fused, a, b)) is not None:
        return flat
    contrast_f, contrast_a, contrast_b = (
        _masked_contrast(_filtered(spread(image), _band_pass)) for image in (fused, a, b)
    )
    total, weight = np.zeros_like(contrast_f), np.zeros_like(contrast_f)
    with np.errstate(divide="ignore", invalid="ignore"):
        for contrast in (contrast_a, contrast_b):
            square = contrast * contrast
            low, high = np.minimum(contrast, contrast_f), np.maximum(contrast, contrast_f)
            # Q_s = min(C'_s, C'_f) / max(C'_s, C'_f), weighted by C'_s^2
            total += np.where(high > 0, square * low / high, 0.0)
            weight += square
        quality = float((total / weight).mean())
    if not np.isfinite(quality):
        return Undefined("neither source has any contrast at some pixel, so Qcb is 0 / 0 there")
    return quality


def perceived_difference(
    fused: np.ndarray, a: np.ndarray, b: np.ndarray, *, black: str = "undefined"
) -> float:
    """Return Qcv, the perceived squared difference from the sources where they are salient; SMALLER
    is better.

    Parameters
    ----------
    fused, a, b : (H, W) uint8, one size
    black : "undefined" or "counted"
        What an image of zeros makes of Qcv; the toolbox counts it as it is, any other constant
        image has no stretch.

    Returns
    -------
    float
        0 for identical images, hundreds to thousands for ordinary ones; undefined where an image is
        constant.

    Notes
    -----
    Chen & Varshney 2007: blocks of 16 x 16 weighted by sum |grad|^5, contrast sensitivity of
    Mannos & Sakrison with the toolbox's 0.144 for 0.114. The zeros around the image make a bright
    border the strongest edge: 25 to 99 % of the weight of real pairs lies on the outermost pixels.
    """
    if (flat := constant(fused, a, b, black=black)) is not None:
        return flat
    levels = spread(fused)
    total = weights = 0.0
    for source in (spread(a), spread(b)):
        saliency = _blocks(sobel_strength(source, "constant") ** 5)
        difference = _filtered(source - levels, _contrast_sensitivity)
        # Q = sum(lambda_a D_a + lambda_b D_b) / sum(lambda_a + lambda_b), D the mean of d^2
        total += float((saliency * _blocks(difference * difference)).sum()) / BLOCK**2
        weights += float(saliency.sum())
    if weights == 0:
        return Undefined("no source has an edge, so nothing is salient and Qcv is 0 / 0")
    return total / weights


def spread(image: np.ndarray) -> np.ndarray:
    """Return the gray levels spread to 0..255, rounded half up in exact arithmetic, int64; a
    constant image stays.
    """
    levels = to_uint8(image).astype(np.int64)
    low, span = levels.min(), np.ptp(levels)
    return levels if span == 0 else (510 * (levels - low) + span) // (2 * span)


def _filtered(image: np.ndarray, response) -> np.ndarray:
    """Return the image with its spectrum multiplied by ``response`` of the radius in cycles per
    side.
    """
    height, width = image.shape
    rows = height * np.fft.fftfreq(height)
    columns = width * np.fft.rfftfreq(width)
    radius = np.hypot(rows[:, None], columns)
    return np.fft.irfft2(np.fft.rfft2(image) * response(radius), image.shape)


def _band_pass(radius: np.ndarray) -> np.ndarray:
    r = radius / 15.0
    return np.exp(-((r / 15.3870) ** 2)) - 0.7622 * np.exp(-((r / 1.3456) ** 2))


def _contrast_sensitivity(radius: np.ndarray) -> np.ndarray:
    r = radius / 4.0
    return 2.6 * (0.0192 + 0.144 * r) * np.exp(-((0.144 * r) ** 1.1))


def _masked_contrast(x: np.ndarray) -> np.ndarray:
    """Return C' = C^3 / (C^2 + Z) of C = |(g_2 * x) / (g_4 * x) - 1|, transposed."""
    padded = np.pad(x, 15)
    with np.errstate(divide="ignore", invalid="ignore"):
        contrast = np.abs(smooth(padded, _bell(2.0)) / smooth(padded, _bell(4.0)) - 1.0)
        square = contrast * contrast
        return square * contrast / (square + 1e-4)


def _bell(sigma: float) -> np.ndarray:
    """Return 31 samples of the Gaussian density; cut off, they sum to a little less than 1."""
    return np.exp(-(np.arange(-15, 16) ** 2) / (2.0 * sigma**2)) / np.sqrt(2.0 * np.pi * sigma**2)


def _blocks(x: np.ndarray) -> np.ndarray:
    """Return the sums over blocks of 16 x 16 from the top left, zeros filling up the last."""
    x = np.pad(x, [(0, -side % BLOCK) for side in x.shape])
    return x.reshape(x.shape[0] // BLOCK, BLOCK, -1, BLOCK).sum(axis=(1, 3))
