"""DIDFuse: an auto-encoder of base and detail (Zhao et al., IJCAI 2020).

The encoder gives four maps of 64 channels: two shallow ones, base and detail. All four are fused by
the **sum** of both images, although the decoder was trained on maps of a single image. The released
script offers an average and an l1-norm weighting too, but never passes the choice on, so every
published image is a sum; sum and average lie 24 to 26 gray levels apart on average. The l1-norm of
the released code weights all channels by one map and is left out here.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from .layers import Border, State, conv, in_bands, inference, planes, renamed, to_uint8_round


def unit(
    channels_in: int, channels_out: int, activation: nn.Module, border: Border = "zeros"
) -> nn.Sequential:
    """Convolution, batch norm, activation."""
    return nn.Sequential(
        conv(channels_in, channels_out, border=border), nn.BatchNorm2d(channels_out), activation
    )


class DIDFuse(nn.Module):
    """Encoder (conv1, conv2, base, detail), fusion, decoder (conv5 to conv7).

    Parameters
    ----------
    rule : "sum" or "average"
        How the maps of both images are fused.
    """

    def __init__(self, rule: str = "sum"):
        super().__init__()
        if rule not in ("sum", "average"):
            raise ValueError(f"rule: expected 'sum' or 'average', got {rule!r}")
        self.rule = rule
        self.conv1, self.conv2 = unit(1, 64, nn.PReLU(), border="reflect"), unit(64, 64, nn.PReLU())
        self.base, self.detail = unit(64, 64, nn.Tanh()), unit(64, 64, nn.Tanh())
        self.conv5, self.conv6 = unit(128, 64, nn.PReLU()), unit(128, 64, nn.PReLU())
        self.conv7 = unit(128, 1, nn.Sigmoid(), border="reflect")

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return both shallow maps, base and detail, (B, 64, H, W), of (B, 1, H, W) in [0, 1]."""
        x1 = self.conv1(x)
        x2 = self.conv2(x1)
        return x1, x2, self.base(x2), self.detail(x2)

    def decode(self, x1: Tensor, x2: Tensor, base: Tensor, detail: Tensor) -> Tensor:
        """Return images (B, 1, H, W) in (0, 1) from what :meth:`encode` returns.

        Parameters
        ----------
        x1, x2 : (B, 64, H, W)
            Features of the first two layers.
        base, detail : (B, 64, H, W)
            Fused features.
        """
        x = self.conv5(torch.cat([base, detail], dim=1))
        x = self.conv6(torch.cat([x, x2], dim=1))
        return self.conv7(torch.cat([x, x1], dim=1))

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        sums = [x + y for x, y in zip(self.encode(a), self.encode(b), strict=True)]
        return self.decode(*(sums if self.rule == "sum" else [x / 2 for x in sums]))

    @inference
    def fuse(self, infrared: np.ndarray, visible: np.ndarray) -> np.ndarray:
        """Fuse two gray uint8 images (H, W) to one."""
        a, b = (planes(self, infrared, visible, smallest=2) / 255).split(1)
        return to_uint8_round(in_bands(self, a, b, reach=6) * 255)


def from_torch(encoder: State, decoder: State) -> dict[str, Tensor]:
    """Name the tensors of the two official files as :class:`DIDFuse` does."""
    rules = {}
    names = ("conv1", "conv2", "base", "detail", "conv5", "conv6", "conv7")
    for unit_number, name in enumerate(names, 1):
        for layer in range(3):
            # Units 1 and 7 pad in a module of their own, which shifts the numbers of what follows.
            official = layer + (unit_number in (1, 7))
            pattern = rf"cov{unit_number}\.cov{unit_number}\.{official}\.(\w+)"
            rules[pattern] = rf"{name}.{layer}.\1"
    return renamed(encoder, rules) | renamed(decoder, rules)
