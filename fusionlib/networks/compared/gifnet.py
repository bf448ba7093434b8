"""GIFNet: fusion in general by low-level tasks (Cheng et al., CVPR 2025).

Only what an infrared-visible pair passes is here. Of two branches, one trained on such pairs and
one on near and far focus, the second alone is returned; the first gives its maps to it once, after
the first block, where its queries were those of the second. A quarter of the parameters has no
effect: the decoder of reconstruction, the first branch's second block, three of four mixing
weights. The windows of the second block are moved by half a window, as in a Swin transformer, but
by mirrored borders and not by a roll: no mask.

Each block takes mean and deviation over all pixels and channels, so every output depends on the
whole image and there are no tiles. The rest of a block sees its windows and two pixels around, and
is computed strip by strip: the same numbers in a fourth of the memory.
"""

from __future__ import annotations

from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ... import images
from .layers import (
    DenseBlock,
    State,
    conv,
    from_windows,
    in_bands,
    inference,
    planes,
    renamed,
    to_uint8_floor,
    to_windows,
)

CHANNELS, HEADS, WINDOW = 98, 2, 8
STRIP_PIXELS = 16_000  # 98 maps of them are 6 MB
# Rows Cb, Cr from R, G, B on 0..255.
CHROMA = np.array([[-0.169, -0.331, 0.5], [0.5, -0.419, -0.081]])


def point(channels_in: int, channels_out: int, bias: bool = True) -> nn.Conv2d:
    """Convolution of single pixels."""
    return nn.Conv2d(channels_in, channels_out, 1, bias=bias)


def reflected(start: int, stop: int, size: int) -> Tensor:
    """Return the numbers start..stop - 1, those outside of 0..size - 1 mirrored into it."""
    inside = torch.arange(start, stop).abs()
    return torch.where(inside < size, inside, 2 * (size - 1) - inside)


class Positions(nn.Sequential):
    """Bias of attention from relative positions in a window, (1, heads, 64, 64)."""

    relative: Tensor

    def __init__(self) -> None:
        super().__init__(nn.Linear(2, 256), nn.ReLU(), nn.Linear(256, HEADS))
        side = torch.arange(WINDOW)
        position = torch.stack(torch.meshgrid(side, side, indexing="ij"), dim=-1).reshape(-1, 2)
        offset = (position[:, None] - position[None]).float()
        self.register_buffer("relative", offset.sign() * offset.abs().log1p(), persistent=False)

    def forward(self) -> Tensor:  # type: ignore[override]
        return super().forward(self.relative).permute(2, 0, 1)[None]


class Norm(nn.Module):
    """Layer norm over channels and pixels; its mean and deviation come back as shift and scale."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1, CHANNELS, 1, 1))
        self.bias = nn.Parameter(torch.zeros(1, CHANNELS, 1, 1))
        self.rescale, self.rebias = point(1, CHANNELS), point(1, CHANNELS)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return scale and shift of norm(x) = scale x + shift, then those of what follows."""
        variance, mean = torch.var_mean(x, dim=(1, 2, 3), keepdim=True, correction=0)
        deviation = torch.sqrt(variance + 1e-5)
        scale = self.weight / deviation
        after = self.rescale(deviation), self.rebias(mean)
        return scale, self.bias - mean * scale, *after


class Side(nn.Module):
    """One branch of a block: window attention beside a 5 x 5 filter, then two pointwise layers.

    Parameters
    ----------
    queries : bool
        Has queries of its own; else another side asks.
    """

    def __init__(self, queries: bool = True):
        super().__init__()
        self.norm = Norm()
        self.query = point(CHANNELS, CHANNELS) if queries else None
        self.key, self.value = point(CHANNELS, CHANNELS), point(CHANNELS, CHANNELS)
        self.local = nn.Conv2d(CHANNELS, CHANNELS, 5, groups=CHANNELS)
        self.proj = point(CHANNELS, CHANNELS)
        self.mlp = nn.Sequential(
            point(CHANNELS, 2 * CHANNELS), nn.ReLU(inplace=True), point(2 * CHANNELS, CHANNELS)
        )


