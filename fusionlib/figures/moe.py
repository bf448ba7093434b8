"""Figures of infrared-visible pairs and of MoE-Fusion; they get arrays and frames and know no
network.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from fusionlib import images
from fusionlib.figures import COLOURS

# Warm for what comes from the infrared image, cool for the visible, in every figure of this file.
INFRARED, VISIBLE = COLOURS[1], COLOURS[0]
# of other classes: green
CLASS_COLOURS = {"person": "#E69F00", "car": "#56B4E9", "bicycle": "#CC79A7"}


def _bare(axis: plt.Axes) -> None:
    """Take ticks and frame away; ticks that are only hidden still cost most of the time of
    drawing.
    """
    axis.set(xticks=[], yticks=[])
    axis.spines[:].set_visible(False)


# ---- pairs ---------------------------------------------------------------------------------------


def pairs(shown: Mapping[str, tuple], columns: int = 4, width: float = 2.1) -> plt.Figure:
    """Draw pairs, the infrared image above the visible one, with the same boxes on both.

    Parameters
    ----------
    shown : {title: (infrared, visible, boxes, labels)}
        ``boxes`` (n, 4) as x, y, width, height in pixels of either image, or None.
    """
    columns = min(columns, len(shown))
    rows = -(-len(shown) // columns)
    shape = np.mean([infrared.shape[0] / infrared.shape[1] for infrared, *_ in shown.values()])
    figure, axes = plt.subplots(
        2 * rows,
        columns,
        squeeze=False,
        figsize=(width * columns, rows * (2 * width * shape + 0.35)),
    )
    for axis in axes.flat:
        _bare(axis)
    drawn = set()
    for number, (title, (infrared, visible, boxes, labels)) in enumerate(shown.items()):
        top, bottom = axes[2 * (number // columns) :, number % columns][:2]
        for axis, picture in ((top, infrared), (bottom, visible)):
            axis.imshow(picture, vmin=0, vmax=255, interpolation="auto")
            for (x, y, w, h), label in zip(() if boxes is None else boxes, labels, strict=True):
                colour = CLASS_COLOURS.get(label, COLOURS[2])
                axis.add_patch(
                    plt.Rectangle((x - 0.5, y - 0.5), w, h, fill=False, ec=colour, lw=1.2)
                )
                drawn.add((label, colour))
        top.set_title(title)
    handles = [plt.Line2D([], [], color=colour, label=label) for label, colour in sorted(drawn)]
    if handles:
        figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    return figure


def contrasts(frame: pd.DataFrame) -> plt.Figure:
    """Draw the contrast of objects in the infrared image over that in the visible one, a panel a
    condition.

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
    """Colour who has the steeper gradient: orange the infrared image, blue the visible one, white
    where both are flat.

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


def gallery(
    rows: Mapping[str, Sequence[np.ndarray]], titles: Sequence[str], width: float = 1.7
) -> plt.Figure:
    """Draw a row of pictures for each name, gray on 0..255, the titles above the columns."""
    height, breadth = next(iter(rows.values()))[0].shape[:2]
    tall = (width * height / breadth + 0.08) * len(rows) + 0.25
    figure, axes = plt.subplots(
        len(rows), len(titles), squeeze=False, figsize=(width * len(titles) + 0.3, tall)
    )
    for line, (name, pictures) in zip(axes, rows.items(), strict=True):
        for axis, picture in zip(line, pictures, strict=True):
            axis.imshow(picture, vmin=0, vmax=255, interpolation="auto")
            _bare(axis)
        line[0].set_ylabel(name)
    for axis, title in zip(axes[0], titles, strict=True):
        axis.set_title(title)
    return figure


# ---- the network ---------------------------------------------------------------------------------

SOURCE_COLOURS = {"infrared": INFRARED, "visible": VISIBLE, "both": COLOURS[2]}
# Left, bottom, width, height of each part, as in figure 2 of the paper; a part that a variant lacks
# stays empty.
PLACES = {
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
FUSED = (91, 20, 13, 10)
NAMES = {
    "foreground": ("MoLE, foreground", "Att-Local, foreground"),  # with experts, and without
    "background": ("MoLE, background", "Att-Local, background"),
    "global": ("MoGE", "single decoder"),
}
ARROW = {"arrowstyle": "-|>", "color": "0.3", "lw": 1.1, "shrinkA": 0, "shrinkB": 0}


def architecture(parts: Mapping[str, object], pictures: Mapping[str, np.ndarray]) -> plt.Figure:
    """Draw the network as it ran: parts with the shapes that came out, arrows, experts with the
    weights of their gates.

    Parameters
    ----------
    parts : {name: part}
        A part has ``reads`` (names of parts), ``shapes`` ({symbol: shape with the batch first}),
        and for a mixture ``weights`` and ``inputs`` ("visible", "infrared" or "both") of its
        experts; names as in ``PLACES``.
    pictures : {name: (h, w) or (h, w, 3) uint8}
        Shown instead of an empty box, for parts and for "fused".
    """
    figure, axis = plt.subplots(figsize=(11.8, 5.9))
    axis.set(xlim=(-1, 105), ylim=(-1, 52), xticks=[], yticks=[])
    axis.spines[:].set_visible(False)
    for name, part in parts.items():
        left, bottom, width, height = PLACES[name]
        lines = [f"{symbol}  {_shape(shape)}" for symbol, shape in part.shapes.items()]
        if name in pictures:
            _picture(axis, pictures[name], PLACES[name])
            axis.text(left + width / 2, bottom - 0.4, lines[-1], ha="center", va="top")
            axis.text(
                left + width / 2,
                bottom + height + 0.3,
                name,
                ha="center",
                va="bottom",
                weight="bold",
            )
        else:
            colour = SOURCE_COLOURS.get(name.split()[0], "0.3")
            axis.add_patch(
                matplotlib.patches.FancyBboxPatch(
                    (left, bottom),
                    width,
                    height,
                    boxstyle="round,pad=0,rounding_size=1",
                    fc="0.97",
                    ec=colour,
                    lw=1.3,
                )
            )
            title = NAMES[name][not part.weights] if name in NAMES else name
            axis.text(
                left + width / 2, bottom + height - 0.7, title, ha="center", va="top", weight="bold"
            )
            if part.weights:
                _experts(axis, part, lines, PLACES[name])
            else:
                axis.text(
                    left + width / 2,
                    bottom + height / 2 - 0.8,
                    "\n".join(lines),
                    ha="center",
                    va="center",
                )
        for source in part.reads:
            _arrow(axis, source, name)
    left, bottom, width, height = FUSED
    _picture(axis, pictures["fused"], FUSED)
    axis.text(
        left + width / 2,
        bottom + height + 0.3,
        "fused image",
        ha="center",
        va="bottom",
        weight="bold",
    )
    middle = bottom + height / 2
    axis.annotate(
        "", (left, middle), (PLACES["global"][0] + PLACES["global"][2], middle), arrowprops=ARROW
    )
    says = {
        "infrared": "expert on infrared features",
        "visible": "expert on visible features",
        "both": "expert on x_f",
    }
    key = [
        matplotlib.patches.Patch(color=SOURCE_COLOURS[name], label=label)
        for name, label in says.items()
    ]
    key.append(
        matplotlib.patches.Patch(fc="white", ec="0.5", ls="--", label="not selected, not computed")
    )
    figure.legend(handles=key, loc="outside lower center", ncols=4)
    return figure


def _shape(shape: Sequence[int]) -> str:
    return "×".join(map(str, shape[1:]))


def _picture(axis: plt.Axes, picture: np.ndarray, place: tuple[float, float, float, float]) -> None:
    left, bottom, width, height = place
    extent = (left, left + width, bottom, bottom + height)
    axis.imshow(picture, vmin=0, vmax=255, extent=extent, aspect="auto", interpolation="auto")


def _experts(
    axis: plt.Axes, part: object, lines: Sequence[str], place: tuple[float, float, float, float]
) -> None:
    """Draw what a mixture read, its experts with their weights in a row (a tall box: a column), and
    its output.
    """
    left, bottom, width, height = place
    upright, count = height > width, len(part.weights)
    digits = 3 if count <= 4 else 2
    middle = left + width / 2
    entry = ("\n" if upright else "   ").join(lines[:-1] if upright else lines[:2])
    axis.text(middle, bottom + height - (4 if upright else 3), entry, ha="center", va="top")
    axis.text(
        middle,
        bottom + 0.8,
        "   ".join(lines[-1:] if upright else lines[2:]),
        ha="center",
        va="bottom",
    )
    room, low = (height - 16, bottom + 4) if upright else (width - 2, bottom + 3.3)
    for number, (weight, source) in enumerate(zip(part.weights, part.inputs, strict=True)):
        if upright:
            box = (
                left + 1,
                low + room * (count - 1 - number) / count,
                width - 2,
                0.9 * room / count,
            )
        else:
            box = (left + 1 + room * number / count, low, 0.92 * room / count, height - 9)
        used = weight > 0
        look = (
            {"fc": SOURCE_COLOURS[source], "ec": "none"}
            if used
            else {"fc": "white", "ec": "0.5", "ls": "--"}
        )
        axis.add_patch(plt.Rectangle(box[:2], *box[2:], **look))
        axis.text(
            box[0] + box[2] / 2,
            box[1] + box[3] / 2,
            f"E{number + 1}\n" + (f"{weight:.{digits}f}" if used else "0"),
            ha="center",
            va="center",
            color="white" if used else "0.4",
        )


def _arrow(axis: plt.Axes, source: str, target: str) -> None:
    """Draw what ``target`` reads of ``source``; the dense features pass above and below the local
    mixtures.
    """
    (x0, y0, w0, h0), (x1, y1, _, h1) = PLACES[source], PLACES[target]
    lane, word = y0 + h0 / 2, ""
    if target == "global":
        start = end = y0 + (
            h0 - 3 if source == "infrared encoder" else 3 if source == "visible encoder" else h0 / 2
        )
        word = "x_dense" if "encoder" in source else ""
    elif target in ("foreground", "background"):
        shift = {"infrared encoder": 0.75, "attention": 0.5, "visible encoder": 0.25}[source]
        start, end = (
            lane + (0 if source == "attention" else -3 if source == "infrared encoder" else 3),
            y1 + shift * h1,
        )
        near = "x_enc" if abs(start - end) < 9 else ""  # said once for each encoder
        word = near if source != "attention" else "Att" if target == "foreground" else "1 − Att"
    else:
        start, end = lane, y1 + h1 / 2
    colour = SOURCE_COLOURS.get(source.split()[0], "0.3")
    axis.annotate("", (x1, end), (x0 + w0, start), arrowprops=ARROW | {"color": colour})
    if word:
        share = 0.3 if source == "attention" else 0.5
        axis.text(
            x0 + w0 + share * (x1 - x0 - w0),
            start + share * (end - start),
            word,
            ha="center",
            va="center",
            color=colour,
            bbox={"fc": "white", "ec": "none", "pad": 1},
        )


def channels(rows: Mapping[str, np.ndarray], count: int = 8, width: float = 9.5) -> plt.Figure:
    """Draw the first channels of feature maps behind each other, a row a map, each channel
    stretched by itself.

    Parameters
    ----------
    rows : {title: (C, h, w) float}
    """
    strips = {}
    for name, maps in rows.items():
        shown = [np.pad(stretch(channel), 2, constant_values=255) for channel in maps[:count]]
        strips[name] = [np.hstack(shown)]
    return gallery(strips, [f"the first {count} channels"], width)


def stretch(values: np.ndarray) -> np.ndarray:
    """Map any numbers to 8 bits for display: black is their 1 % quantile, white their 99 %
    quantile.
    """
    low, high = np.quantile(values, [0.01, 0.99])
    return images.from_unit(np.clip((values - low) / max(high - low, 1e-12), 0, 1))


def experts(rows: Mapping[str, tuple], width: float = 1.75) -> plt.Figure:
    """Draw what each expert makes of its input and what the gate makes of them, a row a mixture.

    Of maps with several channels the distance from their spatial median is shown, over the
    channels: what they say of the scene, without their constant part. Each picture has its own
    scale.

    Parameters
    ---------- rows : {title: (outputs (N, C, h, w), result (C, h, w), weights of the experts,
    sources of the experts)}
        Experts that were not selected are shown as they would have been, framed by dashes.
    """
    outputs, *_ = next(iter(rows.values()))
    count, (height, breadth) = len(outputs), outputs.shape[2:]
    figure, axes = plt.subplots(
        len(rows),
        count + 1,
        squeeze=False,
        figsize=(width * (count + 1) + 0.3, (width * height / breadth + 0.28) * len(rows)),
    )
    for line, (name, (outputs, result, weights, sources)) in zip(axes, rows.items(), strict=True):
        for axis, maps in zip(line, [*outputs, result], strict=True):
            several = len(maps) > 1
            shown = (
                np.linalg.norm(maps - np.median(maps, axis=(1, 2), keepdims=True), axis=0)
                if several
                else maps[0]
            )
            axis.imshow(stretch(shown), vmin=0, vmax=255, interpolation="auto")
            _bare(axis)
        for number, (axis, weight, source) in enumerate(zip(line, weights, sources, strict=False)):
            used = weight > 0
            colour = SOURCE_COLOURS[source] if used else "0.45"
            axis.set_title(
                f"E{number + 1} {source}, " + (f"{weight:.3f}" if used else "not selected"),
                color=colour,
            )
            axis.spines[:].set(
                visible=True, color=colour, lw=2 if used else 1, ls="-" if used else "--"
            )
        line[-1].set_title("weighted combination")
        line[0].set_ylabel(name)
    return figure
