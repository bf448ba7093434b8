"""Ablations and sweeps of MoE-Fusion: variants that differ in one thing, trained alike, scored
alike, compared in pairs.

What they have in common is a recipe, its pairs, and the detectors of one finished training, which
stay as they are and whose attention maps are computed once::

    common = share(checkpoint, epochs=8)
    trained, problems = train_all(common, TABLE_2, [0, 1, 2], folder)
    scores, more = score({key: method(path, *key) for key, path in trained.items()}, pairs, folder)
    differences(scores, FULL)

Source of the variants: table 2, figures 7 and 8 of Cao et al., ICCV 2023.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from torch import Tensor
from tqdm.auto import tqdm

from fusionlib import published, ranking, results, runs
from fusionlib.datasets.infrared_visible import Pair
from fusionlib.experiments import comparison, protocol
from fusionlib.methods import Method, get
from fusionlib.methods.learned import ARTEFACT, MOE_FUSION
from fusionlib.networks import MoEFusion
from fusionlib.networks.inspection import count_parameters_and_flops
from fusionlib.training import train
from fusionlib.training.model import attention_maps, load
from fusionlib.training.settings import Settings, open_pairs

Key = tuple[str, int]  # name of a variant, seed
# in the order of print; larger is better in all
METRICS = ("EN", "SF", "SD", "MI", "VIF", "AG", "SCD", "Qabf")
FULL = "full"
TABLE_2: dict[str, dict] = {
    "w/o MoLE": {"model": {"local": "none"}},
    "w/o MoGE": {"model": {"decoder": "single"}},
    "Att-Local": {"model": {"local": "attention"}},
    FULL: {},
}
# Not in the paper: "w/o MoGE" takes half the decoder's operations away with the choice; this one
# gives them back.
WIDE = "wide decoder"
EQUAL_OPERATIONS = {WIDE: {"model": {"decoder": "wide"}}}
FIGURE_7 = {
    f"E{n}K{k}": {"model": {"experts": n, "k": k}}
    for n, k in ((2, 2), (4, 2), (6, 2), (8, 2), (4, 1), (4, 3), (4, 4))
}
FIGURE_8 = {f"alpha {alpha}": {"alpha": float(alpha)} for alpha in (1, 5, 10, 20, 40)}


# ---- training ------------------------------------------------------------------------------------


class Common(NamedTuple):
    """What trainings have in common: a recipe, the pairs, and the attention maps of each (None
    without detectors).
    """

    settings: Settings
    pairs: Sequence[Pair]
    maps: list[Tensor] | None
    checksum: str


def share(checkpoint: str | os.PathLike = "", epochs: int = 0, device: str = "auto") -> Common:
    """Open what trainings with the recipe, the pairs and the detectors of an earlier one have in
    common.

    ASSUMPTION: how the paper trained its ablations is not said. Here the detectors of the full
    model's training are kept for all of them, so that nothing but the named part differs.

    Parameters
    ----------
    checkpoint : path
        Folder of a finished training, or one with such a folder ``model`` in it; "": the small
        model of the suite.
    epochs : int
        Of each training; 0 for as many as the earlier one had.

    Raises
    ------
    FileNotFoundError, ValueError
        No finished training there, or a damaged one.
    """
    folder = Path(checkpoint or runs.root() / ARTEFACT)
    folder = folder / "model" if (folder / "model").is_dir() else folder
    model = load(folder, device)
    checksum = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    detected = model.detectors is not None
    settings = replace(
        model.settings,
        epochs=epochs or model.settings.epochs,
        detector_epochs=0,
        imagenet="",
        detectors_from=str(folder) if detected else "",
        attention="frozen" if detected else "uniform",
    )
    pairs = open_pairs(settings)
    return Common(settings, pairs, attention_maps(model, pairs) if detected else None, checksum)


def changed(settings: Settings, change: Mapping, seed: int) -> Settings:
    """Return the settings of a variant: entries of ``change["model"]`` are single arguments of the
    network.
    """
    # Named even where they are the defaults, so that "full", "E4K2" and "alpha 10" are the same
    # settings.
    model = {"experts": 4, "k": 2} | settings.model | change.get("model", {})
    return replace(settings, **{**change, "model": model, "seed": seed})


def train_all(
    common: Common,
    variants: Mapping[str, Mapping],
    seeds: Iterable[int],
    folder: str | os.PathLike,
    *,
    device: str = "auto",
    progress: bool = True,
) -> tuple[dict[Key, Path], list[str]]:
    """Train each variant with each seed; the same settings under two names are trained once.

    Parameters
    ----------
    variants : {name: change}
        Such as :data:`TABLE_2`.
    folder : path
        Finished trainings below it, of the same detectors, are kept; interrupted ones go on.

    Returns
    -------
    dict, list of str
        ``{(variant, seed): folder of the training}``, and a sentence for each that failed; the
        others go on.
    """
    done: dict[str, Path | None] = {}
    trained, problems = {}, []
    asked = [(name, seed) for seed in seeds for name in variants]
    for name, seed in tqdm(asked, "variants", disable=not progress):
        settings = changed(common.settings, variants[name], seed)
        same = repr(settings)
        if same not in done:
            home = Path(folder) / common.checksum[:8] / slug(name, seed)
            try:
                train(
                    settings,
                    home,
                    common.pairs,
                    [],
                    device=device,
                    maps=common.maps,
                    progress=progress,
                )
            except (FloatingPointError, RuntimeError) as error:
                problems.append(f"{name}, seed {seed}: {error}")
                home = None
            done[same] = home
        if done[same] is not None:
            trained[name, seed] = done[same]
    return trained, problems


def cost(
    settings: Settings, variants: Mapping[str, Mapping], size: tuple[int, int]
) -> pd.DataFrame:
    """Return a row a variant: parameters (without gates, of gates) and operations of one image of
    ``size``.
    """
    rows = {}
    for name, change in variants.items():
        parts = count_parameters_and_flops(MoEFusion(**changed(settings, change, 0).model), *size)
        gates = sum(parameters for part, (parameters, _) in parts.items() if part.endswith("gate"))
        parameters, operations = np.sum(list(parts.values()), axis=0)
        rows[name] = {
            "parameters": int(parameters - gates),
            "of gates": int(gates),
            "operations (1e6)": operations / 1e6,
        }
    table = pd.DataFrame(rows).T
    return table.astype({"parameters": int, "of gates": int})


# ---- scoring -------------------------------------------------------------------------------------


def method(folder: str | os.PathLike, variant: str, seed: int, device: str = "auto") -> Method:
    """Return a training as a fusion method of this variant."""
    return replace(
        get(MOE_FUSION, checkpoint=str(folder), device=device), variant=f"{variant}, seed {seed}"
    )


def slug(variant: str, seed: int) -> str:
    """Return a folder's name for a variant and a seed."""
    return re.sub(r"[^\w.]+", "-", f"{variant.replace('/', '')} seed {seed}")


