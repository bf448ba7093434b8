"""Ablations: variants differ in what they name, controls change the gates alone, comparisons count
what they say.
"""

import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import ttest_1samp

from fusionlib import images, published
from fusionlib.datasets import open_pairs
from fusionlib.experiments import ablations, gate_controls
from fusionlib.experiments.ablations import FIGURE_7, FIGURE_8, FULL, TABLE_2
from fusionlib.figures import ablations as figures_ablations
from fusionlib.networks import MoEFusion
from fusionlib.networks.inspection import count_parameters_and_flops
from fusionlib.training import TrainingConfig, train
from fusionlib.training.config import dotted
from fusionlib.training.model import load

TINY = TrainingConfig.from_dict(
    {
        "data": {"scenes": [4, 1], "size": [32, 48]},
        "network": {"width": 2, "gate_grid": [[2, 3], [2, 3]]},
        "detectors": {"size": "small", "attention": "frozen"},
        "optimization": {"batch": 2, "epochs": 1, "detector_epochs": 1, "lr": 1e-3},
    }
)
VARIANTS = {**TABLE_2, **ablations.EQUAL_OPERATIONS}


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("node") / "model"
    train(TINY, folder, progress=False)
    return folder


@pytest.fixture(scope="module")
def common(checkpoint):
    return ablations.prepare_shared(checkpoint, device="cpu")


@pytest.fixture(scope="module")
def pairs():
    return open_pairs(limit=3, size=(32, 48), seed=0)


@pytest.fixture(scope="module")
def trained(common, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trainings")
    found, problems = ablations.train_all(
        common, VARIANTS, [0, 1], folder, device="cpu", progress=False
    )
    assert not problems
    return found


@pytest.fixture(scope="module")
def methods(trained):
    return {key: ablations.method(folder, *key, device="cpu") for key, folder in trained.items()}


@pytest.fixture(scope="module")
def scored(methods, pairs, tmp_path_factory):
    return ablations.score(methods, pairs, tmp_path_factory.mktemp("scores"), progress=False)


# ---- variants ------------------------------------------------------------------------------------


def test_names_are_those_in_print():
    assert list(TABLE_2) == list(dict.fromkeys(published.table("moe-fusion", 2)["variant"]))
    assert list(ablations.METRICS) == list(
        dict.fromkeys(published.table("moe-fusion", 2)["metric"])
    )
    assert list(FIGURE_7) == ["E2K2", "E4K2", "E6K2", "E8K2", "E4K1", "E4K3", "E4K4"]
    assert list(FIGURE_8) == ["alpha 1", "alpha 5", "alpha 10", "alpha 20", "alpha 40"]


@pytest.mark.parametrize("name", [*VARIANTS, *FIGURE_7, *FIGURE_8])
def test_a_variant_changes_what_it_names(name):
    change = {**VARIANTS, **FIGURE_7, **FIGURE_8}[name]
    base = dict(dotted(ablations.variant_settings(TINY, {}, 3).to_dict()))
    varied = ablations.variant_settings(TINY, change, 3)
    made = dict(dotted(varied.to_dict()))
    assert {key for key in base if base[key] != made[key]} <= set(change)
    assert {key: made[key] for key in change} == change
    assert varied.run.seed == varied.network.seed == 3 and varied.network.width == 2


def test_full_e4k2_and_alpha_10_are_one():
    """The settings themselves are the key: equal ones are one training."""
    named = (TABLE_2[FULL], FIGURE_7["E4K2"], FIGURE_8["alpha 10"])
    assert len({ablations.variant_settings(TINY, change, 0) for change in named}) == 1
    assert ablations.variant_settings(TINY, {}, 0) != ablations.variant_settings(TINY, {}, 1)


@pytest.mark.parametrize(
    ("width", "k", "experts"), [(16, 2, 4), (8, 2, 4), (16, 1, 4), (16, 4, 4), (16, 3, 6)]
)
def test_wide_decoder_takes_the_operations_of_k_experts(width, k, experts):
    common = {"width": width, "k": k, "experts": experts, "gate_grid": [[2, 3], [2, 3]]}
    mixture, wide, single = (
        count_parameters_and_flops(MoEFusion(decoder=name, **common))
        for name in ("moge", "wide", "single")
    )
    assert wide["decoder"][1] == pytest.approx(mixture["global experts"][1], rel=0.03)
    assert wide["decoder"][1] == pytest.approx(k * single["decoder"][1], rel=0.03)
    if k == 1:
        assert wide["decoder"] == single["decoder"]


def test_wide_decoder_starts_as_the_average():
    images = torch.rand(2, 1, 1, 16, 20, generator=torch.Generator().manual_seed(0))
    network = MoEFusion(decoder="wide", width=8, gate_grid=[[2, 3], [2, 3]]).eval()
    with torch.no_grad():
        out = network(images[0], images[1], torch.full((1, 2, 4, 5), 0.5))
    assert not {"global"} & out.gates.keys()
    assert (out.fused - images.mean(dim=0)).abs().mean() < 0.1


def test_cost_of_the_papers_network():
    table = ablations.cost(TrainingConfig(), VARIANTS, (480, 640))
    whole = count_parameters_and_flops(MoEFusion())
    assert table.loc[FULL, ["parameters", "of gates"]].sum() == sum(
        parameters for parameters, _ in whole.values()
    )
    assert (
        table.loc[["w/o MoLE", "w/o MoGE", "Att-Local"], "operations (1e6)"]
        < table.loc[FULL, "operations (1e6)"]
    ).all()
    equal = table.loc[ablations.WIDE, "operations (1e6)"]
    assert equal == pytest.approx(table.loc[FULL, "operations (1e6)"], rel=0.02)


# ---- training ------------------------------------------------------------------------------------


def test_detectors_are_shared_and_stay(checkpoint, common, trained):
    before = load(checkpoint, "cpu").detectors.state_dict()
    for (name, seed), folder in trained.items():
        model = load(folder, "cpu")
        assert model.settings == ablations.variant_settings(common.settings, VARIANTS[name], seed)
        assert all(
            torch.equal(before[key], value) for key, value in model.detectors.state_dict().items()
        )
    assert len(common.maps) == len(common.pairs) == 4


def test_shared_maps_give_the_same_training(common, trained, tmp_path):
    alone = train(
        ablations.variant_settings(common.settings, TABLE_2[FULL], 1),
        tmp_path,
        held_out=[],
        device="cpu",
        progress=False,
    )
    shared = load(trained[FULL, 1], "cpu").state_dict()
    assert all(torch.equal(shared[key], value) for key, value in alone.state_dict().items())


def test_finished_ones_are_kept_and_others_go_on(common, trained, tmp_path):
    folder = tmp_path / "again"
    shutil.copytree(trained[FULL, 0].parent, folder / common.checksum[:8])
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("log.csv")}
    shutil.rmtree(folder / common.checksum[:8] / trained["Att-Local", 0].name)
    found, problems = ablations.train_all(
        common, VARIANTS, [0, 1], folder, device="cpu", progress=False
    )
    assert found.keys() == trained.keys() and not problems
    kept = [path for path in before if path.exists() and path.stat().st_mtime_ns == before[path]]
    assert len(kept) == len(before) - 1
    one, two = (load(each["Att-Local", 0], "cpu").state_dict() for each in (found, trained))
    assert all(torch.equal(one[key], two[key]) for key in one)


