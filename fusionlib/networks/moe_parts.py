"""What stands around the mixtures of MoE-Fusion: its two readings, its encoders, its attention, the official names.

Source: Cao et al., ICCV 2023, section 3 and its official code; see :mod:`fusionlib.networks.moe_fusion`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from .experts import Conv, Expert


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
        pieces = [self.layers[0](image).relu_()]
        for layer in self.layers[1:]:
            y = layer.behind_each_other(pieces)
            pieces.append(y.relu_() if self.dense_relu else y)
        return pieces


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
