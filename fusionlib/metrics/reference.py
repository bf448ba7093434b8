"""MSE, RMSE and PSNR: the distance to a reference, or to the sources where an evaluator asks for
that.

With one image after ``fused`` these are the full-reference metrics of the textbooks; with two the
options say how both distances become one number. Images are 8-bit gray levels ``(H, W)``.
"""

from __future__ import annotations

import math

import numpy as np

from fusionlib.metrics.arrays import inner, signed
from fusionlib.metrics.undefined import Undefined, choice, combine

ERRORS = ("mean", "root")


def mse(
    fused: np.ndarray, *references: np.ndarray, white: float = 255.0, error: str = "mean"
) -> float:
    """Return MSE, the mean squared difference, averaged over the references.

    Parameters
    ----------
    fused, *references : (H, W) uint8, one size
    white : float
        What white is: 255, or 1 for images on [0, 1]. MSE is proportional to its square.
    error : "mean" or "root"
        sum(d^2) / n, or sqrt(sum(d^2)) / n, which one benchmark calls MSE (0.3 where MSE is 600).

    Returns
    -------
    float
        0 or more.
    """
    choice("error", error, ERRORS)
    x = signed(fused)
    values = []
    for reference in references:
        d = x - signed(reference)
        total = inner(d, d) * (white / 255.0) ** 2
        values.append((total if error == "mean" else math.sqrt(total)) / d.size)
    return combine(values, "mean")


def rmse(
    fused: np.ndarray,
    *references: np.ndarray,
    white: float = 255.0,
    average: str = "squares",
    error: str = "mean",
) -> float:
    """Return RMSE.

    Parameters
    ----------
    fused, *references, white, error
        As for :func:`mse`; with ``error="root"`` the value is that MSE itself, as in the benchmark
        that uses it.
    average : "squares" or "roots"
        With several references: the root of the mean MSE, or the mean of the roots. One reference:
        no difference.

    Notes
    -----
    Eq. (18) with one reference, Eq. (16) with two sources and ``average="roots"``, Abas &
    Baykan 2021. ASSUMPTION: Eq. (16) of the multi-focus paper lacks the square root in its second
    half; both halves are taken as roots.
    """
    choice("average", average, ("squares", "roots"))
    if error == "root":
        return mse(fused, *references, white=white, error=error)
    if average == "squares":
        return math.sqrt(mse(fused, *references, white=white))
    # Eq. (16): RMSE = 1/2 (sqrt(MSE(I_1, F)) + sqrt(MSE(I_2, F)))
    return combine(
        [math.sqrt(mse(fused, reference, white=white)) for reference in references], "mean"
    )


def psnr(
    fused: np.ndarray,
    *references: np.ndarray,
    peak: float | str = 255.0,
    white: float = 255.0,
    error: str = "mean",
) -> float:
    """Return PSNR = 10 log10(peak^2 / MSE) in dB.

    Parameters
    ----------
    fused, *references, white, error
        As for :func:`mse`, which gives the MSE, averaged over the references.
    peak : float or "maximum"
        255; 255 with ``white=1`` reads 48.13 dB too high; "maximum" takes the largest gray level of
        ``fused``.

    Returns
    -------
    float
        Infinite where the images are equal; undefined where the peak is 0.

    Notes
    -----
    Eq. (20), Abas & Baykan 2021, with L = 256 and the logarithm to base 10.
    """
    if isinstance(peak, str):
        choice("peak", peak, ("maximum",))
        peak = float(np.max(fused))
    squared = mse(fused, *references, white=white, error=error)
    if squared == 0:
        return math.inf
    if peak == 0:
        return Undefined("the fused image is black, so its largest gray level is no peak")
    # Eq. (20): PSNR = 10 log((L - 1)^2 / RMSE^2)
    return 10.0 * math.log10(peak**2 / squared)
