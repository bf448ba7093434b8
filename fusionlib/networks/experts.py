"""A sparsely gated mixture of experts: the noisy top-K gate, the experts, and the dispatch that runs only the selected.

Sources: equations (1)-(4) of Cao et al., "Multi-modal Gated Mixture of Local-to-Global Experts for Dynamic Image
Fusion", ICCV 2023, here "Cao"; the noise, the load and the importance of Shazeer et al., "Outrageously Large Neural
Networks: The Sparsely-Gated Mixture-of-Experts Layer", ICLR 2017, here "Shazeer". How loads become a loss is the
business of ``fusionlib.losses``.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .convolution import Conv, Pieces, inner, joined, plain, reader, strip_rows

# Source of the gates' noise: PyTorch's own, one of the batch, or one of each sample (the same however a batch is shared
# out among processes).
Noise = torch.Generator | Sequence[torch.Generator] | None


class Expert(nn.Module):
    """A chain of 3x3 convolutions with ReLU between them, none behind the last."""

    def __init__(self, channels: Sequence[int], mirror: bool):
        super().__init__()
        self.layers = nn.ModuleList(Conv(i, o, mirror) for i, o in zip(channels[:-1], channels[1:], strict=True))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers[:-1]:
            x = layer(x).relu_()
        return self.layers[-1](x)


class Gating(NamedTuple):
    """What a gate decides for a batch of B samples and N experts.

    Attributes
    ----------
    weights : (B, N)
        G(s): K positive numbers a row that sum to one, exact zeros elsewhere.
    chosen : (B, K) int64
        The selected experts, in ascending order.
    load : (N,)
        Samples an expert receives: their expected number under the noise in training, their count otherwise.
    importance : (N,)
        Sum of the weights over the batch.
    """

    weights: Tensor
    chosen: Tensor
    load: Tensor
    importance: Tensor


class NoisyTopKGate(nn.Module):
    """G(s) = softmax(topK(s W)), in training with tunable noise on the logits.

    Parameters
    ----------
    inputs : int
        Length D of the flattened features s.
    experts, k : int
        N experts, of which the K = ``k`` with the largest logits are used.
    noise : bool
        Add noise to the logits in training; without it the load is a count and has no gradient.
    """

    def __init__(self, inputs: int, experts: int, k: int, noise: bool = True):
        super().__init__()
        self.k = k
        self.w_gate = nn.Parameter(torch.zeros(inputs, experts))
        self.w_noise = nn.Parameter(torch.zeros(inputs, experts)) if noise else None

    def forward(self, s: Tensor, generator: Noise = None) -> Gating:
        """Gate the features s (B, D); always in single precision, so that rounding does not choose the experts."""
        experts = self.w_gate.shape[1]
        with torch.autocast(s.device.type, enabled=False):
            s = s.float()
            clean = s @ self.w_gate.float()
            noisy = clean
            if self.training and self.w_noise is not None:
                # Shazeer (4): H(x)_i = (x W_g)_i + N(0, 1) softplus((x W_noise)_i); 0.01 keeps the noise alive.
                spread = F.softplus(s @ self.w_noise.float()) + 0.01
                noisy = clean + _draw(clean.shape, generator).to(clean) * spread
            top, order = noisy.topk(min(self.k + 1, experts), dim=1)
            order = order[:, : self.k]
            # Cao (1), (3): G(s) = softmax(topK(s W)).
            weights = torch.zeros_like(noisy).scatter(1, order, top[:, : self.k].softmax(dim=1))
            if noisy is not clean and self.k < experts:
                load = _expected_load(clean, noisy, spread, top)
            else:  # With K = N everybody receives everything, and there is no (K+1)-th logit.
                load = torch.zeros_like(noisy).scatter(1, order, 1.0).sum(dim=0)
        # Shazeer (6): Importance(X) = sum over the batch of G(x).
        return Gating(weights, order.sort(dim=1).values, load, weights.sum(dim=0))


def _draw(shape: Sequence[int], generator: Noise) -> Tensor:
    """Return standard normal numbers (B, N)."""
    if generator is None or isinstance(generator, torch.Generator):
        return torch.randn(shape, generator=generator, device=generator.device if generator else None)
    return torch.stack([torch.randn(shape[1], generator=own) for own in generator])


def _expected_load(clean: Tensor, noisy: Tensor, spread: Tensor, top: Tensor) -> Tensor:
    """Return the expected number of samples per expert if each one's noise were drawn again, (N,)."""
    # The threshold excludes the expert itself: for one in the top K it is the (K+1)-th logit, else the K-th.
    threshold = torch.where(noisy > top[:, -1:], top[:, -1:], top[:, -2:-1])
    # Shazeer (9): P(x, i) = Phi(((x W_g)_i - kth_excluding(H(x), k, i)) / softplus((x W_noise)_i)).
    probability = torch.special.ndtr((clean - threshold) / spread)
    # Shazeer (10): Load(X)_i = sum over the batch of P(x, i).
    return probability.sum(dim=0)


