"""Qy, MS-SSIM and MEF-SSIM: structural similarity chosen between the sources, on several scales,
and with a reference made of both.

Images are 8-bit gray levels ``(H, W)`` on the 0..255 scale; windows lie inside the image.
"""

from __future__ import annotations

import itertools

import numpy as np

from fusionlib.metrics.fidelity import columns, gaussian, smooth
from fusionlib.metrics.undefined import Undefined, choice, combine

WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # of the scales; Wang et al. 2003
FLAT = 1e-9  # a variance below is rounding noise
MS_SSIM_SIDE, MEF_SSIM_SIDE = 161, 44  # the last scale then has a window of 11 x 11


# ---- Qy ------------------------------------------------------------------------------------------


def chosen_similarity(
    fused: np.ndarray, a: np.ndarray, b: np.ndarray, *, flat: str = "zero"
) -> float:
    """Return Qy, the similarity to both sources where they agree, to the nearer one elsewhere.

    Parameters
    ----------
    fused, a, b : (H, W) uint8, one size
    flat : "zero" or "undefined"
        A window without variation has variance 0, or Qy is undefined where two images have one at
        the same place: the toolbox's value there is 0 / 0 or rounding noise.

    Returns
    -------
    float
        About 0 to 1, below 0 for negatives; undefined below 7 x 7 pixels.

    Notes
    -----
    Yang, Zhang, Wang & Liu 2008, with the toolbox's constants 2e-16 in the place of SSIM's.
    """
    choice("flat", flat, ("zero", "undefined"))
    taps, total, count = gaussian(7, 1.5), 0.0, 0
    if min(fused.shape) < taps.size:
        return _too_small("Qy", taps.size, fused)
    for strip in columns([fused, a, b], taps.size):
        windows = [_Windows(x, taps) for x in strip]
        if flat == "undefined" and _noise_decides(*windows):
            return Undefined("two images do not vary in one window, where Qy is 0 / 0 or noise")
        of_f, of_a, of_b = windows
        to_a, to_b = of_f.similarity(of_a), of_f.similarity(of_b)
        varying = of_a.variance + of_b.variance
        share = np.full(varying.shape, 0.5)
        np.divide(of_a.variance, varying, out=share, where=varying > 0)
        both = share * to_a + (1.0 - share) * to_b
        # Q = lambda SSIM(a, f) + (1 - lambda) SSIM(b, f) where SSIM(a, b) >= 3/4, else the larger
        quality = np.where(of_a.similarity(of_b) >= 0.75, both, np.maximum(to_a, to_b))
        total += float(quality.sum())
        count += quality.size
    return total / count


class _Windows:
    """Mean and variance of every window of an image; ``still`` where it does not vary."""

    def __init__(self, x: np.ndarray, taps: np.ndarray):
        self.x, self.taps, self.mean = x, taps, smooth(x, taps)
        self.variance = smooth(x * x, taps) - self.mean * self.mean
        self.still = self.variance < FLAT
        self.variance[self.still] = 0.0

    def similarity(self, other: _Windows) -> np.ndarray:
        """Return the map of SSIM with C1 = C2 = 2e-16."""
        product = self.mean * other.mean
        covariance = smooth(self.x * other.x, self.taps) - product
        covariance[self.still | other.still] = 0.0
        level = self.mean * self.mean + other.mean * other.mean + 2e-16
        numerator = (2.0 * product + 2e-16) * (2.0 * covariance + 2e-16)
        return numerator / (level * (self.variance + other.variance + 2e-16))


def _noise_decides(of_f: _Windows, of_a: _Windows, of_b: _Windows) -> bool:
    """Tell whether some window is flat in two images at different levels, or black in both sources:
    noise / noise and 0 / 0. Equal levels have equal noise, and similarity 1.
    """
    apart = (
        x.still & y.still & (np.abs(x.mean - y.mean) > 0.5)
        for x, y in itertools.combinations((of_f, of_a, of_b), 2)
    )
    return bool((of_a.mean + of_b.mean == 0).any()) or any(noise.any() for noise in apart)


# ---- MS-SSIM -------------------------------------------------------------------------------------


def multiscale_ssim(fused: np.ndarray, *sources: np.ndarray) -> float:
    """Return MS-SSIM, the structural similarity on five scales, averaged over the sources.

    Parameters
    ----------
    fused, *sources : (H, W) uint8, one size

    Returns
    -------
    float
        0 to 1; undefined where a side is below 161 pixels, for then the last scale has no window.

    Notes
    -----
    Wang, Simoncelli & Bovik 2003: contrast and structure on each scale, luminance on the last. This
    is not the MEF-SSIM that an evaluator prints as MS_SSIM. ASSUMPTION: a negative mean of a scale
    has no such power; that source then counts 0, as in the implementations of today.
    """
    if min(fused.shape) < MS_SSIM_SIDE:
        return _too_small("MS-SSIM", MS_SSIM_SIDE, fused)
    taps, c1, c2 = gaussian(11, 1.5), (0.01 * 255.0) ** 2, (0.03 * 255.0) ** 2
    scaled = [np.asarray(image, dtype=np.float64) for image in (fused, *sources)]
    values = [1.0] * len(sources)
    for scale, weight in enumerate(WEIGHTS):
        totals, count = [0.0] * len(sources), 0
        for x, *ys in columns(scaled, taps.size):
            mean_f = smooth(x, taps)
            variance_f = smooth(x * x, taps) - mean_f * mean_f
            count += mean_f.size
            for k, y in enumerate(ys):
                mean_s = smooth(y, taps)
                product, squares = mean_s * mean_f, mean_s * mean_s + mean_f * mean_f
                variances = variance_f + smooth(y * y, taps) - mean_s * mean_s
                similarity = (2.0 * (smooth(x * y, taps) - product) + c2) / (variances + c2)
                if scale == len(WEIGHTS) - 1:
                    similarity *= (2.0 * product + c1) / (squares + c1)
                totals[k] += float(similarity.sum())
        values = [
            value * max(total / count, 0.0) ** weight
            for value, total in zip(values, totals, strict=True)
        ]
        scaled = [_halve(image) for image in scaled]
    return combine(values, "mean")


