"""A leaderboard of one's own: methods ranked by their scores, and their images to compare.

It reads tables of ``fusionlib score --csv`` and folders of images; it scores nothing itself.
Methods are ranked on the images that all of them have, and what was left out is said.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from fusionlib import images, ranking, runs
from fusionlib.report import template
from fusionlib.report.layout import BEST
from fusionlib.report.shelf import Shelf, comparable, shown_folder

EMBEDDED = 7_000_000  # bytes of images inside the page; further ones are linked
SHOWN = 8  # images that the comparer shows
COLUMNS = ("image", "metric", "convention", "against", "value")  # of score, as far as needed


class Entry(NamedTuple):
    """A method handed in: its name, a table of scores or a folder to score, and images to show."""

    name: str
    scores: Path | None
    folder: Path | None


def is_run(folder: Path) -> bool:
    """Tell whether a folder is that of a profile's runs, not of fused images or scores."""
    planned = (folder / "nodes.json").is_file() or any(folder.glob("*/results.csv"))
    return planned or not any(_entries(folder))


def entries(paths: Iterable[Path]) -> list[Entry]:
    """Return the methods in tables of scores, folders of images and folders of either.

    Parameters
    ----------
    paths : iterable of path
        A table is shown with the images of the folder of its name beside it. A folder of images,
        or one with ``gray`` in it, is a method; any other stands for the tables in it, or else for
        its folders of images.

    Raises
    ------
    FileNotFoundError, ValueError
        Nothing is there, no method in it, or two of one name.
    """
    listed: list[Entry] = []
    for path in paths:
        if not path.exists():
            raise FileNotFoundError(
                f"{path}: expected a folder of fused images or a table of scores, found nothing"
                " there"
            )
        entries = _entries(path)
        if not entries:
            raise ValueError(f"{path}: expected fused images or tables of scores, found neither")
        listed += entries
    names = [entry.name for entry in listed]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"expected one method of each name, got two of {', '.join(sorted(twice))}")
    return listed


def _entries(path: Path) -> list[Entry]:
    if path.is_file():
        beside = path.with_suffix("")
        return [Entry(path.stem, path, beside if shown_folder(beside) else None)]
    if shown_folder(path):
        return [Entry(path.resolve().name, None, path)]
    if tables := sorted(path.glob("[!.]*.csv")):
        return [entry for table in tables for entry in _entries(table)]
    return [
        Entry(inner.name, None, inner) for inner in sorted(path.glob("*")) if shown_folder(inner)
    ]


def read_scores(path: Path) -> pd.DataFrame:
    """Read a table that ``fusionlib score --csv`` wrote.

    Raises
    ------
    ValueError
        It is none: a column is missing, or it has no row.
    """
    try:
        frame = pd.read_csv(path, dtype={"image": str})
    except (ValueError, OSError) as error:  # pandas' parser raises kinds of ValueError
        raise ValueError(f"{path}: expected a table of fusionlib score --csv ({error})") from None
    missing = [name for name in COLUMNS if name not in frame]
    if missing or frame.empty:
        what = f"the columns {', '.join(missing)} are missing" if missing else "it has no row"
        raise ValueError(f"{path}: expected a table of fusionlib score --csv, {what}")
    return frame


def common_images(scores: Mapping[str, pd.DataFrame]) -> list[str]:
    """Return the images that every method has scores of, sorted.

    Raises
    ------
    ValueError
        There is none.
    """
    sets = [set(frame["image"]) for frame in scores.values()]
    common = sorted(set.intersection(*sets))
    if not common:
        counts = ", ".join(f"{name} {len(have)}" for name, have in zip(scores, sets, strict=True))
        raise ValueError(f"expected images that all methods have, found none in common: {counts}")
    return common


