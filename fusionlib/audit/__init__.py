"""What the papers claim, recomputed from their own printed tables: ``audit() -> DataFrame``.

Sentences of the papers (``kind`` "claim") and conditions that we put to their tables
("consistency") are counted apart: a table that breaks a condition of ours refutes no sentence.

A check is a function ``(rows, claims) -> (id, verdict, evidence), ...``: ``rows`` are all printed
numbers of one paper, ``claims`` maps the ids of the claims it answers
(``data/published/claims.csv``, column ``check``) to what they say. The checks of each paper are in
:mod:`~fusionlib.audit.moe_fusion` and :mod:`~fusionlib.audit.multi_focus`.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from fusionlib import published
from fusionlib.audit import moe_fusion, multi_focus

VERDICTS = ("true", "false", "partly", "not checkable")
OPEN = {"run": "needs a run", "nothing": "cannot be settled"}  # where the tables say nothing
SPOKEN = {"claim": "claims of the paper", "consistency": "conditions of consistency of ours"}
CHECKS = {"moe-fusion": moe_fusion.CHECKS, "multi-focus": multi_focus.CHECKS}


# radon C: both papers, every claim: checked, not checkable, or a fault of the list
def audit(folder: str | Path = published.FOLDER) -> pd.DataFrame:
    """Return a row per claim, in the order of ``claims.csv``.

    Returns
    -------
    DataFrame with id, paper, where, claim, kind, settled_by, verdict (of :data:`VERDICTS`),
    evidence, note
        Evidence holds the computed numbers, or why there are none.

    Raises
    ------
    ValueError
        A claim names an unknown check, or a check does not answer exactly the claims that name it.
    """
    claims = published.claims(folder)
    tables = {paper: published.table(paper, "all", folder) for paper in published.PAPERS}
    answers = {row.id: ("not checkable", row.note) for row in claims.itertuples() if not row.check}
    for (paper, name), group in claims[claims["check"] != ""].groupby(["paper", "check"]):
        if name not in CHECKS[paper]:
            raise ValueError(
                f"claims.csv: expected a check among {', '.join(CHECKS[paper])}, got {name!r}"
            )
        claimed = {row.id: published.claimed(row.claimed) for row in group.itertuples()}
        answered = {
            id_: (verdict, evidence)
            for id_, verdict, evidence in CHECKS[paper][name](tables[paper], claimed)
        }
        if set(answered) != set(claimed):
            raise ValueError(
                f"claims.csv, check {name}: expected the claims {', '.join(answered)}, got"
                f" {', '.join(claimed)}"
            )
        answers |= answered
    frame = claims[["id", "paper", "where", "claim", "kind", "settled_by"]].copy()
    frame["verdict"] = [answers[id_][0] for id_ in frame["id"]]
    frame["evidence"] = [answers[id_][1] for id_ in frame["id"]]
    frame["note"] = claims["note"].where(claims["check"] != "", "")
    return frame


def counts(claims: pd.DataFrame) -> pd.DataFrame:
    """Count the rows of :func:`audit`: paper and kind x verdicts and :data:`OPEN`."""
    settled = claims["settled_by"] == "tables"
    verdict = claims["verdict"].where(settled, claims["settled_by"].map(OPEN))
    counted = pd.crosstab([claims["paper"], claims["kind"]], verdict)
    rows = pd.MultiIndex.from_product([published.PAPERS, published.KINDS], names=["paper", "kind"])
    return counted.reindex(index=rows, columns=[*VERDICTS[:3], *OPEN.values()], fill_value=0)


def in_words(claims: pd.DataFrame) -> list[str]:
    """Return a phrase for each paper and kind of :func:`counts`; what none is of is left out."""
    return [
        f"{paper}, {row.sum()} {SPOKEN[kind]}: "
        + ", ".join(f"{verdict} {count}" for verdict, count in row.items() if count)
        for (paper, kind), row in counts(claims).iterrows()
    ]


def refutations(rows: pd.DataFrame) -> list[str]:
    """Return, for each printed number of a paper, the id of the claim that refutes it.

    Parameters
    ----------
    rows : DataFrame
        From :func:`fusionlib.published.table` with "all".

    Returns
    -------
    list of str
        Column ``refuted_by``: "" where the number can stand beside others of its row.
    """
    refuted_by = pd.Series("", index=rows.index)
    for claim, metrics, impossible in multi_focus.contradictions(rows):
        is_impossible = pd.MultiIndex.from_frame(rows[["dataset", "method"]]).isin(impossible)
        refuted_by[is_impossible & rows["metric"].isin(metrics)] = claim
    return list(refuted_by)
