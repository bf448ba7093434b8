"""Ten synthetic triples (fused, a, b) for the metrics beyond the first thirteen, rebuilt from their
recipe in exact integer arithmetic.

``further_metrics.json`` beside this file holds their checksums and the values that several
evaluators give for them.
"""

from __future__ import annotations

import numpy as np

from fusionlib.experiments.evaluator_check import blurred_and_textured as sources
from fusionlib.experiments.evaluator_check import boxes, field, mean, noisy
from fusionlib.experiments.evaluator_check import levels as bytes_of
from fusionlib.experiments.evaluator_check import triples as built_in


def flat_parts() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Steps without noise, a half of b and a band of the fused image of one gray level."""
    rng = np.random.default_rng(104)
    a = bytes_of(field(rng, (96, 128), 32, 0, 255) // 64 * 64)
    b = bytes_of(boxes(rng, field(rng, (96, 128), 16, 40, 210), 5, 60, 4))
    b[:, 64:] = 128
    fused = mean(a, b)
    fused[:20] = 90
    return fused, a, b


def dark_copy() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A dark source, which is the fused image too, and a bright one."""
    rng = np.random.default_rng(107)
    a = bytes_of(noisy(rng, field(rng, (72, 88), 8, 2, 15), 2))
    b = bytes_of(boxes(rng, field(rng, (72, 88), 8, 60, 250), 5, 80, 4))
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
    made["n6_sharpened"] = built_in()["sharpened"]
    made["n7_dark_copy_a"] = dark_copy()
    a, b = sources(np.random.default_rng(108), (64, 80))
    b[10:40, 10:50] = 0
    made["n8_black_fused"] = np.zeros_like(a), a, b
    made["n9_large"] = built_in()["large"]
    return made
