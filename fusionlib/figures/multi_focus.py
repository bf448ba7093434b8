"""Figures of the multi-focus paper: transforms, optimisers, effects of the weight, run times."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from fusionlib.figures import COLOURS, WIDTH


def pyramid(
    sources: Mapping[str, Sequence[np.ndarray]], chosen: Sequence[np.ndarray], name: str
) -> plt.Figure:
    """Draw the bands of two sources, finest first, and where a rule takes the first (figure 2).

    Parameters
    ----------
    sources : {title: bands}
        High-pass bands on a scale of their own, gray at 0; the base on 0..255.
    chosen : list of (h, w) bool
        For each high-pass band.
    name : str
        What white means in the last row.
    """
    count = len(chosen) + 1
    height, width = chosen[0].shape
    breadth = min(2.4, WIDTH / count)
    figure, axes = plt.subplots(
        3, count, figsize=(breadth * count, (breadth * height / width + 0.25) * 3)
    )
    for row, (title, bands) in zip(axes, sources.items(), strict=False):
        for level, (axis, band) in enumerate(zip(row, bands, strict=True)):
            reach = np.quantile(np.abs(band), 0.99)
            kind, low, high = f"band {level + 1}", -reach, reach
            if level == count - 1:
                kind, low, high = "base", 0, 255
            axis.imshow(band, vmin=low, vmax=high)
            axis.set_title(f"{kind}, {band.shape[0]}x{band.shape[1]}")
        row[0].set_ylabel(title)
    for axis, mask in zip(axes[2], chosen, strict=False):
        axis.imshow(mask, vmin=0, vmax=1)
        axis.set_title(f"{mask.mean():.0%} white")
    axes[2, 0].set_ylabel(name)
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_visible(False)
    axes[2, -1].set_visible(False)
    return figure


def curvelets(
    windows: Sequence[Sequence[np.ndarray]],
    examples: Mapping[str, tuple[np.ndarray, np.ndarray]],
    bands: Mapping[str, np.ndarray],
) -> plt.Figure:
    """Draw the tiling of the frequency plane, curvelets and the bands of a photograph (figure 3).

    Parameters
    ----------
    windows : scales of wedges of (N, N) arrays
        Squared window of each wedge, zero frequency in the middle.
    examples : {title: (window, curvelet)}
        Three wedges with the image of their middle coefficient.
    bands : {title: (H, W) array}
        Four pictures; the first on 0..255, the others on one scale around gray.
    """
    figure, axes = plt.subplots(3, 4, figsize=(WIDTH, 7.5))
    tiles = np.ones((*windows[0][0].shape, 3))
    for scale, wedges in enumerate(windows):
        for angle, window in enumerate(wedges):
            colour = np.array(matplotlib.colors.to_rgb(COLOURS[2 * (scale % 3) + angle % 2]))
            tiles += window[..., None] * (colour - 1)
    axes[0, 0].imshow(tiles.clip(0, 1))
    axes[0, 0].set_title("all wedges, frequency plane")
    # What the wedges leave is the base's; its middle coefficient is the image of that window.
    rest = np.ones_like(windows[0][0])
    rest -= np.sum([window for wedges in windows for window in wedges], axis=0)
    base = np.sqrt(rest.clip(0))
    base_function = np.fft.fftshift(np.fft.ifft2(np.fft.ifftshift(base))).real
    columns = {"the base": (base, base_function), **examples}
    for column, (title, (window, curvelet)) in enumerate(columns.items()):
        if column:
            axes[0, column].imshow(np.sqrt(window.clip(0)), vmin=0, vmax=1)
            axes[0, column].set_title(f"{title}: one wedge")
        quarter = len(curvelet) // 4
        reach = np.abs(curvelet).max()
        axes[1, column].imshow(
            curvelet[quarter:-quarter, quarter:-quarter], vmin=-reach, vmax=reach
        )
        axes[1, column].set_title(f"{title}: one coefficient")
    reach = np.quantile([np.abs(band) for band in list(bands.values())[1:]], 0.99)
    ranges = [(0, 255)] + [(-reach, reach)] * (len(bands) - 1)
    for axis, (title, band), (low, high) in zip(axes[2], bands.items(), ranges, strict=True):
        axis.imshow(band, vmin=low, vmax=high)
        axis.set_title(title)
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
        axis.axis("off")
    return figure


def objectives(curves: Mapping[str, pd.DataFrame], columns: int = 3) -> plt.Figure:
    """Draw the terms of eq. (17) over the weight, a panel a pair; the marker is the optimum of f.

    Parameters
    ----------
    curves : {pair: frame with the columns w, CC, EN, 1/RMSE, f}
    """
    rows = -(-len(curves) // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(2.75 * columns, 1.9 * rows), squeeze=False, sharex=True
    )
    for axis, (name, curve) in zip(axes.flat, curves.items(), strict=False):
        middle = curve.iloc[(curve["w"] - 0.5).abs().argmin()]
        for term, colour in zip(["EN", "CC", "1/RMSE"], COLOURS, strict=False):
            axis.plot(
                curve["w"], 1e3 * (curve[term] - middle[term]), color=colour, lw=1, label=term
            )
        axis.plot(
            curve["w"],
            1e3 * (curve["f"] - middle["f"]),
            color="black",
            lw=1.4,
            label="f, their sum",
        )
        best = curve.loc[curve["f"].idxmax()]
        axis.plot(
            best["w"], 1e3 * (best["f"] - middle["f"]), "o", color="black", ms=4, clip_on=False
        )
        axis.set(title=name, xticks=[0, 0.5, 1])
        axis.locator_params(axis="y", nbins=4)
    for axis in axes.flat[len(curves) :]:
        axis.axis("off")
    for axis in axes[:, 0]:
        axis.set_ylabel("change, 1/1000")
    figure.supxlabel("w, the weight of the first base")
    figure.legend(*axes.flat[0].get_legend_handles_labels(), loc="outside upper center", ncols=4)
    return figure


def by_hand(
    curve: pd.DataFrame, w: float, candidates: np.ndarray, best: tuple[float, float]
) -> plt.Figure:
    """Draw the objective over the weight with a weight chosen by hand, a swarm and the optimum.

    Parameters
    ----------
    curve : DataFrame with the columns w and f
    w : float
        Chosen by hand.
    candidates : (n,) array
        Weights of the swarm.
    best : (float, float)
        Weight and value of the exact optimum.
    """
    figure, axis = plt.subplots(figsize=(6.4, 3.0))
    axis.plot(curve["w"], curve["f"], color="black", lw=1.2, label="objective f")

    def value(weights: np.ndarray | float) -> np.ndarray:
        return np.interp(weights, curve["w"], curve["f"])

    dots: dict[str, Any] = {"ms": 5, "mfc": "none", "alpha": 0.7, "color": COLOURS[0]}
    axis.plot(candidates, value(candidates), "o", label="swarm", **dots)
    axis.plot(*best, "*", ms=13, color=COLOURS[1], label=f"optimum, w = {best[0]:.3f}")
    axis.plot(w, value(w), "D", ms=7, color=COLOURS[2], label=f"by hand, w = {w:.2f}")
    axis.set(xlabel="w, the weight of the first base", ylabel="f", xlim=(-0.02, 1.02))
    axis.set_title(f"by hand {best[1] - float(value(w)):.2e} below the optimum")
    axis.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def swarms(runs: Mapping[str, tuple[np.ndarray, np.ndarray]], best: float) -> plt.Figure:
    """Draw the candidates of searches at each iteration, and the gap of their best value.

    Parameters
    ----------
    runs : {title: (weights (iterations + 1, population), gap (iterations + 1,))}
    best : float
        The exact optimum's weight.
    """
    figure, axes = plt.subplots(
        2,
        len(runs),
        figsize=(min(2.3 * len(runs), WIDTH), 4.2),
        sharex=True,
        sharey="row",
        squeeze=False,
    )
    for column, (title, (weights, gap)) in enumerate(runs.items()):
        iteration = np.arange(len(weights))
        axes[0, column].axhline(best, color=COLOURS[1], lw=1)
        axes[0, column].plot(
            np.repeat(iteration, weights.shape[1]),
            weights.ravel(),
            ".",
            color=COLOURS[0],
            ms=2,
            alpha=0.5,
        )
        axes[0, column].set_title(title)
        axes[1, column].plot(iteration, np.maximum(gap, 1e-16), color=COLOURS[0])
    ticks = [0, len(iteration) // 2, len(iteration) - 1]
    axes[0, 0].set(xticks=ticks, yticks=[0, 0.5, 1], ylabel="w of every candidate")
    axes[1, 0].set(yscale="log", ylabel="optimum minus best value")
    axes[1, 0].yaxis.set_major_locator(matplotlib.ticker.LogLocator(numticks=6))
    axes[1, 0].yaxis.set_minor_locator(matplotlib.ticker.NullLocator())
    figure.supxlabel("iteration")
    return figure


def simplex(
    alphas: np.ndarray, panels: Mapping[str, np.ndarray], paper: tuple[float, float, float]
) -> plt.Figure:
    """Draw values over the weights of the objective: corners CC left, EN right, 1/RMSE on top.

    Parameters
    ----------
    alphas : (n, 3) array
    panels : {title: (n,) values}
    paper : three floats
        The paper's weights, a circle.
    """
    figure, axes = plt.subplots(1, len(panels), figsize=(3.6 * len(panels), 3.3), squeeze=False)
    # Corners of an equilateral triangle.
    corners = np.array([(0, 0), (1, 0), (0.5, np.sqrt(3) / 2)])
    x, y = (alphas @ corners).T
    for axis, (title, values) in zip(axes.flat, panels.items(), strict=True):
        points = axis.scatter(x, y, c=values, s=42, marker="h", cmap="viridis", linewidths=0)
        axis.plot(*(np.array(paper) @ corners), "o", ms=11, mfc="none", mec="#D55E00", mew=2)
        for corner, name, up in zip(
            corners, ("CC only", "EN only", "1/RMSE only"), (-1, -1, 1), strict=True
        ):
            axis.annotate(
                name,
                corner,
                xytext=(0, 8 * up),
                textcoords="offset points",
                ha="center",
                va="bottom" if up > 0 else "top",
            )
        axis.set_title(title, pad=16)
        axis.set(aspect="equal", xlim=(-0.12, 1.12), ylim=(-0.1, 0.96), xticks=[], yticks=[])
        axis.axis("off")
        figure.colorbar(points, ax=axis, shrink=0.75, ticks=matplotlib.ticker.MaxNLocator(4))
    return figure


def changes(panels: Mapping[str, pd.DataFrame], unit: str) -> plt.Figure:
    """Draw a dot per pair (rows of a frame) and series (its columns), left of zero is better.

    Parameters
    ----------
    panels : {title: DataFrame of changes}
        One index; a series may lack pairs (NaN). The scale is linear near zero and logarithmic
        beyond.
    unit : str
        Label below.
    """
    names = list(next(iter(panels.values())).index)
    figure, axes = plt.subplots(
        1,
        len(panels),
        figsize=(1.2 + 3.1 * len(panels), 1.1 + 0.19 * len(names)),
        sharex=True,
        sharey=True,
        squeeze=False,
    )
    for axis, (title, frame) in zip(axes.flat, panels.items(), strict=True):
        axis.axvline(0, color="0.6", lw=0.8)
        for (name, values), marker, colour in zip(frame.items(), "oxs^dv", COLOURS, strict=False):
            axis.plot(
                values,
                np.arange(len(names)),
                marker,
                color=colour,
                label=name,
                ms=4.5,
                mfc="none",
                mew=1.3,
                clip_on=False,
            )
        axis.set(title=title, xlabel=unit)
        axis.grid(axis="y", color="0.92")
    axes[0, 0].set_yticks(np.arange(len(names)), names)
    axes[0, 0].invert_yaxis()
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=5)
    if max(frame.abs().max(axis=None) for frame in panels.values()) > 10:
        axes[0, 0].set_xscale("symlog", linthresh=1)
        axes[0, 0].xaxis.set_major_formatter(matplotlib.ticker.StrMethodFormatter("{x:g}"))
    return figure


def times(seconds: pd.DataFrame) -> plt.Figure:
    """Draw seconds of methods (columns) over the side of the image in pixels (rows), log-log."""
    figure, axis = plt.subplots(figsize=(4.6, 3.1))
    for (name, values), marker, colour in zip(seconds.items(), "oxs^dv", COLOURS, strict=False):
        axis.plot(values.index, values, marker + "-", color=colour, label=name, ms=4.5, lw=1)
    axis.set(
        xscale="log",
        yscale="log",
        xlabel="height and width in pixels",
        ylabel="seconds for a fusion",
    )
    axis.set_xticks(seconds.index, list(map(str, seconds.index)))
    axis.xaxis.set_minor_locator(matplotlib.ticker.NullLocator())
    # close enough for two labels at least
    axis.yaxis.set_major_locator(matplotlib.ticker.LogLocator(subs=(1, 2, 5)))
    axis.yaxis.set_major_formatter(matplotlib.ticker.StrMethodFormatter("{x:g}"))
    axis.yaxis.set_minor_locator(matplotlib.ticker.NullLocator())
    axis.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figure
