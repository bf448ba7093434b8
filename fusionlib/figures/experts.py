"""Figures of a trained MoE-Fusion: how it was trained, whether it was worth it, and what its
experts do.

They get arrays and frames and know no network.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from fusionlib.figures import COLOURS
from fusionlib.figures.moe import CLASS_COLOURS, INFRARED, SOURCE_COLOURS, VISIBLE, _bare
from fusionlib.results import interval

GATES = ("foreground", "background", "global")
CONDITION_COLOURS = {"day": COLOURS[4], "dusk": COLOURS[3], "night": "0.15", "smoke": COLOURS[2]}


# ---- training ------------------------------------------------------------------------------------


def training(log: pd.DataFrame, alpha: float) -> plt.Figure:
    """Draw the log of a training: losses, box AP, what the gates do, and the load of every expert;
    a point an epoch.

    Parameters
    ----------
    log : DataFrame
        As ``log.csv`` of :func:`fusionlib.training.train` holds it; epochs of the detectors alone
        are shaded.
    alpha : float
        Weight of the gradient term, which is drawn as it enters the loss.
    """
    figure, axes = plt.subplots(2, 4, figsize=(11, 4.6), sharex=True)
    terms = {"pixel": "pixel", "gradient": f"{alpha:g} gradient", "load": "load"}
    lines = {
        axes[0, 0]: {
            label: log[name] * (alpha if name == "gradient" else 1)
            for name, label in terms.items()
            if name in log
        },
        axes[0, 1]: _columns(log, "detection_{}", ("infrared", "visible")),
        axes[0, 2]: _columns(log, "ap_{}", ("infrared", "visible")),
        axes[0, 3]: _columns(log, "{}_visible", GATES[:2]),
    }
    lines |= {
        axis: _columns(log, f"{gate}_load_{{}}", range(99))
        for axis, gate in zip(axes[1], GATES, strict=False)
    }
    lines[axes[1, 3]] = _columns(log, "{}_entropy", GATES)
    titles = [
        "terms of the fusion loss",
        "detection loss",
        "box mAP, held-out pairs",
        "weight of visible experts",
        *(f"{gate} gate: share of samples" for gate in GATES),
        "entropy of the gates, nats",
    ]
    phases = log["phase"] if "phase" in log else pd.Series("", index=log.index)
    for axis, title in zip(axes.flat, titles, strict=True):
        axis.set_title(title)
        for colour, marker, (name, values) in zip(
            COLOURS, "oxs^d*", lines[axis].items(), strict=False
        ):
            colour = {"infrared": INFRARED, "visible": VISIBLE}.get(name, colour)
            known = values.notna()
            axis.plot(
                log["epoch"][known],
                values[known],
                marker + "-",
                color=colour,
                ms=2.5,
                lw=0.8,
                mfc="none",
                label=name,
            )
        if lines[axis]:
            loads = "share of samples" in title
            axis.legend(
                fontsize=7,
                handlelength=1.4,
                labelspacing=0.2,
                borderaxespad=0.2,
                columnspacing=1,
                ncols=4 if loads else 1,
                loc="lower center" if loads else "best",
            )
        else:
            axis.text(0.5, 0.5, "none", transform=axis.transAxes, ha="center", color="0.5")
        if (phases == "detectors").any():
            axis.axvspan(
                0.5, log["epoch"][phases == "detectors"].max() + 0.5, color="0.93", zorder=0
            )
        axis.set_xlim(0.5, len(log) + 0.5)
        axis.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(6, integer=True))
    axes[0, 0].set_yscale("log")
    for axis in (axes[0, 3], *axes[1, :3]):
        axis.set_ylim(-0.03, 1.03)
    for axis in (axes[0, 1], axes[0, 2], axes[1, 3]):
        axis.set_ylim(bottom=0)
    figure.supxlabel(
        "epoch" + (" (shaded: the detectors alone)" if (phases == "detectors").any() else ""),
        fontsize=9,
    )
    return figure


def _columns(log: pd.DataFrame, pattern: str, names: Sequence) -> dict[str, pd.Series]:
    """Return the columns that the log has, experts counted from 1."""
    return {
        f"E{name + 1}" if isinstance(name, int) else name: log[pattern.format(name)]
        for name in names
        if pattern.format(name) in log
    }


def rows(scores: pd.DataFrame, better: Mapping[str, str]) -> plt.Figure:
    """Draw values of methods: a dot an image, a bar at the mean with its 95 % interval; the first
    method in colour.

    Parameters
    ----------
    scores : DataFrame with the columns image, method, metric, value
    better : {metric: "higher" or "lower"}
    """
    methods = list(dict.fromkeys(scores["method"]))[::-1]
    figure, axes = plt.subplots(
        1,
        len(better),
        figsize=(2.2 * len(better) + 0.9, 0.3 * len(methods) + 1.1),
        sharey=True,
        squeeze=False,
    )
    for axis, (metric, way) in zip(axes.flat, better.items(), strict=True):
        for place, method in enumerate(methods):
            values = scores.loc[
                (scores["method"] == method) & (scores["metric"] == metric), "value"
            ].dropna()
            colour = COLOURS[0] if method == methods[-1] else "0.35"
            if len(values):
                low, high = interval(values)
                offsets = np.linspace(-0.22, 0.22, len(values))
                axis.plot(values, place + offsets, ".", color=colour, alpha=0.45, ms=5, mew=0)
                axis.plot([low, high], [place, place], "-", color=colour, lw=2.2)
                axis.plot(values.mean(), place, "|", color=colour, ms=13, mew=2.2)
        axis.set_title(f"{textwrap.fill(metric, 22)}\n{way} is better", fontsize=8)
        axis.set(yticks=range(len(methods)))
        axis.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(4))
        axis.grid(axis="y", color="0.93")
        axis.set_axisbelow(True)
    axes[0, 0].set_yticklabels(methods)
    return figure


# ---- figure 6 ------------------------------------------------------------------------------------


def experts(shown: Mapping[str, tuple], reads: Sequence[str], width: float = 1.15) -> plt.Figure:
    """Draw what every local expert responds to, a row a pair (figure 6).

    Parameters
    ----------
    shown : {title: (infrared, visible, boxes, {ground: (responses (N, H, W), weights (N,))})}
        Responses from 0 on, dark; the four of a ground share one scale, white at the 99.5 %
        quantile of the strongest. Experts that the gate selected carry their weight and a frame in
        the colour of what they read.
    reads : N times "visible" or "infrared"
    """
    first = next(iter(shown.values()))
    count, (height, breadth) = len(reads), first[0].shape[:2]
    grounds = list(first[3])
    columns = 2 + count * len(grounds)
    figure, axes = plt.subplots(
        len(shown),
        columns,
        squeeze=False,
        figsize=(width * columns + 0.25, (width * height / breadth + 0.06) * len(shown) + 0.55),
    )
    for line, (title, (infrared, visible, boxes, parts)) in zip(axes, shown.items(), strict=True):
        for axis, picture in zip(line, (infrared, visible), strict=False):
            axis.imshow(picture, vmin=0, vmax=255, interpolation="auto")
            for x, y, w, h in () if boxes is None else boxes:
                axis.add_patch(
                    plt.Rectangle(
                        (x - 0.5, y - 0.5), w, h, fill=False, ec=CLASS_COLOURS["person"], lw=0.8
                    )
                )
        for start, (maps, weights) in zip(range(2, columns, count), parts.values(), strict=True):
            top = max(float(np.quantile(maps, 0.995, axis=(1, 2)).max()), 1e-12)
            for axis, response, weight, source in zip(
                line[start:], maps, weights, reads, strict=False
            ):
                axis.imshow(response, vmin=0, vmax=top, cmap="magma", interpolation="auto")
                _bare(axis)
                if not response.any():
                    axis.text(
                        0.5,
                        0.5,
                        "silent",
                        transform=axis.transAxes,
                        ha="center",
                        va="center",
                        fontsize=7,
                        color="0.7",
                    )
                if weight > 0:
                    axis.spines[:].set(visible=True, color=SOURCE_COLOURS[source], lw=2.5)
                    axis.text(
                        0.97,
                        0.95,
                        f"{weight:.2f}",
                        transform=axis.transAxes,
                        ha="right",
                        va="top",
                        fontsize=7,
                        color="white",
                        bbox={"fc": "black", "ec": "none", "alpha": 0.6, "pad": 1},
                    )
        for axis in line[:2]:
            _bare(axis)
        line[0].set_ylabel(title, fontsize=8)
    short = {"foreground": "FG", "background": "BG"}
    titles = [
        "infrared",
        "visible",
        *(f"{short.get(g, g)} E{i + 1}" for g in grounds for i in range(count)),
    ]
    for axis, title, source in zip(axes[0], titles, ["", "", *reads * len(grounds)], strict=True):
        axis.set_title(title, fontsize=8, color=SOURCE_COLOURS.get(source, "black"))
    handles = [
        plt.Line2D(
            [], [], color=SOURCE_COLOURS[name], lw=2.5, label=f"selected expert on {name} features"
        )
        for name in dict.fromkeys(reads)
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=2, fontsize=8)
    return figure


def energies(table: pd.DataFrame) -> plt.Figure:
    """Draw how much more each expert responds inside boxes than outside: mean and 95 % interval, a
    panel a way of asking.

    Parameters
    ----------
    table : DataFrame with the columns features, ground, expert, reads, "ratio, dB", low, high
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
        part = table[table["features"] == features].reset_index(drop=True)
        axis.axvline(0, color="0.6", lw=0.8)
        for place, row in part.iterrows():
            colour = SOURCE_COLOURS[row["reads"]]
            if np.isnan(row["ratio, dB"]):
                axis.text(0, place, " silent", color=colour, va="center", fontsize=8)
                continue
            axis.plot([row["low"], row["high"]], [place, place], color=colour, lw=2)
            axis.plot(
                row["ratio, dB"],
                place,
                "o" if row["ground"] == "foreground" else "s",
                color=colour,
                ms=5,
            )
        names = [
            f"{'FG' if row['ground'] == 'foreground' else 'BG'} E{row['expert']}"
            for _, row in part.iterrows()
        ]
        axis.set(title=features, yticks=range(len(part)))
        axis.set_yticklabels(names)
        axis.grid(axis="y", color="0.93")
    axes[0, 0].set_ylim(len(part) - 0.5, -0.5)
    axes[0, len(panels) // 2].set_xlabel("energy inside boxes over energy outside, dB")
    handles = [
        plt.Line2D([], [], color=SOURCE_COLOURS[name], lw=2, label=f"reads {name} features")
        for name in dict.fromkeys(table["reads"])
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=2)
    return figure


# ---- what the gates do ---------------------------------------------------------------------------


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
        part = table.loc[gate]
        shares = part[names].to_numpy(dtype=float)
        axis.imshow(shares, vmin=0, vmax=1, cmap="Greys", aspect="auto")
        for (row, column), share in np.ndenumerate(shares):
            axis.text(
                column,
                row,
                f"{100 * share:.0f}",
                ha="center",
                va="center",
                color="white" if share > 0.5 else "black",
            )
        axis.set(title=f"{gate} gate", xticks=range(len(names)), yticks=range(len(part)))
        axis.set_xticklabels([name.replace("expert ", "E") for name in names])
        if gate != "global":  # whose experts read everything
            for number, label in enumerate(axis.get_xticklabels()):
                label.set_color((VISIBLE, INFRARED)[2 * number // len(names)])
        axis.set_yticklabels(
            [f"{condition} ({count})" for condition, count in part["pairs"].items()]
        )
        axis.tick_params(length=0)
        axis.spines[:].set_visible(False)
    figure.supxlabel(
        "% of the pairs that an expert serves; blue reads visible, orange infrared features",
        fontsize=8,
    )
    return figure


def light(gates: pd.DataFrame, columns: Sequence[str] = ("visible share", "entropy")) -> plt.Figure:
    """Draw what the gates do over the luminance of the visible image, a point a pair, coloured by
    condition.

    Parameters
    ----------
    gates : DataFrame with the columns gate, condition, luminance and ``columns``
    """
    panels = [
        (what, gate)
        for what in columns
        for gate in dict.fromkeys(gates["gate"])
        if gates.loc[gates["gate"] == gate, what].notna().any()
    ]
    figure, axes = plt.subplots(
        1, len(panels), figsize=(2.15 * len(panels) + 0.3, 2.5), squeeze=False
    )
    for axis, (what, gate) in zip(axes.flat, panels, strict=True):
        for colour, (condition, part) in zip(
            COLOURS, gates[gates["gate"] == gate].groupby("condition", sort=False), strict=False
        ):
            colour = CONDITION_COLOURS.get(condition, colour)
            axis.plot(
                part["luminance"], part[what], "o", ms=4, mfc="none", color=colour, label=condition
            )
        axis.set(title=f"{gate}: {what}" + (", nats" if what == "entropy" else ""))
        axis.set_ylim(
            (-0.04, 1.04) if what != "entropy" else (-0.03, 0.73 if len(panels) else None)
        )
        axis.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(4))
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=4)
    figure.supxlabel("luminance, mean Y in gray levels", fontsize=9)
    return figure
