"""Augmentation of training samples: other exposures, inverted infrared, flat images, reduced
frames.

Ours, not the paper's, and off by default: a network that has seen the pairs of one camera alone
has no reason to behave on those of another. Mirroring is ``data.flip``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch.nn.functional as F
from torch import Tensor

if TYPE_CHECKING:
    from fusionlib.training.config import AugmentationConfig

MIDDLE = 0.5  # gray that a change of contrast leaves


def change_exposure(
    sample: Tensor, settings: AugmentationConfig, rng: np.random.Generator, images: int
) -> Tensor:
    """Return a sample whose two modalities have other gammas, contrasts and offsets, each its own,
    and perhaps an inverted infrared image or one without contrast, cut to [0, 1].

    Parameters
    ----------
    sample : (C, H, W) in [0, 1]
        Infrared, the visible image's Y, then its R, G, B or not, then attention maps or not.
    settings : AugmentationConfig
    rng : numpy Generator
        Ten numbers are drawn, whatever the settings.
    images : int
        Channels that are images; attention maps behind them stay.
    """
    gamma, contrast = np.exp(rng.normal(size=(2, 2)) * [[settings.gamma], [settings.contrast]])
    offset = rng.normal(size=2) * settings.offset
    inverted = rng.random() < settings.inverted
    # a covered lens, fog, or a scene of one temperature: what the gates would never see
    flat, gray = rng.random(2) < settings.flat, rng.random(2)
    changed = sample.clone()
    if inverted:
        changed[0] = 1 - changed[0]
    # Y and R, G, B of the visible image go through one curve.
    parts = slice(1), slice(1, images)
    for part, level, is_flat in zip(parts, gray, flat, strict=True):
        if is_flat:
            changed[part] = level
    for part, g, c, o in zip(parts, gamma, contrast, offset, strict=True):
        curve = (changed[part] ** g - MIDDLE) * c + MIDDLE + o
        changed[part] = curve.clamp(0, 1)
    return changed


def reduce(
    sample: Tensor, goal: dict[str, Tensor], least: tuple[int, int]
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return a sample at half its size, means of 2x2 pixels, with its boxes; as it is where the
    half would not be larger than ``least`` (height, width), so small frames stay.
    """
    height, width = (side // 2 for side in sample.shape[1:])
    if height <= least[0] or width <= least[1]:
        return sample, goal
    half = F.avg_pool2d(sample[None, :, : 2 * height, : 2 * width], 2)[0]
    return half, goal | {"boxes": goal["boxes"] / 2}
