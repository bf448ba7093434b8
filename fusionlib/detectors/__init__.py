"""Detectors: the auxiliary Faster R-CNN of either modality, and what detections are worth."""

from .evaluation import (
    Boxes,
    Precision,
    average_precision,
    bootstrap,
    detect,
    percentiles,
    resampled,
)
from .faster_rcnn import Detectors, download_imagenet, imagenet_path, load_imagenet, to_frame

__all__ = [
    "Boxes",
    "Detectors",
    "Precision",
    "average_precision",
    "bootstrap",
    "detect",
    "download_imagenet",
    "imagenet_path",
    "load_imagenet",
    "percentiles",
    "resampled",
    "to_frame",
]
