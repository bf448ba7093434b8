"""Figures of infrared-visible pairs and of MoE-Fusion, from arrays and frames."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from fusionlib import images
from fusionlib.figures import COLOURS, PICTURE, WIDTH, sheet

# Warm for what comes from the infrared image, cool for the visible, in every figure of this file.
INFRARED, VISIBLE = COLOURS[1], COLOURS[0]
# of other classes: green
CLASS_COLOURS = {"person": "#E69F00", "car": "#56B4E9", "bicycle": "#CC79A7"}


def _bare(axis: plt.Axes) -> None:
    """Remove ticks and frame; ticks that are only hidden still cost most of the drawing time."""
    axis.set(xticks=[], yticks=[])
    axis.spines[:].set_visible(False)


# ---- pairs ---------------------------------------------------------------------------------------


def add_boxes(
    axis: plt.Axes, boxes: Iterable[Sequence[float]] | None, colours: Iterable[str], lw: float
) -> None:
    """Draw boxes on an image.

    Parameters
    ----------
    boxes : iterable of (x, y, width, height), optional
        In pixels.
    colours : iterable of str
        Of each box.
    lw : float
        Width of the lines, in points.
    """
    for (x, y, w, h), colour in zip(() if boxes is None else boxes, colours, strict=False):
        axis.add_patch(plt.Rectangle((x - 0.5, y - 0.5), w, h, fill=False, ec=colour, lw=lw))


def pairs(pairs: Mapping[str, tuple], columns: int = 4) -> plt.Figure:
    """Draw pairs, the infrared image above the visible one, with the same boxes on both.

    Parameters
    ----------
    pairs : {title: (infrared, visible, boxes, labels)}
        ``boxes`` (n, 4) as x, y, width, height in pixels of either image, or None.
    columns : int
        At most.
    """
    columns = min(columns, len(pairs))
    rows, width = -(-len(pairs) // columns), min(PICTURE, WIDTH / columns)
    shape = np.mean([infrared.shape[0] / infrared.shape[1] for infrared, *_ in pairs.values()])
    figure, axes = plt.subplots(
        2 * rows,
        columns,
        squeeze=False,
        figsize=(width * columns, rows * (2 * width * shape + 0.35)),
    )
    for axis in axes.flat:
        _bare(axis)
    drawn = set()
    for number, (title, (infrared, visible, boxes, labels)) in enumerate(pairs.items()):
        colours = [CLASS_COLOURS.get(label, COLOURS[2]) for label in labels]
        if boxes is not None:
            drawn |= set(zip(labels, colours, strict=True))
        top, bottom = axes[2 * (number // columns) :, number % columns][:2]
        for axis, picture in ((top, infrared), (bottom, visible)):
            axis.imshow(picture, vmin=0, vmax=255)
            add_boxes(axis, boxes, colours, lw=1.2)
        top.set_title(title)
    handles = [plt.Line2D([], [], color=colour, label=label) for label, colour in sorted(drawn)]
    if handles:
        figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    return figure


def contrasts(frame: pd.DataFrame) -> plt.Figure:
    """Draw the contrast of objects in infrared over that in visible, a panel a condition.

    Parameters
    ----------
    frame : DataFrame with the columns condition, infrared, visible
        A row for each object; the cross is at the medians.
    """
    groups = dict(list(frame.groupby("condition", sort=False)))
    figure, axes = plt.subplots(
        1,
        len(groups),
        figsize=(2.1 * len(groups) + 0.4, 3.0),
        sharex=True,
        sharey=True,
        squeeze=False,
    )
    reach = 1.05 * frame[["infrared", "visible"]].max(axis=None)
    for axis, (name, group) in zip(axes.flat, groups.items(), strict=True):
        axis.fill_between([0, reach], [0, reach], reach, color=INFRARED, alpha=0.10, lw=0)
        axis.fill_between([0, reach], 0, [0, reach], color=VISIBLE, alpha=0.10, lw=0)
        axis.plot(group["visible"], group["infrared"], "o", ms=3.5, mfc="none", mec="0.25", mew=0.9)
        axis.plot(
            group["visible"].median(),
            group["infrared"].median(),
            "P",
            ms=9,
            mfc="black",
            mec="white",
        )
        axis.set(
            title=f"{name}, {len(group)} objects", xlim=(0, reach), ylim=(0, reach), aspect="equal"
        )
    sides = (("more in infrared", INFRARED), ("more in visible", VISIBLE))
    figure.legend(
        handles=[
            matplotlib.patches.Patch(color=colour, alpha=0.3, label=name) for name, colour in sides
        ],
        loc="outside upper center",
        ncols=2,
    )
    axes[0, 0].set_ylabel("contrast in infrared, gray levels")
    figure.supxlabel("contrast in visible, gray levels", fontsize=plt.rcParams["font.size"])
    return figure


def steeper(infrared: np.ndarray, visible: np.ndarray) -> np.ndarray:
    """Colour the steeper gradient: orange for infrared, blue for visible, white where both are 0.

    Parameters
    ----------
    infrared, visible : (H, W) float
        Strength of the gradient in either image, any one scale; colours are full at the 95 %
        quantile of the larger.

    Returns
    -------
    (H, W, 3) uint8
    """
    larger = np.maximum(infrared, visible)
    strength = np.clip(larger / max(np.quantile(larger, 0.95), 1e-12), 0, 1)[..., None]
    orange, blue = (matplotlib.colors.to_rgb(colour) for colour in (INFRARED, VISIBLE))
    winner = np.where((infrared > visible)[..., None], orange, blue)
    return images.from_unit(1 + strength * (winner - 1))


def gallery(rows: Mapping[str, Sequence[np.ndarray]], titles: Sequence[str]) -> plt.Figure:
    """Draw a row of pictures for each name, gray on 0..255, the titles above the columns.

    Parameters
    ----------
    rows : {name: pictures}
        (H, W) or (H, W, 3) each.
    titles : sequence of str
        Of the columns.
    """
    width = (WIDTH - 0.3) / len(titles)
    height, breadth = next(iter(rows.values()))[0].shape[:2]
    tall = (width * height / breadth + 0.08) * len(rows) + 0.25
    figure, axes = plt.subplots(
        len(rows), len(titles), squeeze=False, figsize=(width * len(titles) + 0.3, tall)
    )
    for row, (name, pictures) in zip(axes, rows.items(), strict=True):
        for axis, picture in zip(row, pictures, strict=True):
            axis.imshow(picture, vmin=0, vmax=255)
            _bare(axis)
        row[0].set_ylabel(name)
    for axis, title in zip(axes[0], titles, strict=True):
        axis.set_title(title)
    return figure


# ---- the network ---------------------------------------------------------------------------------

SOURCE_COLOURS = {"infrared": INFRARED, "visible": VISIBLE, "both": COLOURS[2]}
# Left, bottom, width, height of each stage, as in figure 2 of the paper; that of a stage which a
# variant lacks stays empty.
Box = tuple[float, float, float, float]
BOXES: dict[str, Box] = {
    "infrared image": (0, 38, 13, 10),
    "attention maps": (0, 20, 13, 10),
    "visible image": (0, 2, 13, 10),
    "infrared encoder": (18, 38, 14, 10),
    "attention": (18, 20, 14, 10),
    "visible encoder": (18, 2, 14, 10),
    "foreground": (40, 26, 25, 14),
    "background": (40, 10, 25, 14),
    "global": (72, 4, 15, 42),
}
FUSED: Box = (91, 20, 13, 10)
NAMES = {
    "foreground": ("MoLE, foreground", "Att-Local, foreground"),  # with experts, and without
    "background": ("MoLE, background", "Att-Local, background"),
    "global": ("MoGE", "single decoder"),
}
SHAPES: dict[str, Any] = {"ha": "center", "fontsize": 8}
ARROW: dict[str, Any] = {"arrowstyle": "-|>", "color": "0.3", "lw": 1.1, "shrinkA": 0, "shrinkB": 0}


class Stage(Protocol):
    """A stage of the network as :func:`fusionlib.networks.inspection.trace` notes it."""

    reads: Sequence[str]
    shapes: Mapping[str, Sequence[int]]
    weights: Sequence[float]
    inputs: Sequence[str]


def architecture(stages: Mapping[str, Stage], pictures: Mapping[str, np.ndarray]) -> plt.Figure:
    """Draw the network as it ran: stages with shapes, arrows, experts with their gate weights.

    Parameters
    ----------
    stages : {name: stage}
        A stage has ``reads`` (names of stages), ``shapes`` ({symbol: shape with the batch first}),
        and for a mixture ``weights`` and ``inputs`` ("visible", "infrared" or "both") of its
        experts; names as in ``BOXES``.
    pictures : {name: (h, w) or (h, w, 3) uint8}
        Shown instead of an empty box, for stages and for "fused".
    """
    figure, axis = plt.subplots(figsize=(WIDTH, 5.9))
    axis.set(xlim=(-1, 105), ylim=(-1, 52), xticks=[], yticks=[])
    axis.spines[:].set_visible(False)
    for name, stage in stages.items():
        if name in pictures:
            left, bottom, width, _ = BOXES[name]
            _picture(axis, pictures[name], BOXES[name], name)
            lines = _shapes(stage)
            axis.text(left + width / 2, bottom - 0.4, lines[-1], va="top", **SHAPES)
        else:
            _stage_box(axis, name, stage)
        for origin in stage.reads:
            _arrow(axis, origin, name)
    left, bottom, _, height = FUSED
    _picture(axis, pictures["fused"], FUSED, "fused image")
    middle = bottom + height / 2
    right_of_global = BOXES["global"][0] + BOXES["global"][2]
    axis.annotate("", (left, middle), (right_of_global, middle), arrowprops=ARROW)
    patch = matplotlib.patches.Patch
    key = [
        patch(color=SOURCE_COLOURS["infrared"], label="expert on infrared features"),
        patch(color=SOURCE_COLOURS["visible"], label="expert on visible features"),
        patch(color=SOURCE_COLOURS["both"], label="expert on x_f"),
        patch(fc="white", ec="0.5", ls="--", label="not selected, not computed"),
    ]
    figure.legend(handles=key, loc="outside lower center", ncols=4)
    return figure


def _shapes(stage: Stage) -> list[str]:
    """Return a line for each tensor of a stage: its symbol and its shape without the batch."""
    return [f"{symbol} {'×'.join(map(str, shape[1:]))}" for symbol, shape in stage.shapes.items()]


def _picture(axis: plt.Axes, picture: np.ndarray, box: Box, title: str) -> None:
    left, bottom, width, height = box
    extent = (left, left + width, bottom, bottom + height)
    axis.imshow(picture, vmin=0, vmax=255, extent=extent, aspect="auto")
    x, y = left + width / 2, bottom + height + 0.3
    axis.text(x, y, title, ha="center", va="bottom", weight="bold")


def _stage_box(axis: plt.Axes, name: str, stage: Stage) -> None:
    """Draw a stage without a picture as a box with its title and its shapes or experts."""
    left, bottom, width, height = BOXES[name]
    colour = SOURCE_COLOURS.get(name.split()[0], "0.3")
    rounded = "round,pad=0,rounding_size=1"
    axis.add_patch(
        matplotlib.patches.FancyBboxPatch(
            (left, bottom), width, height, boxstyle=rounded, fc="0.97", ec=colour, lw=1.3
        )
    )
    title = NAMES[name][not stage.weights] if name in NAMES else name
    x, y = left + width / 2, bottom + height - 0.7
    axis.text(x, y, title, ha="center", va="top", weight="bold")
    if stage.weights:
        _experts(axis, stage, BOXES[name])
    else:
        text = "\n".join(_shapes(stage))
        axis.text(x, bottom + height / 2 - 0.8, text, va="center", **SHAPES)


def _experts(axis: plt.Axes, stage: Stage, box: Box) -> None:
    """Draw the inputs of a mixture, its experts in a row (a tall box: a column), and its output."""
    left, bottom, width, height = box
    lines = _shapes(stage)
    middle = left + width / 2
    if height > width:
        inputs, output, head = "\n".join(lines[:-1]), lines[-1], 4
    else:
        inputs, output, head = "  ".join(lines[:2]), "  ".join(lines[2:]), 3
    axis.text(middle, bottom + height - head, inputs, va="top", **SHAPES)
    axis.text(middle, bottom + 0.8, output, va="bottom", **SHAPES)
    digits = 3 if len(stage.weights) <= 4 else 2
    boxes = _expert_boxes(box, len(stage.weights))
    experts = zip(boxes, stage.weights, stage.inputs, strict=True)
    for number, ((x, y, w, h), weight, source) in enumerate(experts, 1):
        fill, edge, dashes, colour = "white", "0.5", "--", "0.4"
        text = f"E{number}\n0"
        if weight > 0:
            fill, edge, dashes, colour = SOURCE_COLOURS[source], "none", "-", "white"
            text = f"E{number}\n{weight:.{digits}f}"
        axis.add_patch(plt.Rectangle((x, y), w, h, fc=fill, ec=edge, ls=dashes))
        axis.text(x + w / 2, y + h / 2, text, ha="center", va="center", color=colour)


def _expert_boxes(box: Box, count: int) -> list[Box]:
    """Return the boxes of ``count`` experts within that of their mixture."""
    left, bottom, width, height = box
    if height > width:
        room, low = height - 16, bottom + 4
        step = room / count
        return [
            (left + 1, low + room * (count - 1 - i) / count, width - 2, 0.9 * step)
            for i in range(count)
        ]
    room = width - 2
    return [
        (left + 1 + room * i / count, bottom + 3.3, 0.92 * room / count, height - 9)
        for i in range(count)
    ]


def _arrow(axis: plt.Axes, origin: str, target: str) -> None:
    """Draw what ``target`` reads of ``origin``; dense features pass beside the local mixtures."""
    (x0, y0, w0, h0), (x1, y1, _, h1) = BOXES[origin], BOXES[target]
    middle, text = y0 + h0 / 2, ""
    if target == "global":
        start = {"infrared encoder": y0 + (h0 - 3), "visible encoder": y0 + 3}.get(origin, middle)
        end = start
        text = "x_dense" if "encoder" in origin else ""
    elif target in ("foreground", "background"):
        offset = {"infrared encoder": -3, "attention": 0, "visible encoder": 3}[origin]
        share = {"infrared encoder": 0.75, "attention": 0.5, "visible encoder": 0.25}[origin]
        start, end = middle + offset, y1 + share * h1
        if origin == "attention":
            text = "Att" if target == "foreground" else "1 − Att"
        elif abs(start - end) < 9:  # once for each encoder
            text = "x_enc"
    else:
        start, end = middle, y1 + h1 / 2
    colour = SOURCE_COLOURS.get(origin.split()[0], "0.3")
    axis.annotate("", (x1, end), (x0 + w0, start), arrowprops=ARROW | {"color": colour})
    if text:
        share = 0.3 if origin == "attention" else 0.5
        x, y = x0 + w0 + share * (x1 - x0 - w0), start + share * (end - start)
        background = {"fc": "white", "ec": "none", "pad": 1}
        axis.text(x, y, text, ha="center", va="center", color=colour, bbox=background)


def channels(rows: Mapping[str, np.ndarray], count: int = 8) -> plt.Figure:
    """Draw the first channels of feature maps in a row, each channel stretched by itself.

    Parameters
    ----------
    rows : {title: (C, h, w) float}
    count : int
        Channels of each.
    """
    strips = {}
    for name, maps in rows.items():
        framed = [np.pad(stretch(channel), 2, constant_values=255) for channel in maps[:count]]
        strips[name] = [np.hstack(framed)]
    return gallery(strips, [f"the first {count} channels"])


def stretch(values: np.ndarray) -> np.ndarray:
    """Map numbers to 8 bits for display, black at their 1 % and white at their 99 % quantile."""
    low, high = np.quantile(values, [0.01, 0.99])
    return images.from_unit(np.clip((values - low) / max(high - low, 1e-12), 0, 1))


def change(before: np.ndarray, after: np.ndarray, titles: Sequence[str]) -> plt.Figure:
    """Draw two fused images, (H, W) float in [0, 1], and their difference on a scale of its own."""
    delta = 255 * (after.astype(np.float64) - before)
    largest = max(np.abs(delta).max(), 1e-9)
    pictures = {
        title: images.from_unit(np.clip(image, 0, 1))
        for title, image in zip(titles, (before, after), strict=True)
    }
    name = f"difference, black to white: ± {largest:.2g} gray levels"
    return sheet(pictures | {name: images.to_uint8(128 + 127 * delta / largest)})


def experts(rows: Mapping[str, tuple]) -> plt.Figure:
    """Draw the output of each expert and their weighted combination, a row a mixture.

    Of maps with several channels the distance from their spatial median is shown, over the
    channels: the scene without its constant part. Each picture has its own scale.

    Parameters
    ----------
    rows : {title: (outputs, result, weights, inputs)}
        Outputs (N, C, h, w) of the experts, result (C, h, w), N weights, N times what an expert
        reads. Experts that were not selected are shown as they would have been, framed by dashes.
    """
    outputs, *_ = next(iter(rows.values()))
    count, (height, breadth) = len(outputs), outputs.shape[2:]
    width = min(PICTURE, (WIDTH - 0.3) / (count + 1))
    figure, axes = plt.subplots(
        len(rows),
        count + 1,
        squeeze=False,
        figsize=(width * (count + 1) + 0.3, (width * height / breadth + 0.28) * len(rows)),
    )
    for row, (name, (outputs, result, weights, inputs)) in zip(axes, rows.items(), strict=True):
        for axis, maps in zip(row, [*outputs, result], strict=True):
            picture = maps[0]
            if len(maps) > 1:
                medians = np.median(maps, axis=(1, 2), keepdims=True)
                picture = np.linalg.norm(maps - medians, axis=0)
            axis.imshow(stretch(picture), vmin=0, vmax=255)
            _bare(axis)
        experts = zip(row, weights, inputs, strict=False)
        for number, (axis, weight, source) in enumerate(experts, 1):
            text, colour, lw, dashes = "not selected", "0.45", 1, "--"
            if weight > 0:
                text, colour, lw, dashes = f"{weight:.3f}", SOURCE_COLOURS[source], 2, "-"
            axis.set_title(f"E{number} {source}, {text}", color=colour)
            axis.spines[:].set(visible=True, color=colour, lw=lw, ls=dashes)
        row[-1].set_title("weighted combination")
        row[0].set_ylabel(name)
    return figure
