"""The convolution that all parts of MoE-Fusion are made of."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import cast

from torch import Tensor, nn

from .configuration import Border


class Conv3x3(nn.Conv2d):
    """A 3x3 convolution with bias that keeps the size."""

    bias: Tensor

    def __init__(self, inputs: int, outputs: int, border: Border):
        super().__init__(inputs, outputs, 3, padding=1, padding_mode=border)


def convolutions(sizes: Iterable[tuple[int, int]], border: Border) -> Sequence[Conv3x3]:
    """Return an ``nn.ModuleList`` of convolutions of (inputs, outputs) channels, typed as such."""
    layers = nn.ModuleList(Conv3x3(inputs, outputs, border) for inputs, outputs in sizes)
    return cast(Sequence[Conv3x3], layers)
