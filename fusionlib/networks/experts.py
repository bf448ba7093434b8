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

STRIP_BYTES = 24 << 20  # of the widest map that a processor without gradients computes at once
Pieces = Sequence[Tensor]  # feature maps (B, c_i, H, W) that an expert reads one behind the other as channels
# Source of the gates' noise: PyTorch's own, one of the batch, or one of each sample (the same however a batch is shared
# out among processes).
Noise = torch.Generator | Sequence[torch.Generator] | None


class Conv(nn.Conv2d):
    """A 3x3 convolution that keeps the size; the border is mirrored (edge pixel not repeated) or zero."""

    def __init__(self, inputs: int, outputs: int, mirror: bool):
        super().__init__(inputs, outputs, 3)
        self.mirror = mirror

    def forward(self, x: Tensor) -> Tensor:
        return convolve(x, self.weight, self.bias, self.mirror)

    def behind_each_other(self, pieces: Pieces) -> Tensor:
        """Convolve pieces (B, c, H, W) of one size as if their channels stood behind each other."""
        if torch.is_grad_enabled() or pieces[0].device.type != "cpu":
            return self(torch.cat(tuple(pieces), dim=1))
        # A sum of convolutions costs no more than one, and the joined copy is saved.
        kernels = self.weight.chunk(len(pieces), dim=1)
        y = convolve(pieces[0], kernels[0], self.bias, self.mirror)
        for piece, kernel in zip(pieces[1:], kernels[1:], strict=True):
            y += convolve(piece, kernel, None, self.mirror)
        return y


class Cut(NamedTuple):
    """Which horizontal edges of a map are no border of the image: a strip's neighbours lie behind them."""

    top: bool = False
    bottom: bool = False


