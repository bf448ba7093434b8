"""CDDFuse: Restormer blocks, base and detail (Zhao et al., CVPR 2023).

The two images are not treated alike: the decoder adds its output to the visible one, before a
sigmoid. Attention is among channels and normalised over all pixels, so every output depends on the
whole image and there are no tiles. Only its 8 x 8 products need all pixels at once: they are summed
band by band, and then applied band by band.

The weights could not be had here; the structure is checked with generated ones.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .layers import (
    Border,
    State,
    bands,
    conv,
    in_bands,
    inference,
    min_max_scale,
    planes,
    renamed,
    to_uint8_round,
)

CHANNELS, HEADS, BLOCKS = 64, 8, 4


class ChannelNorm(nn.Module):
    """Layer norm over the channels of each pixel."""

    def __init__(self, channels: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        # not var_mean, which is slow over numbers that are no neighbours in memory
        x = x - x.mean(1, keepdim=True)
        x *= torch.rsqrt(x.square().mean(1, keepdim=True) + 1e-5)
        return torch.addcmul(self.bias[:, None, None], x, self.weight[:, None, None])


class ChannelAttention(nn.Module):
    """Attention among the channels of a head, with q and k normalised over all pixels.

    Parameters
    ----------
    channels : int
        A multiple of 8, the number of heads.
    full : bool
        The 3 x 3 convolution mixes channels; else it is one filter a channel.
    """

    def __init__(self, channels: int, full: bool):
        super().__init__()
        self.channels, self.groups = channels, 1 if full else 3 * channels
        self.point = nn.Conv2d(channels, 3 * channels, 1, bias=False)
        self.near = nn.Conv2d(
            3 * channels, 3 * channels, 3, padding=1, groups=self.groups, bias=False
        )
        self.scale = nn.Parameter(torch.ones(HEADS, 1, 1))
        self.proj = nn.Conv2d(channels, channels, 1, bias=False)

    def part(self, x: Tensor, rows: slice) -> Tensor:
        """Return some of the maps q, k, v, in this order, of x (B, C, H, W)."""
        weight = self.near.weight[rows]
        if self.groups == 1:
            return F.conv2d(self.point(x), weight, padding=1)
        maps = F.conv2d(x, self.point.weight[rows])
        return F.conv2d(maps, weight, padding=1, groups=len(weight))

    def matrix(self, x: Tensor, norm: nn.Module) -> Tensor:
        """Return attention and projection as one matrix of v's channels, (B, C, C)."""
        batch, head = len(x), self.channels // HEADS
        products = x.new_zeros(batch, HEADS, head, head)
        q_squares, k_squares = x.new_zeros(2, batch, HEADS, head)
        for area, around in bands(x.shape[-2:], reach=1):
            maps = self.part(norm(around.of(x)), slice(2 * self.channels))
            q, k = area.of(maps, around).reshape(batch, 2, HEADS, head, -1).unbind(1)
            products += q @ k.transpose(-1, -2)
            q_squares += q.square().sum(-1)
            k_squares += k.square().sum(-1)
        q_norm, k_norm = (squares.sqrt().clamp_min(1e-12) for squares in (q_squares, k_squares))
        cosines = products / (q_norm[..., None] * k_norm[..., None, :])
        attention = torch.softmax(cosines * self.scale, dim=-1)
        of_heads = self.proj.weight.reshape(self.channels, HEADS, head).transpose(0, 1)
        return torch.cat([of_heads[h] @ attention[:, h] for h in range(HEADS)], dim=2)

    def forward(self, x: Tensor, norm: nn.Module) -> Tensor:
        """Return x + attention of norm(x), (B, C, H, W)."""
        matrix = self.matrix(x, norm)

        def band(y: Tensor, _: Tensor) -> Tensor:
            v = self.part(norm(y), slice(2 * self.channels, None))
            return y + (matrix @ v.flatten(2)).reshape(y.shape)

        return in_bands(band, x, x, reach=1)


