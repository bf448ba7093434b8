"""Networks: MoE-Fusion and the nine it is compared with, each a module with its own ``fuse``.

``REGISTRY`` holds the compared methods by the names the paper's tables use. ``REGISTRY["TarDAL"].load("tt",
folder=...)`` gives a network with official weights, ``.build("tt", seed=0)`` the same network with random ones;
``.fuse(infrared, visible)`` takes and gives gray uint8 images.

ASSUMPTION: the MoE-Fusion paper does not say which variant of a compared method it ran; the default of each is the one
behind the images that third-party comparisons publish, or, where there are none, the authors' own test script.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn

from . import auif, densefuse, didfuse, ifcnn, piafusion, rfn_nest, swinfuse, tardal, ydtr
from .checkpoints import Checkpoint, download, fill, load_checkpoint, save_checkpoint
from .layers import Variant
from .moe_fusion import MoEFusion

__all__ = ["REGISTRY", "Checkpoint", "Compared", "MoEFusion", "download", "load_checkpoint", "save_checkpoint"]


@dataclass(frozen=True)
class Compared:
    """A compared method: its network and its named variants, the default first.

    Attributes
    ----------
    name : str
    network : type
        The module; it takes the options of a variant.
    variants : dict
        Name to :class:`.layers.Variant` (checkpoint, sentence, options).
    colour : bool
        Whether ``fuse`` also takes an RGB visible image and gives RGB, by the authors' own luma and chroma.
    """

    name: str
    network: type[nn.Module]
    variants: Mapping[str, Variant]
    colour: bool = False

    def variant(self, name: str | None = None) -> str:
        """Return the variant's name, the default's for None; raise ValueError for an unknown one."""
        if name is None:
            return next(iter(self.variants))
        if name not in self.variants:
            raise ValueError(f"variant: {self.name} expected one of {', '.join(self.variants)}, got {name!r}")
        return name

    def build(self, variant: str | None = None, seed: int = 0, device: str | torch.device = "cpu") -> nn.Module:
        """Return the network of a variant with random weights drawn from ``seed``: for timings and tests only."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return self.network(**self.variants[self.variant(variant)].options).eval().to(device)

    def load(self, variant: str | None = None, folder: str | os.PathLike | None = None,
             cache: str | os.PathLike | None = None, device: str | torch.device = "cpu") -> nn.Module:
        """Return the network of a variant with official weights, found as :func:`load_checkpoint` does.

        What was loaded stands in its attribute ``provenance``: method, variant, checkpoint, files with SHA-256,
        verified, licence.
        """
        variant = self.variant(variant)
        checkpoint = load_checkpoint(self.variants[variant].checkpoint, folder, cache)
        network = fill(self.build(variant), checkpoint).to(device)
        network.provenance = {"method": self.name, "variant": variant, "checkpoint": checkpoint.name,
                              "files": checkpoint.files, "verified": checkpoint.verified, "licence": checkpoint.licence}
        return network


REGISTRY: dict[str, Compared] = {
    method.name: method
    for method in [
        Compared("DenseFuse", densefuse.DenseFuse, densefuse.VARIANTS),
        Compared("RFN-Nest", rfn_nest.RFNNest, rfn_nest.VARIANTS),
        Compared("IFCNN", ifcnn.IFCNN, ifcnn.VARIANTS),
        Compared("PIAFusion", piafusion.PIAFusion, piafusion.VARIANTS, colour=True),
        Compared("DIDFuse", didfuse.DIDFuse, didfuse.VARIANTS),
        Compared("AUIF", auif.AUIF, auif.VARIANTS),
        Compared("SwinFuse", swinfuse.SwinFuse, swinfuse.VARIANTS),
        Compared("YDTR", ydtr.YDTR, ydtr.VARIANTS),
        Compared("TarDAL", tardal.TarDAL, tardal.VARIANTS),
    ]
}
