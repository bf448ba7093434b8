"""Printed tables beside what was reproduced: laid out for the page, and as CSV and LaTeX.

The tables of the multi-focus paper have few columns, so a cell holds both numbers. Those of
MoE-Fusion compare ten methods on three data sets, of which a run may have none or others: they are
laid out as one grid per data set.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from fusionlib import published, ranking, results

PAPERS = {"multi-focus": "Abas & Baykan 2021", "moe-fusion": "Cao et al. 2023"}
OURS = "MoE-Fusion"
BEST = 3  # numbers marked per column, as the paper does
TRAINED = ("consistent", "not consistent", "too few trainings")
COMPARED = ("equal", "close", "differs", "approximate", *TRAINED)  # on the paper's own images


@dataclass(frozen=True)
class Printed:
    """Where a printed table stands, and what its rows are."""

    paper: str
    number: str
    title: str
    caption: str
    row: str = "method"


TABLES = {
    "table-1": Printed(
        "moe-fusion",
        "1",
        "Fusion metrics of ten methods",
        "Eight metrics; the evaluation images of three "
        "data sets in print. All metrics in the paper's convention.",
    ),
    "table-2": Printed(
        "moe-fusion",
        "2",
        "Parts taken out of MoE-Fusion",
        "The full model and three with a part removed.",
        row="variant",
    ),
    "table-3": Printed(
        "moe-fusion",
        "3",
        "Detection on fused images",
        "Average precision in percent, per class and mean.",
    ),
    "table-A-1": Printed(
        "multi-focus",
        "A-1",
        "Lab",
        "One pair, real photographs; the person moves between the shots.",
    ),
    "table-A-2": Printed("multi-focus", "A-2", "Leopard", "One pair, artificially blurred."),
    "table-A-3": Printed(
        "multi-focus",
        "A-3",
        "Mean over the data set",
        "93 images in the paper, which were not published.",
    ),
}


@dataclass
class Grid:
    """One data set of a table: rows by metrics, with the ranks of the best three per column.

    Attributes
    ----------
    title : str
    printed : bool
        All numbers are the paper's; else ours, with the printed one beside where the images are the
        same.
    metrics : list of str
    lines : list of dict
        ``name``, ``method`` (without variant), ``n`` (images), ``extra`` (not a row of the printed
        table), ``cells``: for each metric a dict with
        text, rank (0: none), printed, verdict, difference, or None. Ranks are over all rows with a
        number, those that print lacks too.
    standing : str
        Where MoE-Fusion stands among all rows by the ranks of their means, if methods are the rows;
        a sentence.
    absent : list of str
        Rows of the printed table that were not run.
    """

    title: str
    printed: bool
    metrics: list[str]
    lines: list[dict] = field(default_factory=list)
    standing: str = ""
    absent: list[str] = field(default_factory=list)


def table(key: str, frame: pd.DataFrame) -> dict:
    """Lay out one printed table beside what was reproduced.

    Returns
    -------
    dict
        key, number, paper, title, caption, n (images of print, the most); ``joined``, the long
        comparison of :func:`fusionlib.results.join_published`; and either ``lines``
        and ``others``, the images that ours are means over if not the paper's (multi-focus), or
        ``grids`` (MoE-Fusion).
    """
    about = TABLES[key]
    printed = published.table(about.paper, about.number)
    ours = results.select_for_table(frame, printed)
    joined = results.join_published(printed, ours)
    claims = published.claims().set_index("id")["claim"]
    for line in joined[joined["refuted_by"] != ""].itertuples():
        reason = f"refuted by the table itself: {claims[line.refuted_by]}"
        joined.loc[line.Index, "note"] = "; ".join(filter(None, [reason, line.note]))
    entry = {
        "key": key,
        "paper": PAPERS[about.paper],
        "number": about.number,
        "title": about.title,
        "caption": about.caption,
        "n": int(printed["n_images"].max()),
        "joined": joined,
    }
    if about.paper == "moe-fusion":
        return entry | {"grids": grids(printed, ours, joined, about.row)}
    metrics = list(dict.fromkeys(joined["metric"]))
    lines = []
    for (method, variant), part in joined.groupby(["method", "variant"], sort=False):
        cells = {row.metric: row for row in part.itertuples()}
        lines.append(
            {
                "method": method,
                "variant": variant,
                "images": part["n_images"].max(),
                "cells": [cells.get(metric) for metric in metrics],
            }
        )
    others = [name for name in ours["dataset"].unique() if name not in set(printed["dataset"])]
    return entry | {"others": ", ".join(others), "lines": lines}


def counts(tables: list[dict]) -> dict[str, int]:
    """Count the printed numbers of tables by the verdict on their first row (the default variant of
    a method).
    """
    verdicts = [first_rows(entry)["verdict"] for entry in tables]
    return dict(pd.concat(verdicts).value_counts()) if verdicts else {}


def first_rows(entry: dict) -> pd.DataFrame:
    """Return the comparison of a table with one row a printed number: its first variant's."""
    keys = list(dict.fromkeys(["dataset", "method", "metric", TABLES[entry["key"]].row]))
    return entry["joined"].drop_duplicates(keys)


