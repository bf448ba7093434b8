"""Figures of a trained MoE-Fusion, from arrays and frames: training, scores, experts."""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn

from fusionlib.figures import COLOURS, WIDTH
from fusionlib.figures.moe import CLASS_COLOURS, INFRARED, SOURCE_COLOURS, VISIBLE, _bare, add_boxes
from fusionlib.results import interval

GATES = ("foreground", "background", "global")
# between the title and the curves
LEGEND: dict[str, Any] = {
    "fontsize": 8,
    "loc": "lower center",
    "bbox_to_anchor": (0.5, 0.98),
    "ncols": 4,
    "handlelength": 1.0,
    "handletextpad": 0.3,
    "columnspacing": 0.7,
    "borderpad": 0.2,
}
CONDITION_COLOURS = {"day": COLOURS[4], "dusk": COLOURS[3], "night": "0.15", "smoke": COLOURS[2]}


# ---- training ------------------------------------------------------------------------------------


# radon C: panels for the terms that a log may have or lack
def training(log: pd.DataFrame, alpha: float) -> plt.Figure:
    """Draw the log of a training: losses, box AP, gates, load of every expert; a point an epoch.

    Parameters
    ----------
    log : DataFrame
        As ``log.csv`` of :func:`fusionlib.training.train` holds it; epochs of the detectors alone
        are shaded.
    alpha : float
        Weight of the gradient term, which is drawn as it enters the loss.
    """
    figure, axes = plt.subplots(2, 4, figsize=(WIDTH, 5.4), sharex=True)
    losses = {"pixel": "pixel", "gradient": f"{alpha:g} gradient", "load": "load"}
    scaled = log.assign(gradient=alpha * log["gradient"]) if "gradient" in log else log
    modalities = ("infrared", "visible")
    loads = [_columns(log, f"{gate}_load_{{}}", range(99)) for gate in GATES]
    panels = {
        "terms of the fusion loss": {losses[n]: scaled[n] for n in losses if n in log},
        "detection loss": _columns(log, "detection_{}", modalities),
        "box mAP, held-out pairs": _columns(log, "ap_{}", modalities),
        "weight of visible experts": _columns(log, "{}_visible", GATES[:2]),
        **{f"{gate} gate: share of samples": n for gate, n in zip(GATES, loads, strict=True)},
        "entropy of the gates, nats": _columns(log, "{}_entropy", GATES),
    }
    phases = log["phase"] if "phase" in log else pd.Series("", index=log.index)
    detectors_alone = log["epoch"][phases == "detectors"]
    for axis, (title, lines) in zip(axes.flat, panels.items(), strict=True):
        axis.set_title(title, pad=20)
        _lines(axis, log["epoch"], lines)
        if len(detectors_alone):
            axis.axvspan(0.5, detectors_alone.max() + 0.5, color="0.93", zorder=0)
        axis.set_xlim(0.5, len(log) + 0.5)
        axis.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(6, integer=True))
    axes[0, 0].set_yscale("log")
    for axis in (axes[0, 3], *axes[1, :3]):
        axis.set_ylim(-0.03, 1.03)
    for axis in (axes[0, 1], axes[0, 2], axes[1, 3]):
        axis.set_ylim(bottom=0)
    shading = " (shaded: the detectors alone)" if len(detectors_alone) else ""
    figure.supxlabel(f"epoch{shading}", fontsize=9)
    return figure


def _lines(axis: plt.Axes, epochs: pd.Series, lines: Mapping[str, pd.Series]) -> None:
    """Draw named values over the epochs, as far as they are defined, with a legend."""
    for free, marker, (name, values) in zip(COLOURS, "oxs^d*", lines.items(), strict=False):
        colour = {"infrared": INFRARED, "visible": VISIBLE}.get(name, free)
        defined = values.notna()
        style: dict[str, Any] = {"ms": 2.5, "lw": 0.8, "mfc": "none", "label": name}
        axis.plot(epochs[defined], values[defined], marker + "-", color=colour, **style)
    if lines:
        axis.legend(**LEGEND)
    else:
        axis.text(0.5, 0.5, "none", transform=axis.transAxes, ha="center", color="0.5")


def _columns(log: pd.DataFrame, pattern: str, names: Sequence) -> dict[str, pd.Series]:
    """Return the columns of the log by name as far as it has them, experts counted from 1."""
    return {
        f"E{name + 1}" if isinstance(name, int) else name: log[pattern.format(name)]
        for name in names
        if pattern.format(name) in log
    }