def score(
    chosen: Mapping[Key, Method],
    pairs: Sequence[Pair],
    folder: str | os.PathLike,
    convention: str = "moe-fusion",
    metrics: Sequence[str] = METRICS,
    processes: int = 1,
    progress: bool = True,
) -> tuple[pd.DataFrame, list[str]]:
    """Fuse pairs by each method into ``folder/fused/NAME/{gray,color}`` and score the gray images.

    Returns
    -------
    DataFrame, list of str
        variant, seed, image, metric, convention, value, reason; and a sentence for whatever is
        missing from it.
    """
    folder = Path(folder)
    sources = protocol.write_sources(pairs, folder / "sources")
    names = {slug(*key): key for key in chosen}
    status = comparison.fuse(
        {name: chosen[key] for name, key in names.items()},
        pairs,
        sources,
        folder / "fused",
        progress=progress,
    )
    done = [name for name in names if not status[name]]
    frame, problems = comparison.score(
        done, sources, folder / "fused", metrics, [convention], processes, progress
    )
    keys = pd.DataFrame(
        [names[name] for name in frame["method"]], columns=["variant", "seed"], index=frame.index
    )
    frame = pd.concat([keys, frame[["image", "metric", "convention", "value", "reason"]]], axis=1)
    return frame, [f"{name}: {said}" for name, said in status.items() if said] + [
        *sources.problems,
        *problems,
    ]


