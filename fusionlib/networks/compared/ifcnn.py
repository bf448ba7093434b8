"""IFCNN: frozen ResNet features, elementwise fusion, decoder (Zhang et al., Inf. Fusion 54, 2020).

The network works on three channels; gray is repeated. One choice moves the result by up to 23 gray
levels on average and the paper does not settle it: the released script for infrared and visible
feeds the images in [0, 1] as they are, while the paper's own result images (and those of
third-party comparisons) need the ImageNet mean and deviation. Both are variants, the latter first.

The authors use the maximum for infrared and visible images. Their published images for the mean
could be reproduced under neither normalisation (mean difference 0.6 to 6.8 gray levels); those for
maximum and sum could. How the network was trained is not released.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .layers import State, conv, in_bands, inference, planes, renamed, to_uint8_round

RULES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "max": torch.maximum,
    "sum": torch.add,
    "mean": lambda a, b: (a + b) / 2,
}


class Unit(nn.Module):
    """Convolution without bias, batch norm, ReLU."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv = conv(channels, channels, border="replicate", bias=False)
        self.bn = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu_(self.bn(self.conv(x)))


class IFCNN(nn.Module):
    """Extract (conv1: 7 x 7, linear; conv2), fuse, reconstruct (conv3; conv4: 1 x 1, linear).

    Parameters
    ----------
    rule : "max", "sum" or "mean"
        How features are fused.
    imagenet : bool
        Whether images are normalised by ImageNet's mean and deviation, and the output taken back.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, rule: str = "max", imagenet: bool = True):
        super().__init__()
        if rule not in RULES:
            raise ValueError(f"rule: expected one of {', '.join(RULES)}, got {rule!r}")
        self.rule = rule
        mean, deviation = torch.zeros(3), torch.ones(3)
        if imagenet:
            mean, deviation = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])
        self.register_buffer("mean", mean[:, None, None], persistent=False)
        self.register_buffer("deviation", deviation[:, None, None], persistent=False)
        self.conv1 = conv(3, 64, 7, border="replicate", bias=False)
        self.conv2, self.conv3 = Unit(64), Unit(64)
        self.conv4 = nn.Conv2d(64, 3, 1)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Fuse images (B, 3, H, W) in [0, 1]; the output is not clamped."""
        features = [self.conv2(self.conv1((x - self.mean) / self.deviation)) for x in (a, b)]
        fused = self.conv4(self.conv3(RULES[self.rule](*features)))
        return fused * self.deviation + self.mean

    @inference
    def fuse(self, infrared: np.ndarray, visible: np.ndarray) -> np.ndarray:
        """Fuse two gray uint8 images (H, W) to one."""
        a, b = (planes(self, infrared, visible) / 255).expand(-1, 3, -1, -1).split(1)
        # The authors truncate each channel to 8 bits, then read the colour image as gray: two
        # roundings, kept as they are.
        rgb = (in_bands(self, a, b, reach=5).clamp(0, 1) * 255).floor()
        thousandths = torch.tensor([299.0, 587.0, 114.0], device=rgb.device)[:, None, None]
        return to_uint8_round((rgb * thousandths).sum(1, keepdim=True) / 1000)


def from_torch(state: State) -> dict[str, Tensor]:
    """Return the authors' names as they are, and batch counters, which the files lack."""
    counters = {f"conv{i}.bn.num_batches_tracked": torch.tensor(0) for i in (2, 3)}
    return counters | renamed(state, {r"(conv[1-4]\.[\w.]+)": r"\1"})
