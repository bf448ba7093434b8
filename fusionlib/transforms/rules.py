"""How the bands of two images become the bands of one: eqs. (11), (12), (13) of Abas and Baykan
2021 and their kin.

A rule returns a weight for the first image, so that fused = W A + (1 - W) B; the weight found on
the luma can then be applied to every colour channel. All rules treat a band alone: no weight of a
high-pass band depends on the base.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .bands import Bands

RULES = {"magnitude": 1, "salience": 2, "consistency": 3, "signed": 4}
BASES = ("average", "first", "second", "weighted", "gradient")
# Burt and Kolczynski 1993: below it one source is selected, above it both are mixed
MATCH_THRESHOLD = 0.75


def mix(weight: np.ndarray | float, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return weight * a + (1 - weight) * b; a boolean weight selects without arithmetic.

    Parameters
    ----------
    weight : float, or array of float in [0, 1] or of bool
        Of ``a``; it broadcasts against both.
    a, b : arrays of one shape
    """
    if isinstance(weight, np.ndarray) and weight.dtype == bool:
        return np.where(weight, a, b)
    return weight * a + (1 - weight) * b


# radon C: the four rules of the paper side by side, and a rule of the caller
def select(
    a: np.ndarray, b: np.ndarray, rule: int | str | Callable = 3, area: int = 3
) -> np.ndarray:
    """Return the weight of ``a`` in one fused high-pass band.

    Parameters
    ----------
    a, b : (h, w) real or complex arrays of one shape
    rule : 1 to 4, its name, or a callable ``(a, b) -> weight``
        1 "magnitude": the larger absolute value. 2 "salience": Burt and Kolczynski's salience and
        match measure, threshold 0.75, over ``area`` x ``area``. 3 "consistency": the larger maximum
        magnitude of the neighbourhood, then a majority vote over the neighbourhood. 4 "signed": the
        larger signed value, eq. (11) as printed. ASSUMPTION: eq. (11) compares signed coefficients
        while the prose says absolute maximum with consistency check; both are offered and the prose
        is the default. ASSUMPTION: eq. (11) leaves equal coefficients undefined; the second source
        is taken, as the toolbox does.
    area : odd int
        Side of the neighbourhood of rules 2 and 3.

    Returns
    -------
    (h, w) bool (rules 1, 3, 4) or float64 in [0, 1] (rule 2)

    Raises
    ------
    TypeError, ValueError
        Shapes differ, an unknown rule, an even area, signed comparison of complex numbers.
    """
    if np.shape(a) != np.shape(b):
        raise ValueError(f"bands: expected one shape, got {np.shape(a)} and {np.shape(b)}")
    if callable(rule):
        return rule(a, b)
    number = RULES.get(rule, rule) if isinstance(rule, str) else rule
    if isinstance(number, bool) or number not in RULES.values():
        raise ValueError(f"rule: expected 1 to 4, {', '.join(RULES)} or a callable, got {rule!r}")
    if (
        isinstance(area, bool)
        or not isinstance(area, int | np.integer)
        or area < 1
        or area % 2 == 0
    ):
        raise ValueError(f"area: expected an odd positive integer, got {area!r}")
    if number == 1:
        return np.abs(a) > np.abs(b)
    if number == 2:
        return _salience(a, b, area)
    if number == 3:
        return _consistency(np.abs(a), np.abs(b), area)
    if np.iscomplexobj(a) or np.iscomplexobj(b):
        raise TypeError(
            "rule: expected real bands for the signed comparison of eq. (11), got complex ones"
        )
    return a > b  # Eq. (11), Abas and Baykan 2021, as printed


def _consistency(a: np.ndarray, b: np.ndarray, area: int) -> np.ndarray:
    """Compare neighbourhood maxima of magnitudes and let each neighbourhood vote; ties go to the
    second source.
    """
    margin = area // 2
    a_wins = _windows(np.maximum, np.pad(_extend(a, area), margin), area) > _windows(
        np.maximum, np.pad(_extend(b, area), margin), area
    )
    votes = _windows(np.add, a_wins.astype(np.int32), area)
    return votes > area * area // 2