def rows(scores: pd.DataFrame, better: Mapping[str, str]) -> plt.Figure:
    """Draw values of methods: a dot an image, a bar at the mean with its 95 % interval.

    Parameters
    ----------
    scores : DataFrame with the columns image, method, metric, value
        The first method is in colour.
    better : {metric: "higher" or "lower"}
    """
    methods = list(dict.fromkeys(scores["method"]))[::-1]
    figure, axes = plt.subplots(
        1,
        len(better),
        figsize=(min(2.2 * len(better) + 0.9, WIDTH), 0.3 * len(methods) + 1.1),
        sharey=True,
        squeeze=False,
    )
    for axis, (metric, direction) in zip(axes.flat, better.items(), strict=True):
        of_metric = scores[scores["metric"] == metric]
        for y, method in enumerate(methods):
            values = of_metric.loc[of_metric["method"] == method, "value"].dropna()
            colour = COLOURS[0] if method == methods[-1] else "0.35"
            if len(values):
                low, high = interval(values)
                offsets = np.linspace(-0.22, 0.22, len(values))
                axis.plot(values, y + offsets, ".", color=colour, alpha=0.45, ms=5, mew=0)
                axis.plot([low, high], [y, y], "-", color=colour, lw=2.2)
                axis.plot(values.mean(), y, "|", color=colour, ms=13, mew=2.2)
        axis.set_title(f"{textwrap.fill(metric, 22)}\n{direction} is better", fontsize=8)
        axis.set(yticks=range(len(methods)))
        axis.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(4))
        axis.grid(axis="y", color="0.93")
        axis.set_axisbelow(True)
    axes[0, 0].set_yticklabels(methods)
    return figure


# ---- figure 6 ------------------------------------------------------------------------------------


def experts(pairs: Mapping[str, tuple], reads: Sequence[str]) -> plt.Figure:
    """Draw the responses of every local expert, two rows a pair (figure 6): the infrared image
    with the foreground's, the visible image with the background's.

    Parameters
    ----------
    pairs : {title: (infrared, visible, boxes, {ground: (responses (N, H, W), weights (N,))})}
        Responses from 0 on, dark; the four of a ground share one scale, white at the 99.5 %
        quantile of the strongest. Experts that the gate selected carry their weight and a frame in
        the colour of what they read.
    reads : N times "visible" or "infrared"
    """
    infrared, *_ = next(iter(pairs.values()))
    columns, (height, breadth) = 1 + len(reads), infrared.shape[:2]
    tall = (WIDTH - 0.3) / columns * height / breadth + 0.06
    figure, axes = plt.subplots(
        2 * len(pairs), columns, squeeze=False, figsize=(WIDTH, tall * 2 * len(pairs) + 0.5)
    )
    for number, (title, (infrared, visible, boxes, responses)) in enumerate(pairs.items()):
        rows = zip(axes[2 * number :], (infrared, visible), responses.items(), strict=False)
        for row, picture, (ground, (maps, weights)) in rows:
            row[0].imshow(picture, vmin=0, vmax=255)
            add_boxes(row[0], boxes, itertools.repeat(CLASS_COLOURS["person"]), lw=0.8)
            _bare(row[0])
            row[0].set_ylabel(f"{title}\n{ground}")
            top = max(float(np.quantile(maps, 0.995, axis=(1, 2)).max()), 1e-12)
            experts = zip(row[1:], maps, weights, reads, strict=True)
            for axis, response, weight, source in experts:
                _response(axis, response, weight, top, SOURCE_COLOURS[source])
    axes[0, 0].set_title("source")
    for number, (axis, source) in enumerate(zip(axes[0, 1:], reads, strict=True), 1):
        axis.set_title(f"E{number}, reads {source}", color=SOURCE_COLOURS[source])
    handles = [
        plt.Line2D(
            [], [], color=SOURCE_COLOURS[name], lw=2.5, label=f"selected expert on {name} features"
        )
        for name in dict.fromkeys(reads)
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=2)
    return figure


def _response(axis: plt.Axes, response: np.ndarray, weight: float, top: float, colour: str) -> None:
    """Draw the response (H, W) of an expert, white at ``top``, framed where it was selected."""
    axis.imshow(response, vmin=0, vmax=top, cmap="magma")
    _bare(axis)
    text: dict[str, Any] = {"transform": axis.transAxes, "fontsize": 8}
    if not response.any():
        axis.text(0.5, 0.5, "silent", ha="center", va="center", color="0.7", **text)
    if weight > 0:
        axis.spines[:].set(visible=True, color=colour, lw=2.5)
        box = {"fc": "black", "ec": "none", "alpha": 0.6, "pad": 1}
        label = f"{weight:.2f}"
        axis.text(0.97, 0.95, label, ha="right", va="top", color="white", bbox=box, **text)


