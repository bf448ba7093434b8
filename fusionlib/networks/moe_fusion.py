"""MoE-Fusion: gated mixtures of local and global experts fuse an infrared and a visible image.

Source: Cao, Sun, Zhu, Hu, "Multi-modal Gated Mixture of Local-to-Global Experts for Dynamic Image
Fusion", ICCV 2023, here "Cao". :meth:`MoEFusion.forward` is its section 3 in order; equations (1)
to (4) are in :mod:`.mixture`, (5) is in ``fusionlib.losses``::

    infrared -> encoder --+-- x_enc * Att,  x_enc * (1 - Att) --> local mixtures --+
                          |           ^ Att of both attention maps                 +--> global
    visible  -> encoder --+------------ x_dense -----------------------------------+    mixture

Shapes: B images of H x W pixels, N experts of which K are chosen, C = width.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import initialization, moe_names
from .configuration import READINGS, MoEFusionConfig, check_batch, widened
from .encoder import AttentionFusion, DenseEncoder
from .mixture import Expert, MixtureOfExperts, Noise, NoisyTopKGate
from .output import ForwardPass, MoEFusionOutput, soft_knee


class MoEFusion(nn.Module):
    """The fusion network of Cao et al. 2023, its ablations, the fusion head of the official code.

    Arguments are those of :class:`.configuration.MoEFusionConfig`, kept as ``config``: the first
    five by place or name, the others by name.
    """

    def __init__(self, *args, **options):
        super().__init__()
        config = self.config = MoEFusionConfig(*args, **options)
        reading, width = READINGS[config.reading], config.width
        border, dense_relu = reading.border, reading.dense_relu
        self.visible_encoder = DenseEncoder(config.visible_channels, width, border, dense_relu)
        self.infrared_encoder = DenseEncoder(1, width, border, dense_relu)
        attends = reading.attention_convs and config.regions
        self.attention_fusion = AttentionFusion(border) if attends else None
        self.local_mixtures = nn.ModuleDict({r: self._local_mixture() for r in config.regions})
        self.decoder = self._decoder()
        initialization.initialize(self, config.seed, random_gates=reading.random_gates)
        if config.start == "average" or (config.start is None and config.reading == "paper"):
            encoders = self.visible_encoder, self.infrared_encoder
            decoders = self.decoder.experts if config.decoder == "moge" else [self.decoder]
            initialization.start_as_average(encoders, decoders, features=(0, 4 * width))
        self.register_load_state_dict_pre_hook(moe_names.accept_former_names)

    def _local_mixture(self) -> MixtureOfExperts | nn.Conv2d:
        config, width = self.config, self.config.width
        if config.local == "attention":
            # ASSUMPTION: the 1x1 convolution of Att-Local maps both attended features to the
            # channels of y_local, one such convolution for each region.
            return nn.Conv2d(2 * width, width, 1)
        # "2 convolution layers and 1 ReLU layers" (section 3.2).
        # ASSUMPTION: the hidden layer of a local expert has half the channels, as in the code.
        return self._mixture((width, width // 2, width), 2, config.local_grid)

    def _decoder(self) -> MixtureOfExperts | Expert:
        config, width = self.config, self.config.width
        # "4 convolution layers" (section 3.3).
        # ASSUMPTION: a global expert has 10C -> 4C -> 2C -> C -> 1 channels, as in the code.
        channels: tuple[int, ...]
        channels = ((8 + len(config.regions)) * width, 4 * width, 2 * width, width, 1)
        if config.decoder == "moge":
            return self._mixture(channels, 1, config.global_grid)
        if config.decoder == "wide":
            channels = widened(channels, config.k)
        return Expert(channels, READINGS[config.reading].border)

    def _mixture(
        self, channels: Sequence[int], inputs: int, grid: Sequence[int]
    ) -> MixtureOfExperts:
        """Build experts that read one of ``inputs`` maps, and their gate, which reads all."""
        config, reading = self.config, READINGS[self.config.reading]
        features = inputs * channels[0] * math.prod(grid)
        gate = NoisyTopKGate(features, config.experts, config.k, noise=config.noise)
        return MixtureOfExperts(
            channels, gate, inputs, combine=reading.combine, border=reading.border
        )

    def forward(
        self,
        infrared: Tensor,
        visible: Tensor,
        attention: Tensor | None = None,
        *,
        generator: Noise = None,
        details: bool = False,
    ) -> MoEFusionOutput:
        """Fuse a batch.

        Parameters
        ----------
        infrared : (B, 1, H, W) float in [0, 1]
        visible : (B, visible_channels, H, W) float in [0, 1]
        attention : (B, 2, h, w) float in [0, 1]
            Maps of the infrared and the visible detector, any size; not for ``local="none"``.
        generator : torch.Generator or a sequence of them, optional
            Source of the gates' noise in training.
        details : bool
            Also return encoder features and the output of every expert.

        Raises
        ------
        TypeError, ValueError
            Images or maps that are no float tensors of these shapes.
        """
        check_batch(self.config, infrared, visible, attention)
        out = MoEFusionOutput(infrared.new_empty(0))
        run = ForwardPass(out, generator, details)
        # Section 3.1: x_dense of either image, its last C channels x_enc.
        visible_features, infrared_features = self.encode(visible, infrared)  # (B, 4C, H, W) each
        # Section 3.2: Att, and with it y_local of the foreground and of the background.
        if self.config.regions and attention is not None:
            att = out.attention = self.attend(attention, infrared.shape[-2:])  # (B, 1, H, W)
            for region in self.config.regions:
                # x_local = Att x_enc (section 3.2), and with 1 - Att for the background (4.6)
                mask = att if region == "foreground" else 1 - att
                x_enc = (x[:, -self.config.width :] for x in (visible_features, infrared_features))
                x_local = [x * mask for x in x_enc]  # (B, C, H, W) each
                out.local_features[region] = self.mix_local(region, x_local, run)  # (B, C, H, W)
        # End of section 3.2: x_f, the dense features of both images and y_local as channels.
        x_f = torch.cat([visible_features, infrared_features, *out.local_features.values()], dim=1)
        out.fused = self.decode(x_f, run)  # section 3.3: (B, 10C, H, W) -> (B, 1, H, W)
        if details:
            out.dense_features = {"infrared": infrared_features, "visible": visible_features}
        return out

    def encode(self, visible: Tensor, infrared: Tensor) -> tuple[Tensor, Tensor]:
        """Return x_dense of both images, (B, 4C, H, W) each (section 3.1)."""
        return self.visible_encoder(visible), self.infrared_encoder(infrared)

    def attend(self, maps: Tensor, size: Sequence[int]) -> Tensor:
        """Return Att (B, 1, H, W) of the detectors' maps (B, 2, h, w) (section 3.2)."""
        # Detached: the detectors "are optimized independently by the detection loss" (section 3.1);
        # before the convolutions, so that these do train.
        maps = maps.detach()
        if self.attention_fusion is None:  # the official code: maximum, then enlarged
            maps = maps.amax(dim=1, keepdim=True)
        # ASSUMPTION: maps are enlarged bilinearly, corner pixels on corner pixels, as in the code.
        maps = F.interpolate(maps, tuple(size), mode="bilinear", align_corners=True)
        return maps if self.attention_fusion is None else self.attention_fusion(maps)

    def mix_local(self, region: str, x_local: list[Tensor], run: ForwardPass) -> Tensor:
        """Return y_local (B, C, H, W) of a region: equation (2).

        Parameters
        ----------
        region : "foreground" or "background"
        x_local : list of (B, C, H, W)
            Attended features of the visible and of the infrared image.
        run : ForwardPass
        """
        module = self.local_mixtures[region]
        if not isinstance(module, MixtureOfExperts):  # Att-Local
            return module(torch.cat(x_local, dim=1))
        return self._mix(region, module, x_local, run)

    def decode(self, x_f: Tensor, run: ForwardPass) -> Tensor:
        """Return the fused image (B, 1, H, W) of x_f (B, 10C, H, W): equation (4)."""
        if isinstance(self.decoder, MixtureOfExperts):
            fused = self._mix("global", self.decoder, [x_f], run)
        else:
            fused = self.decoder(x_f)
        # ASSUMPTION: the fused image is the plain sum of equation (4), not clipped nor squashed;
        # a knee is ours.
        knee = self.config.knee
        return fused if knee is None else soft_knee(fused, knee)

    def _mix(
        self, name: str, mixture: MixtureOfExperts, inputs: list[Tensor], run: ForwardPass
    ) -> Tensor:
        """Run a mixture whose gate reads all its inputs (B, C, H, W), and note its decision."""
        out = run.out
        grid = self.config.global_grid if name == "global" else self.config.local_grid
        small = [F.interpolate(x, grid, mode="bilinear", align_corners=True) for x in inputs]
        s = torch.cat(small, dim=1).flatten(1)  # Cao (1), (3): s = flatten(x), (B, D)
        y, gating = mixture(s, inputs, run.generator)
        out.gates[name], out.loads[name] = gating.weights, gating.load
        out.importances[name] = gating.importance
        if run.details:
            out.expert_outputs[name] = mixture.every_output(inputs)
        return y

    @classmethod
    def from_official(
        cls, state_dict: Mapping[str, Tensor], image_size: tuple[int, int] = (480, 640)
    ) -> MoEFusion:
        """Build the official reading from an official state dict, as :mod:`.moe_names` reads it."""
        # The gates' grids are a quarter (local) and an eighth (global) of their images.
        grids = [(image_size[0] // n, image_size[1] // n) for n in (4, 8)]
        model = cls("official", gate_grid=grids)
        expected = model.state_dict()
        model.load_state_dict(moe_names.from_official(state_dict, expected, image_size))
        return model
