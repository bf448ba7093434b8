"""Curvelets: the second-generation fast discrete curvelet transform by wrapping.

Candes, Demanet, Donoho and Ying, "Fast discrete curvelet transforms", Multiscale Modeling & Simulation 5(3), 2006;
section 2.2 of Abas and Baykan 2021. The spectrum of the image is cut into dyadic rings and each ring into wedges whose
squared windows sum to 1. A wedge is wrapped into a rectangle around the origin and transformed back: a tight frame, the
inverse is the adjoint.

Everything between the two Fourier transforms is linear and real: which frequency lands where in which rectangle, times
the window. It is computed once per configuration as one sparse matrix (the plan) and cached; the forward transform
multiplies by it, the inverse by its transpose.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from math import ceil, floor, log2

import numpy as np
from scipy import fft, sparse

from . import rules
from .bands import Bands

FINEST = ("curvelets", "wavelets")


class Curvelet:
    """Forward and inverse curvelet transform of images of one size.

    Parameters
    ----------
    shape : (int, int)
        Height and width of the images; both sides at least 17.
    scales : int, optional
        Number of scales, the coarsest (the base) included, at least 2; ceil(log2(min(shape)) - 3) by default.
        ASSUMPTION: the paper gives neither scales nor angles of its curvelets; 5 scales at most and 16 angles at the
        second coarsest scale come nearest to its Leopard results.
    angles : int
        Number of wedges at the second coarsest scale; doubles at every other finer scale. A multiple of 8: other
        multiples of 4 would lose part of the spectrum.
    finest : "curvelets" or "wavelets"
        The finest scale is cut into wedges, or is one band of the size of the image (less redundant).
    real : bool
        True: real images and real coefficients. Of each pair of opposite wedges only one is transformed; sqrt(2) times
        its real part stands at angle l, sqrt(2) times its imaginary part at angle l + half of the angles. A fusion rule
        selects these two independently. False: complex coefficients, complex inverse.

    Raises
    ------
    TypeError, ValueError
        A parameter is of the wrong kind, or the images are too small for so many scales or angles.
    """

    def __init__(self, shape: tuple[int, int], scales: int | None = None, angles: int = 16, finest: str = "curvelets",
                 real: bool = True):
        if not isinstance(shape, tuple | list) or len(shape) != 2 or any(_not_integer(side) for side in shape):
            raise TypeError(f"shape: expected (height, width), got {shape!r}")
        self.shape = (int(shape[0]), int(shape[1]))
        if min(self.shape) < 17:
            raise ValueError(f"shape: expected sides of at least 17 pixels for curvelets, got {shape[0]}x{shape[1]}")
        if finest not in FINEST:
            raise ValueError(f"finest: expected one of {', '.join(FINEST)}, got {finest!r}")
        if _not_integer(angles) or angles < 8 or angles % 8:
            raise ValueError(f"angles: expected a positive multiple of 8, got {angles!r}")
        if scales is None:
            scales = default_scales(self.shape)
        if _not_integer(scales) or scales < 2:
            raise ValueError(f"scales: expected an integer of at least 2, got {scales!r}")
        self.scales, self.angles, self.finest, self.real = int(scales), int(angles), finest, bool(real)
        self._plan = _plan(self.shape, self.scales, self.angles, self.finest, self.real)

    def __repr__(self) -> str:
        return (f"Curvelet({self.shape}, scales={self.scales}, angles={self.angles}, finest={self.finest!r}, "
                f"real={self.real})")

    def forward(self, x: np.ndarray) -> Bands:
        """Decompose an image.

        Parameters
        ----------
        x : (H, W) array
            Real, or complex where ``real`` is False; computed in float64.

        Returns
        -------
        Bands
            ``high`` holds the scales, finest first, each a list of wedges clockwise from the top left corner of the
            spectrum; a finest scale of wavelets is one array. ``low`` is a low-pass thumbnail (h, w), brighter than the
            image by the factor sqrt(H W / (h w)), as all bands keep the energy.

        Raises
        ------
        TypeError, ValueError
            Wrong shape or kind, NaN or infinite values.
        """
        plan, spectrum = self._plan, fft.fft2(fft.ifftshift(self._check(x)), norm="ortho", overwrite_x=True)
        low = self._image(spectrum.ravel()[plan.low_index] * plan.low_weight)
        coefficients = (plan.matrix @ _columns(spectrum)).view(np.complex128).ravel()
        high = [[None] * count for count in plan.counts]
        for group in plan.groups:
            stack = fft.ifft2(group.of(coefficients), norm="ortho", overwrite_x=True)
            if self.real:
                cosines, sines = (fft.fftshift(part, axes=(1, 2)) for part in (stack.real, stack.imag))
                for (scale, angle), cosine, sine in zip(group.places, cosines, sines, strict=True):
                    high[scale][angle], high[scale][angle + plan.counts[scale] // 2] = cosine, sine
            else:
                for (scale, angle), wedge in zip(group.places, fft.fftshift(stack, axes=(1, 2)), strict=True):
                    high[scale][angle] = wedge
        if plan.finest_weight is not None:
            high.insert(0, self._image(spectrum * plan.finest_weight))
        return Bands(low, high, self.shape)

    def inverse(self, bands: Bands) -> np.ndarray:
        """Rebuild the (H, W) image, float64 or (``real`` False) complex128; also the adjoint of :meth:`forward`.

        Raises
        ------
        ValueError
            Number or shapes of the bands are not those of this transform.
        """
        plan, high = self._plan, list(bands.high)
        if len(high) != self.scales - 1:
            raise ValueError(f"bands: expected {self.scales - 1} high-pass scales, got {len(high)}")
        finest = high.pop(0) if plan.finest_weight is not None else None
        if [len(scale) for scale in high] != plan.counts:
            raise ValueError(f"bands: expected {plan.counts} wedges, got {[len(scale) for scale in high]}")
        coefficients = np.empty(plan.matrix.shape[0], np.complex128)
        for group in plan.groups:
            stack = group.of(coefficients)
            for out, (scale, angle) in zip(stack, group.places, strict=True):
                if self.real:
                    _shift_into(out.real, high[scale][angle])
                    _shift_into(out.imag, high[scale][angle + plan.counts[scale] // 2])
                else:
                    _shift_into(out, high[scale][angle])
            stack[...] = fft.fft2(stack, norm="ortho", overwrite_x=True)
        spectrum = (plan.matrix.T @ _columns(coefficients)).view(np.complex128).reshape(self.shape)
        spectrum.ravel()[plan.low_index] += plan.low_weight * self._spectrum(bands.low, plan.low_weight.shape)
        if finest is not None:
            spectrum += plan.finest_weight * self._spectrum(finest, self.shape)
        return self._image(spectrum)

    def base_image(self, low: np.ndarray, shape: tuple[int, int] | None = None) -> np.ndarray:
        """Return the (H, W) image whose base is ``low`` and whose other bands are 0 (one small and one large FFT)."""
        spectrum = np.zeros(self.shape, np.complex128)
        spectrum.ravel()[self._plan.low_index] = (
            self._plan.low_weight * self._spectrum(low, self._plan.low_weight.shape))
        return self._image(spectrum)

    def fuse(self, a: Bands, b: Bands, rule=1, area: int = 3, base="average", weight: float = 0.5) -> Bands:
        """Fuse two decompositions; see :func:`fusionlib.transforms.rules.fuse`.

        ASSUMPTION: the rule of the paper's curvelet coefficients is given in words only; the larger magnitude, each
        stored coefficient by itself, is the default.
        """
        return rules.fuse(a, b, rule=rule, area=area, base=base, weight=weight)

    def _check(self, x: np.ndarray) -> np.ndarray:
        x = np.asarray(x)
        if not np.issubdtype(x.dtype, np.number) or (self.real and np.iscomplexobj(x)):
            raise TypeError(f"x: expected a {'real' if self.real else 'real or complex'} array, got type {x.dtype}")
        if x.shape != self.shape:
            raise ValueError(f"x: expected an image of shape {self.shape}, got {x.shape}")
        if not np.isfinite(x).all():
            raise ValueError(f"x: expected finite values, got {int((~np.isfinite(x)).sum())} NaN or infinite")
        return x.astype(np.complex128 if np.iscomplexobj(x) else np.float64)

    def _image(self, spectrum: np.ndarray) -> np.ndarray:
        values = fft.ifft2(spectrum, norm="ortho", overwrite_x=True)
        return fft.fftshift(values.real if self.real else values)

    @staticmethod
    def _spectrum(band: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
        if np.shape(band) != shape:
            raise ValueError(f"bands: expected a band of {shape}, got {np.shape(band)}")
        return fft.fft2(fft.ifftshift(band), norm="ortho")


def default_scales(shape: tuple[int, int]) -> int:
    """Return the number of scales for images of this size, the base included."""
    return ceil(log2(min(shape)) - 3)


# ---- the plan -------------------------------------------------------------------------------------------------

@dataclass(frozen=True)
class _Group:
    """Wedges of one shape, side by side in the vector of coefficients: one stacked FFT."""

    places: list[tuple[int, int]]  # (scale, finest first; angle) of each
    start: int
    shape: tuple[int, int]

    def of(self, coefficients: np.ndarray) -> np.ndarray:
        size = len(self.places) * self.shape[0] * self.shape[1]
        return coefficients[self.start:self.start + size].reshape(-1, *self.shape)


@dataclass(frozen=True)
class _Plan:
    matrix: sparse.csr_array  # coefficients x frequencies: the wedges' windows at the frequencies that they gather
    groups: list[_Group]
    counts: list[int]  # wedges of each scale, finest first
    low_index: np.ndarray  # (h, w): the frequency of each sample of the base's spectrum
    low_weight: np.ndarray  # (h, w): its window
    finest_weight: np.ndarray | None  # (H, W): window of a finest scale of wavelets


@lru_cache(maxsize=8)
def _plan(shape: tuple[int, int], scales: int, angles: int, finest: str, real: bool) -> _Plan:
    """Compute the windows of all bands; raise ValueError where their squares do not sum to 1 everywhere."""
    refused = (f"shape: expected images large enough for {scales} scales and {angles} angles, got {shape[0]}x{shape[1]}; "
               "use fewer scales or angles")
    if min(shape) / 2**scales < 1:
        raise ValueError(refused)
    if finest == "curvelets":
        size = tuple(side / 3 for side in shape)
        low = np.outer(*(_low_pass(m, shorter=side % 3 == 0) for m, side in zip(size, shape, strict=True)))
        finest_weight, cut = None, range(scales, 1, -1)
    else:
        size = tuple(side / 6 for side in shape)
        low = np.outer(*(_low_pass(m) for m in size))
        finest_weight = np.ones(shape)
        finest_weight.ravel()[_frequencies(low.shape, shape)] = np.sqrt(1 - low**2)
        cut = range(scales - 1, 1, -1)
    wedges, counts = [], []
    for place, scale in enumerate(cut):
        size = tuple(m / 2 for m in size)
        # Radial windows: what the next low-pass leaves of the present one is the ring.
        following = np.outer(*(_low_pass(m) for m in size))
        inner = tuple(slice((n - k) // 2, (n + k) // 2) for n, k in zip(low.shape, following.shape, strict=True))
        ring = low.copy()
        ring[inner] *= np.sqrt(1 - following**2)
        low = low[inner] * following
        counts.append(angles * 2 ** ceil((scale - 2) / 2))
        frequencies = _frequencies(ring.shape, shape)
        for angle, (position, weight) in enumerate(_wedges(ring, size, counts[-1] // 4, quadrants=2 if real else 4)):
            wedges.append((weight.shape, (place, angle), frequencies.ravel()[position], weight))
    matrix, groups = _assemble(wedges, shape[0] * shape[1], np.sqrt(2) if real else 1.0)
    low_index, low_weight = fft.ifftshift(_frequencies(low.shape, shape)), fft.ifftshift(low)
    energy = np.bincount(matrix.indices, matrix.data**2, shape[0] * shape[1]).reshape(shape)
    if real:  # a wedge stands for itself and for its mirror image
        energy = (energy + np.roll(energy[::-1, ::-1], (1, 1), (0, 1))) / 2
    energy.ravel()[low_index] += low_weight**2
    if finest_weight is not None:
        energy += finest_weight**2
    if not np.allclose(energy, 1, rtol=0, atol=1e-12):
        raise ValueError(refused)
    return _Plan(matrix, groups, counts, low_index, low_weight, finest_weight)


def _assemble(wedges: list, frequencies: int, factor: float) -> tuple[sparse.csr_array, list[_Group]]:
    """Put wedges of one shape side by side and their windows, zeros left out, into one sparse matrix."""
    wedges.sort(key=lambda wedge: wedge[0])
    groups, rows, columns, data, start = [], [], [], [], 0
    for shape, place, position, weight in wedges:
        if not groups or groups[-1].shape != shape:
            groups.append(_Group([], start, shape))
        groups[-1].places.append(place)
        used = np.flatnonzero(weight)
        rows.append(start + used)
        columns.append(position.ravel()[used])
        data.append(factor * weight.ravel()[used])
        start += weight.size
    entries = np.concatenate(data), (np.concatenate(rows), np.concatenate(columns))
    return sparse.csr_array(entries, shape=(start, frequencies)), groups


def _frequencies(box: tuple[int, int], shape: tuple[int, int]) -> np.ndarray:
    """Return where the frequencies of a centred box lie in the flat, unshifted, periodic spectrum of an image."""
    rows, columns = (np.arange(-(n // 2), n // 2 + 1) % side for n, side in zip(box, shape, strict=True))
    return rows[:, None] * shape[1] + columns


def _low_pass(m: float, shorter: bool = False) -> np.ndarray:
    """Return phi_m(k), |k| <= floor(2 m): 1 up to floor(m), then falling to 0.

    ``shorter``: for m = N / 3 with N a multiple of 3 the aliases meet at the last sample; one step less and a zero more
    let their squares sum to 1 there.
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
            return np.where(inside, np.exp(1 - 1 / (1 - np.exp(1 - 1 / np.where(inside, t, 0.5)))), t <= 0)
    r, rise = bump(t), bump(1 - t)
    return r / np.hypot(r, rise)


