"""What the experts of a trained MoE-Fusion do, over many pairs: figure 6 of Cao et al., ICCV 2023,
as numbers.

Figure 6 shows that foreground experts respond to the foreground and background experts to the
background. But their inputs are multiplied by Att and by 1 - Att before: any expert, trained or
not, is silent where its input is. So each expert's response is also measured on features that no
mask has touched, and that of the same expert as training found it, on the masked ones.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from scipy import stats
from torch import Tensor

from fusionlib import images, results
from fusionlib.datasets import scenes, survey
from fusionlib.datasets.infrared_visible import Pair
from fusionlib.experiments import held_out
from fusionlib.networks.compared.layers import inference
from fusionlib.networks.mixture import MixtureOfExperts
from fusionlib.networks.moe_fusion import MoEFusion, MoEFusionOutput
from fusionlib.training.model import Model

MASKED, UNMASKED, UNTRAINED = "masked, as it runs", "without the mask", "masked, before training"
MODALITIES = ("visible", "infrared")  # the order in which local experts read


class Use(NamedTuple):
    """What a model did with pairs.

    Attributes
    ----------
    gates : DataFrame
        A row for each pair and gate: image, condition, luminance (mean Y, gray levels), gate,
        ``expert 1`` ... (weights that sum to one), entropy (nats), "visible share" (weight of the
        experts on visible features; NaN for the global gate, whose experts read both), "one
        modality" (whether only one was served; NaN likewise).
    energies : DataFrame
        A row for each pair with boxes, local expert and way of asking: image, condition, ground,
        expert, reads, features, inside, outside (mean squared response per pixel), "ratio, dB" (NaN
        where either is zero).
    """

    gates: pd.DataFrame
    energies: pd.DataFrame


def conditions(pairs: Sequence[Pair], data: str = "") -> list[str]:
    """Return day, night and so on for each pair: what its annotation says, else its name, else "not
    stated".

    Parameters
    ----------
    data : path
        Folder of the pairs; "" for generated scenes, whose conditions take turns.
    """
    names = [pair.name for pair in pairs]
    stated = survey.conditions(data, names) if data else [survey.UNSTATED] * len(names)
    return [
        found if found != survey.UNSTATED else _condition_in(name)
        for name, found in zip(names, stated, strict=True)
    ]


def _condition_in(name: str) -> str:
    if found := re.fullmatch(r"scene-(\d+)", name):
        return scenes.CONDITIONS[int(found[1]) % len(scenes.CONDITIONS)]
    found = re.fullmatch(r"\d+([DN])", name)  # as MSRS names its images
    return {"D": "day", "N": "night"}[found[1]] if found else survey.UNSTATED


def examine(model: Model, pairs: Sequence[Pair], kinds: Sequence[str] | None = None) -> Use:
    """Run a model over pairs and note what its gates and its local experts do.

    Parameters
    ----------
    kinds : sequence of str, optional
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
    for pair, kind in zip(pairs, kinds or [survey.UNSTATED] * len(pairs), strict=True):
        fusion, _ = model.predict_pair(pair.infrared, pair.visible)
        head = {"image": pair.name, "condition": kind}
        gates += [
            head | {"luminance": float(images.luma(pair.visible).mean())} | row
            for row in _gate_rows(fusion)
        ]
        mask = held_out.inside(pair)
        if mask is not None and mask.any() and not mask.all():
            for features, grounds in responses(model, fusion).items():
                for ground, maps in grounds.items():
                    energies += [
                        head | {"ground": ground, "features": features} | row
                        for row in _energy_rows(maps, mask)
                    ]
    return Use(pd.DataFrame(gates), pd.DataFrame(energies))


def _mixtures(network: MoEFusion) -> dict[str, MixtureOfExperts]:
    return {
        name: part
        for name, part in network.local_mixtures.items()
        if isinstance(part, MixtureOfExperts)
    }


def _gate_rows(fusion: MoEFusionOutput) -> Iterable[dict]:
    alone = fusion.single_modality()
    for name, gate in fusion.gates.items():
        weights, local = gate[0].cpu(), name in alone
        yield {
            "gate": name,
            **{f"expert {i}": float(w) for i, w in enumerate(weights, 1)},
            "entropy": float(torch.special.entr(weights.double()).sum()),
            "visible share": float(weights.chunk(2)[0].sum()) if local else np.nan,
            "one modality": float(alone[name][0]) if local else np.nan,
        }


