"""YDTR: a Y-shaped dynamic transformer (Tang, He & Liu, IEEE TMM 25, 2023).

What the paper claims and the released code does not do: the transformer's windows hold one token
each, so its softmax runs over one key and is 1. Attention is then proj(V(x)) of each token alone;
queries, keys and the position table have no effect and get no gradient, and of 217,770 parameters
89,946 are in use. A token is not a pixel with 64 channels either: the tensor (C, H, W) is re-read
in memory order as (H, W, C), so a token is 64 neighbouring pixels of one channel.

Faster, with the same result: queries, keys and the softmax are left out, V and proj are one matrix
(``attention="value"``). The naive form, ``attention="window"``, computes all of it as released and
is kept to prove both.

The output is truncated to 8 bits. A negative value would wrap around in the released code; none
occurs on real images (the smallest was 0.17).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from .layers import (
    State,
    TransformerBlock,
    WindowAttention,
    conv,
    in_chunks,
    inference,
    planes,
    renamed,
    to_uint8_floor,
)

CHANNELS, HEADS = 64, 8
CHUNK = 4096  # tokens at a time: 4096 of 256 hidden values are 4 MB


class Dynamic(nn.Module):
    """Dynamic block: x times a weight for each channel, plus x times a weight for each pixel."""

    def __init__(self, channels: int):
        super().__init__()
        hidden = channels // 8
        self.channel = nn.Sequential(
            nn.Conv2d(channels, hidden, 1), nn.ReLU(), nn.Conv2d(hidden, channels, 1)
        )
        self.spatial = nn.Sequential(
            conv(channels, hidden, border="zeros"), conv(hidden, 1, border="zeros")
        )

    def forward(self, x: Tensor) -> Tensor:
        return x * (self.channel(x.mean((2, 3), keepdim=True)) + self.spatial(x))


class YDTR(nn.Module):
    """Stem, dynamic block and transformer, the same for infrared, visible and the fused path.

    Parameters
    ----------
    attention : "value" or "window"
        What has an effect, or all that the authors compute.
    """

    def __init__(self, attention: str = "value"):
        super().__init__()
        if attention not in ("value", "window"):
            raise ValueError(f"attention: expected 'value' or 'window', got {attention!r}")
        self.window = attention == "window"
        self.stem = nn.Sequential(
            conv(1, CHANNELS, border="replicate"), nn.BatchNorm2d(CHANNELS), nn.ReLU()
        )
        self.dynamic = Dynamic(CHANNELS)
        self.blocks = nn.ModuleList(
            [
                TransformerBlock(
                    CHANNELS,
                    (
                        WindowAttention(CHANNELS, 1, HEADS)
                        if self.window
                        else nn.Linear(CHANNELS, CHANNELS)
                    ),
                )
                for _ in range(2)
            ]
        )
        self.output = nn.Conv2d(CHANNELS, 1, 1)

    def transform(self, x: Tensor) -> Tensor:
        """Apply both transformer blocks to (B, 64, H, W), re-read in memory as tokens of 64."""

        def layers(tokens: Tensor) -> Tensor:
            for block in self.blocks:
                tokens = block(tokens)
            return tokens

        # The naive form sees windows of one token, all at once as released.
        if self.window:
            return layers(x.reshape(-1, 1, CHANNELS)).reshape(x.shape)
        return in_chunks(layers, x.reshape(-1, CHANNELS), CHUNK).reshape(x.shape)

    def encode(self, x: Tensor) -> Tensor:
        """Return the features (B, 64, H, W) of images (B, 1, H, W) in [0, 1]."""
        return self.transform(self.dynamic(self.stem(x)))

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Fuse images (B, 1, H, W) in [0, 1], in any order; values in (-1, 1)."""
        features = self.transform(self.dynamic(self.encode(a) + self.encode(b)))
        return torch.tanh(self.output(features))

    @inference
    def fuse(self, infrared: np.ndarray, visible: np.ndarray) -> np.ndarray:
        """Fuse two gray uint8 images (H, W) to one."""
        a, b = (planes(self, infrared, visible) / 255).split(1)
        # ASSUMPTION: a negative output of YDTR is black; the released cast would wrap it to a
        # bright value.
        return to_uint8_floor(self(a, b).clamp_min(0) * 255)


def from_torch(state: State) -> dict[str, Tensor]:
    """Name the tensors of the official file as :class:`YDTR` does."""
    return without_keys(from_torch_naive(state))


def without_keys(naive: State) -> dict[str, Tensor]:
    """Return the tensors of the fast form from the naive ones: V and proj as one matrix (C, C)."""
    fast = {name: value for name, value in naive.items() if ".attn." not in name}
    for i in range(2):
        # proj(V(x)) = P (V x + v) + p = (P V) x + (P v + p); V is the last third of qkv.
        project = naive[f"blocks.{i}.attn.proj.weight"].double()
        shift = naive[f"blocks.{i}.attn.proj.bias"].double()
        value = naive[f"blocks.{i}.attn.qkv.weight"][-len(shift) :].double()
        bias = naive[f"blocks.{i}.attn.qkv.bias"][-len(shift) :].double()
        fast[f"blocks.{i}.attn.weight"] = (project @ value).float()
        fast[f"blocks.{i}.attn.bias"] = (project @ bias + shift).float()
    return fast


def from_torch_naive(state: State) -> dict[str, Tensor]:
    """Name the tensors of the official file for ``attention="window"``, without unused layers."""
    return renamed(
        state,
        {
            r"convInput\.conv\.(\w+)": r"stem.0.\1",
            r"convInput\.bn\.(\w+)": r"stem.1.\1",
            r"convolutional_out\.conv\.(\w+)": r"output.\1",
            r"DDF\.spatial_branch\.body\.(\d)\.(\w+)": r"dynamic.spatial.\1.\2",
            r"DDF\.channel_branch\.fc\.(\d)\.(\w+)": r"dynamic.channel.\1.\2",
            r"basicLayer\.(blocks\.[01]\.[\w.]+)": r"\1",
        },
        dead=r"(conv64|conv|patch_embed)\..*|.*\.relative_position_index",
    )
