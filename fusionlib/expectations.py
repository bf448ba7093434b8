"""What a run is expected to give: the committed results of its profile, and how far training may
move them.

Numbers that no training touches are equal to the committed ones on every machine, but for
:data:`ROUNDING`. A training takes another course with another seed, number of threads or kind of
processor: its numbers are expected in the bands of ``bands.csv``, which :func:`bands` takes from
several runs. Where it took the committed course, all its numbers must be the committed ones too.
Times are of a machine and not compared.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from fusionlib import places, results, runs

BANDS = "bands.csv"
NUMBERS = ("value", "low", "high")  # columns that are compared; all others say which number it is
UNTOLD = ("paper", "group")  # follow from table and image
TIMES = ("seconds",)  # metrics of the machine
# What a mean over images and seeds keeps of a row.
GROUP = ["paper", "table", "dataset", "split", "method", "variant", "metric", "convention"]
GROUP += ["checkpoint", "column"]
# Another processor or number of threads adds in another order: the last bit of a sum differs, and
# where a pixel lies between two gray levels, the level that it is rounded to. Three processors
# differed by up to 5e-4 of a number; numbers about 0 are rounding themselves.
ROUNDING, NOTHING = 1e-3, 1e-9
# Outputs of networks are float32: what two of them differ by, in percent, is known to this.
PERCENT = 1e-4
LEVEL = 0.9999  # of a band: of four hundred, one fails by chance in one run of some thirty
# A model with a larger share of its numbers equal to the committed ones took the committed course;
# where two of its three seeds did, 0.67, the third is no fault.
SAME = 0.75


class Comparison(NamedTuple):
    """How the numbers of a run stand to the expected ones.

    ``equal`` and ``within`` count those equal to the reference and those within their band,
    ``unjudged`` the trained ones that no band is known of; ``differing`` has a sentence for each
    other one and for each row or table missing or extra. ``means`` are the trained numbers with a
    band: node, the columns of :data:`GROUP`, low, high, came.
    """

    equal: int
    within: int
    unjudged: int
    differing: list[str]
    means: pd.DataFrame

    def sentence(self, named: int = 3) -> str:
        """Return the counts in words, the first ``named`` differences with them."""
        first = "; ".join(self.differing[:named])
        more = "; ..." if len(self.differing) > named > 0 else ""
        aside = f" {self.unjudged} trained ones have no band yet," if self.unjudged else ""
        return (
            f"{self.equal} numbers equal the reference, {self.within} within their bands,{aside}"
            f" {len(self.differing)} differ{': ' if first else ''}{first}{more}"
        )


def reference_of(folder: str | Path) -> Path | None:
    """Return the committed results of the profile that a run's folder is named after, None where
    there are none.
    """
    reference = places.reports() / "reference" / Path(folder).resolve().name
    return reference if (reference / "nodes.json").is_file() else None


def trained(folder: Path) -> list[str]:
    """Return the nodes of a run that train a network or need, through others too, one that does.

    Notebooks that train have the parameter ``precision``.
    """
    training_nodes: set[str] = set()
    plan = results.plan(folder) or []
    for node in plan:  # a node stands behind all that it needs
        home = folder / node["name"]
        is_run = (home / "run.json").is_file()
        trains = is_run and "precision" in runs.load(home)["parameters"]
        if trains or training_nodes.intersection(node["needs"]):
            training_nodes.add(node["name"])
    return [node["name"] for node in plan if node["name"] in training_nodes]


def numbers(path: Path) -> pd.DataFrame:
    """Return the numbers of a ``results.csv``, one a line: ``row`` in words, the columns of
    :data:`GROUP`, ``number``.

    Raises
    ------
    ValueError
        It is no table of results.
    """
    return _cells(path).dropna(subset="number")


def _cells(path: Path) -> pd.DataFrame:
    """Return what :func:`numbers` does, empty cells (NaN) among it."""
    try:
        frame = pd.read_csv(path, dtype=str, keep_default_na=False)
        if lacking := {*GROUP[:-1], "value", "rank", "n_images"}.difference(frame):
            raise ValueError(f"without {', '.join(sorted(lacking))}")
        frame = frame[~frame["metric"].isin(TIMES)]
        columns = [name for name in NUMBERS if name in frame]
        frame[columns] = frame[columns].replace("", np.nan).astype(float)
    except (ValueError, OSError) as error:  # pandas' parser raises kinds of ValueError
        raise ValueError(f"{path}: expected a table of results ({error})") from None
    for name in ("rank", "n_images"):  # pandas writes 1 or 1.0, after what else is in the column
        frame[name] = frame[name].str.removesuffix(".0")
    frame["row"] = _in_words(frame.drop(columns=[*columns, *UNTOLD], errors="ignore"))
    frame["row"] += frame.groupby("row").cumcount().map(lambda n: f", again {n}" if n else "")
    kept = ["row", *GROUP[:-1]]
    return frame.melt(kept, columns, "column", "number")


def _in_words(frame: pd.DataFrame) -> pd.Series:
    """Return each row as "table 1, method LP, metric EN", empty cells left out."""
    words = [
        ", ".join(f"{name} {cell}" for name, cell in zip(frame, row, strict=True) if cell)
        for row in frame.to_numpy(dtype=object)
    ]
    return pd.Series(words, frame.index, dtype=str)


def bands(folders: Sequence[Path]) -> pd.DataFrame:
    """Return where the means of trained numbers are expected, from finished runs of one profile.

    Rows that no training moves are among them, with ends that are equal.

    Parameters
    ----------
    folders : list of path
        Runs with different seeds and numbers of threads. From three on a band is where a further
        run lies with probability :data:`LEVEL`, of two it is their range, of one it is unknown.

    Returns
    -------
    DataFrame
        node, the columns of :data:`GROUP`, low, high (NaN: unknown), runs (how many, and which).

    Raises
    ------
    ValueError
        A run lacks a table of the first one, or a row of it.
    """
    parts = [pd.DataFrame(columns=["node", *GROUP, "low", "high"])]
    for node in trained(folders[0]):
        if not (folders[0] / node / "results.csv").is_file():
            continue
        means = [_means(_cells(folder / node / "results.csv")) for folder in folders]
        together = pd.concat(means, axis=1, keys=range(len(folders)))
        for folder, of_run in zip(folders, means, strict=True):
            for row in together.index.difference(of_run.index):
                words = ", ".join(filter(None, row))
                raise ValueError(f"{folder / node}: expected a row {words} as in other runs")
        together = together.dropna(how="all")
        parts.append(_ends(together).assign(node=node).reset_index())
    frame = pd.concat(parts[1:] or parts, ignore_index=True).assign(runs=_which(folders))
    frame = frame.astype({"low": float, "high": float})
    return frame[["node", *GROUP, "low", "high", "runs"]]


def _means(frame: pd.DataFrame) -> pd.Series:
    return frame.groupby(GROUP, sort=False)["number"].mean()


def _ends(means: pd.DataFrame) -> pd.DataFrame:
    """Return low and high of each row of ``means``, a column a run; unknown where a run has no such
    number, as of an expert that its gate never chose.
    """
    ends = pd.DataFrame({"low": means.min(axis=1), "high": means.max(axis=1)})
    ends[means.isna().any(axis=1)] = np.nan
    count = means.shape[1]
    if count == 1:
        return ends * np.nan
    moved = ends["low"].notna() & ~_is_close(ends["low"], ends["high"])
    if count >= results.TRAININGS and moved.any():
        middle, between = means[moved].mean(axis=1), means[moved].std(axis=1)
        ends.loc[moved] = [
            results.prediction_interval(*spread, count, LEVEL)
            for spread in zip(middle, between, strict=True)
        ]
    return ends


def _which(folders: Sequence[Path]) -> str:
    """Return how many runs there are, their seeds and numbers of threads."""
    records = [runs.load(path.parent) for home in folders for path in home.glob("*/run.json")]
    trainings = [record for record in records if "precision" in record["parameters"]]
    seeds = {record["parameters"].get("seed", "") for record in trainings} - {""}
    threads = {record["threads"] for record in trainings}
    told = (" ".join(map(str, sorted(some))) for some in (seeds, threads))
    return f"{len(folders)}: seeds {next(told)}, threads {next(told)}"


def read_bands(reference: Path) -> pd.DataFrame:
    """Return the committed bands of a profile; without any, those of its one committed run."""
    if not (reference / BANDS).is_file():
        return bands([reference])
    text = dict.fromkeys(("node", *GROUP), str)
    frame = pd.read_csv(reference / BANDS, dtype=text, keep_default_na=False)
    return frame.assign(**{end: pd.to_numeric(frame[end]) for end in ("low", "high")})


def compare(folder: Path, reference: Path) -> Comparison:
    """Compare each table of a run with the committed one.

    Parameters
    ----------
    folder : path
        Of a run; tables that its ``nodes.json`` was not asked for may be missing.
    reference : path
        ``reports/reference/PROFILE``.
    """
    known = read_bands(reference)
    expected, came = _tables(reference), _tables(folder)
    parts = [Comparison(0, 0, 0, _absent(folder, expected.keys(), came.keys()), known[:0])]
    for node in sorted(expected.keys() & came.keys()):
        part = _compare(expected[node], came[node], known[known["node"] == node])
        named = [f"{node}: {sentence}" for sentence in part.differing]
        parts.append(part._replace(differing=named))
    equal, within, unjudged = (
        sum(counts) for counts in zip(*(part[:3] for part in parts), strict=True)
    )
    differing = [sentence for part in parts for sentence in part.differing]
    means = pd.concat([part.means for part in parts[1:] or parts], ignore_index=True)
    return Comparison(equal, within, unjudged, differing, means)


def _tables(home: Path) -> dict[str, Path]:
    return {path.parent.name: path for path in home.glob("*/results.csv")}


def _absent(folder: Path, expected: Set[str], came: Set[str]) -> list[str]:
    """Return a sentence for each table that a run lacks, was it asked for, or has besides."""
    idle = {node["name"] for node in results.plan(folder) or [] if not node.get("wanted", True)}
    return [
        *(f"{node}: the table is missing" for node in sorted(expected - came - idle)),
        *(f"{node}: a table that the reference has not" for node in sorted(came - expected)),
    ]


def _compare(expected: Path, came: Path, known: pd.DataFrame) -> Comparison:
    """Compare one table, ``known`` are its bands; a damaged one is a difference."""
    try:
        both = numbers(expected).merge(
            numbers(came), "outer", ["row", "column"], suffixes=("", "_came"), indicator=True
        )
    except ValueError as error:
        return Comparison(0, 0, 0, [str(error)], known[:0].assign(came=np.nan))
    told, both = _alone(both), both[both["_merge"] == "both"]
    least = np.where(both["metric"].str.endswith(", %"), PERCENT, NOTHING)
    is_equal = _is_close(both["number"], both["number_came"], least)
    another = _another_course(both[GROUP], known, is_equal)
    off = both[~another & ~is_equal]
    told += [
        f"{line.row}: {line.column}: expected {line.number:.6g}, came {line.number_came:.6g}"
        for line in off.itertuples()
    ]
    means = known.merge(_means(both.assign(number=both["number_came"])).rename("came"), on=GROUP)
    means = means[~_is_close(means["low"], means["high"])]
    judged = means[_in(means, both[another])]
    inside, unknown = judged["came"].between(judged["low"], judged["high"]), judged["low"].isna()
    told += _outside(judged[~inside & ~unknown])
    return Comparison(
        int((~another & is_equal).sum()),
        int(inside.sum()),
        int(unknown.sum()),
        told,
        means[means["low"].notna()],
    )


def _another_course(rows: pd.DataFrame, known: pd.DataFrame, is_equal: pd.Series) -> pd.Series:
    """Tell which rows are of a model that a training here took elsewhere than the committed one:
    rows that training moves, most of its model's not equal to the committed ones.
    """
    moves = _in(rows, known[~_is_close(known["low"], known["high"])])
    model = rows["method"] + ", " + rows["variant"]
    share = is_equal[moves].groupby(model[moves]).mean()
    return moves & model.isin(share.index[share <= SAME])


def _in(rows: pd.DataFrame, others: pd.DataFrame) -> pd.Series:
    """Tell which rows are, by :data:`GROUP`, among others."""
    index, wanted = (pd.MultiIndex.from_frame(frame[GROUP]) for frame in (rows, others))
    return pd.Series(index.isin(wanted), rows.index)


def _alone(both: pd.DataFrame) -> list[str]:
    """Return a sentence for each row that only one of two tables has."""
    words = {"left_only": "the row is missing", "right_only": "a row that the reference has not"}
    alone = both[both["_merge"] != "both"].drop_duplicates("row").rename(columns={"_merge": "side"})
    return [f"{line.row}: {line.column}: {words[line.side]}" for line in alone.itertuples()]


def _outside(means: pd.DataFrame) -> list[str]:
    """Return a sentence for each mean outside of its band."""
    return [
        f"mean of {row}: {mean.column}:"
        f" expected {mean.low:.6g} to {mean.high:.6g}, came {mean.came:.6g}"
        for row, mean in zip(_in_words(means[GROUP[1:-1]]), means.itertuples(), strict=True)
    ]


def _is_close(
    expected: pd.Series, came: pd.Series, least: float | np.ndarray = NOTHING
) -> pd.Series:
    """Tell which numbers are equal but for rounding, ``least`` is that of a number about 0."""
    close = np.isclose(came, expected, rtol=ROUNDING, atol=least)
    return pd.Series(close, expected.index)