class Mixture(nn.Module):
    """N experts of one shape behind a gate.

    Parameters
    ----------
    channels : sequence of int
        Channels of an expert: input, hidden ones, output.
    reads : sequence of int
        Which source each of the N experts reads; its length is N, equal numbers stand together.
    gate : NoisyTopKGate
    combine : "sum" or "log-sum-exp"
        Weighted sum, equations (2) and (4); or the logarithm of the weighted sum of exponentials (official code).
    mirror : bool
        Mirrored instead of zero border.
    """

    def __init__(self, channels: Sequence[int], reads: Sequence[int], gate: NoisyTopKGate, combine: str, mirror: bool):
        super().__init__()
        self.reads, self.combine, self.mirror, self.gate = tuple(reads), combine, mirror, gate
        self.experts = nn.ModuleList(Expert(channels, mirror) for _ in reads)

    def forward(
        self, s: Tensor, sources: Sequence[Pieces], generator: Noise = None
    ) -> tuple[Tensor, Gating]:
        """Return the mixture (B, C, H, W) of the selected experts and the gate's decision.

        Each sample is computed by itself from views of the batch: no copy for the dispatch, no work for experts that
        are not selected, and no result that depends on the other samples.
        """
        gating = self.gate(s, generator)
        # split, not indexing: its gradient is written once, not once per sample.
        samples = [list(zip(*(piece.split(1) for piece in pieces), strict=True)) for pieces in sources]
        like, channels = sources[0][0], self.experts[0].layers[-1].out_channels
        out = None if plain(like) else like.new_empty(len(like), *like.shape[2:], channels).permute(0, 3, 1, 2)
        outputs = [self._mix(chosen, weights[chosen], [source[b] for source in samples], None if out is None else out[b:b + 1])
                   for b, (chosen, weights) in enumerate(zip(gating.chosen.tolist(), gating.weights, strict=True))]
        return torch.cat(outputs) if out is None else out, gating

    def _mix(self, chosen: list[int], weights: Tensor, sources: list[Pieces], out: Tensor | None) -> Tensor:
        """Combine the ``chosen`` experts on the sources of one sample, weights (K,), into ``out`` where there is one."""
        chains, like = [self.experts[e].layers for e in chosen], sources[0][0]
        # Experts that read the same features read them once: their first kernels stand behind each other.
        first = [(sources[source], *_stack([self.experts[e].layers[0] for e in members]))
                 for source, members in groupby(chosen, key=self.reads.__getitem__)]
        later = [(*_stack(layers), len(chosen)) for layers in zip(*(chain[1:] for chain in chains), strict=True)]
        if self.combine == "sum":
            # Cao (2), (4): y = sum_i G(s)_i E_i(x). The last layer is linear, so the weights go into its kernels and
            # the sum becomes one convolution over all selected experts.
            last = [chain[-1] for chain in chains]
            weight = torch.cat([g * layer.weight for g, layer in zip(weights, last, strict=True)], dim=1)
            later[-1] = inner(weight), sum(g * layer.bias for g, layer in zip(weights, last, strict=True)), 1
        deep = *(weight.shape[1] for _, weight, _ in first), *(weight.shape[1] * groups for weight, _, groups in later)
        height, strip, done = like.shape[2], strip_rows(like, max(deep)), 0
        buffers = [reader(like, channels, strip + len(chains[0]), self.mirror) for channels in deep]
        for top in range(0, height, strip):
            end, line = top + strip >= height, iter(buffers)
            y = [F.conv2d(next(line).push([x[:, :, top:top + strip] for x in pieces], end), weight, bias)
                 for pieces, weight, bias in first]
            for weight, bias, groups in later:
                y = [F.conv2d(next(line).push(y, end, relu=True), weight, bias, groups=groups)]
            y = y[0] if self.combine == "sum" else _log_sum_exp(weights, y[0])
            if out is None:
                return y
            out[:, :, done:done + y.shape[2]] = y
            done += y.shape[2]
        return out

    def every_expert(self, sources: Sequence[Pieces]) -> Tensor:
        """Return what each expert makes of the sources, selected or not, (B, N, C, H, W); for figures."""
        inputs = [joined(pieces) for pieces in sources]
        return torch.stack([expert(inputs[r]) for expert, r in zip(self.experts, self.reads, strict=True)], dim=1)


def _stack(layers: Sequence[Conv]) -> tuple[Tensor, Tensor]:
    """Return the kernels and biases of several layers as those of one layer."""
    weight = torch.cat([layer.weight for layer in layers])
    return inner(weight), torch.cat([layer.bias for layer in layers])


def _log_sum_exp(weights: Tensor, y: Tensor) -> Tensor:
    """Return log sum_i g_i exp(E_i(x)) of outputs (1, K C, H, W) that stand behind each other."""
    total = sum(g * part.exp() for g, part in zip(weights, y.chunk(len(weights), dim=1), strict=True))
    # As the official code: an exact zero becomes the double-precision epsilon before the logarithm.
    return torch.where(total == 0, torch.finfo(torch.float64).eps, total).log()
