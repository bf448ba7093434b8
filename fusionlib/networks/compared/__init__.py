"""The compared networks, one file each, and the one table of them: the nine of MoE-Fusion's tables
and newer ones.

``COMPARED`` knows them by the names of the paper's tables: ``COMPARED["TarDAL"].load("tt",
folder=...)`` gives a network with official weights, ``.build("tt", seed=0)`` the same network with
random ones; ``.fuse(infrared, visible)`` of either takes and gives gray uint8 images. Reading the
table does not import torch.

ASSUMPTION: the MoE-Fusion paper does not say which variant of a compared method it ran; the default
of each is the one behind the images that third-party comparisons publish, or, where there are none,
the authors' own test script.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import torch
    from torch import nn


class Variant(NamedTuple):
    """A named way to run a network: official weights, a sentence, options of its class."""

    checkpoint: str
    description: str
    options: Mapping[str, Any] = {}


@dataclass(frozen=True)
class Compared:
    """A compared method: its network and its named variants, the default first.

    Attributes
    ----------
    name : str
    source : str
        "module:class" of this package.
    trained_on : str
        What the released weights were trained on, by repositories and papers of their authors; ""
        where neither says.
    variants : dict
        Name to :class:`Variant`, the default first.
    colour : bool
        Whether ``fuse`` also takes an RGB visible image and gives RGB, by the authors' own luma and
        chroma.
    newer : bool
        Whether later papers compare with it and MoE-Fusion's tables do not.
    """

    name: str
    source: str
    trained_on: str
    variants: Mapping[str, Variant] = field(repr=False)
    colour: bool = False
    newer: bool = False

    @property
    def network(self) -> type[nn.Module]:
        """The class of the network; it takes the options of a variant."""
        module, name = self.source.split(":")
        return getattr(importlib.import_module(f".{module}", __name__), name)

    def variant(self, name: str | None = None) -> str:
        """Return a variant's name, the default's for None; ValueError for an unknown one."""
        if name is None:
            return next(iter(self.variants))
        if name not in self.variants:
            expected = ", ".join(self.variants)
            raise ValueError(f"variant: {self.name} expected one of {expected}, got {name!r}")
        return name

    def build(
        self, variant: str | None = None, seed: int = 0, device: str | torch.device = "cpu"
    ) -> nn.Module:
        """Return the network of a variant with random weights: for timings and tests.

        Parameters
        ----------
        variant : str, optional
            Its name; by default the first.
        seed : int
            Of the weights; nothing global is seeded.
        device : str or torch.device
        """
        import torch

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network: Any = self.network(**self.variants[self.variant(variant)].options)
        return network.eval().to(device)

    def load(
        self,
        variant: str | None = None,
        folder: str | os.PathLike | None = None,
        cache: str | os.PathLike | None = None,
        device: str | torch.device = "cpu",
        unverified: bool = False,
    ) -> nn.Module:
        """Return the network of a variant with official weights.

        Its attribute ``provenance`` has method, variant, checkpoint, files with SHA-256, verified
        and licence.

        Parameters
        ----------
        variant : str, optional
            Its name; by default the first.
        folder, cache : path, optional
            As :func:`fusionlib.networks.load_checkpoint` takes them; raises as that does, and names
            the variants whose weights are there instead.
        device : str or torch.device
        unverified : bool
            ``folder`` is a file or folder with weights of one's own, as
            :func:`.weights.load_unverified` takes it.
        """
        from ..weights import fill, load_checkpoint, load_unverified

        variant = self.variant(variant)
        key = self.variants[variant].checkpoint
        if unverified:
            checkpoint = load_unverified(folder or "", key)
        else:
            try:
                checkpoint = load_checkpoint(key, folder, cache)
            except FileNotFoundError as error:
                hint = self._variants_in(folder, cache)
                raise FileNotFoundError(f"{error}{hint}") from None
        network = fill(self.build(variant, device=device), checkpoint)
        provenance: Any = {
            "method": self.name,
            "variant": variant,
            "checkpoint": checkpoint.name,
            "files": checkpoint.files,
            "verified": checkpoint.verified,
            "licence": checkpoint.licence,
        }
        network.provenance = provenance
        return network

    def _variants_in(
        self, folder: str | os.PathLike | None, cache: str | os.PathLike | None
    ) -> str:
        """Return the variants whose weights are where others were looked for, as a part of a
        sentence; "" for none.
        """
        from ..weights import names_in

        sentences = [
            f"{', '.join(files)} is of the variant {name}"
            for name, variant in self.variants.items()
            if (files := names_in(variant.checkpoint, folder, cache))
        ]
        return f"; there, {sentences[0]}" if sentences else ""


def _densefuse() -> dict[str, Variant]:
    variants = {}
    for weight in ("1e2", "1e0", "1e1", "1e3"):
        for strategy in ("addition", "l1"):
            description = (
                f"TensorFlow weights trained with SSIM weight {weight}, {strategy} fusion, "
                "output stretched to 0..255"
            )
            variants[f"tensorflow-{weight}-{strategy}"] = Variant(
                f"densefuse-tensorflow-{weight}",
                description,
                {"flavour": "tensorflow", "strategy": strategy},
            )
    variants["torch-gray"] = Variant(
        "densefuse-torch-gray",
        "PyTorch weights, mean of the features, output clamped",
        {"flavour": "torch"},
    )
    variants["torch-rgb"] = Variant(
        "densefuse-torch-rgb",
        "PyTorch weights for colour on three equal channels, output clamped",
        {"flavour": "torch", "channels": 3},
    )
    return variants


def _ifcnn() -> dict[str, Variant]:
    variants = {}
    for rule in ("max", "sum", "mean"):
        variants[f"{rule}-imagenet"] = Variant(
            f"ifcnn-{rule}",
            f"elementwise {rule}, ImageNet normalisation, as behind the paper's images",
            {"rule": rule, "imagenet": True},
        )
        variants[rule] = Variant(
            f"ifcnn-{rule}",
            f"elementwise {rule}, images in [0, 1] as they are, as in the released script",
            {"rule": rule, "imagenet": False},
        )
    return variants


def _tardal() -> dict[str, Variant]:
    batch, stored = "statistics of the image itself", "stored statistics"
    return {
        "dt": Variant(
            "tardal-dt", f"direct training, {batch}, as in both releases", {"statistics": "batch"}
        ),
        "tt": Variant(
            "tardal-tt",
            f"task-oriented training, {stored}, as in the second release",
            {"statistics": "stored"},
        ),
        "ct": Variant(
            "tardal-ct",
            f"cooperative training, {stored}, as in the second release",
            {"statistics": "stored"},
        ),
        "tt-batch": Variant(
            "tardal-tt",
            f"task-oriented training, {batch}, as in the first",
            {"statistics": "batch"},
        ),
        "ct-batch": Variant(
            "tardal-ct", f"cooperative training, {batch}, as in the first", {"statistics": "batch"}
        ),
        "dt-stored": Variant(
            "tardal-dt",
            f"direct training, {stored}, which were never updated",
            {"statistics": "stored"},
        ),
    }


_TABLE = (
    Compared("DenseFuse", "densefuse:DenseFuse", "MS-COCO", _densefuse()),
    Compared(
        "RFN-Nest",
        "rfn_nest:RFNNest",
        "MS-COCO, KAIST",
        {
            "tiled": Variant(
                "rfn-nest",
                "official weights, images with a side above 512 cut in four "
                "tiles as the authors do",
            ),
            "whole": Variant(
                "rfn-nest", "official weights, never cut in tiles", {"tile_above": None}
            ),
        },
    ),
    Compared("IFCNN", "ifcnn:IFCNN", "NYU-D2", _ifcnn()),
    Compared(
        "PIAFusion",
        "piafusion:PIAFusion",
        "MSRS",
        {
            "tensorflow": Variant(
                "piafusion-tensorflow",
                "the authors' TensorFlow network with its own luma",
                {"flavour": "tensorflow"},
            ),
            "torch": Variant(
                "piafusion-torch", "the unofficial PyTorch port", {"flavour": "torch"}
            ),
        },
        colour=True,
    ),
    Compared(
        "DIDFuse",
        "didfuse:DIDFuse",
        "FLIR",
        {
            "sum": Variant("didfuse", "all four feature maps summed, as in every published image"),
            "average": Variant("didfuse", "all four feature maps averaged", {"rule": "average"}),
        },
    ),
    Compared(
        "AUIF",
        "auif:AUIF",
        "FLIR",
        {
            "sum": Variant("auif", "bases and details summed, as in every published image"),
            "average": Variant("auif", "bases and details averaged", {"rule": "average"}),
        },
    ),
    Compared(
        "SwinFuse",
        "swinfuse:SwinFuse",
        "MS-COCO",
        {
            "tiled": Variant(
                "swinfuse",
                "official weights (SSIM weight 1e3), tiles of 224 x 224 as the authors do",
            ),
            "whole": Variant(
                "swinfuse",
                "official weights (SSIM weight 1e3), the image as one tile, without seams",
                {"tile": None},
            ),
        },
    ),
    Compared(
        "YDTR", "ydtr:YDTR", "", {"released": Variant("ydtr", "official weights of epoch 10")}
    ),
    Compared("TarDAL", "tardal:TarDAL", "M3FD", _tardal()),
    Compared(
        "SeAFusion",
        "seafusion:SeAFusion",
        "MSRS",
        {
            "stretched": Variant(
                "seafusion",
                "official weights, each image stretched to 0..255, as in the later script",
            ),
            "plain": Variant(
                "seafusion",
                "official weights, without the stretch, which the first script took over 32 images",
                {"stretch": False},
            ),
        },
        colour=True,
        newer=True,
    ),
    Compared(
        "DATFuse",
        "datfuse:DATFuse",
        "",
        {"released": Variant("datfuse", "official weights of epoch 10")},
        newer=True,
    ),
    Compared(
        "U2Fusion",
        "u2fusion:U2Fusion",
        "",
        {
            "benchmark": Variant(
                "u2fusion",
                "official weights, infrared first, output stretched from its own minimum and"
                " maximum, as behind published images",
            ),
            "author": Variant(
                "u2fusion",
                "official weights, visible first, output scaled to its own maximum, as in the"
                " author's script",
                {"flavour": "author"},
            ),
        },
        newer=True,
    ),
    Compared(
        "SDNet",
        "sdnet:SDNet",
        "",
        {
            "rgb": Variant(
                "sdnet",
                "official weights, gray levels as the script reads RGB files, as behind published"
                " images",
            ),
            "gray": Variant(
                "sdnet",
                "official weights, gray levels as they are, as the script reads gray files",
                {"file": "gray"},
            ),
        },
        newer=True,
    ),
    Compared(
        "LRRNet",
        "lrrnet:LRRNet",
        "KAIST",
        {"released": Variant("lrrnet", "official weights of epoch 4, four blocks")},
        newer=True,
    ),
    Compared(
        "GIFNet",
        "gifnet:GIFNet",
        "",
        {"released": Variant("gifnet", "official weights of the last epoch")},
        colour=True,
        newer=True,
    ),
    Compared(
        "CDDFuse",
        "cddfuse:CDDFuse",
        "MSRS",
        {"released": Variant("cddfuse", "official weights for infrared and visible")},
        newer=True,
    ),
    Compared(
        "EMMA",
        "emma:EMMA",
        "MSRS",
        {"released": Variant("emma", "official weights, sizes by four corner parts")},
        newer=True,
    ),
)
COMPARED: dict[str, Compared] = {method.name: method for method in _TABLE}
