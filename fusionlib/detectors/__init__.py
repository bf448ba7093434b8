"""Detectors of both modalities with attention maps, and detection metrics."""

from .evaluation import (
    Boxes,
    Precision,
    average_precision,
    bootstrap,
    detect,
    objects_detected,
    percentiles,
    resampled,
)
from .faster_rcnn import Detectors, download_imagenet, imagenet_path, load_imagenet, to_frame
from .protocol import Detector

# By the name in a configuration.
KINDS: dict[str, type[Detectors]] = {"faster-rcnn": Detectors}

__all__ = [
    "KINDS",
    "Boxes",
    "Detector",
    "Detectors",
    "Precision",
    "average_precision",
    "bootstrap",
    "detect",
    "download_imagenet",
    "imagenet_path",
    "load_imagenet",
    "objects_detected",
    "percentiles",
    "resampled",
    "to_frame",
]
