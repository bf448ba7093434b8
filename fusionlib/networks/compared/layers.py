"""Parts that compared networks share: input and output, dense block, window attention.

A network of this package takes two gray ``uint8`` images, infrared first, and gives one back.
Between the two lies one float32 batch of two planes on the 0..255 scale, infrared at index 0; each
network scales it as its authors did.
"""

from __future__ import annotations

import contextlib
import functools
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ... import images
from ..tiles import Area, tiles

State = Mapping[str, Tensor]
Border = Literal["reflect", "replicate", "zeros"]


# ---- in and out ----------------------------------------------------------------------------------


def inference(fuse: Callable) -> Callable:
    """Decorate a method of a network: no gradients, evaluation mode, full float32.

    Full means without the TF32 that cuDNN takes on a GPU by default.
    """

    @functools.wraps(fuse)
    def run(network: nn.Module, *args, **kwargs):
        exact: contextlib.AbstractContextManager = contextlib.nullcontext()
        if next(network.parameters()).is_cuda:
            # cuDNN rounds the factors of convolutions to 10 bits by default; the authors' images
            # were made without.
            exact = torch.backends.cudnn.flags(enabled=True, allow_tf32=False)
        was_training = network.training
        try:
            with torch.inference_mode(), exact:
                return fuse(network.eval(), *args, **kwargs)
        finally:
            network.train(was_training)

    return run


def channels_last(network: nn.Module) -> nn.Module:
    """Return the network itself, its kernels channels last where it is on a processor.

    There convolutions to few maps are faster so, and every map follows its kernel. For a network
    that only fuses: other libraries save no tensor that lies so.
    """
    if next(network.parameters()).device.type == "cpu":
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network


def planes(
    network: nn.Module, infrared: np.ndarray, visible: np.ndarray, smallest: int = 1
) -> Tensor:
    """Return both images as float32 (2, 1, H, W) on the 0..255 scale, on the device of ``network``.

    Parameters
    ----------
    infrared, visible : (H, W) uint8
    smallest : int
        Pixels of the shorter side at least: reflection needs that many.

    Raises
    ------
    TypeError, ValueError
        Not ``uint8``, coloured, of two sizes, or a side shorter than ``smallest``.
    """
    pair = images.check_pair(infrared, visible, ("infrared", "visible"))
    name = type(network).__name__
    for label, image in zip(("infrared", "visible"), pair, strict=True):
        if image.ndim != 2:
            raise ValueError(
                f"{label}: {name} expected a gray image (H, W), got colour {image.shape}; use"
                " images.luma"
            )
        if min(image.shape) < smallest:
            raise ValueError(
                f"{label}: {name} expected sides of at least {smallest} pixels, got "
                f"{image.shape[0]}x{image.shape[1]} (height x width)"
            )
    stacked = torch.from_numpy(np.stack(pair)[:, None])
    return stacked.to(next(network.parameters()).device).float()


def to_uint8_round(levels: Tensor) -> np.ndarray:
    """Round gray levels (1, 1, H, W) on the 0..255 scale to the nearest of 8 bits, (H, W) uint8."""
    return images.to_uint8(levels[0, 0].cpu().numpy(), "fused")


def to_uint8_floor(levels: Tensor) -> np.ndarray:
    """Truncate gray levels (1, 1, H, W) on the 0..255 scale to 8 bits, (H, W) uint8."""
    return images.to_uint8(np.floor(levels[0, 0].cpu().numpy()), "fused")


def min_max_scale(values: Tensor, margin: float = 0.0) -> Tensor:
    """Stretch ``values`` from their minimum and maximum to 0..255; ``margin`` widens the range.

    ASSUMPTION: an output that is constant over the whole image becomes black where an author's
    min-max stretch would divide zero by zero.
    """
    low, high = values.min(), values.max()
    reach = high - low + margin
    return (values - low) / torch.where(reach > 0, reach, torch.ones_like(reach)) * 255


# a map of 64 channels is then 16 MB: small enough for the allocator to keep and reuse
BAND_PIXELS = 64_000


def bands(size: Sequence[int], reach: int) -> Iterator[tuple[Area, Area]]:
    """Yield bands of rows of an image of ``size``, each also with ``reach`` pixels around."""
    height, width = size
    rows = math.ceil(height / max(1, round(height * width / BAND_PIXELS)))
    for area in tiles(size, (rows, width)):
        yield area, area.grown(reach, size)


def in_bands(network: Callable[..., Tensor], a: Tensor, b: Tensor, reach: int) -> Tensor:
    """Run a network on bands of rows: the same numbers in a fraction of the memory.

    Parameters
    ----------
    network : callable
        Takes two tensors and gives one of their height and width.
    a, b : (B, C, H, W)
    reach : int
        Pixels by which an output depends on its neighbours, so bands overlap by that much.
    """
    done = [
        area.of(network(around.of(a), around.of(b)), around)
        for area, around in bands(a.shape[-2:], reach)
    ]
    return torch.cat(done, dim=2)


# ---- convolution and dense block -----------------------------------------------------------------


def conv(
    channels_in: int,
    channels_out: int,
    kernel: int = 3,
    *,
    border: Border = "reflect",
    bias: bool = True,
) -> nn.Conv2d:
    """Return a convolution that keeps H and W.

    Parameters
    ----------
    kernel : int
        Its side, odd.
    border : "reflect", "replicate" or "zeros"
    """
    return nn.Conv2d(
        channels_in, channels_out, kernel, padding=kernel // 2, padding_mode=border, bias=bias
    )