def test_trainings_at_a_time_are_those_one_after_the_other(common, tmp_path):
    # as processes are sent them
    packed = [replace(pair, visible=np.ascontiguousarray(pair.visible)) for pair in common.pairs]
    shared = common._replace(pairs=packed)
    variants = {FULL: {}, "wild": {"optimization.lr": 1e30}, "w/o MoLE": VARIANTS["w/o MoLE"]}
    trained, problems = {}, {}
    for n in (1, 2):
        options = {"device": "cpu", "processes": n, "progress": False}
        trained[n], problems[n] = ablations.train_all(
            shared, variants, [1], tmp_path / str(n), **options
        )
    assert list(trained[1]) == list(trained[2]) == [(FULL, 1), ("w/o MoLE", 1)]
    assert len(problems[2]) == 1 and problems[2][0].startswith("wild, seed 1: ")
    for key, folder in trained[1].items():
        one, two = (load(each, "cpu").state_dict() for each in (folder, trained[2][key]))
        assert all(torch.equal(one[name], two[name]) for name in one)


def test_same_settings_are_trained_once(common, tmp_path):
    names = {"full": {}, "E4K2": FIGURE_7["E4K2"], "alpha 10": FIGURE_8["alpha 10"]}
    found, _ = ablations.train_all(common, names, [0], tmp_path, device="cpu", progress=False)
    assert len(set(found.values())) == 1 and len(list(tmp_path.rglob("model.safetensors"))) == 1


def test_a_training_that_fails_is_named_and_the_others_go_on(common, tmp_path):
    wild = {"wild": {"optimization.lr": 1e30}, FULL: {}}
    found, problems = ablations.train_all(common, wild, [0], tmp_path, device="cpu", progress=False)
    assert list(found) == [(FULL, 0)]
    assert (
        len(problems) == 1
        and problems[0].startswith("wild, seed 0: ")
        and "not finite" in problems[0]
    )


