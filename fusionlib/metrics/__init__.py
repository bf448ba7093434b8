"""Fusion metrics in named conventions, exact and fast.

::

    from fusionlib import metrics

    metrics.evaluate(fused, a, b)  # the row that MoE-Fusion's tables print
    metrics.evaluate(fused, a, b, convention="standard")  # the textbook's
    metrics.compare(fused, reference)  # against a reference
    metrics.CONVENTIONS["moe-fusion"]["SD"]  # says what a value is, in a sentence

Images are gray ``(H, W)``, 8 bits. A value without meaning is NaN and knows why
(:class:`Undefined`).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from fusionlib import images
from fusionlib.metrics.conventions import (
    CONVENTIONS,
    FURTHER,
    IN_COLOUR,
    NAMES,
    Metric,
    choose,
    describe,
    serving,
)
from fusionlib.metrics.correlation import correlation, scd, standard_deviation
from fusionlib.metrics.features import feature_information
from fusionlib.metrics.fidelity import fusion_fidelity, ssim, vif
from fusionlib.metrics.gradient import (
    artefacts,
    average_gradient,
    edge_intensity,
    qabf_petrovic,
    qabf_xydeas,
    spatial_frequency,
)
from fusionlib.metrics.information import (
    cross_entropy,
    entropy,
    mutual_information,
    nonlinear_correlation,
)
from fusionlib.metrics.perception import contrast_preservation, perceived_difference
from fusionlib.metrics.reference import mse, psnr, rmse
from fusionlib.metrics.structure import chosen_similarity, exposure_fusion_ssim, multiscale_ssim
from fusionlib.metrics.undefined import Undefined, combine

if TYPE_CHECKING:
    from fusionlib.metrics.batch import evaluate_batch

__all__ = [
    "CONVENTIONS",
    "FURTHER",
    "IN_COLOUR",
    "NAMES",
    "Metric",
    "Undefined",
    "artefacts",
    "average_gradient",
    "choose",
    "chosen_similarity",
    "compare",
    "contrast_preservation",
    "correlation",
    "cross_entropy",
    "describe",
    "edge_intensity",
    "entropy",
    "evaluate",
    "evaluate_batch",
    "exposure_fusion_ssim",
    "feature_information",
    "fusion_fidelity",
    "mse",
    "multiscale_ssim",
    "mutual_information",
    "nonlinear_correlation",
    "perceived_difference",
    "psnr",
    "qabf_petrovic",
    "qabf_xydeas",
    "rmse",
    "scd",
    "serving",
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
        is the infrared or first, ``b`` the visible or second source; every metric is symmetric in
        them but VIFF, where their gains tie, and the Nabf of ``moe-fusion``. In convention ``vifb``
        each may be (H, W, 3): a channel is scored against the same channel, or the one there is,
        and the three values are averaged.
    names : iterable of str, optional
        Which metrics; the convention's part of the first thirteen where None, further ones too
        where "all".
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

    Examples
    --------
    >>> infrared = np.arange(64, dtype=np.uint8)[:, None].repeat(64, axis=1)
    >>> visible = infrared.T.copy()
    >>> scores = evaluate(infrared // 2 + visible // 2, infrared, visible, ["EN", "VIF"])
    >>> {name: round(float(value), 4) for name, value in scores.items()}
    {'EN': 5.7198, 'VIF': 0.3771}
    """
    chosen = choose(names, convention, "sources")
    if convention in IN_COLOUR and any(np.ndim(image) == 3 for image in (fused, a, b)):
        channels = _channels(fused=fused, a=a, b=b)
        return _score(chosen, channels, reasons, side_by_side=np.ndim(fused) == 3)
    return _score(chosen, [_gray(fused=fused, a=a, b=b)], reasons)


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
    return _score(chosen, [_gray(fused=fused, reference=reference)], reasons)


def __getattr__(name: str):
    """Import ``evaluate_batch`` when it is first asked for: it needs torch, all else does not."""
    if name == "evaluate_batch":
        from fusionlib.metrics.batch import evaluate_batch

        return evaluate_batch
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


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
    chosen: dict[str, Metric],
    channels: list[list[np.ndarray]],
    reasons: dict[str, str] | None,
    side_by_side: bool = False,
) -> dict[str, float]:
    """Return the means over channels, each the fused image and those that it is compared with."""
    values = {}
    for name, metric in chosen.items():
        if side_by_side and metric.channels == "side by side":
            values[name] = metric(*(np.hstack(images) for images in zip(*channels, strict=True)))
        else:
            values[name] = combine([metric(*images) for images in channels], "mean")
    if reasons is not None:
        reasons |= {
            name: value.reason for name, value in values.items() if isinstance(value, Undefined)
        }
    return values


def _channels(**arrays: np.ndarray) -> list[list[np.ndarray]]:
    """Return the named images channel by channel, gray ones the same in each; or raise one
    sentence.
    """
    levels = {name: _levels(array, name) for name, array in arrays.items()}
    return [
        _gray(
            **{name: image if image.ndim == 2 else image[..., k] for name, image in levels.items()}
        )
        for k in range(3)
    ]


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
    image = _levels(array, name)
    if image.ndim == 3:
        raise ValueError(
            f"{name}: expected a gray image (H, W), got colour {image.shape}; score its luma Y, "
            f"images.luma({name})"
        )
    return image


def _levels(array: np.ndarray, name: str) -> np.ndarray:
    """Return a gray or colour image as uint8, or raise one sentence."""
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
    return images.check(array, name)
