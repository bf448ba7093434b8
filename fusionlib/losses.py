"""The fusion loss of MoE-Fusion in both readings: pixels, gradients, balance of the experts.

Sources: equation (5) of Cao et al., ICCV 2023, here "Cao", whose terms stand in a supplement that
is not available; the importance and load losses of Shazeer et al., ICLR 2017, here "Shazeer"; the
official code of Cao et al. for ``reading="official"``. Images are (B, 1, H, W) float in [0, 1], the
visible one its Y.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
import torch.distributed as distributed
import torch.nn.functional as F
from torch import Tensor

ALPHA = 10.0  # of equation (5), section 4.1
# ASSUMPTION: equation (5) prints no weight before the load loss, which would then outweigh the
# image terms; the weights of the official code are used, one for each gate.
GATE_WEIGHTS = {"foreground": 0.01, "background": 0.01, "global": 0.02}
READINGS = ("paper", "official")
GRADIENTS = ("magnitude", "signed")


class FusionLoss(NamedTuple):
    """The terms of equation (5), with the gates' weights but without alpha, what is ours beside
    them, and the total.
    """

    total: Tensor
    pixel: Tensor
    gradient: Tensor
    load: Tensor
    importance: Tensor
    range: Tensor


def pixel_loss(
    fused: Tensor,
    infrared: Tensor,
    visible: Tensor,
    boxes: Sequence[Tensor] | None = None,
    reading: str = "paper",
) -> Tensor:
    """Return the distance of the fused pixels to those of the sources.

    Parameters
    ----------
    fused, infrared, visible : (B, 1, H, W)
    boxes : sequence of (n, 4), optional
        Objects of each image as x0, y0, x1, y1 in pixels, for the official reading; None means no
        objects.
    reading : "paper" or "official"

    Raises
    ------
    ValueError
        Sizes differ, an unknown reading, or another number of box lists than images.
    """
    _check(fused, infrared, visible, reading)
    brighter = torch.maximum(infrared, visible)
    if reading == "paper":
        # Cao (5), L_pixel.
        # ASSUMPTION: L_pixel, whose formula stands in the supplement, is taken as mean |F - max(I,
        # V)|, "more significant pixel intensities originating from the target images".
        return (fused - brighter).abs().mean()
    in_box = box_mask(boxes, fused)
    # The official code: |F - max(V, I)| inside the boxes and |F - (V + I) / 2| outside, either over
    # all pixels.
    return (fused - torch.where(in_box, brighter, (infrared + visible) / 2)).abs().mean()


def box_mask(boxes: Sequence[Tensor] | None, images: Tensor) -> Tensor:
    """Return the mask of boxes, (B, 1, H, W) bool, corners cut to whole pixels as officially.

    Parameters
    ----------
    boxes : sequence of (n, 4), optional
        Of each image, x0, y0, x1, y1 in pixels; None means no objects.
    images : (B, 1, H, W)
        Give size and device.

    Raises
    ------
    ValueError
        Another number of box lists than images.
    """
    height, width = images.shape[-2:]
    mask = torch.zeros_like(images, dtype=torch.bool)
    if boxes is None:
        return mask
    if len(boxes) != len(images):
        raise ValueError(f"boxes: expected one list per image, {len(images)}, got {len(boxes)}")
    for number, corners in enumerate(boxes):
        pixels = torch.as_tensor(corners).reshape(-1, 4).clamp_min(0).long()
        for x0, y0, x1, y1 in pixels.tolist():
            mask[number, :, min(y0, height) : y1, min(x0, width) : x1] = True
    return mask


def gradient_loss(
    fused: Tensor,
    infrared: Tensor,
    visible: Tensor,
    reading: str = "paper",
    gradient: str = "magnitude",
) -> Tensor:
    """Return the distance of the fused gradients to the steeper ones of the sources, without alpha.

    Parameters
    ----------
    fused, infrared, visible : (B, 1, H, W)
    reading : "paper" or "official"
        See :func:`directional_sobel`; raises as :func:`pixel_loss`.
    gradient : "magnitude" or "signed"
        The paper's mean ``||grad F| - max(|grad I|, |grad V|)|``; or ours: in either direction the
        distance to the gradient of the source that is steeper there, with its sign.
    """
    _check(fused, infrared, visible, reading)
    if gradient not in GRADIENTS:
        raise ValueError(f"gradient: expected one of {GRADIENTS}, got {gradient!r}")
    if gradient == "magnitude":
        steeper = torch.maximum(sobel(infrared, reading), sobel(visible, reading))
        # Cao (5), L_grad, "more texture details from different modalities".
        return (sobel(fused, reading) - steeper).abs().mean()
    # Ours, not the paper's: a magnitude is the same for a negative, and its slope is the same for
    # glare as for shade; a gradient with its sign is not.
    distance = torch.zeros_like(fused)
    both = [directional_sobel(x, reading) for x in (fused, infrared, visible)]
    for f, i, v in zip(*both, strict=True):
        distance = distance + (f - torch.where(i.abs() > v.abs(), i, v)).abs()
    return distance.mean()


def range_loss(fused: Tensor) -> Tensor:
    """Return the mean of what lies outside [0, 1], of images of any shape.

    Ours, not the paper's: nothing in equation (5) keeps the fused image where a file can hold it,
    and what is cut off afterwards is lost.
    """
    return (fused - fused.clamp(0, 1)).abs().mean()


def sobel(image: Tensor, reading: str = "paper") -> Tensor:
    """Return ``|Sobel_x| + |Sobel_y|`` of (B, 1, H, W), as :func:`directional_sobel` gives them."""
    horizontal, vertical = directional_sobel(image, reading)
    return horizontal.abs() + vertical.abs()


def directional_sobel(image: Tensor, reading: str = "paper") -> tuple[Tensor, Tensor]:
    """Return Sobel_x and Sobel_y of (B, 1, H, W).

    ASSUMPTION: the paper does not say which gradient L_grad takes nor what happens at the border;
    it is the Sobel operator of the official code, with the border mirrored in the paper's reading,
    since zeros outside the image, as in the code, are an edge that no scene has.
    """
    p = F.pad(image.float(), (1, 1, 1, 1), mode="reflect" if reading == "paper" else "constant")
    rows = p[:, :, :-2] + 2 * p[:, :, 1:-1] + p[:, :, 2:]
    columns = p[..., :-2] + 2 * p[..., 1:-1] + p[..., 2:]
    return rows[..., 2:] - rows[..., :-2], columns[:, :, 2:] - columns[:, :, :-2]


def load_loss(loads: Mapping[str, Tensor], weights: Mapping[str, float] = GATE_WEIGHTS) -> Tensor:
    """Return the weighted imbalance of the gates' loads; zero if a gate's experts have the same.

    Parameters
    ----------
    loads : mapping of gate name to (N,)
        Samples each expert receives, over the batch of this process; processes are added up.
    weights : mapping of gate name to float

    Raises
    ------
    ValueError
        A gate without weight, or no gate at all.
    """
    # Shazeer (11): L_load(X) = w_load CV(Load(X))^2.
    return _imbalance(loads, weights)


def importance_loss(
    importances: Mapping[str, Tensor], weights: Mapping[str, float] = GATE_WEIGHTS
) -> Tensor:
    """Return the weighted imbalance of the gates' importances; arguments as :func:`load_loss`."""
    # Shazeer (7): L_importance(X) = w_importance CV(Importance(X))^2.
    return _imbalance(importances, weights)