class Block(nn.Module):
    """The sides of a block, by name, and what they share."""

    def __init__(self, shift: int, **sides: Side):
        super().__init__()
        self.shift = shift
        self.sides = nn.ModuleDict(sides)
        self.positions = Positions()

    def forward(self, name: str, x: Tensor, asking: str, other: Tensor) -> Tensor:
        """Return the side ``name`` of x.

        Parameters
        ----------
        name : str
        x : (B, 98, H, W)
            H and W multiples of 4, at least 8.
        asking : str
            The side whose queries are taken, of ``other``, which is x where the side is the same.
        other : (B, 98, H, W)
        """
        side, asker = cast(Side, self.sides[name]), cast(Side, self.sides[asking])
        scale, shift, rescale, rebias = side.norm(x)
        scale_of_other, shift_of_other = (scale, shift) if asker is side else asker.norm(other)[:2]
        bias = self.positions()
        height, width = x.shape[-2:]
        result = torch.empty_like(x)
        step = max(1, STRIP_PIXELS // width // WINDOW) * WINDOW
        for top in range(-self.shift, height, step):
            # whole windows, the last of them mirrored below the image
            bottom = min(top + step, height + -(height + self.shift) % WINDOW)
            rows = reflected(top - 2, bottom + 2, height).to(x.device)
            strip = torch.addcmul(shift, x[:, :, rows], scale)
            value = side.value(strip)
            key = side.key(strip[:, :, 2:-2])
            if asker is not side:
                strip = torch.addcmul(shift_of_other, other[:, :, rows], scale_of_other)
            query = cast(nn.Conv2d, asker.query)(strip[:, :, 2:-2])
            mixed = self.attend(query, key, value[:, :, 2:-2], bias)
            mixed += side.local(F.pad(value, (2, 2, 0, 0), mode="reflect"))
            inside = slice(max(top, 0), min(bottom, height))
            kept = mixed[:, :, inside.start - top : inside.stop - top]
            y = torch.addcmul(rebias, side.proj(kept), rescale).add_(x[:, :, inside])
            result[:, :, inside] = side.mlp(y).add_(y)
        return result

    def attend(self, query: Tensor, key: Tensor, value: Tensor, bias: Tensor) -> Tensor:
        """Return attention in windows of a strip of whole windows.

        Parameters
        ----------
        query, key, value : (B, 98, rows, W)
            The columns are mirrored here to whole windows.
        bias : (1, heads, 64, 64)
        """
        height, width = query.shape[-2:]
        right = -(width + self.shift) % WINDOW
        tokens = []
        for maps in (query, key, value):
            padded = F.pad(maps, (self.shift, right, 0, 0), mode="reflect")
            windows = to_windows(padded, WINDOW)
            tokens.append(windows.unflatten(2, (HEADS, -1)).transpose(1, 2))
        queries, keys, values = tokens
        attended = F.scaled_dot_product_attention(queries, keys, values, attn_mask=bias)
        shape = height, width + self.shift + right
        whole = from_windows(attended.transpose(1, 2).flatten(2), WINDOW, shape)
        return whole[..., self.shift : self.shift + width]


class GIFNet(nn.Module):
    """Shared dense features, two branches of two blocks, a decoder of features and second branch.

    Names follow the data of the branches: "ivif", infrared and visible, "mfif", multi-focus.
    """

    def __init__(self) -> None:
        super().__init__()
        self.shared = DenseBlock(
            [nn.Sequential(conv(c, 32), nn.ReLU(inplace=True)) for c in (2, 34, 66)]
        )
        self.embed = nn.ModuleDict({name: conv(CHANNELS, CHANNELS) for name in ("ivif", "mfif")})
        self.block1 = Block(0, ivif=Side(queries=False), mfif=Side())
        self.block2 = Block(WINDOW // 2, mfif=Side())
        self.share = nn.Parameter(torch.ones(1))
        self.unembed = conv(CHANNELS, CHANNELS)
        widths = (128, 64, 32, 16)
        layers = [
            nn.Sequential(conv(i, o), nn.ReLU(inplace=True))
            for i, o in zip(widths, widths[1:], strict=False)
        ]
        self.decoder = nn.Sequential(
            point(2 * CHANNELS, CHANNELS, bias=False),
            nn.ReLU(inplace=True),
            point(CHANNELS, widths[0], bias=False),
            *layers,
            conv(widths[-1], 1),
        )

    def branches(self, features: Tensor) -> Tensor:
        """Return the maps of the second branch, of features (B, 98, H, W) alike."""
        height, width = features.shape[-2:]
        padded = F.pad(features, (0, -width % 4, 0, -height % 4), mode="reflect")
        ivif, mfif = (_alone(self.embed[name], padded) for name in ("ivif", "mfif"))
        del padded
        ivif = self.block1("ivif", ivif, "mfif", mfif)
        mfif = self.block1("mfif", mfif, "mfif", mfif).addcmul_(ivif, self.share)
        del ivif
        mfif = self.block2("mfif", mfif, "mfif", mfif)
        return _alone(self.unembed, mfif)[..., :height, :width]

    def decode(self, features: Tensor, specific: Tensor) -> Tensor:
        """Return images (B, 1, H, W) in (0, 1) of both kinds of maps."""
        return torch.tanh(self.decoder(torch.cat([features, specific], dim=1))) / 2 + 0.5

    def forward(self, infrared: Tensor, visible: Tensor) -> Tensor:
        """Fuse images (B, 1, H, W) in [0, 1] to such."""
        features = in_bands(
            lambda a, b: self.shared(torch.cat([a, b], dim=1)), infrared, visible, reach=3
        )
        return in_bands(self.decode, features, self.branches(features), reach=4)

    @inference
    def fuse(self, infrared: np.ndarray, visible: np.ndarray) -> np.ndarray:
        """Fuse gray infrared (H, W) and gray or RGB visible uint8, to the visible image's kind.

        A colour image keeps its chroma by the authors' own conversion, from a truncated luma.
        """
        visible = images.check(visible, "visible")
        colour = visible.ndim == 3
        luma = _truncated_luma(visible) if colour else visible
        a, b = (planes(self, infrared, luma, smallest=5) / 255).split(1)
        levels = self(a, b) * 255
        if not colour:
            return to_uint8_floor(levels)
        y, (cb, cr) = levels[0, 0].cpu().numpy(), np.moveaxis(visible @ CHROMA.T, -1, 0)
        return images.with_chroma(y, np.stack([cb, cr], axis=-1))


def _truncated_luma(rgb: np.ndarray) -> np.ndarray:
    """Return Y (H, W) uint8, added in the authors' order, which decides where Y is whole."""
    red, green, blue = np.moveaxis(rgb.astype(np.float64), -1, 0)
    return (0.299 * red + 0.587 * green + 0.114 * blue).astype(np.uint8)


def _alone(layer: nn.Module, x: Tensor) -> Tensor:
    """Apply a 3 x 3 convolution band by band."""
    return in_bands(lambda band, _: layer(band), x, x, reach=1)


def from_torch(state: State) -> dict[str, Tensor]:
    """Name the tensors of the official file as :class:`GIFNet` does, without unused ones."""
    swin = r"extractor_multask\.SwinTransformerSpecific\."
    rules = {
        r"getSharedFeatures\.conv_1\.conv2d\.(\w+)": r"shared.0.0.\1",
        r"getSharedFeatures\.conv_2\.conv2d\.(\w+)": r"shared.1.0.\1",
        r"getSharedFeatures\.conv_3\.conv2d\.(\w+)": r"shared.2.0.\1",
        rf"{swin}patch_embed_(\w+)\.proj\.(\w+)": r"embed.\1.\2",
        rf"{swin}patch_unembed\.proj\.0\.(\w+)": r"unembed.\1",
        rf"{swin}layer1\.weights_mfif\.0": "share",
        r"cnnDecoder\.fuseComplementFeatures\.mlp\.(\d)\.weight": r"decoder.\1.weight",
        r"cnnDecoder\.decoder\.1\.(\w+)": r"decoder.3.0.\1",
        r"cnnDecoder\.decoder\.4\.(\w+)": r"decoder.4.0.\1",
        r"cnnDecoder\.decoder\.7\.(\w+)": r"decoder.5.0.\1",
        r"cnnDecoder\.decoder\.10\.(\w+)": r"decoder.6.\1",
    }
    for block, side, suffix in ((0, "ivif", ""), (0, "mfif", "_mfif"), (1, "mfif", "_mfif")):
        theirs, ours = rf"{swin}layer1\.blocks\.{block}\.", f"block{block + 1}."
        own = f"{ours}sides.{side}."
        rules |= {
            rf"{theirs}norm1{suffix}\.(weight|bias)": rf"{own}norm.\1",
            rf"{theirs}norm1{suffix}\.meta1\.(\w+)": rf"{own}norm.rescale.\1",
            rf"{theirs}norm1{suffix}\.meta2\.(\w+)": rf"{own}norm.rebias.\1",
            rf"{theirs}attn\.conv{suffix}\.(\w+)": rf"{own}local.\1",
            rf"{theirs}attn\.V{suffix}\.(\w+)": rf"{own}value.\1",
            rf"{theirs}attn\.QK{suffix}\.(\w+)": rf"{own}both.\1",
            rf"{theirs}attn\.proj{suffix}\.(\w+)": rf"{own}proj.\1",
            rf"{theirs}mlp{suffix}\.mlp\.(\d)\.(\w+)": rf"{own}mlp.\1.\2",
            rf"{theirs}attn\.attn\.meta\.(\d)\.(\w+)": rf"{ours}positions.\1.\2",
        }
    dead = (
        r"decoder_rec\..*|.*\.relative_positions|.*\.weights\.\d|.*\.weights_mfif\.1"
        r"|.*\.blocks\.1\.(?!.*_mfif|attn\.attn).*"
    )
    tensors = renamed(state, rules, dead)
    for name in [name for name in tensors if ".both." in name]:
        query, key = tensors.pop(name).chunk(2)
        tensors[name.replace("both", "key")] = key
        if "ivif" not in name:
            tensors[name.replace("both", "query")] = query
    return tensors
