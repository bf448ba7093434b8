"""RFN-Nest: nested auto-encoder, residual fusion networks (Li, Wu & Kittler, Inf. Fusion 73, 2021).

Two networks in two files: the auto-encoder, trained first and then frozen, and the four residual
fusion networks. Infrared comes first and the fusion is not symmetric. Input is gray on the 0..255
scale; the output is stretched from its own minimum and maximum and truncated.

Kept from the released code though no paper asks for it: an image with a side above 512 is cut into
four tiles that overlap by five pixels, each tile is fused alone, and overlaps are averaged before
the stretch. The variant "whole" does not cut. Halving and doubling odd sizes loses a row or column;
it is put back by reflection.

The official files are those that the released test script names: SSIM weight 1e2 for the
auto-encoder; 700, 6.0 and 3.0 (weights of detail loss, infrared and visible) for the fusion
networks.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .layers import State, conv, inference, min_max_scale, planes, renamed, to_uint8_floor

CHANNELS = (64, 112, 160, 208)  # of the four scales
# rows and columns that the first tile goes beyond the middle, and the second starts before it
OVERLAP = (3, 2)


def unit(channels_in: int, channels_out: int, kernel: int = 3) -> nn.Sequential:
    """Convolution and ReLU."""
    return nn.Sequential(conv(channels_in, channels_out, kernel), nn.ReLU(inplace=True))


def block(channels_in: int, channels_out: int) -> nn.Sequential:
    """3 x 3 convolution down to half the maps, 1 x 1 to ``channels_out``."""
    return nn.Sequential(
        unit(channels_in, channels_in // 2), unit(channels_in // 2, channels_out, 1)
    )


class ResidualFusion(nn.Module):
    """RFN of one scale: a convolution of both feature maps, plus a deeper path beside it."""

    def __init__(self, channels: int):
        super().__init__()
        self.direct = unit(2 * channels, channels)
        self.infrared, self.visible = unit(channels, channels), unit(channels, channels)
        self.bottleneck = nn.Sequential(
            unit(2 * channels, channels, 1), unit(channels, channels), unit(channels, channels)
        )

    def forward(self, infrared: Tensor, visible: Tensor) -> Tensor:
        deeper = self.bottleneck(torch.cat([self.infrared(infrared), self.visible(visible)], dim=1))
        return self.direct(torch.cat([infrared, visible], dim=1)) + deeper


class RFNNest(nn.Module):
    """Encoder (stem, down), one fusion network for each scale, nested decoder (nest), output.

    Parameters
    ----------
    tile_above : int or None
        A side longer than this cuts the image in four tiles; None never cuts.
    """

    def __init__(self, tile_above: int | None = 512):
        super().__init__()
        self.tile_above = tile_above
        c1, c2, c3, c4 = CHANNELS
        self.stem = unit(1, 16, 1)
        self.down = nn.ModuleList([block(16, c1), block(c1, c2), block(c2, c3), block(c3, c4)])
        self.fusion = nn.ModuleList([ResidualFusion(c) for c in CHANNELS])
        self.nest = nn.ModuleDict(
            {
                "1_1": block(c1 + c2, c1),
                "2_1": block(c2 + c3, c2),
                "3_1": block(c3 + c4, c3),
                "1_2": block(2 * c1 + c2, c1),
                "2_2": block(2 * c2 + c3, c2),
                "1_3": block(3 * c1 + c2, c1),
            }
        )
        self.output = unit(c1, 1, 1)

    def encode(self, x: Tensor) -> list[Tensor]:
        """Return four feature maps, each half as large, of images (B, 1, H, W) on 0..255."""
        features = [self.down[0](self.stem(x))]
        for down in self.down[1:]:
            features.append(down(F.max_pool2d(features[-1], 2)))
        return features

    def decode(self, features: list[Tensor]) -> Tensor:
        """Return images (B, 1, H, W)."""
        f1, f2, f3, f4 = features

        def node(name: str, maps: list[Tensor], coarser: Tensor) -> Tensor:
            return self.nest[name](torch.cat([*maps, doubled(coarser, maps[0])], dim=1))

        x11, x21, x31 = node("1_1", [f1], f2), node("2_1", [f2], f3), node("3_1", [f3], f4)
        x12, x22 = node("1_2", [f1, x11], x21), node("2_2", [f2, x21], x31)
        return self.output(node("1_3", [f1, x11, x12], x22))

    def forward(self, infrared: Tensor, visible: Tensor) -> Tensor:
        levels = zip(self.fusion, self.encode(infrared), self.encode(visible), strict=True)
        return self.decode([fuse(a, b) for fuse, a, b in levels])

    def tiled(self, infrared: Tensor, visible: Tensor) -> Tensor:
        """Fuse four overlapping tiles and average where they overlap."""
        h, w = infrared.shape[-2:]
        total, count = torch.zeros_like(infrared), torch.zeros_like(infrared)
        for rows in (slice(0, h // 2 + OVERLAP[0]), slice(h // 2 - OVERLAP[1], h)):
            for columns in (slice(0, w // 2 + OVERLAP[0]), slice(w // 2 - OVERLAP[1], w)):
                total[..., rows, columns] += self(
                    infrared[..., rows, columns], visible[..., rows, columns]
                )
                count[..., rows, columns] += 1
        return total / count

    @inference
    def fuse(self, infrared: np.ndarray, visible: np.ndarray) -> np.ndarray:
        """Fuse two gray uint8 images (H, W), infrared first, to one."""
        # Reflection at the coarsest scale, an eighth of the side, needs two pixels there.
        a, b = planes(self, infrared, visible, smallest=16).split(1)
        in_tiles = self.tile_above is not None and max(a.shape[-2:]) > self.tile_above
        if in_tiles and min(a.shape[-2:]) < 32:
            raise ValueError(
                "infrared: RFNNest expected sides of at least 32 pixels where an image is cut in"
                f" four tiles, got {a.shape[-2]}x{a.shape[-1]} (height x width)"
            )
        fused = self.tiled(a, b) if in_tiles else self(a, b)
        return to_uint8_floor(min_max_scale(fused, margin=1e-5))


def doubled(x: Tensor, like: Tensor) -> Tensor:
    """Double each pixel; reflect the last row or column where ``like`` has an odd side."""
    x = F.interpolate(x, scale_factor=2, mode="nearest")
    rows, columns = like.shape[-2] - x.shape[-2], like.shape[-1] - x.shape[-1]
    return F.pad(x, (0, columns, 0, rows), mode="reflect")


def from_torch(autoencoder: State, fusion: State) -> dict[str, Tensor]:
    """Name the tensors of the two official files as :class:`RFNNest` does."""
    encoder = renamed(
        autoencoder,
        {
            r"conv0\.conv2d\.(\w+)": r"stem.0.\1",
            r"conv_out\.conv2d\.(\w+)": r"output.0.\1",
            **{
                rf"DB{i}_0\.denseblock\.(\d)\.conv2d\.(\w+)": rf"down.{i - 1}.\1.0.\2"
                for i in range(1, 5)
            },
            r"DB(\d)_(\d)\.denseblock\.(\d)\.conv2d\.(\w+)": r"nest.\1_\2.\3.0.\4",
        },
    )
    residual = {}
    names = {"conv_fusion": "direct", "conv_ir": "infrared", "conv_vi": "visible"}
    for i in range(1, 5):
        for official, ours in names.items():
            pattern = rf"fusion_block{i}\.{official}\.conv2d\.(\w+)"
            residual[pattern] = rf"fusion.{i - 1}.{ours}.0.\1"
        residual[rf"fusion_block{i}\.bottelblock\.(\d)\.conv2d\.(\w+)"] = (
            rf"fusion.{i - 1}.bottleneck.\1.0.\2"
        )
    return encoder | renamed(fusion, residual)
