"""Ablations and sweeps of MoE-Fusion: variants that differ in one thing, trained alike, scored
alike, compared in pairs.

What they have in common is a recipe, its pairs, and the detectors of one finished training, which
stay as they are and whose attention maps are computed once::

    shared = prepare_shared(checkpoint, epochs=8)
    trained, problems = train_all(shared, TABLE_2, [0, 1, 2], folder)
    scores, more = score({key: method(path, *key) for key, path in trained.items()}, pairs, folder)
    differences(scores, FULL)

Source of the variants: table 2, figures 7 and 8 of Cao et al., ICCV 2023.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from scipy import stats
from torch import Tensor
from tqdm.auto import tqdm

from fusionlib import groups, losses, published, ranking, results
from fusionlib.datasets.infrared_visible import Pair
from fusionlib.experiments import comparison, protocol
from fusionlib.methods import Method, get
from fusionlib.methods.learned import ARTEFACT, MOE_FUSION
from fusionlib.networks import MoEFusion
from fusionlib.networks.inspection import count_parameters_and_flops
from fusionlib.training import distributed, train
from fusionlib.training.config import TrainingConfig, open_pairs
from fusionlib.training.model import attention_maps, load

Key = tuple[str, int]  # name of a variant, seed
# in the order of print; larger is better in all
METRICS = ("EN", "SF", "SD", "MI", "VIF", "AG", "SCD", "Qabf")
FULL = "full"
# Changes by their dotted names in a TrainingConfig.
TABLE_2: dict[str, dict] = {
    "w/o MoLE": {"network.local": "none"},
    "w/o MoGE": {"network.decoder": "single"},
    "Att-Local": {"network.local": "attention"},
    FULL: {},
}
# Not in the paper: "w/o MoGE" takes half the decoder's operations away with the choice; this one
# gives them back.
WIDE = "wide decoder"
EQUAL_OPERATIONS = {WIDE: {"network.decoder": "wide"}}
FIGURE_7 = {
    f"E{n}K{k}": {"network.experts": n, "network.k": k}
    for n, k in ((2, 2), (4, 2), (6, 2), (8, 2), (4, 1), (4, 3), (4, 4))
}
FIGURE_8 = {f"alpha {alpha}": {"optimization.alpha": float(alpha)} for alpha in (1, 5, 10, 20, 40)}
INDICATIVE, SHOWN = 3, 5  # trainings that a verdict needs, and one without reserve


# ---- training ------------------------------------------------------------------------------------


class SharedSetup(NamedTuple):
    """What trainings have in common: a recipe, the pairs, and the attention maps of each (None
    without detectors).
    """

    settings: TrainingConfig
    pairs: Sequence[Pair]
    maps: list[Tensor] | None
    checksum: str


def prepare_shared(
    checkpoint: str | os.PathLike = "",
    epochs: int = 0,
    device: str = "auto",
    precision: str = "",
    compile: bool = False,
) -> SharedSetup:
    """Open what trainings with the recipe, the pairs and the detectors of an earlier one have in
    common.

    ASSUMPTION: how the paper trained its ablations is not given. Here the detectors of the full
    model's training are kept for all of them, so that nothing but the named part differs.

    Parameters
    ----------
    checkpoint : path
        Folder of a finished training, or one with such a folder ``model`` in it; "": the small
        model of the suite.
    epochs : int
        Of each training; 0 for as many as the earlier one had.
    device : str
        "auto", "cpu" or "cuda", for the attention maps.
    precision : str
        Of each training; "" for that of the earlier one.
    compile : bool
        Compile the fusion networks.

    Raises
    ------
    FileNotFoundError, ValueError
        No finished training there, or a damaged one.
    """
    folder = Path(checkpoint or ARTEFACT)
    folder = folder / "model" if (folder / "model").is_dir() else folder
    model = load(folder, device)
    checksum = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    detected = model.detectors is not None
    changes = {
        "optimization.epochs": epochs or model.settings.optimization.epochs,
        "optimization.detector_epochs": 0,
        "detectors.imagenet": None,
        "detectors.checkpoint": str(folder) if detected else None,
        "detectors.attention": "frozen" if detected else "uniform",
        "run.precision": precision or model.settings.run.precision,
        "run.compile": compile,
    }
    settings = TrainingConfig.from_dict(changes, model.settings)
    pairs = open_pairs(settings)
    maps = attention_maps(model, pairs) if detected else None
    return SharedSetup(settings, pairs, maps, checksum)


def variant_settings(settings: TrainingConfig, change: Mapping, seed: int) -> TrainingConfig:
    """Return the settings of a variant; equal ones, such as "full", "E4K2" and "alpha 10", are
    equal keys.

    Parameters
    ----------
    settings : TrainingConfig
        Of the full model.
    change : mapping
        What the variant changes, as :meth:`TrainingConfig.from_dict` takes it.
    seed : int
    """
    return TrainingConfig.from_dict({**change, "run.seed": seed}, settings)


# radon C: variants x seeds, equal settings once, alone or in processes
def train_all(
    shared: SharedSetup,
    variants: Mapping[str, Mapping],
    seeds: Iterable[int],
    folder: str | os.PathLike,
    *,
    device: str = "auto",
    processes: int = 1,
    progress: bool = True,
) -> tuple[dict[Key, Path], list[str]]:
    """Train each variant with each seed; the same settings under two names are trained once.

    Parameters
    ----------
    shared : SharedSetup
    variants : {name: change}
        Such as :data:`TABLE_2`.
    seeds : iterable of int
    folder : path
        Finished trainings below it, of the same detectors, are kept; interrupted ones go on.
    device : str
        "auto", "cpu" or "cuda".
    processes : int
        Trainings at a time, one a GPU; 0 for as many as there are GPUs.
    progress : bool
        Show bars.

    Returns
    -------
    dict, list of str
        ``{(variant, seed): folder of the training}``, and a sentence for each that failed; the
        others go on.
    """
    settings_of = {}
    homes: dict[TrainingConfig, Path] = {}
    for key in ((name, seed) for seed in seeds for name in variants):
        settings = variant_settings(shared.settings, variants[key[0]], key[1])
        settings_of[key] = settings
        homes.setdefault(settings, Path(folder) / shared.checksum[:8] / slug(*key))
    size = distributed.count(processes, device)
    arrays = None if shared.maps is None else [pair.numpy() for pair in shared.maps]
    train_one = partial(_train_variant, shared.pairs, arrays, device, progress and size == 1)
    with contextlib.ExitStack() as stack:
        run = stack.enter_context(distributed.pool(size, device)).map if size > 1 else map
        bar = tqdm(run(train_one, homes.items()), "variants", len(homes), disable=not progress)
        errors = dict(zip(homes, bar, strict=True))
    trained = {key: homes[used] for key, used in settings_of.items() if not errors[used]}
    failed = {homes[used]: error for used, error in errors.items() if error}
    names = {homes[used]: key for key, used in reversed(settings_of.items())}
    problems = [f"{names[home][0]}, seed {names[home][1]}: {e}" for home, e in failed.items()]
    return trained, problems


def _train_variant(
    pairs: Sequence[Pair],
    arrays: list[np.ndarray] | None,
    device: str,
    progress: bool,
    task: tuple[TrainingConfig, Path],
) -> str:
    """Train one variant; return what went wrong, "" for nothing."""
    settings, home = task
    maps = None if arrays is None else [torch.from_numpy(array) for array in arrays]
    try:
        train(settings, home, pairs, [], device=device, maps=maps, progress=progress)
    except (FloatingPointError, RuntimeError) as error:
        return str(error) or type(error).__name__
    return ""


def cost(
    settings: TrainingConfig, variants: Mapping[str, Mapping], size: tuple[int, int]
) -> pd.DataFrame:
    """Return a row a variant: parameters (without gates, of gates) and operations of one image.

    Parameters
    ----------
    settings : TrainingConfig
        What the variants change.
    variants : {name: change}
        Such as :data:`TABLE_2`.
    size : (int, int)
        Height and width of the image.
    """
    rows = {}
    for name, change in variants.items():
        network = MoEFusion(**asdict(variant_settings(settings, change, 0).network))
        parts = count_parameters_and_flops(network, *size)
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
    """Return a training as a fusion method of this variant.

    Parameters
    ----------
    folder : path
        Of the training, or of the checkpoint that it reuses.
    variant : str
        Name that its rows carry.
    seed : int
    device : str
        "auto", "cpu" or "cuda".
    """
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

    Parameters
    ----------
    chosen : mapping of (variant, seed) to Method
    pairs : sequence of Pair
    folder : path
    convention : str
    metrics : sequence of str
    processes : int
        That score.
    progress : bool
        Show bars.

    Returns
    -------
    DataFrame, list of str
        variant, seed, image, group, metric, convention, value, reason; and a sentence for whatever
        is missing from it.
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
    kept = ["image", "group", "metric", "convention", "value", "reason"]
    frame = pd.concat([keys, frame[kept]], axis=1)
    return frame, [f"{name}: {reason}" for name, reason in status.items() if reason] + [
        *sources.problems,
        *problems,
    ]


def differences(
    scores: pd.DataFrame, baseline: str, level: float = 0.025, margin: float = 0.0
) -> pd.DataFrame:
    """Compare each variant with one of them; the trainings are the sample.

    Images only say what holds for these trained networks. Whether another training would say the
    same, the seeds tell: the test is Student's over the mean differences of the seeds, the interval
    a bootstrap over seeds, then images, or their groups where these are known.

    Parameters
    ----------
    scores : DataFrame
        From :func:`score`; without ``group`` images are taken as independent.
    baseline : str
        The variant that the others are compared with.
    level : float
        Of the adjusted test. ASSUMPTION: half of the usual 5 %, since nobody can check on so few
        trainings that their means are normal; false alarms then stay below 5 %.
    margin : float
        Share of the baseline's mean; 0: nothing is called equivalent.

    Returns
    -------
    DataFrame
        variant, metric, value (mean), difference (variant - baseline), low, high (95 % interval), p
        (Student's t), p_holm (Holm, over all rows), images, agree (seeds whose difference has the
        same sign), seeds, verdict. That is "better" or "worse" where adjusted test and interval say
        so over at least :data:`SHOWN` seeds, "indicative: better" or "indicative: worse" over
        fewer, else "not shown"; "equivalent" where the whole interval is inside the margin over
        :data:`SHOWN` seeds; below :data:`INDICATIVE` seeds "no verdict", and "too few groups for a
        verdict" of images. ``rate`` is the share of seeds with a variant ahead, a
        :class:`.groups.Rate`. The baseline has its row too, with difference 0.

    Raises
    ------
    ValueError
        The baseline is none of the variants.
    """
    if baseline not in set(scores["variant"]):
        raise ValueError(
            f"baseline: expected one of {', '.join(dict.fromkeys(scores['variant']))}, got"
            f" {baseline!r}"
        )
    labels, rows = groups.of(scores), []
    for (variant, metric), part in scores.groupby(["variant", "metric"], sort=False):
        control = scores[(scores["variant"] == baseline) & (scores["metric"] == metric)]
        theirs = control.pivot(index="image", columns="seed", values="value")
        ours = part.pivot(index="image", columns="seed", values="value")
        seeds = ours.columns.intersection(theirs.columns)
        delta = (ours[seeds] - theirs[seeds]).dropna()  # images that all have
        per_seed = delta.mean()
        difference = float(per_seed.mean())
        of_images = groups.at(labels, delta.index)
        low, high = hierarchical_interval(delta.to_numpy(), groups_of_images=of_images)
        rows.append(
            {
                "variant": variant,
                "metric": metric,
                "value": float(ours.mean(axis=1).mean()),
                "difference": difference,
                "low": low,
                "high": high,
                "p": student_p(per_seed.to_numpy()),
                "rate": groups.win_rate(per_seed.to_numpy()),
                "images": len(delta),
                "agree": int((np.sign(per_seed) == np.sign(difference)).sum()),
                "seeds": len(seeds),
                "margin": margin * float(theirs.stack().abs().mean()),
            }
        )
    few = labels is not None and labels.nunique() < groups.FEWEST
    return _judged(pd.DataFrame(rows), baseline, level, few)


def _judged(table: pd.DataFrame, baseline: str, level: float, few: bool) -> pd.DataFrame:
    """Add p_holm and the verdicts of :func:`differences`; ``few``: too few groups of images."""
    others = table["variant"] != baseline
    table["p_holm"] = 1.0
    table.loc[others, "p_holm"] = ranking.holm(table.loc[others, "p"])
    apart = (table["low"] > 0) | (table["high"] < 0)
    differs = others & apart & (table["p_holm"] < level)
    word = pd.Series(np.where(table["difference"] > 0, "better", "worse"), table.index)
    word = word.where(table["seeds"] >= SHOWN, "indicative: " + word)
    table["verdict"] = word.where(differs, "not shown")
    inside = (-table["margin"] < table["low"]) & (table["high"] < table.pop("margin"))
    table.loc[others & inside & (table["seeds"] >= SHOWN), "verdict"] = "equivalent"
    if few:
        table["verdict"] = groups.TOO_FEW
    table.loc[table["seeds"] < INDICATIVE, "verdict"] = "no verdict"
    return table


def student_p(values: np.ndarray) -> float:
    """Return the two-sided p of Student's test that the mean is 0; 1 for fewer than two values."""
    if len(values) < 2 or not values.any():
        return 1.0
    return float(stats.ttest_1samp(values, 0).pvalue)


