"""Curvelets: the second-generation fast discrete curvelet transform by wrapping.

Candes, Demanet, Donoho and Ying, "Fast discrete curvelet transforms", Multiscale Modeling &
Simulation 5(3), 2006; section 2.2 of Abas and Baykan 2021. The spectrum of the image is cut into
dyadic rings and each ring into wedges whose squared windows sum to 1. A wedge is wrapped into a
rectangle around the origin and transformed back: a tight frame, the inverse is the adjoint.

Everything between the two Fourier transforms is linear and real: which frequency lands where in
which rectangle, times the window. It is one sparse matrix (:mod:`.wrapping`), computed once per
configuration and cached; the forward transform multiplies by it, the inverse by its transpose.
"""

from __future__ import annotations

import numpy as np
from scipy import fft

from . import rules
from .bands import Bands
from .wrapping import default_scales, plan

FINEST = ("curvelets", "wavelets")


class Curvelet:
    """Forward and inverse curvelet transform of images of one size.

    Parameters
    ----------
    shape : (int, int)
        Height and width of the images; both sides at least 17.
    scales : int, optional
        Number of scales, the coarsest (the base) included, at least 2; ceil(log2(min(shape)) - 3)
        by default. ASSUMPTION: the paper gives neither scales nor angles of its curvelets; the
        usual number of scales for the size and 16 angles at the second coarsest are the defaults, 5
        scales come nearest to its Leopard results.
    angles : int
        Number of wedges at the second coarsest scale; doubles at every other finer scale. A
        multiple of 8: other multiples of 4 would lose part of the spectrum.
    finest : "curvelets" or "wavelets"
        The finest scale is cut into wedges, or is one band of the size of the image (less
        redundant).
    real : bool
        True: real images and real coefficients. Of each pair of opposite wedges only one is
        transformed; sqrt(2) times its real part stands at angle l, sqrt(2) times its imaginary part
        at angle l + half of the angles. A fusion rule selects these two independently. False:
        complex coefficients, complex inverse.

    Raises
    ------
    TypeError, ValueError
        A parameter is of the wrong kind, or the images are too small for so many scales or angles.

    Examples
    --------
    >>> curvelet, image = Curvelet((64, 48)), np.arange(3072.0).reshape(64, 48)
    >>> np.allclose(curvelet.inverse(curvelet.forward(image)), image)
    True
    """

    def __init__(
        self,
        shape: tuple[int, int],
        scales: int | None = None,
        angles: int = 16,
        finest: str = "curvelets",
        real: bool = True,
    ):
        self.shape, self.scales, self.angles = checked(shape, scales, angles, finest)
        self.finest, self.real = finest, bool(real)
        self._plan = plan(self.shape, self.scales, self.angles, self.finest, self.real)

    def __repr__(self) -> str:
        return (
            f"Curvelet({self.shape}, scales={self.scales}, angles={self.angles},"
            f" finest={self.finest!r}, real={self.real})"
        )

    def forward(self, x: np.ndarray) -> Bands:
        """Decompose an image.

        Parameters
        ----------
        x : (H, W) array
            Real, or complex where ``real`` is False; computed in float64.

        Returns
        -------
        Bands
            ``high`` holds the scales, finest first, each a list of wedges clockwise from the top
            left corner of the spectrum; a finest scale of wavelets is one array. ``low`` is a
            low-pass thumbnail (h, w), brighter than the image by the factor sqrt(H W / (h w)), as
            all bands keep the energy.

        Raises
        ------
        TypeError, ValueError
            Wrong shape or kind, NaN or infinite values.
        """
        plan, spectrum = (
            self._plan,
            fft.fft2(fft.ifftshift(self._check(x)), norm="ortho", overwrite_x=True),
        )
        low = self._image(spectrum.ravel()[plan.low_index] * plan.low_weight)
        coefficients = (plan.matrix @ _columns(spectrum)).view(np.complex128).ravel()
        high: list = [[None] * count for count in plan.counts]
        for group in plan.groups:
            stack = fft.ifft2(group.of(coefficients), norm="ortho", overwrite_x=True)
            if self.real:
                cosines, sines = (
                    fft.fftshift(part, axes=(1, 2)) for part in (stack.real, stack.imag)
                )
                for (scale, angle), cosine, sine in zip(group.places, cosines, sines, strict=True):
                    high[scale][angle], high[scale][angle + plan.counts[scale] // 2] = cosine, sine
            else:
                for (scale, angle), wedge in zip(
                    group.places, fft.fftshift(stack, axes=(1, 2)), strict=True
                ):
                    high[scale][angle] = wedge
        if plan.finest_weight is not None:
            high.insert(0, self._image(spectrum * plan.finest_weight))
        return Bands(low, high, self.shape)

    def inverse(self, bands: Bands) -> np.ndarray:
        """Rebuild the (H, W) image, float64 or (``real`` False) complex128; also the adjoint of
        :meth:`forward`.

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
            raise ValueError(
                f"bands: expected {plan.counts} wedges, got {[len(scale) for scale in high]}"
            )
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
        spectrum.ravel()[plan.low_index] += plan.low_weight * self._spectrum(
            bands.low, plan.low_weight.shape
        )
        if finest is not None:
            spectrum += plan.finest_weight * self._spectrum(finest, self.shape)
        return self._image(spectrum)

    def base_image(self, low: np.ndarray, shape: tuple[int, int] | None = None) -> np.ndarray:
        """Return the (H, W) image whose base is ``low`` and whose other bands are 0 (one small and
        one large FFT).
        """
        spectrum = np.zeros(self.shape, np.complex128)
        spectrum.ravel()[self._plan.low_index] = self._plan.low_weight * self._spectrum(
            low, self._plan.low_weight.shape
        )
        return self._image(spectrum)

    def fuse(
        self, a: Bands, b: Bands, rule=1, area: int = 3, base="average", weight: float = 0.5
    ) -> Bands:
        """Fuse two decompositions; see :func:`fusionlib.transforms.rules.fuse`.

        ASSUMPTION: the rule of the paper's curvelet coefficients is given in words only; the larger
        magnitude, each stored coefficient by itself, is the default.
        """
        return rules.fuse(a, b, rule=rule, area=area, base=base, weight=weight)

    def _check(self, x: np.ndarray) -> np.ndarray:
        x = np.asarray(x)
        if not np.issubdtype(x.dtype, np.number) or (self.real and np.iscomplexobj(x)):
            raise TypeError(
                f"x: expected a {'real' if self.real else 'real or complex'} array, got type"
                f" {x.dtype}"
            )
        if x.shape != self.shape:
            raise ValueError(f"x: expected an image of shape {self.shape}, got {x.shape}")
        if not np.isfinite(x).all():
            raise ValueError(
                f"x: expected finite values, got {int((~np.isfinite(x)).sum())} NaN or infinite"
            )
        return x.astype(np.complex128 if np.iscomplexobj(x) else np.float64)

    def _image(self, spectrum: np.ndarray) -> np.ndarray:
        values = fft.ifft2(spectrum, norm="ortho", overwrite_x=True)
        return fft.fftshift(values.real if self.real else values)

    @staticmethod
    def _spectrum(band: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
        if np.shape(band) != shape:
            raise ValueError(f"bands: expected a band of {shape}, got {np.shape(band)}")
        return fft.fft2(fft.ifftshift(band), norm="ortho")


# radon C: every argument is checked where it comes in
def checked(
    shape: tuple[int, int], scales: int | None, angles: int, finest: str
) -> tuple[tuple[int, int], int, int]:
    """Return shape, scales and angles as :class:`Curvelet` takes them, or raise what it raises."""
    if (
        not isinstance(shape, tuple | list)
        or len(shape) != 2
        or any(_not_integer(side) for side in shape)
    ):
        raise TypeError(f"shape: expected (height, width), got {shape!r}")
    if min(shape) < 17:
        raise ValueError(
            f"shape: expected sides of at least 17 pixels for curvelets, got {shape[0]}x{shape[1]}"
        )
    if finest not in FINEST:
        raise ValueError(f"finest: expected one of {', '.join(FINEST)}, got {finest!r}")
    if _not_integer(angles) or angles < 8 or angles % 8:
        raise ValueError(f"angles: expected a positive multiple of 8, got {angles!r}")
    size = (int(shape[0]), int(shape[1]))
    if scales is None:
        scales = default_scales(size)
    if _not_integer(scales) or scales < 2:
        raise ValueError(f"scales: expected an integer of at least 2, got {scales!r}")
    return size, int(scales), int(angles)


def _columns(values: np.ndarray) -> np.ndarray:
    """Show complex numbers as rows of real and imaginary part: a real sparse matrix then stays
    real.
    """
    return np.ascontiguousarray(values).reshape(-1, 1).view(np.float64)


def _shift_into(out: np.ndarray, band: np.ndarray) -> None:
    """Write ``ifftshift(band)`` into ``out``."""
    if np.shape(band) != out.shape:
        raise ValueError(f"bands: expected a wedge of {out.shape}, got {np.shape(band)}")
    (h, w), r, c = out.shape, out.shape[0] // 2, out.shape[1] // 2
    out[: h - r, : w - c], out[: h - r, w - c :] = band[r:, c:], band[r:, :c]
    out[h - r :, : w - c], out[h - r :, w - c :] = band[:r, c:], band[:r, :c]


def _not_integer(value: object) -> bool:
    return isinstance(value, bool) or not isinstance(value, int | np.integer)