def left_out(scores: Mapping[str, pd.DataFrame], common: list[str]) -> list[str]:
    """Return a sentence for each method that has images which others lack."""
    every = sorted(set().union(*(frame["image"] for frame in scores.values())))
    sentences = []
    for name, frame in scores.items():
        lacking = [image for image in every if image not in set(frame["image"])]
        if lacking:
            few = ", ".join(lacking[:5]) + (", .." if len(lacking) > 5 else "")
            sentences.append(f"{name} lacks {len(lacking)} of {len(every)} images ({few})")
    if sentences:
        sentences.append(f"all are ranked on the {len(common)} that they have in common")
    return sentences


def tables(scores: Mapping[str, pd.DataFrame]) -> list[dict]:
    """Return a table of ranks for each convention: methods by their table rank, the mean over
    metrics of the rank of the mean over the common images.

    Parameters
    ----------
    scores : mapping of method to DataFrame
        As :func:`read_scores` returns them.

    Returns
    -------
    list of dict
        title, metrics (heads with unit and direction) and ``lines``: name, n, rank, cells (text,
        rank).
    """
    common = common_images(scores)
    long = pd.concat(
        [frame.assign(method=name) for name, frame in scores.items()], ignore_index=True
    )
    long = long[long["image"].isin(common)]
    # ASSUMPTION: an infinite value (PSNR of an image equal to a source) is left out of the mean, as
    # in every other table of this suite.
    long["value"] = long["value"].where(np.isfinite(long["value"]))
    laid_out = []
    for (convention, against), part in long.groupby(["convention", "against"], sort=False):
        cells = part.pivot_table(
            index="method", columns="metric", values="value", sort=False, dropna=False,
            aggfunc=["mean", "count"],
        )  # fmt: skip
        names = [name for name in scores if name in cells.index]
        metrics = list(dict.fromkeys(part["metric"]))
        means = cells["mean"].reindex(index=names, columns=metrics)
        lines = _lines(means, cells["count"].reindex(index=names, columns=metrics), len(common))
        heads = [ranking.headed(name, convention) for name in means]
        title = f"{convention}, against the {against}"
        laid_out.append({"title": title, "metrics": heads, "lines": lines})
    return laid_out


def _lines(means: pd.DataFrame, counts: pd.DataFrame, n: int) -> list[dict]:
    ranks = ranking.ranks(means)
    # without a value for a metric a method is last there: nobody gains from what is undefined
    total = ranks.fillna(len(means)).astype(float).mean(axis=1).sort_values(kind="stable")
    lines = []
    for name in total.index:
        cells = []
        for metric in means:
            value, rank = means.loc[name, metric], ranks.loc[name, metric]
            text = f"{value:.4f}" if np.isfinite(value) else "–"
            if 0 < counts.loc[name, metric] < n:
                text += f" over {counts.loc[name, metric]:g}"
            is_marked = pd.notna(rank) and rank <= BEST
            cells.append({"text": text, "rank": int(rank) if is_marked else 0})
        lines.append({"name": name, "n": n, "rank": total[name], "cells": cells})
    return lines


def write(scores: Mapping[str, pd.DataFrame], folders: Mapping[str, Path], target: Path) -> Path:
    """Write ``index.html`` and ``scores.csv`` into a folder and return the page's path.

    Parameters
    ----------
    scores : mapping of method to DataFrame
        As :func:`read_scores` returns them.
    folders : mapping of str to path
        Folders of images for the comparer, sources and methods; some may be missing.
    target : path
        Made if it is not there.
    """
    page, common = template("leaderboard.html"), common_images(scores)
    target.mkdir(parents=True, exist_ok=True)
    shelf = Shelf(target, EMBEDDED)
    shown = {name: shown_folder(path) or path for name, path in folders.items()}
    compared = comparable(f"{len(common)} common images", shown, shelf, SHOWN)
    long = pd.concat([frame.assign(method=name) for name, frame in scores.items()])
    images.write_text(target / "scores.csv", long.to_csv(index=False))
    text = page.render(
        made=datetime.now().strftime("%Y-%m-%d %H:%M"),
        environment=runs.environment(),
        tables=tables(scores),
        methods=list(scores),
        common=common,
        left_out=left_out(scores, common),
        sets=[compared] if compared else [],
        sources=shelf.sources,
    )
    return images.write_text(target / "index.html", text)
