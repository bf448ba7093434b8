"""Methods that need no training: trivial ones, and those of Abas and Baykan 2021 on pyramid and
curvelets.

Each is a function ``(a, b, **parameters)`` of two luma planes, see
:func:`fusionlib.methods.register`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np

from fusionlib.methods.method import Decision, Lean, Plane
from fusionlib.methods.registry import defaults, register
from fusionlib.methods.strips import Reach
from fusionlib.optimizers import LowPassObjective, bat, particle_swarm, sweep
from fusionlib.transforms import Bands, Curvelet, LaplacianPyramid, rules
from fusionlib.transforms.by_wedge import fuse_by_wedge
from fusionlib.transforms.wrapping import default_scales

SCALES = 5  # of CvT: come nearest to the paper's Leopard results, see transforms.Curvelet

# bytes a pixel, measured on a pair of 6000x4000, with a margin
NEEDS_CURVELETS = 345
NEEDS_BY_WEDGE = 128


def _pixel(parameters: Mapping) -> Reach:
    return Reach(0, 1)


def _pyramid_reach(parameters: Mapping) -> Reach:
    """Of a pyramid, in samples of the base: 2 up to it, 3 down, 1 for the mean gradient or the
    windows of the rule, half of one at the coarsest band; and one more.
    """
    block = 2 ** LaplacianPyramid(parameters["levels"], parameters["border"]).levels
    return Reach((6 + parameters["area"] // 2) * block, block)


@register("infrared", reach=_pixel)
def infrared(a: Plane, b: Plane) -> Decision:
    """The first image as it is: shows which metrics reward doing nothing."""
    return Decision(a, lambda a, b: a)


@register("visible", reach=_pixel)
def visible(a: Plane, b: Plane) -> Decision:
    """The second image as it is: shows which metrics reward doing nothing."""
    return Decision(b, lambda a, b: b)


@register("average", reach=_pixel)
def average(a: Plane, b: Plane) -> Decision:
    """Mean of both images: the least a method has to beat."""
    return Decision((a + b) / 2, lambda a, b: (a + b) / 2)


@register("maximum", reach=_pixel)
def maximum(a: Plane, b: Plane) -> Decision:
    """The brighter of both images at each pixel."""
    brighter = a > b
    return Decision(np.where(brighter, a, b), lambda a, b: np.where(brighter, a, b))


@register(
    "LP",
    {"region-gradient": {"base": "gradient"}, "clean-border": {"border": "reflect"}},
    reach=_pyramid_reach,
)
def laplacian_pyramid(
    a: Plane,
    b: Plane,
    levels: int = 4,
    border: str = "toolbox",
    rule: int | str = 3,
    area: int = 3,
    base: str = "weighted",
    weight: float = 0.5,
) -> Decision:
    """LP of Abas and Baykan 2021, section 2.1: a rule for the high bands, eq. (13) for the base.

    Parameters
    ----------
    weight : float in [0, 1]
        w1 of eq. (13), for the first image; 0.5 is eq. (12).
    """
    bands = BandFusion(LaplacianPyramid(levels, border), a, b, rule, area, base, weight)
    return Decision(bands.mix(*bands.luma), bands, {"weight": weight})


def curvelet_by_wedge(
    a: Plane,
    b: Plane,
    scales: int | None,
    angles: int,
    finest: str,
    rule: int | str,
    area: int,
    base: str,
    weight: float,
) -> Decision:
    """Return what :func:`curvelet` does, in less memory; parameters as there."""
    _check_weight(weight)
    luma = a, b

    def fuse(x: Plane, y: Plane) -> Plane:
        return fuse_by_wedge(
            luma,
            luma if x is a else (x, y),
            lambda a, b: rules.select(a, b, rule, area),
            lambda a, b: rules.base_weight(a, b, base, weight),
            *(_scales(a.shape, scales), angles, finest),
        )

    return Decision(fuse(a, b), fuse, {"weight": weight})


@register(
    "CvT",
    {"region-gradient": {"base": "gradient"}, "wavelets": {"finest": "wavelets"}},
    needs=NEEDS_CURVELETS,
    lean=Lean(curvelet_by_wedge, NEEDS_BY_WEDGE, "wedge by wedge"),
)
def curvelet(
    a: Plane,
    b: Plane,
    scales: int | None = None,
    angles: int = 16,
    finest: str = "curvelets",
    rule: int | str = 1,
    area: int = 3,
    base: str = "weighted",
    weight: float = 0.5,
) -> Decision:
    """CvT of Abas and Baykan 2021, section 2.2: the larger coefficient in the high bands, eq. (13)
    for the base.

    Parameters
    ----------
    scales : int, optional
        5, or as many as the size of small images allows.

    Raises
    ------
    ValueError
        The images are too small for so many.
    """
    height, width = a.shape
    transform = _curvelet((height, width), scales, angles, finest)
    bands = BandFusion(transform, a, b, rule, area, base, weight)
    return Decision(bands.mix(*bands.luma), bands, {"weight": weight})


def _curvelet(shape: tuple[int, int], scales: int | None, angles: int, finest: str) -> Curvelet:
    return Curvelet(shape, _scales(shape, scales), angles, finest)


def _scales(shape: tuple[int, ...], scales: int | None) -> int:
    """Return how many scales CvT takes for images of this size."""
    return min(SCALES, default_scales((shape[0], shape[1]))) if scales is None else scales


def _check_weight(weight: float) -> None:
    """Raise ValueError for what is no number in [0, 1]."""
    is_number = isinstance(weight, float | int | np.number) and not isinstance(weight, bool)
    if not is_number or not 0 <= weight <= 1:
        raise ValueError(f"weight: expected a number in [0, 1], got {weight!r}")


class BandFusion:
    """Selections made on the bands of the luma pair, applied to any pair of planes.

    Parameters
    ----------
    transform : LaplacianPyramid or Curvelet
    a, b : (H, W) float64
        The luma pair, gray levels 0..255.
    rule, area, base
        See :mod:`fusionlib.transforms.rules`.
    weight : float in [0, 1]
        w1 of eq. (13), for the first image.

    Raises
    ------
    ValueError
        A weight outside [0, 1], an unknown rule or base.
    """

    def __init__(
        self,
        transform: LaplacianPyramid | Curvelet,
        a: Plane,
        b: Plane,
        rule: int | str,
        area: int,
        base: str,
        weight: float,
    ):
        _check_weight(weight)
        self.transform = transform
        self.luma = transform.forward(a), transform.forward(b)
        self.selection = self.luma[0].map(
            lambda a, b: rules.select(a, b, rule, area),
            self.luma[1],
            low=lambda a, b: rules.base_weight(a, b, base, weight),
        )

    def mix(self, a: Bands, b: Bands) -> Plane:
        """Return the plane, (H, W) float64, with the selected bands of ``a`` and ``b``."""
        mixed = self.selection.map(rules.mix, a, b)
        return self.transform.inverse(Bands(mixed.low, mixed.high, a.shape))

    def __call__(self, a: Plane, b: Plane) -> Plane:
        return self.mix(self.transform.forward(a), self.transform.forward(b))


TRANSFORMS: dict[str, tuple[Callable[..., Decision], Callable]] = {
    "LP": (laplacian_pyramid, lambda shape, levels, border: LaplacianPyramid(levels, border)),
    "CvT": (curvelet, _curvelet),
}
SEARCHES: dict[str, tuple[Callable, str]] = {
    "PSO": (particle_swarm, "particle swarm"),
    "BA": (bat, "bat algorithm"),
    "exact": (sweep, "exact sweep"),
}


@dataclass(frozen=True)
class OptimisedWeight:
    """A transform whose low-pass weight maximises eq. (17): algorithms 3 and 4 of Abas and Baykan
    2021.

    Parameters are those of the transform's own method, without ``base`` and ``weight``, and those
    of the search. ASSUMPTION: for two coloured images the weight is searched on the luma, as every
    selection is made there.
    """

    transform: str
    search: str

    def defaults(self) -> dict[str, object]:
        """Return the parameters with the values used by default."""
        parameters = defaults(TRANSFORMS[self.transform][0])
        parameters |= {"alphas": (0.25, 0.25, 0.5), **defaults(SEARCHES[self.search][0])}
        return {
            key: value
            for key, value in parameters.items()
            if key not in ("base", "weight", "bounds")
        }

    def __call__(
        self,
        a: Plane,
        b: Plane,
        rule: int | str,
        area: int,
        alphas: tuple[float, float, float],
        **parameters,
    ) -> Decision:
        make, search = TRANSFORMS[self.transform][1], SEARCHES[self.search][0]
        options = {key: parameters.pop(key) for key in defaults(search) if key in parameters}
        transform = make(a.shape, **parameters)
        objective = LowPassObjective(
            a.astype(np.uint8), b.astype(np.uint8), transform, rule, area, alphas
        )
        if "form" in options:  # as printed, two numbers w1 and w2 are searched
            options["bounds"] = ((0, 1),) if options["form"] == "repaired" else ((0, 1), (0, 1))
        result = search(objective, **options)
        weight = objective.weight(result.x)
        # P + w D is the fused luma already; only two coloured images need the bands.
        bands = cache(lambda: BandFusion(transform, a, b, rule, area, "weighted", weight))
        info = {"weight": weight, "objective": result.value, "evaluations": result.evaluations}
        return Decision(objective.image(weight), lambda a, b: bands()(a, b), info)


for _transform in TRANSFORMS:
    for _search, (_, _words) in SEARCHES.items():
        _method = OptimisedWeight(_transform, _search)
        register(
            f"{_transform}+{_search}",
            parameters=_method.defaults(),
            summary=f"{_transform} with the low-pass weight that maximises eq. (17), found by"
            f" {_words}.",
        )(_method)
