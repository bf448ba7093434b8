"""Laplacian pyramid: Burt and Adelson 1983; section 2.1 of Abas and Baykan 2021.

Two treatments of the border. ``"toolbox"`` gives the numbers of Rockinger's image fusion toolbox,
the paper's reference [51], which extends an image by reflection but leaves the four corner blocks
of the extension at zero; ``"reflect"`` fills them. Both reconstruct exactly, and they differ in the
corners of the bands only.
"""

from __future__ import annotations

import numpy as np

from . import rules
from .bands import Bands

BORDERS = ("toolbox", "reflect")


class LaplacianPyramid:
    """Forward and inverse Laplacian pyramid.

    Parameters
    ----------
    levels : int
        Number of high-pass bands, at least 1. ASSUMPTION: the paper does not give the number of
        levels; 4 is inferred from its Leopard results.
    border : "toolbox" or "reflect"
        ASSUMPTION: the paper names Rockinger's toolbox and nothing on borders; its zero corners are
        kept by default.

    Raises
    ------
    TypeError, ValueError
        ``levels`` is not a positive integer; ``border`` is unknown.

    Examples
    --------
    >>> pyramid, image = LaplacianPyramid(3), np.arange(4096.0).reshape(64, 64)
    >>> bands = pyramid.forward(image)
    >>> [band.shape for band in bands.high], bands.low.shape
    ([(64, 64), (32, 32), (16, 16)], (8, 8))
    >>> np.allclose(pyramid.inverse(bands), image)
    True
    """

    def __init__(self, levels: int = 4, border: str = "toolbox"):
        if isinstance(levels, bool) or not isinstance(levels, int | np.integer):
            raise TypeError(f"levels: expected a positive integer, got {levels!r}")
        if levels < 1:
            raise ValueError(f"levels: expected a positive integer, got {levels}")
        if border not in BORDERS:
            raise ValueError(f"border: expected one of {', '.join(BORDERS)}, got {border!r}")
        self.levels, self.border = int(levels), border

    def __repr__(self) -> str:
        return f"LaplacianPyramid(levels={self.levels}, border={self.border!r})"

    def forward(self, x: np.ndarray) -> Bands:
        """Decompose an image.

        Parameters
        ----------
        x : (H, W) real array
            Any scale and type; computed in float64.

        Returns
        -------
        Bands
            ``high[l]`` is the band of level l (0 the finest), ``low`` the base. A band of odd sides
            is one sample longer there; ``shape`` keeps (H, W).

        Raises
        ------
        TypeError, ValueError
            Not a real 2-D array, NaN or infinite values, or too small for the number of levels.
        """
        gaussian = self._check(x)
        high = []
        for _ in range(self.levels):
            gaussian = _even(gaussian)
            smaller = reduce(gaussian, self.border)
            high.append(gaussian - expand(smaller, self.border))  # Eq. (2), Abas and Baykan 2021
            gaussian = smaller
        return Bands(gaussian, high, np.shape(x))

    def inverse(self, bands: Bands) -> np.ndarray:
        """Rebuild the (H, W) image from its bands, in float64.

        Raises
        ------
        ValueError
            Number or sizes of the bands are not those of a pyramid with this many levels.
        """
        if len(bands.high) != self.levels:
            raise ValueError(
                f"bands: expected {self.levels} high-pass bands, got {len(bands.high)}"
            )
        shape = bands.shape or bands.high[0].shape
        sizes = [tuple(-(-side // 2**level) for side in shape) for level in range(self.levels + 1)]
        image = np.asarray(bands.low, dtype=np.float64)
        if image.shape != sizes[-1]:
            raise ValueError(
                f"bands: expected a base of {sizes[-1]} for an image of {shape}, got {image.shape}"
            )
        for band, (rows, columns) in zip(bands.high[::-1], sizes[-2::-1], strict=True):
            larger = expand(image, self.border)
            if band.shape != larger.shape:
                raise ValueError(
                    f"bands: expected a band of {larger.shape} for an image of {shape}, got"
                    f" {band.shape}"
                )
            larger += band  # Eq. (3): the expanded level plus the band
            image = larger[:rows, :columns]
        return np.ascontiguousarray(image)

    def base_image(self, low: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
        """Return the (H, W) image whose base is ``low`` and whose other bands are 0."""
        image = np.asarray(low, dtype=np.float64)
        for level in range(self.levels - 1, -1, -1):
            image = expand(image, self.border)[
                : -(-shape[0] // 2**level), : -(-shape[1] // 2**level)
            ]
        return np.ascontiguousarray(image)

    def fuse(
        self, a: Bands, b: Bands, rule=3, area: int = 3, base="average", weight: float = 0.5
    ) -> Bands:
        """Fuse two decompositions; see :func:`fusionlib.transforms.rules.fuse`.

        ASSUMPTION: the paper gives rule and area in words only; choose max with consistency check
        over 3 x 3, inferred from its Leopard results, is the default.
        """
        return rules.fuse(a, b, rule=rule, area=area, base=base, weight=weight)

    def _check(self, x: np.ndarray) -> np.ndarray:
        x = np.asarray(x)
        if x.ndim != 2 or not (
            np.issubdtype(x.dtype, np.floating) or np.issubdtype(x.dtype, np.integer)
        ):
            raise TypeError(
                f"x: expected a real array (H, W), got shape {x.shape} and type {x.dtype}"
            )
        possible = max_levels(x.shape)
        if self.levels > possible:
            raise ValueError(
                f"x: expected a size that allows {self.levels} levels, got"
                f" {x.shape[0]}x{x.shape[1]}, which allows {possible}"
            )
        x = x.astype(np.float64)
        if not np.isfinite(x).all():
            raise ValueError(
                f"x: expected finite values, got {int((~np.isfinite(x)).sum())} NaN or infinite"
            )
        return x


def max_levels(shape: tuple[int, int]) -> int:
    """Return how many levels an image of this size allows: each level starts from sides of at least
    3 samples.
    """
    side, levels = min(shape), 0
    while side >= 3:
        side, levels = -(-side // 2), levels + 1
    return levels


def reduce(x: np.ndarray, border: str) -> np.ndarray:
    """Smooth with [1 4 6 4 1] / 16 in both directions and keep every second sample.

    Parameters
    ----------
    x : (h, w) float64, both sides even and at least 4
    """
    x = np.pad(x, 2, mode="reflect")
    if border == "toolbox":
        for corner in _corners(x, 2):
            corner[...] = 0
    # Eq. (1), Abas and Baykan 2021: separable, only the kept samples are computed.
    x = (x[:-4:2] + x[4::2]) + 4 * (x[1:-3:2] + x[3:-1:2]) + 6 * x[2:-2:2]
    x = (x[:, :-4:2] + x[:, 4::2]) + 4 * (x[:, 1:-3:2] + x[:, 3:-1:2]) + 6 * x[:, 2:-2:2]
    x /= 256
    return x


def expand(x: np.ndarray, border: str) -> np.ndarray:
    """Double both sides: insert zeros and smooth with [1 4 6 4 1] / 8 in both directions.

    Parameters
    ----------
    x : (h, w) float64, both sides at least 2
    """
    # Reflection of the zero-filled image about its first sample (even) and its last (odd, a zero)
    # means, for the samples themselves, reflection at the start and repetition at the end.
    x = np.pad(x, ((1, 0), (1, 0)), mode="reflect")
    x = np.pad(x, ((0, 1), (0, 1)), mode="edge")
    if border == "toolbox":
        for corner in _corners(x, 1):
            corner[...] = 0
    # Eq. (3): the two phases of the kernel; the factor 4 of the equation is in the / 8.
    rows = np.empty((2 * (x.shape[0] - 2), x.shape[1]))
    rows[::2] = x[:-2] + 6 * x[1:-1] + x[2:]
    rows[1::2] = 4 * (x[1:-1] + x[2:])
    out = np.empty((rows.shape[0], 2 * (x.shape[1] - 2)))
    out[:, ::2] = rows[:, :-2] + 6 * rows[:, 1:-1] + rows[:, 2:]
    out[:, 1::2] = 4 * (rows[:, 1:-1] + rows[:, 2:])
    out /= 64
    return out


def _even(x: np.ndarray) -> np.ndarray:
    """Append one reflected sample (the last but one) where a side is odd."""
    return (
        np.pad(x, [(0, side % 2) for side in x.shape], mode="reflect")
        if any(s % 2 for s in x.shape)
        else x
    )


def _corners(x: np.ndarray, n: int) -> tuple[np.ndarray, ...]:
    return x[:n, :n], x[:n, -n:], x[-n:, :n], x[-n:, -n:]
