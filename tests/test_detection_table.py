"""Table 3: what the detector trains on, what is looked at, how rows are scored and compared."""

from dataclasses import replace

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch

from fusionlib import images, published, results
from fusionlib.datasets.scenes import CLASSES, write_scenes
from fusionlib.detectors import Boxes, Detectors
from fusionlib.detectors.evaluation import overlap
from fusionlib.experiments import comparison, detection_table, fused_folders
from fusionlib.experiments.detection_table import PRESETS, TrainedOn, recipe
from fusionlib.figures import detection as figures_detection
from fusionlib.training import train
from fusionlib.training.config import TrainingConfig, open_pairs

TINY = recipe(
    "small", 1, data={"scenes": (4, 3), "size": (48, 64)}, optimization={"batch": 2, "lr": 1e-3}
)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before, backend = torch.get_num_threads(), matplotlib.get_backend()
    torch.set_num_threads(1)
    matplotlib.use("agg")
    yield
    plt.close("all")
    matplotlib.use(backend)
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def pairs():
    return open_pairs(TINY, held_out=True)


# ---- what is trained on --------------------------------------------------------------------------


def test_paper_preset_is_the_recipe_of_the_auxiliary_detectors():
    paper, auxiliary = PRESETS["paper"], TrainingConfig()
    assert (paper.detectors.size, paper.detectors.shared) == ("resnet50", True)
    epochs = {"epochs": 0, "detector_epochs": auxiliary.optimization.epochs}
    assert paper.optimization == replace(auxiliary.optimization, **epochs)
    assert paper.data == auxiliary.data


def test_union_is_the_pairs_themselves_and_a_source_is_seen_twice(pairs):
    assert [
        pair.infrared is trained.infrared and pair.visible is trained.visible
        for pair, trained in zip(pairs, TrainedOn(pairs), strict=True)
    ] == [True] * 3
    for name in ("infrared", "visible"):
        trained = TrainedOn(pairs, name)
        assert (
            trained.names == [f"{pair.name} ({name})" for pair in pairs] != TrainedOn(pairs).names
        )
        for pair, one in zip(pairs, trained, strict=True):
            assert np.array_equal(one.infrared, images.luma(getattr(pair, name)))
            assert (
                np.array_equal(one.visible, one.infrared)
                and one.boxes is pair.boxes
                and one.labels == pair.labels
            )


def test_fused_images_are_made_once(pairs, tmp_path):
    method, calls = comparison.get("average"), []

    class Counted:
        def fuse(self, *pair):
            calls.append(pair)
            return method.fuse(*pair)

    seen = TrainedOn(pairs, "average", Counted(), tmp_path / "kept")
    first, second = [one.infrared for one in seen], [one.infrared for one in seen]
    assert len(calls) == len(pairs)
    for pair, one, two in zip(pairs, first, second, strict=True):
        assert np.array_equal(
            one, method.fuse(pair.infrared, images.luma(pair.visible))
        ) and np.array_equal(one, two)


def test_bad_training_pairs(pairs):
    with pytest.raises(ValueError, match="expected pairs with boxes"):
        TrainedOn([replace(pairs[0], boxes=None)])
    with pytest.raises(ValueError, match="method: expected one of"):
        TrainedOn(pairs, "none such")


def test_a_training_does_not_go_on_with_other_images(pairs, tmp_path):
    trained = train(
        TINY, tmp_path, TrainedOn(pairs, "infrared"), pairs, device="cpu", progress=False
    )
    assert trained.detectors.infrared is trained.detectors.visible
    assert (
        detection_table.describe_detector(trained, "infrared")
        == "detector small, from scratch, 1 epochs on infrared of 3 pairs"
    )
    loaded = detection_table.load(tmp_path, "cpu")
    assert all(
        torch.equal(a, b)
        for a, b in zip(loaded.detectors.parameters(), trained.detectors.parameters(), strict=True)
    )
    with pytest.raises(ValueError, match="names"):
        train(TINY, tmp_path, TrainedOn(pairs, "visible"), pairs, device="cpu", progress=False)


def test_two_detectors_are_refused(pairs, tmp_path):
    settings = TrainingConfig.from_dict({"detectors.shared": False}, TINY)
    train(settings, tmp_path, pairs, pairs, device="cpu", progress=False)
    with pytest.raises(
        ValueError, match="expected the training of one detector for both modalities"
    ):
        detection_table.load(tmp_path, "cpu")


def test_a_shared_detector_is_saved_once():
    saved = Detectors(CLASSES, "small", shared=True).state_dict()
    assert saved and all(name.startswith("infrared.") for name in saved)


# ---- the artefact --------------------------------------------------------------------------------


def test_small_detector_of_the_suite_finds_persons_and_cars():
    model = detection_table.load("", "cpu")
    unseen = open_pairs(
        TrainingConfig.from_dict({"scenes": (1, 12)}, PRESETS["small"]), held_out=True
    )
    truth, found = detection_table.detect_in_all(model.detectors, unseen, {}, progress=False)
    scores = detection_table.scores(found, truth, CLASSES, draws=20)
    area = scores[scores["convention"] == "moe-fusion"].set_index(["method", "metric"])["value"]
    chance = detection_table.shuffled_baseline(found, truth, CLASSES)
    for row, least in (("Infrared", 60), ("Visible", 25)):
        for metric in ("AP person", "AP car"):
            assert area[row, metric] > max(least, 3 * chance.loc[row, metric])


