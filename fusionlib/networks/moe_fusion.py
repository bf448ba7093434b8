"""MoE-Fusion: gated mixtures of local and global experts that fuse an infrared and a visible image.

Source: Cao, Sun, Zhu, Hu, "Multi-modal Gated Mixture of Local-to-Global Experts for Dynamic Image Fusion", ICCV 2023,
here "Cao". The paper and its official code differ in many places, so there are two named readings::

    infrared -> encoder --+-- x_enc * Att,  x_enc * (1 - Att) --> foreground, background mixture --+
                          |                 ^ Att from the two attention maps                      +--> global mixture
    visible  -> encoder --+------------------ x_dense ---------------------------------------------+    --> fused
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .convolution import Pieces
from .experts import Expert, Mixture, Noise, NoisyTopKGate
from .moe_parts import READINGS, Attention, Encoder, from_official_names, official_name

GATE_GRID = ((120, 160), (60, 80))


@dataclass
class Fusion:
    """What one forward pass gives; B samples, N experts, C = width.

    Attributes
    ----------
    fused : (B, 1, H, W)
        The fused image on the scale of the inputs, not clipped.
    gates : dict of (B, N)
        Weights of "foreground", "background" and "global", as far as the variant has them: K non-zero a row, sum one.
    loads, importances : dict of (N,)
        Per gate, over the batch; see :class:`fusionlib.networks.experts.Gating`.
    local_features : dict of (B, C, H, W)
        y_local of "foreground" and "background".
    attention : (B, 1, H, W) or None
        Att in [0, 1]; None without local features.
    dense_features, expert_outputs : dict
        Only with ``details=True``: "infrared" and "visible" x_dense (B, 4C, H, W), and what every expert, selected or
        not, makes of its input: (B, N, C, H, W) of a local mixture, (B, N, 1, H, W) of the global one.
    """

    fused: Tensor
    gates: dict[str, Tensor] = field(default_factory=dict)
    loads: dict[str, Tensor] = field(default_factory=dict)
    importances: dict[str, Tensor] = field(default_factory=dict)
    local_features: dict[str, Tensor] = field(default_factory=dict)
    attention: Tensor | None = None
    dense_features: dict[str, Tensor] = field(default_factory=dict)
    expert_outputs: dict[str, Tensor] = field(default_factory=dict)

    def one_modality(self) -> dict[str, Tensor]:
        """Tell per local gate which samples were served by experts of a single modality, (B,) bool."""
        found = {}
        for name, gate in self.gates.items():
            if name != "global":
                visible, infrared = (gate > 0).chunk(2, dim=1)
                found[name] = visible.any(dim=1) != infrared.any(dim=1)
        return found


class MoEFusion(nn.Module):
    """The fusion network of Cao et al. 2023, its ablations, and the fusion head of the official code.

    Parameters
    ----------
    reading : "paper" or "official"
        Equations and text with the gaps filled as the ASSUMPTION lines say, or what the published code does.
    experts, k : int
        N experts in every mixture, even, the first half of the local ones for the visible image; K selected.
    width : int
        Channels C of a feature map, even. The paper's network has 16; experts shrink with it.
    gate_grid : ((h, w), (h, w)) or "full"
        Size to which the local and the global gate resize their features; "full" is ``image_size`` for both.
    local : "mole", "attention" or "none"
        Local mixtures; "Att-Local", one 1x1 convolution of the attended features; "w/o MoLE", no local features.
    decoder : "moge", "single" or "wide"
        Global mixture; "w/o MoGE", one decoder that is built like one expert; or one whose hidden layers are widened
        until it takes the operations of K experts.
    background : bool
        Second local mixture on 1 - Att; without it there is equation (2) alone.
    noise : bool
        Noise on the gates' logits in training.
    visible_channels : 1 or 3
        Channels of the visible image that enter its encoder.
    image_size : (int, int), optional
        Height and width for ``gate_grid="full"``.
    start : "average" or "random", optional
        Untrained, fuse to about the average of both images, or to nothing in particular; by default the paper's
        reading starts from the average, the official one at random.
    seed : int
        Seed of the initial parameters; nothing global is seeded.

    Raises
    ------
    ValueError
        An argument outside what is said above; one sentence each.
    """

    # ASSUMPTION: the paper feeds H x W x 3 visible pixels and returns one channel; the default feeds Y alone.
    # ASSUMPTION: one gate over all N experts; the first half of the local experts reads the visible features, the
    # second half the infrared ones, so that top-K may take all experts from one modality (always with K = 1).
    # ASSUMPTION: equation (2) has one y_local, section 4.6 and figure 6 have foreground and background experts; both
    # mixtures exist, each with a gate, and both enter the global mixture.
    # ASSUMPTION: equation (1) has no noise, but the load loss it is trained with needs one: on in training by default.
    # ASSUMPTION: equations (1) and (3) flatten whole feature maps, 39 million weights a local gate at 640x480; by
    # default the maps are first resized to 120x160 (local) and 60x80 (global), as the official code does.
    # ASSUMPTION: the number of experts changes in local and global mixtures together (E2, E4, E6, E8 of figure 7).
    # ASSUMPTION: the fused image is the plain sum of equation (4), neither clipped nor squashed.

    def __init__(
        self,
        reading: str = "paper",
        experts: int = 4,
        k: int = 2,
        width: int = 16,
        gate_grid: Sequence[tuple[int, int]] | str = GATE_GRID,
        *,
        local: str = "mole",
        decoder: str = "moge",
        background: bool = True,
        noise: bool = True,
        visible_channels: int = 1,
        image_size: tuple[int, int] | None = None,
        start: str | None = None,
        seed: int = 0,
    ):
        super().__init__()
        for name, value, choices in (
            ("reading", reading, tuple(READINGS)), ("local", local, ("mole", "attention", "none")),
            ("decoder", decoder, ("moge", "single", "wide")), ("visible_channels", visible_channels, (1, 3)),
            ("start", start, (None, "average", "random")),
        ):
            if value not in choices:
                raise ValueError(f"{name}: expected one of {choices}, got {value!r}")
        if experts < 2 or experts % 2:
            raise ValueError(f"experts: expected an even number, half of it for each modality, got {experts}")
        if not 1 <= k <= experts:
            raise ValueError(f"k: expected 1 to {experts} selected experts (experts={experts}), got {k}")
        if width < 2 or width % 2:
            raise ValueError(f"width: expected an even number of channels, got {width}")
        self.grids = _grids(gate_grid, image_size)
        self.reading, self.local, self.decoder = reading, local, decoder
        rules = READINGS[reading]

        def mixture(channels: tuple[int, ...], reads: list[int], inputs: int, grid: tuple[int, int]) -> Mixture:
            gate = NoisyTopKGate(inputs * math.prod(grid), experts, k, noise)
            return Mixture(channels, reads, gate, rules.combine, rules.mirror)

        self.encode_visible = Encoder(visible_channels, width, rules)
        self.encode_infrared = Encoder(1, width, rules)
        grounds = () if local == "none" else ("foreground", "background") if background else ("foreground",)
        self.attention = Attention(rules.mirror) if rules.attention_convs and grounds else None
        if local == "mole":
            # "2 convolution layers and 1 ReLU layers" (section 3.2).
            # ASSUMPTION: the hidden layer of a local expert has half the channels, 8 of 16, as in the official code.
            reads = [0] * (experts // 2) + [1] * (experts // 2)
            local_parts = {g: mixture((width, width // 2, width), reads, 2 * width, self.grids[0]) for g in grounds}
        else:
            # ASSUMPTION: the 1x1 convolution of Att-Local maps both attended features to the channels of y_local, one
            # such convolution for the foreground and one for the background.
            local_parts = {g: nn.Conv2d(2 * width, width, 1) for g in grounds}
        self.local_parts = nn.ModuleDict(local_parts)
        inputs = (8 + len(grounds)) * width
        # "4 convolution layers" (section 3.3).
        # ASSUMPTION: a global expert has 10C -> 4C -> 2C -> C -> 1 channels with C = 16, as in the official code.
        channels = (inputs, 4 * width, 2 * width, width, 1)
        if decoder == "wide":
            channels = _widened(channels, k)
        if decoder != "moge":
            self.decode = Expert(channels, rules.mirror)
        else:
            self.decode = mixture(channels, [0] * experts, inputs, self.grids[1])
        self._initialise(seed, rules.random_gate)
        if start == "average" or (start is None and reading == "paper"):
            self._start_as_average()

    def _initialise(self, seed: int, random_gate: bool) -> None:
        generator = torch.Generator().manual_seed(seed)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):  # PyTorch's own rule, from a generator of ours
                bound = 1 / math.sqrt(module.weight[0].numel())
                nn.init.uniform_(module.weight, -bound, bound, generator=generator)
                nn.init.uniform_(module.bias, -bound, bound, generator=generator)
            elif isinstance(module, NoisyTopKGate) and random_gate:
                # ASSUMPTION: gates start random, N(0, 1/D), their noise weights at zero; gates that start at zero,
                # as in the official code, choose the same two experts of one modality for every image, by tie.
                nn.init.normal_(module.w_gate, std=1 / math.sqrt(len(module.w_gate)), generator=generator)
        if self.attention is not None:
            self.attention.start_as_identity()

    def _start_as_average(self) -> None:
        """Let the first channel of every layer pass the images on.

        ASSUMPTION: the start of training is not given. The gradient loss cannot tell an image from its negative, and
        a short training that starts at random often ends in one; so the network starts near (I + V) / 2: one channel
        passes each image through its encoder and their average through every decoder, whose last layer has a tenth of
        its random weights.
        """
        def passing(layer: nn.Conv2d, sources: Sequence[int]) -> None:
            layer.weight[0], layer.bias[0] = 0, 0
            layer.weight[0, sources, 1, 1] = 1 / len(sources)

        with torch.no_grad():
            for encoder in (self.encode_visible, self.encode_infrared):
                passing(encoder.layers[0], range(encoder.layers[0].in_channels))
            for expert in self.decode.experts if self.decoder == "moge" else [self.decode]:
                others = 0.1 * expert.layers[-1].weight[0, 1:]
                passing(expert.layers[0], (0, 4 * self.encode_visible.layers[0].out_channels))
                for layer in expert.layers[1:]:
                    passing(layer, (0,))
                expert.layers[-1].weight[0, 1:] = others

    def forward(
        self,
        infrared: Tensor,
        visible: Tensor,
        attention: Tensor | None = None,
        *,
        generator: Noise = None,
        details: bool = False,
    ) -> Fusion:
        """Fuse a batch.

        Parameters
        ----------
        infrared : (B, 1, H, W) float in [0, 1]
        visible : (B, visible_channels, H, W) float in [0, 1]
        attention : (B, 2, h, w) float in [0, 1]
            Maps of the infrared and the visible detector over the same frame, any size; not used by ``local="none"``.
        generator : torch.Generator or a sequence of them, optional
            Source of the gates' noise in training, one for all or one a sample; PyTorch's own where not given.
        details : bool
            Also return encoder features and the output of every expert.

        Raises
        ------
        TypeError, ValueError
            Images or maps that are no float tensors of these shapes.
        """
        self._check(infrared, visible, attention)
        out = Fusion(fused=infrared)

        def run(name: str, mixture: Mixture, sources: Sequence[Pieces], grid: tuple[int, int]) -> Tensor:
            """Run a mixture whose gate sees all sources, resized to ``grid`` and flattened; note it in ``out``."""
            small = [F.interpolate(x, grid, mode="bilinear", align_corners=True) for pieces in sources for x in pieces]
            y, gating = mixture(torch.cat(small, dim=1).flatten(1), sources, generator)
            out.gates[name], out.loads[name], out.importances[name] = gating.weights, gating.load, gating.importance
            if details:
                out.expert_outputs[name] = mixture.every_expert(sources)
            return y

        seen, warm = self.encode_visible(visible), self.encode_infrared(infrared)
        if self.local_parts:
            out.attention = self._attention(attention, infrared.shape[-2:])
        for ground, part in self.local_parts.items():
            # x_local = Att x_enc (section 3.2), and with 1 - Att for the background (section 4.6)
            mask = out.attention if ground == "foreground" else 1 - out.attention
            attended = [seen[-1] * mask, warm[-1] * mask]
            if self.local == "mole":
                out.local_features[ground] = run(ground, part, [(x,) for x in attended], self.grids[0])
            else:
                out.local_features[ground] = part(torch.cat(attended, dim=1))
            del attended  # a tenth of the memory of the forward pass
        if details:
            out.dense_features = {"infrared": torch.cat(warm, dim=1), "visible": torch.cat(seen, dim=1)}
        # x_f: y_local, x_dense of the infrared and of the visible image behind each other (end of section 3.2)
        pieces = (*seen, *warm, *out.local_features.values())
        if self.decoder == "moge":
            out.fused = run("global", self.decode, [pieces], self.grids[1])
        else:
            out.fused = self.decode(torch.cat(pieces, dim=1))
        return out

    def _attention(self, maps: Tensor, size: Sequence[int]) -> Tensor:
        # Detached: the detectors "are optimized independently by the detection loss" (section 3.1), before the
        # convolutions, so that these do train.
        maps = maps.detach()
        if self.attention is None:  # the official code: maximum, then enlarged
            maps = maps.amax(dim=1, keepdim=True)
        # ASSUMPTION: the maps are enlarged to the image bilinearly, corner pixels on corner pixels, as in the code.
        maps = F.interpolate(maps, tuple(size), mode="bilinear", align_corners=True)
        return maps if self.attention is None else self.attention(maps)

    def _check(self, infrared: Tensor, visible: Tensor, attention: Tensor | None) -> None:
        wanted = {"infrared": (infrared, 1), "visible": (visible, self.encode_visible.layers[0].in_channels)}
        for name, (x, c) in (wanted | ({"attention": (attention, 2)} if self.local_parts else {})).items():
            shape = f"a float tensor ({len(infrared) if name != 'infrared' else 'B'}, {c}, height, width)"
            if not isinstance(x, Tensor) or not x.is_floating_point():
                got = f"a tensor of {x.dtype}" if isinstance(x, Tensor) else type(x).__name__
                raise TypeError(f"{name}: expected {shape}, got {got}")
            small = 1 if name == "attention" else 2  # a single line of pixels cannot be mirrored
            if x.ndim != 4 or x.shape[1] != c or len(x) != len(infrared) or len(x) < 1 or min(x.shape[2:]) < small:
                raise ValueError(f"{name}: expected {shape}, at least {small}x{small}, got shape {tuple(x.shape)}")
        if infrared.shape[2:] != visible.shape[2:]:
            sizes = (f"{x.shape[2]}x{x.shape[3]}" for x in (infrared, visible))
            raise ValueError("infrared and visible: expected one size, got {} and {}".format(*sizes))

    def cost(self, height: int = 480, width: int = 640) -> dict[str, tuple[int, int]]:
        """Return ``{part: (parameters, operations)}``; operations of one image in evaluation, an addition or a
        multiplication each, K of N experts counted, biases, ReLU and resizing left out."""
        modules = {"visible encoder": self.encode_visible, "infrared encoder": self.encode_infrared,
                   "attention": self.attention}
        shares: dict[str, float] = {}
        for name, part in (*self.local_parts.items(), ("global", self.decode)):
            if isinstance(part, Mixture):
                modules |= {f"{name} experts": part.experts, f"{name} gate": part.gate}
                shares[f"{name} experts"] = part.gate.k / len(part.experts)
            else:
                modules["decoder" if name == "global" else f"{name} projection"] = part
        parts = {}
        for name, module in modules.items():
            if module is not None:
                kernels = sum(m.weight.numel() for m in module.modules() if isinstance(m, nn.Conv2d))
                gate = module.w_gate.numel() if isinstance(module, NoisyTopKGate) else 0
                operations = round(2 * shares.get(name, 1) * (kernels * height * width + gate))
                parts[name] = sum(p.numel() for p in module.parameters()), operations
        return parts

    @classmethod
    def from_official(cls, state_dict: Mapping[str, Tensor], image_size: tuple[int, int] = (480, 640)) -> MoEFusion:
        """Build the official reading from a state dict of the official fusion head, or of the whole official model.

        Parameters
        ----------
        state_dict : mapping of str to tensor
            The official names, ``encoder.Conv1.conv_r.weight`` and so on, whatever stands before them; other entries
            (detectors, buffers of the gates) are left aside.
        image_size : (int, int)
            Height and width the gates were made for: their grids are a quarter (local) and an eighth (global) of it.

        Raises
        ------
        ValueError
            An entry is missing or has another shape than the network for this ``image_size``.
        """
        grids = tuple((image_size[0] // part, image_size[1] // part) for part in (4, 8))
        model = cls("official", gate_grid=grids)
        own = model.state_dict()
        given = from_official_names(state_dict, own)
        for name, value in given.items():
            if value.shape != own[name].shape:
                raise ValueError(f"state_dict: expected {official_name(name)!r} of shape {tuple(own[name].shape)} for "
                                 f"images of {image_size[0]}x{image_size[1]}, got {tuple(value.shape)}")
        model.load_state_dict(given)
        return model


def _widened(channels: tuple[int, ...], k: int) -> tuple[int, ...]:
    """Return the channels of one chain of four convolutions that takes about the operations of ``k`` such chains."""
    first, a, b, c, last = channels
    # Widened by s, the first and the last kernels grow with s, those between with its square.
    linear, square = first * a + c * last, a * b + b * c
    s = (math.sqrt(linear**2 + 4 * square * k * (linear + square)) - linear) / (2 * square)
    return (first, *(round(s * n) for n in (a, b, c)), last)


def _grids(gate_grid: object, image_size: tuple[int, int] | None) -> tuple[tuple[int, int], tuple[int, int]]:
    if isinstance(gate_grid, str) and gate_grid == "full":
        if image_size is None:
            raise ValueError('image_size: expected (height, width) with gate_grid="full", got None')
        gate_grid = (image_size, image_size)
    try:
        local, world = ((int(h), int(w)) for h, w in gate_grid)
    except (TypeError, ValueError):
        local = world = (0, 0)
    if min(*local, *world) < 1:
        raise ValueError(f'gate_grid: expected ((h, w), (h, w)), local and global, or "full", got {gate_grid!r}')
    return local, world