def _salience(a: np.ndarray, b: np.ndarray, area: int) -> np.ndarray:
    """Burt and Kolczynski 1993: the salience is the local energy, the match the normalised local
    correlation.
    """
    salience_a, salience_b, product = (
        _windows(np.add, _extend(values, area), area)
        for values in (np.abs(a) ** 2, np.abs(b) ** 2, np.real(a * np.conj(b)))
    )
    match = 2 * product / (salience_a + salience_b + np.finfo(np.float64).eps)
    # Alike sources (match 1) are averaged; at the threshold the weaker one has weight 0.
    smaller = np.where(
        match > MATCH_THRESHOLD, 0.5 - 0.5 * (1 - match) / (1 - MATCH_THRESHOLD), 0.0
    )
    return np.where(salience_a > salience_b, 1 - smaller, smaller)


def _extend(x: np.ndarray, area: int) -> np.ndarray:
    """Reflect by half a window and leave the corner blocks at zero, as the toolbox does."""
    margin = area // 2
    if margin == 0:
        return x
    x = np.pad(x, margin, mode="reflect")
    for rows in (slice(None, margin), slice(-margin, None)):
        x[rows, :margin] = x[rows, -margin:] = 0
    return x


def _windows(combine: np.ufunc, x: np.ndarray, area: int) -> np.ndarray:
    """Combine every area x area window that lies inside ``x`` (separable: sum or maximum)."""
    for axis in (0, 1):
        size = x.shape[axis] - area + 1
        parts = [x[(slice(None),) * axis + (slice(i, i + size),)] for i in range(area)]
        x = parts[0].copy()
        for part in parts[1:]:
            combine(x, part, out=x)
    return x


def base_weight(low_a: np.ndarray, low_b: np.ndarray, rule: str = "average", weight: float = 0.5):
    """Return the weight of ``low_a`` in the fused base, a number or (h, w) array in [0, 1].

    Parameters
    ----------
    rule : "average", "first", "second", "weighted" or "gradient"
        "average": eq. (12). "weighted": eq. (13) with w1 + w2 = 1, w1 = ``weight``. "first",
        "second": one source. ASSUMPTION: "gradient" is the paper's "adaptive region average
        gradient weighted rule", named in section 2.1 without a formula; each base is weighted by
        its mean gradient magnitude over 3 x 3, equal where both are flat.
    weight : float
        w1 of eq. (13), used by "weighted" only.

    Raises
    ------
    ValueError
        An unknown rule or a weight that is not finite.
    """
    if rule == "average":
        return 0.5  # Eq. (12), Abas and Baykan 2021
    if rule == "first":
        return 1.0
    if rule == "second":
        return 0.0
    if rule == "weighted":
        if not np.isfinite(weight):
            raise ValueError(f"weight: expected a finite number, got {weight!r}")
        return float(weight)  # Eq. (13)
    if rule == "gradient":
        gradient_a, gradient_b = _average_gradient(low_a), _average_gradient(low_b)
        total = gradient_a + gradient_b
        return np.where(total > 0, gradient_a / np.where(total > 0, total, 1), 0.5)
    raise ValueError(f"base: expected one of {', '.join(BASES)}, got {rule!r}")


def base(
    low_a: np.ndarray, low_b: np.ndarray, rule: str = "average", weight: float = 0.5
) -> np.ndarray:
    """Return the fused base; parameters as for :func:`base_weight`."""
    return mix(base_weight(low_a, low_b, rule, weight), low_a, low_b)


def _average_gradient(x: np.ndarray) -> np.ndarray:
    gradient = np.sqrt(sum(np.abs(np.gradient(x, axis=axis)) ** 2 for axis in (0, 1)) / 2)
    return _windows(np.add, np.pad(gradient, 1, mode="edge"), 3) / 9


def fuse(
    a: Bands,
    b: Bands,
    rule: int | str | Callable = 3,
    area: int = 3,
    base: str = "average",
    weight: float = 0.5,
) -> Bands:
    """Fuse two decompositions: ``rule`` over ``area`` for the high-pass bands, ``base`` with
    ``weight`` for the low.

    Parameters as for :func:`select` and :func:`base_weight`. The result is linear in ``weight``.
    """
    return a.map(
        lambda high_a, high_b: mix(select(high_a, high_b, rule, area), high_a, high_b),
        b,
        low=lambda low_a, low_b: mix(base_weight(low_a, low_b, base, weight), low_a, low_b),
    )
