"""The general model on sets that it was not chosen on: scores, ranks, lost pixels, goals.

    python -m benchmarks.general OUT [--rows "MoE-Fusion general" ...] [--sets tno ...] [--card]

Ten methods are ranked: average, maximum, LP, the six networks with official weights, and each of
``--rows`` in its turn. Fused images stay below OUT, so a further row costs only itself; OUT gets
``scores.csv`` (a line an image), ``lost.csv`` and ``summary.csv``. Needs the sets of ``make data``
and the official weights. ``--card`` writes the numbers of an earlier call into the model card, and
beside them a sheet of generated scenes.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from fusionlib import images, methods, published
from fusionlib.datasets import open_pairs
from fusionlib.experiments import comparison, model_quality, protocol

SETS = {"msrs": ("val", 20), "roadscene": ("val", 0), "tno": ("", 0), "llvip": ("test", 0)}
SETS |= {"m3fd": ("", 0)}
PEERS = ("average", "maximum", "LP", "DenseFuse", "DIDFuse", "AUIF", "IFCNN", "TarDAL", "YDTR")
CONVENTIONS = ("moe-fusion", "standard")
METRICS = list(dict.fromkeys(published.table("moe-fusion", 1)["metric"]))
RANKED = ("msrs", "roadscene", "tno", "llvip")  # whose mean rank is a goal
START, END = "<!-- numbers -->", "<!-- end -->"  # of the table in the card
SHOWN = ("MoE-Fusion scenes", "MoE-Fusion general", "LP")  # on generated scenes
TOLERANCE = 0.03  # of Qabf below LP's on a set


def evaluate(dataset: str, rows: list[str], out: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Fuse and score a set by all methods; return scores (a line an image) and lost pixels."""
    split, limit = SETS[dataset]
    pairs = open_pairs("", dataset, split, limit, evenly=True)
    home = out / dataset
    sources = protocol.write_sources(pairs, home / "sources")
    chosen = {name: comparison.get(name) for name in (*PEERS, *rows)}
    status = comparison.fuse(chosen, pairs, sources, home / "fused")
    if failed := [f"{name}: {reason}" for name, reason in status.items() if reason]:
        raise SystemExit("; ".join(failed))
    scores, _ = comparison.score(chosen, sources, home / "fused", METRICS, CONVENTIONS)
    lost = comparison.lost_pixels(chosen, sources, home / "fused")
    lost["extreme %"] = [extremes(home / "fused" / name / "gray", sources) for name in lost.index]
    return scores.assign(dataset=dataset), lost.assign(dataset=dataset)


def extremes(folder: Path, sources: protocol.Sources) -> float:
    """Return the mean share of black or white pixels beyond that of the sources, in percent."""
    files = [images.list_images(path) for path in (folder, *sources[:2])]
    triplets = ([images.read(paths[name]) for paths in files] for name in sources.names)
    shares = [model_quality.exposure.extreme_share(*triplet) for triplet in triplets]
    return 100 * sum(shares) / len(shares)


def mean_ranks(scores: pd.DataFrame, row: str) -> pd.DataFrame:
    """Return the mean rank over the metrics of ten methods, one of them ``row``: convention and
    data set by method.
    """
    ten = scores[scores["method"].isin((*PEERS, row))]
    keys = ["convention", "dataset", "method", "metric"]
    means = ten.groupby(keys, sort=False)["value"].mean().unstack("metric")
    ranks = means.groupby(level=[0, 1], sort=False).rank(ascending=False)
    return ranks.mean(axis=1).unstack("method")


def summarize(scores: pd.DataFrame, lost: pd.DataFrame, rows: list[str]) -> pd.DataFrame:
    """Return a line for each row and set: mean rank in both conventions, Qabf beside LP's, lost
    pixels.
    """
    lines = []
    qabf = scores[(scores["metric"] == "Qabf") & (scores["convention"] == "standard")]
    qabf = qabf.groupby(["dataset", "method"])["value"].mean()
    for row in rows:
        ranks = mean_ranks(scores, row)[row]
        for dataset in scores["dataset"].unique():
            line = {"row": row, "dataset": dataset}
            line |= {f"mean rank, {c}": ranks[c, dataset] for c in CONVENTIONS}
            line |= {"Qabf": qabf[dataset, row], "Qabf of LP": qabf[dataset, "LP"]}
            of_set = lost[lost["dataset"] == dataset]
            line |= of_set.loc[row].drop("dataset").to_dict()
            line["black % of LP"] = of_set.loc["LP", "black %"]
            lines.append(line)
    return pd.DataFrame(lines)


