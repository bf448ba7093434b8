"""Figures of what metrics reward: their answer to damage, its course, the methods' robustness."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib.pyplot as plt
import pandas as pd
import seaborn

from fusionlib.figures import COLOURS

SATURATED = 3.0  # in units of the methods' spread, where the colours of the heat map end


def answers(rewards: pd.DataFrame, n_pairs: int) -> plt.Figure:
    """Draw metrics x damages: red where damage is rewarded, a star where that is shown.

    Parameters
    ----------
    rewards : DataFrame
        Of :func:`fusionlib.experiments.metric_rewards.rewards`.
    n_pairs : int
    """
    order = {"index": rewards["metric"].unique(), "columns": rewards["damage"].unique()}
    change = rewards.pivot(index="metric", columns="damage", values="change").reindex(**order)
    verdict = rewards.pivot(index="metric", columns="damage", values="verdict").reindex(**order)
    marks = verdict.isin(["rewards", "punishes"]).map(lambda shown: "*" if shown else "")
    text = change.map("{:+.1f}".format) + marks
    height, width = change.shape
    figure, axis = plt.subplots(figsize=(1.6 + 0.95 * width, 1.1 + 0.27 * height))
    seaborn.heatmap(
        change,
        annot=text,
        fmt="",
        cmap="RdBu_r",
        vmin=-SATURATED,
        vmax=SATURATED,
        annot_kws={"fontsize": 8},
        cbar_kws={"label": "change towards better,\nin spreads of methods"},
        ax=axis,
    )
    axis.set(xlabel="", ylabel="")
    axis.tick_params(length=0, labelrotation=0)
    axis.set_title(f"red: the damage is rewarded; * shown over {n_pairs} pairs")
    return figure


def courses(means: pd.DataFrame) -> plt.Figure:
    """Draw each metric, a panel each, over the steps of each damage.

    Parameters
    ----------
    means : DataFrame
        metric, damage, step (0: undamaged), change (towards better, in spreads of methods).
    """
    damages = means["damage"].unique()
    palette = dict(zip(damages, [*COLOURS, "black"], strict=False))
    plt.rcParams["figure.constrained_layout.use"] = False  # seaborn lays out its own grid
    grid = seaborn.relplot(
        means,
        x="step",
        y="change",
        hue="damage",
        col="metric",
        col_wrap=6,
        kind="line",
        marker="o",
        markersize=4,
        height=1.5,
        palette=palette,
        facet_kws={"sharey": False},
    )
    grid.refline(y=0, color="black", lw=0.6, linestyle="-")
    grid.set_titles("{col_name}")
    grid.set_axis_labels("step", "")
    grid.set(xticks=sorted(means["step"].unique()))
    seaborn.move_legend(grid, "lower right", ncols=2, title="")
    plt.rcParams["figure.constrained_layout.use"] = True
    return grid.figure


def robustness(tables: Mapping[str, pd.DataFrame], units: Mapping[str, str]) -> plt.Figure:
    """Draw how far damage of a source moves each method's image, mean over the pairs with its 95 %
    interval.

    Parameters
    ----------
    tables : {damage: DataFrame}
        Of :func:`fusionlib.experiments.metric_rewards.robustness`.
    units : mapping of damage to str
    """
    figure, axes = plt.subplots(1, len(tables), figsize=(4.2 * len(tables), 2.8), squeeze=False)
    for axis, (damage, table) in zip(axes.flat, tables.items(), strict=True):
        n_methods = table["method"].nunique()
        palette = (COLOURS * (1 + n_methods // len(COLOURS)))[:n_methods]
        options = {"x": "strength", "y": "RMSE", "hue": "method", "seed": 0, "palette": palette}
        seaborn.lineplot(table, marker="o", ax=axis, legend=axis is axes.flat[0], **options)
        axis.set(xlabel=f"{damage} of the infrared image, {units[damage]}")
        axis.set(ylabel="RMSE to its undamaged result")
    axes.flat[0].get_legend().set_title("")
    return figure
