"""DenseFuse: dense encoder, addition or l1-norm fusion, decoder (Li & Wu, IEEE TIP 28(5), 2019).

Two official programs exist, with two sets of weights that cannot be exchanged; the flavour decides
all of this:

================== =============================== ==========================================
                   tensorflow (the paper's)        torch (its author: for reference only)
================== =============================== ==========================================
dense block        new maps before the old ones    old maps before the new ones
last convolution   linear                          followed by ReLU
"addition"         sum of both feature maps        their mean, whatever strategy is asked for
output             stretched from its own minimum  clamped to 0..255, truncated
                   and maximum, rounded
================== =============================== ==========================================

Input is gray on the 0..255 scale, any size. What paper and released code do not share: the paper
averages the l1-norm over 3 x 3 blocks before weighting, the code weights each pixel alone; the
released test script resizes to 256 x 256 and saves the picture transposed, while all published
images have the full size and are upright, and so are these.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
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
    to_uint8_floor,
    to_uint8_round,
)


class DenseFuse(nn.Module):
    """Encoder (conv1, dense block: 64 maps), fusion, decoder (conv2 to conv5).

    Parameters
    ----------
    flavour : "tensorflow" or "torch"
        Which of the two official programs, see the module's table.
    strategy : "addition" or "l1"
        How features are fused; the torch flavour knows only "addition".
    channels : 1 or 3
        Planes of the image; 3 is the torch flavour for colour.
    """

    def __init__(self, flavour: str = "tensorflow", strategy: str = "addition", channels: int = 1):
        super().__init__()
        if (flavour, strategy) not in (
            ("tensorflow", "addition"),
            ("tensorflow", "l1"),
            ("torch", "addition"),
        ):
            raise ValueError(
                "flavour, strategy: expected 'tensorflow' with 'addition' or 'l1', or 'torch' with "
                f"'addition', got {flavour!r} with {strategy!r}"
            )
        self.tensorflow, self.strategy, self.channels = flavour == "tensorflow", strategy, channels
        self.conv1 = conv(channels, 16)
        steps = [nn.Sequential(conv(c, 16), nn.ReLU(inplace=True)) for c in (16, 32, 48)]
        self.dense = DenseBlock(steps, new_first=self.tensorflow)
        self.conv2, self.conv3, self.conv4 = conv(64, 64), conv(64, 32), conv(32, 16)
        self.conv5 = conv(16, channels)

    def encode(self, x: Tensor) -> Tensor:
        """Return the features (B, 64, H, W) of images (B, channels, H, W) on the 0..255 scale."""
        return self.dense(F.relu_(self.conv1(x)))

    def merge(self, a: Tensor, b: Tensor) -> Tensor:
        """Fuse two feature maps of one shape."""
        if self.strategy == "l1":
            # The l1-norm strategy, without its block average: C_k = ||phi_k||_1, w_k = C_k / (C_1 +
            # C_2)
            l1_a, l1_b = a.abs().sum(1, keepdim=True), b.abs().sum(1, keepdim=True)
            # ASSUMPTION: where DenseFuse's l1-norm weights are 0/0, both features are zero, and so
            # is the fused feature.
            return (l1_a * a + l1_b * b) / (l1_a + l1_b).clamp_min(torch.finfo(a.dtype).tiny)
        # The addition strategy: the sum; the torch program halves it.
        return a + b if self.tensorflow else (a + b) / 2

    def decode(self, features: Tensor) -> Tensor:
        """Return images (B, channels, H, W)."""
        x = F.relu_(self.conv4(F.relu_(self.conv3(F.relu_(self.conv2(features))))))
        return self.conv5(x) if self.tensorflow else F.relu_(self.conv5(x))

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return self.decode(self.merge(self.encode(a), self.encode(b)))

    @inference
    def fuse(self, infrared: np.ndarray, visible: np.ndarray) -> np.ndarray:
        """Fuse two gray uint8 images (H, W) to one."""
        pair = planes(self, infrared, visible, smallest=2).expand(-1, self.channels, -1, -1)
        a, b = pair.split(1)
        fused = in_bands(self, a, b, reach=8)
        if self.tensorflow:
            return to_uint8_round(min_max_scale(fused))
        # ASSUMPTION: DenseFuse's colour network on gray images is read as gray by the luma of its
        # three output channels.
        luma = torch.tensor(
            [0.299, 0.587, 0.114] if self.channels == 3 else [1.0], device=fused.device
        )
        return to_uint8_floor((fused.clamp(0, 255) * luma[:, None, None]).sum(1, keepdim=True))


def from_tensorflow(state: State) -> dict[str, Tensor]:
    """Name and order the tensors of the TensorFlow checkpoint as :class:`DenseFuse` does."""
    rules: dict[str, str] = {}
    for ours, official in [
        ("conv1", "encoder/conv1_1"),
        ("dense.0.0", "encoder/dense_block_conv1"),
        ("dense.1.0", "encoder/dense_block_conv2"),
        ("dense.2.0", "encoder/dense_block_conv3"),
        *((f"conv{i + 1}", f"decoder/conv2_{i}") for i in range(1, 5)),
    ]:
        rules |= {f"{official}/kernel": f"{ours}.weight", f"{official}/bias": f"{ours}.bias"}
    return {name: from_hwio(value) for name, value in renamed(state, rules).items()}


def from_torch(state: State) -> dict[str, Tensor]:
    """Name the tensors of the PyTorch checkpoint as :class:`DenseFuse` does."""
    return renamed(
        state,
        {
            r"(conv\d)\.conv2d\.(\w+)": r"\1.\2",
            r"DB1\.denseblock\.(\d)\.dense_conv\.conv2d\.(\w+)": r"dense.\1.0.\2",
        },
    )
