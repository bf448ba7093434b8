"""What a metric needs in memory: measured, with a margin; a test compares it."""

from __future__ import annotations

from collections.abc import Iterable

# bytes a pixel beside the images; most metrics go in strips of rows and stay far below
NEEDS = {
    "Qcv": 92,  # spectra of the whole image, as Qcb
    "Qcb": 85,
    "FMI-edge": 84,
    "MEF-SSIM": 50,
}
OTHERS = 42  # FMI-wavelet, MS-SSIM; and reading colour
IMAGES = 16  # up to four coloured ones and their lumas


def needs(names: Iterable[str]) -> tuple[float, str]:
    """Return the bytes a pixel that scoring an image takes, all included, and the metric that takes
    most.
    """
    largest = max(names, key=lambda name: NEEDS.get(name, OTHERS))
    return IMAGES + NEEDS.get(largest, OTHERS), largest