def in_short(verdicts: dict[str, int]) -> dict[str, int]:
    """Add up the counts of :func:`counts`: printed numbers in all, compared on the paper's own
    images, beside other images, not run, and not comparable for another reason.
    """
    short = {"in all": sum(verdicts.values())}
    short["compared"] = sum(verdicts.get(verdict, 0) for verdict in COMPARED)
    short |= {verdict: verdicts.get(verdict, 0) for verdict in ("other images", "not run")}
    return short | {"otherwise": 2 * short["in all"] - sum(short.values())}


def grids(printed: pd.DataFrame, ours: pd.DataFrame, joined: pd.DataFrame, row: str) -> list[Grid]:
    """Return a grid for each printed data set in the order of print, then one for each of ours.

    Parameters
    ----------
    printed, ours, joined : DataFrame
        Printed rows of a table, reproduced ones, and both side by side.
    row : str
        Column that gives the lines.
    """
    names = list(dict.fromkeys(printed[row]))
    metrics = list(dict.fromkeys(printed["metric"]))
    laid_out = [
        _printed_grid(part, row, names, metrics)
        for _, part in printed.groupby("dataset", sort=False)
    ]
    same = joined[~joined["verdict"].isin(["not run", "other images"])]
    for dataset, part in ours[ours["metric"].isin(metrics)].groupby("dataset", sort=False):
        laid_out.append(_our_grid(part, same[same["dataset"] == dataset], row, names, metrics))
    return laid_out


def _printed_grid(part: pd.DataFrame, row: str, names: list[str], metrics: list[str]) -> Grid:
    values, text = (
        part.pivot(index=row, columns="metric", values=kind) for kind in ("value", "printed")
    )
    ranks = top_ranks(values)
    return Grid(
        f"{part['dataset'].iloc[0]}, {part['n_images'].iloc[0]} pairs",
        True,
        metrics,
        [
            {
                "name": name,
                "method": name,
                "n": int(part["n_images"].iloc[0]) if part["n_images"].notna().any() else 0,
                "extra": False,
                "cells": [
                    {"text": text.loc[name, metric], "rank": ranks.loc[name, metric]}
                    for metric in metrics
                ],
            }
            for name in names
        ],
        ranking.rank_summary(values, OURS),
    )


# radon C: rows in the order of print, then those that print lacks
def _our_grid(
    part: pd.DataFrame, same: pd.DataFrame, row: str, names: list[str], metrics: list[str]
) -> Grid:
    """Rows in the order of print, each variant its own; then rows that print lacks."""
    if row == "variant":
        label = part["variant"]
    else:
        with_variant = part["method"] + " (" + part["variant"] + ")"
        label = part["method"].where(part["variant"] == "", with_variant)
    part = part.assign(label=label)
    source = part.drop_duplicates("label").set_index("label")
    key = source[row]
    extra = ~key.isin(names)
    values, counts = (
        # what no row has, or has undefined everywhere, keeps its place
        part.pivot_table(index="label", columns="metric", values=number_of, sort=False).reindex(
            index=source.index, columns=metrics
        )
        for number_of in ("value", "n_images")
    )
    ranks = top_ranks(values)
    partners = {(line.method, line.variant, line.metric): line for line in same.itertuples()}
    grid = Grid(
        f"{part['dataset'].iloc[0]}, {part['n_images'].max()} pairs",
        False,
        metrics,
        standing=ranking.rank_summary(values, OURS),
    )
    for name in [*names, *key[extra].unique()]:
        labels = list(key.index[key == name])
        for label in labels:
            cells = []
            for metric in metrics:
                partner = partners.get(
                    (source.loc[label, "method"], source.loc[label, "variant"], metric)
                )
                text = number(values.loc[label, metric], partner.printed if partner else "")
                if 0 < counts.loc[label, metric] < part["n_images"].max():
                    text += f" over {counts.loc[label, metric]:g}"
                rank = ranks.loc[label, metric]
                cells.append({"text": text, "rank": rank, "partner": partner})
            line = {"name": label, "method": name, "extra": bool(extra[label]), "cells": cells}
            grid.lines.append(line | {"n": int(counts.loc[label].max())})
    grid.absent = [name for name in names if name not in set(key)]
    return grid


