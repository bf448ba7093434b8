"""SF, AG, EI, Qabf and Nabf: how strong the edges are, how much of the sources' edges arrived, and
how many came from neither source.

Images are 8-bit gray levels ``(H, W)`` on the 0..255 scale. Qabf exists with two sets of constants;
their values must never be compared with each other (0.93 and 0.83 on one image).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Literal

import numpy as np

from fusionlib.metrics.arrays import inner, signed, strips
from fusionlib.metrics.undefined import Undefined, choice

Border = Literal["reflect", "edge", "constant"]
Preserved = Callable[..., tuple[np.ndarray, np.ndarray]]

TOO_SMALL = "gradients need at least 2 x 2 pixels, the images have {0} x {1}"
NO_EDGES = "no source has an edge, so there is none to preserve"


def spatial_frequency(
    fused: np.ndarray, *, white: float = 255.0, divisor: str = "differences"
) -> float:
    """Return SF, the root of the mean squared row and column differences.

    Parameters
    ----------
    fused : (H, W) uint8
    white : float
        What white is: 255, or 1 for images on [0, 1]. SF is proportional to it.
    divisor : "differences" or "pixels"
        Divide each sum by the number of its differences, (H-1) W and H (W-1), or both by H W.

    Returns
    -------
    float
        0 or more; undefined for a side of 1 pixel.

    Notes
    -----
    Eskicioglu & Fisher 1995.
    """
    choice("divisor", divisor, ("differences", "pixels"))
    x = signed(fused)
    if min(x.shape) < 2:
        return Undefined(TOO_SMALL.format(*x.shape))
    total = 0.0
    for d in (x[1:] - x[:-1], x[:, 1:] - x[:, :-1]):
        total += inner(d, d) / (d.size if divisor == "differences" else x.size)
    # SF = sqrt(RF^2 + CF^2)
    return math.sqrt(total) * (white / 255.0)


def average_gradient(
    fused: np.ndarray, *, differences: str = "central", divisor: str = "inner"
) -> float:
    """Return AG, the mean of sqrt((gx^2 + gy^2) / 2).

    Parameters
    ----------
    fused : (H, W) uint8
    differences : "central" or "forward"
        Central differences (one-sided at the borders) over all H W pixels, or forward differences
        over (H-1)(W-1) pixels, about 30 % higher.
    divisor : "inner" or "pixels"
        Divide the sum by (H-1)(W-1), which is less than the number of central differences, or by H
        W.

    Returns
    -------
    float
        0 or more; undefined for a side of 1 pixel.
    """
    choice("differences", differences, ("central", "forward"))
    choice("divisor", divisor, ("inner", "pixels"))
    height, width = fused.shape
    if min(height, width) < 2:
        return Undefined(TOO_SMALL.format(height, width))
    if differences == "central":
        # (x[i+1] - x[i-1]) / 2 inside and x[1] - x[0] at the border: both are differences of x
        # reflected so that the slope goes on, x[-1] = 2 x[0] - x[1].
        x = np.pad(signed(fused), 1, mode="reflect", reflect_type="odd")
        length, window = 2.0, 3
    else:
        x, length, window = signed(fused), 1.0, 2
    total = 0.0
    for rows in strips(x.shape[0], x.shape[1], window):
        strip = x[rows].astype(np.float64)
        if differences == "central":
            gy, gx = strip[2:, 1:-1] - strip[:-2, 1:-1], strip[1:-1, 2:] - strip[1:-1, :-2]
        else:
            gy, gx = strip[1:, :-1] - strip[:-1, :-1], strip[:-1, 1:] - strip[:-1, :-1]
        gx *= gx
        gy *= gy
        gx += gy
        total += float(np.sqrt(gx, out=gx).sum())
    count = (height - 1) * (width - 1) if divisor == "inner" else height * width
    return total / (length * math.sqrt(2.0)) / count


def edge_intensity(fused: np.ndarray) -> float:
    """Return EI, the mean strength of the Sobel gradient.

    Parameters
    ----------
    fused : (H, W) uint8

    Returns
    -------
    float
        0 to 1140.4; borders repeat the edge pixel, so a constant image has 0.

    Notes
    -----
    Rajalingam & Priya 2018, as VIFB cites it; the taps 1, 2, 1 are not divided by 8.
    """
    return float(sobel_strength(fused, "edge").mean())


def sobel_strength(image: np.ndarray, border: Border) -> np.ndarray:
    """Return sqrt(gx^2 + gy^2) of :func:`sobel`, (H, W) float64."""
    gx, gy = sobel(image, border)
    return np.sqrt(gx * gx + gy * gy)


def sobel(image: np.ndarray, border: Border) -> tuple[np.ndarray, np.ndarray]:
    """Return gx and gy by the taps 1, 2, 1, each (H, W) float64, exact for whole numbers.

    Parameters
    ----------
    image : (H, W)
    border : str
        What lies around the image, a mode of ``numpy.pad``.
    """
    x = signed(np.pad(image, 1, mode=border))
    down = x[:-2] + 2 * x[1:-1] + x[2:]
    right = x[:, :-2] + 2 * x[:, 1:-1] + x[:, 2:]
    gx, gy = down[:, 2:] - down[:, :-2], right[2:] - right[:-2]
    return gx.astype(np.float64), gy.astype(np.float64)


# ---- Qabf: one idea, two sets of constants -------------------------------------------------------


def qabf_xydeas(
    fused: np.ndarray, *sources: np.ndarray, white: float = 255.0, ties: str = "fused"
) -> float:
    """Return Qabf with the constants of Xydeas & Petrovic 2000, as the infrared-visible evaluators
    compute it.

    Parameters
    ----------
    fused, *sources : (H, W) uint8, one size
    white : float
        What white is: 255, or 1 for images on [0, 1]. It matters through the ties only.
    ties : "fused" or "one"
        What the gradient ratio is where both gradients are equal: the fused gradient itself (a slip
        that every evaluator of this family shares: on [0, 1] it punishes exact copying, 0.53 for
        identical images) or 1.

    Returns
    -------
    float
        0 to 0.97533; undefined where all sources are black, for then no gradient carries weight.

    Notes
    -----
    Sobel, zero padded. On [0, 1] ties depend on the last bit, so the taps are added in the
    one order that the evaluator's environment used: column by column of the kernel.
    """
    choice("ties", ties, ("fused", "one"))

    def preserved(
        strength: np.ndarray, strength_f: np.ndarray, turn: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        low, high = np.minimum(strength, strength_f), np.maximum(strength, strength_f)
        # G = g_S / g_F or its inverse, whichever is below 1 (Xydeas & Petrovic 2000)
        ratio = np.divide(low, high)
        np.copyto(ratio, strength_f if ties == "fused" else 1.0, where=low == high)
        # A = 1 - |alpha_S - alpha_F| / (pi / 2)
        turn *= -2.0 / np.pi
        turn += 1.0
        # Q = Q_g Q_alpha, two sigmoids; w = g
        return (
            0.9994
            * 0.9879
            / (_sigmoid_divisor(ratio, 15.0, 0.5) * _sigmoid_divisor(turn, 22.0, 0.8)),
            strength,
        )

    return _qabf(fused, sources, "constant", 255.0 / white, preserved)


def qabf_petrovic(fused: np.ndarray, *sources: np.ndarray) -> float:
    """Return Qabf with Petrovic's later constants, the variant behind the multi-focus paper's
    Q^AB/F column.

    Parameters
    ----------
    fused, *sources : (H, W) uint8, one size

    Returns
    -------
    float
        0 to 0.9997; undefined where no source has any gradient.

    Notes
    -----
    Sobel / 8 with reflected borders (the edge pixel is not repeated). Against
    :func:`qabf_xydeas`: steeper strength and centred angle sigmoids, the root of their product,
    angles folded at pi / 2, weights g^1.5 from 2 gray levels on and 0.001 below, ratio 0 where
    either gradient is 0. ASSUMPTION: the multi-focus paper names no constants for Q^AB/F;
    Petrovic's (T_d = 2, w_min = 0.001, L = 1.5, 0.9999 / 19 / 0.5 and 0.9995 / 22 / 0.5) are taken
    because they alone reproduce its Leopard cell 0.9313. ASSUMPTION: where no source has any
    gradient, the least weight would weigh nothing but noise, so Qabf is undefined.
    """
    return _qabf(fused, sources, "reflect", 8.0, _preserved_petrovic)


def _preserved_petrovic(
    strength: np.ndarray, strength_f: np.ndarray, turn: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    low, high = np.minimum(strength, strength_f), np.maximum(strength, strength_f)
    ratio = np.divide(low, high)
    np.copyto(ratio, 0.0, where=low == 0.0)
    # A = ||alpha_S - alpha_F| - pi / 2| / (pi / 2): an edge and its negative have one
    # orientation
    turn -= np.pi / 2
    np.abs(turn, out=turn)
    turn *= 2.0 / np.pi
    # Q = sqrt(Q_g Q_alpha)
    quality = (
        0.9999 * 0.9995 / (_sigmoid_divisor(ratio, 19.0, 0.5) * _sigmoid_divisor(turn, 22.0, 0.5))
    )
    # w = g^L where g >= T_d, else w_min
    weight = strength * np.sqrt(strength)
    np.copyto(weight, 0.001, where=strength < 2.0)
    return np.sqrt(quality, out=quality), weight


def _qabf(
    fused: np.ndarray,
    sources: tuple[np.ndarray, ...],
    border: Border,
    divisor: float,
    preserved: Preserved,
) -> float:
    """Return the weighted mean of the edge preservation over all sources and pixels."""
    total = weights = edges = 0.0
    for _, compared in _preservation(fused, sources, border, divisor, preserved):
        for strength, quality, weight in compared:
            # Q^AB/F = sum(Q^AF w^A + Q^BF w^B) / sum(w^A + w^B)  (Eq. 23, Abas & Baykan 2021)
            total += float(np.einsum("ij,ij->", quality, weight))
            weights += float(weight.sum())
            edges += float(strength.sum())
    return total / weights if edges > 0 else Undefined(NO_EDGES)


def _preservation(
    fused: np.ndarray,
    sources: tuple[np.ndarray, ...],
    border: Border,
    divisor: float,
    preserved: Preserved,
) -> Iterator[tuple[np.ndarray, list[tuple[np.ndarray, np.ndarray, np.ndarray]]]]:
    """Yield, strip by strip, the fused gradient's strength, and strength, quality and weight of
    each source's.

    ``preserved(strength, strength_f, |angle - angle_f|)`` returns quality and weight of each pixel.
    """
    padded = [np.pad(np.asarray(image), 1, mode=border) for image in (fused, *sources)]
    for rows in strips(padded[0].shape[0], padded[0].shape[1], 3):
        compared = []
        # 0 / 0 where both gradients vanish, replaced at once
        with np.errstate(divide="ignore", invalid="ignore"):
            strength_f, angle_f = _sobel(padded[0][rows], divisor)
            for source in padded[1:]:
                strength, angle = _sobel(source[rows], divisor)
                angle -= angle_f
                quality, weight = preserved(strength, strength_f, np.abs(angle, out=angle))
                compared.append((strength, quality, weight))
        yield strength_f, compared


def _sigmoid_divisor(x: np.ndarray, slope: float, middle: float) -> np.ndarray:
    """Return 1 + exp(-slope (x - middle)); ``x`` is overwritten."""
    x -= middle
    x *= -slope
    np.exp(x, out=x)
    x += 1.0
    return x


def _sobel(padded: np.ndarray, divisor: float) -> tuple[np.ndarray, np.ndarray]:
    """Return strength and angle of the Sobel gradient of the inner pixels, the taps added in one
    fixed order.
    """
    x = padded / divisor
    twice = x + x
    up, down, left, centre, right = (
        slice(None, -2),
        slice(2, None),
        slice(None, -2),
        slice(1, -1),
        slice(2, None),
    )
    # A convolution that walks its kernel column by column meets the image from right to left and
    # from below. s_x, kernel [-1 0 1; -2 0 2; -1 0 1]; the sign of a whole sum does not round
    column = twice[1:-1] + x[down]
    column += x[up]
    sx = x[down, left] - column[:, right]
    sx += twice[1:-1, left]
    sx += x[up, left]
    # s_y, kernel [1 2 1; 0 0 0; -1 -2 -1]
    sy = x[down, right] - x[up, right]
    sy += twice[down, centre]
    sy -= twice[up, centre]
    sy += x[down, left]
    sy -= x[up, left]
    strength = sx * sx
    # alpha = atan(s_y / s_x), pi / 2 where s_x is exactly 0
    angle = np.divide(sy, sx)
    np.arctan(angle, out=angle)
    np.copyto(angle, np.pi / 2, where=sx == 0.0)
    sy *= sy
    strength += sy
    return np.sqrt(strength, out=strength), angle


# ---- Nabf: edges of neither source ---------------------------------------------------------------


def artefacts(
    fused: np.ndarray, a: np.ndarray, b: np.ndarray, *, form: str = "kumar", exchanged: bool = False
) -> float:
    """Return Nabf, the share of the edge strength lost to artefacts; SMALLER is better.

    Artefacts are pixels where the fused gradient is stronger than that of each source.

    Parameters
    ----------
    fused, a, b : (H, W) uint8, one size
    form : "kumar" or "petrovic"
        What an artefact costs: each source's loss by its own weight, or both losses by both
        weights, two to four times as much.
    exchanged : bool
        Hand over (a, b, fused) for (fused, a, b), as an evaluator does: the first source is then
        scored as if fused from the second and the fused image.

    Returns
    -------
    float
        0 to 1 for Kumar's form, 0 where the fused image overshoots nowhere: an average has no
        artefact, and neither has a copy or a constant image.

    Notes
    -----
    Petrovic & Dimitrijevic 2007; Kumar 2013. Preservation Q and weights w as in
    :func:`qabf_petrovic`.
    """
    choice("form", form, ("kumar", "petrovic"))
    if exchanged:
        fused, a, b = a, b, fused
    total = weights = 0.0
    for strength_f, compared in _preservation(fused, (a, b), "reflect", 8.0, _preserved_petrovic):
        (strength_a, quality_a, weight_a), (strength_b, quality_b, weight_b) = compared
        # N^AB/F = sum AM ((1 - Q^AF) w^A + (1 - Q^BF) w^B) / sum(w^A + w^B), AM = 1 in artefacts
        if form == "kumar":
            lost = (1.0 - quality_a) * weight_a + (1.0 - quality_b) * weight_b
        else:
            lost = (2.0 - quality_a - quality_b) * (weight_a + weight_b)
        artefact = (strength_f > strength_a) & (strength_f > strength_b)
        total += float(lost[artefact].sum())
        weights += float(weight_a.sum() + weight_b.sum())
    return total / weights
