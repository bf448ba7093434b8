"""The encoders of MoE-Fusion and the fusion of its attention maps (Cao et al., 2023, section 3)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .configuration import Border
from .convolution import convolutions
from .mixture import Expert


class DenseEncoder(nn.Module):
    """One convolution and three densely connected ones, C channels each ("follows" DenseFuse).

    Parameters
    ----------
    channels : int
        Of the image.
    width : int
        Channels C of each layer.
    border : "reflect" or "zeros"
    dense_relu : bool
        ReLU after every convolution, or after the first alone.
    """

    def __init__(self, channels: int, width: int, border: Border, dense_relu: bool):
        super().__init__()
        inputs = (channels, width, 2 * width, 3 * width)
        self.layers = convolutions([(count, width) for count in inputs], border)
        self.dense_relu = dense_relu

    def forward(self, image: Tensor) -> Tensor:
        """Return x_dense (B, 4C, H, W) of an image; its last C channels are x_enc."""
        x_dense = self.layers[0](image).relu_()  # (B, C, H, W)
        for layer in self.layers[1:]:
            x_enc = layer(x_dense)  # (B, C, H, W)
            if self.dense_relu:
                x_enc = x_enc.relu_()
            x_dense = torch.cat([x_dense, x_enc], dim=1)
        return x_dense


class AttentionFusion(nn.Module):
    """Att from the maps of the two detectors: two convolutions, sigmoid, maximum (section 3.2).

    ASSUMPTION: sizes and start of these convolutions are not given: 2 -> 16 -> 2 channels, ReLU
    between, on the logits of the maps, and started as the identity, so that training begins with
    Att = max(Att_V, Att_I).
    """

    HIDDEN, MARGIN = 16, 1e-4

    def __init__(self, border: Border):
        super().__init__()
        self.convs = Expert((2, self.HIDDEN, 2), border)

    def forward(self, maps: Tensor) -> Tensor:
        """Return Att (B, 1, H, W) in [0, 1] of maps (B, 2, H, W) in [0, 1]."""
        return self.largest(self.convs(self.logits(maps)))

    def logits(self, maps: Tensor) -> Tensor:
        """Return the logits of maps, (B, 2, H, W): the input of the convolutions."""
        return maps.float().logit(self.MARGIN).to(maps.dtype)

    def largest(self, logits: Tensor) -> Tensor:
        """Return Att (B, 1, H, W) of the output of the convolutions, (B, 2, H, W)."""
        return logits.sigmoid().amax(dim=1, keepdim=True)
