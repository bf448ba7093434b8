"""3x3 convolutions that keep the size of a map, with a mirrored or a zero border, on whole maps or strip by strip.

With gradients, in mixed precision and on a GPU they are PyTorch's convolution of a padded map. Without gradients a
processor spends as much time on what stands around a convolution as on a third of it: on padded copies, on new memory
for wide maps, on maps whose channels lie far apart. There the same values are computed with less of that.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

STRIP_BYTES = 12 << 20  # of the widest map that a processor without gradients computes at once
Pieces = Sequence[Tensor]  # feature maps (B, c_i, H, W) that a layer reads one behind the other as channels


def plain(x: Tensor) -> bool:
    """Tell whether PyTorch's own way is the one to take: with gradients, mixed precision, or not on a processor."""
    return torch.is_grad_enabled() or x.device.type != "cpu" or torch.is_autocast_enabled("cpu")


def joined(pieces: Pieces) -> Tensor:
    """Return the pieces as one map."""
    return torch.cat(tuple(pieces), dim=1) if len(pieces) > 1 else pieces[0]


def padded(x: Tensor, mirror: bool) -> Tensor:
    """Return (B, C, H, W) with a border of one pixel, mirrored (edge pixel not repeated) or zero."""
    return F.pad(x, (1, 1, 1, 1), mode="reflect" if mirror else "constant")


class Conv(nn.Conv2d):
    """A 3x3 convolution that keeps the size; the border is mirrored (edge pixel not repeated) or zero."""

    def __init__(self, inputs: int, outputs: int, mirror: bool):
        super().__init__(inputs, outputs, 3)
        self.mirror = mirror

    def forward(self, x: Tensor) -> Tensor:
        return convolve(x, self.weight, self.bias, self.mirror)


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None, mirror: bool) -> Tensor:
    """Convolve (B, C, H, W) with 3x3 kernels at equal size, the border mirrored or zero; H and W at least 2."""
    if plain(x):
        return F.conv2d(padded(x, True), weight, bias) if mirror else F.conv2d(x, weight, bias, padding=1)
    out = F.conv2d(x, inner(weight), bias, padding=1)
    if mirror:
        # Only the outermost pixels feel the padding: those four lines are convolved again with the mirrored border.
        for row, lines, pads in ((0, slice(0, 2), (1, 1, 1, 0)), (-1, slice(-2, None), (1, 1, 0, 1))):
            out[:, :, row] = F.conv2d(F.pad(x[:, :, lines], pads, mode="reflect"), weight, bias)[:, :, 0]
        for column, lines, pads in ((0, slice(0, 2), (1, 0, 1, 1)), (-1, slice(-2, None), (0, 1, 1, 1))):
            out[..., column] = F.conv2d(F.pad(x[..., lines], pads, mode="reflect"), weight, bias)[..., 0]
    return out


def inner(weight: Tensor) -> Tensor:
    """Return kernels whose channels lie innermost: they make maps of that kind, which a processor convolves in less
    time and a quarter less memory. Their gradients would take twice as long, so PyTorch's own way keeps the usual order."""
    return weight if plain(weight) else weight.clone(memory_format=torch.channels_last)


def strip_rows(x: Tensor, channels: int) -> int:
    """Return how many rows of maps as high and wide as ``x``, at most ``channels`` deep, are computed at once.

    Where PyTorch's own way is taken, all of them; else a strip that fits the cache: for maps of a whole image a processor
    has to get new memory, which costs it as much time as a fifth of the convolutions. The result is the same.
    """
    return x.shape[2] if plain(x) else min(x.shape[2], max(32, STRIP_BYTES // (channels * x.shape[3] * x.element_size())))


def blank(like: Tensor, channels: int, rows: int) -> Tensor:
    """Return room for ``rows`` rows of maps as wide as ``like``, with their border: (B, channels, rows + 2, W + 2)."""
    return like.new_empty(len(like), rows + 2, like.shape[3] + 2, channels).permute(0, 3, 1, 2)  # channels innermost


class LineBuffer:
    """A map on its way into 3x3 convolutions, strip by strip and with its border: no row is computed twice.

    Parameters
    ----------
    lines : (1, C, n, W + 2)
        From :func:`blank`. Where the map has more than n - 2 rows, new rows take the place of old ones.
    mirror : bool
        Mirrored border instead of a zero one.

    Attributes
    ----------
    end : int
        The first free line; line 0 is the border above the map.
    """

    def __init__(self, lines: Tensor, mirror: bool):
        self.lines, self.mirror, self.end = lines, mirror, 1

    def push(self, pieces: Pieces, last: bool, relu: bool = False) -> Tensor:
        """Append a strip of rows, given as ``pieces`` (1, c_i, n, W); the first strip of several has at least 3 rows.

        Returns
        -------
        (1, C, m, W + 2)
            The lines from two above the strip to its end, with the border where the image ends. A convolution without
            padding makes rows one behind those pushed of them: of the first strip one fewer, of the last one more.
        """
        if self.end + pieces[0].shape[2] >= self.lines.shape[2]:
            self.lines[:, :, :2] = self.lines[:, :, self.end - 2:self.end]
            self.end = 2
        first, self.end = self.end, self.end + pieces[0].shape[2]
        strip, channel = self.lines[:, :, first:self.end], 0
        for piece in pieces:
            target = strip[:, channel:channel + piece.shape[1], :, 1:-1]
            torch.clamp_min(piece, 0, out=target) if relu else target.copy_(piece)
            channel += piece.shape[1]
        strip[..., 0], strip[..., -1] = (strip[..., 2], strip[..., -3]) if self.mirror else (0, 0)
        if first == 1:
            self.lines[:, :, 0] = self.lines[:, :, 2] if self.mirror else 0
        if last:
            self.lines[:, :, self.end] = self.lines[:, :, self.end - 2] if self.mirror else 0
        return self.lines[:, :, max(first - 2, 0):self.end + last]


class WholeMap:
    """What :class:`LineBuffer` is to strips, for all rows at once: PyTorch's own way."""

    def __init__(self, mirror: bool):
        self.mirror = mirror

    def push(self, pieces: Pieces, last: bool, relu: bool = False) -> Tensor:
        """Return the joined pieces (B, c_i, H, W) with their border."""
        x = joined(pieces)
        return padded(x.relu_() if relu else x, self.mirror)


def reader(like: Tensor, channels: int, rows: int, mirror: bool) -> LineBuffer | WholeMap:
    """Return what leads maps as wide as ``like``, in strips of at most ``rows``, into a convolution."""
    return WholeMap(mirror) if plain(like) else LineBuffer(blank(like, channels, rows + 1), mirror)