class DenseBlock(nn.ModuleList):
    """Steps that each see all maps so far and append their own (Huang et al. 2017).

    ``new_first`` puts the new maps in front of the old ones; weights are bound to the order they
    were trained in.
    """

    def __init__(self, steps: Sequence[nn.Module], *, new_first: bool = False):
        super().__init__(steps)
        self.new_first = new_first

    def forward(self, x: Tensor) -> Tensor:
        for step in self:
            new = step(x)
            x = torch.cat([new, x] if self.new_first else [x, new], dim=1)
        return x


# ---- attention in windows (Liu et al. 2021, Swin transformer) ------------------------------------


def to_windows(x: Tensor, size: int) -> Tensor:
    """Cut (B, C, H, W), sides multiples of ``size``, into tokens (windows, size * size, C)."""
    b, c, h, w = x.shape
    x = x.reshape(b, c, h // size, size, w // size, size)
    return x.permute(0, 2, 4, 3, 5, 1).reshape(-1, size * size, c)


def from_windows(tokens: Tensor, size: int, shape: tuple[int, int]) -> Tensor:
    """Return images (B, C, H, W) from their windows, as :func:`to_windows` cuts them.

    Parameters
    ----------
    tokens : (windows, size * size, C)
    size : int
        Side of a window, in pixels.
    shape : (int, int)
        H and W, multiples of ``size``.
    """
    h, w = shape
    x = tokens.reshape(-1, h // size, w // size, size, size, tokens.shape[-1])
    return x.permute(0, 5, 1, 3, 2, 4).reshape(-1, tokens.shape[-1], h, w)


class WindowAttention(nn.Module):
    """Self-attention among the tokens of a window, with a learned bias per relative position."""

    index: Tensor

    def __init__(self, channels: int, window: int, heads: int):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * window - 1) ** 2, heads))
        side = torch.arange(window)
        position = torch.stack(torch.meshgrid(side, side, indexing="ij")).flatten(1)
        # (2, window^2, window^2), each 0..2 window - 2
        offset = position[:, :, None] - position[:, None, :] + window - 1
        self.register_buffer("index", offset[0] * (2 * window - 1) + offset[1], persistent=False)

    def forward(self, tokens: Tensor) -> Tensor:
        n, t, c = tokens.shape
        qkv = self.qkv(tokens).reshape(n, t, 3, self.heads, c // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # (n, heads, t, c / heads) each
        # (1, heads, t, t)
        bias = self.relative_position_bias_table[self.index].permute(2, 0, 1)[None]
        # Eq. (4) of Liu et al.: SoftMax(Q K' / sqrt(d) + B) V
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        return self.proj(attended.transpose(1, 2).reshape(n, t, c))


class Mlp(nn.Module):
    """Two linear layers with an exact (not tanh-approximated) GELU between."""

    def __init__(self, channels: int, hidden: int):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(channels, hidden), nn.Linear(hidden, channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class TransformerBlock(nn.Module):
    """Pre-norm transformer block on tokens (..., C): t += attn(norm(t)); t += mlp(norm(t))."""

    def __init__(self, channels: int, attention: nn.Module):
        super().__init__()
        self.norm1, self.attn = nn.LayerNorm(channels), attention
        self.norm2, self.mlp = nn.LayerNorm(channels), Mlp(channels, 4 * channels)

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = self.attn(self.norm1(tokens)).add_(tokens)
        return self.mlp(self.norm2(tokens)).add_(tokens)


def in_chunks(function: Callable[[Tensor], Tensor], x: Tensor, size: int) -> Tensor:
    """Apply a function to some rows at a time; exact where rows are independent.

    Parameters
    ----------
    function : callable
        From rows to as many rows.
    x : (rows, ...)
    size : int
        Rows at a time.
    """
    return torch.cat([function(chunk) for chunk in x.split(size)])


# ---- names of tensors ----------------------------------------------------------------------------


def renamed(state: State, rules: Mapping[str, str], dead: str = "(?!)") -> dict[str, Tensor]:
    """Return tensors under new names: the first of ``rules`` that matches a whole name decides.

    Parameters
    ----------
    state : mapping of name to tensor
        As the authors' file names them.
    rules : mapping of pattern to replacement
        Regular expressions; replacements may use groups.
    dead : str
        Pattern of names without effect on the output; they are left out.

    Raises
    ------
    ValueError
        A name that no pattern knows: the file belongs to another network.
    """
    result = {}
    for name, tensor in state.items():
        if re.fullmatch(dead, name):
            continue
        for pattern, replacement in rules.items():
            if match := re.fullmatch(pattern, name):
                result[match.expand(replacement)] = tensor
                break
        else:
            like = re.sub(r"\(.*?\)", "*", next(iter(rules))).replace("\\", "")
            raise ValueError(f"expected tensors named like {like}, got {name}")
    return result


def from_hwio(kernel: Tensor) -> Tensor:
    """Return a TensorFlow kernel (kh, kw, in, out) or matrix (in, out) in PyTorch's order."""
    if kernel.ndim == 4:
        return kernel.permute(3, 2, 0, 1)  # (out, in, kh, kw)
    if kernel.ndim == 2:
        return kernel.T
    return kernel
