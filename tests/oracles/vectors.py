"""Seven synthetic triplets (A, B, fused), 8-bit gray, rebuilt from their recipe in exact integer
arithmetic.

``metrics_vectors.json`` beside this file holds their checksums and the values that several
evaluators give for them.
"""

from __future__ import annotations

import numpy as np


def field(
    rng: np.random.Generator, shape: tuple[int, int], cell: int, low: int, high: int
) -> np.ndarray:
    """A lattice of random gray levels every ``cell`` pixels, bilinear between them, rounded
    down.
    """
    lattice = rng.integers(low, high + 1, size=(shape[0] // cell + 2, shape[1] // cell + 2)).astype(
        np.int64
    )
    (row, down), (column, right) = (np.divmod(np.arange(n), cell) for n in shape)
    right, left = right[None, :], cell - right[None, :]
    upper = lattice[row][:, column] * left + lattice[row][:, column + 1] * right
    lower = lattice[row + 1][:, column] * left + lattice[row + 1][:, column + 1] * right
    return (upper * (cell - down)[:, None] + lower * down[:, None]) // cell**2


def boxes(rng: np.random.Generator, image: np.ndarray, count: int, amplitude: int) -> np.ndarray:
    """The image with ``count`` rectangles lightened or darkened."""
    height, width = image.shape
    image = image.copy()
    for _ in range(count):
        top, left = rng.integers(0, height - 4), rng.integers(0, width - 4)
        rows, columns = rng.integers(3, max(4, height // 3)), rng.integers(3, max(4, width // 3))
        image[top : top + rows, left : left + columns] += rng.integers(-amplitude, amplitude + 1)
    return image


def bytes_of(image: np.ndarray) -> np.ndarray:
    return np.clip(image, 0, 255).astype(np.uint8)


def pair(
    seed: int,
    shape: tuple[int, int],
    cells: tuple[int, int],
    noise: int,
    low: int = 30,
    high: int = 220,
) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    images = [boxes(rng, field(rng, shape, cell, low, high), 6, 90) for cell in cells]
    a, b = (bytes_of(image + rng.integers(-noise, noise + 1, size=shape)) for image in images)
    return a, b


def mean(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return ((a.astype(np.int64) + b) // 2).astype(np.uint8)


def triplets() -> dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Return ``{name: (a, b, fused)}``."""
    made = {}
    a, b = pair(0, (64, 80), (16, 8), 4)
    made["v0_small"] = a, b, mean(a, b)
    a, b = pair(1, (97, 131), (16, 12), 6)
    made["v1_odd_max"] = a, b, np.maximum(a, b)
    a, b = pair(2, (256, 256), (32, 16), 10, 0, 255)
    made["v2_large_sat"] = (
        a,
        b,
        bytes_of(3 * (5 * a.astype(np.int64) + 3 * b.astype(np.int64)) // 16 - 40),
    )
    rng = np.random.default_rng(3)
    a = bytes_of(field(rng, (96, 120), 24, 0, 255) // 64 * 64)
    b = bytes_of(boxes(rng, field(rng, (96, 120), 24, 40, 200), 4, 60))
    b[:, 60:] = 128
    made["v3_flat_regions"] = a, b, mean(a, b)
    a, _ = pair(4, (80, 96), (16, 16), 8)
    made["v4_identical"] = a, a.copy(), a.copy()
    made["v5_constant"] = tuple(np.full((64, 64), 100, np.uint8) for _ in range(3))
    rng = np.random.default_rng(6)
    a = field(rng, (72, 88), 8, 0, 15)
    a = bytes_of(a + rng.integers(0, 3, size=a.shape))
    b = bytes_of(boxes(rng, field(rng, (72, 88), 8, 60, 250), 5, 80))
    made["v6_dark_copyA"] = a, b, a.copy()
    return made
