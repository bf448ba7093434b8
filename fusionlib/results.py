"""Results as data: one long table, its means and spread, and its join with the printed numbers.

A reproduced number is a row of the same shape as a printed one (``COLUMNS``); rows of single images
carry the name of the image too. A difference is given only where data set, split and number of
images are those of the printed number.
"""

from __future__ import annotations

import json
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from fusionlib import groups as grouped
from fusionlib import runs
from fusionlib.published import SHARED_COLUMNS, decimals

COLUMNS = [*SHARED_COLUMNS, "reference_kind"]
# What the reference image of a row was, in ``reference_kind``: "exact", CONSTRUCTED, or "" without.
CONSTRUCTED = "constructed"
APPROXIMATE = "constructed reference"  # the same in the sentence of ``status``
AT_PRINTED = "at the printed weight"  # variant of the few pairs that print says a weight of
TRAINED = "trained here"  # how ``checkpoint`` begins where the network was trained by this suite
TRAININGS = 3  # fewer have no prediction interval worth the name
NUMBERS = ("value", "rank", "n_images", "seed")
MEASURED = ("value", "rank", "n_images", "status", "reference_kind", "reason")  # by no key of a row
AVERAGED = ("value", "seed", "status", "reference_kind", "n_images")  # no keys of a mean
VERDICTS = {
    "equal": "agrees to every printed decimal",
    "close": "within 1 % of the printed number",
    "differs": "more than 1 % away on the same images",
    "consistent": "the printed number lies where a further training here would be expected (95 %)",
    "not consistent": "the printed number lies outside of where a further training is expected",
    "too few trainings": (
        "fewer than three trainings: both values stand, nobody knows where a further one would lie"
    ),
    "approximate": (
        "same sources, but against a reference constructed here; the paper's was never published"
    ),
    "other images": "not the paper's images: both values stand, no difference is drawn",
    "not checkable": (
        "the paper's images or references are not available and nothing comparable was run"
    ),
    "not run": "no run gave this number",
    "other machine": "a time depends on the machine: both values stand, no difference is drawn",
    "contradiction": (
        "the printed number cannot stand beside others of its row, see the audit; no difference is"
        " drawn"
    ),
}


def rows(values: pd.DataFrame, **labels) -> pd.DataFrame:
    """Return ``values`` (at least ``metric`` and ``value``) with all columns of the schema.

    Parameters
    ----------
    values : DataFrame
    **labels
        Columns that are the same for all rows.

    Raises
    ------
    ValueError
        A label is no column of the schema.
    """
    unknown = set(labels) - set(COLUMNS)
    if unknown:
        raise ValueError(
            f"results: expected labels among {', '.join(COLUMNS)}, got {', '.join(sorted(unknown))}"
        )
    frame = values.assign(**labels)
    for column in COLUMNS:
        if column not in frame:
            frame[column] = np.nan if column in ("value", "rank", "n_images") else ""
    extra = [column for column in frame.columns if column not in COLUMNS]
    return frame[COLUMNS + extra]


def load(folder: str | Path) -> pd.DataFrame:
    """Read and stack the results of every node below ``folder`` that :func:`read` finds whole."""
    frames = list(read(folder)[0].values())
    frame = pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=COLUMNS)
    text = [column for column in frame if column not in NUMBERS]
    frame[text] = frame[text].astype(object).where(frame[text].notna(), "")
    return frame


def read(folder: str | Path) -> tuple[dict[str, pd.DataFrame], dict[str, str]]:
    """Return the results of each finished node of a run, and why those of others do not count.

    Parameters
    ----------
    folder : path
        Its ``nodes.json`` names the nodes; without it every folder with a ``run.json`` is one.

    Returns
    -------
    frames : dict of str to DataFrame
        By node; those without ``results.csv`` are left out.
    refused : dict of str to str
        By folder, a sentence: changed or damaged since the run wrote it (:func:`.runs.load`), no
        node of the run, or, without ``nodes.json``, the same rows as another folder.
    """
    folder = Path(folder)
    names = planned(folder)
    frames, refused = {}, {}
    for home in sorted(path.parent for path in folder.glob("*/run.json")):
        if names is not None and home.name not in names:
            refused[home.name] = f"{home}: left out, it is no node of {folder / 'nodes.json'}"
            continue
        try:
            runs.load(home)
            if (home / "results.csv").is_file():
                frames[home.name] = _read(home / "results.csv")
        except ValueError as error:
            refused[home.name] = str(error)
    if names is None:
        refused |= _repeated(frames)
    return {name: frame for name, frame in frames.items() if name not in refused}, refused


