"""SeAFusion: two dense encoders with learned gradients (Tang, Yuan & Ma, Inf. Fusion 82, 2022).

What decides the images and stands in no paper: the output is stretched from the minimum to the
maximum over the whole batch and all three channels. The first script fused 32 images at a time, so
an image's result depended on its neighbours; the later one fuses one at a time, and so does
``stretch=True`` here. The "Sobel" convolutions only start as such: they are trained like any other.
The file also holds batch norms of the decoder; no program applies them.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ... import images
from .layers import State, conv, in_bands, inference, min_max_scale, planes, renamed, to_uint8_floor

# Rows Y, Cr, Cb from R, G, B in [0, 1], with 0.5 added to both chroma; and R, G, B from what is
# left without it.
TO_YCRCB = np.array(
    [
        [0.299, 0.587, 0.114],
        [0.713 * 0.701, -0.713 * 0.587, -0.713 * 0.114],
        [-0.564 * 0.299, -0.564 * 0.587, 0.564 * 0.886],
    ]
)
TO_RGB = np.array([[1, 1.403, 0], [1, -0.714, -0.344], [1, 0, 1.773]])


class Block(nn.Module):
    """Gradient residual dense block: two dense steps, and the trained gradients beside them."""

    def __init__(self, channels_in: int, channels_out: int):
        super().__init__()
        self.dense = nn.ModuleList(
            [conv(k * channels_in, channels_in, border="zeros") for k in (1, 2)]
        )
        self.down = nn.Conv2d(3 * channels_in, channels_out, 1)
        self.gradients = nn.ModuleList(
            [
                nn.Conv2d(channels_in, channels_in, 3, padding=1, groups=channels_in, bias=False)
                for _ in "xy"
            ]
        )
        self.up = nn.Conv2d(channels_in, channels_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        dense = x
        for layer in self.dense:
            dense = torch.cat([dense, F.leaky_relu_(layer(dense), 0.2)], dim=1)
        along_x, along_y = (layer(x).abs_() for layer in self.gradients)
        return F.leaky_relu_(self.down(dense).add_(self.up(along_x.add_(along_y))), 0.1)


def encoder() -> nn.Sequential:
    """Return the encoder of one image: 48 maps."""
    stem = nn.Sequential(conv(1, 16, border="zeros"), nn.LeakyReLU(0.2, inplace=True))
    return nn.Sequential(stem, Block(16, 32), Block(32, 48))


class SeAFusion(nn.Module):
    """Two encoders of one form, decoder of four convolutions.

    Parameters
    ----------
    stretch : bool
        Stretch the fused image to the whole range, as the authors do.
    """

    def __init__(self, stretch: bool = True):
        super().__init__()
        self.stretch = stretch
        self.infrared, self.visible = encoder(), encoder()
        widths = (96, 64, 32, 16, 1)
        self.decoder = nn.ModuleList(
            [conv(i, o, border="zeros") for i, o in zip(widths, widths[1:], strict=False)]
        )

    def forward(self, infrared: Tensor, luma: Tensor) -> Tensor:
        """Fuse infrared image and visible luma, (B, 1, H, W) in [0, 1], to luma in (0, 1)."""
        x = torch.cat([self.visible(luma), self.infrared(infrared)], dim=1)
        for layer in self.decoder[:-1]:
            x = F.leaky_relu_(layer(x), 0.2)
        return torch.tanh(self.decoder[-1](x)) / 2 + 0.5

    @inference
    def fuse(self, infrared: np.ndarray, visible: np.ndarray) -> np.ndarray:
        """Fuse gray infrared (H, W) and gray or RGB visible uint8, to the visible image's kind.

        A colour image keeps its chroma by the authors' own conversion, and all three channels are
        stretched alike.
        """
        visible = images.check(visible, "visible")
        a, b = (planes(self, infrared, images.luma(visible)) / 255).split(1)
        if visible.ndim == 2:
            return self._levels(in_bands(self, a, b, reach=9))
        ycrcb = (visible / 255 @ TO_YCRCB.T + [0, 0.5, 0.5]).clip(0, 1)
        luma = torch.from_numpy(ycrcb[..., 0]).to(b)[None, None]
        ycrcb[..., 0] = in_bands(self, a, luma, reach=9)[0, 0].cpu().numpy()
        rgb = ((ycrcb - [0, 0.5, 0.5]) @ TO_RGB.T).clip(0, 1)
        return self._levels(torch.from_numpy(rgb)[None, None])

    def _levels(self, fused: Tensor) -> np.ndarray:
        """Return an image in [0, 1] as 8 bits, truncated."""
        return to_uint8_floor(min_max_scale(fused) if self.stretch else fused * 255)


def from_torch(state: State) -> dict[str, Tensor]:
    """Name the tensors of the official file as :class:`SeAFusion` does, without batch norms."""
    rules = {}
    for official, ours in (("vis", "visible"), ("inf", "infrared")):
        rules[rf"{official}_conv\.conv\.(\w+)"] = rf"{ours}.0.0.\1"
        for block in (1, 2):
            theirs, own = rf"{official}_rgbd{block}\.", f"{ours}.{block}"
            rules |= {
                rf"{theirs}dense\.conv1\.conv\.(\w+)": rf"{own}.dense.0.\1",
                rf"{theirs}dense\.conv2\.conv\.(\w+)": rf"{own}.dense.1.\1",
                rf"{theirs}conv(down|up)\.conv\.(\w+)": rf"{own}.\1.\2",
                rf"{theirs}sobelconv\.convx\.(\w+)": rf"{own}.gradients.0.\1",
                rf"{theirs}sobelconv\.convy\.(\w+)": rf"{own}.gradients.1.\1",
            }
    rules |= {rf"decode{4 - k}\.conv\.(\w+)": rf"decoder.{k}.\1" for k in range(4)}
    return renamed(state, rules, dead=r"decode\d\.bn\..*")
