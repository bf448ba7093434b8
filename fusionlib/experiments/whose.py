"""Whose evaluator made these numbers: conventions left out one by one, each for a reason.

::

    frame = whose.possible({"EN": "6.8", "SD": "9.6", "SF": "0.045", "VIF": "0.87"})
    print(frame.to_string(), whose.sentence(frame))

With the images every convention is computed and must meet each printed digit. Without them a
convention is left out where it lacks a metric or where a number lies outside :data:`RANGES`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd

from fusionlib import images, metrics
from fusionlib.published import decimals, half_unit

EVERY = tuple(metrics.CONVENTIONS)


class Range(NamedTuple):
    """Where the values of a metric lie in some conventions, and why."""

    conventions: tuple[str, ...]
    low: float
    high: float
    why: str


def _others(*conventions: str) -> tuple[str, ...]:
    return tuple(convention for convention in EVERY if convention not in conventions)


# Bounds follow from the definitions. ASSUMPTION: where two scales would overlap in theory only, the
# limit lies where ordinary images of each are far from it: SF and MSE of 1, RMSE of 2, PSNR of 53
# dB, a mean SSIM of 0.95 over two sources that differ.
RANGES = {
    "EN": [Range(EVERY, 0, 8, "256 levels have 8 bits")],
    "SF": [
        Range(("moe-fusion",), 0, 1, "gray levels on [0, 1]"),
        Range(_others("moe-fusion"), 1, 361, "gray levels 0..255"),
    ],
    "SD": [
        Range(("moe-fusion",), 0, 15.97, "8-bit squares stop at 255, whose root is 15.97"),
        Range(_others("moe-fusion"), 0, 127.5, "half of 0..255 at most"),
    ],
    "MI": [
        Range(_others("cddfuse", "vifb"), 0, 16, "twice 8 bits"),
        Range(("cddfuse", "vifb"), 0, 11.1, "twice 8 bits, in nats"),
    ],
    "SCD": [Range(EVERY, -2, 2, "a sum of two correlations")],
    "Qabf": [
        Range(_others("multi-focus"), 0, 0.9754, "the constants of Xydeas and Petrovic 2000"),
        Range(("multi-focus",), 0, 1, "Petrovic's later constants"),
    ],
    "CC": [Range(EVERY, -1, 1, "a correlation")],
    "MSE": [
        Range(("moe-fusion",), 0, 1, "gray levels on [0, 1]"),
        Range(_others("moe-fusion"), 1, 65025, "gray levels 0..255"),
    ],
    "RMSE": [
        Range(("vifb",), 0, 2, "the root of the summed squares divided by the pixels"),
        Range(_others("vifb"), 2, 255, "gray levels 0..255"),
    ],
    "PSNR": [
        Range(("moe-fusion",), 53, 110, "48.13 dB above the true one"),
        Range(("vifb",), 45, 75, "from the root of the summed squares"),
        Range(_others("moe-fusion", "vifb"), 3, 53, "from the mean square on 0..255"),
    ],
    "SSIM": [
        Range(("standard",), -1, 0.95, "a mean over two sources that differ"),
        Range(("cddfuse", "vifb"), -2, 2, "a sum over both sources"),
        Range(("multi-focus",), -1, 1, "of one reference"),
    ],
    "EI": [Range(EVERY, 0, 1140.4, "the steepest edge of 0..255")],
    "Qcb": [Range(EVERY, 0, 1, "a weighted mean of ratios below 1")],
    "Qcv": [Range(EVERY, 0, 65025, "a squared difference on 0..255")],
    "Qncie": [Range(EVERY, 0.80187, 1, "from 1 - log_256 3 on")],
    "Nabf": [Range(EVERY, 0, 1, "a share of the edge strength")],
    **{
        f"FMI-{feature}": [Range(EVERY, -1, 1, "normalised information")]
        for feature in ("pixel", "edge", "dct", "wavelet")
    },
}


def possible(
    printed: Mapping[str, str], triple: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None
) -> pd.DataFrame:
    """Return which conventions can have produced printed numbers.

    Parameters
    ----------
    printed : mapping of metric to number
        As characters, for they say to how many decimals a number must agree.
    triple : (fused, a, b), optional
        The one image that the numbers are of and its sources, (H, W) or (H, W, 3) uint8; colour is
        scored on Y, in ``vifb`` channel by channel.

    Returns
    -------
    DataFrame with convention, possible (bool) and reason
        The first reason that leaves a convention out, or what speaks for it.

    Raises
    ------
    ValueError
        No number, a metric that no convention has, or no number after a name: one sentence.
    """
    numbers = {name: _number(name, text) for name, text in printed.items()}
    if not numbers:
        raise ValueError("numbers: expected at least one NAME=NUMBER, such as SD=9.6, got none")
    rows = []
    for convention in EVERY:
        against = _lacking(numbers, convention)
        if against is None:
            against = (
                _outside(numbers, convention)
                if triple is None
                else _missed(printed, convention, triple)
            )
        for_it = "all can be" if triple is None else "met to each printed digit"
        rows.append((convention, against is None, against or f"{', '.join(numbers)}: {for_it}"))
    return pd.DataFrame(rows, columns=["convention", "possible", "reason"])


def sentence(frame: pd.DataFrame) -> str:
    """Return the answer of :func:`possible` in words: one convention, several, or none."""
    left = list(frame.loc[frame["possible"], "convention"])
    if len(left) == 1:
        return f"{left[0]}: every other convention is left out for the reason beside it"
    if left:
        return f"undecided: {', '.join(left)} agree in all that was given"
    return "no convention of this suite: each is left out for the reason beside it"


def _number(name: str, text: str) -> float:
    if name not in metrics.NAMES:
        raise ValueError(f"metric: expected one of {', '.join(metrics.NAMES)}, got {name!r}")
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{name}: expected a number as printed, got {text!r}") from None


def _lacking(numbers: Mapping[str, float], convention: str) -> str | None:
    served = metrics.serving(convention, "sources", "all")
    lacking = [name for name in numbers if name not in served]
    return f"has no {', '.join(lacking)} of two sources" if lacking else None


def _outside(numbers: Mapping[str, float], convention: str) -> str | None:
    for name, value in numbers.items():
        for conventions, low, high, why in RANGES.get(name, ()):
            if convention in conventions and not low <= value <= high:
                return f"{name} {value:g}: lies from {low:g} to {high:g} there, {why}"
    return None


def _missed(
    printed: Mapping[str, str], convention: str, triple: tuple[np.ndarray, np.ndarray, np.ndarray]
) -> str | None:
    if convention not in metrics.IN_COLOUR:
        fused, a, b = (images.luma(image) for image in triple)
    else:
        fused, a, b = triple
    values = metrics.evaluate(fused, a, b, list(printed), convention)
    missed = [
        f"{name} {printed[name]} is {value:.{decimals(printed[name])}f}"
        for name, value in values.items()
        if not abs(round(value, decimals(printed[name])) - float(printed[name]))
        < half_unit(printed[name])
    ]
    return f"{len(missed)} of {len(printed)} not met: {', '.join(missed)}" if missed else None
