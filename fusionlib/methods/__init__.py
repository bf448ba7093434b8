"""Every fusion method under one name and one call: ``get(name).fuse(a, b) -> fused``.

A method is a function ``(ya, yb, planes, **parameters) -> (fused planes, info)``: it decides on the
luma pair ``ya, yb`` and applies the decision to each pair of ``planes``. Gray images have one
plane, the luma itself.
"""

from __future__ import annotations

import difflib
import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm

from fusionlib import images
from fusionlib.methods.classical import (
    SEARCHES,
    TRANSFORMS,
    Planes,
    Searched,
    average,
    curvelet,
    defaults,
    infrared,
    laplacian_pyramid,
    maximum,
    visible,
)
from fusionlib.methods.learned import (
    ARTEFACT,
    COMPARED,
    MOE_FUSION,
    OWN_LUMA,
    Learned,
    Trained,
    compared,
)


@dataclass(frozen=True)
class Method:
    """A fusion method ready to use.

    Attributes
    ----------
    name, variant : str
    variants : tuple of str
        All variants of the method, default first; ("",) where there is only one.
    parameters : dict
        The parameters that :meth:`fuse` accepts, with the values used by default.
    """

    name: str
    function: Callable = field(repr=False)
    variant: str = ""
    variants: tuple[str, ...] = ("",)
    parameters: dict = field(default_factory=dict)
    checkpoint: str = ""

    def fuse(
        self,
        a: np.ndarray = None,
        b: np.ndarray = None,
        *,
        infrared: np.ndarray = None,
        visible: np.ndarray = None,
        **parameters,
    ) -> np.ndarray:
        """Fuse two images: infrared first, visible second (``infrared=``, ``visible=`` name them).

        Parameters
        ----------
        a, b : (H, W) or (H, W, 3) uint8
            One size. Exactly one coloured: its Y is fused and its Cb, Cr are kept. Both coloured:
            one weight and one selection from Y, applied to all channels.
        **parameters
            See :attr:`parameters`.

        Returns
        -------
        (H, W) uint8, or (H, W, 3) if a source is coloured

        Raises
        ------
        TypeError, ValueError
            An image breaks the contract of :mod:`fusionlib.images`, sizes differ, an unknown
            parameter.
        """
        a = infrared if a is None else a
        b = visible if b is None else b
        return self.fuse_with_info(a, b, **parameters)[0]

    def fuse_with_info(self, a: np.ndarray, b: np.ndarray, **parameters) -> tuple[np.ndarray, dict]:
        """Like :meth:`fuse`, with what the method found out (such as the weight) as a second
        value.
        """
        _, shown, info = self.fuse_both(a, b, **parameters)
        return shown, info

    def fuse_both(
        self, a: np.ndarray, b: np.ndarray, **parameters
    ) -> tuple[np.ndarray, np.ndarray, dict]:
        """Return the fused image twice, gray as it is scored and in colour as it is shown, and what
        was found out.

        Where exactly one source is coloured the gray one is what was fused, before chroma is put
        back: that clips.
        """
        unknown = sorted(set(parameters) - set(self.parameters))
        if unknown:
            raise ValueError(
                f"{self.name}: no parameter named {', '.join(unknown)}; "
                f"there are {', '.join(self.parameters) or 'none'}"
            )
        a, b = images.check_pair(a, b)
        ya, yb = images.luma(a), images.luma(b)
        # a network's copies in double precision would be wasted
        if not getattr(self.function, "takes_uint8", False):
            ya, yb = ya.astype(np.float64), yb.astype(np.float64)
        coloured = [images.is_colour(image) for image in (a, b)]
        planes: Planes = [(ya, yb)]
        if all(coloured):
            planes = [
                (a[..., c].astype(np.float64), b[..., c].astype(np.float64)) for c in range(3)
            ]
        if coloured == [False, True] and getattr(self.function, "takes_colour", False):
            shown = self.function.network.fuse(a, b)
            return images.luma(shown), shown, {}
        fused, info = self.function(ya, yb, planes, **{**self.parameters, **parameters})
        if len(fused) == 3:
            shown = images.to_uint8(np.stack(fused, axis=-1), self.name)
            return images.luma(shown), shown, info
        gray = images.to_uint8(fused[0], self.name)
        return gray, images.with_chroma(gray, mixed_chroma(a, b)) if any(coloured) else gray, info


