"""Clipped and black pixels of a fused image: what the metrics of the tables reward, if anything.

Over-contrast raises EN, SD, SF, AG and SCD, and a night street that is gone costs them little.
Images are (H, W) uint8; shares are of the pixels, 0 to 1.
"""

from __future__ import annotations

import numpy as np

DARK, BRIGHT = 2, 253  # gray levels that count as black and as white
SEEN = 20  # of a source: there is something


def clipped_share(fused: np.ndarray, infrared: np.ndarray, visible: np.ndarray) -> float:
    """Return the share of pixels at 0 or 255 where neither source is so low, or so high."""
    high, low = np.maximum(infrared, visible), np.minimum(infrared, visible)
    return float((((fused == 255) & (high < 255)) | ((fused == 0) & (low > 0))).mean())


def black_share(fused: np.ndarray, infrared: np.ndarray, visible: np.ndarray) -> float:
    """Return the share of pixels that are black although a source has something there."""
    return float(((fused <= DARK) & (np.maximum(infrared, visible) >= SEEN)).mean())


def extreme_share(fused: np.ndarray, infrared: np.ndarray, visible: np.ndarray) -> float:
    """Return the share of black or white pixels beyond that of the source that has more of them,
    black and white apart; never below 0.
    """
    beyond = 0.0
    for end in ((lambda image: image <= DARK), (lambda image: image >= BRIGHT)):
        beyond += max(0.0, end(fused).mean() - max(end(infrared).mean(), end(visible).mean()))
    return float(beyond)


def in_words(values: dict[str, float]) -> str:
    """Return :func:`shares` as a part of a sentence."""
    return (
        f"clipped {values['clipped %']:.2f} % of the pixels, black where a source is not"
        f" {values['black %']:.2f} %"
    )


def shares(fused: np.ndarray, infrared: np.ndarray, visible: np.ndarray) -> dict[str, float]:
    """Return clipped and black pixels in percent, as they stand beside the metrics."""
    return {
        "clipped %": 100 * clipped_share(fused, infrared, visible),
        "black %": 100 * black_share(fused, infrared, visible),
    }