# ---- MEF-SSIM ------------------------------------------------------------------------------------


def exposure_fusion_ssim(
    fused: np.ndarray, a: np.ndarray, b: np.ndarray, *, scales: int = 3
) -> float:
    """Return MEF-SSIM, the similarity of structure and contrast to a reference made of both.

    Parameters
    ----------
    fused, a, b : (H, W) uint8, one size
    scales : 1 to 3
        Gray images are scored on three.

    Returns
    -------
    float
        About 0 to 1, 1 for identical images; undefined where a side is below 44 pixels, or where
        the fused image is the sources' negative on some scale.

    Notes
    -----
    Ma, Zeng & Wang 2015; in each window of 11 x 11 the reference has the contrast of the stronger
    source and a structure weighted by strength, the more so the more the sources agree. Luminance
    does not count: K = 0.03 alone.
    """
    if min(fused.shape) < MEF_SSIM_SIDE:
        return _too_small("MEF-SSIM", MEF_SSIM_SIDE, fused)
    weights = np.array(WEIGHTS[:scales]) / sum(WEIGHTS[:scales])
    scaled = [np.asarray(image, dtype=np.float64) for image in (fused, a, b)]
    value = 1.0
    for scale, weight in enumerate(weights):
        maps = [_similarity_to_both(*strip) for strip in columns(scaled, 11)]
        mean = sum(float(x.sum()) for x in maps) / sum(x.size for x in maps)
        if mean < 0:
            return Undefined(
                f"on scale {scale + 1} the fused image is more negative than similar to the"
                f" sources (mean {mean:.3g}), which has no power {weight:.3g}"
            )
        value *= mean**weight
        scaled = [_halve(image) for image in scaled]
    return float(value)


def _similarity_to_both(f: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return (2 cov + C) / (var + var + C) of each window with its reference, transposed."""
    taps, constant = gaussian(11, 1.5), (0.03 * 255.0) ** 2
    of_a, of_b = _reference(a, b)
    mean_f, mean_a, mean_b = (smooth(x, taps) for x in (f, a, b))
    # The reference is of_a a + of_b b but for its mean, so its moments follow from the sources'.
    moments = {
        key: smooth(x * y, taps) - mean_x * mean_y
        for key, x, y, mean_x, mean_y in (
            ("ff", f, f, mean_f, mean_f),
            ("fa", f, a, mean_f, mean_a),
            ("fb", f, b, mean_f, mean_b),
            ("aa", a, a, mean_a, mean_a),
            ("bb", b, b, mean_b, mean_b),
            ("ab", a, b, mean_a, mean_b),
        )
    }
    covariance = of_a * moments["fa"] + of_b * moments["fb"]
    variance = (
        of_a * of_a * moments["aa"]
        + of_b * of_b * moments["bb"]
        + 2.0 * of_a * of_b * moments["ab"]
    )
    return (2.0 * covariance + constant) / (moments["ff"] + variance + constant)


def _reference(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return what each source's centred window is multiplied by in the reference window,
    transposed.
    """
    ones, n, eps = np.ones(11), 121, np.finfo(float).eps
    sum_a, sum_b = smooth(a, ones), smooth(b, ones)
    # sums of whole numbers and their quarters are exact, so that a flat window has no strength
    square_a = (n * smooth(a * a, ones) - sum_a * sum_a) / n
    square_b = (n * smooth(b * b, ones) - sum_b * sum_b) / n
    product = (n * smooth(a * b, ones) - sum_a * sum_b) / n
    norm_a, norm_b = np.sqrt(square_a), np.sqrt(square_b)
    strength_a, strength_b = norm_a + 0.001, norm_b + 0.001
    both = np.sqrt(np.maximum(square_a + square_b + 2.0 * product, 0.0))
    # R = |sum of the centred windows| / sum of their norms, p = tan(pi R / 2) up to 10
    consistency = np.minimum((both + eps) / (norm_a + norm_b + eps), 1.0 - eps)
    power = np.minimum(np.tan(np.pi / 2.0 * consistency), 10.0)
    weight_a, weight_b = (strength_a / 11.0) ** power + eps, (strength_b / 11.0) ** power + eps
    of_a, of_b = weight_a / strength_a, weight_b / strength_b
    norm = of_a * of_a * square_a + of_b * of_b * square_b + 2.0 * of_a * of_b * product
    norm = np.sqrt(np.maximum(norm, 0.0))
    longest = np.maximum(strength_a, strength_b)
    scale = np.divide(longest, norm, out=np.zeros_like(norm), where=norm > 0)
    return of_a * scale, of_b * scale


# ---- shared --------------------------------------------------------------------------------------


def _halve(image: np.ndarray) -> np.ndarray:
    """Return the means of 2 x 2 pixels; an odd last row or column is repeated."""
    x = np.pad(image, [(0, side % 2) for side in image.shape], mode="edge")
    return (x[::2, ::2] + x[1::2, ::2] + x[::2, 1::2] + x[1::2, 1::2]) / 4.0


def _too_small(name: str, side: int, image: np.ndarray) -> Undefined:
    return Undefined(
        f"{name} needs at least {side} x {side} pixels, the images have {image.shape[0]} x"
        f" {image.shape[1]}"
    )
