"""PIAFusion: fusion by an exchange of complements (Tang et al., Inf. Fusion 83, 2022).

Two programs: the authors' in TensorFlow and a port to PyTorch by others. Their weights cannot be
exchanged, since the port differs in four places, each of which changes the output:

================ ======================================== ======================================
                 tensorflow (the authors')                torch (the port)
================ ======================================== ======================================
encoder          3 x 3 convolutions shared by both images separate ones
leaky ReLU       slope 0.2                                slope 0.01
exchange         amplifies the difference of the features adds the complement of the other image
luma             of studio range with 0.564 for green     Y of JPEG
================ ======================================== ======================================

The sign of the exchange: with d = other - own, the paper describes adding what the other image has
and the own one lacks. The released TensorFlow graph moves the visible feature away from the
infrared one, v + sigmoid(-g) (v - i), and a comment in its source doubts the sign; the port moves
towards it. 0.564 stands where the standard conversion to YCbCr has 0.504: a gray image becomes
about 7 % brighter. Facts were taken from the graph file that belongs to the published weights, not
from the later source.

The illumination classifier (:class:`Illumination`) only weighs the training loss; fusing does not
use it. Its leaky slope is 0.1 in the graph it was trained in and 0.2 in the graph that used it for
training the fusion network.
"""

from __future__ import annotations

from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ... import images
from .layers import State, conv, from_hwio, inference, planes, renamed

WIDTHS = (16, 16, 32, 64, 128)  # maps after the first convolution and after each of the four stages

# Rows Y, Cb, Cr from R, G, B in [0, 1], offsets in 1/255; and rows R, G, B from what is left
# without the offsets.
STUDIO = (
    np.array([[0.257, 0.564, 0.098], [-0.148, -0.291, 0.439], [0.439, -0.368, -0.071]]),
    np.array([16, 128, 128]),
    np.array([[1.164, 0, 1.596], [1.164, -0.392, -0.813], [1.164, 2.017, 0]]),
)


class PIAFusion(nn.Module):
    """Two encoders with an exchange after each of the first three stages, one decoder.

    Parameters
    ----------
    flavour : "tensorflow" or "torch"
        The authors' program or the port, see the module's table.
    """

    def __init__(self, flavour: str = "tensorflow"):
        super().__init__()
        if flavour not in ("tensorflow", "torch"):
            raise ValueError(f"flavour: expected 'tensorflow' or 'torch', got {flavour!r}")
        self.tensorflow = flavour == "tensorflow"
        self.slope, self.sign = (0.2, -1) if self.tensorflow else (0.01, 1)
        self.first = nn.ModuleDict(
            {"infrared": nn.Conv2d(1, WIDTHS[0], 1), "visible": nn.Conv2d(1, WIDTHS[0], 1)}
        )
        # The authors name these kernels 5x5; they are 1x1.
        self.stages = nn.ModuleDict(
            {
                name: nn.ModuleList([conv(i, o) for i, o in zip(WIDTHS, WIDTHS[1:], strict=False)])
                for name in (("shared",) if self.tensorflow else ("infrared", "visible"))
            }
        )
        self.decoder = nn.ModuleList(
            [conv(i, o) for i, o in ((256, 256), (256, 128), (128, 64), (64, 32))]
        )
        self.last = nn.Conv2d(32, 1, 1)

    def exchange(self, infrared: Tensor, visible: Tensor) -> tuple[Tensor, Tensor]:
        """Cross-modality differential aware fusion; the sign is the flavour's."""
        # d = F_ir - F_vi, g = GAP(d). Port: F_vi + sigmoid(g) d, F_ir - sigmoid(-g) d. TensorFlow:
        # both signs turned.
        difference = infrared - visible
        mean = difference.mean((2, 3), keepdim=True)
        return (
            infrared - self.sign * torch.sigmoid(-mean) * difference,
            visible + self.sign * torch.sigmoid(mean) * difference,
        )

    def forward(self, infrared: Tensor, luma: Tensor) -> Tensor:
        """Fuse the infrared image and the visible luma, (B, 1, H, W) in [0, 1], to the same."""

        def leaky(x: Tensor) -> Tensor:
            return F.leaky_relu_(x, self.slope)

        i, v = leaky(self.first["infrared"](infrared)), leaky(self.first["visible"](luma))
        stages_i = self._stages("infrared")
        stages_v = self._stages("visible")
        for k, (stage_i, stage_v) in enumerate(zip(stages_i, stages_v, strict=True)):
            i, v = leaky(stage_i(i)), leaky(stage_v(v))
            if k < 3:
                i, v = self.exchange(i, v)
        x = torch.cat([v, i], dim=1)
        for layer in self.decoder:
            x = leaky(layer(x))
        return torch.tanh(self.last(x)) / 2 + 0.5

    def _stages(self, modality: str) -> nn.ModuleList:
        return cast(nn.ModuleList, self.stages["shared" if self.tensorflow else modality])

    @inference
    def fuse(self, infrared: np.ndarray, visible: np.ndarray) -> np.ndarray:
        """Fuse gray infrared (H, W) and gray or RGB visible uint8, to the visible image's kind.

        A colour image keeps its chroma by the flavour's own conversion; elsewhere in the suite
        chroma is that of JPEG.
        """
        visible = images.check(visible, "visible")
        pair = planes(self, infrared, images.luma(visible), smallest=2)

        def fused(luma: np.ndarray) -> np.ndarray:
            y = torch.from_numpy(luma).to(pair)[None, None]
            return self(pair[:1] / 255, y)[0, 0].cpu().numpy().astype(np.float64)

        if self.tensorflow:
            to_ycbcr, offset, to_rgb = STUDIO
            # For gray v this is Y = 0.919 v + 16/255 and chroma without a cast.
            rgb = visible if visible.ndim == 3 else np.repeat(visible[..., None], 3, axis=2)
            ycbcr = (rgb @ to_ycbcr.T + offset) / 255
            ycbcr[..., 0] = fused(ycbcr[..., 0])
            rgb = images.to_uint8((ycbcr - offset / 255) @ to_rgb.T * 255, "fused")
            return rgb if visible.ndim == 3 else rgb[..., 0]
        luma = fused(images.luma(visible) / np.float32(255))
        levels = images.to_uint8(np.floor(luma.clip(0, 1) * 255), "fused")
        # ASSUMPTION: a colour image of PIAFusion's PyTorch port gets its chroma back by the JPEG
        # conversion; the port's constants are the same to three digits.
        return images.with_chroma(levels, images.chroma(visible)) if visible.ndim == 3 else levels