def _wedges(ring: np.ndarray, size: tuple[float, float], m: int, quadrants: int) -> Iterator[tuple]:
    """Cut a ring into ``m`` wedges a quadrant, clockwise from the top left corner.

    Yields for each wedge, wrapped and with the origin at [0, 0], the flat positions in the ring's box and the windows.
    Coordinates X, Y count from 1 at the top left of the ring, turned so that the quadrant is on top.
    """
    positions = np.arange(ring.size).reshape(ring.shape)
    for quadrant in range(quadrants):
        vertical, horizontal = size if quadrant % 2 == 0 else size[::-1]
        fv, fh = floor(4 * vertical), floor(4 * horizontal)
        depth = fv - floor(vertical)
        # Where the wedges' axes meet the upper side of the box: every second tick of a division into 2 m.
        ticks = [(2 * fh * i + m) // (2 * m) + 1 for i in range(m + 1)]
        e = (ticks + [2 * fh + 2 - tick for tick in ticks[-2::-1]])[1::2]
        ev = floor(fv / m + 0.5) + 1
        # (upper left end, slope, width, rows) of the parallelogram of each wedge, then its angular window.
        slopes = [(fh + 1 - axis) / fv for axis in e]
        corner = depth + ceil(ev / 4)
        shapes = [(2 - e[0], slopes[0], e[0] + e[1] - 1, corner)]
        shapes += [(e[u - 1], slopes[u], e[u + 1] - e[u - 1] + 1, depth) for u in range(1, m - 1)]
        shapes += [(e[-2], slopes[-1], 4 * fh + 3 - e[-1] - e[-2], corner)]
        for u, (left, slope, width, rows) in enumerate(shapes):
            y = np.arange(1, rows + 1)[:, None]
            line = _round(left + slope * (y - 1))
            # Wrapping: one period of columns from the line on, so rolled that the box's centre comes to the middle.
            first_row = fv + 2 - ceil((rows + 1) / 2) + (rows % 2 == 0 and quadrant in (1, 2))
            first_column = fh + 2 - ceil((width + 1) / 2) + (width % 2 == 0 and quadrant in (2, 3))
            x = line + (np.arange(width) - (line - first_column)) % width
            inside = (x >= 1) & (x <= 2 * fh + 1)
            x = np.clip(x, 1, 2 * fh + 1)
            before = _corner(x, y, fh, fv, e[0], ev, left=True) if u == 0 else _across(x, y, fh, fv, e[u - 1], e[u])
            after = _corner(x, y, fh, fv, e[-1], ev, left=False) if u == m - 1 else _across(x, y, fh, fv, *e[u:u + 2])
            window = np.rot90(ring, quadrant)[y - 1, x - 1] * _fall(1 - before) * _fall(after) * inside
            position = np.rot90(positions, quadrant)[y - 1, x - 1]
            # np.roll(rows, 1 - first_row) puts row Y = first_row first; then back to the ring's own orientation.
            yield tuple(fft.ifftshift(np.rot90(np.roll(values, 1 - first_row, axis=0), -quadrant))
                        for values in (position, window))


def _across(x, y, fh: int, fv: int, a: int, b: int) -> np.ndarray:
    """Return the coordinate that runs from 0 at the axis ``a`` to 1 at the next axis ``b`` along a row."""
    middle = (a + b) / 2
    return 0.5 + fv / (b - a) * (x - middle - (fh + 1 - middle) / fv * (y - 1)) / (fv + 1 - y)


def _corner(x, y, fh: int, fv: int, axis: int, ev: int, left: bool) -> np.ndarray:
    """Return the coordinate across the diagonal between a corner wedge and its neighbour in the next quadrant."""
    across, down = (x - 1) / fh, (y - 1) / fv
    alpha, beta = 2 * fv / (ev - 1) - 1, 2 * fh / (axis - 1) - 1
    if left:
        across = np.where(across + down == 2, across + 1 / fh, across)
        c2 = 1 / (1 / beta + 1 / alpha)
        return c2 / alpha + c2 * (across - down) / (2 - across - down)
    across = np.where(across == down, across - 1 / fh, across)
    c2 = -1 / (beta + 1 / alpha)
    return -c2 * beta + c2 * (2 - across - down) / (across - down)


# ---- small tools ----------------------------------------------------------------------------------------------

def _round(values: np.ndarray) -> np.ndarray:
    """Round half away from zero, to integers."""
    return (np.sign(values) * np.floor(np.abs(values) + 0.5)).astype(int)


def _columns(values: np.ndarray) -> np.ndarray:
    """Show complex numbers as rows of real and imaginary part: a real sparse matrix then stays real."""
    return np.ascontiguousarray(values).reshape(-1, 1).view(np.float64)


def _shift_into(out: np.ndarray, band: np.ndarray) -> None:
    """Write ``ifftshift(band)`` into ``out``."""
    if np.shape(band) != out.shape:
        raise ValueError(f"bands: expected a wedge of {out.shape}, got {np.shape(band)}")
    (h, w), r, c = out.shape, out.shape[0] // 2, out.shape[1] // 2
    out[:h - r, :w - c], out[:h - r, w - c:] = band[r:, c:], band[r:, :c]
    out[h - r:, :w - c], out[h - r:, w - c:] = band[:r, c:], band[:r, :c]


def _not_integer(value: object) -> bool:
    return isinstance(value, bool) or not isinstance(value, int | np.integer)
