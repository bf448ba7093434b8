"""U2Fusion: one network for infrared, exposure and focus (Xu et al., IEEE TPAMI 44(1), 2022).

Two programs with the same weights give different images, and no table says which it took:

=============== ============================== ================================
                benchmark                      author
=============== ============================== ================================
order           infrared, visible              visible, infrared
output          stretched from its own minimum scaled so that its own maximum
                and maximum                    is 255
=============== ============================== ================================

The 42 published images of TNO are the benchmark's; the author's test program is 17 to 34 gray
levels away from them on average. The order alone changes 3 to 7: the network is not symmetric.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .layers import (
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

GROWTH, STEPS = 44, 5


def leaky(convolution: nn.Conv2d) -> nn.Sequential:
    """Convolution with a leaky ReLU of slope 0.2."""
    return nn.Sequential(convolution, nn.LeakyReLU(0.2, inplace=True))


def reflected(x: Tensor) -> Tensor:
    """Return maps with a border of one pixel that mirrors them."""
    return F.pad(x, (1, 1, 1, 1), mode="reflect")


class U2Fusion(nn.Module):
    """Dense block over both images, four convolutions.

    Each map gets its border once, not again in front of every convolution that reads it.

    Parameters
    ----------
    flavour : "benchmark" or "author"
        Which of the two programs, see the module's table.
    """

    def __init__(self, flavour: str = "benchmark"):
        super().__init__()
        if flavour not in ("benchmark", "author"):
            raise ValueError(f"flavour: expected 'benchmark' or 'author', got {flavour!r}")
        self.author = flavour == "author"
        self.stem = leaky(conv(2, GROWTH))
        self.dense = nn.ModuleList(
            leaky(nn.Conv2d(GROWTH * k, GROWTH, 3)) for k in range(1, STEPS + 1)
        )
        self.decoder = nn.Sequential(
            leaky(nn.Conv2d(GROWTH * (STEPS + 1), 128, 3)),
            leaky(conv(128, 64)),
            leaky(conv(64, 32)),
            conv(32, 1),
        )

    def forward(self, infrared: Tensor, visible: Tensor) -> Tensor:
        """Fuse images (B, 1, H, W) in [0, 1] to such."""
        x = torch.cat([visible, infrared] if self.author else [infrared, visible], dim=1)
        maps = reflected(self.stem(x))
        for step in self.dense:
            maps = torch.cat([reflected(step(maps)), maps], dim=1)
        return torch.tanh(self.decoder(maps)) / 2 + 0.5

    @inference
    def fuse(self, infrared: np.ndarray, visible: np.ndarray) -> np.ndarray:
        """Fuse two gray uint8 images (H, W) to one."""
        a, b = (planes(self, infrared, visible, smallest=2) / 255).split(1)
        fused = in_bands(self, a, b, reach=10)
        return to_uint8_round(fused / fused.max() * 255 if self.author else min_max_scale(fused))


def from_tensorflow(state: State) -> dict[str, Tensor]:
    """Name and order the tensors of the TensorFlow checkpoint as :class:`U2Fusion` does."""
    ours = {
        "Generator/encoder/conv1_1": "stem.0",
        **{f"Generator/encoder/dense_block_conv{k + 1}": f"dense.{k}.0" for k in range(STEPS)},
        **{f"Generator_1/decoder/conv2_{k + 1}": f"decoder.{k}.0" for k in range(3)},
        "Generator_1/decoder/conv2_4": "decoder.3",
    }
    rules: dict[str, str] = {}
    for official, name in ours.items():
        rules |= {f"{official}/kernel": f"{name}.weight", f"{official}/bias": f"{name}.bias"}
    return {name: from_hwio(value) for name, value in renamed(state, rules).items()}
