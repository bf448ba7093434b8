"""SSIM, VIF and VIFF: how faithful the fused image is to a source or a reference, seen through
Gaussian windows.

Images are 8-bit gray levels ``(H, W)`` on the 0..255 scale. All windows are separable and 'valid':
only windows that lie inside the image count.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.lib.stride_tricks import as_strided

from fusionlib.metrics.arrays import strips
from fusionlib.metrics.undefined import Undefined, choice, combine, source_names

EPS = 1e-10
NOISE = 2.0  # variance of the visual noise in VIF


# ---- windows -------------------------------------------------------------------------------------


def gaussian(size: int, sigma: float) -> np.ndarray:
    """Return the taps of a Gaussian window of odd ``size``, sum 1."""
    taps = np.exp(-((np.arange(size) - size // 2) ** 2) / (2.0 * sigma**2))
    return taps / taps.sum()


def smooth(x: np.ndarray, taps: np.ndarray, step: int = 1) -> np.ndarray:
    """Return the separable 'valid' filter of ``x``, every ``step``-th row and column of it,
    TRANSPOSED.

    Every image of a comparison goes the same way and only sums over all pixels are taken, so nobody
    needs to turn it back. The taps must be symmetric.

    Parameters
    ----------
    x : (..., H, W)
    taps : (n,)
        Of the symmetric filter.
    step : int
        Of the rows and columns that are computed.
    """
    once = along_rows(x, taps)[:, ::step]
    return along_rows(np.ascontiguousarray(once.T), taps)[:, ::step]


def along_rows(x: np.ndarray, taps: np.ndarray) -> np.ndarray:
    """Filter the rows of an image as one long row; what straddles two rows is cut off.

    numpy.correlate runs up to 11 taps about three times as fast as scipy.ndimage, hence the pieces
    of 9.
    """
    flat, count = x.ravel(), x.size - taps.size + 1
    out = np.correlate(flat, taps[:9], "valid")[:count]
    for start in range(9, taps.size, 9):
        out += np.correlate(flat[start:], taps[start : start + 9], "valid")[:count]
    # The last row ends where the last window does, so the shape (H, W - N + 1) lies within ``out``.
    return as_strided(
        out, (x.shape[0], x.shape[1] - taps.size + 1), (x.shape[1] * out.itemsize, out.itemsize)
    )


def columns(images: list[np.ndarray], window: int) -> Iterator[list[np.ndarray]]:
    """Yield the images strip by strip of columns, float64; transposed by :func:`smooth` they get
    long rows again.
    """
    height, width = images[0].shape
    for columns in strips(width, height, window):
        yield [np.ascontiguousarray(image[:, columns], dtype=np.float64) for image in images]


# ---- SSIM ----------------------------------------------------------------------------------------


def ssim(
    fused: np.ndarray,
    *sources: np.ndarray,
    window: str = "gaussian",
    data_range: float = 255.0,
    over: str = "mean",
) -> float:
    """Return SSIM, the mean of the structural similarity map, over the sources.

    Parameters
    ----------
    fused, *sources : (H, W) uint8, one size
    window : "gaussian" or "uniform"
        11 x 11 Gaussian of sigma 1.5 with plain moments (Wang et al. 2004), or 7 x 7 uniform with
        sample covariances (the default of scikit-image).
    data_range : float
        L in C1 = (0.01 L)^2, C2 = (0.03 L)^2; 255 for 8-bit images, whatever a library takes by
        default.
    over : "mean" or "sum"
        How several sources become one number; with "sum" two equal sources give 2.

    Returns
    -------
    float
        At most 1 (times the number of sources for "sum"); undefined where a side is smaller than
        the window.

    Notes
    -----
    Wang, Bovik, Sheikh & Simoncelli 2004, without downsampling; Eq. (22), Abas & Baykan 2021.
    ASSUMPTION: the multi-focus paper gives no window, constants or border for SSIM; Wang's 11 x 11
    Gaussian, K = (0.01, 0.03), L = 255 and only windows inside the image are taken.
    """
    choice("window", window, ("gaussian", "uniform"))
    taps = gaussian(11, 1.5) if window == "gaussian" else np.full(7, 1.0 / 7.0)
    height, width = fused.shape
    if min(height, width) < taps.size:
        return Undefined(
            f"SSIM needs at least {taps.size} x {taps.size} pixels, its window, "
            f"the images have {height} x {width}"
        )
    # ASSUMPTION: a uniform window of n pixels divides its covariances by n - 1, as scikit-image
    # does by default.
    unbiased = 1.0 if window == "gaussian" else taps.size**2 / (taps.size**2 - 1.0)
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    totals, windows = [0.0] * len(sources), (height - taps.size + 1) * (width - taps.size + 1)
    for x, *ys in columns([fused, *sources], taps.size):
        mean_f = smooth(x, taps)
        square_f = mean_f * mean_f
        variance_f = unbiased * (smooth(x * x, taps) - square_f)
        for k, y in enumerate(ys):
            mean_s = smooth(y, taps)
            square_s, product = mean_s * mean_s, mean_s * mean_f
            variance_s = unbiased * (smooth(y * y, taps) - square_s)
            covariance = unbiased * (smooth(x * y, taps) - product)
            # Eq. (22): (2 mu_R mu_F + c1)(2 sigma_RF + c2) / ((mu_R^2 + mu_F^2 + c1)(sigma_R^2 +
            # sigma_F^2 + c2))
            numerator = (2.0 * product + c1) * (2.0 * covariance + c2)
            totals[k] += float(
                (numerator / ((square_s + square_f + c1) * (variance_s + variance_f + c2))).sum()
            )
    return combine([total / windows for total in totals], over)


# ---- VIF -----------------------------------------------------------------------------------------

VIF_SIDE = 41  # the smallest side for which all four scales hold at least one window


# radon C: scales x sources, those without information apart
def vif(
    fused: np.ndarray,
    *sources: np.ndarray,
    arithmetic: str = "real",
    undefined: float | None = None,
) -> float:
    """Return VIF, the pixel-domain visual information fidelity of ``fused`` to each source, summed.

    Parameters
    ----------
    fused, *sources : (H, W) uint8, one size
    arithmetic : "real" or "uint8"
        Real numbers, or an evaluator that multiplies 8-bit images at the first scale: each product
        saturates at 255, so that this scale vanishes wherever the local mean is 16 or more and VIF
        rests on the other three.
    undefined : float, optional
        What one source counts where its VIF is 0 / 0; an evaluator takes 1.

    Returns
    -------
    float
        0 or more, 1 per source for an identical image, above 1 where contrast was raised; undefined
        where a source is constant or a side is below 41 pixels, where some scale has no window
        left.

    Notes
    -----
    Sheikh & Bovik 2006, pixel-domain form with four scales: windows of N = 17, 9, 5, 3
    pixels, sigma N / 5. ASSUMPTION: below 41 pixels the evaluators score the scales that remain;
    here VIF is undefined there, because values over fewer scales do not compare.
    """
    choice("arithmetic", arithmetic, ("real", "uint8"))
    if min(fused.shape) < VIF_SIDE:
        return Undefined(
            f"VIF needs at least {VIF_SIDE} x {VIF_SIDE} pixels for its four scales, "
            f"the images have {fused.shape[0]} x {fused.shape[1]}"
        )
    constant = [source.min() == source.max() for source in sources]
    kept, lost = [0.0] * len(sources), [0.0] * len(sources)
    scaled = [fused, *sources]
    for scale, size in enumerate((17, 9, 5, 3)):
        taps = gaussian(size, size / 5.0)
        if scale:
            scaled = [_halve(image, taps) for image in scaled]
        limit = 255.0 if scale == 0 and arithmetic == "uint8" else None
        for f, *references in columns(scaled, size):
            for k, (numerator, denominator) in enumerate(_information(f, references, taps, limit)):
                kept[k] += numerator
                lost[k] += denominator
    values = []
    for name, flat, numerator, denominator in zip(
        source_names(sources), constant, kept, lost, strict=True
    ):
        if flat or denominator == 0.0:
            none = Undefined(
                f"{name} holds no visual information (no variation that a window sees), so VIF is"
                " 0 / 0"
            )
            values.append(none if undefined is None else undefined)
        else:
            values.append(numerator / denominator)
    return combine(values)


def _halve(image: np.ndarray, taps: np.ndarray) -> np.ndarray:
    """Return the filtered image at every second row and column, transposed."""
    return np.concatenate([smooth(x, taps, step=2) for (x,) in columns([image], taps.size)])


def _information(
    f: np.ndarray, references: list[np.ndarray], taps: np.ndarray, limit: float | None
) -> list[tuple[float, float]]:
    """Return, for each reference, the information in the fused image and in the reference at one
    scale (nats).
    """
    means = [smooth(reference, taps) for reference in references]
    if limit is not None:
        # Where the mean exceeds the root of the limit no variance is left and nothing is added:
        # crop to the rest.
        rest = np.flatnonzero(
            np.any([(mean * mean).min(axis=0) <= limit + EPS for mean in means], axis=0)
        )
        if rest.size == 0:
            return [(0.0, 0.0)] * len(references)
        first, last = rest[0], rest[-1] + 1
        means = [mean[:, first:last] for mean in means]
        f, *references = (image[first : last + taps.size - 1] for image in (f, *references))
    mean_f = smooth(f, taps)
    variance_f = _variance(f, f, mean_f * mean_f, taps, limit)
    results = []
    for reference, mean_r in zip(references, means, strict=True):
        variance_r = _variance(reference, reference, mean_r * mean_r, taps, limit)
        covariance = _covariance(reference, f, mean_r * mean_f, taps, limit)
        gain, noise = _gain(variance_r, variance_f, covariance)
        # sum log(1 + g^2 v_R / (w + 2)) and sum log(1 + v_R / 2)
        noise += NOISE
        gain *= gain
        gain *= variance_r
        gain /= noise
        variance_r *= 1.0 / NOISE
        results.append((_sum_log1p(gain), _sum_log1p(variance_r)))
    return results


def _covariance(
    x: np.ndarray, y: np.ndarray, means: np.ndarray, taps: np.ndarray, limit: float | None
) -> np.ndarray:
    product = x * y
    if limit is not None:
        np.minimum(product, limit, out=product)
    covariance = smooth(product, taps)
    covariance -= means
    return covariance


def _variance(
    x: np.ndarray, y: np.ndarray, means: np.ndarray, taps: np.ndarray, limit: float | None
) -> np.ndarray:
    variance = _covariance(x, y, means, taps, limit)
    return np.maximum(variance, 0.0, out=variance)


def _gain(
    variance_r: np.ndarray, variance_f: np.ndarray, covariance: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return g and w of F = g R + noise of variance w by least squares: g = c / v_R, w = v_F - g c.

    Nothing arrives where g < 0 or where R or F does not vary. A flat ``variance_r``
    becomes 0; ``covariance`` is overwritten.
    """
    np.maximum(covariance, 0.0, out=covariance)
    for variance in (variance_r, variance_f):
        flat = variance < EPS
        if flat.any():
            np.copyto(covariance, 0.0, where=flat)
            if variance is variance_r:
                np.copyto(variance_r, 0.0, where=flat)
    gain = variance_r + EPS
    np.divide(covariance, gain, out=gain)
    noise = np.multiply(gain, covariance, out=covariance)
    np.subtract(variance_f, noise, out=noise)
    np.maximum(noise, EPS, out=noise)
    return gain, noise


