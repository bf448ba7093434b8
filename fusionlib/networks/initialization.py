"""The start of an untrained MoE-Fusion: from a seed, near the average of both images."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch
from torch import nn

from .convolution import Conv3x3
from .encoder import AttentionFusion, DenseEncoder
from .mixture import Expert, NoisyTopKGate


def initialize(model: nn.Module, seed: int, *, random_gates: bool) -> None:
    """Draw every parameter of a network; nothing global is seeded.

    Parameters
    ----------
    model : Module
        Changed in place.
    seed : int
    random_gates : bool
        Draw the gates, too; otherwise they stay at zero.
    """
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.Conv2d):  # PyTorch's own rule, from a generator of ours
            bound = 1 / math.sqrt(module.weight[0].numel())
            nn.init.uniform_(module.weight, -bound, bound, generator=generator)
            if module.bias is not None:
                nn.init.uniform_(module.bias, -bound, bound, generator=generator)
        elif isinstance(module, NoisyTopKGate) and random_gates:
            # ASSUMPTION: gates start random, N(0, 1/D), their noise weights at zero; gates that
            # start at zero, as in the official code, choose the same two experts of one modality
            # for every image, by tie.
            std = 1 / math.sqrt(len(module.w_gate))
            nn.init.normal_(module.w_gate, std=std, generator=generator)
    for module in model.modules():
        if isinstance(module, AttentionFusion):
            _start_as_identity(module)


@torch.no_grad()
def _start_as_identity(attention: AttentionFusion) -> None:
    """Make the convolutions x = relu(x) - relu(-x) of either map, other hidden channels unused."""
    hidden, output = attention.convs.layers
    output.weight.zero_()
    output.bias.zero_()
    hidden.weight[:4] = 0
    hidden.bias[:4] = 0
    for channel, (number, sign) in enumerate(((0, 1), (0, -1), (1, 1), (1, -1))):
        hidden.weight[channel, number, 1, 1] = sign
        output.weight[number, channel, 1, 1] = sign


@torch.no_grad()
def start_as_average(
    encoders: Iterable[DenseEncoder], decoders: Iterable[Expert], features: Sequence[int]
) -> None:
    """Start a network near the average of both images.

    ASSUMPTION: the start of training is not given. The gradient loss cannot tell an image from its
    negative, and a short training that starts at random often ends in one; so the network starts
    near (I + V) / 2: one channel passes each image through its encoder and their average through
    every decoder, whose last layer has a tenth of its random weights.

    Parameters
    ----------
    encoders : iterable of DenseEncoder
    decoders : iterable of Expert
        All that may draw the fused image.
    features : sequence of int
        The channels of a decoder's input that hold the images.
    """
    for encoder in encoders:
        _pass_on(encoder.layers[0], range(encoder.layers[0].in_channels))
    for decoder in decoders:
        output = decoder.layers[-1]
        small = 0.1 * output.weight[0, 1:]
        _pass_on(decoder.layers[0], features)
        for layer in decoder.layers[1:]:
            _pass_on(layer, (0,))
        output.weight[0, 1:] = small


def _pass_on(layer: Conv3x3, inputs: Sequence[int]) -> None:
    """Make the first output of a layer the mean of some of its input channels."""
    layer.weight[0], layer.bias[0] = 0, 0
    layer.weight[0, inputs, 1, 1] = 1 / len(inputs)