def _energy_rows(maps: np.ndarray, mask: np.ndarray) -> Iterable[dict]:
    for number, response in enumerate(maps.astype(np.float64) ** 2):
        here, there = float(response[mask].mean()), float(response[~mask].mean())
        yield {
            "expert": number + 1,
            "reads": MODALITIES[2 * number // len(maps)],
            "inside": here,
            "outside": there,
            "ratio, dB": 10 * np.log10(here / there) if here > 0 and there > 0 else np.nan,
        }


@inference
def responses(model: Model, fusion: MoEFusionOutput) -> dict[str, dict[str, np.ndarray]]:
    """Return how strongly each local expert responds at each pixel, asked in three ways.

    ASSUMPTION: figure 6 does not say what of an expert's channels it draws. A response is the root
    mean square over the channels of E(x) - E(0): what an expert says beyond what its biases say of
    an empty input.

    Parameters
    ----------
    fusion : MoEFusionOutput
        Of one pair, with details.

    Returns
    -------
    {way: {"foreground": (N, H, W), "background": (N, H, W)}}
        Ways are :data:`MASKED`, :data:`UNMASKED` and :data:`UNTRAINED`.
    """
    trained, start = (
        _mixtures(model.fusion),
        _mixtures(Model(model.settings, "uniform").to(fusion.fused.device).fusion),
    )
    width = model.fusion.config.width
    features = [fusion.dense_features[name][:, -width:] for name in MODALITIES]
    found: dict[str, dict[str, np.ndarray]] = {MASKED: {}, UNMASKED: {}, UNTRAINED: {}}
    for ground, mixture in trained.items():
        mask = fusion.attention if ground == "foreground" else 1 - fusion.attention
        masked = [x * mask for x in features]
        found[MASKED][ground] = _response(mixture, masked)
        found[UNMASKED][ground] = _response(mixture, features)
        found[UNTRAINED][ground] = _response(start[ground], masked)
    return found


def _response(mixture: MixtureOfExperts, features: Sequence[Tensor]) -> np.ndarray:
    outputs = mixture.every_output(features)
    outputs_of_nothing = mixture.every_output([torch.zeros_like(x) for x in features])
    return (outputs - outputs_of_nothing)[0].double().square().mean(dim=1).sqrt().cpu().numpy()


# ---- what many pairs say together ----------------------------------------------------------------


def specialised(energies: pd.DataFrame) -> pd.DataFrame:
    """Return for each expert how much more it responds inside boxes than outside, over pairs.

    Returns
    -------
    DataFrame
        features, ground, expert, reads, "ratio, dB" (mean over pairs), low, high (95 % bootstrap
        interval), n.
    """
    rows = []
    for keys, part in energies.groupby(["features", "ground", "expert", "reads"], sort=False):
        low, high = results.interval(part["ratio, dB"])
        rows.append([*keys, part["ratio, dB"].mean(), low, high, int(part["ratio, dB"].count())])
    return pd.DataFrame(
        rows, columns=["features", "ground", "expert", "reads", "ratio, dB", "low", "high", "n"]
    )


def learnt(energies: pd.DataFrame) -> pd.DataFrame:
    """Compare each expert with itself before training and, on features without mask, with the other
    ground's experts.

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
    reads = dict(zip(energies["expert"], energies["reads"], strict=True))
    grounds, rows = list(dict.fromkeys(energies["ground"])), []
    for ground in grounds:
        for expert, image in reads.items():
            gain = results.paired(wide[MASKED, ground, expert], wide[UNTRAINED, ground, expert])
            row = {
                "ground": ground,
                "expert": expert,
                "reads": image,
                "gain, dB": gain.difference,
                "gain low": gain.interval[0],
                "gain high": gain.interval[1],
            }
            for other in (name for name in grounds if name != ground):
                alike = [
                    wide[UNMASKED, other, number] for number, same in reads.items() if same == image
                ]
                more = results.paired(wide[UNMASKED, ground, expert], np.mean(alike, axis=0))
                row |= {
                    "preference, dB": more.difference,
                    "preference low": more.interval[0],
                    "preference high": more.interval[1],
                }
            rows.append(row)
    return pd.DataFrame(rows)


def verdicts(energies: pd.DataFrame) -> pd.DataFrame:
    """Count the experts of which a statement about their ground holds with its whole 95 % interval.

    Returns
    -------
    DataFrame
        Indexed by statement; a column a ground, "k of N".
    """
    ratios, more = specialised(energies), learnt(energies)
    say = {
        f"energy on its own side: {features}": ratios[ratios["features"] == features]
        for features in (MASKED, UNTRAINED, UNMASKED)
    }
    say |= {
        "training moved its energy to its own side": more.rename(
            columns={"gain low": "low", "gain high": "high"}
        ),
        "without the mask, more so than the other ground's experts": more.rename(
            columns={"preference low": "low", "preference high": "high"}
        ),
    }
    rows = {}
    for statement, table in say.items():
        holds = (table["low"] > 0).where(table["ground"] == "foreground", table["high"] < 0)
        rows[statement] = {
            ground: f"{int(part.sum())} of {len(part)}"
            for ground, part in holds.groupby(table["ground"], sort=False)
        }
    return pd.DataFrame(rows).T


def chosen(gates: pd.DataFrame) -> pd.DataFrame:
    """Return the share of pairs that each expert serves, by gate and condition, with the number of
    pairs.
    """
    experts = [column for column in gates if column.startswith("expert ")]
    served = gates[["gate", "condition"]].join(gates[experts] > 0)
    table = served.groupby(["gate", "condition"], sort=False)[experts].mean()
    return table.assign(pairs=served.groupby(["gate", "condition"], sort=False).size())


def trends(
    gates: pd.DataFrame, columns: Sequence[str] = ("visible share", "entropy")
) -> pd.DataFrame:
    """Say whether what the gates do follows the light.

    Returns
    -------
    DataFrame
        gate, what, lowest, highest, rho (Spearman's, against luminance), p, "p, conditions"
        (Kruskal-Wallis over the conditions), n; NaN where the values do not vary.
    """
    rows = []
    for name, part in gates.groupby("gate", sort=False):
        for what in columns:
            known = part.dropna(subset=what)
            if len(known):
                rows.append(
                    {
                        "gate": name,
                        "what": what,
                        "lowest": known[what].min(),
                        "highest": known[what].max(),
                        **_tests(known[what], known),
                        "n": len(known),
                    }
                )
    return pd.DataFrame(rows)


def _tests(values: pd.Series, frame: pd.DataFrame) -> Mapping[str, float]:
    rho = p = among = np.nan
    if len(values) > 2 and values.nunique() > 1 and frame["luminance"].nunique() > 1:
        rho, p = stats.spearmanr(frame["luminance"], values)
        groups = [group for _, group in values.groupby(frame["condition"])]
        among = stats.kruskal(*groups).pvalue if len(groups) > 1 else np.nan
    return {"rho": float(rho), "p": float(p), "p, conditions": float(among)}
