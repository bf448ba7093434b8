"""Every fusion method under one name and one call: ``get(name).fuse(a, b) -> fused``.

A method is a function ``(ya, yb, planes, **parameters) -> (fused planes, info)``: it decides on the luma pair
``ya, yb`` and applies the decision to each pair of ``planes``. Gray images have one plane, the luma itself.
"""

from __future__ import annotations

import difflib
import inspect
import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm

from fusionlib import images
from fusionlib.optimizers import LowPassObjective, bat, particle_swarm, sweep
from fusionlib.transforms import Bands, Curvelet, LaplacianPyramid, rules
from fusionlib.transforms.wrapping import default_scales

Planes = list[tuple[np.ndarray, np.ndarray]]


def average(ya: np.ndarray, yb: np.ndarray, planes: Planes):
    """Mean of both images: the least a method has to beat."""
    return [(a + b) / 2 for a, b in planes], {}


def maximum(ya: np.ndarray, yb: np.ndarray, planes: Planes):
    """The brighter of both images at each pixel."""
    first = ya > yb
    return [np.where(first, a, b) for a, b in planes], {}


def laplacian_pyramid(ya: np.ndarray, yb: np.ndarray, planes: Planes, levels: int = 4, border: str = "toolbox",
                      rule: int | str = 3, area: int = 3, base: str = "weighted", weight: float = 0.5):
    """LP of Abas and Baykan 2021, section 2.1: a rule for the high bands, eq. (13) for the base.

    Parameters
    ----------
    weight : float in [0, 1]
        w1 of eq. (13), for the first image; 0.5 is eq. (12).
    """
    transform = LaplacianPyramid(levels, border)
    return fuse_bands(transform, ya, yb, planes, rule, area, base, weight), {"weight": weight}


def curvelet(ya: np.ndarray, yb: np.ndarray, planes: Planes, scales: int = 5, angles: int = 16,
             finest: str = "curvelets", rule: int | str = 1, area: int = 3, base: str = "weighted", weight: float = 0.5):
    """CvT of Abas and Baykan 2021, section 2.2: the larger coefficient in the high bands, eq. (13) for the base.

    Parameters
    ----------
    scales : int
        At most as many as the size of the images allows.
    """
    transform = _curvelet(ya.shape, scales, angles, finest)
    return fuse_bands(transform, ya, yb, planes, rule, area, base, weight), {"weight": weight}


def _curvelet(shape: tuple[int, int], scales: int, angles: int, finest: str) -> Curvelet:
    return Curvelet(shape, min(scales, default_scales(shape)), angles, finest)


TRANSFORMS = {"LP": (laplacian_pyramid, lambda shape, levels, border: LaplacianPyramid(levels, border)),
              "CvT": (curvelet, _curvelet)}
SEARCHES = {"PSO": particle_swarm, "BA": bat, "exact": sweep}


@dataclass(frozen=True)
class Searched:
    """A transform whose low-pass weight maximises eq. (17): algorithms 3 and 4 of Abas and Baykan 2021.

    Parameters are those of the transform's own method, without ``base`` and ``weight``, and those of the search.
    ASSUMPTION: for two coloured images the weight is searched on the luma, as every selection is made there.
    """

    transform: str
    search: str

    @property
    def __doc__(self) -> str:
        what = {"PSO": "particle swarm", "BA": "bat algorithm", "exact": "exact sweep"}[self.search]
        return f"{self.transform} with the low-pass weight that maximises eq. (17), found by {what}."

    def defaults(self) -> dict:
        """Return the parameters with the values used by default."""
        method = {key: value for key, value in defaults(TRANSFORMS[self.transform][0]).items()
                  if key not in ("base", "weight")}
        search = {key: value for key, value in defaults(SEARCHES[self.search]).items() if key != "bounds"}
        return {**method, "alphas": (0.25, 0.25, 0.5), **search}

    def __call__(self, ya: np.ndarray, yb: np.ndarray, planes: Planes, rule, area, alphas, **parameters):
        make, search = TRANSFORMS[self.transform][1], SEARCHES[self.search]
        options = {key: parameters.pop(key) for key in defaults(search) if key in parameters}
        transform = make(ya.shape, **parameters)
        objective = LowPassObjective(ya.astype(np.uint8), yb.astype(np.uint8), transform, rule, area, alphas)
        if "form" in options:  # as printed, two numbers w1 and w2 are searched
            options["bounds"] = ((0, 1),) if options["form"] == "repaired" else ((0, 1), (0, 1))
        result = search(objective, **options)
        weight = objective.weight(result.x)
        info = {"weight": weight, "objective": result.value, "evaluations": result.evaluations}
        if planes[0][0] is ya:
            return [objective.image(weight)], info
        return fuse_bands(transform, ya, yb, planes, rule, area, "weighted", weight), info


