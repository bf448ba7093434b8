"""Frames that are no independent samples: those of one camera, drive or stretch of video are drawn,
tested and counted as one, their group.

``groups`` is everywhere one label a value, or None where no group is known; each value is then
taken as independent, and :func:`sentence` says so.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

# With fewer of them no pattern of signs gives Wilcoxon's test a p below 5 %: 2 / 2^5 = 6 %.
FEWEST = 6
TOO_FEW = "too few groups for a verdict"
INDEPENDENT = "frames taken as independent"


class Rate(NamedTuple):
    """A share of wins in 0..1 with the ends of its 95 % interval."""

    value: float
    low: float
    high: float

    def turned(self) -> Rate:
        """Return the share of losses."""
        return Rate(1 - self.value, 1 - self.high, 1 - self.low)

    def __str__(self) -> str:
        if np.isnan(self.value):
            return "–"
        return f"{100 * self.value:.0f} % ({100 * self.low:.0f} to {100 * self.high:.0f})"


def known(labels: Mapping[str, str]) -> pd.Series | None:
    """Return the group of each image, None where none has any.

    An image without group among others that have one is a group of its own.

    Parameters
    ----------
    labels : mapping of str to str
        Image -> group, "" where it is not known, as :attr:`.Pairs.groups`.
    """
    if not any(labels.values()):
        return None
    return pd.Series({image: group or image for image, group in labels.items()}, dtype=object)


def of(frame: pd.DataFrame) -> pd.Series | None:
    """Return :func:`known` of a table of results.

    Parameters
    ----------
    frame : DataFrame
        Rows with ``image`` and ``group`` ("" or missing: not known); tables from before that column
        have none.
    """
    if "group" not in frame:
        return None
    return known(dict(zip(frame["image"], frame["group"].fillna("").astype(str), strict=True)))


def at(known: pd.Series | None, images: Iterable[str]) -> pd.Series | None:
    """Return the groups of these images, in their order; None where none is known."""
    return None if known is None else known.loc[list(images)]


def codes(groups: Sequence[Hashable] | None, count: int) -> np.ndarray:
    """Return the number of each value's group, 0, 1, ...; all different where ``groups`` is None.

    Raises
    ------
    ValueError
        Not one label for each of ``count`` values.
    """
    if groups is None:
        return np.arange(count)
    if len(groups) != count:
        raise ValueError(f"groups: expected one a value, {count}, got {len(groups)}")
    return pd.factorize(np.asarray(groups))[0]


def means(values: np.ndarray, groups: Sequence[Hashable] | None) -> np.ndarray:
    """Return the mean of each group of ``values``, (n,) without NaN."""
    numbers = codes(groups, len(values))
    return np.bincount(numbers, values) / np.bincount(numbers) if len(values) else values


def win_rate(differences: np.ndarray) -> Rate:
    """Return the share of positive ``differences``, a zero counting half, with Wilson's 95 %
    interval (Wilson 1927).

    Parameters
    ----------
    differences : (n,) array
        Independent ones: of groups where frames are none.
    """
    n = len(differences)
    if not n:
        return Rate(np.nan, np.nan, np.nan)
    share = float(np.mean((np.sign(differences) + 1) / 2))
    z = stats.norm.ppf(0.975)
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return Rate(share, float(max(centre - half, 0)), float(min(centre + half, 1)))


def expanded(level: float, count: int) -> float:
    """Return the level at which percentiles of a bootstrap over few groups hold ``level``
    (Hesterberg 2015, section 3.5): as wide as Student's interval, not as the normal one.

    Parameters
    ----------
    level : float
    count : int
        Of groups.
    """
    if count < 2:
        return 1.0
    quantile = stats.t.ppf((1 + level) / 2, count - 1) * np.sqrt(count / (count - 1))
    return float(2 * stats.norm.cdf(quantile) - 1)


def sentence(groups: pd.Series | Sequence[Hashable] | None, called: str = "group") -> str:
    """Say what is the sample: the groups, or the frames where none is known.

    Parameters
    ----------
    groups : sequence or None
        A label a frame.
    called : str
        What a group is, in the singular.
    """
    if groups is None:
        return f"{INDEPENDENT}: which of them belong together is not known"
    count = len(set(groups))
    enough = "" if count >= FEWEST else f"; {TOO_FEW}"
    return f"{len(groups)} frames in {count} groups, a group being a {called}{enough}"
