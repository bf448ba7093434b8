"""Several folders of pairs to train on, each with its share of the samples."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from fusionlib.datasets import Pair


@dataclass(frozen=True)
class SourceConfig:
    """A part of the training data: pairs of a folder, and how many of the samples are of it.

    Attributes
    ----------
    folder : str
        "" for the place where :mod:`fusionlib.places` finds the data set.
    dataset, split : str
        As for :func:`fusionlib.datasets.open_pairs`.
    names : str
        Pattern of the names to take, such as ``roadscene_*``.
    share : float
        Of the samples of an epoch, beside the shares of the others.

    Raises
    ------
    ValueError
        One sentence: the field, what was expected, what came.
    """

    folder: str = ""
    dataset: str = ""
    split: str = ""
    names: str = "*"
    share: float = 1.0

    def __post_init__(self):
        for name in ("folder", "dataset", "split", "names"):
            if type(value := getattr(self, name)) is not str:
                raise ValueError(f"data.sources: {name}: expected a text, got {value!r}")
        if type(self.share) not in (int, float) or not 0 < self.share < np.inf:
            raise ValueError(f"data.sources: share: expected a number above 0, got {self.share!r}")
        if not self.folder and not self.dataset:
            raise ValueError("data.sources: expected a folder or a dataset, got neither")


def as_sources(value: Any) -> tuple[SourceConfig, ...]:
    """Return sources from what a JSON file holds, a list of objects; ValueError for anything
    else.
    """
    known = [entry.name for entry in fields(SourceConfig)]
    if not isinstance(value, (list, tuple)):
        raise ValueError(f"data.sources: expected a list, got {value!r}")
    sources = []
    for entry in value:
        if isinstance(entry, SourceConfig):
            sources.append(entry)
        elif isinstance(entry, Mapping) and set(entry) <= set(known):
            sources.append(SourceConfig(**entry))
        else:
            raise ValueError(
                f"data.sources: expected objects with {', '.join(known)}, got {entry!r:.100}"
            )
    return tuple(sources)


class JoinedPairs(Sequence[Pair]):
    """The pairs of several sources one after the other, with the share of each.

    Parameters
    ----------
    parts : sequence of Pairs
    shares : sequence of float

    Attributes
    ----------
    names : list of str
    counts : list of int
        Pairs of each part.
    shares : list of float
        They add up to 1.
    """

    def __init__(self, parts: Sequence[Sequence[Pair]], shares: Sequence[float]):
        self.parts, self.counts = list(parts), [len(part) for part in parts]
        self.shares = [share / sum(shares) for share in shares]
        self.names = [name for part in parts for name in part.names]  # type: ignore[attr-defined]

    def __len__(self) -> int:
        return sum(self.counts)

    def __getitem__(self, number):
        if not 0 <= number < len(self):
            raise IndexError(number)
        for part in self.parts:
            if number < len(part):
                return part[number]
            number -= len(part)

    def __iter__(self) -> Iterator[Pair]:
        for part in self.parts:
            yield from part


def select(pairs, pattern: str):
    """Return the pairs whose names fit a pattern; ValueError where none does."""
    names = fnmatch.filter(pairs.names, pattern)
    if not names:
        raise ValueError(f"data.sources: names: expected some of {pairs.folder}, got {pattern!r}")
    return pairs.only(names)


def draw(
    counts: Sequence[int], shares: Sequence[float], samples: int, rng: np.random.Generator
) -> np.ndarray:
    """Return the numbers of the pairs of an epoch, ``samples`` of them in random order.

    Each source gives its share, rounded; its pairs come equally often, within one.

    Parameters
    ----------
    counts : sequence of int
        Pairs of each source.
    shares : sequence of float
        They add up to 1.
    """
    ends = np.rint(np.cumsum(shares) * samples).astype(int)
    starts = np.cumsum([0, *counts[:-1]])
    numbers = []
    for first, count, wanted in zip(starts, counts, np.diff(ends, prepend=0), strict=True):
        passes = [rng.permutation(count) for _ in range(-(-wanted // count))]
        numbers.append(first + np.concatenate([np.empty(0, int), *passes])[:wanted])
    return rng.permutation(np.concatenate(numbers))
