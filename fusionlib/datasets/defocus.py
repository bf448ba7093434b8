"""Multi-focus pairs with an exact all-in-focus reference, made from photographs.

Two kinds. *Depth-true*: a photograph with its disparity map is seen by a lens focused near and by
one focused far; blur grows with the distance from the plane of focus and near things bleed over far
ones. *Half-blurred*: each pixel is untouched in one source and blurred in the other, so a perfect
fusion has RMSE 0.
"""

from __future__ import annotations

import numpy as np
from scipy.ndimage import distance_transform_edt, gaussian_filter
from scipy.signal import fftconvolve


def disc(radius: float) -> np.ndarray:
    """Return the image of a point out of focus: a uniform disc with an anti-aliased rim, summing to
    1.

    Parameters
    ----------
    radius : float
        Radius of the circle of confusion in pixels; 0 gives a single 1.
    """
    reach = int(np.ceil(radius))
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    kernel = np.clip(radius + 0.5 - np.hypot(y, x), 0, 1)
    return kernel / kernel.sum()


def fill_nearest(disparity: np.ndarray) -> np.ndarray:
    """Give pixels without a finite disparity that of the nearest pixel that has one."""
    known = np.isfinite(disparity)
    if known.all():
        return disparity
    if not known.any():
        raise ValueError(
            f"disparity: expected at least one finite value, got none in shape {disparity.shape}"
        )
    rows, columns = distance_transform_edt(~known, return_distances=False, return_indices=True)
    return disparity[rows, columns]


def focus(
    image: np.ndarray, disparity: np.ndarray, at: float, aperture: float, layers: int = 16
) -> np.ndarray:
    """Render ``image`` as a thin lens focused at disparity ``at`` sees it.

    The radius of the circle of confusion is ``aperture * |disparity - at|``: disparity is
    proportional to inverse depth, and so is the circle of a thin lens. The scene is cut into depth
    layers, each blurred with its own disc together with its coverage, then laid over the farther
    ones, so a blurred foreground covers a sharp background and a blurred background stops at a
    sharp foreground.

    Parameters
    ----------
    image : (H, W) or (H, W, 3) uint8
    disparity : (H, W) float
        In pixels, larger is nearer; non-finite where unknown.
    at : float
        Disparity that is in focus.
    aperture : float
        Radius in pixels for each pixel of disparity away from ``at``.
    layers : int
        Number of depth layers.

    Returns
    -------
    (H, W) or (H, W, 3) float64 in 0..255
    """
    if image.shape[:2] != disparity.shape:
        raise ValueError(
            f"disparity: expected the size of the image {image.shape[:2]}, got {disparity.shape}"
        )
    disparity = fill_nearest(np.asarray(disparity, dtype=np.float64))
    planes = image.reshape(*image.shape[:2], -1).astype(np.float64)
    edges = np.quantile(disparity, np.linspace(0, 1, layers + 1))
    index = np.clip(np.searchsorted(edges, disparity, side="right") - 1, 0, layers - 1)
    colour, coverage = np.zeros_like(planes), np.zeros(disparity.shape)
    for layer in range(layers):  # far to near
        mask = (index == layer).astype(np.float64)
        if not mask.any():
            continue
        radius = aperture * abs(np.median(disparity[index == layer]) - at)
        light = planes * mask[..., None]
        if radius >= 0.5:
            kernel = disc(radius)
            mask = fftconvolve(mask, kernel, mode="same").clip(0, 1)
            light = fftconvolve(light, kernel[..., None], mode="same", axes=(0, 1)).clip(0, None)
        colour = colour * (1 - mask[..., None]) + light
        coverage = coverage * (1 - mask) + mask
    # What lies behind a near object was never photographed: coverage below 1 there is spread over
    # what is known.
    return (colour / np.maximum(coverage, 1e-6)[..., None]).clip(0, 255).reshape(image.shape)


def halves(
    image: np.ndarray, sharp_in_a: np.ndarray, sigma: float
) -> tuple[np.ndarray, np.ndarray]:
    """Blur ``image`` outside ``sharp_in_a`` for the first source and inside it for the second.

    Parameters
    ----------
    image : (H, W) or (H, W, 3) uint8
    sharp_in_a : (H, W) bool
        Where the first source keeps the photograph's own pixels.
    sigma : float
        Gaussian blur in pixels.

    Returns
    -------
    a, b : float64, the shape of ``image``, 0..255
    """
    if image.shape[:2] != sharp_in_a.shape:
        raise ValueError(
            f"sharp_in_a: expected the size of the image {image.shape[:2]}, got {sharp_in_a.shape}"
        )
    sharp = image.astype(np.float64)
    blurred = gaussian_filter(sharp, (sigma, sigma, 0)[: image.ndim], mode="reflect")
    mask = sharp_in_a if image.ndim == 2 else sharp_in_a[..., None]
    return np.where(mask, sharp, blurred), np.where(mask, blurred, sharp)
