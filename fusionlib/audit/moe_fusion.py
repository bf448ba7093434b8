"""Claims of Cao et al. 2023 (MoE-Fusion) against their tables 1 to 3; in all their metrics larger
is better.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from fusionlib.audit.grids import (
    Answers,
    Claims,
    cells,
    entropy_deviation,
    listed,
    of,
    span,
    spoken,
    spread,
    yes,
)

OURS = "MoE-Fusion"
ORDINALS = ("first", "second", "third")
# ASSUMPTION: a decrease under 2 % is listed as small, because the ablation text says "significant"
# without a test.
SMALL = 0.02


def best_compared(rows: pd.DataFrame) -> pd.DataFrame:
    """Largest number of the compared methods in each column of table 1: datasets x metrics."""
    return cells(rows, "1").drop(OURS, level="method").groupby(level="dataset", sort=False).max()


def leads(rows: pd.DataFrame) -> pd.DataFrame:
    """Relative lead over the best compared method, negative where behind: datasets x metrics."""
    return cells(rows, "1").xs(OURS, level="method") / best_compared(rows) - 1


def column_ranks(rows: pd.DataFrame) -> pd.DataFrame:
    """Rank of the proposed model in each column of table 1, 1 = largest: datasets x metrics."""
    return (
        cells(rows, "1")
        .groupby(level="dataset")
        .rank(ascending=False, method="min")
        .xs(OURS, level="method")
    )


def changes(rows: pd.DataFrame, variant: str) -> pd.Series:
    """Relative change of each number of table 2 from the full model to ``variant``: (dataset,
    metric).
    """
    grid = cells(rows, "2", "variant")
    return (grid.xs(variant, level="variant") / grid.xs("full", level="variant") - 1).stack()


def single_modality(rows: pd.DataFrame, claims: Claims) -> Answers:
    ap = cells(rows, "3").droplevel("dataset")["mAP"]
    compared = ap.drop(["Visible", "Infrared", OURS])
    worse = compared < ap["Infrared"]
    yield (
        "moe-intro-single-modality",
        yes(worse.mean() > 0.5),
        (
            f"{worse.sum()} of {len(compared)} compared methods have an mAP below infrared alone"
            f" ({ap['Infrared']:.1f}; not below: {listed(compared[~worse], '.1f')}),"
            f" {(compared < ap['Visible']).sum()} below visible alone ({ap['Visible']:.1f})."
        ),
    )


def outperforms(rows: pd.DataFrame, claims: Claims) -> Answers:
    rank, detection = column_ranks(rows), cells(rows, "3").droplevel("dataset")
    first = (rank == 1).sum(axis=1)
    yield (
        "moe-outperforms",
        of(int(first.sum()), rank.size),
        (
            f"First in {first.sum()} of {rank.size} columns of table 1 ({listed(first, 'd')}) and"
            f" in {(detection.idxmax() == OURS).sum()} of {detection.shape[1]} columns of table 3."
        ),
    )


def ranks(rows: pd.DataFrame, claims: Claims) -> Answers:
    for id_, claim in claims.items():
        rank = column_ranks(rows).loc[claim["dataset"]]
        metrics = {name: list(rank.index[rank == k]) for k, name in enumerate(ORDINALS, start=1)}
        told = [int(claim[name]) for name in ORDINALS]
        right = told == [len(names) for names in metrics.values()]
        counts = "; ".join(
            f"{name} on {len(names)} ({' '.join(names) or '-'})" for name, names in metrics.items()
        )
        yield (
            id_,
            yes(right),
            (
                f"{counts}. The text says {told[0]}, {told[1]} and {told[2]}: {sum(told)} of"
                f" {len(rank)} metrics."
            ),
        )


def highest(rows: pd.DataFrame, claims: Claims) -> Answers:
    for id_, claim in claims.items():
        lead, names = leads(rows).loc[claim["dataset"]], claim["metrics"].split()
        others = lead.drop(names)
        first = int((lead[names] > 0).sum())
        close = "margin" in claim and first == len(names) and lead[names].min() <= others.max()
        yield (
            id_,
            "false" if close else of(first, len(names)),
            (
                f"First on {first} of {len(names)}; lead over the best compared method:"
                f" {listed(lead[names], '+.2%')}; on the other metrics {listed(others, '+.2%')}."
            ),
        )


def marks(rows: pd.DataFrame, claims: Claims) -> Answers:
    top = cells(rows, "1").groupby(level="dataset").rank(ascending=False) <= len(ORDINALS)
    marked = cells(rows, "1", values="rank").notna()
    right = (marked == top).groupby(level="dataset").all()
    yield (
        "moe-marks",
        of(int(right.sum().sum()), right.size),
        (
            f"The {marked.sum().sum()} bold numbers are the top three in {right.sum().sum()} of"
            f" {right.size} columns."
        ),
    )


def splits(rows: pd.DataFrame, claims: Claims) -> Answers:
    pairs = rows[rows["metric"] == "pairs"].pivot(index="dataset", columns="split", values="value")
    total = pairs["training"] + pairs["evaluation"]
    yield (
        "moe-splits",
        of(int((total == pairs["all"]).sum()), len(pairs)),
        (
            f"Sums of training and evaluation: {listed(total, '.0f')}; stated:"
            f" {listed(pairs['all'], '.0f')}."
        ),
    )


def full_model(rows: pd.DataFrame, claims: Claims) -> Answers:
    compared = cells(rows, "1").xs(OURS, level="method")
    full = cells(rows, "2", "variant").xs("full", level="variant")
    equal = (compared == full.loc[compared.index, compared.columns]).to_numpy()
    yield (
        "moe-table-2-full",
        of(int(equal.sum()), equal.size),
        f"{equal.sum()} of {equal.size} numbers are equal.",
    )


def removed(rows: pd.DataFrame, claims: Claims) -> Answers:
    for id_, claim in claims.items():
        change = changes(rows, claim["variant"])
        falls = int((change < 0).sum())
        small = change[(change < 0) & (change > -SMALL)].sort_values(ascending=False)
        yield (
            id_,
            "partly" if falls == len(change) and len(small) else of(falls, len(change)),
            (
                f"Lower in {falls} of {len(change)} cells, but by less than {SMALL:.0%} in"
                f" {len(small)}: {listed(small, '.2%')}."
            ),
        )


def attention(rows: pd.DataFrame, claims: Claims) -> Answers:
    grid = cells(rows, "2", "variant")
    local = grid.xs("Att-Local", level="variant")
    below = (local < grid.xs("full", level="variant")).stack()
    above = (local > grid.xs("w/o MoLE", level="variant")).stack()
    yield (
        "moe-att-below-full",
        of(int(below.sum()), len(below)),
        f"Below the full model in {below.sum()} of {len(below)}.",
    )
    yield (
        "moe-att-above-mole",
        yes(above.mean() > 0.5),
        (
            f"Above w/o MoLE in {above.sum()} of {len(above)}; not on "
            f"{', '.join(map(spoken, above.index[~above])) or 'none'}."
        ),
    )


def mole_needed(rows: pd.DataFrame, claims: Claims) -> Answers:
    without = cells(rows, "2", "variant").xs("w/o MoLE", level="variant").stack()
    compared = best_compared(rows).stack()[without.index]
    ahead = without > compared
    yield (
        "moe-mole-needed",
        yes(not ahead.any()),
        (
            f"w/o MoLE is still ahead of every compared method on {ahead.sum()} of {len(ahead)}: "
            f"{listed(without[ahead], '.4f')} (best compared: {listed(compared[ahead], '.4f')})."
        ),
    )


def ablation_sizes(rows: pd.DataFrame, claims: Claims) -> Answers:
    """Losses agree where the removals differ by less than a tenth of their mean, and are not
    themselves small.
    """
    grid, compared = cells(rows, "2", "variant"), cells(rows, "1").drop(OURS, level="method")
    parts = [name for name in grid.index.unique("variant") if name != "full"]
    loss = -pd.concat({name: changes(rows, name) for name in parts}, axis=1).loc[
        (slice(None), ["MI", "SD"]), :
    ]
    mean = loss.mean(axis=1)
    alike = (loss.max(axis=1) - loss.min(axis=1) < 0.1 * mean) & (mean > SMALL)
    sizes = "; ".join(f"{spoken(key)} {span(row, 1, ' %')}" for key, row in (100 * loss).iterrows())
    left = grid.loc["M3FD"].loc[parts, "MI"]
    yield (
        "moe-ablation-sizes",
        yes(not alike.any()),
        (
            f"Loss over the {len(parts)} removals: {sizes}. Alike on"
            f" {', '.join(map(spoken, loss.index[alike])) or 'none'}. On M3FD the MI left is"
            f" {span(left)}: {(left < compared.loc['M3FD', 'MI'].min()).sum()} of {len(parts)}"
            " variants below every compared method, the full model in place"
            f" {column_ranks(rows).loc['M3FD', 'MI']:.0f}."
        ),
    )


def deviation(rows: pd.DataFrame, claims: Claims) -> Answers:
    two = cells(rows, "2", "variant")
    grid = pd.concat([cells(rows, "1"), two])
    needed, limit = entropy_deviation(grid["EN"]), np.sqrt(255)
    enough, within = grid["SD"] >= needed, grid["SD"] <= limit
    yield (
        "moe-sd-definition",
        of(int(enough.sum()), len(grid)),
        (
            f"The printed entropies need a standard deviation of at least {span(needed, 1)}; the"
            f" printed SD are {span(grid['SD'])}, too small in {(~enough).sum()} of {len(grid)}"
            " rows."
        ),
    )
    yield (
        "moe-sd-saturated",
        of(int(within.sum()), len(grid)),
        (
            f"{within.sum()} of {len(grid)} SD ({len(grid) - len(two)} and {len(two)} in tables 1"
            f" and 2), {span(grid['SD'])}, keep the bound {limit:.2f}."
        ),
    )


def scales(rows: pd.DataFrame, claims: Claims) -> Answers:
    grid = cells(rows, "1")
    ratio = grid["AG"] / (grid["SF"] / np.sqrt(2))
    yield (
        "moe-sf-scale",
        yes((ratio <= 1).all()),
        (
            f"AG is {span(ratio, 0)} times SF / sqrt(2), which it cannot exceed on one scale; with"
            f" SF on 0..1 and AG on 0..255 the ratio is {span(ratio / 255)}."
        ),
    )


def average_precision(rows: pd.DataFrame, claims: Claims) -> Answers:
    grid, printed = cells(rows, "3").droplevel("dataset"), cells(rows, "3", values="printed")
    # All 48 numbers end in 0, so they carry one decimal. Rounding moves mean and mAP by half a step
    # each.
    step = 0.1 if printed.stack().str.endswith("0").all() else 0.01
    gap = (grid["mAP"] - grid.drop(columns="mAP").mean(axis=1)).abs()
    yield (
        "moe-map-mean",
        of(int((gap <= step).sum()), len(gap)),
        f"Largest gap {gap.max():.3f} ({gap.idxmax()}); rounding to {step} explains up to {step}.",
    )
    lead = grid.loc[OURS] - grid.drop(OURS).max()
    yield (
        "moe-detection-best",
        of(int((lead > 0).sum()), len(lead)),
        (
            f"First in {(lead > 0).sum()} of {len(lead)} columns; points ahead of the next row:"
            f" {listed(lead, '+.1f')}."
        ),
    )


def figures(rows: pd.DataFrame, claims: Claims) -> Answers:
    for id_, claim in claims.items():
        count = (rows["table"] == f"figure {claim['figure']}").sum()
        told = f"; the text counts {claim['better']} of 8 metrics" if "better" in claim else ""
        yield (
            id_,
            "not checkable",
            (
                f"Figure {claim['figure']} has {count} printed numbers{told}. A run of the same "
                "settings can only say what holds for that run."
            ),
        )


CHECKS = {
    check.__name__: check
    for check in (
        single_modality,
        outperforms,
        ranks,
        highest,
        marks,
        spread,
        splits,
        full_model,
        removed,
        attention,
        mole_needed,
        ablation_sizes,
        deviation,
        scales,
        average_precision,
        figures,
    )
}
