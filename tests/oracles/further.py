"""Ten synthetic triples (fused, a, b) for the metrics beyond the first thirteen, rebuilt from their
recipe in exact integer arithmetic.

``further_metrics.json`` beside this file holds their checksums and the values that several
evaluators give for them.
"""

from __future__ import annotations

import numpy as np
from oracles.vectors import bytes_of, field, mean


def boxes(rng: np.random.Generator, image: np.ndarray, count: int, amplitude: int) -> np.ndarray:
    """The image with ``count`` rectangles lightened or darkened, each at least 4 pixels wide."""
    height, width = image.shape
    image = image.copy()
    for _ in range(count):
        top, left = rng.integers(0, height - 4), rng.integers(0, width - 4)
        rows, columns = rng.integers(4, height // 3), rng.integers(4, width // 3)
        image[top : top + rows, left : left + columns] += rng.integers(-amplitude, amplitude + 1)
    return image


def noisy(rng: np.random.Generator, image: np.ndarray, amplitude: int) -> np.ndarray:
    return image + rng.integers(-amplitude, amplitude + 1, size=image.shape)


def sources(
    rng: np.random.Generator, shape: tuple[int, int], low: int = 20, high: int = 235
) -> tuple[np.ndarray, np.ndarray]:
    """A blurry and a textured scene."""
    a = noisy(rng, boxes(rng, field(rng, shape, 24, low, high), 5, 100), 3)
    b = noisy(rng, boxes(rng, field(rng, shape, 6, low, high), 8, 60), 3)
    return bytes_of(a), bytes_of(b)


def flat_parts() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Steps without noise, a half of b and a band of the fused image of one gray level."""
    rng = np.random.default_rng(104)
    a = bytes_of(field(rng, (96, 128), 32, 0, 255) // 64 * 64)
    b = bytes_of(boxes(rng, field(rng, (96, 128), 16, 40, 210), 5, 60))
    b[:, 64:] = 128
    fused = mean(a, b)
    fused[:20] = 90
    return fused, a, b


def sharpened() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The mean of the sources with overshooting edges and noise of its own."""
    rng = np.random.default_rng(106)
    a, b = sources(rng, (71, 80))
    total = a.astype(np.int64) + b
    around = sum(np.roll(total, step, axis) for axis in (0, 1) for step in (1, -1)) // 4
    return bytes_of(noisy(rng, (3 * total - 2 * around) // 2, 4)), a, b


def dark_copy() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A dark source, which is the fused image too, and a bright one."""
    rng = np.random.default_rng(107)
    a = bytes_of(noisy(rng, field(rng, (72, 88), 8, 2, 15), 2))
    b = bytes_of(boxes(rng, field(rng, (72, 88), 8, 60, 250), 5, 80))
    return a.copy(), a, b


def triples() -> dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Return ``{name: (fused, a, b)}``."""
    made = {}
    a, b = sources(np.random.default_rng(101), (64, 80))
    made["n0_mean"] = mean(a, b), a, b
    a, b = sources(np.random.default_rng(102), (67, 83))
    made["n1_odd_max"] = np.maximum(a, b), a, b
    a, b = sources(np.random.default_rng(103), (72, 96), -120, 380)
    made["n2_saturated"] = bytes_of((3 * a.astype(np.int64) + 3 * b) // 4 - 60), a, b
    made["n3_flat_parts"] = flat_parts()
    a, _ = sources(np.random.default_rng(105), (64, 80))
    made["n4_all_equal"] = a, a.copy(), a.copy()
    level = np.full((64, 80), 100, np.uint8)
    made["n5_constant"] = level, level.copy(), level.copy()
    made["n6_sharpened"] = sharpened()
    made["n7_dark_copy_a"] = dark_copy()
    a, b = sources(np.random.default_rng(108), (64, 80))
    b[10:40, 10:50] = 0
    made["n8_black_fused"] = np.zeros_like(a), a, b
    a, b = sources(np.random.default_rng(109), (192, 208))
    made["n9_large"] = bytes_of((5 * a.astype(np.int64) + 3 * b) // 8), a, b
    return made
