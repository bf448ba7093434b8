"""TarDAL: the generator of target-aware dual adversarial learning (Liu et al., CVPR 2022).

Three official weights: DT, trained directly and meant for people, the authors' default; TT, trained
for the detector; CT, trained for both.

What decides the images and stands in no paper: batch normalisation. The first release ran the
generator in training mode, so statistics were those of the image at hand; the second does so for DT
only, and there in batches of eight, so that an image's result depends on its neighbours. DT's
stored statistics were never updated and are of no use: the mean of one image moves from 0.52 to
0.36 with them. Here batch statistics mean those of one image, one at a time.

The output is a tanh that is not scaled back: values below 0 are cut to black, a few pixels with DT,
up to half of the image with TT. Resizing all images of a list to the largest, as the second release
does, changes nothing for images of one size and is not done.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .layers import DenseBlock, State, conv, inference, planes, renamed, to_uint8_round


class ImageNorm(nn.BatchNorm2d):
    """Batch norm by the statistics of the batch, in evaluation too; stored ones are not used."""

    def forward(self, x: Tensor) -> Tensor:
        # batch_norm's own sums lose four digits where maps lie channels last; a mean of rows and
        # then of their means keeps all, in a third of the time of var_mean.
        rows = x.permute(0, 2, 3, 1)
        mean = rows.mean(2).mean((0, 1))
        variance = (rows - mean).square_().mean(2).mean((0, 1))
        return F.batch_norm(x, mean, variance, self.weight, self.bias, eps=self.eps)


class TarDAL(nn.Module):
    """Generator: convolution of both images at once, dense block to 128 maps, four convolutions.

    Names are the authors'.

    Parameters
    ----------
    statistics : "batch" or "stored"
        What batch norm subtracts and divides by.
    """

    def __init__(self, statistics: str = "batch"):
        super().__init__()
        if statistics not in ("batch", "stored"):
            raise ValueError(f"statistics: expected 'batch' or 'stored', got {statistics!r}")
        norm = ImageNorm if statistics == "batch" else nn.BatchNorm2d

        def layer(channels_in: int, channels_out: int, *after: nn.Module) -> nn.Sequential:
            return nn.Sequential(conv(channels_in, channels_out, border="zeros"), *after)

        def unit(channels_in: int, channels_out: int) -> nn.Sequential:
            return layer(channels_in, channels_out, norm(channels_out), nn.ReLU(inplace=True))

        self.encoder = unit(2, 32)
        self.dense = DenseBlock([unit(c, 32) for c in (32, 64, 96)])
        self.fuse_layers = nn.Sequential(
            layer(128, 128, nn.ReLU(inplace=True)),
            unit(128, 64),
            unit(64, 32),
            layer(32, 1, nn.Tanh()),
        )

    def forward(self, infrared: Tensor, visible: Tensor) -> Tensor:
        """Fuse images (B, 1, H, W) in [0, 1]; values in (-1, 1)."""
        return self.fuse_layers(self.dense(self.encoder(torch.cat([infrared, visible], dim=1))))

    @inference
    def fuse(self, infrared: np.ndarray, visible: np.ndarray) -> np.ndarray:
        """Fuse two gray uint8 images (H, W), infrared first, to one."""
        a, b = (planes(self, infrared, visible) / 255).split(1)
        # ASSUMPTION: TarDAL's output is cut to [0, 1] and rounded to the nearest level, as OpenCV's
        # writer does in the second release.
        return to_uint8_round(self(a, b) * 255)


def from_torch(state: State) -> dict[str, Tensor]:
    """Return the authors' names, ``fuse`` being a method here."""
    return renamed(state, {r"fuse\.(\d\..+)": r"fuse_layers.\1", r"((?:encoder|dense)\..+)": r"\1"})