def _imbalance(amounts: Mapping[str, Tensor], weights: Mapping[str, float]) -> Tensor:
    unknown = sorted(set(amounts) - set(weights))
    if unknown or not amounts:
        raise ValueError(f"loads: expected gates out of {sorted(weights)}, got {unknown or 'none'}")
    total = torch.zeros(())
    for name, amount in amounts.items():
        total = total + weights[name] * squared_variation(over_processes(amount))
    return total


def squared_variation(amounts: Tensor) -> Tensor:
    """Return CV^2 = variance / mean^2 of (N,), the variance with N - 1 as in the official code."""
    return amounts.var() / (amounts.mean().square() + 1e-10)


def over_processes(amounts: Tensor) -> Tensor:
    """Return the sum over the processes of a distributed run, with gradients.

    ASSUMPTION: the paper's batch of four is taken as four in all, so the load of a step is counted
    over all processes.
    """
    if not (distributed.is_available() and distributed.is_initialized()):
        return amounts
    from torch.distributed.nn.functional import all_reduce

    return all_reduce(amounts)


def fusion_loss(
    fused: Tensor,
    infrared: Tensor,
    visible: Tensor,
    loads: Mapping[str, Tensor] | None = None,
    importances: Mapping[str, Tensor] | None = None,
    boxes: Sequence[Tensor] | None = None,
    *,
    reading: str = "paper",
    alpha: float = ALPHA,
    weights: Mapping[str, float] = GATE_WEIGHTS,
    pixel_reading: str | None = None,
    balance_importance: bool | None = None,
    gradient: str = "magnitude",
    range_weight: float = 0.0,
) -> FusionLoss:
    """Return L_fusion and its terms.

    Parameters
    ----------
    fused, infrared, visible : (B, 1, H, W)
    loads, importances : mapping of gate name to (N,), optional
        What the network returned; None or empty for a network without gates.
    boxes : sequence of (n, 4), optional
        For the official pixel loss, see :func:`pixel_loss`.
    reading : "paper" or "official"
    alpha : float
        Weight of the gradients.
    weights : mapping of gate name to float
        Weights of the balance terms.
    pixel_reading : "paper" or "official", optional
        Reading of the pixel loss alone, where it is to differ from ``reading``.
    balance_importance : bool, optional
        Add the importance term to the total, of which the paper says nothing; by default the
        official reading does.
    gradient : "magnitude" or "signed"
        See :func:`gradient_loss`.
    range_weight : float
        Weight of :func:`range_loss`, of which the paper has none.

    Raises
    ------
    ValueError
        As the terms do.
    """
    pixel = pixel_loss(fused, infrared, visible, boxes, pixel_reading or reading)
    steepness = gradient_loss(fused, infrared, visible, reading, gradient)
    load = load_loss(loads, weights) if loads else fused.new_zeros(())
    importance = importance_loss(importances, weights) if importances else fused.new_zeros(())
    # Cao (5): L_fusion = L_pixel + alpha L_grad + L_load.
    total = pixel + alpha * steepness + load
    if balance_importance is None:
        balance_importance = reading == "official"
    if balance_importance:
        total = total + importance
    outside = range_loss(fused)
    if range_weight:
        total = total + range_weight * outside
    return FusionLoss(total, pixel, steepness, load, importance, outside)


def _check(fused: Tensor, infrared: Tensor, visible: Tensor, reading: str) -> None:
    if reading not in READINGS:
        raise ValueError(f"reading: expected one of {READINGS}, got {reading!r}")
    for name, image in (("fused", fused), ("infrared", infrared), ("visible", visible)):
        if image.ndim != 4 or image.shape[1] != 1 or image.shape != fused.shape:
            hint = "; of a colour image use Y" if image.ndim == 4 and image.shape[1] == 3 else ""
            raise ValueError(
                f"{name}: expected one shape (B, 1, H, W) for all images, got"
                f" {tuple(image.shape)}{hint}"
            )