def goals(summary: pd.DataFrame, row: str) -> dict[str, bool]:
    """Return which goals a row reaches, by what they ask for."""
    line = summary[summary["row"] == row].set_index("dataset")
    reached = {}
    for convention in CONVENTIONS:
        rank = line.loc[[name for name in RANKED if name in line.index], f"mean rank, {convention}"]
        reached[f"mean rank {convention} {rank.mean():.2f}, at most 2.0"] = rank.mean() <= 2
    behind = line["Qabf of LP"] - line["Qabf"]
    reached[f"Qabf {-behind.mean():+.3f} beside LP, above 0"] = behind.mean() < 0
    reached[f"Qabf {-behind.max():+.3f} at worst, above -{TOLERANCE}"] = behind.max() <= TOLERANCE
    for share in ("clipped %", "extreme %"):
        reached[f"{share} {line[share].max():.2f} at most, 0.5 allowed"] = line[share].max() <= 0.5
    more = (line["black %"] - line["black % of LP"]).max()
    reached[f"black % {more:+.2f} beside LP at most, 0 allowed"] = more <= 0
    fuse = comparison.get(row).fuse
    curves = model_quality.responses(fuse)
    dents = model_quality.dents(curves)
    reached[f"dents {dents.round(1).to_dict()}, 0 allowed"] = (dents == 0).all()
    ends = curves.iloc[-1] / 255
    reached[f"f(0, 1) {ends['f(0, v)']:.2f}, at least .85"] = ends["f(0, v)"] >= 0.85
    reached[f"f(1, 1) {ends['f(x, x)']:.2f}, .95 to 1"] = ends["f(x, x)"] >= 0.95
    return reached


def write_card(out: Path) -> None:
    """Put the table of ``summary.csv`` between the marks of the card, and draw ``scenes.jpg``."""
    card = methods.OWN_WEIGHTS["general"] / "CARD.md"
    summary = pd.read_csv(out / "summary.csv")
    rows = ["| " + " | ".join(summary.columns) + " |", "| --- " * len(summary.columns) + "|"]
    for line in summary.itertuples(index=False):
        cells = (f"{value:.3f}" if isinstance(value, float) else value for value in line)
        rows.append("| " + " | ".join(cells) + " |")
    before, _, rest = card.read_text(encoding="utf-8").partition(START)
    images.write_text(card, "\n".join([before + START, *rows, END + rest.partition(END)[2]]))
    strips = []
    for pair in open_pairs("", limit=4, scene_size=(192, 256)):
        sources = pair.infrared, images.luma(pair.visible)
        fused = [comparison.get(name).fuse(*sources) for name in SHOWN]
        strips.append(np.hstack([*sources, *fused]))
    images.write(out / "scenes.jpg", np.vstack(strips))


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--rows", nargs="*", default=["MoE-Fusion general"])
    parser.add_argument("--sets", nargs="*", default=list(SETS), choices=list(SETS))
    parser.add_argument("--card", action="store_true")
    options = parser.parse_args()
    if options.card:
        write_card(options.out)
        return
    pd.set_option("display.width", 200, "display.max_columns", 20)
    parts = [evaluate(name, options.rows, options.out) for name in options.sets]
    scores, lost = (pd.concat(part) for part in zip(*parts, strict=True))
    scores.to_csv(options.out / "scores.csv", index=False)
    lost.to_csv(options.out / "lost.csv")
    summary = summarize(scores, lost, options.rows)
    summary.to_csv(options.out / "summary.csv", index=False)
    print(summary.round(3).to_string(index=False))
    for row in options.rows:
        print(row, mean_ranks(scores, row).round(2).T.to_string(), sep="\n")
        for goal, reached in goals(summary, row).items():
            print(f"  {'reached' if reached else 'MISSED'}: {goal}")


if __name__ == "__main__":
    main()