def frame(entry: dict) -> pd.DataFrame:
    """Return a laid-out table as text: "number (rank)" by data set, or "printed / ours" where the
    table has one.
    """
    if "grids" not in entry:
        joined = entry["joined"]
        both = [f"{row.printed} / {number(row.ours, row.printed)}" for row in joined.itertuples()]
        return joined.assign(cell=both).pivot_table(
            index=["method", "variant"],
            columns="metric",
            values="cell",
            aggfunc="first",
            sort=False,
        )
    frames = {}
    for grid in entry["grids"]:
        source = "printed" if grid.printed else "ours"
        frames[f"{grid.title}, {source}"] = grid_to_frame(grid)
    return pd.concat(frames)


def grid_to_frame(grid: Grid) -> pd.DataFrame:
    """Return a grid as text, "number (rank)" in each cell."""
    lines = [[_cell_text(cell) for cell in line["cells"]] for line in grid.lines]
    names = [line["name"] for line in grid.lines]
    return pd.DataFrame(lines, index=names, columns=grid.metrics)


def _cell_text(cell: dict) -> str:
    return f"{cell['text']} ({cell['rank']})" if cell["rank"] else cell["text"]


def top_ranks(wide: pd.DataFrame) -> pd.DataFrame:
    """Return 1, 2, 3 for the largest three of each column, 0 for the rest; equal numbers share a
    rank.
    """
    ranks = ranking.ranks(wide, decimals=15)
    return ranks.where(ranks <= BEST, 0).fillna(0).astype(int)


def number(value: float, printed: str = "") -> str:
    """Format a value with the decimals of its printed partner (at most 6, 4 without one)."""
    if value is None or not np.isfinite(value):
        return "–"
    digits = min(published.decimals(printed), 6) if printed else 4
    return f"{value:.{digits}f}"


def latex(entry: dict) -> str:
    """Return a laid-out table in LaTeX for the package booktabs.

    Multi-focus: printed / ours per metric. MoE-Fusion: a block per data set, the best of a column
    bold, the second underlined, the third in italics.
    """
    if "grids" not in entry:
        wide = frame(entry)
        body = [
            _row([*index, *row])
            for index, row in zip(wide.index, wide.fillna("–").to_numpy(), strict=True)
        ]
        return _tabular(f"ll{'c' * wide.shape[1]}", ["method", "variant", *wide.columns], body)
    metrics = entry["grids"][0].metrics
    body = []
    for grid in entry["grids"]:
        source = "printed" if grid.printed else "reproduced"
        body += [r"\midrule"] * bool(body) + [
            rf"\multicolumn{{{len(metrics) + 1}}}{{l}}{{{_escape(grid.title)}, {source}}} \\"
        ]
        for line in grid.lines:
            body.append(_row([line["name"]], [_latex_cell(cell) for cell in line["cells"]]))
    return _tabular(f"l{'c' * len(metrics)}", ["", *metrics], body)


def _latex_cell(cell: dict) -> str:
    command = ("", r"\textbf", r"\underline", r"\textit")[cell["rank"]]
    return f"{command}{{{cell['text']}}}" if command else cell["text"]


def _tabular(columns: str, header: list[str], body: list[str]) -> str:
    return "\n".join(
        [
            "% needs \\usepackage{booktabs}",
            rf"\begin{{tabular}}{{{columns}}}",
            r"\toprule",
            _row(header),
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}",
            "",
        ]
    )


def _row(names: Sequence[str], cells: Sequence[str] = ()) -> str:
    return " & ".join([*map(_escape, names), *(cell.replace("–", "--") for cell in cells)]) + r" \\"


def _escape(text: str) -> str:
    for letter in "&%#_":
        text = text.replace(letter, "\\" + letter)
    return text.replace("–", "--")
