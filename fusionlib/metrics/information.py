"""EN and MI: how much the gray levels say, and how much of the sources' they say again.

Images are 8-bit gray levels ``(H, W)``; floats are rounded to 8 bits first.
"""

from __future__ import annotations

import numpy as np

from fusionlib.images import to_uint8
from fusionlib.metrics.undefined import combine


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
