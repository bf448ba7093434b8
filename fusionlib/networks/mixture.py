"""The sparsely gated mixture of experts: equations (1) to (4) of MoE-Fusion.

Sources: Cao et al., "Multi-modal Gated Mixture of Local-to-Global Experts for Dynamic Image
Fusion", ICCV 2023, here "Cao"; noise, load and importance of Shazeer et al., "Outrageously Large
Neural Networks", ICLR 2017, here "Shazeer". ``fusionlib.losses`` turns loads into a loss.

Shapes: B images, N experts of which K are chosen, C channels of H x W pixels, D numbers for a gate.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .configuration import Border
from .convolution import convolutions

# Generators of the gates' noise: PyTorch's own, one for the batch, or one for each image.
Noise = torch.Generator | Sequence[torch.Generator] | None


class Expert(nn.Module):
    """A chain of 3x3 convolutions that keep the size, with ReLU between them."""

    def __init__(self, channels: Sequence[int], border: Border):
        super().__init__()
        self.layers = convolutions(itertools.pairwise(channels), border)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers[:-1]:
            x = layer(x).relu_()
        return self.layers[-1](x)


class Gating(NamedTuple):
    """The decision of a gate for a batch.

    Attributes
    ----------
    weights : (B, N)
        G(s): K positive numbers a row that sum to one, exact zeros elsewhere.
    chosen : (B, K) int64
        The selected experts, in ascending order.
    load : (N,)
        Images an expert receives: expected under the noise in training, else counted.
    importance : (N,)
        Sum of the weights over the batch.
    """

    weights: Tensor
    chosen: Tensor
    load: Tensor
    importance: Tensor


class NoisyTopKGate(nn.Module):
    """The gate G(s) = softmax(topK(s W)), in training with tunable noise on the logits.

    Parameters
    ----------
    inputs : int
        Length D of the flattened features s.
    experts, k : int
        N experts, of which the K = ``k`` with the largest logits are used.
    noise : bool
        Add noise to the logits in training; without it the load is a count and has no gradient.
    """

    def __init__(self, inputs: int, experts: int, k: int, *, noise: bool = True):
        super().__init__()
        self.experts, self.k = experts, k
        self.w_gate = nn.Parameter(torch.zeros(inputs, experts))
        self.w_noise = nn.Parameter(torch.zeros(inputs, experts)) if noise else None

    def forward(self, s: Tensor, generator: Noise = None) -> Gating:
        """Gate the features s (B, D), in single precision: rounding must not choose the experts."""
        with torch.autocast("cpu" if s.is_meta else s.device.type, enabled=False):
            s = s.float()
            clean = s @ self.w_gate.float()  # (B, N)
            noisy = clean
            if self.training and self.w_noise is not None:
                # Shazeer (4): H(x)_i = (x W_g)_i + N(0, 1) softplus((x W_noise)_i), here never 0
                spread = F.softplus(s @ self.w_noise.float()) + 0.01
                noisy = clean + _draw_noise(clean, generator) * spread
            top, ranked = noisy.topk(min(self.k + 1, self.experts), dim=1)
            chosen = ranked[:, : self.k]
            # Cao (1), (3): G(s) = softmax(topK(s W)).
            weights = torch.zeros_like(noisy).scatter(1, chosen, top[:, : self.k].softmax(dim=1))
            if noisy is not clean and self.k < self.experts:
                load = _expected_load(clean, noisy, spread, top)
            else:  # With K = N everybody receives everything, and there is no (K+1)-th logit.
                load = torch.zeros_like(noisy).scatter(1, chosen, 1.0).sum(dim=0)
        # Shazeer (6): Importance(X) = sum over the batch of G(x).
        return Gating(weights, chosen.sort(dim=1).values, load, weights.sum(dim=0))


def _draw_noise(like: Tensor, generator: Noise) -> Tensor:
    """Return standard normal numbers of the shape (B, N), device and type of ``like``."""
    if generator is None:
        return torch.randn(like.shape, device=like.device)
    if isinstance(generator, torch.Generator):
        return torch.randn(like.shape, generator=generator, device=generator.device).to(like)
    if len(generator) != len(like):
        raise ValueError(f"generator: expected one an image, {len(like)}, got {len(generator)}")
    return torch.stack([torch.randn(like.shape[1], generator=g) for g in generator]).to(like)


def _expected_load(clean: Tensor, noisy: Tensor, spread: Tensor, top: Tensor) -> Tensor:
    """Return the images per expert, (N,), to be expected if its noise were drawn again: from the
    logits (B, N) without and with noise, its deviation (B, N) and the K + 1 largest logits.
    """
    # The threshold excludes the expert: the (K+1)-th logit for one in the top K, else the K-th.
    threshold = torch.where(noisy > top[:, -1:], top[:, -1:], top[:, -2:-1])
    # Shazeer (9): P(x, i) = Phi(((x W_g)_i - kth_excluding(H(x), k, i)) / softplus((x W_noise)_i)).
    probability = torch.special.ndtr((clean - threshold) / spread)
    # Shazeer (10): Load(X)_i = sum over the batch of P(x, i).
    return probability.sum(dim=0)


class MixtureOfExperts(nn.Module):
    """N experts of one shape and the gate that weights K of them.

    Parameters
    ----------
    channels : sequence of int
        Channels of an expert: input, hidden ones, output.
    gate : NoisyTopKGate
        It knows N and K.
    inputs : int
        Feature maps that experts read; of N experts the first N / inputs read the first, and so on.
    combine : "sum" or "log-sum-exp"
        Weighted sum, or the logarithm of the weighted sum of exponentials (official code).
    border : "reflect" or "zeros"
        Of the convolutions.
    """

    def __init__(
        self,
        channels: Sequence[int],
        gate: NoisyTopKGate,
        inputs: int = 1,
        *,
        combine: str = "sum",
        border: Border = "reflect",
    ):
        super().__init__()
        self.gate, self.combine = gate, combine
        experts = nn.ModuleList(Expert(channels, border) for _ in range(gate.experts))
        self.experts = cast(Sequence[Expert], experts)
        self.input_of_expert = [i * inputs // gate.experts for i in range(gate.experts)]

    def forward(
        self, s: Tensor, inputs: Sequence[Tensor], generator: Noise = None
    ) -> tuple[Tensor, Gating]:
        """Return the mixture y (B, C', H, W) of the selected experts and the gate's decision.

        Parameters
        ----------
        s : (B, D)
            Flattened features for the gate.
        inputs : sequence of (B, C, H, W)
            Feature maps for the experts.
        generator : torch.Generator or a sequence of them, optional
            Of the gate's noise in training, one for the batch or one for each image.
        """
        gating = self.gate(s, generator)
        if prefers_gathered(s):
            return self.gathered(inputs, gating), gating
        images = [x.split(1) for x in inputs]  # so a gradient is written once, not once per image
        mixed = []
        for b, chosen in enumerate(gating.chosen.tolist()):
            y = s.new_zeros(())
            for i in chosen:
                x = images[self.input_of_expert[i]][b]  # (1, C, H, W)
                output = self.experts[i](x)  # (1, C', H, W)
                if self.combine == "log-sum-exp":
                    output = output.exp()
                # Cao (2), (4): y = sum over the K chosen experts of G(s)_i E_i(x)
                y = y + gating.weights[b, i] * output  # (1, C', H, W)
            mixed.append(y)
        y = torch.cat(mixed)  # (B, C', H, W)
        return (y if self.combine == "sum" else safe_log(y)), gating

    def gathered(self, inputs: Sequence[Tensor], gating: Gating) -> Tensor:
        """Return the same sum without a loop: gathered kernels, one grouped convolution a layer."""
        (batch, k), (height, width) = gating.chosen.shape, inputs[0].shape[2:]
        x, chosen = inputs[0], gating.chosen.flatten()  # (B K,)
        if len(inputs) > 1:
            number = gating.chosen * len(inputs) // len(self.experts)  # (B, K): of the input
            image = torch.arange(batch, device=x.device)[:, None]
            x = torch.stack(tuple(inputs), dim=1)[image, number]  # (B, K, C, H, W)
        x = x.reshape(1, -1, height, width)  # (1, B C, H, W) or (1, B K C, H, W)
        for depth in range(len(self.experts[0].layers)):
            layers = [expert.layers[depth] for expert in self.experts]
            x = x.relu() if depth else x
            weight = torch.stack([layer.weight for layer in layers])  # (N, C', C, 3, 3)
            bias = torch.stack([layer.bias for layer in layers])  # (N, C')
            weight = weight.index_select(0, chosen).flatten(0, 1)  # (B K C', C, 3, 3)
            bias = bias.index_select(0, chosen).flatten()
            zeros, groups = layers[0].padding_mode == "zeros", x.shape[1] // weight.shape[1]
            x = x if zeros else F.pad(x, (1, 1, 1, 1), mode="reflect")
            x = F.conv2d(x, weight, padding=int(zeros), groups=groups)  # (1, B K C', H, W)
            x = x + bias[:, None, None].to(x.dtype)  # compilers refuse it inside conv2d
        x = x.reshape(batch, k, -1, height, width)
        g = gating.weights.gather(1, gating.chosen)[:, :, None, None, None].to(x.dtype)
        return (g * x).sum(dim=1) if self.combine == "sum" else safe_log((g * x.exp()).sum(dim=1))

    def every_output(self, inputs: Sequence[Tensor]) -> Tensor:
        """Return what each expert makes of its input, chosen or not, (B, N, C', H, W)."""
        pairs = zip(self.experts, self.input_of_expert, strict=True)
        return torch.stack([expert(inputs[source]) for expert, source in pairs], dim=1)


def prefers_gathered(x: Tensor) -> bool:
    """Return whether reading the gate's choice would hold up a GPU or a compiler."""
    return x.device.type != "cpu" or torch.compiler.is_compiling()


def safe_log(x: Tensor) -> Tensor:
    """Return log x, an exact zero being the double-precision epsilon, as in the official code."""
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    return wide.masked_fill(wide == 0, torch.finfo(torch.float64).eps).log().to(x.dtype)
