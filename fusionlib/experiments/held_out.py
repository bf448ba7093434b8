"""A trained MoE-Fusion on pairs it has not seen, beside what needs no learning: either source,
average, maximum.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from fusionlib import groups, images, losses, methods, metrics, ranking, results
from fusionlib.datasets import Pair, open_pairs
from fusionlib.training.config import TrainingConfig
from fusionlib.training.config import open_pairs as training_pairs
from fusionlib.training.model import Model

UNLEARNT = ("average", "maximum", "infrared", "visible")
METRICS = ("Qabf", "VIF", "AG")
GRADIENT, DISTANCE = "gradient loss", "distance to max(I, V) in boxes"
BETTER = dict.fromkeys(METRICS, "higher") | dict.fromkeys((GRADIENT, DISTANCE), "lower")


def pairs(
    settings: TrainingConfig,
    data: str = "",
    dataset: str = "",
    limit: int = 0,
    scene_size: tuple[int, int] | None = None,
) -> Sequence[Pair]:
    """Return pairs that a training with ``settings`` has not seen.

    Parameters
    ----------
    settings : TrainingConfig
    data : path
        Another folder of pairs to take instead; whether the training saw those is the caller's
        business.
    dataset : str
        What lies there, as for :func:`fusionlib.datasets.open_pairs`.
    limit : int
        How many, taken evenly; 0: all, or of generated scenes as many as the settings hold out.
    scene_size : (int, int), optional
        Of generated scenes, where not that of the settings.

    Raises
    ------
    ValueError
        The training held nothing out, or as :func:`fusionlib.datasets.open_pairs`.
    """
    trained = settings.data
    if data and (not trained.folder or Path(data).resolve() != Path(trained.folder).resolve()):
        return open_pairs(data, dataset, limit=limit, evenly=True)
    size = scene_size or trained.size if trained.generated else trained.size
    pairs = training_pairs(settings, held_out=True, limit=limit, evenly=True, size=size)
    if not len(pairs):
        raise ValueError("data: the training held out no pairs; name a folder of others")
    return pairs


def object_mask(pair: Pair) -> np.ndarray | None:
    """Return where the boxes of a pair lie, (H, W) bool; None where nobody looked for objects."""
    if pair.boxes is None:
        return None
    boxes = np.asarray(pair.boxes, dtype=np.float64).reshape(-1, 4)
    corners = torch.from_numpy(np.c_[boxes[:, :2], boxes[:, :2] + boxes[:, 2:]])
    return losses.box_mask([corners], torch.empty(1, 1, *pair.infrared.shape))[0, 0].numpy()


def score(model: Model, pairs: Iterable[Pair], name: str = "MoE-Fusion") -> pd.DataFrame:
    """Fuse pairs by a model and by :data:`UNLEARNT`, and measure what a training is for.

    Parameters
    ----------
    name : str
        How the model's rows are called.

    Returns
    -------
    DataFrame
        image, group, method, metric, value: :data:`METRICS` as in "moe-fusion", the gradient term
        of equation (5) of Cao et al. 2023 before alpha, and the mean |F - max(I, V)| inside the
        boxes in gray levels (NaN without boxes).
    """
    rows = []
    for pair in pairs:
        infrared, visible, mask = pair.infrared, images.luma(pair.visible), object_mask(pair)
        fused = {name: model.fuse(infrared, visible)}
        fused |= {other: methods.get(other).fuse(infrared, visible) for other in UNLEARNT}
        sources = _tensor(infrared), _tensor(visible)
        for method, image in fused.items():
            values = metrics.evaluate(image, infrared, visible, METRICS)
            values[GRADIENT] = float(losses.gradient_loss(_tensor(image), *sources))
            far = np.abs(image.astype(np.float64) - np.maximum(infrared, visible))
            values[DISTANCE] = (
                float(far[mask].mean()) if mask is not None and mask.any() else np.nan
            )
            head = pair.name, pair.group, method
            rows += [(*head, metric, float(value)) for metric, value in values.items()]
    return pd.DataFrame(rows, columns=["image", "group", "method", "metric", "value"])


def means(scores: pd.DataFrame) -> pd.DataFrame:
    """Return the means over the images of :func:`score`, a row a method, a column a metric, in
    their order.
    """
    table = scores.pivot_table(
        index="method", columns="metric", values="value", sort=False, dropna=False
    )
    return table.rename_axis(index=None, columns=None)


def compare_to_baselines(
    scores: pd.DataFrame, others: Sequence[str] = UNLEARNT[:2]
) -> pd.DataFrame:
    """Compare the first method of :func:`score` with others, pair by pair.

    Returns
    -------
    DataFrame
        metric, baseline, difference (mean of model - baseline), low, high (95 %), p (Wilcoxon),
        p_holm (over all rows), better (share of the pairs in which the model is), rate (the same
        of groups, with its interval, a :class:`.groups.Rate`), verdict: "better", "worse",
        "undecided" or "no difference shown", by p_holm and interval; "too few groups for a
        verdict".
    """
    first, labels, tests = scores["method"].iloc[0], groups.of(scores), {}
    wide = scores.pivot(index="image", columns=["metric", "method"], values="value")
    labels = groups.at(labels, wide.index)
    for metric in BETTER:
        for baseline in others:
            pair = wide[metric, first], wide[metric, baseline]
            tests[metric, baseline] = results.paired(*pair, groups=labels)
    rows = []
    for (metric, baseline), test in ranking.adjusted(tests).items():
        way, verdict = BETTER[metric], test.verdict()
        if verdict in ("higher", "lower"):
            verdict = "better" if verdict == way else "worse"
        rows.append(
            {
                "metric": metric,
                "baseline": baseline,
                "difference": test.difference,
                "low": test.interval[0],
                "high": test.interval[1],
                "p": tests[metric, baseline].p,
                "p_holm": test.p,
                "better": getattr(test, way) / max(test.n, 1),
                "rate": test.rate if way == "higher" else test.rate.turned(),
                "verdict": verdict,
            }
        )
    return pd.DataFrame(rows)


def attention(model: Model, pairs: Iterable[Pair]) -> pd.DataFrame:
    """Return the mean attention inside and outside the boxes.

    Returns
    -------
    DataFrame
        image, group, map ("infrared", "visible": those of the detectors; "Att": what the network
        makes of them), inside, outside; without the pairs that have no box.
    """
    rows = []
    for pair in pairs:
        mask = object_mask(pair)
        if mask is None or not mask.any() or mask.all():
            continue
        fusion, maps = model.predict_pair(pair.infrared, pair.visible, details=False)
        shown = {"infrared": maps[0, 0], "visible": maps[0, 1]}
        shown |= {} if fusion.attention is None else {"Att": fusion.attention[0, 0]}
        for name, values in shown.items():
            values = values.cpu().numpy()
            means = float(values[mask].mean()), float(values[~mask].mean())
            rows.append((pair.name, pair.group, name, *means))
    return pd.DataFrame(rows, columns=["image", "group", "map", "inside", "outside"])


def _tensor(image: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(image.astype(np.float32))[None, None] / 255