def energies(table: pd.DataFrame) -> plt.Figure:
    """Draw the ratio of responses inside and outside boxes, a panel for each kind of features.

    Parameters
    ----------
    table : DataFrame with the columns features, ground, expert, reads, "ratio, dB", low, high
        Means and 95 % intervals, as :func:`fusionlib.experiments.expert_use.specialised` gives.
    """
    panels = list(dict.fromkeys(table["features"]))
    figure, axes = plt.subplots(
        1,
        len(panels),
        figsize=(3.1 * len(panels) + 0.5, 2.9),
        sharey=True,
        sharex=True,
        squeeze=False,
    )
    for axis, features in zip(axes.flat, panels, strict=True):
        experts = table[table["features"] == features].reset_index(drop=True)
        axis.axvline(0, color="0.6", lw=0.8)
        for y, row in experts.iterrows():
            colour = SOURCE_COLOURS[row["reads"]]
            if np.isnan(row["ratio, dB"]):
                axis.text(0, y, " silent", color=colour, va="center", fontsize=8)
                continue
            axis.plot([row["low"], row["high"]], [y, y], color=colour, lw=2)
            marker = "o" if row["ground"] == "foreground" else "s"
            axis.plot(row["ratio, dB"], y, marker, color=colour, ms=5)
        names = [f"{row['ground']} E{row['expert']}" for _, row in experts.iterrows()]
        axis.set(title=features, yticks=range(len(experts)), ylim=(len(experts) - 0.5, -0.5))
        axis.set_yticklabels(names)
        axis.grid(axis="y", color="0.93")
    axes[0, len(panels) // 2].set_xlabel("energy inside boxes over energy outside, dB")
    handles = [
        plt.Line2D([], [], color=SOURCE_COLOURS[name], lw=2, label=f"reads {name} features")
        for name in dict.fromkeys(table["reads"])
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=2)
    return figure


# ---- gates ---------------------------------------------------------------------------------------


def use(table: pd.DataFrame) -> plt.Figure:
    """Draw the share of pairs that each expert serves, a panel a gate, a row a condition.

    Parameters
    ----------
    table : DataFrame indexed by gate and condition, columns "expert 1" ... and pairs
    """
    names = [column for column in table if column.startswith("expert ")]
    gates = list(dict.fromkeys(table.index.get_level_values(0)))
    height = 0.32 * len(table.loc[gates[0]]) + 0.8
    figure, axes = plt.subplots(
        1,
        len(gates),
        figsize=(0.55 * len(names) * len(gates) + 1.9, height),
        sharey=True,
        squeeze=False,
    )
    for axis, gate in zip(axes.flat, gates, strict=True):
        rows = table.loc[gate]
        shares = 100 * rows[names].astype(float)
        options = {"vmin": 0, "vmax": 100, "cmap": "Greys", "cbar": False}
        seaborn.heatmap(shares, annot=True, fmt=".0f", ax=axis, **options)
        axis.set(title=f"{gate} gate", xlabel="", ylabel="")
        axis.set_xticklabels([name.replace("expert ", "E") for name in names])
        if gate != "global":  # whose experts read everything
            for number, label in enumerate(axis.get_xticklabels()):
                label.set_color((VISIBLE, INFRARED)[2 * number // len(names)])
        axis.set_yticklabels(
            [f"{condition} ({count})" for condition, count in rows["pairs"].items()], rotation=0
        )
        axis.tick_params(length=0)
    figure.supxlabel(
        "% of the pairs that an expert serves; blue reads visible, orange infrared features",
        fontsize=8,
    )
    return figure


def light(gates: pd.DataFrame, columns: Sequence[str] = ("visible share", "entropy")) -> plt.Figure:
    """Draw gate decisions over the luminance of the visible image, a point a pair.

    Parameters
    ----------
    gates : DataFrame with the columns gate, condition, luminance and ``columns``
        Points are coloured by condition.
    columns : sequence of str
        A panel for each, and for each gate for which it is defined.
    """
    panels = [
        (column, gate)
        for column in columns
        for gate in dict.fromkeys(gates["gate"])
        if gates.loc[gates["gate"] == gate, column].notna().any()
    ]
    figure, axes = plt.subplots(
        1, len(panels), figsize=(min(2.15 * len(panels) + 0.3, WIDTH), 2.7), squeeze=False
    )
    for axis, (column, gate) in zip(axes.flat, panels, strict=True):
        conditions = gates[gates["gate"] == gate].groupby("condition", sort=False)
        for free, (condition, rows) in zip(COLOURS, conditions, strict=False):
            colour = CONDITION_COLOURS.get(condition, free)
            points = {"ms": 4, "mfc": "none", "color": colour, "label": condition}
            axis.plot(rows["luminance"], rows[column], "o", **points)
        if column == "entropy":
            axis.set(title=f"{gate}: entropy, nats", ylim=(-0.03, 0.73))
        else:
            axis.set(title=f"{gate}: {column}", ylim=(-0.04, 1.04))
        axis.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(4))
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=4)
    figure.supxlabel("luminance, mean Y in gray levels", fontsize=9)
    return figure
