"""The eight metrics of MoE-Fusion's table 1 for a batch of images at once, on any torch device.

The definitions are those of the modules beside this one; a test holds them together to 1e-9. Only
who asks for :func:`evaluate_batch` imports torch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from fusionlib.metrics.conventions import choose
from fusionlib.metrics.fidelity import EPS, NOISE, VIF_SIDE, gaussian

EIGHT = ("EN", "SF", "SD", "MI", "VIF", "AG", "SCD", "Qabf")
CONVENTIONS = ("moe-fusion", "standard")


def evaluate_batch(
    fused: Tensor,
    a: Tensor,
    b: Tensor,
    names: Iterable[str] | str | None = None,
    convention: str = "moe-fusion",
) -> dict[str, Tensor]:
    """Score a batch of fused images against their sources: for a GPU.

    On a processor :func:`fusionlib.metrics.evaluate`, which keeps to the cache, is faster.

    Parameters
    ----------
    fused, a, b : (B, H, W) uint8 on one device
    names : iterable of str, optional
        Of :data:`EIGHT`; all of them where None.
    convention : "moe-fusion" or "standard"

    Returns
    -------
    dict of str to (B,) float64
        On the same device; NaN where :func:`fusionlib.metrics.evaluate` says why a value is
        undefined.

    Raises
    ------
    TypeError, ValueError
        Not uint8, not (B, H, W) of one size, another metric or convention: one sentence.
    """
    if convention not in CONVENTIONS:
        raise ValueError(
            f"convention: expected {' or '.join(CONVENTIONS)} for batches, got {convention!r}"
        )
    chosen = choose(EIGHT if names is None else names, convention)
    for name in chosen:
        if name not in EIGHT:
            raise ValueError(
                f"metric: expected one of {', '.join(EIGHT)} for batches, got {name!r}"
            )
    _check(fused=fused, a=a, b=b)
    return {name: FUNCTIONS[name](fused, a, b, **metric.options) for name, metric in chosen.items()}


def _check(**batches: Tensor) -> None:
    """Raise one sentence unless all are uint8 (B, H, W) of one shape."""
    shape = next(iter(batches.values())).shape
    for name, images in batches.items():
        if images.dtype != torch.uint8:
            raise TypeError(f"{name}: expected uint8 images, got {images.dtype}")
        if images.ndim != 3 or images.shape != shape or not images.numel():
            raise ValueError(
                f"{name}: expected (B, H, W) as fused, which is {tuple(shape)}, got"
                f" {tuple(images.shape)}"
            )


def _undefined(images: Tensor) -> Tensor:
    return torch.full(images.shape[:1], math.nan, dtype=torch.float64, device=images.device)


# ---- histograms ----------------------------------------------------------------------------------


def _counts(index: Tensor, bins: int) -> Tensor:
    """Return how often each index occurs, (B, bins) int64."""
    number = torch.arange(len(index), device=index.device)[:, None] * bins
    flat = (index.flatten(1) + number).flatten()
    return torch.bincount(flat, minlength=len(index) * bins).view(len(index), bins)


def _entropy(counts: Tensor) -> Tensor:
    """Return the entropy in bits of each histogram; empty bins add 0."""
    p = counts.double() / counts.sum(dim=1, keepdim=True)
    return -torch.special.xlogy(p, p).sum(dim=1) / math.log(2.0)


def _en(fused: Tensor, a: Tensor, b: Tensor) -> Tensor:
    return _entropy(_counts(fused.long(), 256))


def _sd(fused: Tensor, a: Tensor, b: Tensor, arithmetic: str = "real") -> Tensor:
    counts = _counts(fused.long(), 256).double()
    levels = torch.arange(256.0, dtype=torch.float64, device=fused.device)
    n = counts.sum(dim=1, keepdim=True)
    off = levels - (counts * levels).sum(dim=1, keepdim=True) / n
    if arithmetic == "uint8":
        off = (off + 0.5).floor().clamp(0.0, 255.0)
        squares = (off * off).clamp(max=255.0)
    else:
        squares = off * off
    return ((counts * squares).sum(dim=1) / n[:, 0]).sqrt()


def _mi(fused: Tensor, a: Tensor, b: Tensor, merge_top: bool = False) -> Tensor:
    total = torch.zeros(len(fused), dtype=torch.float64, device=fused.device)
    for source in (a, b):
        joint = _counts(source.long() * 256 + fused.long(), 65536).view(-1, 256, 256)
        both = joint
        if merge_top:
            both = joint.clone()
            both[:, 254] += both[:, 255]
            both[:, :, 254] += both[:, :, 255]
            both = both[:, :255, :255]
        total += _entropy(joint.sum(dim=2)) + _entropy(joint.sum(dim=1))
        total -= _entropy(both.flatten(1))
    return total


# ---- moments -------------------------------------------------------------------------------------


def _inner(x: Tensor, y: Tensor) -> Tensor:
    """Return sum x y of whole numbers, exact, (B,) float64."""
    return (x.long() * y.long()).sum(dim=(1, 2)).double()


def _scd(fused: Tensor, a: Tensor, b: Tensor) -> Tensor:
    f, x, y = (image.short() for image in (fused, a, b))
    return _pearson(f - y, x) + _pearson(f - x, y)


def _pearson(x: Tensor, y: Tensor) -> Tensor:
    n, ones = x[0].numel(), torch.ones_like(x)
    sum_x, sum_y = _inner(x, ones), _inner(y, ones)
    variances = (n * _inner(x, x) - sum_x**2, n * _inner(y, y) - sum_y**2)
    value = (n * _inner(x, y) - sum_x * sum_y) / (variances[0].sqrt() * variances[1].sqrt())
    return torch.where((variances[0] > 0) & (variances[1] > 0), value, math.nan)


# ---- gradients -----------------------------------------------------------------------------------


def _sf(fused: Tensor, a: Tensor, b: Tensor, white: float = 255.0) -> Tensor:
    if min(fused.shape[1:]) < 2:
        return _undefined(fused)
    x = fused.short()
    steps = (x[:, 1:] - x[:, :-1], x[:, :, 1:] - x[:, :, :-1])
    mean_squares = [_inner(d, d) / d[0].numel() for d in steps]
    return (mean_squares[0] + mean_squares[1]).sqrt() * (white / 255.0)


def _ag(fused: Tensor, a: Tensor, b: Tensor) -> Tensor:
    height, width = fused.shape[1:]
    if min(height, width) < 2:
        return _undefined(fused)
    gy, gx = torch.gradient(fused.double(), dim=(1, 2))
    total = ((gx * gx + gy * gy) / 2.0).sqrt().sum(dim=(1, 2))
    return total / ((height - 1) * (width - 1))


def _qabf(fused: Tensor, a: Tensor, b: Tensor, white: float = 255.0) -> Tensor:
    strength_f, angle_f = _sobel(fused, 255.0 / white)
    total = weight = torch.zeros(len(fused), dtype=torch.float64, device=fused.device)
    for source in (a, b):
        strength, angle = _sobel(source, 255.0 / white)
        low, high = torch.minimum(strength, strength_f), torch.maximum(strength, strength_f)
        # equal gradients count as the gradient itself, which also replaces 0 / 0
        ratio = torch.where(low == high, strength_f, low / high)
        turn = 1.0 - (angle - angle_f).abs() * (2.0 / math.pi)
        quality = 0.9994 * 0.9879 * torch.sigmoid(15.0 * (ratio - 0.5))
        quality = quality * torch.sigmoid(22.0 * (turn - 0.8))
        total = total + (quality * strength).sum(dim=(1, 2))
        weight = weight + strength.sum(dim=(1, 2))
    return torch.where(weight > 0, total / weight, math.nan)


def _sobel(image: Tensor, divisor: float) -> tuple[Tensor, Tensor]:
    """Return strength and angle, zeros around the image; the taps are added in the order that
    decides ties on [0, 1], see ``gradient._sobel``.
    """
    x = functional.pad(image.double(), (1, 1, 1, 1)) / divisor
    twice = x + x
    up, down = slice(None, -2), slice(2, None)
    middle = slice(1, -1)
    column = twice[:, middle] + x[:, down]
    column = column + x[:, up]
    sx = x[:, down, up] - column[:, :, down] + twice[:, middle, up] + x[:, up, up]
    sy = x[:, down, down] - x[:, up, down] + twice[:, down, middle] - twice[:, up, middle]
    sy = sy + x[:, down, up] - x[:, up, up]
    angle = torch.where(sx == 0.0, math.pi / 2.0, torch.atan(sy / sx))
    return _square_root(sx * sx + sy * sy), angle


def _square_root(x: Tensor) -> Tensor:
    """Return the square root, rounded as IEEE 754 says: equal strengths are ties.

    On some processors torch's own (MKL's) is off by a unit in the last place for one number in
    hundred; numpy's and CUDA's are not.
    """
    return x.sqrt() if x.is_cuda else torch.from_numpy(np.sqrt(x.numpy()))


# ---- VIF -----------------------------------------------------------------------------------------


def _vif(fused: Tensor, a: Tensor, b: Tensor, arithmetic: str = "real") -> Tensor:
    if min(fused.shape[1:]) < VIF_SIDE:
        return _undefined(fused)
    scaled = [image.double() for image in (fused, a, b)]
    nothing = torch.zeros(len(fused), dtype=torch.float64, device=fused.device)
    kept, lost, total = [nothing, nothing], [nothing, nothing], nothing
    for scale, size in enumerate((17, 9, 5, 3)):
        taps = torch.from_numpy(gaussian(size, size / 5.0)).to(fused.device)
        if scale:
            scaled = [_smooth(image, taps)[:, ::2, ::2] for image in scaled]
        limit = 255.0 if scale == 0 and arithmetic == "uint8" else math.inf
        f, *sources = scaled
        for k, source in enumerate(sources):
            numerator, denominator = _information(f, source, taps, limit)
            kept[k] = kept[k] + numerator
            lost[k] = lost[k] + denominator
    for source, numerator, denominator in zip((a, b), kept, lost, strict=True):
        flat = source.amax(dim=(1, 2)) == source.amin(dim=(1, 2))
        total = total + torch.where(flat | (denominator == 0), math.nan, numerator / denominator)
    return total


def _information(f: Tensor, source: Tensor, taps: Tensor, limit: float) -> tuple[Tensor, Tensor]:
    """Return the information in the fused image and in the source at one scale (nats)."""
    mean_f, mean_s = _smooth(f, taps), _smooth(source, taps)
    variance_f = (_smooth((f * f).clamp(max=limit), taps) - mean_f**2).clamp(min=0.0)
    variance_s = (_smooth((source * source).clamp(max=limit), taps) - mean_s**2).clamp(min=0.0)
    covariance = _smooth((source * f).clamp(max=limit), taps) - mean_s * mean_f
    flat_s = variance_s < EPS
    covariance = covariance.clamp(min=0.0).masked_fill(flat_s | (variance_f < EPS), 0.0)
    variance_s = variance_s.masked_fill(flat_s, 0.0)
    gain = covariance / (variance_s + EPS)
    noise = (variance_f - gain * covariance).clamp(min=EPS)
    kept = torch.log1p(gain * gain * variance_s / (noise + NOISE))
    return kept.sum(dim=(1, 2)), torch.log1p(variance_s / NOISE).sum(dim=(1, 2))


def _smooth(x: Tensor, taps: Tensor) -> Tensor:
    """Return the separable filter of each image, windows inside it only; sums of shifted images are
    faster than torch's convolution in float64.
    """
    for axis in (1, 2):
        count = x.shape[axis] - len(taps) + 1
        once = x.narrow(axis, 0, count) * taps[0]
        for shift in range(1, len(taps)):
            once.add_(x.narrow(axis, shift, count) * taps[shift])
        x = once
    return x


FUNCTIONS: dict[str, Callable[..., Tensor]] = {
    "EN": _en,
    "SF": _sf,
    "SD": _sd,
    "MI": _mi,
    "VIF": _vif,
    "AG": _ag,
    "SCD": _scd,
    "Qabf": _qabf,
}
