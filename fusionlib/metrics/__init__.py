"""Fusion metrics in named conventions, exact and fast.

::

    from fusionlib import metrics

    metrics.evaluate(fused, a, b)                              # the row that MoE-Fusion's tables
    print metrics.evaluate(fused, a, b, convention="standard")       # the textbook's
    metrics.compare(fused, reference)                          # against a reference
    metrics.CONVENTIONS["moe-fusion"]["SD"]                    # says what a value is, in a sentence

Images are gray ``(H, W)``, 8 bits. A value without meaning is NaN and knows why
(:class:`Undefined`).
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from fusionlib import images
from fusionlib.metrics.conventions import CONVENTIONS, NAMES, Metric, choose, describe
from fusionlib.metrics.correlation import correlation, scd, standard_deviation
from fusionlib.metrics.fidelity import ssim, vif
from fusionlib.metrics.gradient import (
    average_gradient,
    qabf_petrovic,
    qabf_xydeas,
    spatial_frequency,
)
from fusionlib.metrics.information import entropy, mutual_information
from fusionlib.metrics.reference import mse, psnr, rmse
from fusionlib.metrics.undefined import Undefined

__all__ = [
    "CONVENTIONS",
    "NAMES",
    "Metric",
    "Undefined",
    "average_gradient",
    "choose",
    "compare",
    "correlation",
    "describe",
    "entropy",
    "evaluate",
    "mse",
    "mutual_information",
    "psnr",
    "qabf_petrovic",
    "qabf_xydeas",
    "rmse",
    "scd",
    "spatial_frequency",
    "ssim",
    "standard_deviation",
    "vif",
    "why_undefined",
]


def evaluate(
    fused: np.ndarray,
    a: np.ndarray,
    b: np.ndarray,
    names: Iterable[str] | str | None = None,
    convention: str = "moe-fusion",
    reasons: dict[str, str] | None = None,
) -> dict[str, float]:
    """Score a fused image against its two sources.

    Parameters
    ----------
    fused, a, b : (H, W) uint8, one size
        Gray images; arrays of another type are accepted where they hold whole numbers 0..255. ``a``
        is the infrared or first, ``b`` the visible or second source; every metric here is symmetric
        in them.
    names : iterable of str, optional
        Which metrics; all that the convention computes from sources where None.
    convention : str
        A key of :data:`CONVENTIONS`.
    reasons : dict, optional
        Filled with ``{name: sentence}`` for every undefined (NaN) value.

    Returns
    -------
    dict of str to float
        In the order asked for. A NaN among them is :class:`Undefined` and carries its ``reason``.

    Raises
    ------
    TypeError, ValueError
        Not gray, not 8 bits, sizes that differ, an unknown metric or convention: one sentence each.
    """
    chosen = choose(names, convention, "sources")
    return _score(chosen, _gray(fused=fused, a=a, b=b), reasons)


def compare(
    fused: np.ndarray,
    reference: np.ndarray,
    names: Iterable[str] | str | None = None,
    convention: str = "standard",
    reasons: dict[str, str] | None = None,
) -> dict[str, float]:
    """Score a fused image against a reference; arguments, result and errors as for
    :func:`evaluate`.
    """
    chosen = choose(names, convention, "reference")
    return _score(chosen, _gray(fused=fused, reference=reference), reasons)


def why_undefined(
    name: str, fused: np.ndarray, a: np.ndarray, b: np.ndarray, convention: str = "moe-fusion"
) -> str | None:
    """Return the sentence that says why a metric is undefined for these images, None where it is
    defined.

    Parameters
    ----------
    name : str
        Of a metric against the sources.
    fused, a, b : (H, W) uint8
    convention : str
    """
    reasons: dict[str, str] = {}
    evaluate(fused, a, b, [name], convention, reasons)
    return reasons.get(name)


def _score(
    chosen: dict[str, Metric], arrays: list[np.ndarray], reasons: dict[str, str] | None
) -> dict[str, float]:
    values = {name: metric(*arrays) for name, metric in chosen.items()}
    if reasons is not None:
        reasons |= {
            name: value.reason for name, value in values.items() if isinstance(value, Undefined)
        }
    return values


def _gray(**arrays: np.ndarray) -> list[np.ndarray]:
    """Return the named images as gray uint8 of one size, or raise one sentence."""
    checked = {name: _gray_levels(array, name) for name, array in arrays.items()}
    first, size = next(iter((name, image.shape) for name, image in checked.items()))
    for name, image in checked.items():
        if image.shape != size:
            raise ValueError(
                f"{name} and {first}: expected one size, got {image.shape[0]}x{image.shape[1]} and "
                f"{size[0]}x{size[1]} (height x width)"
            )
    return list(checked.values())


def _gray_levels(array: np.ndarray, name: str) -> np.ndarray:
    if (
        isinstance(array, np.ndarray)
        and array.dtype != np.uint8
        and array.dtype.kind in "iuf"
        and array.size
    ):
        whole = np.isfinite(array).all() and (array >= 0).all() and (array <= 255).all()
        if not (whole and (array == np.floor(array)).all()):
            raise ValueError(
                f"{name}: expected gray levels, whole numbers 0..255, got {images.describe(array)}"
                f" with values {np.min(array):g} to {np.max(array):g}; images.to_uint8 rounds them,"
                " images.from_unit where white is 1"
            )
        array = array.astype(np.uint8)
    image = images.check(array, name)
    if image.ndim == 3:
        raise ValueError(
            f"{name}: expected a gray image (H, W), got colour {image.shape}; score its luma Y, "
            f"images.luma({name})"
        )
    return image
