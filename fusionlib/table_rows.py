"""One's own scores as a row of a paper's table: a line to paste, and beside the printed rows."""

from __future__ import annotations

import pandas as pd

from fusionlib import published

ORDER = ("EN", "SD", "SF", "MI", "SCD", "VIF", "Qabf", "SSIM")  # in which most papers print them
OWN = "(yours)"


def to_paste(means: pd.Series) -> str:
    """Return a row in the order of most papers, to two decimals, between the signs of LaTeX.

    Parameters
    ----------
    means : Series
        Means over images by name of the metric; one that is missing or NaN is a dash.
    """
    values = means.reindex(ORDER)
    return " & ".join("-" if pd.isna(value) else f"{value:.2f}" for value in values)


def printed(name: str) -> pd.DataFrame:
    """Return a printed table of fusion metrics by the name that ``make reproduce`` has for it.

    Parameters
    ----------
    name : str
        "table-1" and "table-2" of MoE-Fusion; "table-A-1", "table-A-2", "table-A-3" of the
        multi-focus paper.

    Raises
    ------
    ValueError
        Any other name.
    """
    tables: dict[str, pd.DataFrame] = {}
    for paper in published.PAPERS:
        rows = published.table(paper, "all")
        rows = rows[rows["metric"].isin([*ORDER, "AG", "CC", "PSNR", "RMSE"])]
        tables |= {f"table-{number}": part for number, part in rows.groupby("table", sort=False)}
    if name not in tables:
        raise ValueError(f"beside: expected one of {', '.join(tables)}, got {name!r}")
    return tables[name]


def beside(rows: pd.DataFrame, means: pd.DataFrame, images: int) -> str:
    """Return the printed rows of each data set with one's own row below them.

    Parameters
    ----------
    rows : DataFrame
        Of :func:`printed`.
    means : DataFrame
        Conventions x metrics, as :func:`fusionlib.scoring.summarize` gives them.
    images : int
        How many were scored. Nobody knows here whether they are those of the paper, so no
        difference is drawn.
    """
    blocks = []
    for (dataset, convention), part in rows.groupby(["dataset", "convention"], sort=False):
        named = part["method"] + " " + part["variant"]
        table = part.assign(method=named.str.strip()).pivot_table(
            index="method", columns="metric", values="value", sort=False
        )
        table.loc[OWN] = _own(means.loc[convention]).reindex(table.columns)
        table.index.name = table.columns.name = None
        count = part["n_images"].dropna().unique()
        size = f", {count[0]} images" if len(count) == 1 else ""
        text = table.to_string(float_format=lambda value: f"{value:.4f}", na_rep="-")
        blocks.append(f"{dataset}{size} as printed; yours: {images} images, {convention}\n{text}")
    return "\n\n".join(blocks) + "\nThe rows compare methods only where the images are the same."


def _own(means: pd.Series) -> pd.Series:
    """Return means by metric, those against a reference in place of those against the sources."""
    against = means.filter(like=" (reference)").dropna()
    against.index = against.index.str.removesuffix(" (reference)")
    return against.combine_first(means)
