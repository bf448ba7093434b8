"""Questions about the low-pass weight of one pair: what the objective consists of, and what it does
for the truth.

Here ``w`` is w1 of eq. (13) of Abas and Baykan 2021 with w1 + w2 = 1, the weight of the first
source's base.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from fusionlib import images, published
from fusionlib.datasets.multi_focus import Pair
from fusionlib.methods import classical
from fusionlib.optimizers import LowPassObjective, sweep
from fusionlib.optimizers.objective import normalized_weight

TERMS = ("CC", "EN", "1/RMSE")


def objective(transform: str, a: np.ndarray, b: np.ndarray, **changes) -> LowPassObjective:
    """Return eq. (17) for a pair as the method ``transform`` + search maximises it by default.

    Parameters
    ----------
    transform : "LP" or "CvT"
    a, b : (H, W) or (H, W, 3) uint8
        In the order in which they are fused; colour is taken at its luma.
    **changes
        Parameters of the method that differ from its defaults, such as ``levels``.

    Raises
    ------
    ValueError
        An unknown transform or parameter.
    """
    if transform not in classical.TRANSFORMS:
        raise ValueError(
            f"transform: expected one of {', '.join(classical.TRANSFORMS)}, got {transform!r}"
        )
    function, make = classical.TRANSFORMS[transform]
    known = {
        key: value
        for key, value in classical.defaults(function).items()
        if key not in ("base", "weight")
    }
    options = known | changes
    if options.keys() != known.keys():
        raise ValueError(
            f"{transform}: expected parameters among {', '.join(known)}, got {', '.join(changes)}"
        )
    a, b = images.check_pair(a, b)
    rule, area = options.pop("rule"), options.pop("area")
    return LowPassObjective(
        images.luma(a), images.luma(b), make(a.shape[:2], **options), rule, area
    )


def ratio(x: float | np.ndarray) -> np.ndarray:
    """Return w for candidates (..., 1) or (..., 2) of a search, w or (w1, w2): (...)."""
    x = np.atleast_1d(x)
    return x[..., 0] if x.shape[-1] == 1 else normalized_weight(x)


def terms(objective: LowPassObjective, w: np.ndarray) -> pd.DataFrame:
    """Return the three weighted terms of eq. (17) at the weights ``w`` (n,): columns w, CC, EN,
    1/RMSE, f.
    """
    alphas, values = objective.alphas, objective.terms(w)
    # Eq. (17), Abas and Baykan 2021: f = alpha1 CC + alpha2 EN + alpha3 / RMSE
    parts = {
        "CC": alphas[0] * values["CC"],
        "EN": alphas[1] * values["EN"],
        "1/RMSE": objective.fidelity(w) - alphas[0] * values["CC"],
    }
    return pd.DataFrame({"w": w, **parts, "f": sum(parts.values())})


def shares(terms: pd.DataFrame) -> pd.DataFrame:
    """Return the share of each term in the objective's value at its best weight and in its
    variation over w.

    Variation is the range (largest minus smallest value over w) of a term over the sum of the three
    ranges; a pair whose objective does not depend on w has none, NaN.

    Returns
    -------
    DataFrame, index CC, EN, 1/RMSE, columns value, variation, each summing to 1
    """
    best, ranges = terms.loc[terms["f"].idxmax()], np.ptp(terms[list(TERMS)].to_numpy(), axis=0)
    with np.errstate(invalid="ignore"):
        variation = ranges / ranges.sum()
    value = [best[name] / best["f"] for name in TERMS]
    return pd.DataFrame({"value": value, "variation": variation}, index=list(TERMS))


def simplex(steps: int = 20) -> np.ndarray:
    """Return all (alpha1, alpha2, alpha3) that are multiples of 1 / ``steps`` and sum to 1, (n,
    3).
    """
    return (
        np.array([(i, j, steps - i - j) for i in range(steps + 1) for j in range(steps + 1 - i)])
        / steps
    )


def best_weights(objective: LowPassObjective, alphas: np.ndarray, w: np.ndarray) -> np.ndarray:
    """Return for each row of ``alphas`` (n, 3) the weight among ``w`` where eq. (17) is largest,
    (n,).

    Parameters
    ----------
    objective : LowPassObjective
    alphas : (n, 3)
        Weights of the terms of equation (17).
    w : (m,)
        Low-pass weights to choose from, in [0, 1].
    """
    parts = terms(objective.with_alphas((1.0, 1.0, 1.0)), w)[list(TERMS)].to_numpy()
    return w[(alphas @ parts.T).argmax(axis=1)]


def misprinted(objective: LowPassObjective, w: np.ndarray) -> np.ndarray:
    """Return eq. (17) at the weights ``w`` (n,) with eq. (16) as printed: the second half lacks its
    square root.
    """
    first, second = (Error(objective, source)(w) for source in objective.sources)
    parts = terms(objective, w)
    return (
        parts["CC"].to_numpy()
        + parts["EN"].to_numpy()
        + objective.alphas[2] / ((first + second**2) / 2)
    )


def choices(pair: Pair, transform: str, objective: LowPassObjective) -> dict[str, float]:
    """Return the weights to compare where a pair has a reference.

    Parameters
    ----------
    pair : Pair
        With a reference.
    transform : str
        "LP" or "CvT", which the printed weights belong to.
    objective : LowPassObjective
        Of this pair and transform.

    Returns
    -------
    dict
        "0.5"; "found": the exact optimum of the objective; "best possible": the smallest error to
        the reference; and "printed, PSO", "printed, BA" for the paper's own pairs.
    """
    assert pair.reference is not None
    weights = {
        "0.5": 0.5,
        "found": float(sweep(objective).x),
        "best possible": Error(objective, pair.reference).best,
    }
    printed = published.low_pass_weights(pair.printed_as) if pair.printed_as else {}
    searched = {
        method.partition("+")[2]: w
        for method, w in printed.items()
        if method.startswith(f"{transform}+")
    }
    return weights | {f"printed, {search}": w for search, w in searched.items()}


class Error:
    """RMSE between an image R and F(w) = P + w D, the fused image before rounding, for any w.

    Its square is a parabola in w, so that three inner products are enough.

    Parameters
    ----------
    objective : LowPassObjective
        Has P and D.
    image : (H, W) uint8
        The reference, or one of the sources.

    Attributes
    ----------
    best : float
        The weight in [0, 1] with the smallest error, 0.5 where none differs.
    """

    def __init__(self, objective: LowPassObjective, image: np.ndarray):
        images.check_pair(objective.sources[0], image, ("sources", "image"))
        error, slope = (objective.p - images.luma(image)).ravel(), objective.d.ravel()
        self._coefficients = (
            np.array([error @ error, 2 * error @ slope, slope @ slope]) / error.size
        )
        _, b, a = self._coefficients
        self.best = float(np.clip(-b / (2 * a), 0, 1)) if a > 0 else 0.5

    def __call__(self, w: float | np.ndarray) -> float | np.ndarray:
        """Return the RMSE in gray levels at weights in [0, 1]."""
        c, b, a = self._coefficients
        # |P + w D - R|^2 / N = c + b w + a w^2
        return np.sqrt(np.maximum(c + w * (b + w * a), 0))
