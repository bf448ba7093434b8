"""MoE-Fusion on a processor without gradients: quick, in memory that is bounded at any size.

:func:`fuse` gives what ``MoEFusion.forward`` gives, tile by tile. A tile is read with a halo as
wide as the convolutions of its stage reach, so it needs no other tile; the gates see the whole
image and are decided first. The chosen experts of a mixture become one chain of convolutions: first
kernels side by side, inner ones grouped, the last, linear one weighted by the gate and summed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, cast

import psutil
import torch
import torch.nn.functional as F
from torch import Tensor

from .configuration import READINGS, check_batch
from .convolution import Conv3x3
from .mixture import Expert, MixtureOfExperts, safe_log
from .moe_fusion import MoEFusion, MoEFusionOutput
from .output import soft_knee
from .tiles import Area, tiles

DEFAULT_MEMORY = 2.0  # GB
TILE = 96, 160  # rows and columns at most: maps that fit the cache and that an allocator keeps
SMALLEST = 8  # rows of a tile, however little memory there is
FLOATS = 60  # numbers that a tile takes for each pixel and each of the C channels
PADDING = {"reflect": "reflect", "zeros": "constant"}  # of nn.Conv2d: of F.pad
Layer = tuple[Tensor, Tensor]  # kernel and bias


def fuse(
    model: MoEFusion,
    infrared: Tensor,
    visible: Tensor,
    attention: Tensor | None = None,
    *,
    memory: float | None = None,
    tile: tuple[int, int] | None = None,
) -> MoEFusionOutput:
    """Fuse one pair as ``model(infrared, visible, attention)`` does in evaluation.

    Parameters
    ----------
    infrared, visible, attention : tensors
        As :meth:`MoEFusion.forward` takes them, B = 1.
    memory : float, optional
        GB (1e9 bytes) that the process may hold meanwhile, what it holds already among them; by
        default 2 more than that, or half of what is free where that is less.
    tile : (int, int), optional
        Rows and columns of a tile; by default as ``memory`` allows, :data:`TILE` at most.

    Returns
    -------
    MoEFusionOutput
        fused, gates, loads, importances and attention; features are not kept.

    Raises
    ------
    TypeError, ValueError
        As :meth:`MoEFusion.forward`; several pairs, training mode, no such memory or tile.
    """
    check_batch(model.config, infrared, visible, attention)
    if len(infrared) > 1:
        raise ValueError(f"infrared: expected one pair, got a batch of {len(infrared)}")
    if model.training:
        raise ValueError("model: expected evaluation mode, got training mode; call model.eval()")
    sides = tile or TILE
    if len(sides) != 2 or not all(isinstance(side, int) and side > 0 for side in sides):
        raise ValueError(f"tile: expected rows and columns of at least 1, got {tile!r}")
    with torch.inference_mode(), torch.autocast("cpu", enabled=False):
        return _Pair(model, infrared, visible, attention, spare_bytes(memory), tile).fuse()


def spare_bytes(memory: float | None) -> float:
    """Return how many bytes may still be taken; ``memory`` in GB as :func:`fuse` takes it."""
    if memory is None:
        return min(DEFAULT_MEMORY * 1e9, psutil.virtual_memory().available / 2)
    if not isinstance(memory, int | float) or not 0 < memory < math.inf:
        raise ValueError(f"memory: expected a positive number of GB, got {memory!r}")
    return memory * 1e9 - psutil.Process().memory_info().rss


def layer_of(layers: Sequence[Conv3x3]) -> Layer:
    """Return layers side by side as one grouped layer, channels innermost: a processor's order."""
    kernel = torch.cat([layer.weight for layer in layers])
    bias = torch.cat([layer.bias for layer in layers])
    return kernel.contiguous(memory_format=torch.channels_last), bias


class Chain(NamedTuple):
    """Layers with ReLU between them."""

    layers: list[Layer]
    inputs: tuple[int, ...] = ()  # of a mixture, that the first layer reads side by side
    weights: Tensor | None = None  # (K,) of K outputs whose exponentials are to be summed


