"""EN, MI, CE and Qncie: how much the gray levels say, and how much of the sources' they say again.

Images are 8-bit gray levels ``(H, W)``; floats are rounded to 8 bits first.
"""

from __future__ import annotations

import numpy as np

from fusionlib.images import to_uint8
from fusionlib.metrics.undefined import Undefined, choice, combine, constant, source_names


def entropy(fused: np.ndarray, *, base: float = 2.0) -> float:
    """Return EN, the entropy of the 256-bin histogram of ``fused``.

    Parameters
    ----------
    fused : (H, W) uint8
    base : float
        Base of the logarithm: 2 gives bits (0..8), ``math.e`` nats.

    Notes
    -----
    Eq. (15) and (21), Abas & Baykan 2021; the same in every convention.
    """
    return _entropy(np.bincount(to_uint8(fused).ravel(), minlength=256)) / float(np.log2(base))


def mutual_information(
    fused: np.ndarray, *sources: np.ndarray, base: float = 2.0, merge_top: bool = False
) -> float:
    """Return MI, the mutual information of ``fused`` with each source, summed.

    Parameters
    ----------
    fused, *sources : (H, W) uint8, one size
    base : float
        Base of the logarithm: 2 gives bits, ``math.e`` nats.
    merge_top : bool
        Count gray levels 254 and 255 as one in the joint histogram only, as an evaluator does whose
        8-bit histogram index saturates. MI can then exceed the entropies: 2 H(F) is no bound any
        more.

    Notes
    -----
    Qu, Zhang & Yan 2002; the fusion factor of Abas & Baykan 2021, Eq. (24)-(25). A linear
    stretch of 8-bit images to the full range beforehand keeps distinct levels distinct and changes
    nothing.
    """
    levels = to_uint8(fused)
    bits = combine([_mutual_information(levels, to_uint8(source), merge_top) for source in sources])
    return bits / float(np.log2(base))


def cross_entropy(fused: np.ndarray, *sources: np.ndarray, disjoint: str = "undefined") -> float:
    """Return CE, how much the fused histogram differs from each source's, averaged; SMALLER is
    better.

    Parameters
    ----------
    fused, *sources : (H, W) uint8, one size
    disjoint : "undefined" or "zero"
        What a source counts that shares no gray level with the fused image; evaluators say 0, as
        for equal histograms.

    Returns
    -------
    float
        In bits, 0 for equal histograms. Levels that only one image has are left out, so CE is no
        divergence and may be negative.

    Notes
    -----
    Bulanon, Burks & Alchanatis 2009, as VIFB cites it.
    """
    choice("disjoint", disjoint, ("undefined", "zero"))
    of_fused = _shares(fused)
    parts: list[float] = []
    for source, name in zip(sources, source_names(sources), strict=True):
        of_source = _shares(source)
        both = (of_source > 0) & (of_fused > 0)
        if not both.any() and disjoint == "undefined":
            parts.append(Undefined(f"{name} shares no gray level with the fused image"))
            continue
        p, q = of_source[both], of_fused[both]
        # D(S, F) = sum p_S log2(p_S / p_F)
        parts.append(float((p * np.log2(p / q)).sum()))
    return combine(parts, "mean")


def nonlinear_correlation(
    fused: np.ndarray, a: np.ndarray, b: np.ndarray, *, black: str = "undefined"
) -> float:
    """Return Qncie, the nonlinear correlation information entropy of the three images.

    Parameters
    ----------
    fused, a, b : (H, W) uint8, one size
    black : "undefined" or "counted"
        What an image of zeros makes of Qncie: the toolbox counts it, and stops at any other
        constant image.

    Returns
    -------
    float
        0.80188 (independent images) to 1, 0.803 to 0.82 for ordinary images; undefined where an
        image is constant. Below 1 for identical images, whose correlation is H / 8 with the entropy
        H of their histogram.

    Notes
    -----
    Wang, Shen & Jin 2008, with plain histograms of 256 bins for the rank bins of the paper. The
    stretch to 0..255 that evaluators begin with keeps distinct levels distinct and changes nothing.
    """
    if (flat := constant(fused, a, b, black=black)) is not None:
        return flat
    levels = [to_uint8(image) for image in (a, b, fused)]
    table = np.eye(3)
    for i, j in ((0, 1), (0, 2), (1, 2)):
        # NCC(X, Y) = (H(X) + H(Y) - H(X, Y)) / 8, in units of log2 256
        table[i, j] = table[j, i] = _mutual_information(levels[i], levels[j], False) / 8.0
    # Q = 1 + sum (e_i / 3) log_256 (e_i / 3); an eigenvalue of 0 adds its limit, 0
    share = np.maximum(np.linalg.eigvalsh(table), 0.0) / 3.0
    share = share[share > 0]
    return 1.0 + float((share * np.log2(share)).sum()) / 8.0


def _shares(image: np.ndarray) -> np.ndarray:
    """Return the share of the pixels that has each of the 256 levels."""
    return np.bincount(to_uint8(image).ravel(), minlength=256) / image.size


def _mutual_information(fused: np.ndarray, source: np.ndarray, merge_top: bool) -> float:
    pairs = source.astype(np.intp) << 8
    pairs |= fused
    joint = np.bincount(pairs.ravel(), minlength=256 * 256).reshape(256, 256)
    both = joint
    if merge_top:
        both = joint.copy()
        both[254] += both[255]
        both[:, 254] += both[:, 255]
        both = both[:255, :255]
    # Eq. (25): sum p(S, F) log(p(S, F) / (p(S) p(F))) = H(S) + H(F) - H(S, F)
    return _entropy(joint.sum(axis=1)) + _entropy(joint.sum(axis=0)) - _entropy(both)


def _entropy(counts: np.ndarray) -> float:
    """Return the entropy in bits of a histogram; empty bins add 0."""
    p = counts[counts > 0] / counts.sum()
    # Eq. (15): -sum p log2 p, written so that a constant image gives 0 and not -0
    return float((p * np.log2(1.0 / p)).sum())