def planned(folder: Path) -> list[str] | None:
    """Return the names of the nodes in ``nodes.json``, None where :func:`plan` has none."""
    nodes = plan(folder)
    return None if nodes is None else [node["name"] for node in nodes]


def plan(folder: Path) -> list[dict] | None:
    """Return the nodes in ``nodes.json``, None where there is no such file or it is damaged."""
    try:
        nodes = json.loads((folder / "nodes.json").read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return nodes if isinstance(nodes, list) and all(map(_is_node, nodes)) else None


def _is_node(entry: object) -> bool:
    """Tell whether an entry of ``nodes.json`` has a name, and words where it lists any."""
    if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
        return False
    lists = [entry[key] for key in ("provides", "needs", "without") if key in entry]
    return all(isinstance(words, list) for words in lists) and all(
        isinstance(word, str) for words in lists for word in words
    )


def _repeated(frames: dict[str, pd.DataFrame]) -> dict[str, str]:
    """Return a sentence for each folder that gives a row of another: which is right is unknown."""
    refused, owners = {}, dict[tuple, str]()
    for name, frame in frames.items():
        keys = [column for column in frame if column not in MEASURED]
        for row in frame[keys].astype(str).itertuples(index=False, name=None):
            other = owners.setdefault(tuple(zip(keys, row, strict=True)), name)
            if other != name:
                sentence = "gives the same rows as {}, neither counts; remove or move one of them"
                refused[name] = f"{name}: {sentence.format(other)}"
                refused[other] = f"{other}: {sentence.format(name)}"
    return refused


def _read(path: Path) -> pd.DataFrame:
    """Read a ``results.csv``; ValueError where it is not one."""
    text = dict.fromkeys(("variant", "table", "image", "group", "split", "checkpoint"), str)
    text |= {"status": str, "reference_kind": str}
    try:
        frame = pd.read_csv(path, keep_default_na=True, dtype=text)
        frame["value"] = pd.to_numeric(frame["value"])
    except (ValueError, KeyError, OSError) as error:  # pandas' parser raises kinds of ValueError
        raise ValueError(
            f"{path}: expected a table with a number in each value ({error})"
        ) from None
    if "reference_kind" not in frame:
        # Files from before that column say it in the sentence alone.
        approximate = frame["status"].astype(str).str.contains(APPROXIMATE, regex=False)
        frame["reference_kind"] = approximate.map({True: CONSTRUCTED, False: ""})
    return frame


def mean(frame: pd.DataFrame) -> pd.DataFrame:
    """Average the rows of single images: one row per method, variant and metric, with ``n_images``
    counted.

    NaN values (metrics without meaning for an image) are left out of the mean and of the count, and
    so are infinite ones (PSNR of an image equal to a source), which ``status`` counts.
    Several seeds of one image count as one image: they are averaged first. Of networks that were
    trained here, ``trainings`` counts the seeds, and ``between`` is the standard deviation of their
    means.
    """
    frame = rows(frame)
    infinite = np.isinf(frame["value"].astype(float))
    frame = frame.assign(value=frame["value"].mask(infinite))
    keys = [
        "paper",
        "table",
        "dataset",
        "split",
        "method",
        "variant",
        "metric",
        "convention",
        "checkpoint",
    ]
    without = frame.assign(infinite=infinite).groupby(keys, dropna=False)["infinite"].sum()
    without = without.reset_index()
    per_training = frame[_is_trained(frame)].groupby([*keys, "seed"], dropna=False)["value"].mean()
    trainings = per_training.groupby(keys, dropna=False).agg(["count", "std"])
    trainings = trainings.set_axis(["trainings", "between"], axis=1).reset_index()
    frame = _over_seeds(
        frame, [*keys, *(name for name in ("image", "printed_as") if name in frame)]
    )
    # A row that stands for a whole data set says of how many images; one that says nothing is one
    # image.
    counted = pd.to_numeric(frame["n_images"]).fillna(1).where(frame["value"].notna(), 0)
    grouped = frame.assign(counted=counted).groupby(keys, sort=False, dropna=False)
    merged = grouped.agg(
        value=("value", "mean"),
        n_images=("counted", "sum"),
        spread=("value", "std"),
        status=("status", _words),
        reference_kind=("reference_kind", _one_kind),
    ).reset_index()
    merged = merged.merge(trainings, "left", keys)
    merged = merged.merge(without, "left", keys)
    merged["status"] = [
        "; ".join(filter(None, [status, f"infinite for {count}, not averaged" if count else ""]))
        for status, count in zip(merged["status"], merged.pop("infinite"), strict=True)
    ]
    return rows(merged.astype({"n_images": int}))


def _is_trained(frame: pd.DataFrame) -> pd.Series:
    """Tell which rows are of a network that was trained here."""
    return frame["checkpoint"].astype(str).str.startswith(TRAINED)


def prediction_interval(
    mean: float, between: float, trainings: int, level: float = 0.95
) -> tuple[float, float]:
    """Return where the mean of one further training lies with probability ``level``: mean ± t s
    √(1 + 1 / n), for normal means of trainings.

    Parameters
    ----------
    mean, between : float
        Over the trainings: mean and standard deviation.
    trainings : int
        Their number n, at least 2.
    level : float
    """
    quantile = stats.t.ppf((1 + level) / 2, trainings - 1)
    half = float(quantile * between * np.sqrt(1 + 1 / trainings))
    return mean - half, mean + half


def _over_seeds(frame: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    if frame["seed"].nunique() < 2:
        return frame
    return (
        frame.groupby(keys, sort=False, dropna=False)
        .agg(
            value=("value", "mean"),
            n_images=("n_images", "first"),
            status=("status", _words),
            reference_kind=("reference_kind", _one_kind),
        )
        .reset_index()
        .assign(seed="")
    )


def _words(words: pd.Series) -> str:
    return "; ".join(sorted({word for word in words if word}))


def _one_kind(kinds: pd.Series) -> str:
    # a mean over several references is as approximate as its least certain one
    return CONSTRUCTED if (kinds == CONSTRUCTED).any() else kinds.iloc[0]


def interval(
    values: np.ndarray,
    level: float = 0.95,
    samples: int = 2000,
    seed: int = 0,
    groups: Sequence[Hashable] | None = None,
) -> tuple[float, float]:
    """Return the percentile bootstrap interval of the mean of ``values``.

    Parameters
    ----------
    values : array
        NaN is left out; without any other the interval is (NaN, NaN).
    level : float
        Confidence in (0, 1).
    samples : int
        Bootstrap samples.
    seed : int
        Of the draws.
    groups : sequence, optional
        A label a value: whole groups are drawn, and the interval is widened for their small
        number, see :func:`.groups.expanded`.
    """
    # scipy.stats.bootstrap draws other samples from the same seed: committed intervals would move.
    values = np.asarray(values, dtype=np.float64)
    kept = np.isfinite(values)
    if not kept.any():
        return np.nan, np.nan
    numbers = np.unique(grouped.codes(groups, values.size)[kept], return_inverse=True)[1]
    sums, sizes = np.bincount(numbers, values[kept]), np.bincount(numbers)
    draws = np.random.default_rng(seed).integers(sizes.size, size=(samples, sizes.size))
    drawn = sums[draws].sum(axis=1) / sizes[draws].sum(axis=1)
    return central(drawn, level if groups is None else grouped.expanded(level, sizes.size))


def mean_intervals(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the mean of each metric and method over images, with its 95 % interval over their
    groups where these are known.

    Parameters
    ----------
    frame : DataFrame
        Rows with image, method, metric, value, and group where it is known.

    Returns
    -------
    DataFrame
        metric, method, value, low, high.
    """
    labels, rows = grouped.of(frame), []
    for (metric, method), part in frame.groupby(["metric", "method"], sort=False):
        low, high = interval(part["value"], groups=grouped.at(labels, part["image"]))
        rows.append((metric, method, part["value"].mean(), low, high))
    return pd.DataFrame(rows, columns=["metric", "method", "value", "low", "high"])


def central(samples: np.ndarray, level: float) -> tuple[float, float]:
    """Return the ends of the central part of samples that holds a share ``level`` of them."""
    low, high = np.quantile(samples, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def join_published(printed: pd.DataFrame, reproduced: pd.DataFrame) -> pd.DataFrame:
    """Join printed numbers with reproduced means.

    Parameters
    ----------
    printed : DataFrame
        From :func:`fusionlib.published.table`.
    reproduced : DataFrame
        Means in the same schema; several variants of a method give several rows for one printed
        number.

    Returns
    -------
    DataFrame
        dataset, method, metric, printed, variant, ours, n_images, difference (NaN unless the images
        match), verdict, note, refuted_by (the claim of the audit that the printed number breaks)
    """
    reproduced = rows(reproduced)
    lines = []
    for row in printed.itertuples(index=False):
        partners = reproduced[
            (reproduced["method"] == row.method) & (reproduced["metric"] == row.metric)
        ]
        if row.variant:
            partners = partners[partners["variant"] == row.variant]
        same = partners[_same_images(partners, row)]
        if partners.empty:
            lines.append(_line(row, note="no run has a row of this method", verdict="not run"))
        for partner in (partners if same.empty else same).itertuples(index=False):
            lines.append(_line(row, **_compare(row, partner, matches=len(same) > 0)))
    return pd.DataFrame(lines)


def _same_images(partners: pd.DataFrame, row) -> pd.Series:
    split = "" if pd.isna(row.split) else row.split
    return (
        (partners["dataset"] == row.dataset)
        & (partners["split"].fillna("") == split)
        & (partners["n_images"] == row.n_images)
    )


def _line(row, **values) -> dict:
    """Return one line of the join; a printed number that its own table refutes is not held against
    ours.
    """
    if row.refuted_by and values["verdict"] not in ("equal", "close", "not run"):
        values |= {"verdict": "contradiction", "difference": np.nan}
    line = {
        "dataset": row.dataset,
        "method": row.method,
        "metric": row.metric,
        "printed": row.printed,
        "variant": row.variant,
        "ours": np.nan,
        "n_images": 0,
        "difference": np.nan,
        "verdict": "",
        "note": "",
        "refuted_by": row.refuted_by,
    }
    return {**line, **values}


def _compare(row, partner, matches: bool) -> dict:
    """Return what a reproduced mean says of a printed number; ``matches``: on the same images."""
    values = {
        "variant": partner.variant,
        "ours": partner.value,
        "n_images": partner.n_images,
        "note": partner.status,
    }
    if not matches:
        where = f"{partner.dataset}, {partner.n_images:g} images"
        note = f"{where}; {partner.status}" if partner.status else where
        return {**values, "note": note, "verdict": "other images"}
    if not np.isfinite(partner.value):
        return {**values, "verdict": "not checkable"}
    if row.metric == "seconds":
        return {**values, "verdict": "other machine"}
    if str(partner.checkpoint).startswith(TRAINED):
        return values | _compare_trained(row, partner)
    # Compared as printed: a number printed with 4 decimals is met when ours rounds to it.
    rounded = round(float(partner.value), decimals(row.printed))
    difference = rounded - float(row.value)
    if partner.reference_kind == CONSTRUCTED:
        verdict = "approximate"
    elif abs(difference) < 0.5 * 10.0 ** -decimals(row.printed):
        verdict, difference = "equal", 0.0
    else:
        verdict = "close" if abs(difference) <= 0.01 * abs(float(row.value)) else "differs"
    return {**values, "difference": difference, "verdict": verdict}


def _compare_trained(row, partner) -> dict:
    """Return what the mean of several trainings says of a printed number: whether that one could be
    a further training.
    """
    printed = float(row.value)
    values = {"difference": round(float(partner.value), decimals(row.printed)) - printed}
    if not partner.trainings >= TRAININGS:
        return values | {"verdict": "too few trainings"}
    low, high = prediction_interval(partner.value, partner.between, int(partner.trainings))
    where = "lower" if printed < low else "higher" if printed > high else "inside"
    note = f"a further training: {low:.4f} to {high:.4f}, print is {where}; {partner.status}"
    verdict = "consistent" if where == "inside" else "not consistent"
    return values | {"note": note.removesuffix("; "), "verdict": verdict}


def select_for_table(frame: pd.DataFrame, printed: pd.DataFrame) -> pd.DataFrame:
    """Return means of ``frame`` to hold against a printed table.

    Rows whose ``printed_as`` names a data set of the table (checked by pixels where the rows were
    made) stand for that data set; without any, all rows of the multi-focus paper are averaged but
    those of :data:`AT_PRINTED`, against exact references where there are any, and their data set
    says which images they are. The data sets of MoE-Fusion stay apart, as they do in
    print; rows in another convention are left out.
    """
    if not len(frame):
        return rows(pd.DataFrame({"metric": [], "value": []}))
    paper, number = printed["paper"].iloc[0], printed["table"].iloc[0]
    of_paper = frame[frame["paper"] == paper]
    if paper == "moe-fusion":
        same_table = of_paper["table"] == number
        same_convention = of_paper["convention"] == printed["convention"].iloc[0]
        return mean(of_paper[same_table & same_convention])
    # One pair of this paper counts for two tables, so its rows name none.
    of_table = rows(of_paper[of_paper["table"].isin(["", number])])
    if "printed_as" in of_table:
        printed_images = of_table[of_table["printed_as"].isin(set(printed["dataset"]))]
        if len(printed_images):
            return mean(printed_images.assign(dataset=printed_images["printed_as"]))
    of_table = of_table[of_table["variant"] != AT_PRINTED]  # of other images than the other rows
    constructed = of_table["reference_kind"] == CONSTRUCTED
    has_exact = of_table["metric"].isin(
        of_table.loc[of_table["reference_kind"] == "exact", "metric"]
    )
    of_table = of_table[~(constructed & has_exact)]
    of_table = _over_seeds(of_table, [name for name in of_table if name not in AVERAGED])
    return mean(of_table.assign(dataset=" + ".join(dict.fromkeys(of_table["dataset"]))))


class Paired(NamedTuple):
    """How ``x`` differs from ``y`` over pairs: the mean of x - y, its bootstrap interval,
    Wilcoxon's p, and counts.

    ``n`` counts the pairs with both values, ``lower`` those with x < y, ``higher`` those with x >
    y. ``groups`` counts their groups, None where none is known and pairs are taken as independent;
    ``rate`` is the share of groups (of pairs) in which x is higher.
    """

    difference: float
    interval: tuple[float, float]
    p: float
    n: int
    lower: int
    higher: int
    groups: int | None = None
    rate: grouped.Rate = grouped.Rate(np.nan, np.nan, np.nan)

    def change(self, unit: str = "") -> str:
        """Return the difference with its interval in words, such as "+1.7 % (-0.2 to +3.5)"."""
        low, high = self.interval
        return f"{self.difference:+.3g}{unit} ({low:+.3g} to {high:+.3g})"

    def few(self) -> bool:
        """Return whether there are too few groups for a verdict."""
        return self.groups is not None and self.groups < grouped.FEWEST

    def equivalent(self, margin: float) -> bool:
        """Return whether the whole interval lies inside -margin..margin; not with a margin of 0."""
        low, high = self.interval
        return not self.few() and -margin < low and high < margin

    def verdict(self, level: float = 0.05, margin: float = 0.0) -> str:
        """Say "lower" or "higher" where interval and test agree, "undecided" where only one of them
        sees any; before that "equivalent" where all of the interval is below ``margin``.
        """
        if self.few():
            return grouped.TOO_FEW
        if self.equivalent(margin):
            return "equivalent"
        low, high = self.interval
        apart, significant = high < 0 or low > 0, self.p < level
        if apart and significant:
            return "lower" if high < 0 else "higher"
        return "undecided" if apart or significant else "no difference shown"


def paired(
    x: np.ndarray,
    y: np.ndarray,
    level: float = 0.95,
    samples: int = 2000,
    seed: int = 0,
    groups: Sequence[Hashable] | None = None,
) -> Paired:
    """Compare paired values: Wilcoxon's signed-rank test, two-sided, and a bootstrap interval of
    the mean difference.

    Parameters
    ----------
    x, y : (n,) arrays
        Pairs with a NaN are left out; equal pairs say nothing in the test (p = 1 where there are no
        others).
    groups : sequence, optional
        A label a pair: the test and the rate take the mean difference of each group, the interval
        draws whole groups.

    Raises
    ------
    ValueError
        Lengths differ.
    """
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if x.shape != y.shape or x.ndim != 1:
        raise ValueError(
            f"paired: expected two arrays of one length, got shapes {x.shape} and {y.shape}"
        )
    kept = np.isfinite(x) & np.isfinite(y)
    delta = (x - y)[kept]
    labels = None if groups is None else grouped.codes(groups, x.size)[kept].tolist()
    independent = grouped.means(delta, labels)
    p = float(stats.wilcoxon(independent).pvalue) if independent.any() else 1.0
    return Paired(
        difference=float(delta.mean()) if delta.size else np.nan,
        interval=interval(delta, level, samples, seed, labels),
        p=p,
        n=delta.size,
        lower=int((delta < 0).sum()),
        higher=int((delta > 0).sum()),
        groups=None if groups is None else independent.size,
        rate=grouped.win_rate(independent),
    )
