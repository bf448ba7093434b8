"""The tables of the page: a row a method and set of images, ours and the printed one in turn.

A number of ours has the printed one in the same cell where the images are the paper's; else the
printed row stands under ours, in the same columns. Tables of one paper whose rows are the same
kind are one table: what was run on other images is shown once, not under three names.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from fusionlib import ranking
from fusionlib.report import layout

SIGNS = {"equal": "=", "close": "≈", "differs": "≠", "approximate": "~"}
SIGNS |= {"consistent": "∈", "not consistent": "∉"}
WORDS = {
    "equal": "agree to every printed decimal",
    "close": "are within 1 %",
    "differs": "differ by more",
    "approximate": "are against a reference of our own",
    "consistent": "lie where a further training would be expected",
    "not consistent": "lie outside of it",
    "too few trainings": "have too few trainings to say",
}
FURTHEST = 3  # numbers named in the paragraph above a table


@dataclass
class Row:
    """One row of a table: the numbers of a method over one set of images.

    Attributes
    ----------
    method, images : str
    whose : "ours" or "print"
    n : int
        Images behind it.
    cells : list of dict
        text, rank (0: none) and, beside a printed number of the same images, ``partner``: a row of
        :func:`fusionlib.results.join_published`.
    extra : bool
        Not a row of the printed table.
    """

    method: str
    images: str
    whose: str
    n: int
    cells: list[dict]
    extra: bool = False


@dataclass
class Section:
    """One table of the page: one printed table, or several with the same columns.

    Attributes
    ----------
    keys : list of str
        Of :data:`.layout.TABLES`.
    heading, paper, caption : str
    metrics : list of str
        With the arrow of the better direction.
    rows : list of Row
    sentences : list of str
        What agrees and what does not, and where a method stands.
    absent : list of str
        Printed rows that were not run.
    nodes : list of dict
        What made it.
    """

    keys: list[str]
    heading: str
    paper: str
    caption: str
    metrics: list[str]
    rows: list[Row]
    sentences: list[str]
    absent: list[str] = field(default_factory=list)
    nodes: list[dict] = field(default_factory=list)

    @property
    def has_ours(self) -> bool:
        """Whether any row is of a run."""
        return any(row.whose == "ours" for row in self.rows)


def sections(tables: Iterable[dict]) -> list[Section]:
    """Return the laid-out tables (:func:`.layout.table`) as sections, those with rows of ours
    first.
    """
    tables = list(tables)
    alone = [_of_grids(entry) for entry in tables if "grids" in entry]
    together = [entry for entry in tables if "grids" not in entry]
    listed = alone + ([_of_lines(together)] if together else [])
    return sorted(listed, key=lambda section: not section.has_ours)


def _heads(metrics: Iterable[str], entry: dict) -> list[str]:
    """Return the heads of columns; the convention of a paper's tables has the paper's name."""
    return [ranking.headed(name, layout.TABLES[entry["key"]].paper) for name in metrics]


# radon C: rows of ours and of print, interleaved as they are read
def _of_grids(entry: dict) -> Section:
    grids = entry["grids"]
    ours = [grid for grid in grids if not grid.printed]
    names = list(dict.fromkeys(line["method"] for grid in grids for line in grid.lines))
    run = {line["method"] for grid in ours for line in grid.lines}
    order = sorted(names, key=lambda name: name not in run)
    rows = [(line, grid) for grid in grids for line in grid.lines]
    rows.sort(key=lambda row: (order.index(row[0]["method"]), row[1].printed))
    return Section(
        [entry["key"]],
        f"Table {entry['number']} · {entry['title']}",
        entry["paper"],
        entry["caption"],
        _heads(grids[0].metrics, entry),
        [_grid_row(grid, line) for line, grid in rows],
        [*agreement([entry]), *_standings(grids)],
        [name for name in names if ours and all(name in grid.absent for grid in ours)],
    )


def _standings(grids: list[layout.Grid]) -> list[str]:
    """Return where a method stands in each grid, print last."""
    told = sorted((grid for grid in grids if grid.standing), key=lambda grid: grid.printed)
    return [
        f"{'Print' if grid.printed else 'Ours'}, {grid.title}. {grid.standing}" for grid in told
    ]


def _grid_row(grid: layout.Grid, line: dict) -> Row:
    whose = "print" if grid.printed else "ours"
    images = grid.title.partition(", ")[0] + grid.title.partition(" pairs")[2]
    return Row(line["name"], images, whose, line["n"], line["cells"], line["extra"])


# radon C: rows of ours and of print, interleaved as they are read
def _of_lines(entries: list[dict]) -> Section:
    metrics = list(dict.fromkeys(name for entry in entries for name in entry["joined"]["metric"]))
    rows = _rows_once(entries, metrics)
    run = {row.method for row in rows if row.whose == "ours"}
    order = sorted(dict.fromkeys(row.method for row in rows), key=lambda name: name not in run)
    numbers = ", ".join(entry["number"] for entry in entries)
    several = "Tables" if len(entries) > 1 else "Table"
    return Section(
        [entry["key"] for entry in entries],
        f"{several} {numbers} · {', '.join(entry['title'] for entry in entries)}",
        entries[0]["paper"],
        " ".join(f"{entry['title']}: {entry['caption']}" for entry in entries),
        _heads(metrics, entries[0]),
        sorted(rows, key=lambda row: (order.index(row.method), row.whose == "print")),
        agreement(entries),
    )


def _rows_once(entries: list[dict], metrics: list[str]) -> list[Row]:
    """Return the rows of several tables, one where they have the same method and images."""
    rows: dict[tuple, Row] = {}
    for entry in entries:
        for (method, variant), part in entry["joined"].groupby(["method", "variant"], sort=False):
            name = f"{method} ({variant})" if variant else method
            for row in _line_rows(name, part, metrics, entry):
                rows.setdefault((row.method, row.images, row.whose), row)
    return list(rows.values())


def _line_rows(name: str, part: pd.DataFrame, metrics: list[str], entry: dict) -> list[Row]:
    """Return the rows of one method in one printed table: one where ours is of the same images,
    else ours and the printed one.
    """
    lines = {line.metric: line for line in part.itertuples()}
    dataset, n = part["dataset"].iloc[0], int(part["n_images"].max())
    if part["verdict"].isin(layout.COMPARED).any():
        return [Row(name, dataset, "ours", n, [_cell(lines.get(key), True, n) for key in metrics])]
    printed = [{"text": lines[key].printed if key in lines else "", "rank": 0} for key in metrics]
    rows = [Row(name, dataset, "print", entry["n"], printed)]
    if part["ours"].notna().any():
        cells = [_cell(lines.get(key), False, n) for key in metrics]
        rows.insert(0, Row(name, entry["others"] or dataset, "ours", n, cells))
    return rows


def _cell(line, beside: bool, n: int) -> dict:
    if line is None:
        return {"text": "", "rank": 0}
    text = layout.number(line.ours, line.printed if beside else "")
    if 0 < line.n_images < n:
        text += f" over {line.n_images:g}"
    return {"text": text, "rank": 0, "partner": line if beside else None}


def agreement(entries: list[dict]) -> list[str]:
    """Return what of some printed tables agrees with ours and what does not, in sentences."""
    joined = pd.concat(map(layout.first_rows, entries), ignore_index=True)
    compared = joined[joined["verdict"].isin(layout.COMPARED)]
    if compared.empty:
        return [_not_compared(entries, joined)]
    counts = compared["verdict"].value_counts()
    parts = [f"{counts[word]} {WORDS[word]}" for word in WORDS if word in counts]
    told = [f"Of {len(compared)} printed numbers on the paper's own images {', '.join(parts)}."]
    return [*told, *_furthest(compared)]


def _not_compared(entries: list[dict], joined: pd.DataFrame) -> str:
    if joined["ours"].isna().all():
        return "Nothing of ours yet: no finished run of this profile gives this table."
    others = ", ".join(dict.fromkeys(filter(None, (entry.get("others") for entry in entries))))
    which = "of other images than the paper's"
    if others:
        which = f"means over other images ({others}), none of them of this table"
    return f"Ours: {which}. Both values stand, no difference is drawn."


def _furthest(compared: pd.DataFrame) -> list[str]:
    """Name the numbers that differ most, relative to print, with what is noted of them."""
    has_direction = compared["metric"].map(ranking.larger_is_better).notna()  # a weight has none
    off = compared[has_direction & (compared["verdict"] == "differs")]
    printed = pd.to_numeric(off["printed"], errors="coerce").replace(0, np.nan)
    share = (off["difference"] / printed).abs().sort_values(ascending=False)
    if share.dropna().empty:
        return []
    lines = off.assign(share=share).nlargest(FURTHEST, "share")
    words = [
        f"{line.dataset} {line.method} {line.metric} {layout.number(line.ours, line.printed)}"
        f" (printed {line.printed}{', ' + line.note if line.note else ''})"
        for line in lines.itertuples()
    ]
    return [f"Furthest off: {'; '.join(words)}."]
