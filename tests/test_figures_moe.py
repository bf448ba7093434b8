"""Figures of pairs and of the network: what is drawn is what was given."""

import matplotlib
import numpy as np
import pandas as pd
import pytest
import torch

from fusionlib.figures import moe as figures_moe
from fusionlib.networks import MoEFusion
from fusionlib.networks.inspection import trace

pytestmark = pytest.mark.usefixtures("figures_closed")


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"reading": "official"},
        {"background": False},
        {"local": "none"},
        {"local": "attention"},
        {"decoder": "single"},
        {"experts": 8, "k": 3},
    ],
    ids=str,
)
def test_architecture_shows_every_arrow_and_weight(options):
    images = [
        torch.rand(1, channels, 32, 40, generator=torch.Generator().manual_seed(1))
        for channels in (1, 1, 2)
    ]
    parts = trace(MoEFusion(width=4, gate_grid=((6, 8), (4, 5)), **options), *images).stages
    axis = figures_moe.architecture(parts, {"fused": np.zeros((32, 40), np.uint8)}).axes[0]
    arrows = [text for text in axis.texts if isinstance(text, matplotlib.text.Annotation)]
    assert len(arrows) == 1 + sum(len(part.reads) for part in parts.values())
    digits = 3 if options.get("experts", 4) <= 4 else 2
    weights = [
        f"{weight:.{digits}f}" for part in parts.values() for weight in part.weights if weight > 0
    ]
    words = [text.get_text().split("\n") for text in axis.texts if text.get_text().startswith("E")]
    numbers = [lines[1] for lines in words if len(lines) == 2]
    assert sorted(word for word in numbers if word != "0") == sorted(weights)
    assert numbers.count("0") == sum(
        weight == 0 for part in parts.values() for weight in part.weights
    )


def test_pairs_draw_the_same_boxes_twice():
    image, boxes = np.zeros((30, 40), np.uint8), np.array([[3.0, 4, 10, 12], [20, 8, 6, 9]])
    figure = figures_moe.pairs(
        {
            "a": (image, np.stack([image] * 3, 2), boxes, ["person", "lamp"]),
            "b": (image, image, None, []),
        }
    )
    drawn = [[patch.get_bbox().bounds for patch in axis.patches] for axis in figure.axes]
    assert sorted(map(len, drawn)) == [0, 0, 2, 2]
    both = [found for found in drawn if found]
    assert both[0] == both[1] == [(2.5, 3.5, 10, 12), (19.5, 7.5, 6, 9)]
    assert [text.get_text() for text in figure.legends[0].texts] == ["lamp", "person"]


def test_contrasts_has_a_panel_a_condition():
    frame = pd.DataFrame(
        {"condition": ["day", "night", "day"], "infrared": [1.0, 50, 4], "visible": [30.0, 5, 10]}
    )
    figure = figures_moe.contrasts(frame)
    assert [axis.get_title() for axis in figure.axes] == ["day, 2 objects", "night, 1 objects"]


def test_steeper_colours():
    picture = figures_moe.steeper(np.array([[1.0, 0.0, 0.0]]), np.array([[0.0, 1.0, 0.0]]))
    orange, blue, white = picture[0].astype(int)
    assert orange[0] > orange[2] and blue[2] > blue[0] and white.tolist() == [255] * 3


def test_stretch():
    values = np.linspace(-3, 7, 1001).reshape(7, 143)
    stretched = figures_moe.stretch(values)
    assert stretched.dtype == np.uint8 and stretched.min() == 0 and stretched.max() == 255
    assert np.ptp(figures_moe.stretch(np.full((4, 5), 2.0))) == 0


def test_channels_and_experts():
    rng = np.random.default_rng(0)
    assert (
        len(
            figures_moe.channels(
                {"a": rng.random((9, 6, 8)), "b": rng.random((4, 6, 8))}, count=4
            ).axes
        )
        == 2
    )
    rows = {
        "local": (
            rng.random((2, 3, 6, 8)),
            rng.random((3, 6, 8)),
            (0.0, 1.0),
            ("visible", "infrared"),
        ),
        "global": (rng.random((2, 1, 6, 8)), rng.random((1, 6, 8)), (0.4, 0.6), ("both", "both")),
    }
    titles = [axis.get_title() for axis in figures_moe.experts(rows).axes]
    assert titles == [
        "E1 visible, not selected",
        "E2 infrared, 1.000",
        "weighted combination",
        "E1 both, 0.400",
        "E2 both, 0.600",
        "weighted combination",
    ]
