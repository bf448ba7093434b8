"""Statements on trained models: measured right on cases whose answer is known, and drawn."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch

from fusionlib import groups, images, losses
from fusionlib.datasets.infrared_visible import Pair
from fusionlib.datasets.scenes import CONDITIONS, scene, write_scenes
from fusionlib.experiments import expert_use, held_out
from fusionlib.figures import experts as figures_experts
from fusionlib.networks import save_checkpoint
from fusionlib.training.config import TrainingConfig, open_pairs
from fusionlib.training.model import Model, load
from fusionlib.training.presets import SMOKE

TINY = TrainingConfig.from_dict(
    {
        "data": {"scenes": [2, 6], "size": [40, 56]},
        "network": {"width": 4, "gate_grid": [[3, 4], [3, 4]]},
        "detectors.size": "small",
    }
)


@pytest.fixture(scope="module")
def pairs():
    return open_pairs(TINY, held_out=True)


@pytest.fixture(scope="module")
def model():
    """As a training begins."""
    return Model(TINY, "joint").eval()


@pytest.fixture(scope="module")
def use(model, pairs):
    return expert_use.measure_usage(model, pairs, expert_use.conditions(pairs))


# ---- held-out pairs ------------------------------------------------------------------------------


def test_inside_is_the_boxes():
    image = np.zeros((20, 30), np.uint8)
    mask = held_out.object_mask(
        Pair("p", image, image, np.array([[3, 4, 5, 6], [20, 10, 10, 10]]), ["car"] * 2)
    )
    expected = np.zeros((20, 30), bool)
    expected[4:10, 3:8] = expected[10:, 20:] = True
    assert np.array_equal(mask, expected)
    assert held_out.object_mask(Pair("p", image, image)) is None
    assert not held_out.object_mask(Pair("p", image, image, np.zeros((0, 4)), [])).any()


def test_scores_of_what_needs_no_learning(model, pairs):
    """The maximum is at the maximum, a source keeps all of itself, and the gradient term is the
    loss's.
    """
    scores = held_out.score(
        model, [*pairs[:2], Pair("bare", pairs[2].infrared, pairs[2].visible)], "ours"
    )
    assert list(dict.fromkeys(scores["method"])) == ["ours", *held_out.UNLEARNT]
    wide = scores.pivot(index="image", columns=["method", "metric"], values="value")
    far = held_out.DISTANCE
    assert (wide["maximum", far].dropna() == 0).all() and (wide["average", far].dropna() > 0).all()
    assert wide.loc["bare", [(method, far) for method in ("ours", *held_out.UNLEARNT)]].isna().all()
    infrared, visible = (
        torch.from_numpy(x)[None, None] / 255.0
        for x in (pairs[0].infrared, images.luma(pairs[0].visible))
    )
    expected = float(losses.gradient_loss(visible, infrared, visible))
    assert wide.loc[pairs[0].name, ("visible", held_out.GRADIENT)] == pytest.approx(expected)
    table = held_out.means(scores)
    assert table.loc["average", "AG"] == pytest.approx(wide["average", "AG"].mean()) and list(
        table.columns
    ) == list(held_out.BETTER)


def test_against_knows_which_way_is_better():
    names, rng = [f"{i}" for i in range(20)], np.random.default_rng(0)
    rows = [
        (name, method, metric, rng.normal() * 0.1 + (method == "ours"))
        for name in names
        for method in ("ours", "average", "maximum")
        for metric in held_out.BETTER
    ]
    table = held_out.compare_to_baselines(
        pd.DataFrame(rows, columns=["image", "method", "metric", "value"])
    )
    expected = {
        metric: "better" if way == "higher" else "worse" for metric, way in held_out.BETTER.items()
    }
    assert (table["verdict"] == table["metric"].map(expected)).all() and len(table) == 10
    assert (table["better"] == (table["verdict"] == "better")).all() and (
        table["low"] <= table["difference"]
    ).all()


def test_unseen_pairs(tmp_path):
    found = held_out.pairs(SMOKE, limit=3, scene_size=(32, 48))
    assert [pair.infrared.shape for pair in found] == [(32, 48)] * 3
    assert not {pair.name for pair in found} & {
        pair.name
        for pair in open_pairs(
            TrainingConfig.from_dict({"scenes": (3, 1), "size": (32, 48)}, SMOKE)
        )
    }
    write_scenes(tmp_path, range(4), (32, 48), evaluation=0.5)
    trained = TrainingConfig.from_dict({"data.folder": str(tmp_path)}, SMOKE)
    assert [pair.name for pair in held_out.pairs(trained)] == ["00002_night", "00003_smoke"]
    assert len(held_out.pairs(trained, str(tmp_path))) == 2, "its own folder: the part held out"
    assert (
        len(held_out.pairs(trained, limit=1)) == 1
        and len(held_out.pairs(SMOKE, str(tmp_path), limit=3)) == 3
    )


def test_attention_inside_and_outside(model, pairs):
    found = held_out.attention(model, [pairs[0], Pair("bare", pairs[1].infrared, pairs[1].visible)])
    assert found["map"].tolist() == ["infrared", "visible", "Att"] and set(found["image"]) == {
        pairs[0].name
    }
    maps = model.predict_pair(pairs[0].infrared, pairs[0].visible, details=False)[1][0, 0].numpy()
    assert found["inside"].iloc[0] == pytest.approx(
        maps[held_out.object_mask(pairs[0])].mean(), rel=1e-5
    )


def test_model_below_a_folder(model, pairs, tmp_path):
    """The folder of a notebook that trained holds the model one level down."""
    saved = Model(TINY, "joint")
    save_checkpoint(
        tmp_path / "model" / "model.safetensors",
        saved,
        {"settings": TINY.to_dict(), "attention": "joint"},
    )
    one, two = load(tmp_path, "cpu"), load(tmp_path / "model", "cpu")
    assert np.array_equal(
        one.fuse(pairs[0].infrared, pairs[0].visible), two.fuse(pairs[0].infrared, pairs[0].visible)
    )


# ---- what experts respond to ---------------------------------------------------------------------


def test_before_training_nothing_is_gained(use):
    """A model that has its first weights responds as those do."""
    table = expert_use.gain_over_untrained(use.energies)
    gains = table[["gain, dB", "gain low", "gain high"]].dropna()  # a silent expert has no ratio
    assert len(table) == 8 and len(gains) > 4 and (gains == 0).all(axis=None)
    assert expert_use.verdicts(use.energies).loc[
        "training moved its energy to its own side"
    ].tolist() == ["0 of 4", "0 of 4"]


def test_response_is_what_the_input_adds(model, pairs):
    """Nothing in, nothing out; an expert without biases answers c times its input c times as
    strongly.
    """
    mixture = Model(TINY, "uniform").fusion.local_mixtures["foreground"]
    features = [
        torch.rand(1, 4, 9, 11, generator=torch.Generator().manual_seed(i)) for i in range(2)
    ]
    with torch.no_grad():
        assert (expert_use._response(mixture, [0 * x for x in features]) == 0).all()
        for expert in mixture.experts:
            for layer in expert.layers:
                layer.bias.zero_()
        once, thrice = (expert_use._response(mixture, [c * x for x in features]) for c in (1, 3))
        outputs = mixture.every_output(features)[0].double()
    assert once.shape == (4, 9, 11) and thrice == pytest.approx(3 * once, rel=1e-5)
    assert once == pytest.approx(outputs.square().mean(dim=1).sqrt().numpy(), rel=1e-5)


def test_energies_of_a_planted_response():
    maps, mask = np.full((4, 6, 8), 2.0), np.zeros((6, 8), bool)
    mask[:3] = True
    maps[0, :3], maps[3, :3] = 20.0, 0.0
    rows = list(expert_use._energy_rows(maps, mask))
    assert [row["reads"] for row in rows] == ["visible", "visible", "infrared", "infrared"]
    assert [row["ratio, dB"] for row in rows[:3]] == pytest.approx([20, 0, 0]) and np.isnan(
        rows[3]["ratio, dB"]
    )
    assert rows[0]["inside"] == 400 and rows[0]["outside"] == 4


def planted(masked, untrained, unmasked):
    """Energies in which foreground experts have these ratios and background experts the negative
    ones.
    """
    rng, rows = np.random.default_rng(1), []
    for features, ratio in (
        (expert_use.MASKED, masked),
        (expert_use.UNMASKED, unmasked),
        (expert_use.UNTRAINED, untrained),
    ):
        rows += [
            {
                "image": f"{i}",
                "features": features,
                "ground": ground,
                "expert": expert,
                "reads": reads,
                "ratio, dB": sign * ratio + 0.1 * rng.normal(),
            }
            for i in range(12)
            for ground, sign in (("foreground", 1), ("background", -1))
            for expert, reads in ((1, "visible"), (2, "visible"), (3, "infrared"), (4, "infrared"))
        ]
    return pd.DataFrame(rows)


@pytest.mark.parametrize(
    ("ratios", "expected"),
    [
        # the mask does it all: seen in the first two lines alone
        ((6, 6, 0), ["4 of 4", "4 of 4", None, None, None]),
        ((6, 2, 3), ["4 of 4", "4 of 4", "4 of 4", "4 of 4", "4 of 4"]),
        ((-3, 2, -1), ["0 of 4", "4 of 4", "0 of 4", "0 of 4", "0 of 4"]),
    ],
)
def test_verdicts(ratios, expected):
    found = expert_use.verdicts(planted(*ratios))
    for line, (_, row) in zip(expected, found.iterrows(), strict=True):
        assert line is None or row.tolist() == [line, line]
    if ratios[0] == ratios[1]:
        assert abs(expert_use.gain_over_untrained(planted(*ratios))["gain, dB"]).max() < 0.2


def test_frames_of_one_drive_are_one_sample():
    """Every frame ten times is no more evidence; without groups it would be."""
    once = planted(2, 1, 0).query("image in ['0', '1', '2', '3', '4', '5', '6']")
    assert once["image"].nunique() == 7
    once = once.assign(group=once["image"])
    often = pd.concat([once.assign(image=once["image"] + f"-{i}") for i in range(10)])
    for table, columns in (
        (expert_use.specialised, ["low", "high"]),
        (expert_use.gain_over_untrained, ["gain low", "gain high"]),
        (expert_use.gain_over_untrained, ["preference low", "preference high"]),
    ):
        one, ten = (table(energies)[columns] for energies in (once, often))
        pd.testing.assert_frame_equal(one, ten)
        apart = table(often.drop(columns="group"))[columns]
        assert (np.ptp(apart, axis=1) < 0.6 * np.ptp(ten, axis=1)).all()
    drives = often.assign(group=(often["image"].str[0].astype(int) % 5).astype(str))
    assert (expert_use.verdicts(drives) == groups.TOO_FEW).all(axis=None)


# ---- what gates do -------------------------------------------------------------------------------


def test_gate_rows(use, model, pairs):
    gates = use.gates
    weights = gates[[f"expert {i}" for i in range(1, 5)]].to_numpy()
    assert (
        len(gates) == 3 * len(pairs)
        and weights.sum(axis=1) == pytest.approx(1)
        and ((weights > 0).sum(axis=1) == 2).all()
    )
    positive = np.where(weights > 0, weights, 1)
    assert gates["entropy"].to_numpy() == pytest.approx(
        -(positive * np.log(positive)).sum(axis=1), abs=1e-6
    )
    local = (gates["gate"] != "global").to_numpy()
    assert gates["visible share"].to_numpy()[local] == pytest.approx(weights[local, :2].sum(axis=1))
    assert gates["visible share"][~local].isna().all()
    served = expert_use.chosen(gates)
    assert served.drop(columns="pairs").sum(axis=1).to_numpy() == pytest.approx(2) and served[
        "pairs"
    ].sum() == len(gates)


def test_trends_find_a_planted_relation():
    light = np.arange(12.0)
    frame = pd.DataFrame(
        {
            "gate": "foreground",
            "condition": ["night"] * 6 + ["day"] * 6,
            "luminance": light,
            "visible share": light**2,
            "entropy": 0.5,
        }
    )
    share, entropy = expert_use.trends(frame).itertuples(index=False)
    assert (
        share.rho == pytest.approx(1)
        and share.p < 1e-6
        and share[6] < 0.01
        and (share.lowest, share.highest) == (0, 121)
    )
    assert np.isnan(entropy.rho) and np.isnan(entropy.p) and entropy.n == 12
    frame["image"] = frame["group"] = [f"drive {number}" for number in range(12)]
    often = pd.concat([frame.assign(image=frame["image"] + f", {i}") for i in range(10)])
    again = expert_use.trends(often)
    assert list(again["n"]) == [12, 12]
    pd.testing.assert_frame_equal(again, expert_use.trends(frame))


def test_conditions(tmp_path, pairs):
    assert expert_use.conditions(pairs) == [CONDITIONS[int(pair.name[-4:]) % 4] for pair in pairs]
    assert all(
        np.array_equal(pair.infrared, scene(int(pair.name[-4:]), TINY.data.size, kind).infrared)
        for pair, kind in zip(pairs[:4], expert_use.conditions(pairs), strict=False)
    )
    write_scenes(tmp_path, range(2), (32, 32))
    found = held_out.pairs(TINY, str(tmp_path))
    assert expert_use.conditions(found, str(tmp_path)) == ["day", "dusk"]
    named = [Pair(name, None, None) for name in ("00209D", "00762N", "FLIR_01", "12X")]
    assert expert_use.conditions(named) == ["day", "night", "not stated", "not stated"]


def test_models_without_local_mixtures_are_refused(pairs):
    plain = Model(TrainingConfig.from_dict({"network.local": "none"}, TINY), "uniform").eval()
    with pytest.raises(ValueError, match="expected local mixtures of experts, got local='none'"):
        expert_use.measure_usage(plain, pairs[:1])


def test_pairs_without_boxes_have_gates_but_no_energies(model, pairs):
    bare = expert_use.measure_usage(model, [Pair("bare", pairs[0].infrared, pairs[0].visible)])
    assert len(bare.gates) == 3 and not len(bare.energies)


# ---- figures -------------------------------------------------------------------------------------


@pytest.fixture
def closed():
    yield
    plt.close("all")


def test_figures_show_what_they_are_given(use, model, pairs, closed):
    table = expert_use.specialised(use.energies)
    axes = figures_experts.energies(table).axes
    dots = sorted(
        float(line.get_xdata()[0])
        for axis in axes
        for line in axis.lines
        if line.get_marker() in "os"
    )
    silent = table["ratio, dB"].isna()
    assert dots == pytest.approx(sorted(table["ratio, dB"][~silent])) and len(axes) == 3
    assert (
        sum(text.get_text().strip() == "silent" for axis in axes for text in axis.texts)
        == silent.sum()
    )
    assert (
        len(figures_experts.light(use.gates).axes) == 5
        and len(figures_experts.use(expert_use.chosen(use.gates)).axes) == 3
    )
    fusion, _ = model.predict_pair(pairs[0].infrared, pairs[0].visible)
    responses = expert_use.weighted_responses(model, fusion)
    maps = expert_use.responses(model, fusion)[expert_use.MASKED]
    for ground, (drawn_maps, weights) in responses.items():
        np.testing.assert_array_equal(drawn_maps, maps[ground])
        assert weights == fusion.gates[ground][0].tolist()
    assert list(responses) == ["foreground", "background"]
    modalities = expert_use.modalities(4)
    assert modalities == ["visible", "visible", "infrared", "infrared"]
    row = (pairs[0].infrared, images.luma(pairs[0].visible), pairs[0].boxes, responses)
    sheet = figures_experts.experts({"a": row}, modalities)
    framed = [axis for axis in sheet.axes if axis.texts]
    assert len(sheet.axes) == 10 and len(framed) == 4
    scores = held_out.score(model, pairs[:2])
    drawn = figures_experts.rows(scores, held_out.BETTER).axes
    assert [label.get_text() for label in drawn[0].get_yticklabels()] == [
        *held_out.UNLEARNT[::-1],
        "MoE-Fusion",
    ]


@pytest.mark.parametrize(
    "keep",
    [lambda log: log, lambda log: log.filter(regex="^(?!detection|ap_|foreground|background)")],
)
def test_training_figure(keep, closed):
    """Also of a log without detectors and without local mixtures."""
    log = pd.DataFrame(
        {
            "epoch": [1, 2, 3],
            "phase": ["detectors", "joint", "joint"],
            "pixel": [np.nan, 0.2, 0.1],
            "gradient": [np.nan, 0.4, 0.2],
            "load": [np.nan, 0.01, 0.01],
            "detection_infrared": [1, 0.8, 0.7],
            "detection_visible": [1, 0.9, 0.7],
            "ap_infrared": [np.nan, np.nan, 0.3],
            "ap_visible": [np.nan, np.nan, 0.2],
        }
    )
    for gate in figures_experts.GATES:
        log = log.assign(
            **{
                f"{gate}_entropy": 0.6,
                f"{gate}_visible": 0.5,
                **{f"{gate}_load_{i}": 0.5 for i in range(4)},
            }
        )
    axes = figures_experts.training(keep(log), 10).axes
    gradient = next(line for line in axes[0].lines if line.get_label() == "10 gradient")
    assert gradient.get_ydata() == pytest.approx([4, 2]) and len(axes) == 8