def hierarchical_interval(
    delta: np.ndarray,
    level: float = 0.95,
    samples: int = 2000,
    seed: int = 0,
    groups_of_images: Sequence[Hashable] | None = None,
) -> tuple[float, float]:
    """Return the bootstrap interval of a mean over trainings and images: seeds are drawn with
    replacement, then images, or whole groups of them.

    Parameters
    ----------
    delta : (images, seeds) array
        Differences of a variant to the baseline.
    level, samples, seed
        As for :func:`.results.interval`.
    groups_of_images : sequence, optional
        A label an image; None: images are taken as independent.
    """
    images, seeds = delta.shape
    if not images or not seeds:
        return np.nan, np.nan
    numbers = groups.codes(groups_of_images, images)
    sizes = np.bincount(numbers)
    sums = np.zeros((len(sizes), seeds))
    np.add.at(sums, numbers, delta)
    generator = np.random.default_rng(seed)
    of_seeds = generator.multinomial(seeds, np.full(seeds, 1 / seeds), samples)
    of_groups = generator.multinomial(len(sizes), np.full(len(sizes), 1 / len(sizes)), samples)
    means = ((of_groups @ sums) * of_seeds).sum(axis=1) / (of_groups @ sizes * seeds)
    return results.central(means, level)


def counts(table: pd.DataFrame, baseline: str) -> pd.DataFrame:
    """Count, for each variant in :func:`differences`, the metrics in which the baseline is ahead
    of it or behind.

    Returns
    -------
    DataFrame indexed by variant
        ahead, behind (of the means), "behind in" (which metrics), "ahead, shown", "behind, shown".
    """
    rows = {}
    for variant, part in table[table["variant"] != baseline].groupby("variant", sort=False):
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
        :func:`counts` with baselines "E4K2" and "alpha 10".

    Returns
    -------
    DataFrame
        claim, setting, printed, here, shown: what is better, as stated, as the means have it, as
        far as it is shown.
    """
    rows = []
    for claim in published.claims().itertuples():
        stated = published.claimed(claim.claimed) if claim.claimed else {}
        if claim.check == "figures" and stated["figure"] == "7":
            row = experts.loc[claim.id.removeprefix("moe-").upper()]
            rows.append(
                {
                    "claim": claim.id,
                    "setting": row.name,
                    "printed": f"E4K2 ahead in {stated['better']}",
                    "here": f"ahead in {row['ahead']}",
                    "shown": f"ahead in {row['ahead, shown']}",
                }
            )
        elif claim.check == "figures":
            above = "metrics" in stated
            for name, row in alphas.iterrows():
                if (FIGURE_8[name]["optimization.alpha"] > losses.ALPHA) == above:
                    rows.append(
                        {
                            "claim": claim.id,
                            "setting": name,
                            "printed": (
                                f"better in {stated['metrics']} only"
                                if above
                                else "not better in all 8"
                            ),
                            "here": f"better in {row['behind in'] or 'none'}",
                            "shown": f"better in {row['behind, shown']}",
                        }
                    )
    return pd.DataFrame(rows)
