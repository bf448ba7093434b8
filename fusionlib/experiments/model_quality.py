"""The quality of a model of MoE-Fusion that the metrics of the tables do not show: clipping, black
nights, and how it answers to brightness.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import pandas as pd
import torch

from fusionlib import images, losses, metrics
from fusionlib.datasets import Pair
from fusionlib.metrics import exposure

Fuse = Callable[[np.ndarray, np.ndarray], np.ndarray]  # infrared, visible: fused, all (H, W) uint8
LEVELS = np.arange(0, 256, 15)  # gray levels of constant images
SIDE = 64  # of constant images, pixels


def score(fuse: Fuse, pairs: Iterable[Pair], convention: str = "standard") -> pd.DataFrame:
    """Return a row for each pair: Qabf and VIF, equation (5)'s pixel and gradient terms, and the
    shares of pixels in percent.

    Parameters
    ----------
    fuse : callable
        Of two (H, W) uint8 images.
    pairs : iterable of Pair
    convention : str
        Of the two metrics.

    Returns
    -------
    DataFrame indexed by image
        Qabf, VIF, "paper loss" (pixel + 10 gradient, no load), "clipped %", "black %",
        "extreme %" (:mod:`fusionlib.metrics.exposure`), "dark %" and "dark sources %" (at most 2:
        fused, and max(I, V)).
    """
    rows = {}
    for pair in pairs:
        sources = pair.infrared, images.luma(pair.visible)
        fused = fuse(*sources)
        values = metrics.evaluate(fused, *sources, ["Qabf", "VIF"], convention)
        infrared, visible = map(_tensor, sources)
        values["paper loss"] = float(losses.fusion_loss(_tensor(fused), infrared, visible).total)
        values |= exposure.shares(fused, *sources)
        values["extreme %"] = 100 * exposure.extreme_share(fused, *sources)
        values["dark %"] = 100 * float((fused <= exposure.DARK).mean())
        brighter = np.maximum(*sources)
        values["dark sources %"] = 100 * float((brighter <= exposure.DARK).mean())
        rows[pair.name] = values
    return pd.DataFrame.from_dict(rows, orient="index")


def _tensor(image: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(image)[None, None].float() / 255


def responses(fuse: Fuse, levels: Iterable[int] = LEVELS) -> pd.DataFrame:
    """Return the mean gray levels that constant images of 64x64 are fused to.

    Returns
    -------
    DataFrame indexed by level
        ``f(i, 0)`` infrared alone, ``f(0, v)`` visible alone, ``f(x, x)`` both.
    """
    black = np.zeros((SIDE, SIDE), np.uint8)
    rows = {}
    for level in levels:
        gray = np.full((SIDE, SIDE), level, np.uint8)
        pairs = {"f(i, 0)": (gray, black), "f(0, v)": (black, gray), "f(x, x)": (gray, gray)}
        rows[int(level)] = {name: float(fuse(*pair).mean()) for name, pair in pairs.items()}
    return pd.DataFrame.from_dict(rows, orient="index")


def dents(response: pd.DataFrame) -> pd.Series:
    """Return the deepest fall of each curve of :func:`responses` while the level grows, gray
    levels.
    """
    return (response.cummax() - response).max()