def test_checkpoint_folder_or_node_folder(checkpoint, common):
    assert ablations.prepare_shared(checkpoint.parent, device="cpu").checksum == common.checksum
    assert (
        ablations.prepare_shared(checkpoint, epochs=7, device="cpu").settings.optimization.epochs
        == 7
    )
    with pytest.raises(FileNotFoundError, match="model.safetensors"):
        ablations.prepare_shared(checkpoint.parent.parent, device="cpu")


def test_without_detectors(tmp_path):
    train(
        TrainingConfig.from_dict(
            {"detectors.attention": "uniform", "optimization.detector_epochs": 0}, TINY
        ),
        tmp_path / "a",
        progress=False,
    )
    common = ablations.prepare_shared(tmp_path / "a", device="cpu")
    found, problems = ablations.train_all(
        common, {FULL: {}}, [0], tmp_path / "b", device="cpu", progress=False
    )
    assert common.maps is None and not problems and load(found[FULL, 0], "cpu").detectors is None


# ---- scores --------------------------------------------------------------------------------------


def test_scores_are_those_of_the_models(scored, trained, pairs):
    frame, problems = scored
    assert not problems and len(frame) == len(VARIANTS) * 2 * 3 * 8
    from fusionlib import metrics

    pair, model = pairs[1], load(trained["Att-Local", 1], "cpu")
    fused = model.fuse(pair.infrared, images.luma(pair.visible))
    expected = metrics.evaluate(
        fused, pair.infrared, images.luma(pair.visible), ablations.METRICS, "moe-fusion"
    )
    rows = frame[
        (frame["variant"] == "Att-Local") & (frame["seed"] == 1) & (frame["image"] == pair.name)
    ]
    assert dict(zip(rows["metric"], rows["value"], strict=True)) == pytest.approx(
        expected, nan_ok=True
    )


def made_up(changes):
    """Scores of 12 images, 2 seeds, one metric, with these differences to "a" for each seed."""
    base = np.random.default_rng(0).normal(size=12)
    return pd.DataFrame(
        [
            {
                "variant": name,
                "seed": seed,
                "image": f"i{i}",
                "metric": "EN",
                "value": base[i] + by[seed] * (1 + i / 9),
            }
            for name, by in changes.items()
            for seed in range(len(by))
            for i in range(12)
        ]
    )


