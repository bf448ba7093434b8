"""Methods that need weights: the compared networks with their authors' weights, and MoE-Fusion with
ours.

Each is called with two uint8 luma planes and returns the fused one. Importing this module does not
import torch.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fusionlib import runs
from fusionlib.methods.registry import MOE_FUSION as MOE_FUSION
from fusionlib.networks import COMPARED

if TYPE_CHECKING:
    from fusionlib.training.model import Model

OWN_LUMA = "-own-luma"
MODELS = Path(__file__).parents[1] / "included/models"
ARTEFACT = MODELS / "training"  # a small model trained on generated scenes
# Variants of MoE-Fusion: weights trained here, since its authors published none; default first.
OWN_WEIGHTS = {"general": MODELS / "general", "scenes": ARTEFACT}
SCENES = (
    "the weights 'scenes' were trained for a minute on generated scenes, to show that everything"
    " works; for images of your own take the variant 'general'"
)


class Learned:
    """A method with a ``network``."""

    network: Any

    @cached_property
    def weights(self) -> str:
        """SHA-256 of the tensors, whatever their file is called: a training may go on in it."""
        from fusionlib.networks.weights.checkpoint import fingerprint

        return fingerprint(self.network.state_dict())


class ComparedNetwork(Learned):
    """A compared network with the authors' weights, loaded at the first use.

    Parameters
    ----------
    name : str
        A key of :data:`fusionlib.networks.COMPARED`.
    variant : str
        One of the network's; with "-own-luma" behind it a coloured visible image is handed over as
        it is and the network's own conversion gives and takes the luma (PIAFusion).
    folder : path or None
        With the official files; where :mod:`fusionlib.places` says if None.
    device : str
        "auto", "cpu" or "cuda".
    unverified : bool
        ``folder`` is a file or folder with weights that are not the authors'.
    """

    def __init__(
        self,
        name: str,
        variant: str,
        folder: str | Path | None,
        device: str,
        unverified: bool = False,
    ):
        self.name, self.folder, self.device = name, folder, device
        self.variant, self.unverified = variant.removesuffix(OWN_LUMA), unverified
        network = COMPARED[name]
        kind = "Newer network" if network.newer else "Compared network of MoE-Fusion's tables"
        self.summary = f"{kind}, {network.variants[self.variant].description}."

    @cached_property
    def network(self):
        """The network; FileNotFoundError says what to get, from whom, and where to put it."""
        from fusionlib.networks.compared.layers import channels_last

        network = COMPARED[self.name].load(
            self.variant,
            self.folder,
            device=runs.device_name(self.device),
            unverified=self.unverified,
        )
        return channels_last(network)

    def __call__(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return self.network.fuse(a, b)


class MoEFusionMethod(Learned):
    """MoE-Fusion with weights of :func:`fusionlib.training.train`, loaded at the first use; its
    authors published none.

    Parameters
    ----------
    folder : path
        Of the training, such as one of :data:`OWN_WEIGHTS`.
    device : str
        "auto", "cpu" or "cuda".
    """

    summary = "Local and global mixtures of experts, guided by a detector's attention."

    def __init__(self, folder: str | Path, device: str):
        self.folder, self.device = Path(folder), device

    @cached_property
    def network(self) -> Model:
        """The :class:`fusionlib.training.model.Model`; FileNotFoundError says where it was looked
        for.
        """
        from fusionlib.training.model import load

        return load(self.folder, self.device)

    def __call__(self, a: np.ndarray, b: np.ndarray, memory: float | None = None) -> np.ndarray:
        return self.network.fuse(a, b, memory=memory)
