"""Usage and responses of experts over many pairs: figure 6 of Cao et al., ICCV 2023, as numbers.

Figure 6 shows that foreground experts respond to the foreground and background experts to the
background. But their inputs are multiplied by Att and by 1 - Att before: any expert, trained or
not, is silent where its input is. So each expert's response is also measured on features that no
mask has touched, and that of the same expert before training, on the masked ones.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, cast

import numpy as np
import pandas as pd
import torch
from scipy import stats
from torch import Tensor

from fusionlib import groups, images, results
from fusionlib.datasets import scenes, survey
from fusionlib.datasets.infrared_visible import Pair
from fusionlib.experiments import held_out
from fusionlib.networks.compared.layers import inference
from fusionlib.networks.mixture import MixtureOfExperts
from fusionlib.networks.moe_fusion import MoEFusion, MoEFusionOutput
from fusionlib.training.model import Model

MASKED, UNMASKED, UNTRAINED = "masked, as it runs", "without the mask", "masked, before training"
MODALITIES = ("visible", "infrared")  # the order in which local experts read


class ExpertUsage(NamedTuple):
    """Gate decisions and expert responses of a model over pairs.

    Attributes
    ----------
    gates : DataFrame
        A row for each pair and gate: image, group, condition, luminance (mean Y, gray levels),
        gate, ``expert 1`` ... (weights that sum to one), entropy (nats), "visible share" (weight of
        the experts on visible features; NaN for the global gate, whose experts read both), "one
        modality" (whether only one was served; NaN likewise).
    energies : DataFrame
        A row for each pair with boxes, local expert and kind of features: image, group, condition,
        ground, expert, reads, features, inside, outside (mean squared response per pixel),
        "ratio, dB" (NaN where either is zero).
    """

    gates: pd.DataFrame
    energies: pd.DataFrame


def conditions(pairs: Sequence[Pair], data: str = "") -> list[str]:
    """Return the condition of each pair ("day", "night") by annotation or name, or "not stated".

    Parameters
    ----------
    pairs : sequence of Pair
    data : path
        Folder of the pairs; "" for generated scenes, whose conditions take turns.
    """
    names = [pair.name for pair in pairs]
    stated = survey.conditions(data, names) if data else [survey.UNSTATED] * len(names)
    return [
        _condition_in(name) if condition == survey.UNSTATED else condition
        for name, condition in zip(names, stated, strict=True)
    ]


def _condition_in(name: str) -> str:
    if scene := re.fullmatch(r"scene-(\d+)", name):
        return scenes.CONDITIONS[int(scene[1]) % len(scenes.CONDITIONS)]
    if msrs := re.fullmatch(r"\d+([DN])", name):
        return {"D": "day", "N": "night"}[msrs[1]]
    return survey.UNSTATED


# radon C: pairs x kinds of features x grounds
def measure_usage(
    model: Model, pairs: Sequence[Pair], conditions: Sequence[str] | None = None
) -> ExpertUsage:
    """Run a model over pairs; measure gate decisions and responses of the local experts.

    Parameters
    ----------
    model : Model
    pairs : sequence of Pair
        Responses are measured where a pair has boxes.
    conditions : sequence of str, optional
        Condition of each pair.

    Raises
    ------
    ValueError
        The model has no local mixtures (``local="none"`` or "attention").
    """
    if not _mixtures(model.fusion):
        raise ValueError(
            f"model: expected local mixtures of experts, got local={model.fusion.config.local!r}"
        )
    gates, energies = [], []
    conditions = conditions or [survey.UNSTATED] * len(pairs)
    for pair, condition in zip(pairs, conditions, strict=True):
        fusion, _ = model.predict_pair(pair.infrared, pair.visible)
        head = {"image": pair.name, "group": pair.group, "condition": condition}
        luminance = {"luminance": float(images.luma(pair.visible).mean())}
        gates += [head | luminance | row for row in _gate_rows(fusion)]
        mask = held_out.object_mask(pair)
        if mask is not None and mask.any() and not mask.all():
            for features, grounds in responses(model, fusion).items():
                for ground, maps in grounds.items():
                    energies += [
                        head | {"ground": ground, "features": features} | row
                        for row in _energy_rows(maps, mask)
                    ]
    return ExpertUsage(pd.DataFrame(gates), pd.DataFrame(energies))


def _mixtures(network: MoEFusion) -> dict[str, MixtureOfExperts]:
    return {
        name: module
        for name, module in network.local_mixtures.items()
        if isinstance(module, MixtureOfExperts)
    }


def _gate_rows(fusion: MoEFusionOutput) -> Iterable[dict]:
    single = fusion.single_modality()
    for name, gate in fusion.gates.items():
        weights, is_local = gate[0].cpu(), name in single
        yield {
            "gate": name,
            **{f"expert {i}": float(w) for i, w in enumerate(weights, 1)},
            "entropy": float(torch.special.entr(weights.double()).sum()),
            "visible share": float(weights.chunk(2)[0].sum()) if is_local else np.nan,
            "one modality": float(single[name][0]) if is_local else np.nan,
        }


def _energy_rows(maps: np.ndarray, mask: np.ndarray) -> Iterable[dict]:
    for number, response in enumerate(maps.astype(np.float64) ** 2):
        inside, outside = float(response[mask].mean()), float(response[~mask].mean())
        ratio = np.nan
        if inside > 0 and outside > 0:
            ratio = 10 * np.log10(inside / outside)
        yield {
            "expert": number + 1,
            "reads": modalities(len(maps))[number],
            "inside": inside,
            "outside": outside,
            "ratio, dB": ratio,
        }


@inference
def responses(model: Model, fusion: MoEFusionOutput) -> dict[str, dict[str, np.ndarray]]:
    """Return the response of each local expert at each pixel, to three kinds of features.

    ASSUMPTION: figure 6 does not say what of an expert's channels it draws. A response is the root
    mean square over the channels of E(x) - E(0): the output beyond that for an input of zeros.

    Parameters
    ----------
    fusion : MoEFusionOutput
        Of one pair, with details.

    Returns
    -------
    {features: {"foreground": (N, H, W), "background": (N, H, W)}}
        The features are :data:`MASKED`, :data:`UNMASKED` and :data:`UNTRAINED`.
    """
    untrained = Model(model.settings, "uniform").to(fusion.fused.device)
    initial = _mixtures(untrained.fusion)
    width = model.fusion.config.width
    features = [fusion.dense_features[name][:, -width:] for name in MODALITIES]
    result: dict[str, dict[str, np.ndarray]] = {MASKED: {}, UNMASKED: {}, UNTRAINED: {}}
    for ground, mixture in _mixtures(model.fusion).items():
        mask = cast(Tensor, fusion.attention)  # local mixtures have it
        if ground == "background":
            mask = 1 - mask
        masked = [x * mask for x in features]
        result[MASKED][ground] = _response(mixture, masked)
        result[UNMASKED][ground] = _response(mixture, features)
        result[UNTRAINED][ground] = _response(initial[ground], masked)
    return result


def weighted_responses(
    model: Model, fusion: MoEFusionOutput
) -> dict[str, tuple[np.ndarray, list[float]]]:
    """Return the masked responses of the local experts (N, H, W) and their N gate weights, by
    ground, as figure 6 draws them.
    """
    maps = responses(model, fusion)[MASKED]
    return {ground: (maps[ground], fusion.gates[ground][0].tolist()) for ground in maps}


def modalities(count: int) -> list[str]:
    """Return what each of ``count`` local experts of a mixture reads, "visible" or "infrared"."""
    return [MODALITIES[2 * number // count] for number in range(count)]


def _response(mixture: MixtureOfExperts, features: Sequence[Tensor]) -> np.ndarray:
    outputs = mixture.every_output(features)
    outputs_for_zeros = mixture.every_output([torch.zeros_like(x) for x in features])
    return (outputs - outputs_for_zeros)[0].double().square().mean(dim=1).sqrt().cpu().numpy()


# ---- statistics over pairs, or over their groups where these are known --------------------------


def specialised(energies: pd.DataFrame) -> pd.DataFrame:
    """Return for each expert how much more it responds inside boxes than outside, over pairs.

    Returns
    -------
    DataFrame
        features, ground, expert, reads, "ratio, dB" (mean over pairs), low, high (95 % bootstrap
        interval), n.
    """
    labels, rows = groups.of(energies), []
    for keys, part in energies.groupby(["features", "ground", "expert", "reads"], sort=False):
        low, high = results.interval(part["ratio, dB"], groups=groups.at(labels, part["image"]))
        rows.append([*keys, part["ratio, dB"].mean(), low, high, int(part["ratio, dB"].count())])
    return pd.DataFrame(
        rows, columns=["features", "ground", "expert", "reads", "ratio, dB", "low", "high", "n"]
    )


def gain_over_untrained(energies: pd.DataFrame) -> pd.DataFrame:
    """Compare each expert with itself before training and with the other ground's experts.

    Returns
    -------
    DataFrame
        ground, expert, "gain, dB" (masked: trained - untrained, mean over pairs), "gain low", "gain
        high" (95 %), "preference, dB" (unmasked: ratio of this expert - mean of the other ground's
        experts that read the same image), "preference low", "preference high".
    """
    wide = energies.pivot(
        index="image", columns=["features", "ground", "expert"], values="ratio, dB"
    )
    labels = groups.at(groups.of(energies), wide.index)
    reads = dict(zip(energies["expert"], energies["reads"], strict=True))
    grounds, rows = list(dict.fromkeys(energies["ground"])), []
    for ground in grounds:
        for expert, modality in reads.items():
            ratios = wide[MASKED, ground, expert], wide[UNTRAINED, ground, expert]
            gain = results.paired(*ratios, groups=labels)
            row = {
                "ground": ground,
                "expert": expert,
                "reads": modality,
                "gain, dB": gain.difference,
                "gain low": gain.interval[0],
                "gain high": gain.interval[1],
            }
            for other in (name for name in grounds if name != ground):
                peers = [number for number, read in reads.items() if read == modality]
                others = np.mean([wide[UNMASKED, other, number] for number in peers], axis=0)
                ratios = wide[UNMASKED, ground, expert], others
                preference = results.paired(*ratios, groups=labels)
                row |= {
                    "preference, dB": preference.difference,
                    "preference low": preference.interval[0],
                    "preference high": preference.interval[1],
                }
            rows.append(row)
    return pd.DataFrame(rows)


def verdicts(energies: pd.DataFrame) -> pd.DataFrame:
    """Count the experts of which a statement about their ground holds with its whole 95 % interval.

    Returns
    -------
    DataFrame
        Indexed by statement; a column a ground, "k of N", or "too few groups for a verdict".
    """
    labels = groups.of(energies)
    few = labels is not None and labels.nunique() < groups.FEWEST
    ratios, gains = specialised(energies), gain_over_untrained(energies)
    tables = {
        f"energy on its own side: {features}": ratios[ratios["features"] == features]
        for features in (MASKED, UNTRAINED, UNMASKED)
    }
    tables |= {
        "training moved its energy to its own side": gains.rename(
            columns={"gain low": "low", "gain high": "high"}
        ),
        "without the mask, more so than the other ground's experts": gains.rename(
            columns={"preference low": "low", "preference high": "high"}
        ),
    }
    rows = {}
    for statement, table in tables.items():
        holds = (table["low"] > 0).where(table["ground"] == "foreground", table["high"] < 0)
        rows[statement] = {
            ground: groups.TOO_FEW if few else f"{int(experts.sum())} of {len(experts)}"
            for ground, experts in holds.groupby(table["ground"], sort=False)
        }
    return pd.DataFrame(rows).T


def chosen(gates: pd.DataFrame) -> pd.DataFrame:
    """Return the share of pairs that each expert serves by gate and condition, and their number."""
    experts = [column for column in gates if column.startswith("expert ")]
    served = gates[["gate", "condition"]].join(gates[experts] > 0)
    table = served.groupby(["gate", "condition"], sort=False)[experts].mean()
    return table.assign(pairs=served.groupby(["gate", "condition"], sort=False).size())


def trends(
    gates: pd.DataFrame, columns: Sequence[str] = ("visible share", "entropy")
) -> pd.DataFrame:
    """Test whether the gates' decisions depend on the luminance and on the condition.

    Parameters
    ----------
    gates : DataFrame
        As :class:`ExpertUsage` has it.
    columns : sequence of str
        The quantities to test.

    Returns
    -------
    DataFrame
        gate, what, lowest, highest, rho (Spearman's, against luminance), p, "p, conditions"
        (Kruskal-Wallis over the conditions), n (pairs or groups); NaN where the values do not vary.
    """
    rows = []
    for name, decisions in gates.groupby("gate", sort=False):
        for column in columns:
            defined = decisions.dropna(subset=column)
            if defined.empty:
                continue
            row = {"gate": name, "what": column}
            row |= {"lowest": defined[column].min(), "highest": defined[column].max()}
            independent = _independent(defined, column)
            row |= _tests(independent[column], independent)
            rows.append(row | {"n": len(independent)})
    return pd.DataFrame(rows)


def _independent(frame: pd.DataFrame, column: str) -> pd.DataFrame:
    """Return the means of each group under each condition; the pairs where no group is known."""
    labels = groups.of(frame)
    if labels is None:
        return frame
    keys = [labels.loc[frame["image"]].to_numpy(), frame["condition"].to_numpy()]
    means = frame[["luminance", column]].groupby(keys, sort=False).mean()
    return means.rename_axis(["group", "condition"]).reset_index()


def _tests(values: pd.Series, frame: pd.DataFrame) -> Mapping[str, float]:
    rho = p = among = np.nan
    if len(values) > 2 and values.nunique() > 1 and frame["luminance"].nunique() > 1:
        rho, p = stats.spearmanr(frame["luminance"], values)
        parts = [part for _, part in values.groupby(frame["condition"])]
        among = stats.kruskal(*parts).pvalue if len(parts) > 1 else np.nan
    return {"rho": float(rho), "p": float(p), "p, conditions": float(among)}