@pytest.mark.parametrize(
    "seeds, up, others",
    [
        (1, "no verdict", "no verdict"),
        (2, "no verdict", "no verdict"),
        (3, "indicative: better", "not shown"),
        (4, "indicative: better", "not shown"),
        (5, "better", "not shown"),
    ],
)
def test_differences(seeds, up, others):
    steps = np.arange(seeds) / 10
    changes = {
        "a": np.zeros(seeds),
        "up": 1 + steps,
        "split": (-1.0) ** np.arange(seeds) * (1 + steps),
        "same": np.zeros(seeds),
    }
    table = ablations.differences(made_up(changes), "a").set_index("variant")
    expected = [(1 + step) * (1 + i / 9) for i in range(12) for step in steps]
    assert table.loc["up", "difference"] == pytest.approx(np.mean(expected))
    assert table["verdict"].to_dict() == {"a": others, "up": up, "split": others, "same": others}
    assert table.loc["split", ["agree", "seeds"]].tolist() == [-(-seeds // 2), seeds]
    if seeds > 1:
        p = ttest_1samp((1 + steps) * np.mean(1 + np.arange(12) / 9), 0).pvalue
        assert table.loc["up", "p"] == pytest.approx(p)
        assert table.loc["up", "p_holm"] == pytest.approx(min(1, 3 * p))
    assert (
        table.loc["a", ["difference", "p_holm"]].tolist() == [0, 1]
        and (table["images"] == 12).all()
    )
    with pytest.raises(ValueError, match="baseline: expected one of a, b, got 'c'"):
        ablations.differences(made_up({"a": (0, 0), "b": (0, 0)}), "c")


def test_differences_change_sign_with_the_baseline():
    frame = made_up({"a": (0, 0, 0, 0, 0), "b": (1, 2, 1, 2, 1)})
    one = ablations.differences(frame, "a").set_index("variant").loc["b"]
    two = ablations.differences(frame, "b").set_index("variant").loc["a"]
    assert one["difference"] == pytest.approx(-two["difference"]) and one["p"] == two["p"]
    assert (one["verdict"], two["verdict"]) == ("better", "worse")


@pytest.mark.parametrize("seeds", [3, 5])
def test_seed_noise_alone_is_shown_in_at_most_5_percent_of_trials(seeds):
    """Two variants that differ by nothing but the seeds of their trainings, 1 % of a value, the
    noise that the suite measures; 8 metrics, 20 images.
    """
    rng, metrics, trials = np.random.default_rng(0), ablations.METRICS, 60
    index = pd.MultiIndex.from_product(
        [["full", "variant"], metrics, range(seeds), range(20)],
        names=["variant", "metric", "seed", "image"],
    )
    shape, shown = (2, len(metrics), seeds, 20), 0
    for _ in range(trials):
        value = rng.uniform(0.5, 1.5, (1, len(metrics), 1, 20)) * np.ones(shape)
        value *= 1 + 0.01 * rng.normal(size=(2, len(metrics), seeds, 1))
        value += 0.002 * rng.normal(size=shape)
        scores = pd.DataFrame({"value": value.ravel()}, index).reset_index()
        verdicts = ablations.differences(scores, "full")["verdict"]
        shown += verdicts.str.contains("better|worse").any()
    assert shown <= 0.05 * trials


def test_an_interval_over_trainings_is_wider_than_one_over_images():
    rng = np.random.default_rng(0)
    delta = rng.normal(0, 0.1, (50, 1)) + rng.normal(0, 1, (1, 6))
    low, high = ablations.hierarchical_interval(delta)
    spread = delta.mean(axis=0).std()
    assert high - low == pytest.approx(2 * 1.96 * spread / np.sqrt(6), rel=0.15)
    assert low < delta.mean() < high
    assert np.isnan(ablations.hierarchical_interval(np.zeros((0, 3)))).all()


def test_counts_and_claims():
    rng = np.random.default_rng(1)

    def table(names, reference):
        rows = [
            {
                "variant": name,
                "metric": metric,
                "difference": 0.0 if name == reference else rng.normal(),
                "verdict": "not shown",
            }
            for name in names
            for metric in ablations.METRICS
        ]
        return pd.DataFrame(rows)

    experts, alphas = table(FIGURE_7, "E4K2"), table(FIGURE_8, "alpha 10")
    experts.loc[(experts["variant"] == "E2K2"), "difference"] = [-1] * 7 + [1]
    experts.loc[(experts["variant"] == "E2K2"), "verdict"] = (
        ["worse"] * 3 + ["not shown"] * 4 + ["better"]
    )
    counted = ablations.counts(experts, "E4K2")
    assert counted.loc["E2K2"].tolist() == [7, 1, "Qabf", 3, 1] and "E4K2" not in counted.index
    claims = ablations.claims_of_figures(counted, ablations.counts(alphas, "alpha 10"))
    assert (
        set(claims["setting"]) == {*FIGURE_7, *FIGURE_8} - {"E4K2", "alpha 10"}
        and claims["setting"].is_unique
    )
    assert claims.set_index("setting").loc["E2K2", ["printed", "here", "shown"]].tolist() == [
        "E4K2 ahead in 7",
        "ahead in 7",
        "ahead in 3",
    ]
    assert claims.set_index("setting").loc["alpha 40", "printed"] == "better in SF AG only"


def test_figure_shows_every_variant_and_metric(scored):
    from matplotlib import pyplot as plt

    table = ablations.differences(scored[0], FULL)
    figure = figures_ablations.variants(table, FULL)
    panels = [axis for axis in figure.axes if axis.get_title()]
    assert [axis.get_title() for axis in panels] == list(ablations.METRICS)
    markers = [line for line in panels[0].lines if line.get_marker() in "os"]
    drawn = [float(np.squeeze(line.get_ydata())) for line in markers]
    assert drawn == pytest.approx(table[table["metric"] == "EN"]["value"].tolist())
    assert [label.get_text() for label in panels[-1].get_xticklabels()] == list(VARIANTS)
    plt.close(figure)


# ---- gates ---------------------------------------------------------------------------------------


def test_own_gates_change_nothing(methods, pairs):
    model = methods[FULL, 0].function.network
    own = gate_controls.gate_decisions(model, pairs)
    for pair in pairs:
        before = model.fuse(pair.infrared, pair.visible)
        with gate_controls.fixed_gates(model.fusion, own[pair.name]):
            assert np.array_equal(model.fuse(pair.infrared, pair.visible), before)
        # its own gates are back
        assert np.array_equal(model.fuse(pair.infrared, pair.visible), before)


@pytest.mark.parametrize(
    ("decided", "expert", "weight", "expected"),
    [
        ([0.5, 0.5, 0, 0], 3, 0.8, [0.1, 0.1, 0.8, 0]),
        ([0.6, 0.4, 0, 0], 1, 0.2, [0.2, 0.8, 0, 0]),
        ([0, 1, 0, 0], 2, 0.4, [0.2, 0.4, 0.2, 0.2]),
        ([0.5, 0.5, 0, 0], 4, 1.0, [0, 0, 0, 1]),
    ],
)
def test_weights_by_hand_sum_to_one(decided, expert, weight, expected):
    weights = gate_controls.set_by_hand(torch.tensor(decided).float(), expert, weight)
    assert weights.tolist() == pytest.approx(expected)


def test_fixed_gates_are_the_weighted_sum_of_the_experts(methods, pairs):
    model, weights = methods[FULL, 0].function.network, torch.tensor([0.1, 0.2, 0.3, 0.4])
    with gate_controls.fixed_gates(model.fusion, {"global": weights}):
        out, _ = model.predict_pair(pairs[0].infrared, images.luma(pairs[0].visible))
    expected = (weights.view(1, 4, 1, 1, 1) * out.expert_outputs["global"]).sum(dim=1)
    assert torch.allclose(out.fused, expected, atol=1e-5)
    assert torch.equal(out.gates["global"][0], weights) and (out.gates["foreground"] > 0).sum() == 2


def test_other_gates():
    own = {
        name: {"global": torch.tensor(weights)}
        for name, weights in {
            "x": [0.5, 0.5, 0.0, 0.0],
            "y": [0.0, 0.0, 1.0, 0.0],
            "z": [0.25, 0.75, 0.0, 0.0],
        }.items()
    }
    other = gate_controls.control_decisions(own)
    assert {key: value["global"].tolist() for key, value in other["swapped gates"].items()} == {
        "x": [0, 0, 1, 0],
        "y": [0.25, 0.75, 0, 0],
        "z": [0.5, 0.5, 0, 0],
    }
    assert all(
        torch.allclose(gates["global"], torch.tensor([0.25, 1.25 / 3, 1 / 3, 0.0]))
        for gates in other["mean gates"].values()
    )
    assert all((gates["global"] == 0.25).all() for gates in other["uniform gates"].values())
    spread = gate_controls.variation(own).loc["global"]
    assert (
        spread["choices"] == 2
        and spread["most frequent"] == pytest.approx(2 / 3)
        and spread["pairs"] == 3
    )


def test_controls_are_methods_that_follow_the_pair(methods, pairs, tmp_path):
    full = methods[FULL, 0]
    own = gate_controls.gate_decisions(full.function.network, pairs)
    controls = gate_controls.controlled(full, pairs, own)
    frame, problems = ablations.score(
        {(name, 0): method for name, method in controls.items()}, pairs, tmp_path, progress=False
    )
    assert not problems and set(frame["variant"]) == {
        "mean gates",
        "uniform gates",
        "swapped gates",
    }
    with gate_controls.fixed_gates(full.function.network.fusion, own[pairs[0].name]):
        expected = full.function.network.fuse(pairs[2].infrared, images.luma(pairs[2].visible))
    found = images.read(
        tmp_path / "fused" / ablations.slug("swapped gates", 0) / "gray" / f"{pairs[2].name}.png"
    )
    assert np.array_equal(found, expected)


def test_swapping_among_equal_pairs_changes_nothing(methods, pairs):
    full, twins = methods[FULL, 0], [replace(pairs[0], name=name) for name in "ab"]
    swapped = gate_controls.controlled(
        full, twins, gate_controls.gate_decisions(full.function.network, twins)
    )["swapped gates"]
    gray = images.luma(pairs[0].visible)
    assert np.array_equal(swapped.fuse(pairs[0].infrared, gray), full.fuse(pairs[0].infrared, gray))


@pytest.mark.parametrize(
    ("gates", "message"),
    [
        (
            {"globe": torch.ones(4) / 4},
            "expected some of foreground, background, global, got 'globe'",
        ),
        ({"global": torch.ones(3) / 3}, "expected 4 weights of 'global'"),
        ({"global": torch.ones(4)}, "with sum one"),
        ({"global": torch.tensor([1.5, -0.5, 0, 0])}, "not negative"),
    ],
)
def test_bad_gates(gates, message, methods):
    network = methods[FULL, 0].function.network.fusion
    with pytest.raises(ValueError, match=message), gate_controls.fixed_gates(network, gates):
        pass
    assert "NoisyTopKGate" in str(network.decoder.gate)
