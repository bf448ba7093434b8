"""A value that has no meaning, and why: what a metric returns instead of a crash, a warning or a
silent 1.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


class Undefined(float):
    """A NaN that knows its reason: a ``float`` to everybody, with the sentence in ``reason``."""

    reason: str

    def __new__(cls, reason: str) -> Undefined:
        value = super().__new__(cls, "nan")
        value.reason = reason
        return value

    def __reduce__(self):
        # float's own pickling would lose the reason on the way from a worker
        return Undefined, (self.reason,)


def source_names(sources: Sequence) -> list[str]:
    """Return what a reason calls the images that a fused image is compared with: a and b, or the
    reference.
    """
    return (
        ["the reference"]
        if len(sources) == 1
        else [f"source {letter}" for letter in "abcdefgh"[: len(sources)]]
    )


def constant(fused: np.ndarray, *sources: np.ndarray, black: str = "undefined") -> Undefined | None:
    """Return why a metric that spreads each image to 0..255 is undefined: one of them is constant.

    Parameters
    ----------
    fused, *sources : (H, W), one size
    black : "undefined" or "counted"
        Whether an image of zeros has no meaning either, or stays as it is.
    """
    choice("black", black, ("undefined", "counted"))
    names = ["the fused image", *source_names(sources)]
    for image, name in zip((fused, *sources), names, strict=True):
        high = image.max()
        if image.min() == high and not (black == "counted" and high == 0):
            return Undefined(f"{name} is constant, so spreading it to 0..255 is 0 / 0")
    return None


def combine(values: Sequence[float], how: str = "sum") -> float:
    """Return the sum or the mean over the sources; one undefined part makes the whole undefined,
    for its reason.

    Raises
    ------
    ValueError
        ``how`` is neither "sum" nor "mean".
    """
    if how not in ("sum", "mean"):
        raise ValueError(f"combine: expected 'sum' or 'mean' over the sources, got {how!r}")
    for value in values:
        if isinstance(value, Undefined):
            return value
    return sum(values) if how == "sum" else sum(values) / len(values)


def choice(name: str, value: object, allowed: Sequence[str]) -> None:
    """Raise ValueError unless ``value`` is one of the ``allowed`` words for the option ``name``.

    Parameters
    ----------
    name : str
        Of the option.
    value : object
    allowed : sequence of str
    """
    if value not in allowed:
        raise ValueError(f"{name}: expected {' or '.join(map(repr, allowed))}, got {value!r}")