def differences(scores: pd.DataFrame, reference: str, level: float = 0.05) -> pd.DataFrame:
    """Compare each variant with one of them, image by image, after averaging the seeds of an image.

    Images are the sample of interval and test; they say what holds for these trained networks.
    Whether another training would say the same, only the seeds can tell, so a difference counts as
    shown if they all agree too.

    Returns
    -------
    DataFrame
        variant, metric, value (mean), difference (variant - reference), low, high (95 % bootstrap
        interval over images), p (Wilcoxon), p_holm (Holm, over all rows), images, agree (seeds
        whose difference has the same sign), seeds, verdict: "better" or "worse" where the adjusted
        test, the interval and all seeds say so, else "not shown". The reference has its row too,
        with difference 0.

    Raises
    ------
    ValueError
        The reference is none of the variants.
    """
    if reference not in set(scores["variant"]):
        raise ValueError(
            f"reference: expected one of {', '.join(dict.fromkeys(scores['variant']))}, got"
            f" {reference!r}"
        )
    rows = []
    for (variant, metric), part in scores.groupby(["variant", "metric"], sort=False):
        whole = scores[(scores["variant"] == reference) & (scores["metric"] == metric)]
        ours, theirs = (
            one.pivot(index="image", columns="seed", values="value") for one in (part, whole)
        )
        found = results.paired(*(one.mean(axis=1).reindex(theirs.index) for one in (ours, theirs)))
        per_seed = (ours - theirs).mean().dropna()  # seeds that both have
        agree = int((np.sign(per_seed) == np.sign(found.difference)).sum())
        rows.append(
            {
                "variant": variant,
                "metric": metric,
                "value": float(ours.mean(axis=1).mean()),
                "difference": found.difference,
                "low": found.interval[0],
                "high": found.interval[1],
                "p": found.p,
                "images": found.n,
                "agree": agree,
                "seeds": len(per_seed),
            }
        )
    table = pd.DataFrame(rows)
    others = table["variant"] != reference
    table["p_holm"] = 1.0
    table.loc[others, "p_holm"] = ranking.holm(table.loc[others, "p"])
    apart = (table["low"] > 0) | (table["high"] < 0)
    shown = others & apart & (table["p_holm"] < level) & (table["agree"] == table["seeds"])
    table["verdict"] = np.where(
        shown, np.where(table["difference"] > 0, "better", "worse"), "not shown"
    )
    return table


def counts(table: pd.DataFrame, reference: str) -> pd.DataFrame:
    """Count, for each variant in :func:`differences`, the metrics in which the reference is ahead
    of it or behind.

    Returns
    -------
    DataFrame indexed by variant
        ahead, behind (of the means), "behind in" (which metrics), "ahead, shown", "behind, shown".
    """
    rows = {}
    for variant, part in table[table["variant"] != reference].groupby("variant", sort=False):
        better = part[part["difference"] > 0]
        rows[variant] = {
            "ahead": int((part["difference"] < 0).sum()),
            "behind": len(better),
            "behind in": " ".join(better["metric"]),
            "ahead, shown": int((part["verdict"] == "worse").sum()),
            "behind, shown": int((part["verdict"] == "better").sum()),
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def claims_of_figures(experts: pd.DataFrame, alphas: pd.DataFrame) -> pd.DataFrame:
    """Set what the text says about figures 7 and 8 beside the same counts of a run.

    Parameters
    ----------
    experts, alphas : DataFrame
        :func:`counts` with references "E4K2" and "alpha 10".

    Returns
    -------
    DataFrame
        claim, setting, printed, here, shown: what is better, as stated, as the means have it, as
        far as it is shown.
    """
    rows = []
    for claim in published.claims().itertuples():
        said = published.claimed(claim.claimed) if claim.claimed else {}
        if claim.check == "figures" and said["figure"] == "7":
            row = experts.loc[claim.id.removeprefix("moe-").upper()]
            rows.append(
                {
                    "claim": claim.id,
                    "setting": row.name,
                    "printed": f"E4K2 ahead in {said['better']}",
                    "here": f"ahead in {row['ahead']}",
                    "shown": f"ahead in {row['ahead, shown']}",
                }
            )
        elif claim.check == "figures":
            above = "metrics" in said
            for name, row in alphas.iterrows():
                if (float(name.split()[1]) > 10) == above:
                    rows.append(
                        {
                            "claim": claim.id,
                            "setting": name,
                            "printed": (
                                f"better in {said['metrics']} only"
                                if above
                                else "not better in all 8"
                            ),
                            "here": f"better in {row['behind in'] or 'none'}",
                            "shown": f"better in {row['behind, shown']}",
                        }
                    )
    return pd.DataFrame(rows)
