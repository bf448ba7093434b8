"""Methods that need no training: trivial ones, and those of Abas and Baykan 2021 on pyramid and
curvelets.

Each is a function ``(ya, yb, planes, **parameters) -> (fused planes, info)``, see
:mod:`fusionlib.methods`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

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


def infrared(ya: np.ndarray, yb: np.ndarray, planes: Planes):
    """The first image as it is: shows which metrics reward doing nothing."""
    return [a for a, _ in planes], {}


def visible(ya: np.ndarray, yb: np.ndarray, planes: Planes):
    """The second image as it is: shows which metrics reward doing nothing."""
    return [b for _, b in planes], {}


def laplacian_pyramid(
    ya: np.ndarray,
    yb: np.ndarray,
    planes: Planes,
    levels: int = 4,
    border: str = "toolbox",
    rule: int | str = 3,
    area: int = 3,
    base: str = "weighted",
    weight: float = 0.5,
):
    """LP of Abas and Baykan 2021, section 2.1: a rule for the high bands, eq. (13) for the base.

    Parameters
    ----------
    weight : float in [0, 1]
        w1 of eq. (13), for the first image; 0.5 is eq. (12).
    """
    transform = LaplacianPyramid(levels, border)
    return fuse_bands(transform, ya, yb, planes, rule, area, base, weight), {"weight": weight}


def curvelet(
    ya: np.ndarray,
    yb: np.ndarray,
    planes: Planes,
    scales: int = 5,
    angles: int = 16,
    finest: str = "curvelets",
    rule: int | str = 1,
    area: int = 3,
    base: str = "weighted",
    weight: float = 0.5,
):
    """CvT of Abas and Baykan 2021, section 2.2: the larger coefficient in the high bands, eq. (13)
    for the base.

    Parameters
    ----------
    scales : int
        At most as many as the size of the images allows.
    """
    transform = _curvelet(ya.shape, scales, angles, finest)
    return fuse_bands(transform, ya, yb, planes, rule, area, base, weight), {"weight": weight}


def _curvelet(shape: tuple[int, int], scales: int, angles: int, finest: str) -> Curvelet:
    return Curvelet(shape, min(scales, default_scales(shape)), angles, finest)


TRANSFORMS = {
    "LP": (laplacian_pyramid, lambda shape, levels, border: LaplacianPyramid(levels, border)),
    "CvT": (curvelet, _curvelet),
}
SEARCHES = {"PSO": particle_swarm, "BA": bat, "exact": sweep}


@dataclass(frozen=True)
class Searched:
    """A transform whose low-pass weight maximises eq. (17): algorithms 3 and 4 of Abas and Baykan
    2021.

    Parameters are those of the transform's own method, without ``base`` and ``weight``, and those
    of the search. ASSUMPTION: for two coloured images the weight is searched on the luma, as every
    selection is made there.
    """

    transform: str
    search: str

    @property
    def __doc__(self) -> str:
        what = {"PSO": "particle swarm", "BA": "bat algorithm", "exact": "exact sweep"}[self.search]
        return (
            f"{self.transform} with the low-pass weight that maximises eq. (17), found by {what}."
        )

    def defaults(self) -> dict:
        """Return the parameters with the values used by default."""
        method = {
            key: value
            for key, value in defaults(TRANSFORMS[self.transform][0]).items()
            if key not in ("base", "weight")
        }
        search = {
            key: value for key, value in defaults(SEARCHES[self.search]).items() if key != "bounds"
        }
        return {**method, "alphas": (0.25, 0.25, 0.5), **search}

    def __call__(
        self, ya: np.ndarray, yb: np.ndarray, planes: Planes, rule, area, alphas, **parameters
    ):
        make, search = TRANSFORMS[self.transform][1], SEARCHES[self.search]
        options = {key: parameters.pop(key) for key in defaults(search) if key in parameters}
        transform = make(ya.shape, **parameters)
        objective = LowPassObjective(
            ya.astype(np.uint8), yb.astype(np.uint8), transform, rule, area, alphas
        )
        if "form" in options:  # as printed, two numbers w1 and w2 are searched
            options["bounds"] = ((0, 1),) if options["form"] == "repaired" else ((0, 1), (0, 1))
        result = search(objective, **options)
        weight = objective.weight(result.x)
        info = {"weight": weight, "objective": result.value, "evaluations": result.evaluations}
        if planes[0][0] is ya:
            return [objective.image(weight)], info
        return fuse_bands(transform, ya, yb, planes, rule, area, "weighted", weight), info


def defaults(function: Callable) -> dict:
    """Return ``{name: default}`` of the parameters of ``function`` that have one."""
    return {
        key: parameter.default
        for key, parameter in inspect.signature(function).parameters.items()
        if parameter.default is not inspect.Parameter.empty
    }


def fuse_bands(
    transform,
    ya: np.ndarray,
    yb: np.ndarray,
    planes: Planes,
    rule: int | str,
    area: int,
    base: str,
    weight: float,
) -> list[np.ndarray]:
    """Take the selections from the bands of the luma pair and apply them to the bands of every
    plane.
    """
    if not 0 <= weight <= 1:
        raise ValueError(f"weight: expected a number in [0, 1], got {weight!r}")
    luma_a, luma_b = transform.forward(ya), transform.forward(yb)
    selection = luma_a.map(
        lambda a, b: rules.select(a, b, rule, area),
        luma_b,
        low=lambda a, b: rules.base_weight(a, b, base, weight),
    )
    fused = []
    for a, b in planes:
        bands_a, bands_b = (
            (luma_a, luma_b) if a is ya else (transform.forward(a), transform.forward(b))
        )
        mixed: Bands = selection.map(rules.mix, bands_a, bands_b)
        fused.append(transform.inverse(Bands(mixed.low, mixed.high, luma_a.shape)))
    return fused
