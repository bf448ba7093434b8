"""The plan of a curvelet transform: which frequency goes where in which wedge, times its window, as
a sparse matrix.

Construction of Candes, Demanet, Donoho and Ying 2006, sections 3 and 4 (curvelets by wrapping):
dyadic rings between smooth low-passes, cut at equal slopes into wedges whose squared windows sum to
1, each wrapped by periodicity into a rectangle around the origin.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from math import ceil, floor, log2
from typing import NamedTuple

import numpy as np
from scipy import fft, sparse


def default_scales(shape: tuple[int, int]) -> int:
    """Return the number of scales for images of this size, the base included."""
    return ceil(log2(min(shape)) - 3)


@dataclass(frozen=True)
class Group:
    """Wedges of one shape, side by side in the vector of coefficients: one stacked FFT."""

    places: list[tuple[int, int]]  # (scale, finest first; angle) of each
    start: int
    shape: tuple[int, int]

    def of(self, coefficients: np.ndarray) -> np.ndarray:
        size = len(self.places) * self.shape[0] * self.shape[1]
        return coefficients[self.start : self.start + size].reshape(-1, *self.shape)


@dataclass(frozen=True)
class Plan:
    # coefficients x frequencies: the wedges' windows at the frequencies that they gather
    matrix: sparse.csr_array
    groups: list[Group]
    counts: list[int]  # wedges of each scale, finest first
    low_index: np.ndarray  # (h, w): the frequency of each sample of the base's spectrum
    low_weight: np.ndarray  # (h, w): its window
    finest_weight: np.ndarray | None  # (H, W): window of a finest scale of wavelets


class Wedge(NamedTuple):
    """A wedge, wrapped into a rectangle (h, w) with the origin at [0, 0]."""

    band: tuple[int, int]  # (scale, finest first; angle)
    frequencies: np.ndarray  # of each sample, in the flat, unshifted spectrum of the image
    window: np.ndarray


class Windows:
    """The windows of all bands; those of the wedges are computed when they are asked for.

    Parameters
    ----------
    shape : (int, int)
        Height and width of the image.
    scales, angles : int
        Scales, the coarsest among them; angles at the second coarsest.
    finest : "curvelets" or "wavelets"
    real : bool
        Real coefficients: half of the wedges, sqrt(2) times as large, each for itself and for its
        mirror image.

    Attributes
    ----------
    low_index, low_weight : (h, w) arrays
        The frequency of each sample of the base's spectrum, and its window.
    finest_weight : (H, W) array or None
        Window of a finest scale of wavelets.
    counts : list of int
        Wedges of each scale, finest first.

    Raises
    ------
    ValueError
        The image is too small.
    """

    # radon C: the finest scale is curvelets or one band, the images may be too small
    def __init__(
        self, shape: tuple[int, int], scales: int, angles: int, finest: str, real: bool = True
    ):
        self.shape, self.real = shape, real
        self.refused = (
            f"shape: expected images large enough for {scales} scales and {angles} angles, "
            f"got {shape[0]}x{shape[1]}; use fewer scales or angles"
        )
        if 2**scales > min(shape):
            raise ValueError(self.refused)
        curvelets = finest == "curvelets"
        size = tuple(side / (3 if curvelets else 6) for side in shape)
        low = [
            _low_pass(m, shorter=curvelets and side % 3 == 0)
            for m, side in zip(size, shape, strict=True)
        ]
        self.finest_weight = None if curvelets else np.ones(shape)
        if self.finest_weight is not None:
            outside = np.sqrt(1 - np.outer(*low) ** 2)
            self.finest_weight.ravel()[_frequencies(outside.shape, shape)] = outside
        self.rings, self.counts = [], []
        for scale in range(scales if curvelets else scales - 1, 1, -1):
            size = (size[0] / 2, size[1] / 2)
            # What the next low-pass leaves of the present one is the ring.
            following = [_low_pass(m) for m in size]
            self.rings.append((_Ring(low, following, shape), size))
            self.counts.append(angles * 2 ** ceil((scale - 2) / 2))
            low = following
        self.low_weight = fft.ifftshift(np.outer(*low))
        self.low_index = fft.ifftshift(_frequencies(self.low_weight.shape, shape))

    def __iter__(self) -> Iterator[Wedge]:
        quadrants, factor = (2, np.sqrt(2)) if self.real else (4, 1.0)
        for scale, ((ring, size), count) in enumerate(zip(self.rings, self.counts, strict=True)):
            try:
                for angle, parts in enumerate(_wedges(ring, size, count // 4, quadrants)):
                    frequencies, window = parts
                    yield Wedge((scale, angle), frequencies, factor * window)
            except ZeroDivisionError:  # the axes of neighbouring wedges coincide
                raise ValueError(self.refused) from None

    def check(self, energy: np.ndarray) -> None:
        """Raise ValueError where the squares of all windows do not sum to 1.

        Parameters
        ----------
        energy : (H, W) float64
            The sum of the squares of the wedges' windows; the others are added to it.
        """
        if self.real:  # a wedge stands for itself and for its mirror image
            energy = (energy + np.roll(energy[::-1, ::-1], (1, 1), (0, 1))) / 2
        energy.ravel()[self.low_index] += self.low_weight**2
        if self.finest_weight is not None:
            energy += self.finest_weight**2
        if not np.allclose(energy, 1, rtol=0, atol=1e-12):
            raise ValueError(self.refused)


@lru_cache(maxsize=8)
def plan(shape: tuple[int, int], scales: int, angles: int, finest: str, real: bool) -> Plan:
    """Compute the windows of all bands; parameters and errors as for :class:`Windows`."""
    windows = Windows(shape, scales, angles, finest, real)
    wedges = [(wedge.window.shape, *wedge) for wedge in windows]
    matrix, groups = _assemble(wedges, shape[0] * shape[1])
    windows.check(np.asarray(matrix.power(2).sum(axis=0)).reshape(shape))
    return Plan(
        matrix, groups, windows.counts, windows.low_index, windows.low_weight, windows.finest_weight
    )


def _assemble(wedges: list, frequencies: int) -> tuple[sparse.csr_array, list[Group]]:
    """Put wedges of one shape side by side and their windows, zeros left out, into one sparse
    matrix.
    """
    wedges.sort(key=lambda wedge: wedge[0])
    groups: list[Group] = []
    start = 0
    # no wedges: base and wavelets only
    rows, columns, data = [np.empty(0, int)], [np.empty(0, int)], [np.empty(0)]
    for shape, index, position, weight in wedges:
        if not groups or groups[-1].shape != shape:
            groups.append(Group([], start, shape))
        groups[-1].places.append(index)
        used = np.flatnonzero(weight)
        rows.append(start + used)
        columns.append(position.ravel()[used])
        data.append(weight.ravel()[used])
        start += weight.size
    entries = np.concatenate(data), (np.concatenate(rows), np.concatenate(columns))
    return sparse.csr_array(entries, shape=(start, frequencies)), groups


def _frequencies(box: tuple[int, int], shape: tuple[int, int]) -> np.ndarray:
    """Return where the frequencies of a centred box lie in the flat, unshifted, periodic spectrum
    of an image.
    """
    rows, columns = (
        np.arange(-(n // 2), n // 2 + 1) % side for n, side in zip(box, shape, strict=True)
    )
    return rows[:, None] * shape[1] + columns


class _Ring:
    """A dyadic ring in its box (h, w): the next low-pass taken out of the present one. Both are
    products of a vector for rows and one for columns, so that nothing of the box is kept.

    Parameters
    ----------
    low, following : two vectors each
        Of the present low-pass and the next one, rows first.
    shape : (int, int)
        Of the image.
    """

    def __init__(self, low: list, following: list, shape: tuple[int, int]):
        self.box = (len(low[0]), len(low[1]))
        self.low, self.width = low, shape[1]
        self.following = [
            np.pad(inner, (len(outer) - len(inner)) // 2)
            for outer, inner in zip(low, following, strict=True)
        ]
        self.periodic = [
            np.arange(-(n // 2), n // 2 + 1) % side for n, side in zip(self.box, shape, strict=True)
        ]

    def at(self, row: np.ndarray, column: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the frequency in the image's flat spectrum, and the window."""
        frequency = self.periodic[0][row] * self.width + self.periodic[1][column]
        following = self.following[0][row] * self.following[1][column]
        return frequency, self.low[0][row] * self.low[1][column] * np.sqrt(1 - following**2)

    def turned(
        self, row: np.ndarray, column: np.ndarray, quadrant: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return :meth:`at` by the rows and columns of the ring turned as np.rot90 does."""
        last_row, last_column = self.box[0] - 1, self.box[1] - 1
        return self.at(
            *(
                (row, column),
                (column, last_column - row),
                (last_row - row, last_column - column),
                (last_row - column, row),
            )[quadrant]
        )


def _low_pass(m: float, shorter: bool = False) -> np.ndarray:
    """Return phi_m(k), |k| <= floor(2 m): 1 up to floor(m), then falling to 0.

    ``shorter``: for m = N / 3 with N a multiple of 3 the aliases meet at the last sample; one step
    less and a zero more let their squares sum to 1 there.
    """
    inside, outside = floor(m), floor(2 * m)
    steps = outside - inside - shorter
    fall = np.concatenate([_fall(np.arange(steps) / max(steps - 1, 1)), np.zeros(int(shorter))])
    return np.concatenate([fall[::-1], np.ones(2 * inside + 1), fall])


def _fall(t: np.ndarray) -> np.ndarray:
    """Return the smooth step r(t): 1 for t <= 0, 0 for t >= 1, with r(t)^2 + r(1 - t)^2 = 1."""

    def bump(t: np.ndarray) -> np.ndarray:
        inside = (t > 0) & (t < 1)
        with np.errstate(divide="ignore", over="ignore"):
            return np.where(
                inside, np.exp(1 - 1 / (1 - np.exp(1 - 1 / np.where(inside, t, 0.5)))), t <= 0
            )

    r, rise = bump(t), bump(1 - t)
    return r / np.hypot(r, rise)


# radon C: left, middle and right wedges of a quadrant, as the fast transform defines them
def _wedges(ring: _Ring, size: tuple[float, float], m: int, quadrants: int) -> Iterator[tuple]:
    """Cut a ring into ``m`` wedges a quadrant, clockwise from the top left corner.

    Yields for each wedge, wrapped and with the origin at [0, 0], frequencies and windows as
    :meth:`_Ring.at` has them. Coordinates X, Y count from 1 at the top left of the ring, turned so
    that the quadrant is on top.
    """
    for quadrant in range(quadrants):
        vertical, horizontal = size if quadrant % 2 == 0 else size[::-1]
        fv, fh = floor(4 * vertical), floor(4 * horizontal)
        depth = fv - floor(vertical)
        # Where the wedges' axes meet the upper side of the box: every second tick of a division
        # into 2 m.
        ticks = [(2 * fh * i + m) // (2 * m) + 1 for i in range(m + 1)]
        e = (ticks + [2 * fh + 2 - tick for tick in ticks[-2::-1]])[1::2]
        ev = floor(fv / m + 0.5) + 1
        # (upper left end, slope, width, rows) of the parallelogram of each wedge, then its angular
        # window.
        slopes = [(fh + 1 - axis) / fv for axis in e]
        corner = depth + ceil(ev / 4)
        shapes = [(2 - e[0], slopes[0], e[0] + e[1] - 1, corner)]
        shapes += [(e[u - 1], slopes[u], e[u + 1] - e[u - 1] + 1, depth) for u in range(1, m - 1)]
        shapes += [(e[-2], slopes[-1], 4 * fh + 3 - e[-1] - e[-2], corner)]
        for u, (left, slope, width, rows) in enumerate(shapes):
            y = np.arange(1, rows + 1)[:, None]
            line = _round(left + slope * (y - 1))
            # Wrapping: one period of columns from the line on, so rolled that the box's centre
            # comes to the middle.
            first_row = fv + 2 - ceil((rows + 1) / 2) + (rows % 2 == 0 and quadrant in (1, 2))
            first_column = fh + 2 - ceil((width + 1) / 2) + (width % 2 == 0 and quadrant in (2, 3))
            x = line + (np.arange(width) - (line - first_column)) % width
            inside = (x >= 1) & (x <= 2 * fh + 1)
            x = np.clip(x, 1, 2 * fh + 1)
            # too small rings give NaN and are refused in the end
            with np.errstate(divide="ignore", invalid="ignore"):
                before = (
                    _across(x, y, fh, fv, e[u - 1], e[u])
                    if u > 0
                    else _corner(x, y, fh, fv, e[0], ev, left=True)
                )
                after = (
                    _across(x, y, fh, fv, e[u], e[u + 1])
                    if u < m - 1
                    else _corner(x, y, fh, fv, e[-1], ev, left=False)
                )
                frequency, window = ring.turned(y - 1, x - 1, quadrant)
                window = window * _fall(1 - before) * _fall(after)
            window[~inside] = 0
            # np.roll(rows, 1 - first_row) puts row Y = first_row first; then back to the ring's own
            # orientation.
            yield tuple(
                fft.ifftshift(np.rot90(np.roll(values, 1 - first_row, axis=0), -quadrant))
                for values in (frequency, window)
            )


def _across(x, y, fh: int, fv: int, a: int, b: int) -> np.ndarray:
    """Return the coordinate that runs from 0 at the axis ``a`` to 1 at the next axis ``b`` along a
    row.
    """
    middle = (a + b) / 2
    return 0.5 + fv / (b - a) * (x - middle - (fh + 1 - middle) / fv * (y - 1)) / (fv + 1 - y)


def _corner(x, y, fh: int, fv: int, axis: int, ev: int, left: bool) -> np.ndarray:
    """Return the coordinate across the diagonal between a corner wedge and its neighbour in the
    next quadrant.
    """
    across, down = (x - 1) / fh, (y - 1) / fv
    alpha, beta = 2 * fv / (ev - 1) - 1, 2 * fh / (axis - 1) - 1
    if left:
        across = np.where(across + down == 2, across + 1 / fh, across)
        c2 = 1 / (1 / beta + 1 / alpha)
        return c2 / alpha + c2 * (across - down) / (2 - across - down)
    across = np.where(across == down, across - 1 / fh, across)
    c2 = -1 / (beta + 1 / alpha)
    return -c2 * beta + c2 * (2 - across - down) / (across - down)


def _round(values: np.ndarray) -> np.ndarray:
    """Round half away from zero, to integers."""
    return (np.sign(values) * np.floor(np.abs(values) + 0.5)).astype(int)
