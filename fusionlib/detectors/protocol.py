"""The seam for detectors: what a training and the tables ask of them.

Another detector is a file beside :mod:`.faster_rcnn` with a class like this, a ``torch.nn.Module``,
and its line in ``KINDS`` of the package.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from .evaluation import Boxes


class Detector(Protocol):
    """Detectors of both modalities, built as ``Kind(classes, size, shared=, pretrained=, seed=)``.

    Attributes
    ----------
    SIZES : collection of str
        Values that ``size`` may have, the default first.
    classes : tuple of str
        Names of the labels 1, 2, ...
    shared : bool
        Whether one detector looks at the images of both modalities.
    """

    classes: tuple[str, ...]
    shared: bool

    def forward(
        self,
        infrared: Tensor,
        visible: Tensor,
        targets: list[dict[str, Tensor]],
        generators: Sequence[torch.Generator] | None = None,
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Return losses by name and the attention maps (B, 2, H, W) of a training batch.

        Parameters
        ----------
        infrared, visible : (B, 1, H, W)
            In [0, 1].
        targets : list of dict
            "boxes" (n, 4), corners in pixels, and "labels" (n,), from 1, of each image.
        generators : sequence of Generator, optional
            Source of all that is drawn for an image, one each.
        """

    def level0(self, infrared: Tensor, visible: Tensor) -> Tensor:
        """Return the attention maps (B, 2, ceil(H/4), ceil(W/4)) in [0, 1], infrared first."""

    def attention(self, infrared: Tensor, visible: Tensor) -> Tensor:
        """Return the same maps in the size of the images, (B, 2, H, W)."""

    def boxes(self, image: np.ndarray, modality: str = "infrared") -> Boxes:
        """Return what is found in an image (H, W) or (H, W, 3) uint8 of a modality."""

    def load_pretrained(self, path: str | os.PathLike) -> dict[str, str]:
        """Fill in pretrained weights and return {file name: SHA-256}, for the record."""