def as_chain(layers: Sequence[Conv3x3]) -> Chain:
    """Return layers one behind the other as a chain."""
    return Chain([layer_of([layer]) for layer in layers])


def merge(mixture: MixtureOfExperts, chosen: Sequence[int], weights: Tensor) -> Chain:
    """Return the chosen experts of a mixture as one chain.

    Parameters
    ----------
    chosen : K int
        In ascending order.
    weights : (N,)
        Of the gate.
    """
    experts = [mixture.experts[i].layers for i in chosen]
    inputs = tuple(mixture.input_of_expert[i] for i in chosen)
    layers = [layer_of(parallel) for parallel in zip(*experts, strict=True)]
    if mixture.combine == "log-sum-exp":
        return Chain(layers, inputs, weights[chosen])
    # Cao (2), (4): y = sum_i G(s)_i E_i(x), with G(s)_i in the last layer of E_i
    outputs = [(weights[i], expert[-1]) for i, expert in zip(chosen, experts, strict=True)]
    kernel = torch.cat([g * layer.weight for g, layer in outputs], dim=1)
    bias = torch.zeros_like(outputs[0][1].bias)
    for g, layer in outputs:
        bias = bias + g * layer.bias
    layers[-1] = kernel.contiguous(memory_format=torch.channels_last), bias
    return Chain(layers, inputs)


class GateInput:
    """The input of a gate from a whole image, ``F.interpolate(x, grid)``, collected by areas.

    Parameters
    ----------
    channels : int
        Of all feature maps that the gate reads.
    grid, size : (int, int)
        Rows and columns that the gate reads, and of the image.
    like : Tensor
        Gives device and type.
    """

    def __init__(self, channels: int, grid: Sequence[int], size: Sequence[int], like: Tensor):
        self.points, self.shares = [], []
        for cells, pixels in zip(grid, size, strict=True):  # rows, then columns
            # Bilinear, corners on corners: cell i lies at i (H - 1) / (h - 1), between two pixels.
            end = pixels - 1 if cells > 1 else 0
            position = torch.linspace(0, end, cells, dtype=torch.float64)
            lower = position.long()
            upper = (lower + 1).clamp(max=pixels - 1)
            self.points.append(torch.stack([lower, upper], dim=1).flatten())
            self.shares.append((position - lower).to(like))
        self.values = like.new_empty(*(len(points) for points in self.points), channels)

    def collect(self, maps: Sequence[Tensor], area: Area) -> None:
        """Copy the pixels that lie in an area from its feature maps (1, C, h, w)."""
        rows, columns = self.points
        i = ((rows >= area.top) & (rows < area.bottom)).nonzero()
        j = ((columns >= area.left) & (columns < area.right)).nonzero()[:, 0]
        channel = 0
        for x in maps:
            pixels = x[0].permute(1, 2, 0)[rows[i] - area.top, columns[j] - area.left]
            self.values[i, j, channel : channel + x.shape[1]] = pixels
            channel += x.shape[1]

    def flattened(self) -> Tensor:
        """Return s (1, D), once every area is collected."""
        rows, columns = self.shares
        x = self.values[0::2].lerp(self.values[1::2], rows[:, None, None])
        x = x[:, 0::2].lerp(x[:, 1::2], columns[:, None])
        return x.permute(2, 0, 1).flatten()[None]


