"""DATFuse: dual attention and a transformer (Tang, He, Liu & Duan, IEEE TCSVT 33, 2023).

By the authors of YDTR, and with its habits: the transformer's windows hold one token each, so its
softmax runs over one key and is 1, and attention is proj(V(x)) of each token alone; a token is not
a pixel with 16 channels either but 16 values that lie side by side in memory. Queries, keys and the
position table are left out here, V and proj are one matrix. The residual modules before and after
the transformer are one and the same, weights included.

The output is truncated to 8 bits. A value below -1/255 would wrap to a bright one in the released
code; -0.002 is the least that was seen.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .layers import (
    State,
    TransformerBlock,
    conv,
    in_chunks,
    inference,
    planes,
    renamed,
    to_uint8_floor,
)
from .ydtr import without_keys

CHANNELS = 16
CHUNK = 16384  # tokens at a time: 16384 of 64 hidden values are 4 MB


class DualAttention(nn.Module):
    """Features e of x, weighted for each channel and for each pixel: e channel + e spatial."""

    def __init__(self) -> None:
        super().__init__()
        hidden = CHANNELS // 4
        self.conv = conv(CHANNELS, CHANNELS, border="replicate")
        self.norm = nn.BatchNorm2d(CHANNELS)
        self.channel = nn.Sequential(
            nn.Conv2d(CHANNELS, hidden, 1), nn.ReLU(), nn.Conv2d(hidden, CHANNELS, 1), nn.Sigmoid()
        )
        self.spatial = nn.Sequential(
            conv(CHANNELS, hidden, border="zeros"),
            nn.BatchNorm2d(hidden),
            nn.ReLU(),
            conv(hidden, 1, border="zeros"),
            nn.BatchNorm2d(1),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return e and the weighted e, both as (B, 16, H, W)."""
        # one convolution and one norm, applied twice
        e = self.norm(self.conv(F.relu_(self.norm(self.conv(x)))))
        return e, e * self.channel(e.mean((2, 3), keepdim=True)) + e * self.spatial(e)


class DATFuse(nn.Module):
    """Stem of both images at once, dual attention, two transformer blocks, dual attention again."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            conv(2, CHANNELS, 5, border="replicate"), nn.BatchNorm2d(CHANNELS), nn.ReLU()
        )
        self.attention = DualAttention()
        self.blocks = nn.Sequential(
            *(TransformerBlock(CHANNELS, nn.Linear(CHANNELS, CHANNELS)) for _ in range(2))
        )
        self.output = nn.Conv2d(CHANNELS, 1, 1)

    def forward(self, infrared: Tensor, visible: Tensor) -> Tensor:
        """Fuse images (B, 1, H, W) in [0, 1]; values in (-1, 1)."""
        x = self.stem(torch.cat([infrared, visible], dim=1))
        x = F.relu_(self.attention(x)[1] + x)
        x = in_chunks(self.blocks, x.reshape(-1, CHANNELS), CHUNK).reshape(x.shape)
        e, weighted = self.attention(x)
        return torch.tanh(self.output(weighted + e))

    @inference
    def fuse(self, infrared: np.ndarray, visible: np.ndarray) -> np.ndarray:
        """Fuse two gray uint8 images (H, W), infrared first, to one."""
        a, b = (planes(self, infrared, visible) / 255).split(1)
        # ASSUMPTION: a negative output of DATFuse is black; the released cast would wrap it.
        return to_uint8_floor(self(a, b).clamp_min(0) * 255)


def from_torch(state: State) -> dict[str, Tensor]:
    """Name the tensors of the official file as :class:`DATFuse` does, without unused ones."""
    naive = renamed(
        state,
        {
            r"convolutional\.conv\.(\w+)": r"stem.0.\1",
            r"convolutional\.bn\.(\w+)": r"stem.1.\1",
            r"fem\.conv\.(\w+)": r"attention.conv.\1",
            r"fem\.bn\.(\w+)": r"attention.norm.\1",
            r"cam\.fc\.(\d\.\w+)": r"attention.channel.\1",
            r"sam\.body\.(\d\.\w+)": r"attention.spatial.\1",
            r"basicLayer\.(blocks\.[01]\.[\w.]+)": r"\1",
            r"convolutional_out\.conv\.(\w+)": r"output.\1",
        },
        dead=r"patch_embed\..*|.*\.relative_position_index",
    )
    return without_keys(naive)