WHOLE = Cut()


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None, mirror: bool, groups: int = 1, cut: Cut = WHOLE) -> Tensor:
    """Convolve (B, C, H, W) with 3x3 kernels at equal size, the border mirrored or zero; H and W at least 2.

    A cut edge loses its outermost row, which would need the one behind it (processors without gradients only).
    """
    if torch.is_grad_enabled() or x.device.type != "cpu":
        x = F.pad(x, (1, 1, 1, 1), mode="reflect") if mirror else x
        return F.conv2d(x, weight, bias, padding=0 if mirror else 1, groups=groups)
    # Kernels with their channels innermost make maps with their channels innermost, which a processor convolves in less
    # time and a quarter less memory; their gradients would take twice as long, so training keeps the usual order.
    weight = weight.clone(memory_format=torch.channels_last)
    out = F.conv2d(x, weight, bias, padding=1, groups=groups)
    if mirror:
        # A padded copy of 160 channels costs as much time as several small layers, and only the outermost pixels feel
        # the padding: those four lines are convolved again with the mirrored border.
        for row, lines, pads, inside in ((0, slice(0, 2), (1, 1, 1, 0), cut.top),
                                         (-1, slice(-2, None), (1, 1, 0, 1), cut.bottom)):
            if inside:
                continue
            strip = F.pad(x[:, :, lines], pads, mode="reflect")
            out[:, :, row] = F.conv2d(strip, weight, bias, groups=groups)[:, :, 0]
        for column, lines, pads in ((0, slice(0, 2), (1, 0, 1, 1)), (-1, slice(-2, None), (0, 1, 1, 1))):
            strip = F.pad(x[..., lines], pads, mode="reflect")
            out[..., column] = F.conv2d(strip, weight, bias, groups=groups)[..., 0]
    return out[:, :, int(cut.top):out.shape[2] - int(cut.bottom)]


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
        height, strip = sources[0][0].shape[2], self._strip(sources)
        # split, not indexing: its gradient is written once, not once per sample.
        samples = [list(zip(*(piece.split(1) for piece in pieces), strict=True)) for pieces in sources]
        outputs = []
        for b, (chosen, weights) in enumerate(zip(gating.chosen.tolist(), gating.weights, strict=True)):
            own = [source[b] for source in samples]
            parts = [self._mix(chosen, weights[chosen], *self._rows(own, first, first + strip))[:, :, :strip]
                     for first in range(0, height, strip)]
            outputs.append(torch.cat(parts, dim=2) if len(parts) > 1 else parts[0])
        return torch.cat(outputs), gating

    def _strip(self, sources: Sequence[Pieces]) -> int:
        """Return how many rows are computed at once.

        Without gradients a processor takes strips that fit its cache: new memory for wide maps of a whole image costs it
        as much time as a fifth of the convolutions. The result is the same.
        """
        first = sources[0][0]
        if torch.is_grad_enabled() or first.device.type != "cpu":
            return first.shape[2]
        widest = max(sum(piece.shape[1] for piece in pieces) for pieces in sources)
        return max(32, STRIP_BYTES // (widest * first.shape[3] * first.element_size()))

    def _rows(self, sources: Sequence[Pieces], first: int, end: int) -> tuple[list[Pieces], Cut]:
        """Return rows ``first`` to ``end`` of the sources with those that the layers of an expert read beyond them."""
        beyond, height = len(self.experts[0].layers), sources[0][0].shape[2]
        cut = Cut(first > 0, end + beyond < height)
        if cut == WHOLE:
            return list(sources), cut
        rows = slice(first - beyond if cut.top else 0, end + beyond if cut.bottom else height)
        return [[piece[:, :, rows] for piece in pieces] for pieces in sources], cut

    def _mix(self, chosen: list[int], weights: Tensor, sources: list[Pieces], cut: Cut) -> Tensor:
        """Combine the ``chosen`` experts on the sources of one sample; weights (K,)."""
        chains = [self.experts[e].layers for e in chosen]
        k = len(chosen)
        # Experts that read the same features read them once: their first kernels stand behind each other.
        hidden = []
        for source, members in groupby(chosen, key=self.reads.__getitem__):
            first = [self.experts[e].layers[0] for e in members]
            x = torch.cat(sources[source], dim=1) if len(sources[source]) > 1 else sources[source][0]
            hidden.append(convolve(x, _stack(first, "weight"), _stack(first, "bias"), self.mirror, cut=cut))
            del x
        y = torch.cat(hidden, dim=1) if len(hidden) > 1 else hidden[0]
        del hidden
        for layers in zip(*(chain[1:-1] for chain in chains), strict=True):
            y = convolve(y.relu_(), _stack(layers, "weight"), _stack(layers, "bias"), self.mirror, groups=k, cut=cut)
        y, last = y.relu_(), [chain[-1] for chain in chains]
        if self.combine == "sum":
            # Cao (2), (4): y = sum_i G(s)_i E_i(x). The last layer is linear, so the weights go into its kernels and
            # the sum becomes one convolution over all selected experts.
            weight = torch.cat([g * layer.weight for g, layer in zip(weights, last, strict=True)], dim=1)
            return convolve(y, weight, sum(g * layer.bias for g, layer in zip(weights, last, strict=True)), self.mirror,
                            cut=cut)
        y = convolve(y, _stack(last, "weight"), _stack(last, "bias"), self.mirror, groups=k, cut=cut)
        total = sum(g * part.exp() for g, part in zip(weights, y.chunk(k, dim=1), strict=True))
        # As the official code: an exact zero becomes the double-precision epsilon before the logarithm.
        return torch.where(total == 0, torch.finfo(torch.float64).eps, total).log()

    def every_expert(self, sources: Sequence[Pieces]) -> Tensor:
        """Return what each expert makes of the sources, selected or not, (B, N, C, H, W); for figures."""
        joined = [torch.cat(tuple(pieces), dim=1) for pieces in sources]
        return torch.stack([expert(joined[r]) for expert, r in zip(self.experts, self.reads, strict=True)], dim=1)


def _stack(layers: Sequence[Conv], name: str) -> Tensor:
    """Return the ``weight`` or ``bias`` of several layers as those of one layer."""
    return torch.cat([getattr(layer, name) for layer in layers])