# The names of fusionlib.networks.REGISTRY, here so that listing the methods does not import torch (a test compares).
COMPARED = ("DenseFuse", "RFN-Nest", "IFCNN", "PIAFusion", "DIDFuse", "AUIF", "SwinFuse", "YDTR", "TarDAL")
OWN_LUMA = "-own-luma"


class Learned:
    """A compared network with the authors' weights, loaded at the first use.

    Parameters
    ----------
    weights : path or None
        Folder with the official files; the user's cache where None.
    variant : str
        One of the network's; with "-own-luma" behind it a coloured visible image is handed over as it is and the
        network's own conversion gives and takes the luma (PIAFusion).
    """

    def __init__(self, name: str, variant: str, weights: str | Path | None, device: str):
        self.name, self.variant, self.weights, self.device = name, variant, weights, device
        self.__doc__ = f"Compared network of MoE-Fusion's tables, {_compared(name).variants[self._network_variant].says}."

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

        return _compared(self.name).load(self._network_variant, self.weights, device=device_name(self.device))

    def __call__(self, ya: np.ndarray, yb: np.ndarray, planes: Planes):
        return [self.network.fuse(ya.astype(np.uint8), yb.astype(np.uint8))], {}


def _compared(name: str):
    from fusionlib import networks

    return networks.REGISTRY[name]


def defaults(function: Callable) -> dict:
    """Return ``{name: default}`` of the parameters of ``function`` that have one."""
    return {key: parameter.default for key, parameter in inspect.signature(function).parameters.items()
            if parameter.default is not inspect.Parameter.empty}


def fuse_bands(transform, ya: np.ndarray, yb: np.ndarray, planes: Planes, rule: int | str, area: int, base: str,
               weight: float) -> list[np.ndarray]:
    """Take the selections from the bands of the luma pair and apply them to the bands of every plane."""
    if not 0 <= weight <= 1:
        raise ValueError(f"weight: expected a number in [0, 1], got {weight!r}")
    luma_a, luma_b = transform.forward(ya), transform.forward(yb)
    selection = luma_a.map(lambda a, b: rules.select(a, b, rule, area), luma_b,
                           low=lambda a, b: rules.base_weight(a, b, base, weight))
    fused = []
    for a, b in planes:
        bands_a, bands_b = (luma_a, luma_b) if a is ya else (transform.forward(a), transform.forward(b))
        mixed: Bands = selection.map(rules.mix, bands_a, bands_b)
        fused.append(transform.inverse(Bands(mixed.low, mixed.high, luma_a.shape)))
    return fused


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

    def fuse(self, a: np.ndarray = None, b: np.ndarray = None, *, infrared: np.ndarray = None,
             visible: np.ndarray = None, **parameters) -> np.ndarray:
        """Fuse two images: infrared first, visible second (``infrared=``, ``visible=`` name them).

        Parameters
        ----------
        a, b : (H, W) or (H, W, 3) uint8
            One size. Exactly one coloured: its Y is fused and its Cb, Cr are kept. Both coloured: one weight and one
            selection from Y, applied to all channels.
        **parameters
            See :attr:`parameters`.

        Returns
        -------
        (H, W) uint8, or (H, W, 3) if a source is coloured

        Raises
        ------
        TypeError, ValueError
            An image breaks the contract of :mod:`fusionlib.images`, sizes differ, an unknown parameter.
        """
        a = infrared if a is None else a
        b = visible if b is None else b
        return self.fuse_with_info(a, b, **parameters)[0]

    def fuse_with_info(self, a: np.ndarray, b: np.ndarray, **parameters) -> tuple[np.ndarray, dict]:
        """Like :meth:`fuse`, with what the method found out (such as the weight) as a second value."""
        unknown = sorted(set(parameters) - set(self.parameters))
        if unknown:
            raise ValueError(f"{self.name}: no parameter named {', '.join(unknown)}; "
                             f"there are {', '.join(self.parameters) or 'none'}")
        a, b = images.check_pair(a, b)
        ya, yb = (images.luma(image).astype(np.float64) for image in (a, b))
        coloured = [images.is_colour(image) for image in (a, b)]
        planes: Planes = [(ya, yb)]
        if all(coloured):
            planes = [(a[..., c].astype(np.float64), b[..., c].astype(np.float64)) for c in range(3)]
        if coloured == [False, True] and getattr(self.function, "takes_colour", False):
            return self.function.network.fuse(a, b), {}
        fused, info = self.function(ya, yb, planes, **{**self.parameters, **parameters})
        if len(fused) == 3:
            return images.to_uint8(np.stack(fused, axis=-1), self.name), info
        gray = images.to_uint8(fused[0], self.name)
        return images.with_chroma(gray, mixed_chroma(a, b)) if any(coloured) else gray, info


