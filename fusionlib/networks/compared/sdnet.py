"""SDNet: squeeze and decomposition (Zhang & Ma, IJCV 129, 2021).

The half of the network that takes the fused image apart again is for training alone and left out.

How a file is read decides some gray levels: the program turns it to PIL's YCbCr. A gray file stays
as it is; of a file that is RGB with equal channels, as those of TNO are, 22 of the 256 levels come
out one lower. The published images of TNO were made that way; read as gray, the fused ones differ
from them by up to 3 levels.
"""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from .layers import (
    DenseBlock,
    State,
    conv,
    from_hwio,
    in_bands,
    inference,
    min_max_scale,
    planes,
    renamed,
    to_uint8_round,
)

MAPS, LAYERS = 16, 4
MODALITIES = {"infrared": "ir", "visible": "vi"}  # our names and the file's


def levels_as_rgb() -> np.ndarray:
    """Return what each gray level becomes in an RGB file that is read as PIL's YCbCr, (256,)."""
    gray = Image.fromarray(np.arange(256, dtype=np.uint8)[None])
    return np.array(gray.convert("RGB").convert("YCbCr"))[0, :, 0]


def leaky(channels_in: int, kernel: int = 3) -> nn.Sequential:
    """Convolution to 16 maps with a leaky ReLU of slope 0.2."""
    layer = conv(channels_in, MAPS, kernel, border="zeros")
    return nn.Sequential(layer, nn.LeakyReLU(0.2, inplace=True))


class SDNet(nn.Module):
    """Two dense encoders of one form, and a linear mix of all their maps.

    Parameters
    ----------
    file : "rgb" or "gray"
        Which kind of image files the levels are taken from, see the module's text.
    """

    def __init__(self, file: str = "rgb"):
        super().__init__()
        if file not in ("rgb", "gray"):
            raise ValueError(f"file: expected 'rgb' or 'gray', got {file!r}")
        self.rgb = file == "rgb"
        self.stems = nn.ModuleDict({name: leaky(1, kernel=5) for name in MODALITIES})
        self.dense = nn.ModuleDict(
            {name: DenseBlock([leaky(k * MAPS) for k in range(1, LAYERS)]) for name in MODALITIES}
        )
        self.mix = nn.Conv2d(2 * LAYERS * MAPS, 1, 1)

    def forward(self, infrared: Tensor, visible: Tensor) -> Tensor:
        """Fuse images (B, 1, H, W) in [-1, 1] to such."""
        maps = [
            self.dense[name](self.stems[name](x))
            for name, x in zip(MODALITIES, (infrared, visible), strict=True)
        ]
        return torch.tanh(self.mix(torch.cat(maps, dim=1)))

    @inference
    def fuse(self, infrared: np.ndarray, visible: np.ndarray) -> np.ndarray:
        """Fuse two gray uint8 images (H, W) to one."""
        pair = planes(self, infrared, visible)
        if self.rgb:
            pair = torch.from_numpy(levels_as_rgb()).to(pair)[pair.long()]
        a, b = ((pair - 127.5) / 127.5).split(1)
        return to_uint8_round(min_max_scale(in_bands(self, a, b, reach=5) * 127.5 + 127.5))


def from_tensorflow(state: State) -> dict[str, Tensor]:
    """Name and order the tensors of the TensorFlow checkpoint as :class:`SDNet` does."""
    rules = {}
    for part, ours in (("w", "weight"), ("b", "bias")):
        for name, theirs in MODALITIES.items():
            for n in range(1, LAYERS + 1):
                layer = f"stems.{name}" if n == 1 else f"dense.{name}.{n - 2}"
                official = f"fusion_model/layer{n}_{theirs}/{part}{n}_{theirs}"
                rules[official] = f"{layer}.0.{ours}"
        rules[f"fusion_model/layer5_fuse/{part}5_fuse"] = f"mix.{ours}"
    tensors = renamed(state, rules, dead=r"fusion_model/layer[6-9]_.*")
    # The file mixes 1ir, 1vi, 2ir, 2vi ...; here all maps of infrared come before those of visible.
    weight = from_hwio(tensors["mix.weight"]).unflatten(1, (LAYERS, 2, MAPS))
    tensors["mix.weight"] = weight.transpose(1, 2).flatten(1, 3)
    return {
        name: value if name.startswith("mix") else from_hwio(value)
        for name, value in tensors.items()
    }