# ---- rows ----------------------------------------------------------------------------------------


def some(seed: int, count: int = 12) -> tuple[list[Boxes], list[Boxes]]:
    """Return objects, and detections of most of them among false ones."""
    rng, truth, found = np.random.default_rng(seed), [], []
    for _ in range(count):
        corners = rng.uniform(0, 60, (3, 2))
        corners = np.c_[corners, corners + rng.uniform(8, 20, (3, 2))]
        truth.append(Boxes(corners, ["person", "car", "person"]))
        moved = np.r_[
            corners + rng.normal(0, 2, corners.shape), rng.uniform(0, 40, (1, 4)).cumsum(axis=1)
        ]
        found.append(Boxes(moved, ["person", "car", "person", "car"], rng.random(4)))
    return truth, found


def test_scores_are_rows_of_the_printed_table():
    truth, found = some(0)
    scores = detection_table.scores({"Infrared": found, "LP": found}, truth, CLASSES, draws=50)
    printed = published.table("moe-fusion", 3)
    assert set(scores["metric"]) == set(printed["metric"])
    assert set(detection_table.SOURCES) <= set(printed["method"])
    assert (
        set(scores["convention"]) == set(detection_table.CONVENTIONS.values())
        and (scores["n_images"] == 12).all()
    )
    known = scores[scores["metric"] != "AP bicycle"]
    assert known["value"].between(0, 100).all()
    assert scores.loc[scores["metric"] == "AP bicycle", "value"].isna().all()
    first = known[known["convention"] == "moe-fusion"]
    assert ((first["low"] <= first["value"]) & (first["value"] <= first["high"])).all()
    beside = results.join_published(
        printed,
        results.rows(scores[scores["convention"] == "moe-fusion"], dataset="scenes", split="val"),
    )
    assert set(beside.loc[beside["method"] == "Infrared", "verdict"]) == {"other images"}
    same = results.rows(
        scores[scores["convention"] == "moe-fusion"].assign(n_images=1013),
        dataset="FLIR-aligned",
        split="evaluation",
    )
    verdicts = results.join_published(printed, same).set_index(["method", "metric"])
    assert np.isfinite(verdicts.loc[("Infrared", "mAP"), "difference"])


def test_against_is_paired():
    truth, found = some(1, 40)
    worse = [
        Boxes(one.corners + 12.0, one.labels, one.scores) if i % 2 else one
        for i, one in enumerate(found)
    ]
    rows = detection_table.compare_to_baseline(
        {"Infrared": found, "same": found, "worse": worse}, truth, ("person", "car"), draws=200
    )
    assert list(rows.index) == ["same", "worse"]
    assert (rows.loc["same", ["difference", "low", "high"]] == 0).all()
    assert (
        rows.loc["same", "verdict"] == "no difference shown"
        and rows.loc["worse", "verdict"] == "lower"
    )
    back = detection_table.compare_to_baseline(
        {"Infrared": found, "worse": worse}, truth, ("person", "car"), "worse", draws=200
    )
    assert back.loc["Infrared", "verdict"] == "higher"
    assert back.loc["Infrared", "low"] == pytest.approx(-rows.loc["worse", "high"])


def test_chance_is_far_below():
    truth, found = some(2, 30)
    area = detection_table.scores({"LP": found}, truth, ("person", "car"), draws=2)
    first = area[area["convention"] == "moe-fusion"].set_index("metric")["value"]
    chance = detection_table.shuffled_baseline({"LP": found}, truth, ("person", "car")).loc["LP"]
    assert list(chance.index) == list(first.index) and (chance < first / 2).all()


# ---- images --------------------------------------------------------------------------------------


def test_folders_that_hold_all_pairs_are_taken_and_the_rest_is_fused(pairs, tmp_path):
    node = tmp_path / "node"
    for name, count in (("average", 3), ("mine", 3), ("partly", 2), ("infrared", 3)):
        for pair in pairs[:count]:
            images.write(node / "fused" / name / "gray" / f"{pair.name}.png", pair.infrared)
    found, absent = fused_folders.gather(
        ["maximum", "average", "DenseFuse"],
        pairs,
        [node],
        tmp_path / "out",
        weights=str(tmp_path),
        device="cpu",
        progress=False,
    )
    assert list(found) == ["maximum", "average", "mine"] and list(absent) == ["DenseFuse"]
    assert all(path.is_relative_to(node) for path in found["mine"].values())
    fused = images.read(found["maximum"][pairs[0].name])
    assert np.array_equal(fused, np.maximum(pairs[0].infrared, images.luma(pairs[0].visible)))
    with pytest.raises(
        FileNotFoundError, match="expected a folder with fused/METHOD/gray/NAME.png"
    ):
        fused_folders.given([tmp_path / "nothing"], [])


