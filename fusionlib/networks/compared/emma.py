"""EMMA: equivariant fusion (Zhao et al., CVPR 2024).

The pseudo-sensing networks of its training are not needed to fuse. With eight heads on eight
channels the softmax of the outermost blocks runs over one value: queries, keys and scale have no
effect there.

Images whose sides are no multiples of 32 are fused as four overlapping corner parts that are, each
with an attention of its own; the seams differ a little in tone. Below 32 pixels the authors'
script fails.

The weights could not be had here; the structure is checked with generated ones.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .cddfuse import Block, base_rules
from .layers import State, conv, inference, min_max_scale, planes, renamed, to_uint8_round

WIDTHS = (8, 16, 32, 32)
MULTIPLE = 32


class Residual(nn.Module):
    """Two convolutions with a ReLU between, added."""

    def __init__(self, channels: int):
        super().__init__()
        self.layers = nn.Sequential(
            conv(channels, channels), nn.ReLU(inplace=True), conv(channels, channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x).add_(x)


class Stage(nn.Module):
    """Embedding, then attention among channels beside two residual units, and one layer on both."""

    def __init__(self, channels_in: int, channels: int):
        super().__init__()
        self.embed = conv(channels_in, channels, bias=False)
        self.far = Block(channels, full=True, border="reflect")
        self.near = nn.Sequential(Residual(channels), Residual(channels))
        self.both = conv(2 * channels, channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        return self.both(torch.cat([self.far(x), self.near(x)], dim=1))


class Encoder(nn.Module):
    """Stages of one image, each but the last halved for the next."""

    def __init__(self) -> None:
        super().__init__()
        before = (1, *WIDTHS)
        self.stages = nn.ModuleList([Stage(i, o) for i, o in zip(before, WIDTHS, strict=False)])
        self.down = nn.ModuleList(
            [
                nn.Conv2d(c, c, 3, stride=2, padding=1, padding_mode="reflect", bias=False)
                for c in WIDTHS[:-1]
            ]
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = [self.stages[0](x)]
        for down, stage in zip(self.down, list(self.stages)[1:], strict=True):
            maps.append(stage(down(maps[-1])))
        return maps


class EMMA(nn.Module):
    """Two U-shaped encoders, a stage that fuses each scale, and the way up."""

    def __init__(self) -> None:
        super().__init__()
        self.infrared, self.visible = Encoder(), Encoder()
        self.merge = nn.ModuleList([Stage(2 * c, c) for c in WIDTHS])
        self.up = nn.ModuleList(
            [
                nn.ConvTranspose2d(i, o, 4, stride=2, padding=1, bias=False)
                for i, o in zip(WIDTHS[1:], WIDTHS, strict=False)
            ]
        )
        self.decode = nn.ModuleList([*(Stage(2 * c, c) for c in WIDTHS[:-1]), Stage(32, 32)])
        self.last = conv(WIDTHS[0], 1)

    def forward(self, infrared: Tensor, visible: Tensor) -> Tensor:
        """Fuse images (B, 1, H, W) in [0, 1], sides multiples of 32, to such."""
        scales = zip(self.infrared(infrared), self.visible(visible), strict=True)
        merged = [
            merge(torch.cat(maps, dim=1)) for merge, maps in zip(self.merge, scales, strict=True)
        ]
        x = self.decode[3](merged[3])
        for k in (2, 1, 0):
            x = self.decode[k](torch.cat([F.relu_(self.up[k](x)), merged[k]], dim=1))
        return torch.sigmoid(self.last(x))

    def in_corners(self, a: Tensor, b: Tensor) -> Tensor:
        """Fuse images (B, 1, H, W) of any size from 32 on, by parts at the corners."""
        height, width = a.shape[-2:]
        rest_h, rest_w = height % MULTIPLE, width % MULTIPLE
        fused = torch.empty_like(a)
        # The later parts only fill what the first leaves free at the right and below.
        for top in {0: None, rest_h: None}:
            for left in {0: None, rest_w: None}:
                rows = slice(top, height - rest_h + top)
                columns = slice(left, width - rest_w + left)
                part = self(a[..., rows, columns], b[..., rows, columns])
                free_rows = slice(height - rest_h if top else 0, rows.stop)
                free_columns = slice(width - rest_w if left else 0, columns.stop)
                fused[..., free_rows, free_columns] = part[
                    ..., free_rows.start - top :, free_columns.start - left :
                ]
        return fused

    @inference
    def fuse(self, infrared: np.ndarray, visible: np.ndarray) -> np.ndarray:
        """Fuse two gray uint8 images (H, W), infrared first, to one."""
        a, b = (planes(self, infrared, visible, smallest=MULTIPLE) / 255).split(1)
        # ASSUMPTION: the old imageio of the authors' script rounded halves down; here, to even.
        return to_uint8_round(min_max_scale(self.in_corners(a, b)))


def from_torch(state: State) -> dict[str, Tensor]:
    """Name the tensors of the official file as :class:`EMMA` does."""
    stages = {f"f_{k + 1}": f"merge.{k}" for k in range(4)}
    stages |= {f"de_{k + 1}": f"decode.{k}" for k in range(4)}
    rules = {
        r"last\.0\.(\w+)": r"last.\1",
        **{rf"up{k + 2}\.0\.weight": f"up.{k}.weight" for k in range(3)},
    }
    for letter, image in (("I", "infrared"), ("V", "visible")):
        stages |= {f"{letter}_en_{k + 1}": f"{image}.stages.{k}" for k in range(4)}
        rules |= {f"{letter}_down{k + 1}.weight": f"{image}.down.{k}.weight" for k in range(3)}
    for theirs, ours in stages.items():
        unit = rf"{theirs}\.LocalFeature\.Extraction\.(\d)\.conv\.(\d)\.(\w+)"
        rules |= {
            rf"{theirs}\.embed\.weight": f"{ours}.embed.weight",
            rf"{theirs}\.FFN\.weight": f"{ours}.both.weight",
            unit: rf"{ours}.near.\1.layers.\2.\3",
            **base_rules(rf"{theirs}\.GlobalFeature\.", f"{ours}.far"),
        }
    return renamed(state, rules)
