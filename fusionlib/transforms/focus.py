"""Which of two sources is in focus, without a transform."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter, laplace


def sharper(a: np.ndarray, b: np.ndarray, sigma: float = 3.0) -> np.ndarray:
    """Return where ``a`` has more Laplacian energy around a pixel than ``b``.

    The decision map of many a script for focus stacking: Laplacian, squared, averaged over a
    neighbourhood, compared.

    Parameters
    ----------
    a, b : (H, W) real arrays of one shape
    sigma : float
        Gaussian neighbourhood in pixels. The default suits blurs of a few pixels.

    Returns
    -------
    (H, W) bool
        Equal energies (two flat regions) go to ``b``.

    Raises
    ------
    ValueError
        Shapes differ or are not two-dimensional, or sigma is not positive.
    """
    if np.ndim(a) != 2 or np.shape(a) != np.shape(b):
        raise ValueError(f"a and b: expected one shape (H, W), got {np.shape(a)} and {np.shape(b)}")
    if not sigma > 0:
        raise ValueError(f"sigma: expected a positive number of pixels, got {sigma!r}")
    energy_a, energy_b = (
        gaussian_filter(laplace(np.asarray(x, dtype=np.float64)) ** 2, sigma) for x in (a, b)
    )
    return energy_a > energy_b
