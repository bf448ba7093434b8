"""The printed numbers of both papers as data: ``table(paper, number)`` and ``claims()``.

A row is a printed number. ``value`` is the number, ``printed`` the characters as they stand in the
paper, so that a comparison knows to how many decimals it can be made. The files and their columns
are described in ``README.md`` beside them, ``data/published`` of the repository.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from fusionlib import places

FOLDER = places.INCLUDED / "published"
PAPERS = ("moe-fusion", "multi-focus")
# One schema: what a printed and a reproduced number both have.
SHARED_COLUMNS = (
    "paper",
    "table",
    "dataset",
    "split",
    "n_images",
    "method",
    "variant",
    "metric",
    "convention",
    "value",
    "rank",
    "seed",
    "checkpoint",
    "status",
)
COLUMNS = (*SHARED_COLUMNS, "refuted_by", "printed")
# A printed number is found by these; two rows that agree in all of them would be one number entered
# twice.
KEY = ("table", "dataset", "split", "method", "variant", "metric", "seed", "checkpoint")
CLAIM_COLUMNS = ("id", "paper", "where", "claim", "kind", "settled_by", "check", "claimed", "note")
KINDS = ("claim", "consistency")  # a sentence of the paper; a condition that we put to its tables
SETTLED_BY = ("tables", "run", "nothing")  # what can say whether it holds

_WHOLE = ("n_images", "rank", "seed")


def table(paper: str, number: int | str, folder: str | Path = FOLDER) -> pd.DataFrame:
    """Return one printed table, a row per printed number, in the order of print.

    Parameters
    ----------
    paper : "moe-fusion" or "multi-focus"
    number : int or str
        As printed: 1, 2, 3 and "text" (sizes of the data sets in section 4.1) of moe-fusion; 1,
        "A-1", "A-2", "A-3" of multi-focus. "all" gives every row of the paper.
    folder : path
        Where the CSV files are.

    Returns
    -------
    DataFrame with the columns :data:`COLUMNS`
        ``value`` float64; ``n_images``, ``rank``, ``seed`` nullable whole numbers; all else text,
        "" where empty.

    Raises
    ------
    ValueError
        Unknown paper or table, or a file that breaks the schema.
    FileNotFoundError
        No such file in ``folder``.

    Examples
    --------
    >>> rows = table("moe-fusion", 1)
    >>> ours = rows[(rows["method"] == "MoE-Fusion") & (rows["metric"] == "EN")]
    >>> dict(zip(ours["dataset"], ours["printed"], strict=True))
    {'M3FD': '7.0018', 'FLIR-aligned': '7.4925', 'LLVIP': '7.3523'}
    """
    if paper not in PAPERS:
        raise ValueError(f"paper: expected one of {', '.join(PAPERS)}, got {paper!r}")
    rows = _read(Path(folder) / f"{paper}.csv", COLUMNS)
    known = list(dict.fromkeys(rows["table"]))
    if str(number) != "all" and str(number) not in known:
        raise ValueError(f"table: {paper} has the tables {', '.join(known)}, got {number!r}")
    check_rows(rows, paper)
    rows["value"] = rows["value"].astype("float64")
    for name in _WHOLE:
        rows[name] = pd.to_numeric(rows[name]).astype("Int64")
    return (
        rows if str(number) == "all" else rows[rows["table"] == str(number)].reset_index(drop=True)
    )


def low_pass_weights(dataset: str) -> dict[str, float]:
    """Return ``{method: w1}`` as printed for one pair ("lab", "leopard") of the multi-focus
    paper.
    """
    rows = table("multi-focus", "all")
    rows = rows[(rows["dataset"] == dataset) & (rows["metric"] == "w1")]
    return dict(zip(rows["method"], rows["value"].astype(float), strict=True))


def claims(folder: str | Path = FOLDER) -> pd.DataFrame:
    """Return what the papers claim and what their tables must keep to be consistent, a row each,
    columns :data:`CLAIM_COLUMNS`, all text.

    ``kind`` tells the two apart, see :data:`KINDS`; ``claimed`` holds the numbers or names of the
    claim (read it with :func:`claimed`), ``check`` the function of :mod:`fusionlib.audit` that
    recomputes it, ``note`` why no table can settle it or what else to know.

    Raises
    ------
    ValueError
        A repeated id, an unknown paper, kind or ``settled_by``, or a claim that has neither a check
        nor a note.
    """
    path = Path(folder) / "claims.csv"
    frame = _read(path, CLAIM_COLUMNS)
    for row in frame.itertuples():
        for column, known in (("paper", PAPERS), ("kind", KINDS), ("settled_by", SETTLED_BY)):
            if (value := getattr(row, column)) not in known:
                raise ValueError(
                    f"{path.name}: claim {row.id!r}, {column}: expected one of {', '.join(known)},"
                    f" got {value!r}"
                )
        if not row.id or not row.claim or not (row.check or row.note):
            raise ValueError(
                f"{path.name}: claim {row.id!r} needs an id, a claim, and a check or a note"
            )
        claimed(row.claimed)
    if frame["id"].duplicated().any():
        raise ValueError(
            f"{path.name}: expected one row per id, got"
            f" {frame['id'][frame['id'].duplicated()].iloc[0]!r} more than once"
        )
    return frame


def claimed(text: str) -> dict[str, str]:
    """Read ``"first=7;metrics=SF SD"`` as ``{"first": "7", "metrics": "SF SD"}``."""
    pairs = [part.split("=") for part in text.split(";") if part]
    if any(len(pair) != 2 for pair in pairs):
        raise ValueError(f"claimed: expected name=value parts joined by ';', got {text!r}")
    return {name.strip(): value.strip() for name, value in pairs}


def decimals(printed: str) -> int:
    """Count the decimals of a printed number: 3 for "0.897", 4 for "0.8970", 0 for "1"."""
    return len(printed.partition(".")[2])


def half_unit(printed: str) -> float:
    """Return half a unit of the last printed decimal: the exact number lies within this of the
    printed one.
    """
    return 0.5 * 10.0 ** -decimals(printed)


def check_rows(rows: pd.DataFrame, paper: str) -> None:
    """Refuse text rows (as read from the file) that are not printed numbers of ``paper`` in the
    schema.

    Raises
    ------
    ValueError
        Names the first row that breaks the schema, and how.
    """
    for line, row in enumerate(rows.to_dict("records"), start=2):
        problem = _problem(row, paper)
        if problem:
            raise ValueError(f"{paper}.csv, line {line}: {problem}")
    twice = rows.duplicated(subset=list(KEY))
    if twice.any():
        raise ValueError(
            f"{paper}.csv, line {int(twice.argmax()) + 2}: this printed number is entered a second"
            " time"
        )


# radon C: one sentence for each way in which a row can be wrong
def _problem(row: dict[str, str], paper: str) -> str:
    """Return what is wrong with one row of text, "" if nothing."""
    if row["paper"] != paper:
        return f"paper: expected {paper}, got {row['paper']!r}"
    if empty := [name for name in ("table", "metric", "convention", "printed") if not row[name]]:
        return f"{empty[0]}: expected a text, got an empty cell"
    if not re.fullmatch(r"\d+(\.\d+)?", row["printed"]):
        return f"printed: expected a decimal number, got {row['printed']!r}"
    try:
        value = float(row["value"])
    except ValueError:
        return f"value: expected a number, got {row['value']!r}"
    if value != float(row["printed"]):
        return f"value: expected the printed {row['printed']}, got {row['value']}"
    for name in _WHOLE:
        if row[name] and not row[name].isdigit():
            return f"{name}: expected a whole number or an empty cell, got {row[name]!r}"
    if row["rank"] not in ("", "1", "2", "3"):
        return f"rank: expected 1, 2, 3 or an empty cell, got {row['rank']!r}"
    status = {"": "printed"}.get(row["refuted_by"], f"contradicts {row['refuted_by']}")
    return "" if row["status"] == status else f"status: expected {status!r}, got {row['status']!r}"


def _read(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    """Read a CSV as text, with exactly these columns in this order."""
    if not path.is_file():
        raise FileNotFoundError(f"published numbers: expected the file {path}, got none")
    try:
        frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise ValueError(
            f"{path.name}: expected a CSV file, got one that cannot be parsed ({error})"
        ) from error
    if tuple(frame.columns) != tuple(columns):
        raise ValueError(
            f"{path.name}: expected the columns {', '.join(columns)}, got"
            f" {', '.join(frame.columns)}"
        )
    return frame
