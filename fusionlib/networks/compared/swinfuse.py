"""SwinFuse: a transformer of shifted windows, fused by l1-norms (Wang et al., IEEE TIM 71, 2022).

What the paper claims and the released code does not do: three stages of six transformer blocks
each, every other one with shifted windows. The loop over the six blocks returns inside its first
pass, in training as in test. Only the first block of each stage ever runs: no shifted window, no
depth, 337,376 of 2,021,276 parameters in use. The others keep the values they were initialised
with; they are read over when a file is loaded.

Images are cut in tiles of 224 x 224, padded right and below with mid-gray, each fused alone: seams
can be seen. The released code allows nine numbers of tiles only and fails for exact multiples of
224, for sides both below 224, and for 1280 x 1024. Here any size is cut by the same rule. The
variant "whole" is one tile of the image's own size.

Weights were published behind a file-sharing link only and could not be checked here; all that is
asked of a file is the right tensors.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .layers import (
    State,
    TransformerBlock,
    WindowAttention,
    from_windows,
    in_chunks,
    inference,
    min_max_scale,
    planes,
    renamed,
    to_uint8_floor,
    to_windows,
)

WINDOW, CHANNELS, HEADS = 7, 96, (1, 2, 4)
CHUNK = 64  # windows at a time: 64 * 49 tokens of 384 hidden values are 5 MB


class SwinFuse(nn.Module):
    """Embedding, three transformer blocks, l1-norm fusion, one linear layer back.

    Every layer works within a window of 7 x 7 pixels, so features stay cut in windows from the
    image to the image: (windows, 49, 96).

    Parameters
    ----------
    tile : int or None
        Side of the tiles, a multiple of 7; None takes the image as one tile.
    """

    def __init__(self, tile: int | None = 224):
        super().__init__()
        if tile is not None and (tile <= 0 or tile % WINDOW):
            raise ValueError(
                f"tile: expected a positive multiple of {WINDOW} or None, got {tile!r}"
            )
        self.tile = tile
        self.embed, self.embed_norm = nn.Linear(1, CHANNELS), nn.LayerNorm(CHANNELS)
        self.blocks = nn.ModuleList(
            [TransformerBlock(CHANNELS, WindowAttention(CHANNELS, WINDOW, h)) for h in HEADS]
        )
        self.norm = nn.LayerNorm(CHANNELS)
        self.output = nn.Linear(CHANNELS, 1)

    def encode(self, x: Tensor) -> Tensor:
        """Return features (windows, 49, 96) of (B, 1, H, W) in [-1, 1], sides multiples of 7."""

        def layers(tokens: Tensor) -> Tensor:
            tokens = self.embed_norm(self.embed(tokens))
            for block in self.blocks:
                tokens = block(tokens).add_(tokens)
            return self.norm(tokens)

        return in_chunks(layers, to_windows(x, WINDOW), CHUNK)

    @staticmethod
    def merge(a: Tensor, b: Tensor) -> Tensor:
        """Fuse the features of a tile, weighted by mean |feature| of channels and of pixels."""

        def weights(dims: tuple[int, ...]) -> tuple[Tensor, Tensor]:
            ea = a.abs().mean(dims, keepdim=True).exp()
            eb = b.abs().mean(dims, keepdim=True).exp()
            return ea / (ea + eb + 1e-5), eb / (ea + eb + 1e-5)

        channel_a, channel_b = weights((0, 1))
        pixel_a, pixel_b = weights((2,))
        # Row and column weights are added, not averaged: the sum is about twice a single feature,
        # as in the released code.
        return (channel_a + pixel_a) * a + (channel_b + pixel_b) * b

    def decode(self, tokens: Tensor, shape: tuple[int, int]) -> Tensor:
        """Return an image (B, 1, H, W) in (-1, 1) from features."""
        return torch.tanh(from_windows(self.output(tokens), WINDOW, shape))

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Fuse one tile (1, 1, H, W) in [-1, 1], sides multiples of 7; values in (-1, 1)."""
        return self.decode(self.merge(self.encode(a), self.encode(b)), (a.shape[-2], a.shape[-1]))

    def tiled(self, a: Tensor, b: Tensor) -> Tensor:
        """Fuse images (1, 1, H, W) of any size tile by tile."""
        h, w = a.shape[-2:]
        side_h, side_w = (self.tile, self.tile) if self.tile else (h + -h % WINDOW, w + -w % WINDOW)
        # ASSUMPTION: SwinFuse images of any size are cut as the released code cuts its nine cases,
        # a side being padded up to the next multiple of 224.
        pad = (0, -w % side_w, 0, -h % side_h)
        a, b = F.pad(a, pad), F.pad(b, pad)  # 0 is mid-gray
        fused = torch.empty_like(a)
        for top in range(0, a.shape[-2], side_h):
            for left in range(0, a.shape[-1], side_w):
                tile = (..., slice(top, top + side_h), slice(left, left + side_w))
                fused[tile] = self(a[tile], b[tile])
        return fused[..., :h, :w]

    @inference
    def fuse(self, infrared: np.ndarray, visible: np.ndarray) -> np.ndarray:
        """Fuse two gray uint8 images (H, W) to one."""
        a, b = ((planes(self, infrared, visible) - 127.5) / 127.5).split(1)
        return to_uint8_floor(min_max_scale((self.tiled(a, b) / 2 + 0.5) * 255))


def from_torch(state: State) -> dict[str, Tensor]:
    """Name the tensors of the official file as :class:`SwinFuse` does, without unused layers."""
    rules = {
        r"patch_embed\.proj\.(\w+)": r"embed.\1",
        r"patch_embed\.norm\.(\w+)": r"embed_norm.\1",
        r"norm\.(\w+)": r"norm.\1",
        r"conv\.(\w+)": r"output.\1",
        **{rf"EN{s}_0\.blocks\.0\.([\w.]+)": rf"blocks.{s - 1}.\1" for s in (1, 2, 3)},
    }
    dead = (
        r"EN\d_0\.blocks\.[1-5]\..*|.*\.(relative_position_index|attn_mask)"
        r"|norm_up\..*|prelu\.weight"
    )
    tensors = renamed(state, rules, dead)
    # The authors' first and last layers are 1 x 1 convolutions; on tokens they are linear layers.
    return {name: value.flatten(1) if value.ndim == 4 else value for name, value in tensors.items()}