def _sum_log1p(x: np.ndarray) -> float:
    """Return sum log(1 + x), x >= 0, one logarithm for 16 factors (their product is below 1e250);
    ``x`` is lost.
    """
    x += 1.0
    flat = x.ravel()
    whole = flat.size // 16 * 16
    return float(
        np.log(flat[:whole].reshape(16, -1).prod(axis=0)).sum() + np.log(flat[whole:]).sum()
    )


# ---- VIFF ----------------------------------------------------------------------------------------

FUSION_NOISE = 0.005 * 255.0**2  # variance of the visual noise in VIFF
SILENCE = 1e-7 * math.log(10.0)  # of each window: keeps the ratio defined where no source speaks
SCALE_WEIGHTS = (1.0 / 2.15, 0.0, 0.15 / 2.15, 1.0 / 2.15)


def fusion_fidelity(fused: np.ndarray, a: np.ndarray, b: np.ndarray) -> float:
    """Return VIFF, in each window the visual information fidelity to the source that arrived less.

    Parameters
    ----------
    fused, a, b : (H, W) uint8, one size

    Returns
    -------
    float
        0 or more, 1 for identical images, above 1 where contrast was raised; undefined where a side
        is below 41 pixels.

    Notes
    -----
    Han, Cai, Cao & Xu 2013; the four scales of :func:`vif`, whose second has no weight. Where both
    gains are equal, as where nothing arrived, ``b`` is taken: VIFF is not quite symmetric.
    """
    if min(fused.shape) < VIF_SIDE:
        return Undefined(
            f"VIFF needs at least {VIF_SIDE} x {VIF_SIDE} pixels for its four scales, "
            f"the images have {fused.shape[0]} x {fused.shape[1]}"
        )
    value, scaled = 0.0, [fused, a, b]
    for scale, size in enumerate((17, 9, 5, 3)):
        taps = gaussian(size, size / 5.0)
        if scale:
            scaled = [_halve(image, taps) for image in scaled]
        if SCALE_WEIGHTS[scale] == 0:
            continue
        kept = lost = 0.0
        for f, *sources in columns(scaled, size):
            numerator, denominator = _lesser_information(f, sources, taps)
            kept += float((numerator + SILENCE).sum())
            lost += float((denominator + SILENCE).sum())
        value += SCALE_WEIGHTS[scale] * kept / lost
    return value


def _lesser_information(
    f: np.ndarray, sources: list[np.ndarray], taps: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return log(1 + g^2 v / (w + noise)) and log(1 + v / noise) of the source of smaller g."""
    mean_f = smooth(f, taps)
    variance_f = _variance(f, f, mean_f * mean_f, taps, None)
    parts = []
    for source in sources:
        mean = smooth(source, taps)
        variance = _variance(source, source, mean * mean, taps, None)
        covariance = _covariance(source, f, mean * mean_f, taps, None)
        parts.append((*_gain(variance, variance_f, covariance), variance))
    (gain_a, noise_a, variance_a), (gain_b, noise_b, variance_b) = parts
    first = gain_a < gain_b
    gain = np.where(first, gain_a, gain_b)
    noise = np.where(first, noise_a, noise_b)
    variance = np.where(first, variance_a, variance_b)
    numerator = np.log1p(gain * gain * variance / (noise + FUSION_NOISE))
    return numerator, np.log1p(variance / FUSION_NOISE)
