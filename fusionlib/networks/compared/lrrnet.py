"""LRRNet: unrolled low-rank representation (Li, Xu, Wu, Lu & Kittler, IEEE TPAMI 45(9), 2023).

Each encoder splits its image into a low-rank and a sparse part of 128 maps: five steps of a learned
iterative shrinkage, whose threshold is the same in all of them. One trained threshold of the
infrared encoder is negative and moves values away from zero; it is kept so. The network's output
lies between 0.03 and 0.25 only: the picture is what the stretch to the whole range makes of it.

Faster, with the same result: all that takes time is reading and writing 256 maps. A 3 x 3
convolution of them to one is one product with a matrix of its nine taps, and then the sum of the
nine, shifted; one back to 256 maps is a product with the nine shifted copies, added in place.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .layers import State, conv, in_bands, inference, min_max_scale, planes, renamed, to_uint8_floor

MAPS, STEPS = 256, 4
MARGIN = 1e-5  # what the authors add to the range of input and output


class ToOne(nn.Conv2d):
    """Convolution of many maps to one, 3 x 3, mirrored at the border: the sum of its taps."""

    def __init__(self, channels_in: int):
        super().__init__(channels_in, 1, 3)

    def forward(self, x: Tensor) -> Tensor:
        taps = F.conv2d(x, self.weight[0].flatten(1).T[..., None, None])  # (B, 9, H, W)
        shifts = torch.eye(9, dtype=x.dtype, device=x.device).reshape(1, 9, 3, 3)
        return F.conv2d(F.pad(taps, (1, 1, 1, 1), mode="reflect"), shifts, self.bias)


class FromOne(nn.Module):
    """Convolution of one map to many, 3 x 3, mirrored at the border, added to scaled maps."""

    def __init__(self, channels_out: int):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(channels_out, 1, 3, 3) / 9)
        self.bias = nn.Parameter(torch.zeros(channels_out))

    def forward(  # type: ignore[override]
        self, x: Tensor, z: Tensor, scale: float
    ) -> Tensor:
        """Return scale z + convolution of x, (B, C, H, W), in the place of z."""
        shifted = F.unfold(F.pad(x, (1, 1, 1, 1), mode="reflect"), 3)  # (B, 9, H W)
        shifted = torch.cat([shifted, torch.ones_like(shifted[:, :1])], dim=1)
        taps = torch.cat([self.weight.flatten(1), self.bias[:, None]], dim=1)
        taps = taps.expand(len(x), -1, -1)
        maps = z.flatten(2)
        return torch.baddbmm(maps, taps, shifted, beta=scale, out=maps).view_as(z)


def shrink(x: Tensor, threshold: Tensor) -> Tensor:
    """Move x (B, C, H, W) in place towards zero: sign(x) max(|x| - threshold, 0), (C,) thresholds.

    A negative threshold moves away from zero.
    """
    # A map at a time, so that it is read and written once.
    for k, limit in enumerate(threshold.tolist()):
        channel = x[:, k]
        channel.copy_(
            F.softshrink(channel, limit) if limit >= 0 else channel - limit * channel.sign()
        )
    return x


class Encoder(nn.Module):
    """Steps z <- shrink(scale z + back(x - forth(z))) from z = shrink(first(x))."""

    def __init__(self) -> None:
        super().__init__()
        self.threshold = nn.Parameter(torch.full((MAPS,), 0.01))
        self.scale = nn.Parameter(torch.ones(1))
        self.first = FromOne(MAPS)
        self.forth = nn.ModuleList([ToOne(MAPS) for _ in range(STEPS)])
        self.back = nn.ModuleList([FromOne(MAPS) for _ in range(STEPS)])

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the low-rank and the sparse part, (B, 128, H, W) each, of (B, 1, H, W)."""
        scale = float(self.scale)
        # maps of no values yet: scaled by zero they are not read
        z = x.new_empty(len(x), MAPS, *x.shape[2:])
        z = shrink(self.first(x, z, 0), self.threshold)
        for forth, back in zip(self.forth, self.back, strict=True):
            z = shrink(back(x - forth(z), z, scale), self.threshold)
        low, sparse = z.chunk(2, dim=1)
        return low, sparse


class LRRNet(nn.Module):
    """Two encoders of one form; low-rank and sparse parts are fused each for itself, and added."""

    def __init__(self) -> None:
        super().__init__()
        self.infrared, self.visible = Encoder(), Encoder()
        self.low = nn.ModuleList([ToOne(MAPS // 2) for _ in range(2)])
        self.sparse = nn.ModuleList([ToOne(MAPS // 2) for _ in range(2)])
        self.fuse_low, self.fuse_sparse = conv(2, 1), conv(2, 1)

    def forward(self, infrared: Tensor, visible: Tensor) -> Tensor:
        """Fuse images (B, 1, H, W) in [0, 1]; values of about 0.03 to 0.25."""
        lows, sparses = [], []
        for k, (encode, x) in enumerate(((self.infrared, infrared), (self.visible, visible))):
            low, sparse = encode(x)
            lows.append(self.low[k](low))
            sparses.append(self.sparse[k](sparse))
        return self.fuse_low(torch.cat(lows, dim=1)) + self.fuse_sparse(torch.cat(sparses, dim=1))

    @inference
    def fuse(self, infrared: np.ndarray, visible: np.ndarray) -> np.ndarray:
        """Fuse two gray uint8 images (H, W), infrared first, to one."""
        pair = planes(self, infrared, visible, smallest=2).split(1)
        a, b = (min_max_scale(x, MARGIN) / 255 for x in pair)
        return to_uint8_floor(min_max_scale(in_bands(self, a, b, reach=11), MARGIN))


def from_torch(state: State) -> dict[str, Tensor]:
    """Name the tensors of the official file as :class:`LRRNet` does."""
    rules: dict[str, str] = {}
    for official, ours in (("get_ls1", "infrared"), ("get_ls2", "visible")):
        rules |= {
            rf"{official}\.lamj": f"{ours}.threshold",
            rf"{official}\.lamz": f"{ours}.scale",
            rf"{official}\.conv_W00\.conv2d\.(\w+)": rf"{ours}.first.\1",
            rf"{official}\.lrrblock(\d)\.conv_Wdz\.conv2d\.(\w+)": rf"{ours}.forth.\1.\2",
            rf"{official}\.lrrblock(\d)\.conv_Wdtz\.conv2d\.(\w+)": rf"{ours}.back.\1.\2",
        }
    for official, ours in (
        ("ReZx", "low.0"),
        ("ReZy", "low.1"),
        ("ReUx", "sparse.0"),
        ("ReUy", "sparse.1"),
        ("ReL", "fuse_low"),
        ("ReH", "fuse_sparse"),
    ):
        rules[rf"decoder\.conv_{official}\.conv2d\.(\w+)"] = rf"{ours}.\1"
    tensors = renamed(state, rules)
    lambdas = ("threshold", "scale")
    return {
        name: value.flatten() if name.endswith(lambdas) else value
        for name, value in tensors.items()
    }