def mixed_chroma(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the chroma of the fused image: that of the coloured source.

    ASSUMPTION: where both sources are coloured and a method fuses the luma alone (networks), each chroma value is the
    mean of both, weighted by their distance from gray.
    """
    chroma_a, chroma_b = images.chroma(a), images.chroma(b)
    weight_a, weight_b = np.abs(chroma_a), np.abs(chroma_b)
    total = weight_a + weight_b
    return (chroma_a * weight_a + chroma_b * weight_b) / np.where(total > 0, total, 1)


# name -> {variant: (function, parameters that differ from the function's own)}
METHODS: dict[str, dict[str, tuple[Callable, dict]]] = {
    "average": {"": (average, {})},
    "maximum": {"": (maximum, {})},
    "LP": {"": (laplacian_pyramid, {}), "region-gradient": (laplacian_pyramid, {"base": "gradient"}),
           "clean-border": (laplacian_pyramid, {"border": "reflect"})},
    "CvT": {"": (curvelet, {}), "region-gradient": (curvelet, {"base": "gradient"}),
            "wavelets": (curvelet, {"finest": "wavelets"})},
    **{f"{transform}+{search}": {"": (Searched(transform, search), {})} for transform in TRANSFORMS for search in SEARCHES},
}


def names() -> list[str]:
    """Return the names of all methods."""
    return [*METHODS, *COMPARED]


def get(name: str, variant: str | None = None, checkpoint: str | None = None, device: str = "auto") -> Method:
    """Return a method by name.

    Parameters
    ----------
    name : str
        One of :func:`names`.
    variant : str, optional
        One of ``get(name).variants``; the first by default.
    checkpoint : path, optional
        Folder with the official weights of a learned method (the user's cache by default); refused by the others.
    device : str
        "auto", "cpu" or "cuda"; used by learned methods.

    Raises
    ------
    ValueError
        An unknown name, with the nearest one, or an unknown variant.
    """
    if name not in names():
        near = difflib.get_close_matches(str(name).lower(), [known.lower() for known in names()], 1, 0.5)
        hint = next((f"; did you mean {known}?" for known in names() if [known.lower()] == near), "")
        raise ValueError(f"method: expected one of {', '.join(names())}, got {name!r}{hint}")
    variants = variants_of(name)
    chosen = variants[0] if variant is None else variant
    if chosen not in variants:
        raise ValueError(f"{name}: expected one of the variants {', '.join(map(repr, variants))}, got {variant!r}")
    if name in COMPARED:
        return Method(name, Learned(name, chosen, checkpoint, device), chosen, variants, {}, str(checkpoint or ""))
    if checkpoint:
        raise ValueError(f"{name}: has no weights, got the checkpoint {checkpoint!r}")
    function, changed = METHODS[name][chosen]
    own = function.defaults() if isinstance(function, Searched) else defaults(function)
    return Method(name, function, chosen, variants, {**own, **changed})


def variants_of(name: str) -> tuple[str, ...]:
    """Return the names of a method's variants, the default first."""
    if name not in COMPARED:
        return tuple(METHODS[name])
    network = _compared(name)
    return (*network.variants, *(f"{variant}{OWN_LUMA}" for variant in network.variants if network.colour))


def missing(method: Method) -> str:
    """Say why a method cannot run here (its weights are not there), "" if it can."""
    if isinstance(method.function, Learned):
        try:
            _ = method.function.network
        except FileNotFoundError as error:
            return str(error)
    return ""


def cost(name: str, variant: str | None = None, size: tuple[int, int] = (480, 640)) -> dict[str, float]:
    """Return parameters and multiply-adds (in 1e9) of a compared network on one pair of ``size``; no weights needed."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    network = _compared(name).build(variant)
    image = np.random.default_rng(0).integers(0, 256, size).astype(np.uint8)
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        network.fuse(image, image)
    return {"parameters": sum(parameter.numel() for parameter in network.parameters()),
            "multiply-adds (1e9)": counter.get_total_flops() / 2e9}


def fuse_pairs(method: Method, pairs: Iterable, folder: str | Path, progress: bool = True, **parameters) -> dict:
    """Fuse many pairs into ``folder/gray/NAME.png`` (scored) and ``folder/color/NAME.png`` (shown), with ``run.json``.

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
        fused, found = method.fuse_with_info(a, b, **parameters)
        info[name] = {**found, "seconds": time.perf_counter() - started}
        images.write(folder / "gray" / f"{name}.png", images.luma(fused))
        images.write(folder / "color" / f"{name}.png", fused)
    record = {"method": method.name, "variant": method.variant, "checkpoint": method.checkpoint,
              "parameters": {**method.parameters, **parameters}, "images": info}
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
        raise ValueError(f"{source}: expected an image for each pair of {name}, missing: {', '.join(lacking)}")
    for pair in pairs:
        fused = images.read(files[pair])
        images.write(Path(folder) / "gray" / f"{pair}.png", images.luma(fused))
        images.write(Path(folder) / "color" / f"{pair}.png", fused)
    record = {"method": name, "variant": "images", "source": str(source), "images": dict.fromkeys(pairs, {})}
    images.write_text(Path(folder) / "run.json", json.dumps(record, indent=1))
