"""Networks: MoE-Fusion, those it is compared with, and their weights.

``MoEFusion`` is in :mod:`.moe_fusion`, its equations in :mod:`.mixture`, a quick way to run it in
:mod:`.inference`; :mod:`.compared` has the table ``COMPARED`` (also ``REGISTRY``), :mod:`.weights`
what lies on disk. Names are imported when they are asked for, so that reading the table is quick.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from .compared import COMPARED, Compared

if TYPE_CHECKING:
    from .moe_fusion import MoEFusion
    from .weights import Checkpoint, download, load_checkpoint, save_checkpoint

REGISTRY = COMPARED
_HOMES = {
    "MoEFusion": ".moe_fusion",
    "Checkpoint": ".weights",
    "download": ".weights",
    "load_checkpoint": ".weights",
    "save_checkpoint": ".weights",
}
__all__ = [
    "COMPARED",
    "REGISTRY",
    "Checkpoint",
    "Compared",
    "MoEFusion",
    "download",
    "load_checkpoint",
    "save_checkpoint",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