class Gated(nn.Sequential):
    """Two layers to pairs of maps; exact GELU of the first of a pair times the second; one back."""

    def __init__(self, channels: int, hidden: int, groups: int, border: Border):
        near = nn.Conv2d(
            hidden, hidden, 3, padding=1, padding_mode=border, groups=groups, bias=False
        )
        super().__init__(
            nn.Conv2d(channels, hidden, 1, bias=False),
            near,
            nn.Conv2d(hidden // 2, channels, 1, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        a, b = self[1](self[0](x)).chunk(2, dim=1)
        return self[2](F.gelu(a).mul_(b))


class Block(nn.Module):
    """Attention among channels and a gated pair of layers, both on normed maps, both added.

    Parameters
    ----------
    channels : int
    full : bool
        The block for base maps, with full 3 x 3 convolutions; else the Restormer's.
    border : "zeros" or "reflect"
        Of the gated layers.
    """

    def __init__(self, channels: int, full: bool, border: Border = "zeros"):
        super().__init__()
        self.norm1, self.norm2 = ChannelNorm(channels), ChannelNorm(channels)
        self.attention = ChannelAttention(channels, full)
        hidden = channels * (2 if full else 4)
        self.gated = Gated(channels, hidden, channels if full else hidden, border)

    def forward(self, x: Tensor) -> Tensor:
        x = self.attention(x, self.norm1)
        return in_bands(lambda y, _: self.gated(self.norm2(y)).add_(y), x, x, reach=1)


class DetailNode(nn.Module):
    """Invertible node: shuffle, z2 += phi(z1), z1 = z1 exp(rho(z2)) + eta(z2)."""

    def __init__(self) -> None:
        super().__init__()
        half = CHANNELS // 2
        self.shuffle = nn.Conv2d(CHANNELS, CHANNELS, 1)
        self.parts = nn.ModuleDict(
            {
                name: nn.Sequential(
                    nn.Conv2d(half, CHANNELS, 1, bias=False),
                    nn.ReLU6(inplace=True),
                    nn.Conv2d(
                        CHANNELS,
                        CHANNELS,
                        3,
                        padding=1,
                        padding_mode="reflect",
                        groups=CHANNELS,
                        bias=False,
                    ),
                    nn.ReLU6(inplace=True),
                    nn.Conv2d(CHANNELS, half, 1, bias=False),
                )
                for name in ("phi", "rho", "eta")
            }
        )

    def forward(self, x: Tensor) -> Tensor:
        z1, z2 = self.shuffle(x).chunk(2, dim=1)
        z2 = z2 + self.parts["phi"](z1)
        z1 = z1 * torch.exp(self.parts["rho"](z2)) + self.parts["eta"](z2)
        return torch.cat([z1, z2], dim=1)


class Details(nn.Sequential):
    """Some detail nodes in turn."""

    def __init__(self, nodes: int):
        super().__init__(*(DetailNode() for _ in range(nodes)))

    def forward(self, x: Tensor) -> Tensor:
        whole = super().forward
        return in_bands(lambda y, _: whole(y), x, x, reach=2 * len(self))


class CDDFuse(nn.Module):
    """Shared encoder to base and detail maps, their fusion by a block each, decoder."""

    def __init__(self) -> None:
        super().__init__()

        def restormer() -> nn.Sequential:
            return nn.Sequential(*(Block(CHANNELS, full=False) for _ in range(BLOCKS)))

        self.embed = conv(1, CHANNELS, border="zeros", bias=False)
        self.encoder = restormer()
        self.base, self.detail = Block(CHANNELS, full=True), Details(3)
        self.fuse_base, self.fuse_detail = Block(CHANNELS, full=True), Details(1)
        self.reduce = nn.Conv2d(2 * CHANNELS, CHANNELS, 1, bias=False)
        self.decoder = restormer()
        self.output = nn.Sequential(
            conv(CHANNELS, CHANNELS // 2, border="zeros", bias=False),
            nn.LeakyReLU(0.01, inplace=True),
            conv(CHANNELS // 2, 1, border="zeros", bias=False),
        )

    def forward(self, infrared: Tensor, visible: Tensor) -> Tensor:
        """Fuse images (B, 1, H, W) in [0, 1] to such."""
        maps = self.encoder(self.embed(visible))
        base, detail = self.base(maps), self.detail(maps)
        maps = self.encoder(self.embed(infrared))
        base += self.base(maps)
        detail += self.detail(maps)
        del maps
        base, detail = self.fuse_base(base), self.fuse_detail(detail)
        maps = self.decoder(self.reduce(torch.cat([base, detail], dim=1)))
        return torch.sigmoid(in_bands(lambda y, _: self.output(y), maps, maps, reach=2) + visible)

    @inference
    def fuse(self, infrared: np.ndarray, visible: np.ndarray) -> np.ndarray:
        """Fuse two gray uint8 images (H, W), infrared first, to one."""
        a, b = (planes(self, infrared, visible, smallest=2) / 255).split(1)
        # ASSUMPTION: the old imageio of the authors' script rounded halves down; here, to even.
        return to_uint8_round(min_max_scale(self(a, b)))


GATED = {"project_in": 0, "dwconv": 1, "project_out": 2}


def base_rules(theirs: str, ours: str) -> dict[str, str]:
    """Return the names of a block with full convolutions, for :func:`.layers.renamed`."""
    return {
        rf"{theirs}(norm[12])\.body\.(\w+)": rf"{ours}.\1.\2",
        rf"{theirs}attn\.scale": rf"{ours}.attention.scale",
        rf"{theirs}attn\.qkv1\.weight": rf"{ours}.attention.point.weight",
        rf"{theirs}attn\.qkv2\.weight": rf"{ours}.attention.near.weight",
        rf"{theirs}attn\.proj\.weight": rf"{ours}.attention.proj.weight",
        **{
            rf"{theirs}mlp\.{name}\.weight": f"{ours}.gated.{k}.weight" for name, k in GATED.items()
        },
    }


def _restormer_rules(theirs: str, ours: str) -> dict[str, str]:
    level = rf"{theirs}\.(\d)\."
    return {
        rf"{level}(norm[12])\.body\.(\w+)": rf"{ours}.\1.\2.\3",
        rf"{level}attn\.temperature": rf"{ours}.\1.attention.scale",
        rf"{level}attn\.qkv\.weight": rf"{ours}.\1.attention.point.weight",
        rf"{level}attn\.qkv_dwconv\.weight": rf"{ours}.\1.attention.near.weight",
        rf"{level}attn\.project_out\.weight": rf"{ours}.\1.attention.proj.weight",
        **{
            rf"{level}ffn\.{name}\.weight": rf"{ours}.\1.gated.{k}.weight"
            for name, k in GATED.items()
        },
    }


def _detail_rules(theirs: str, ours: str) -> dict[str, str]:
    node = rf"{theirs}net\.(\d)\."
    rules = {rf"{node}shffleconv\.(\w+)": rf"{ours}.\1.shuffle.\2"}
    for official, k in ((0, 0), (3, 2), (5, 4)):
        layer = rf"{node}theta_(\w+)\.bottleneckBlock\.{official}\.weight"
        rules[layer] = rf"{ours}.\1.parts.\2.{k}.weight"
    return rules


def from_torch(state: State) -> dict[str, Tensor]:
    """Name the tensors of the official file, of four parts, as :class:`CDDFuse` does."""
    encoder, decoder = r"DIDF_Encoder/module\.", r"DIDF_Decoder/module\."
    rules = {
        rf"{encoder}patch_embed\.proj\.weight": "embed.weight",
        rf"{decoder}reduce_channel\.weight": "reduce.weight",
        rf"{decoder}output\.(\d)\.weight": r"output.\1.weight",
        **_restormer_rules(rf"{encoder}encoder_level1", "encoder"),
        **_restormer_rules(rf"{decoder}encoder_level2", "decoder"),
        **base_rules(rf"{encoder}baseFeature\.", "base"),
        **base_rules(r"BaseFuseLayer/module\.", "fuse_base"),
        **_detail_rules(rf"{encoder}detailFeature\.", "detail"),
        **_detail_rules(r"DetailFuseLayer/module\.", "fuse_detail"),
    }
    return renamed(state, rules)
