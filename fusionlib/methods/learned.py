"""Methods that need weights: the compared networks with their authors' weights, and MoE-Fusion with
ours.

Each is a function ``(ya, yb, planes, **parameters) -> (fused planes, info)``, see
:mod:`fusionlib.methods`. Importing this module does not import torch.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import numpy as np

from fusionlib import runs
from fusionlib.networks import COMPARED

Planes = list[tuple[np.ndarray, np.ndarray]]
OWN_LUMA = "-own-luma"


class Learned:
    """A compared network with the authors' weights, loaded at the first use.

    Parameters
    ----------
    weights : path or None
        Folder with the official files; the user's cache where None.
    variant : str
        One of the network's; with "-own-luma" behind it a coloured visible image is handed over as
        it is and the network's own conversion gives and takes the luma (PIAFusion).
    """

    takes_uint8 = True

    def __init__(self, name: str, variant: str, weights: str | Path | None, device: str):
        self.name, self.variant, self.weights, self.device = name, variant, weights, device
        self.__doc__ = (
            "Compared network of MoE-Fusion's tables,"
            f" {compared(name).variants[self._network_variant].description}."
        )

    @property
    def _network_variant(self) -> str:
        return self.variant.removesuffix(OWN_LUMA)

    @property
    def takes_colour(self) -> bool:
        """Whether a coloured visible image goes into the network as it is."""
        return self.variant.endswith(OWN_LUMA)

    @cached_property
    def network(self):
        """The network; FileNotFoundError says what to get, from whom, and where to put it."""
        from fusionlib.runs import device_name

        return compared(self.name).load(
            self._network_variant, self.weights, device=device_name(self.device)
        )

    def __call__(self, ya: np.ndarray, yb: np.ndarray, planes: Planes):
        return [self.network.fuse(ya, yb)], {}


def compared(name: str):
    """Return the entry of a compared network in the table of them."""
    return COMPARED[name]


MOE_FUSION = "MoE-Fusion"
# below the repository: a small model trained on generated scenes
ARTEFACT = "reports/reference/smoke/training"


class Trained:
    """MoE-Fusion with weights of :func:`fusionlib.training.train`, loaded at the first use; its
    authors published none.

    Parameters
    ----------
    folder : path or None
        Of the training; None takes the small model that comes with the suite, trained on generated
        scenes in about a minute: it shows that everything works and is no substitute for a training
        on photographs.
    """

    takes_uint8 = True

    def __init__(self, folder: str | Path | None, device: str):
        self.folder, self.device = Path(folder or runs.root() / ARTEFACT), device

    @cached_property
    def network(self):
        """The :class:`fusionlib.training.model.Model`; FileNotFoundError says where it was looked
        for.
        """
        from fusionlib.training.model import load

        return load(self.folder, self.device)

    def __call__(self, ya: np.ndarray, yb: np.ndarray, planes: Planes, memory: float | None = None):
        return [self.network.fuse(ya, yb, memory=memory)], {}
