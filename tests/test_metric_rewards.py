"""What metrics reward: damages, their course, tests and copies."""

import numpy as np
import pandas as pd
import pytest

from fusionlib import metrics
from fusionlib.datasets import open_pairs
from fusionlib.experiments import metric_rewards
from fusionlib.methods import get

RNG = np.random.default_rng(5)


@pytest.fixture(scope="module")
def pairs():
    return open_pairs("", limit=3, scene_size=(48, 64))


@pytest.mark.parametrize("name", metric_rewards.DAMAGES)
def test_damage_grows_with_its_strength_and_stays_an_image(name, pairs):
    image = get("LP").fuse(pairs[0].infrared, pairs[0].visible[..., 0])
    damage, errors = metric_rewards.DAMAGES[name], []
    for strength in damage.strengths:
        spoilt = damage.function(image, strength, np.random.default_rng(0))
        assert spoilt.shape == image.shape and spoilt.dtype == np.uint8
        errors.append(metrics.mse(spoilt, image))
    assert 0 < errors[0] < errors[1] < errors[2]


def test_shift_moves_by_whole_pixels():
    image = RNG.integers(0, 256, (5, 9), dtype=np.uint8)
    moved = metric_rewards.shifted(image, 3, RNG)
    assert np.array_equal(moved[:, 3:], image[:, :-3])
    assert (moved[:, :3] == image[:, :1]).all()


@pytest.mark.parametrize("damaged", metric_rewards.WHERE)
def test_course_begins_undamaged_and_ends_as_scored_by_hand(damaged, pairs):
    method = get("average")
    frame = metric_rewards.course(pairs, method, damaged, ["EN", "Nabf"])
    at = frame.set_index(["damage", "strength", "image", "metric"])["value"]
    pair = pairs[1]
    sources = {"infrared": pair.infrared, "visible": metric_rewards.images.luma(pair.visible)}
    fused = method.fuse(*sources.values())
    for damage in metric_rewards.DAMAGES:
        assert at[damage, 0.0, pair.name, "EN"] == metrics.entropy(fused)
    darker = metric_rewards.DAMAGES["darkening"].function
    if damaged == "fused":
        fused = darker(fused, 0.6, RNG)
    else:
        sources[damaged] = darker(sources[damaged], 0.6, RNG)
        fused = method.fuse(*sources.values())
    row = metrics.evaluate(fused, *sources.values(), ["EN", "Nabf"], convention="standard")
    for metric, value in row.items():
        assert at["darkening", 0.6, pair.name, metric] == pytest.approx(value, nan_ok=True)


def planted(effect, metric="EN", n=14):
    """Return a course in which a damage moves a metric by ``effect`` on every image."""
    rows = []
    for i in range(n):
        base = RNG.normal()
        for strength, value in ((0.0, base), (1.0, base + effect + 0.1 * RNG.normal())):
            rows.append(("noise", strength, f"{i}", "", metric, value))
    return pd.DataFrame(rows, columns=["damage", "strength", "image", "group", "metric", "value"])


@pytest.mark.parametrize(
    "effect, metric, verdict",
    [(1, "EN", "rewards"), (-1, "EN", "punishes"), (-1, "CE", "rewards"), (0, "EN", "undecided")],
)
def test_planted_effects_are_told_by_the_direction_of_the_metric(effect, metric, verdict):
    spread = pd.Series({metric: 0.5})
    (row,) = metric_rewards.rewards(planted(effect, metric), spread).itertuples()
    assert row.verdict == verdict
    sign = -1 if metric == "CE" else 1
    assert row.change == pytest.approx(2 * sign * effect, abs=0.3)
    means = metric_rewards.relative(planted(effect, metric), spread).set_index("step")["change"]
    assert means[0] == 0 and means[1] == pytest.approx(2 * sign * effect, abs=0.3)


def test_metrics_without_spread_are_left_out():
    assert metric_rewards.rewards(planted(1), pd.Series({"EN": 0.0})).empty


@pytest.mark.parametrize("metric, share", [("EN", 1.0), ("CE", 0.0)])
def test_copies_win_by_the_direction_of_the_metric(metric, share):
    rows = [
        (name, f"{i}", "", metric, value + i)
        for i in range(8)
        for name, value in (("visible", 2.0), ("LP", 1.0), ("average", 0.5))
    ]
    scores = pd.DataFrame(rows, columns=["method", "image", "group", "metric", "value"])
    won = metric_rewards.won_by_copies(scores, ["visible"]).loc[metric]
    assert won["share"] == share and won["low"] <= share <= won["high"] and won["n"] == 8


def test_methods_that_ignore_the_infrared_image_are_not_moved(pairs):
    chosen = {name: get(name) for name in ("visible", "infrared", "average")}
    table = metric_rewards.robustness(pairs, chosen, "shift", (1, 4))
    error = table.groupby(["method", "strength"])["RMSE"].mean().unstack()
    assert (error.loc["visible"] == 0).all()
    assert error.loc["average"].to_numpy() == pytest.approx(error.loc["infrared"] / 2, abs=0.5)
    assert (error[4] > error[1])[["infrared", "average"]].all()


def test_another_word_for_what_is_damaged_is_refused(pairs):
    with pytest.raises(ValueError, match="damaged: expected one of fused, infrared, visible"):
        metric_rewards.course(pairs, get("LP"), "both")
