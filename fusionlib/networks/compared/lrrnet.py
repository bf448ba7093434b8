"""LRRNet: unrolled low-rank representation (Li, Xu, Wu, Lu & Kittler, IEEE TPAMI 45(9), 2023).

Each encoder splits its image into a low-rank and a sparse part of 128 maps: five steps of a learned
iterative shrinkage, whose threshold is the same in all of them. One trained threshold of the
infrared encoder is negative and moves values away from zero; it is kept so. The network's output
lies between 0.03 and 0.25 only: the picture is what the stretch to the whole range makes of it.

Faster, with the same result: a 3 x 3 convolution of 256 maps to one is nine products of its taps
with the maps, as one matrix product, and then the sum of the nine, shifted; so nine maps are
mirrored at the border and not 256.
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


def shrink(x: Tensor, threshold: Tensor) -> Tensor:
    """Move x (B, C, H, W) in place towards zero: sign(x) max(|x| - threshold, 0), (C,) thresholds.

    A negative threshold moves away from zero.
    """
    limit = threshold.clamp_min(0)[:, None, None]
    small = x.clamp(-limit, limit)
    for k in (threshold < 0).nonzero().flatten().tolist():
        small[:, k] = x[:, k].sign() * threshold[k]
    return x.sub_(small)


class Encoder(nn.Module):
    """Steps z <- shrink(scale z + back(x - forth(z))) from z = shrink(first(x))."""

    def __init__(self) -> None:
        super().__init__()
        self.threshold = nn.Parameter(torch.full((MAPS,), 0.01))
        self.scale = nn.Parameter(torch.ones(1))
        self.first = conv(1, MAPS)
        self.forth = nn.ModuleList([ToOne(MAPS) for _ in range(STEPS)])
        self.back = nn.ModuleList([conv(1, MAPS) for _ in range(STEPS)])

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the low-rank and the sparse part, (B, 128, H, W) each, of (B, 1, H, W)."""
        z = shrink(self.first(x), self.threshold)
        for forth, back in zip(self.forth, self.back, strict=True):
            z = shrink(back(x - forth(z)).addcmul_(z, self.scale), self.threshold)
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
    rules = {}
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
