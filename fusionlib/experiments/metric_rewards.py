"""What metrics reward: how they answer to damage, to copies, and how methods stand noise and shift.

A damage makes an image worse to anybody who looks at it; a metric that rises with it rewards it.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from PIL import Image
from scipy import ndimage

from fusionlib import groups, images, ranking, results, scoring
from fusionlib.datasets import Pair
from fusionlib.methods import Method

NAMES: tuple[str, ...] = ("EN", "SF", "SD", "MI", "VIF", "AG", "SCD", "Qabf", "SSIM")
NAMES += ("EI", "CE", "Qcb", "Qcv", "Qy", "Nabf", "VIFF", "MS-SSIM")
UNDAMAGED = "undamaged"
WHERE = ("fused", "infrared", "visible")


class Damage(NamedTuple):
    """A way to spoil an image: the function (image, strength, random) and its strengths, rising."""

    function: Callable[[np.ndarray, float, np.random.Generator], np.ndarray]
    strengths: tuple[float, ...]
    unit: str


def _noise(image: np.ndarray, sigma: float, random: np.random.Generator) -> np.ndarray:
    return images.to_uint8(image + random.normal(0, sigma, image.shape))


def _blur(image: np.ndarray, sigma: float, random: np.random.Generator) -> np.ndarray:
    return images.to_uint8(ndimage.gaussian_filter(image.astype(float), sigma))


def _jpeg(image: np.ndarray, loss: float, random: np.random.Generator) -> np.ndarray:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "JPEG", quality=int(100 - loss))
    return np.asarray(Image.open(stream))


def _darkening(image: np.ndarray, share: float, random: np.random.Generator) -> np.ndarray:
    return images.to_uint8((1 - share) * image.astype(float))


def _contrast(image: np.ndarray, gain: float, random: np.random.Generator) -> np.ndarray:
    mean = image.mean()
    return images.to_uint8(mean + gain * (image - mean))


def _halo(image: np.ndarray, amount: float, random: np.random.Generator) -> np.ndarray:
    smooth = ndimage.gaussian_filter(image.astype(float), 3)
    return images.to_uint8(image + amount * (image - smooth))


def shifted(image: np.ndarray, pixels: float, random: np.random.Generator) -> np.ndarray:
    """Return the image moved right by whole pixels, its left column repeated."""
    count = int(pixels)
    return np.pad(image, ((0, 0), (count, 0)), mode="edge")[:, : image.shape[1]]


DAMAGES = {
    "noise": Damage(_noise, (5, 10, 20), "sigma, gray levels"),
    "blur": Damage(_blur, (0.7, 1.5, 3), "sigma, pixels"),
    "JPEG": Damage(_jpeg, (50, 80, 95), "100 - quality"),
    "darkening": Damage(_darkening, (0.2, 0.4, 0.6), "share taken"),
    "over-contrast": Damage(_contrast, (1.3, 1.7, 2.5), "gain"),
    "halo": Damage(_halo, (0.5, 1, 2), "amount"),
    "shift": Damage(shifted, (1, 2, 4), "pixels"),
}


def course(
    pairs: Iterable[Pair],
    method: Method,
    damaged: str = "fused",
    names: Sequence[str] = NAMES,
    convention: str = "standard",
    seed: int = 0,
) -> pd.DataFrame:
    """Score the fused image of each pair under each damage at each strength.

    Parameters
    ----------
    pairs : iterable of Pair
    method : Method
    damaged : "fused", "infrared" or "visible"
        What is damaged: the fused image, or a source before it is fused; an evaluator is then given
        the damaged source, as it would be.
    names, convention
        As for :func:`fusionlib.scoring.score_images`.
    seed : int
        Of the noise, together with the number of the pair.

    Returns
    -------
    DataFrame
        damage, strength (0: undamaged, a row a damage), image, group, metric, value.

    Raises
    ------
    ValueError
        Another word in ``damaged``.
    """
    if damaged not in WHERE:
        raise ValueError(f"damaged: expected one of {', '.join(WHERE)}, got {damaged!r}")
    items, group_of = [], getattr(pairs, "groups", {})
    for number, pair in enumerate(pairs):
        plain = {"infrared": pair.infrared, "visible": images.luma(pair.visible)}
        fused = method.fuse(*plain.values())
        items.append(((UNDAMAGED, 0.0, pair.name), fused, *plain.values(), None))
        for name, damage in DAMAGES.items():
            for strength in damage.strengths:
                random = np.random.default_rng([seed, number])
                sources, result = dict(plain), fused
                if damaged == "fused":
                    result = damage.function(fused, strength, random)
                else:
                    sources[damaged] = damage.function(plain[damaged], strength, random)
                    result = method.fuse(*sources.values())
                items.append(((name, strength, pair.name), result, *sources.values(), None))
    frame = scoring.score_images(items, convention, names)
    frame[["damage", "strength", "image"]] = frame["image"].tolist()
    frame["group"] = frame["image"].map(dict(group_of)).fillna("")
    zero = frame[frame["damage"] == UNDAMAGED]
    starts = [zero.assign(damage=name) for name in DAMAGES]
    columns = ["damage", "strength", "image", "group", "metric", "value"]
    courses = pd.concat([*starts, frame[frame["damage"] != UNDAMAGED]])
    return courses[columns].reset_index(drop=True)


def rewards(courses: pd.DataFrame, spread: pd.Series, step: int = -1) -> pd.DataFrame:
    """Test whether a metric calls the damaged image better than the undamaged one.

    Parameters
    ----------
    courses : DataFrame
        Of :func:`course`.
    spread : Series
        Of each metric, by how much methods differ (:func:`spread`).
    step : int
        Which strength of each damage.

    Returns
    -------
    DataFrame
        metric (those whose spread is a number above 0), damage, change (mean, positive is called
        better, in units of ``spread``), low, high (95 %), p (Wilcoxon, Holm over the table), n,
        verdict: "rewards", "punishes" or "undecided".
    """
    tests = {}
    measured = courses[courses["metric"].isin(spread.index[spread > 0])]
    for (metric, damage), part in measured.groupby(["metric", "damage"], sort=False):
        wide = part.pivot(index="image", columns="strength", values="value")
        sign = 1 if ranking.larger_is_better(str(metric)) else -1
        labels = groups.at(groups.of(part.drop_duplicates("image")), wide.index)
        before, after = wide.iloc[:, 0], wide.iloc[:, step]
        tests[metric, damage] = results.paired(sign * after, sign * before, groups=labels)
    words = {"higher": "rewards", "lower": "punishes"}
    rows = []
    for (metric, damage), test in ranking.adjusted(tests).items():
        unit = spread[metric]
        low, high = test.interval
        rows.append(
            {
                "metric": metric,
                "damage": damage,
                "change": test.difference / unit,
                "low": low / unit,
                "high": high / unit,
                "p": test.p,
                "n": test.n,
                "verdict": words.get(test.verdict(), "undecided"),
            }
        )
    columns = ["metric", "damage", "change", "low", "high", "p", "n", "verdict"]
    return pd.DataFrame(rows, columns=columns)


def relative(courses: pd.DataFrame, spread: pd.Series) -> pd.DataFrame:
    """Return the mean change of each metric at each step of each damage.

    Parameters
    ----------
    courses, spread
        As for :func:`rewards`.

    Returns
    -------
    DataFrame
        metric, damage, step (0: undamaged), change (positive is called better, in units of
        ``spread``).
    """
    keys = ["metric", "damage", "image"]
    moved = courses[courses["metric"].isin(spread.index[spread > 0])].copy()
    start = moved[moved["strength"] == 0].set_index(keys)["value"].rename("start")
    moved = moved.join(start, on=keys)
    sign = np.where(moved["metric"].map(ranking.larger_is_better), 1, -1)
    moved["change"] = sign * (moved["value"] - moved["start"]) / moved["metric"].map(spread)
    moved["step"] = moved.groupby("damage")["strength"].rank("dense").astype(int) - 1
    means = moved.groupby(["metric", "damage", "step"], sort=False)["change"].mean()
    return means.reset_index()


def compare(
    pairs: Iterable[Pair],
    methods: Mapping[str, Method],
    names: Sequence[str] = NAMES,
    convention: str = "standard",
) -> pd.DataFrame:
    """Score the fused images of methods: method, image, group, metric, value."""
    items, group_of = [], getattr(pairs, "groups", {})
    for pair in pairs:
        sources = pair.infrared, images.luma(pair.visible)
        for name, method in methods.items():
            items.append(((name, pair.name), method.fuse(*sources), *sources, None))
    frame = scoring.score_images(items, convention, names)
    frame[["method", "image"]] = frame["image"].tolist()
    frame["group"] = frame["image"].map(dict(group_of)).fillna("")
    return frame[["method", "image", "group", "metric", "value"]]


def spread(scores: pd.DataFrame) -> pd.Series:
    """Return by how much methods differ in each metric: the standard deviation over the methods of
    :func:`compare`, mean over the images.
    """
    wide = scores.pivot(index=["metric", "image"], columns="method", values="value")
    return wide.std(axis=1).groupby(level="metric", sort=False).mean()


def won_by_copies(scores: pd.DataFrame, copies: Sequence[str]) -> pd.DataFrame:
    """Count the images on which a copy of a source is called better than every fusion.

    Parameters
    ----------
    scores : DataFrame
        Of :func:`compare`, copies among the methods.
    copies : sequence of str

    Returns
    -------
    DataFrame indexed by metric
        share (of groups, of images where none is known), low, high (95 %, Wilson), n.
    """
    rows = {}
    for metric, part in scores.groupby("metric", sort=False):
        sign = 1 if ranking.larger_is_better(str(metric)) else -1
        wide = sign * part.pivot(index="image", columns="method", values="value")
        lead = wide[list(copies)].max(axis=1) - wide.drop(columns=list(copies)).max(axis=1)
        lead = lead.dropna()
        labels = groups.at(groups.of(part.drop_duplicates("image")), lead.index)
        rate = groups.win_rate(groups.means(np.sign(lead.to_numpy()), labels))
        rows[metric] = {"share": rate.value, "low": rate.low, "high": rate.high, "n": len(lead)}
    return pd.DataFrame.from_dict(rows, orient="index")


def robustness(
    pairs: Sequence[Pair], methods: Mapping[str, Method], damage: str, strengths: Sequence[float]
) -> pd.DataFrame:
    """Measure how far a damaged infrared image moves what a method makes of a pair.

    Parameters
    ----------
    pairs : sequence of Pair
    methods : {name: Method}
    damage : str
        Of :data:`DAMAGES`.
    strengths : sequence of float

    Returns
    -------
    DataFrame
        method, strength, image, RMSE to the method's own image of the undamaged pair, gray levels.
    """
    rows = []
    for number, pair in enumerate(pairs):
        infrared, visible = pair.infrared, images.luma(pair.visible)
        for name, method in methods.items():
            clean = method.fuse(infrared, visible).astype(float)
            for strength in strengths:
                random = np.random.default_rng([0, number])
                spoilt = DAMAGES[damage].function(infrared, strength, random)
                error = np.sqrt(((method.fuse(spoilt, visible) - clean) ** 2).mean())
                row = {"method": name, "strength": strength, "image": pair.name}
                rows.append(row | {"RMSE": error})
    return pd.DataFrame(rows)
