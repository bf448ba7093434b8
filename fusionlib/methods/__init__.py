"""Every fusion method under one name and one call: ``get(name).fuse(a, b) -> fused``.

A method is a function of two luma planes under :func:`register`; it returns the fused plane, or a
:class:`Decision` that also says how colour channels are fused. Every module of this package is
imported, so that a file of one's own needs no other line.
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fusionlib import images
from fusionlib.methods.folders import fuse_folders, fuse_pairs, import_fused_folder
from fusionlib.methods.learned import (
    ARTEFACT,
    OWN_LUMA,
    OWN_WEIGHTS,
    SCENES,
    ComparedNetwork,
    MoEFusionMethod,
)
from fusionlib.methods.method import Decision, Method, mixed_chroma
from fusionlib.methods.registry import GROUPS, METHODS, MOE_FUSION, load_plugins, register
from fusionlib.networks import COMPARED

__all__ = [
    "ARTEFACT",
    "COMPARED",
    "METHODS",
    "MOE_FUSION",
    "OWN_WEIGHTS",
    "SCENES",
    "Decision",
    "Method",
    "count_parameters_and_flops",
    "expand",
    "fuse_folders",
    "fuse_pairs",
    "get",
    "import_fused_folder",
    "load_plugins",
    "missing_weights",
    "mixed_chroma",
    "names",
    "register",
    "variants_of",
]
for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")


def names() -> list[str]:
    """Return the names of all methods."""
    return [*METHODS, *COMPARED, MOE_FUSION]


def expand(chosen: Iterable[str]) -> list[str]:
    """Return names of methods: for "compared" the networks of MoE-Fusion's tables, for "newer" the
    others of :data:`fusionlib.networks.COMPARED`.
    """
    expanded: list[str] = []
    for name in chosen:
        if name in GROUPS:
            newer = name == "newer"
            expanded += [key for key, network in COMPARED.items() if network.newer == newer]
        else:
            expanded.append(name)
    return expanded


def _check_name(name: str) -> None:
    """Raise ValueError for a name that is no method's, with the nearest one."""
    if name not in names():
        near = difflib.get_close_matches(
            str(name).lower(), [known.lower() for known in names()], 1, 0.5
        )
        hint = next(
            (f"; did you mean {known}?" for known in names() if [known.lower()] == near), ""
        )
        raise ValueError(f"method: expected one of {', '.join(names())}, got {name!r}{hint}")


@dataclass(frozen=True)
class Recipe:
    """The arguments of :func:`get`, and the plugin that must be there before."""

    arguments: tuple
    plugin: str = ""

    def __call__(self) -> Method:
        if self.plugin and self.arguments[0] not in METHODS:
            load_plugins(self.plugin)
        return get(*self.arguments)


def get(
    name: str,
    variant: str | None = None,
    checkpoint: str | None = None,
    device: str = "auto",
    unverified: bool = False,
) -> Method:
    """Return a method by name.

    Parameters
    ----------
    name : str
        One of :func:`names`.
    variant : str, optional
        One of ``get(name).variants``; the first by default.
    checkpoint : path, optional
        Folder with the official weights of a compared network (by default where
        :mod:`fusionlib.places` says), or of a training of MoE-Fusion, in place of the variants,
        which are trainings that come with the suite; refused by the others.
    device : str
        "auto", "cpu" or "cuda"; used by learned methods.
    unverified : bool
        ``checkpoint`` holds weights of one's own for a compared network, as
        :func:`fusionlib.networks.weights.load_unverified` takes them; the method is then named
        "NAME (unverified)".

    Raises
    ------
    ValueError
        An unknown name, with the nearest one, or an unknown variant; ``unverified`` for a method
        that is not compared, or without a checkpoint.

    Examples
    --------
    >>> import numpy as np
    >>> get("maximum").fuse(np.full((2, 2), 10, np.uint8), np.full((2, 2), 50, np.uint8))
    array([[50, 50],
           [50, 50]], dtype=uint8)
    >>> get("LP").variants
    ('', 'region-gradient', 'clean-border')
    """
    method = _get(name, variant, checkpoint, device, unverified)
    arguments = (name, variant, checkpoint, device, unverified)
    return replace(method, recipe=Recipe(arguments, method.plugin.rpartition(" ")[0]))


# radon C: three kinds of methods, and what each refuses
def _get(
    name: str, variant: str | None, checkpoint: str | None, device: str, unverified: bool
) -> Method:
    _check_name(name)
    variants = variants_of(name)
    chosen = variants[0] if variant is None else variant
    if chosen not in variants:
        raise ValueError(
            f"{name}: expected one of the variants {', '.join(map(repr, variants))}, got"
            f" {variant!r}"
        )
    if unverified and (name not in COMPARED or not checkpoint):
        raise ValueError(
            f"unverified: expected a checkpoint of one of {', '.join(COMPARED)}, got"
            f" {checkpoint!r} for {name}"
        )
    if name in COMPARED:
        network = ComparedNetwork(name, chosen, checkpoint, device, unverified)
        return Method(
            f"{name} (unverified)" if unverified else name,
            network,
            chosen,
            variants,
            checkpoint=str(checkpoint or ""),
            summary=network.summary,
            dtype=np.uint8,
            fuse_colour=network if chosen.endswith(OWN_LUMA) else None,
        )
    if name == MOE_FUSION:
        if checkpoint and variant:
            raise ValueError(
                f"{name}: expected a variant or a checkpoint, got both, {variant!r} and"
                f" {checkpoint!r}"
            )
        return Method(
            name,
            MoEFusionMethod(checkpoint or OWN_WEIGHTS[chosen], device),
            "" if checkpoint else chosen,
            variants,
            {"memory": None},
            str(checkpoint or ""),
            MoEFusionMethod.summary,
            dtype=np.uint8,
        )
    if checkpoint:
        raise ValueError(f"{name}: has no weights, got the checkpoint {checkpoint!r}")
    return METHODS[name][chosen]


def variants_of(name: str) -> tuple[str, ...]:
    """Return the names of a method's variants, the default first."""
    if name in METHODS:
        return tuple(METHODS[name])
    if name not in COMPARED:
        return tuple(OWN_WEIGHTS)
    network = COMPARED[name]
    return (
        *network.variants,
        *(f"{variant}{OWN_LUMA}" for variant in network.variants if network.colour),
    )


def missing_weights(method: Method) -> str:
    """Return why a method cannot run here (its weights were not found), "" if it can."""
    if isinstance(method.function, (ComparedNetwork, MoEFusionMethod)):
        try:
            _ = method.function.network
        except FileNotFoundError as error:
            return str(error)
    return ""


def count_parameters_and_flops(
    name: str, variant: str | None = None, size: tuple[int, int] = (480, 640)
) -> dict[str, float]:
    """Return parameters and multiply-adds of a compared network with random weights.

    Parameters
    ----------
    name : str
        A key of :data:`fusionlib.networks.COMPARED`.
    variant : str, optional
        The first where None.
    size : (int, int)
        Height and width of the pair.

    Returns
    -------
    dict
        "parameters" and "multiply-adds (1e9)".
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    network: Any = COMPARED[name].build(variant)  # a Module declares no ``fuse``
    image = np.random.default_rng(0).integers(0, 256, images.check_size(size)).astype(np.uint8)
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        network.fuse(image, image)
    return {
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "multiply-adds (1e9)": counter.get_total_flops() / 2e9,
    }