class Illumination(nn.Module):
    """Illumination classifier: day and night scores (B, 2) of RGB images (B, 3, H, W) in [0, 1].

    The loss weights are w_vi = day / (day + night), w_ir = 1 - w_vi. ``flavour`` as in
    :class:`PIAFusion`.
    """

    def __init__(self, flavour: str = "tensorflow"):
        super().__init__()
        self.tensorflow = flavour == "tensorflow"
        self.slope = 0.1 if self.tensorflow else 0.01
        widths = (3, *WIDTHS[1:])
        self.convs = nn.ModuleList(
            [
                nn.Conv2d(i, o, 4, stride=2, padding=1, padding_mode="reflect")
                for i, o in zip(widths, widths[1:], strict=False)
            ]
        )
        self.linear1, self.linear2 = nn.Linear(128, 128), nn.Linear(128, 2)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.convs:
            x = F.leaky_relu(layer(x), self.slope)
        scores = self.linear2(self.linear1(x.mean((2, 3))))
        return scores.abs() if self.tensorflow else F.relu(scores)


def from_tensorflow(state: State) -> dict[str, Tensor]:
    """Name and order the tensors of the authors' checkpoint as :class:`PIAFusion` does.

    Those of the classifier are ignored.
    """
    ours = {
        "encoder/conv5x5_ir": "first.infrared",
        "encoder/conv5x5_vi": "first.visible",
        "decoder/conv1x1": "last",
        **{f"encoder/Conv{k + 1}/conv3x3": f"stages.shared.{k}" for k in range(4)},
        **{f"decoder/conv{k + 1}": f"decoder.{k}" for k in range(4)},
    }
    rules = {}
    for official, name in ours.items():
        rules[f"PIAFusion/{official}/kernel"] = f"{name}.weight"
        rules[f"PIAFusion/{official}/bias"] = f"{name}.bias"
    tensors = renamed(state, rules, dead=r"(?!PIAFusion/).*")
    return {name: from_hwio(value) for name, value in tensors.items()}


def from_torch(state: State) -> dict[str, Tensor]:
    """Name the tensors of the port's checkpoint as :class:`PIAFusion` does."""
    rules = {}
    for official, ours in (("ir", "infrared"), ("vi", "visible")):
        rules[rf"encoder\.{official}_conv1\.(\w+)"] = rf"first.{ours}.\1"
        rules |= {
            rf"encoder\.{official}_conv{k + 2}\.conv\.1\.(\w+)": rf"stages.{ours}.{k}.\1"
            for k in range(4)
        }
    rules |= {rf"decoder\.conv{k + 1}\.conv\.1\.(\w+)": rf"decoder.{k}.\1" for k in range(4)}
    return renamed(state, rules | {r"decoder\.conv5\.(?:conv\.)?(\w+)": r"last.\1"})


def classifier_from_tensorflow(state: State) -> dict[str, Tensor]:
    """Name and order the tensors of the authors' classifier as :class:`Illumination` does."""
    owner = "classifier/Classifier"
    rules = {f"{owner}/conv{k + 1}/(kernel|bias)": rf"convs.{k}.\1" for k in range(4)}
    rules[f"{owner}/dense/(kernel|bias)"] = r"linear1.\1"
    rules[f"{owner}/dense_1/(kernel|bias)"] = r"linear2.\1"
    tensors = renamed(state, rules)
    return {name.replace("kernel", "weight"): from_hwio(value) for name, value in tensors.items()}


def classifier_from_torch(state: State) -> dict[str, Tensor]:
    """Name the tensors of the port's illumination classifier as :class:`Illumination` does."""
    return renamed(
        state,
        {
            **{rf"conv{k + 1}\.conv\.1\.(\w+)": rf"convs.{k}.\1" for k in range(4)},
            r"(linear[12]\.\w+)": r"\1",
        },
    )