def test_another_size_is_brought_to_that_of_the_pair(pairs, tmp_path):
    pair = pairs[0]
    large = np.kron(pair.infrared, np.ones((2, 2), np.uint8))
    path = images.write(tmp_path / "a.png", large)
    assert fused_folders.picture(path, pair.infrared.shape).shape == pair.infrared.shape
    assert np.array_equal(fused_folders.picture(path, large.shape), large)


def test_boxes_are_those_of_the_image_as_it_came():
    model = detection_table.load("", "cpu")
    one = open_pairs(TrainingConfig.from_dict({"scenes": (1, 3)}, PRESETS["small"]), held_out=True)[
        2
    ]
    found = detection_table.detections_above(model, one.infrared, 0.5)
    large = detection_table.detections_above(
        model, np.kron(one.infrared, np.ones((2, 3), np.uint8)), 0.5
    )
    assert (
        len(found.labels)
        and (found.scores >= 0.5).all()
        and sorted(found.labels) == sorted(large.labels)
    )
    assert (overlap(found.corners * [3, 2, 3, 2], large.corners).max(axis=1) > 0.7).all()


def test_objects_of_other_classes_are_left_aside(pairs):
    pair = replace(pairs[0], boxes=np.array([[1, 2, 8, 9], [20, 5, 6, 6.0]]), labels=["bus", "car"])
    there = detection_table.annotated(pair, CLASSES)
    assert there.labels == ["car"] and there.corners.tolist() == [[20, 5, 26, 11]]


def test_a_folder_with_annotations(tmp_path):
    """As real data comes: COCO boxes, splits, images larger than the training's."""
    data = write_scenes(tmp_path / "data", range(6), (64, 80), evaluation=0.5)
    settings = TrainingConfig.from_dict({"data": {"folder": str(data), "size": [32, 40]}}, TINY)
    unseen = open_pairs(settings, held_out=True)
    model = train(
        settings,
        tmp_path / "model",
        TrainedOn(open_pairs(settings)),
        unseen,
        device="cpu",
        progress=False,
    )
    folders, _ = fused_folders.gather(
        ["average"], unseen, [], tmp_path, device="cpu", progress=False
    )
    truth, found = detection_table.detect_in_all(model.detectors, unseen, folders, progress=False)
    assert (
        list(found) == ["Visible", "Infrared", "average"]
        and len(truth) == len(found["average"]) == 3
    )


# ---- figures -------------------------------------------------------------------------------------


def test_curves_and_intervals_show_every_row():
    truth, found = some(3)
    nothing = [Boxes(np.empty((0, 4)), [], np.empty(0))] * len(truth)
    rows = {
        name: found if name != "m3" else nothing
        for name in ("Visible", "Infrared", *(f"m{i}" for i in range(14)), "MoE-Fusion")
    }
    style = figures_detection.line_styles(list(rows))
    assert len(set(style.values())) > 12 and style["MoE-Fusion"] == ("black", "-")
    ap = pd.DataFrame({name: {row: 50.0 for row in rows} for name in ("person", "car")})
    figure = figures_detection.curves(detection_table.curves(rows, truth, ("person", "car")), ap)
    assert [len(axis.lines) for axis in figure.axes] == [17, 17]
    recall = figure.axes[0].lines[0].get_xdata()
    assert recall[0] == 0 and (np.diff(recall) >= 0).all()
    frame = pd.DataFrame(
        {"method": ["LP", "Infrared"], "value": [10.0, 40], "low": [5.0, 30], "high": [20.0, 50]}
    )
    axis = figures_detection.intervals(frame).axes[0]
    assert [label.get_text() for label in axis.get_yticklabels()] == ["LP", "Infrared"]


def test_detections_show_boxes_scores_and_reasons():
    picture = np.zeros((30, 40), np.uint8)
    found = Boxes(np.array([[2, 3, 12, 23.0]]), ["car"], np.array([0.987]))
    figure = figures_detection.detections(
        {
            "a": (picture, found, Boxes(np.array([[1, 2, 11, 22.0]]), ["car"])),
            "b": "no weights",
            "c": (picture, found, None),
        }
    )
    first, second, third = figure.axes[:3]
    assert [len(axis.patches) for axis in (first, second, third)] == [2, 0, 1]
    assert first.patches[1].get_bbox().bounds == (1.5, 2.5, 10, 20)
    assert [text.get_text() for text in first.texts] == ["0.99"] and [
        text.get_text() for text in second.texts
    ] == ["no weights"]


def test_scores_of_close_boxes_do_not_cover_each_other():
    corners = np.array([[40, 60, 60, 90], [44, 62, 66, 92], [52, 58, 70, 91], [90, 1, 99, 20.0]])
    found = Boxes(corners, ["person"] * 4, np.array([0.9, 0.8, 0.7, 0.6]))
    figure = figures_detection.detections({"a": (np.zeros((120, 100), np.uint8), found, None)})
    figure.canvas.draw()
    labels = [text.get_window_extent() for text in figure.axes[0].texts]
    assert len(labels) == 4
    for i, label in enumerate(labels):
        assert not any(label.overlaps(other) for other in labels[:i])
