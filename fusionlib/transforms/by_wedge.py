"""Curvelet fusion wedge by wedge: what :class:`.Curvelet` and a rule give, without ever having more
than one wedge of the bands. Memory is that of a few spectra; the windows are computed anew.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import fft

from .curvelet import checked
from .rules import mix
from .wrapping import Wedge, Windows

Pair = tuple[np.ndarray, np.ndarray]
Choice = Callable[[np.ndarray, np.ndarray], np.ndarray | float]


def fuse_by_wedge(
    luma: Pair,
    planes: Pair,
    select: Choice,
    base_weight: Choice,
    scales: int | None = None,
    angles: int = 16,
    finest: str = "curvelets",
) -> np.ndarray:
    """Fuse two planes by what is selected on the curvelets of two lumas.

    Equal to the way by :class:`.Curvelet` but for the order of additions, 1e-10 of a gray level.

    Parameters
    ----------
    luma, planes : pairs of (H, W) float64
        Gray levels 0..255; the same pair twice is transformed once.
    select, base_weight : callable
        Called with two high-pass bands, or both bases, of the lumas, as :func:`.rules.select` and
        :func:`.rules.base_weight`; give the weight of the first.
    scales, angles, finest
        As for :class:`.Curvelet`.

    Returns
    -------
    (H, W) float64

    Raises
    ------
    TypeError, ValueError
        As :class:`.Curvelet`.
    """
    windows = Windows(*checked(luma[0].shape, scales, angles, finest), finest)
    spectra = [_spectrum(plane) for plane in luma]
    if planes is not luma:
        spectra += [_spectrum(plane) for plane in planes]
    fused = np.zeros(windows.shape, np.complex128)
    if windows.finest_weight is not None:
        bands = [_image(spectrum * windows.finest_weight) for spectrum in spectra]
        fused += windows.finest_weight * _spectrum(_mixed(bands, select))
        del bands
    energy = np.zeros(windows.shape)
    for wedge in windows:
        _add_wedge(wedge, spectra, fused, energy, select)
    index, weight = windows.low_index, windows.low_weight
    lows = [_image(spectrum.ravel()[index] * weight) for spectrum in spectra]
    spectra.clear()
    fused.ravel()[index] += weight * _spectrum(_mixed(lows, base_weight))
    windows.check(energy)  # last: it needs as much as the spectra did
    del energy
    return _image(fused)


def _add_wedge(
    wedge: Wedge, spectra: list[np.ndarray], fused: np.ndarray, energy: np.ndarray, select: Choice
) -> None:
    """Select and mix the coefficients of one wedge; add them to the fused spectrum, and the squares
    of the window to ``energy``.
    """
    bands = [
        fft.fftshift(fft.ifft2(spectrum.ravel()[wedge.frequencies] * wedge.window, norm="ortho"))
        for spectrum in spectra
    ]
    mixed = np.empty_like(bands[0])
    mixed.real = _mixed([band.real for band in bands], select)
    mixed.imag = _mixed([band.imag for band in bands], select)
    # outside of the window a frequency may stand twice
    used = np.flatnonzero(wedge.window)
    window, frequencies = wedge.window.ravel()[used], wedge.frequencies.ravel()[used]
    fused.ravel()[frequencies] += window * _spectrum(mixed).ravel()[used]
    energy.ravel()[frequencies] += window**2


def _mixed(bands: list[np.ndarray], choice: Choice) -> np.ndarray:
    """Mix the last two of the bands by the choice on the first two."""
    return mix(choice(*bands[:2]), *bands[-2:])


def _spectrum(band: np.ndarray) -> np.ndarray:
    return fft.fft2(fft.ifftshift(band), norm="ortho", overwrite_x=True)


def _image(spectrum: np.ndarray) -> np.ndarray:
    return fft.fftshift(fft.ifft2(spectrum, norm="ortho", overwrite_x=True).real)
