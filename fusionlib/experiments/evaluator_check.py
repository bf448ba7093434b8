"""Does this copy give the values of the original evaluators: three built-in pairs, every metric and
convention, beside what the original code said.

``fusionlib/metrics/evaluators.csv`` holds, for each, our value and that of the original where it
was run on these images. The images are drawn in whole numbers, hence alike on every machine.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from fusionlib import metrics

STORED = Path(metrics.__file__).parent / "evaluators.csv"
# ASSUMPTION: sums of another order differ by 1e-12; a metric of another definition by far more.
TOLERANCE = 1e-8


def check() -> pd.DataFrame:
    """Return the stored table with the values computed here.

    Returns
    -------
    DataFrame
        pair, metric, convention, value (stored), original (NaN where the original was not run),
        evaluator, computed, and same: whether computed is value, to 1e-8 of it, or both are
        undefined.
    """
    table = pd.read_csv(STORED)
    computed = scores(table["pair"].unique())
    table = table.merge(computed, on=["pair", "metric", "convention"], how="left")
    table["same"] = np.isclose(
        table["computed"], table["value"], rtol=TOLERANCE, atol=TOLERANCE, equal_nan=True
    )
    return table


def scores(pairs: Iterable[str]) -> pd.DataFrame:
    """Return pair, metric, convention, computed of the built-in ``pairs``."""
    made = triples()
    rows = [
        (pair, name, convention, value)
        for pair in pairs
        for convention in metrics.CONVENTIONS
        for name, value in metrics.evaluate(*made[pair], "all", convention).items()
    ]
    return pd.DataFrame(rows, columns=["pair", "metric", "convention", "computed"])


# ---- the images ----------------------------------------------------------------------------------


def triples() -> dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Return ``{name: (fused, a, b)}``: two small pairs, one large enough for MS-SSIM."""
    rng = np.random.default_rng(0)
    scenes = [boxes(rng, field(rng, (64, 80), cell, 30, 220), 6, 90, 3) for cell in (16, 8)]
    a, b = (levels(noisy(rng, scene, 4)) for scene in scenes)
    made = {"small": (mean(a, b), a, b)}
    rng = np.random.default_rng(106)
    a, b = blurred_and_textured(rng, (71, 80))
    total = a.astype(np.int64) + b
    around = sum(np.roll(total, step, axis) for axis in (0, 1) for step in (1, -1)) // 4
    made["sharpened"] = (levels(noisy(rng, (3 * total - 2 * around) // 2, 4)), a, b)
    a, b = blurred_and_textured(np.random.default_rng(109), (192, 208))
    made["large"] = (levels((5 * a.astype(np.int64) + 3 * b) // 8), a, b)
    return made


def blurred_and_textured(
    rng: np.random.Generator, shape: tuple[int, int], low: int = 20, high: int = 235
) -> tuple[np.ndarray, np.ndarray]:
    """Return a blurred and a textured scene of one size, uint8."""
    a = noisy(rng, boxes(rng, field(rng, shape, 24, low, high), 5, 100, 4), 3)
    b = noisy(rng, boxes(rng, field(rng, shape, 6, low, high), 8, 60, 4), 3)
    return levels(a), levels(b)


def field(
    rng: np.random.Generator, shape: tuple[int, int], cell: int, low: int, high: int
) -> np.ndarray:
    """Return a lattice of random levels every ``cell`` pixels, bilinear between, rounded down."""
    size = (shape[0] // cell + 2, shape[1] // cell + 2)
    lattice = rng.integers(low, high + 1, size=size).astype(np.int64)
    (row, down), (column, right) = (np.divmod(np.arange(n), cell) for n in shape)
    left = cell - right
    upper = lattice[row][:, column] * left + lattice[row][:, column + 1] * right
    lower = lattice[row + 1][:, column] * left + lattice[row + 1][:, column + 1] * right
    return (upper * (cell - down)[:, None] + lower * down[:, None]) // cell**2


def boxes(
    rng: np.random.Generator, image: np.ndarray, count: int, amplitude: int, least: int
) -> np.ndarray:
    """Return the image with rectangles lightened or darkened, at least ``least`` pixels a side."""
    height, width = image.shape
    image = image.copy()
    for _ in range(count):
        top, left = rng.integers(0, height - 4), rng.integers(0, width - 4)
        rows, columns = rng.integers(least, height // 3), rng.integers(least, width // 3)
        image[top : top + rows, left : left + columns] += rng.integers(-amplitude, amplitude + 1)
    return image


def noisy(rng: np.random.Generator, image: np.ndarray, amplitude: int) -> np.ndarray:
    """Return the image plus whole numbers of -amplitude to amplitude."""
    return image + rng.integers(-amplitude, amplitude + 1, size=image.shape)


def levels(image: np.ndarray) -> np.ndarray:
    """Return the image cut to 0..255, uint8."""
    return np.clip(image, 0, 255).astype(np.uint8)


def mean(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the mean of two images, rounded down."""
    return ((a.astype(np.int64) + b) // 2).astype(np.uint8)