def mixed_chroma(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the chroma of the fused image: that of the coloured source.

    ASSUMPTION: where both sources are coloured and a method fuses the luma alone (networks), each
    chroma value is the mean of both, weighted by their distance from gray.
    """
    chroma_a, chroma_b = images.chroma(a), images.chroma(b)
    weight_a, weight_b = np.abs(chroma_a), np.abs(chroma_b)
    total = weight_a + weight_b
    return (chroma_a * weight_a + chroma_b * weight_b) / np.where(total > 0, total, 1)


# name -> {variant: (function, parameters that differ from the function's own)}
METHODS: dict[str, dict[str, tuple[Callable, dict]]] = {
    "infrared": {"": (infrared, {})},
    "visible": {"": (visible, {})},
    "average": {"": (average, {})},
    "maximum": {"": (maximum, {})},
    "LP": {
        "": (laplacian_pyramid, {}),
        "region-gradient": (laplacian_pyramid, {"base": "gradient"}),
        "clean-border": (laplacian_pyramid, {"border": "reflect"}),
    },
    "CvT": {
        "": (curvelet, {}),
        "region-gradient": (curvelet, {"base": "gradient"}),
        "wavelets": (curvelet, {"finest": "wavelets"}),
    },
    **{
        f"{transform}+{search}": {"": (Searched(transform, search), {})}
        for transform in TRANSFORMS
        for search in SEARCHES
    },
}


def names() -> list[str]:
    """Return the names of all methods."""
    return [*METHODS, *COMPARED, MOE_FUSION]


def expand(chosen: Iterable[str]) -> list[str]:
    """Return names of methods, those of the whole table :data:`fusionlib.networks.COMPARED` for
    "compared".
    """
    found = []
    for name in chosen:
        found += COMPARED if name == "compared" else [name]
    return found


def get(
    name: str, variant: str | None = None, checkpoint: str | None = None, device: str = "auto"
) -> Method:
    """Return a method by name.

    Parameters
    ----------
    name : str
        One of :func:`names`.
    variant : str, optional
        One of ``get(name).variants``; the first by default.
    checkpoint : path, optional
        Folder with the official weights of a compared network (the user's cache by default), or of
        a training of MoE-Fusion (the small model of the suite by default); refused by the others.
    device : str
        "auto", "cpu" or "cuda"; used by learned methods.

    Raises
    ------
    ValueError
        An unknown name, with the nearest one, or an unknown variant.
    """
    if name not in names():
        near = difflib.get_close_matches(
            str(name).lower(), [known.lower() for known in names()], 1, 0.5
        )
        hint = next(
            (f"; did you mean {known}?" for known in names() if [known.lower()] == near), ""
        )
        raise ValueError(f"method: expected one of {', '.join(names())}, got {name!r}{hint}")
    variants = variants_of(name)
    chosen = variants[0] if variant is None else variant
    if chosen not in variants:
        raise ValueError(
            f"{name}: expected one of the variants {', '.join(map(repr, variants))}, got"
            f" {variant!r}"
        )
    if name in COMPARED:
        return Method(
            name,
            Learned(name, chosen, checkpoint, device),
            chosen,
            variants,
            {},
            str(checkpoint or ""),
        )
    if name == MOE_FUSION:
        function = Trained(checkpoint, device)
        return Method(
            name, function, chosen, variants, {"memory": None}, str(checkpoint or ARTEFACT)
        )
    if checkpoint:
        raise ValueError(f"{name}: has no weights, got the checkpoint {checkpoint!r}")
    function, changed = METHODS[name][chosen]
    own = function.defaults() if isinstance(function, Searched) else defaults(function)
    return Method(name, function, chosen, variants, {**own, **changed})


def variants_of(name: str) -> tuple[str, ...]:
    """Return the names of a method's variants, the default first."""
    if name not in COMPARED:
        return tuple(METHODS.get(name, ("",)))
    network = compared(name)
    return (
        *network.variants,
        *(f"{variant}{OWN_LUMA}" for variant in network.variants if network.colour),
    )


def missing(method: Method) -> str:
    """Say why a method cannot run here (its weights are not there), "" if it can."""
    if isinstance(method.function, (Learned, Trained)):
        try:
            _ = method.function.network
        except FileNotFoundError as error:
            return str(error)
    return ""


def cost(
    name: str, variant: str | None = None, size: tuple[int, int] = (480, 640)
) -> dict[str, float]:
    """Return parameters and multiply-adds (in 1e9) of a compared network on one pair of ``size``;
    no weights needed.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    network = compared(name).build(variant)
    image = np.random.default_rng(0).integers(0, 256, size).astype(np.uint8)
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        network.fuse(image, image)
    return {
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "multiply-adds (1e9)": counter.get_total_flops() / 2e9,
    }


def fuse_pairs(
    method: Method, pairs: Iterable, folder: str | Path, progress: bool = True, **parameters
) -> dict:
    """Fuse many pairs into ``folder/gray/NAME.png`` (scored) and ``folder/color/NAME.png`` (shown),
    with ``run.json``.

    Parameters
    ----------
    pairs : iterable of (name, a, b)
    folder : path

    Returns
    -------
    dict
        ``{name: info}``: what the method found out about each pair, with ``seconds``.
    """
    folder, info = Path(folder), {}
    for name, a, b in tqdm(pairs, desc=method.name, disable=not progress, mininterval=2):
        started = time.perf_counter()
        gray, shown, found = method.fuse_both(a, b, **parameters)
        info[name] = {**found, "seconds": time.perf_counter() - started}
        images.write(folder / "gray" / f"{name}.png", gray)
        images.write(folder / "color" / f"{name}.png", shown)
    record = {
        "method": method.name,
        "variant": method.variant,
        "checkpoint": method.checkpoint,
        "parameters": {**method.parameters, **parameters},
        "images": info,
    }
    images.write_text(folder / "run.json", json.dumps(record, indent=1, default=float))
    return info


def stand_in(name: str, source: str | Path, pairs: Iterable[str], folder: str | Path) -> None:
    """Let a folder of somebody's fused images stand for a method: its row says "images".

    Parameters
    ----------
    source : path
        Images named as the pairs.
    pairs : iterable of str
        The names wanted.

    Raises
    ------
    ValueError
        A name without image.
    """
    files = images.list_images(source)
    lacking = [pair for pair in pairs if pair not in files]
    if lacking:
        raise ValueError(
            f"{source}: expected an image for each pair of {name}, missing: {', '.join(lacking)}"
        )
    for pair in pairs:
        fused = images.read(files[pair])
        images.write(Path(folder) / "gray" / f"{pair}.png", images.luma(fused))
        images.write(Path(folder) / "color" / f"{pair}.png", fused)
    record = {
        "method": name,
        "variant": "images",
        "source": str(source),
        "images": dict.fromkeys(pairs, {}),
    }
    images.write_text(Path(folder) / "run.json", json.dumps(record, indent=1))
