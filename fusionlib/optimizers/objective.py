"""What the low-pass weight is chosen by: eqs. (13) to (17) of Abas and Baykan 2021, without an
inverse transform.

Both transforms are linear and the fused high-pass bands do not depend on the weight of the bases.
The fused image is therefore a straight line between two images, F(w) = P + w D: P with the base of
the second source, D the image of the difference of the bases. Correlation and error follow from a
few inner products, the entropy from the weights at which pixels change their gray level
(:mod:`.steps`). A candidate costs a microsecond instead of an inverse transform.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np

from fusionlib import images

from .cells import changes, entropies, histogram
from .steps import Steps, steps

# ASSUMPTION: 1 / RMSE is infinite for identical sources; an RMSE below 1e-6 gray levels counts as
# 1e-6.
SMALLEST_RMSE = 1e-6
MOST_STEPS = 2**25  # of an image: at 16 bytes a step, and as many again while they are sorted
FLAT = 1e-9  # standard deviation, in gray levels, below which an image is constant but for rounding


class LowPassObjective:
    """f(w) = alpha1 CC + alpha2 EN + alpha3 / RMSE of the image fused with weight w of the first
    base.

    Parameters
    ----------
    a, b : (H, W) uint8
        The gray sources; the weight multiplies the base of ``a``.
    transform : object
        Has ``forward(x)``, ``inverse(bands)``, ``base_image(low, shape)`` and ``fuse(bands_a,
        bands_b, rule=, area=, base=)``, all linear but for the rule: a pyramid or a curvelet
        transform.
    rule, area : optional
        Handed to ``transform.fuse``, a number, name or callable; its own defaults where None.
    alphas : three floats
        Weights of CC, EN and 1 / RMSE; the paper's best are 0.25, 0.25, 0.5.
    quantize : bool
        False: CC and RMSE of the fused image as it is. True: of the image rounded and clipped to 8
        bits, as an evaluation of files would see it. Both are exact and as fast; the entropy is of
        the rounded image in both. ASSUMPTION: the paper does not say whether candidates are rounded
        to 8 bits; CC and RMSE are taken before rounding, which changes the objective by 1e-4 on
        most pairs and by 2e-3 where many pixels are clipped.

    Attributes
    ----------
    evaluations : int
        Candidates evaluated so far.
    p, d : (H, W) float64
        F(w) = p + w d.

    Raises
    ------
    TypeError, ValueError
        Sources that are not gray uint8 of one size, or alphas that are not three finite numbers.
    """

    def __init__(
        self,
        a: np.ndarray,
        b: np.ndarray,
        transform: Any,
        rule: int | str | Callable | None = None,
        area: int | None = None,
        alphas: tuple[float, float, float] = (0.25, 0.25, 0.5),
        quantize: bool = False,
    ):
        a, b = images.check_pair(a, b)
        if a.ndim != 2:
            raise ValueError(
                f"a: expected a gray image (H, W), got {images.describe(a)}; use images.luma(...)"
            )
        self.alphas, self.quantize, self.evaluations = _alphas(alphas), bool(quantize), 0
        bands_a, bands_b = transform.forward(a), transform.forward(b)
        options = {
            name: value for name, value in (("rule", rule), ("area", area)) if value is not None
        }
        # Eq. (13) with w = w1 / (w1 + w2): base(w) = B + w (A - B), so F(w) = P + w D.
        self.p = np.real(
            transform.inverse(transform.fuse(bands_a, bands_b, base="second", **options))
        )
        self.d = np.real(transform.base_image(bands_a.low - bands_b.low, a.shape))
        self.sources = (a, b)
        self._products = [_Products(source, self.p, self.d) for source in self.sources]

    def __call__(self, w: float | np.ndarray) -> float | np.ndarray:
        """Return f(w), Eq. (17).

        Parameters
        ----------
        w : float, (n,) or (n, 2) array
            Weights in [0, 1]; pairs (w1, w2) mean w1 / (w1 + w2), see
            :func:`normalized_weight`.

        Returns
        -------
        float or (n,) array

        Raises
        ------
        ValueError
            A weight outside [0, 1] or NaN, or an array of another shape.
        """
        w = _weights(w)
        self.evaluations += w.size
        value = self.fidelity(w) + self.alphas[1] * self.entropy(w)
        return float(value) if w.ndim == 0 else value

    def terms(self, w: float | np.ndarray) -> dict[str, np.ndarray]:
        """Return CC, EN and RMSE at the weights (as for a call), each a float or (n,) array."""
        w = _weights(w)
        cc, rmse = self._cc_rmse(w)
        return {"CC": cc, "EN": self.entropy(w), "RMSE": rmse}

    def fidelity(self, w: float | np.ndarray) -> np.ndarray:
        """Return alpha1 CC + alpha3 / RMSE at (n,) weights: all of f but the entropy."""
        cc, rmse = self._cc_rmse(np.asarray(w, dtype=np.float64))
        return self.alphas[0] * cc + self.alphas[2] / np.maximum(rmse, SMALLEST_RMSE)

    def entropy(self, w: float | np.ndarray) -> np.ndarray:
        """Return EN in bits, eq. (15), of the image rounded to 8 bits at (n,) weights.

        Exact for every w in [0, 1], but for pixels that lie on half a gray level up to the rounding
        error of float64: another order of additions may round them the other way. Of images with
        more than MOST_STEPS steps the histogram is counted at each weight: slower, in less memory.
        """
        if self.steps_fit:
            return self.steps.entropies[self.steps.index(w)]
        counts = [histogram(self.p, self.d, each) for each in np.ravel(w)]
        return entropies(np.stack(counts)).reshape(np.shape(w))

    @cached_property
    def steps_fit(self) -> bool:
        """Whether :attr:`steps` are few enough to be kept."""
        return self.quantize or changes(self.p, self.d) <= MOST_STEPS

    @cached_property
    def steps(self) -> Steps:
        """The step functions of w that rounding makes, computed at the first use: see
        :mod:`.steps`.
        """
        return steps(self.p, self.d, self.sources if self.quantize else None)

    def image(self, w: float) -> np.ndarray:
        """Return the fused image at ``w`` before rounding, (H, W) float64."""
        return self.p + float(_weights(w)) * self.d

    def fused(self, w: float) -> np.ndarray:
        """Return the fused image at ``w``, (H, W) uint8."""
        return images.to_uint8(self.image(w))

    @staticmethod
    def weight(x: float | np.ndarray) -> float:
        """Return the w that the outcome of a search stands for: the number itself, or w1 / (w1 +
        w2) of a pair.
        """
        return float(_weights(np.reshape(x, (1, -1)) if np.size(x) == 2 else x).item())

    def with_alphas(self, alphas: tuple[float, float, float]) -> LowPassObjective:
        """Return the same objective with other weights of its terms; everything computed is
        shared.
        """
        _ = self.steps_fit and self.steps  # before copying, so that both have it
        other = copy.copy(self)
        other.alphas, other.evaluations = _alphas(alphas), 0
        return other

    def _cc_rmse(self, w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return eqs. (14) and (16): CC and RMSE, each the mean over the two sources."""
        if self.quantize:
            pairs = self._of_rounded(w)
        else:
            pairs = [(products.correlation(w), products.rmse(w)) for products in self._products]
        (cc_a, rmse_a), (cc_b, rmse_b) = pairs
        # ASSUMPTION: the second half of eq. (16) is printed as a reciprocal without root; both
        # halves are meant alike.
        return (cc_a + cc_b) / 2, (rmse_a + rmse_b) / 2

    def _of_rounded(self, w: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return both halves of eqs. (14) and (16) for the rounded image R, from its sums with the
        sources I.
        """
        sums = self.steps.sums
        assert sums is not None  # rounded images come with their sums
        r, rr, *products = sums[:, self.steps.index(w)].astype(np.float64)
        n, pairs = self.p.size, []
        for source, ri in zip(self.sources, products, strict=True):
            i, ii = float(source.sum(dtype=np.int64)), float((source.astype(np.int64) ** 2).sum())
            variances = rr - r * r / n, ii - i * i / n
            pairs.append(
                (
                    _correlation(ri - r * i / n, *variances, flat=0.1),
                    np.sqrt((rr - 2 * ri + ii) / n),
                )
            )
        return pairs


class _Products:
    """Inner products of one source I with P and D: correlation and error of P + w D for any w in
    closed form.
    """

    def __init__(self, source: np.ndarray, p: np.ndarray, d: np.ndarray):
        source = source.astype(np.float64)
        i, q, e = (x.ravel() - x.mean() for x in (source, p, d))
        self.n = source.size
        self.ii, self.ip, self.id = i @ i, i @ q, i @ e
        self.pp, self.pd, self.dd = q @ q, q @ e, e @ e
        error, slope = (p - source).ravel(), d.ravel()
        self.ee, self.es, self.ss = error @ error, error @ slope, slope @ slope

    def correlation(self, w: np.ndarray) -> np.ndarray:
        """Return one half of Eq. (14): the correlation coefficient with the source."""
        variance = self.pp + w * (2 * self.pd + w * self.dd)
        return _correlation(self.ip + w * self.id, variance, self.ii, flat=self.n * FLAT**2)

    def rmse(self, w: np.ndarray) -> np.ndarray:
        """Return one half of Eq. (16): the root mean square difference from the source."""
        return np.sqrt(np.maximum(self.ee + w * (2 * self.es + w * self.ss), 0) / self.n)


def _correlation(covariance, variance, other, flat: float) -> np.ndarray:
    """Return covariance / sqrt(variance * other), all sums over the pixels.

    ASSUMPTION: the correlation with a constant image, whose variance does not exceed ``flat``, is 0
    / 0; it counts 0.
    """
    constant = np.minimum(variance, other) <= flat
    return np.where(constant, 0, covariance / np.sqrt(np.where(constant, 1, variance * other)))


def normalized_weight(pairs: np.ndarray) -> np.ndarray:
    """Return w = w1 / (w1 + w2) of pairs (w1, w2), (..., 2) -> (...).

    ASSUMPTION: eq. (13) divides 0 by 0 where both weights are 0; both sources then count the same,
    w = 0.5.
    """
    total = pairs.sum(axis=-1)
    # Eq. (13), Abas and Baykan 2021: w = w1 / (w1 + w2)
    return np.divide(pairs[..., 0], total, out=np.full(total.shape, 0.5), where=total != 0)


def _weights(w: float | np.ndarray) -> np.ndarray:
    w = np.asarray(w, dtype=np.float64)
    if w.ndim == 2 and w.shape[1] == 2:
        w = normalized_weight(w)
    if w.ndim > 1:
        raise ValueError(
            "w: expected a weight, an array (n,) of weights or (n, 2) of pairs, got shape"
            f" {w.shape}"
        )
    if not ((w >= 0) & (w <= 1)).all():
        raise ValueError(f"w: expected weights in [0, 1], got {w.min():g} to {w.max():g}")
    return w


def _alphas(alphas: tuple[float, float, float]) -> tuple[float, float, float]:
    values = np.asarray(alphas, dtype=np.float64)
    if values.shape != (3,) or not np.isfinite(values).all():
        raise ValueError(f"alphas: expected three finite numbers, got {alphas!r}")
    first, second, third = values.tolist()
    return first, second, third