class _Pair:
    """One pair on its way through the network, stage by stage as in :class:`MoEFusion`.

    x_f is a list of maps (1, C, h, w): the layers of both encoders, then y_local of each region.
    """

    def __init__(
        self,
        model: MoEFusion,
        infrared: Tensor,
        visible: Tensor,
        attention: Tensor | None,
        spare: float,
        tile: tuple[int, int] | None,
    ):
        self.model, self.config, self.images = model, model.config, (visible, infrared)
        self.size = height, width = tuple(infrared.shape[2:])
        self.options = READINGS[self.config.reading]
        self.out = MoEFusionOutput(torch.empty_like(infrared))
        self.chains = {}
        encoders = model.visible_encoder, model.infrared_encoder
        self.encoders = [as_chain(encoder.layers).layers for encoder in encoders]
        if self.config.regions and attention is not None:
            self.att = self.out.attention = torch.empty_like(infrared)
            if model.attention_fusion is None:  # as MoEFusion.attend: maximum, then enlarged
                attention = attention.amax(dim=1, keepdim=True)
            else:
                self.chains["attention"] = as_chain(model.attention_fusion.convs.layers)
            self.maps = attention
            if attention.shape[2:] != infrared.shape[2:]:
                self.maps = F.interpolate(attention, self.size, mode="bilinear", align_corners=True)
        spare -= 16 * height * width  # the maps, Att and the fused image
        grids = math.prod(self.config.local_grid) + math.prod(self.config.global_grid)
        spare -= 16 * 20 * self.config.width * grids  # what the gates read
        rows, columns = tile or TILE
        per_row = 4 * FLOATS * self.config.width * min(columns, width)
        if not tile:
            rows = min(rows, max(int(spare / per_row), SMALLEST))
        self.tile = rows, columns
        # Where there is room, x_f of the whole image is stored as far as it is computed.
        self.count = 8 + len(self.config.regions)
        whole = 4 * self.count * self.config.width * height * width
        self.stores = whole + per_row * rows <= spare
        self.stored: list[Tensor] = []

    # radon C: three passes over the tiles, in the order of section 3; each has its cases
    def fuse(self) -> MoEFusionOutput:
        """Return the fused image: three passes over the tiles, gates after the first two."""
        config, like = self.config, self.images[1]
        regions = config.regions if config.local == "mole" else ()
        grid = config.local_grid
        s_local = {name: GateInput(2 * config.width, grid, self.size, like) for name in regions}
        dense = self.whole_maps(8)
        for area in tiles(self.size, self.tile):
            x_dense = self.encode(area)
            store(x_dense, dense, area)
            if config.regions:
                area.of(self.att).copy_(self.attend(area))
            for region in regions:
                s_local[region].collect(self.attended(region, x_dense, area), area)
        self.stored = dense
        for region in regions:
            mixture = self.model.local_mixtures[region]
            self.decide(region, cast(MixtureOfExperts, mixture), s_local[region].flattened())
        s = GateInput(self.count * config.width, config.global_grid, self.size, like)
        y_local = self.whole_maps(len(config.regions))
        decoder = self.model.decoder
        if self.stores or config.decoder == "moge":
            for area in tiles(self.size, self.tile):
                x_f = self.features(area)
                store(x_f[8:], y_local, area)
                s.collect(x_f, area)
        self.stored = dense + y_local
        if isinstance(decoder, Expert):
            self.chains["global"] = as_chain(decoder.layers)
        else:
            self.decide("global", decoder, s.flattened())
        for area in tiles(self.size, self.tile):
            around = area.grown(4, self.size)
            fused = self.run("global", self.features(around), around, area)
            if config.knee is not None:
                fused = soft_knee(fused, config.knee)
            area.of(self.out.fused).copy_(fused)
        return self.out

    def whole_maps(self, count: int) -> list[Tensor]:
        """Return room for maps (1, C, H, W) of the whole image, none where memory is short."""
        shape = 1, *self.size, self.config.width
        return [
            self.images[1].new_empty(shape).permute(0, 3, 1, 2)
            for _ in range(count if self.stores else 0)
        ]

    def encode(self, area: Area) -> list[Tensor]:
        """Return x_dense of the visible and of the infrared image, a map for each layer."""
        if self.stored:
            return [area.of(x) for x in self.stored[:8]]
        x_dense = []
        for image, layers in zip(self.images, self.encoders, strict=True):
            extent = area.grown(len(layers), self.size)
            maps = [extent.of(image)]
            outputs: list[tuple[Tensor, Area]] = []
            for layer in layers:
                x_enc, extent = self.convolve(maps, extent, layer)
                if self.options.dense_relu or not outputs:
                    x_enc.relu_()
                outputs.append((x_enc, extent))
                maps = [extent.of(x, larger) for x, larger in outputs]
            x_dense += [area.of(x, larger) for x, larger in outputs]
        return x_dense

    def attend(self, area: Area) -> Tensor:
        """Return Att of an area (1, 1, h, w)."""
        fusion = self.model.attention_fusion
        if fusion is None:
            return area.of(self.maps)
        around = area.grown(2, self.size)
        logits = fusion.logits(around.of(self.maps))
        return fusion.largest(self.run("attention", [logits], around, area))

    def attended(self, region: str, x_dense: Sequence[Tensor], area: Area) -> list[Tensor]:
        """Return x_local of a region: x_enc of the visible and of the infrared image, attended.

        Parameters
        ----------
        region : "foreground" or "background"
        x_dense : eight maps (1, C, h, w)
            Of the area, visible ones first.
        """
        att = area.of(self.att)
        mask = att if region == "foreground" else 1 - att
        return [x_dense[3] * mask, x_dense[7] * mask]

    def features(self, area: Area) -> list[Tensor]:
        """Return x_f of an area: both x_dense and y_local of each region."""
        if len(self.stored) == self.count:
            return [area.of(x) for x in self.stored]
        around = area.grown(2, self.size)
        x_dense = self.encode(around)
        x_f = [area.of(x, around) for x in x_dense]
        for region, mixture in self.model.local_mixtures.items():
            x_local = self.attended(region, x_dense, around)
            if self.config.local == "attention":
                x_f.append(area.of(mixture(torch.cat(x_local, dim=1)), around))
            else:
                x_local = [x_local[i] for i in self.chains[region].inputs]
                x_f.append(self.run(region, x_local, around, area))
        return x_f

    def decide(self, name: str, mixture: MixtureOfExperts, s: Tensor) -> None:
        """Merge the experts that a gate chooses.

        Parameters
        ----------
        name : str
            "foreground", "background" or "global".
        s : (1, D)
            Input of the gate.
        """
        gating = mixture.gate(s)
        self.chains[name] = merge(mixture, gating.chosen[0].tolist(), gating.weights[0])
        self.out.gates[name], self.out.loads[name] = gating.weights, gating.load
        self.out.importances[name] = gating.importance

    def run(self, name: str, maps: Sequence[Tensor], around: Area, area: Area) -> Tensor:
        """Return the output of a chain in an area.

        Parameters
        ----------
        name : str
            Of the chain.
        maps : sequence of (1, C, h, w)
            Its inputs, side by side, of the area ``around``.
        """
        chain, extent = self.chains[name], around
        for number, layer in enumerate(chain.layers):
            x, extent = self.convolve(maps, extent, layer, relu=number > 0)
            maps = [x]
        if chain.weights is not None:
            total = x.new_zeros(())
            for g, output in zip(chain.weights, x.chunk(len(chain.weights), dim=1), strict=True):
                total = total + g * output.exp()
            x = safe_log(total)
        return area.of(x, extent)

    def convolve(
        self, maps: Sequence[Tensor], area: Area, layer: Layer, *, relu: bool = False
    ) -> tuple[Tensor, Area]:
        """Return the output of a layer, and its area: a pixel less where the image goes on.

        Parameters
        ----------
        maps : sequence of (1, C, h, w)
            Inputs of the layer, side by side, of ``area``.
        relu : bool
            Rectify them before, in place.
        """
        (top, bottom, left, right), (height, width) = area, self.size
        ends = left == 0, right == width, top == 0, bottom == height
        x = torch.cat(tuple(maps), dim=1) if len(maps) > 1 else maps[0]
        x = x.relu_() if relu else x
        x = F.pad(x, [int(end) for end in ends], mode=PADDING[self.options.border])
        kernel, bias = layer
        y = F.conv2d(x, kernel, bias, groups=x.shape[1] // kernel.shape[1])
        return y, Area(
            top + (not ends[2]), bottom - (not ends[3]), left + (not ends[0]), right - (not ends[1])
        )


def store(maps: Sequence[Tensor], whole: Sequence[Tensor], area: Area) -> None:
    """Copy maps of an area into those of the whole image, as far as these are stored.

    Parameters
    ----------
    maps : sequence of (1, C, h, w)
    whole : sequence of (1, C, H, W)
        Of equal length, or empty.
    area : Area
        h x w pixels.
    """
    for x, target in zip(maps, whole, strict=False):
        area.of(target).copy_(x)
