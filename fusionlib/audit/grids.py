"""Printed tables laid out as grids, and the few words that every check uses."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import pandas as pd

Answers = Iterator[tuple[str, str, str]]  # id, verdict, evidence
Claims = dict[str, dict[str, str]]  # id -> what the claim says, see published.claimed


def cells(
    rows: pd.DataFrame, tables: str | Iterable[str], row: str = "method", values: str = "value"
) -> pd.DataFrame:
    """Lay printed tables out as printed: index (dataset, ``row``), a column per metric.

    Parameters
    ----------
    rows : DataFrame
        Printed numbers, as :func:`fusionlib.published.table` returns them.
    tables : str or iterable of str
        Names of the printed tables.
    row, values : str
        Columns that give the lines and the cells.
    """
    part = rows[rows["table"].isin([tables] if isinstance(tables, str) else list(tables))]
    index = pd.MultiIndex.from_frame(part[["dataset", row]].drop_duplicates())
    return part.pivot(index=["dataset", row], columns="metric", values=values).reindex(index)[
        part["metric"].unique()
    ]


def entropy_deviation(entropy: pd.Series) -> pd.Series:
    """Least standard deviation, in gray levels, of an 8-bit image with that entropy in bits.

    H <= log2(2 pi e (sigma^2 + 1/12)) / 2, the maximum-entropy bound for whole numbers. It is
    convex in H, so the mean entropy of a set bounds the mean deviation of the set.
    """
    return np.sqrt(np.maximum(2.0 ** (2 * entropy) / (2 * np.pi * np.e) - 1 / 12, 0))


def spread(rows: pd.DataFrame, claims: Claims) -> Answers:
    """Both papers: is any result printed more than once, so that a spread could be taken?"""
    results = rows[rows["n_images"].notna() & ~rows["metric"].isin(["w1", "w2", "seconds"])]
    repeats = int(results.duplicated(["table", "dataset", "method", "variant", "metric"]).sum())
    for id_ in claims:
        yield (
            id_,
            yes(repeats > 0),
            (
                f"{len(results)} results; {results['seed'].notna().sum()} name a seed, {repeats}"
                " repeat another: no deviation and no test can be taken from one number per cell."
            ),
        )


def of(count: int, total: int) -> str:
    """Verdict on a claim about all: true, false where none holds, else partly."""
    return "true" if count == total else "partly" if count else "false"


def yes(condition: bool) -> str:
    """Verdict on a claim that holds or not."""
    return "true" if condition else "false"


def span(values: Iterable[float], digits: int = 2, unit: str = "") -> str:
    """Smallest to largest in words.

    Parameters
    ----------
    values : iterable of float
    digits : int
        After the point.
    unit : str
        Written behind the numbers.
    """
    low, high = f"{min(values):.{digits}f}", f"{max(values):.{digits}f}"
    return f"{low}{unit}" if low == high else f"{low} to {high}{unit}"


def listed(named: pd.Series, form: str) -> str:
    """``name value`` of each entry, joined by commas; "none" where empty."""
    return ", ".join(f"{spoken(key)} {value:{form}}" for key, value in named.items()) or "none"


def spoken(key: object) -> str:
    """Name of an index entry: "leopard LP+BA" for a pair."""
    return " ".join(key) if isinstance(key, tuple) else str(key)
