"""What stands around the mixtures of MoE-Fusion: its two readings, its encoders, its attention, the official names.

Source: Cao et al., ICCV 2023, section 3 and its official code; see :mod:`fusionlib.networks.moe_fusion`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .convolution import Conv, LineBuffer, blank, inner, joined, padded, plain, strip_rows
from .experts import Expert


class Reading(NamedTuple):
    """What distinguishes the two readings of the network; the losses have theirs in ``fusionlib.losses``."""

    mirror: bool  # border of the 3x3 convolutions: mirrored, or zero
    dense_relu: bool  # ReLU after every convolution of the encoders, or after the first alone
    combine: str  # of the experts
    attention_convs: bool  # two convolutions before the maximum of the attention maps
    random_gate: bool  # start of the gates: random, or zero


READINGS = {
    # ASSUMPTION: the paper names no padding; its encoders follow DenseFuse, which mirrors the border, and here every
    # 3x3 convolution does.
    "paper": Reading(True, True, "sum", True, True),
    "official": Reading(False, False, "log-sum-exp", False, False),
}


class Encoder(nn.Module):
    """One convolution and three densely connected ones ("follows" DenseFuse), C channels each."""

    def __init__(self, inputs: int, width: int, reading: Reading):
        super().__init__()
        self.layers = nn.ModuleList(Conv(i, width, reading.mirror) for i in (inputs, width, 2 * width, 3 * width))
        self.dense_relu = reading.dense_relu

    def forward(self, image: Tensor) -> list[Tensor]:
        """Return x_dense in four pieces (B, C, H, W), one a layer; the last is x_enc."""
        if not plain(image):
            return self._in_strips(image)
        pieces = [self.layers[0](image).relu_()]
        for layer in self.layers[1:]:
            y = layer(joined(pieces))
            pieces.append(y.relu_() if self.dense_relu else y)
        return pieces

    def _in_strips(self, image: Tensor) -> list[Tensor]:
        """Compute the same strip by strip, each layer as far as the rows before it reach."""
        height, mirror = image.shape[2], self.layers[0].mirror
        strip = strip_rows(image, sum(layer.out_channels for layer in self.layers))
        maps = [blank(image, layer.out_channels, height) for layer in self.layers]
        # A sum of convolutions costs no more than one of the joined pieces, and the joined copy is saved.
        kernels = [[inner(kernel) for kernel in layer.weight.chunk(max(number, 1), dim=1)]
                   for number, layer in enumerate(self.layers)]
        for b, source in enumerate(padded(image, mirror).split(1)):
            own = [lines[b:b + 1] for lines in maps]
            buffers = [LineBuffer(lines, mirror) for lines in own]
            for top in range(0, height, strip):
                last = top + strip >= height
                for number, (layer, buffer) in enumerate(zip(self.layers, buffers, strict=True)):
                    rows = slice(buffer.end - 1, height + 2 if last else top + strip - number + 2)
                    bias, y = layer.bias, 0
                    for lines, kernel in zip(own[:number] or [source], kernels[number], strict=True):
                        y, bias = F.conv2d(lines[:, :, rows], kernel, bias).add_(y), None
                    buffer.push([y], last, relu=self.dense_relu or not number)
        return [lines[:, :, 1:-1, 1:-1] for lines in maps]


class Attention(nn.Module):
    """Att from the two maps of the detectors: two convolutions, sigmoid, maximum (section 3.2).

    ASSUMPTION: sizes and start of these convolutions are not given: 2 -> 16 -> 2 channels, ReLU between, on the
    logits of the maps, and started as the identity, so that training begins with Att = max(Att_V, Att_I).
    """

    HIDDEN, MARGIN = 16, 1e-4

    def __init__(self, mirror: bool):
        super().__init__()
        self.convs = Expert((2, self.HIDDEN, 2), mirror)

    def start_as_identity(self) -> None:
        """x = relu(x) - relu(-x) for either map; the other hidden channels start unused."""
        first, last = self.convs.layers
        with torch.no_grad():
            for parameter in (last.weight, last.bias):
                parameter.zero_()
            first.weight[:4] = 0
            first.bias[:4] = 0
            for channel, (source, sign) in enumerate(((0, 1), (0, -1), (1, 1), (1, -1))):
                first.weight[channel, source, 1, 1] = sign
                last.weight[source, channel, 1, 1] = sign

    def forward(self, maps: Tensor) -> Tensor:
        logits = self.convs(maps.float().logit(self.MARGIN).to(maps.dtype))
        return logits.sigmoid().amax(dim=1, keepdim=True)


def from_official_names(state_dict: Mapping[str, Tensor], names: Iterable[str]) -> dict[str, Tensor]:
    """Pick the parameters ``names`` of the official reading out of an official state dict, whatever stands before them.

    Raises
    ------
    ValueError
        An entry is missing.
    """
    state_dict = state_dict.get("state_dict", state_dict)
    anchor = "encoder.Conv1.conv_r.weight"
    prefix = next((key.removesuffix(anchor) for key in state_dict if key.endswith(anchor)), None)
    if prefix is None:
        raise ValueError(f"state_dict: expected the official fusion head, found no entry {anchor!r}")
    keys = {name: prefix + official_name(name) for name in names}
    for key in keys.values():
        if key not in state_dict:
            raise ValueError(f"state_dict: expected an entry {key!r}, found none")
    return {name: state_dict[key] for name, key in keys.items()}


def official_name(name: str) -> str:
    """Translate a parameter name of the official reading into the official one; _r is visible, _i infrared."""
    owner, *rest = name.split(".")
    if owner.startswith("encode_"):
        layer = f"DenseConv{rest[1]}" if rest[1] != "0" else "Conv1"
        return f"encoder.{layer}.conv_{'r' if owner == 'encode_visible' else 'i'}.{rest[2]}"
    layer, first = "decoder_Conv", 2
    if owner == "local_parts":
        owner, layer, first = f"encoder.moe_{'fg' if rest.pop(0) == 'foreground' else 'bg'}", "conv", 1
    else:
        owner = "DecoderMoE"
    if rest[0] == "gate":
        return f"{owner}.{rest[1]}"
    return f"{owner}.experts.{rest[1]}.{layer}{int(rest[3]) + first}.{rest[4]}"
