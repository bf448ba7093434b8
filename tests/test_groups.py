"""Frames that are no independent samples: which belong together, and that intervals, tests and
rates take their groups; win rates, equivalence, and Holm over a whole table.
"""

import ast
import json

import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import stats

from fusionlib import groups, methods, ranking, results, runs
from fusionlib.datasets import catalog, grouping, open_pairs
from fusionlib.detectors import Boxes
from fusionlib.experiments import ablations, comparison, detection_table, protocol

# ---- which pairs belong together -----------------------------------------------------------------


@pytest.mark.parametrize(
    "dataset, expected",
    [
        ("LLVIP", {"010001": "01", "190004": "19", "260530": "26"}),
        ("FLIR-aligned", {"FLIR_08863": "88", "FLIR_08899": "88", "FLIR_08900": "89"}),
        ("RoadScene", {"FLIR_00018": "0", "FLIR_04424": "44", "FLIR_video_00121": "video"}),
        ("M3FD", {"00000": "0", "00003": "0", "04199": "41"}),
        ("MSRS", {"00004N": "0 N", "00055D": "0 D", "01041N": "10 N"}),
        ("MSRS-detection", {"00726N": "7 N"}),
        ("MFIFB", {"lytro_01": "lytro_01", "books": "books"}),
        ("CBF-20", {"image01": "image01"}),
    ],
)
def test_groups_of_published_names(dataset, expected):
    rule = grouping.rule(catalog.entry(dataset)[1])
    assert {name: rule.group(name) for name in expected} == expected


def test_what_nobody_knows_is_no_group():
    assert grouping.rule(catalog.entry("TNO")[1]) is None
    assert grouping.rule(catalog.entry("M3FD-fusion")[1]) is None
    assert grouping.rule(catalog.entry("LLVIP")[1]).group("renamed") == ""


def write_pairs(folder, names):
    for kind in ("ir", "vi"):
        (folder / kind).mkdir(parents=True)
        for name in names:
            Image.fromarray(np.zeros((8, 8), np.uint8)).save(folder / kind / f"{name}.png")
    return folder


def test_pairs_carry_their_group(tmp_path):
    folder = write_pairs(tmp_path, ["190001", "190002", "200001"])
    opened = open_pairs(folder, "LLVIP")
    assert [pair.group for pair in opened] == list(opened.groups.values()) == ["19", "19", "20"]
    assert opened.record["group"] == "camera"
    assert opened[0].resized((4, 4)).group == "19"
    unknown = open_pairs(folder)
    assert [pair.group for pair in unknown] == [""] * 3 and unknown.record["group"] == ""
    scenes = open_pairs(limit=2)
    assert list(scenes.groups.values()) == scenes.names == [pair.group for pair in scenes]


def test_a_set_of_ones_own_states_its_groups(tmp_path):
    write_pairs(tmp_path, ["a-1", "a-2", "b-1"])
    entry = {
        "pairs": 3,
        "layouts": [{"called": "mine", "infrared": "ir/{name}.*", "visible": "vi/{name}.*"}],
        "group": {"called": "drive", "name": r"(\w)-\d"},
    }
    (tmp_path / "dataset.yaml").write_text(yaml.safe_dump({"Mine": entry}))
    assert list(open_pairs(tmp_path, "mine").groups.values()) == ["a", "a", "b"]
    layout = {"called": "mine", "a": "a/{name}.*", "b": "b/{name}.*"}
    stacks = entry | {"kind": "multi-focus", "layouts": [layout]}
    (tmp_path / "dataset.yaml").write_text(yaml.safe_dump({"Mine": stacks}))
    assert catalog.grouping_of("mine", tmp_path).group("b-1") == "b"
    assert catalog.grouping_of("", "") == grouping.SCENE == catalog.grouping_of("MFIFB", tmp_path)
    assert catalog.grouping_of("yard", tmp_path) is None
    entry["group"] = {"name": "no parentheses", "called": "drive"}
    (tmp_path / "dataset.yaml").write_text(yaml.safe_dump({"Mine": entry}))
    with pytest.raises(ValueError, match="group: expected .called: WORDS, name: PATTERN"):
        open_pairs(tmp_path, "mine")


def test_every_paired_test_and_interval_is_told_its_groups():
    """Of a notebook or an experiment; one that forgets takes frames of one drive as independent."""
    root, seen = runs.root(), 0
    for path in [*root.glob("fusionlib/experiments/*.py"), *root.glob("notebooks/*.ipynb")]:
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".ipynb":
            cells = json.loads(text)["cells"]
            text = "\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "code")
        for call in ast.walk(ast.parse(text)):
            name = ast.unparse(call.func) if isinstance(call, ast.Call) else ""
            if name in ("results.paired", "results.interval"):
                seen += 1
                words = [keyword.arg for keyword in call.keywords]
                assert "groups" in words, f"{path.name}: {ast.unparse(call)}"
    assert seen > 8


# ---- a table and its groups ----------------------------------------------------------------------


def test_tables_without_groups_take_frames_as_independent():
    frame = pd.DataFrame({"image": ["a", "b", "a"], "metric": ["EN", "EN", "SF"]})
    assert groups.of(frame) is None and groups.of(frame.assign(group="")) is None
    assert groups.sentence(None).startswith("frames taken as independent")
    known = groups.of(frame.assign(group=["x", "", "x"]))
    assert known.to_dict() == {"a": "x", "b": "b"}
    assert groups.sentence(known, "drive") == (
        "2 frames in 2 groups, a group being a drive; too few groups for a verdict"
    )


def test_old_results_load_and_new_ones_keep_their_groups(tmp_path):
    values = pd.DataFrame({"image": ["190001"], "metric": ["EN"], "value": [1.0], "group": ["19"]})
    path = tmp_path / "new.csv"
    results.rows(values, dataset="LLVIP", method="LP").to_csv(path, index=False)
    assert groups.of(results._read(path)).to_dict() == {"190001": "19"}
    results.rows(values.drop(columns="group")).to_csv(path, index=False)
    assert groups.of(results._read(path)) is None


# ---- intervals, tests and rates ------------------------------------------------------------------


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_groups_of_one_image_are_the_images(seed):
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(2, 9))
    alone, grouped = results.paired(x, y), results.paired(x, y, groups=list("abcdefghi"))
    assert (alone.p, alone.rate, alone.difference) == (grouped.p, grouped.rate, grouped.difference)
    assert alone.groups is None and grouped.groups == 9
    low, high = grouped.interval  # widened, as nine are few
    assert low < alone.interval[0] and alone.interval[1] < high


@settings(deadline=None)
@given(st.integers(1, 6))
def test_repeating_frames_adds_nothing(times):
    """The same seven drives, each with more copies of its frame, give the same answer."""
    x = np.array([3.0, 1.0, 4.0, 1.5, 5.0, 9.0, 2.0])
    once = results.paired(x, np.zeros(7) + 2.5, groups=range(7))
    labels = np.repeat(range(7), times)
    more = results.paired(np.repeat(x, times), np.full(7 * times, 2.5), groups=labels)
    assert more.p == once.p and more.rate == once.rate and more.groups == 7
    assert more.interval == pytest.approx(once.interval) and more.n == 7 * times


def test_undefined_values_leave_their_group_alone():
    x = [1.0, np.nan, 2.0, np.nan]
    test = results.paired(x, np.zeros(4), groups=["a", "a", "b", "c"])
    assert (test.n, test.groups, test.difference) == (2, 2, 1.5)
    with pytest.raises(ValueError, match="groups: expected one a value, 4, got 3"):
        results.paired(x, np.zeros(4), groups=["a", "a", "b"])


def false_alarms(rng, known, trials=200, drives=12, frames=25):
    """How often two equal methods "differ" where frames of a drive share its peculiarity."""
    drive = np.repeat(np.arange(drives), frames)
    alarms = 0
    for _ in range(trials):
        delta = rng.normal(size=drives)[drive] + rng.normal(size=drives * frames)
        table = pd.DataFrame({"ours": 10 + delta, "other": 10.0})
        labels = pd.Series(drive) if known else None
        found = ranking.compare_to_baseline(table, "ours", groups_of_images=labels)
        alarms += found.loc["other", "verdict"] != "not shown"
    return alarms / trials


def test_drives_known_keep_the_false_alarms():
    """The null: no difference. Frames of a drive resemble each other (correlation 0.5)."""
    assert false_alarms(np.random.default_rng(0), known=True) <= 0.05
    assert false_alarms(np.random.default_rng(0), known=False) > 0.4


def test_a_difference_is_seen_over_drives_too():
    rng = np.random.default_rng(1)
    drive = np.repeat(np.arange(12), 25)
    delta = 1.5 + rng.normal(size=12)[drive] + rng.normal(size=300)
    table = pd.DataFrame({"ours": 10 + delta, "other": 10.0})
    found = ranking.compare_to_baseline(table, "ours", groups_of_images=pd.Series(drive))
    assert found.loc["other", "verdict"] == "better" and found.loc["other", "groups"] == 12


def test_intervals_over_groups_hold_what_they_say():
    """A mean over 8 drives of 20 frames: the interval over drives holds it in nearly 95 % of the
    trials, that over frames in far fewer.
    """
    rng, drive, held = np.random.default_rng(2), np.repeat(np.arange(8), 20), np.zeros(2)
    for _ in range(300):
        values = rng.normal(size=8)[drive] + 0.5 * rng.normal(size=160)
        for number, labels in enumerate((drive, None)):
            low, high = results.interval(values, samples=800, groups=labels)
            held[number] += low < 0 < high
    assert held[0] / 300 > 0.9 and held[1] / 300 < 0.6


def test_too_few_groups_have_no_verdict():
    table = pd.DataFrame({"ours": 1 + np.arange(50) / 50, "other": 0.0})
    labels = pd.Series(np.arange(50) % 5)
    found = ranking.compare_to_baseline(table, "ours", groups_of_images=labels, margin=9)
    assert found.loc["other", "verdict"] == groups.TOO_FEW
    assert results.paired(table["ours"], table["other"], groups=labels).verdict() == groups.TOO_FEW
    six = ranking.compare_to_baseline(table, "ours", groups_of_images=pd.Series(np.arange(50) % 6))
    assert six.loc["other", "verdict"] == "better"


def test_friedman_over_groups():
    """Two drives, of one and of nine frames, weigh alike; a group ranks by its mean rank."""
    values = pd.DataFrame({"a": [2.0] + [1.0] * 9, "b": [1.0] + [2.0] * 9})
    outcome = ranking.friedman(values, groups_of_images=pd.Series(["x"] + ["y"] * 9))
    assert outcome.n == 2 and dict(outcome.mean) == {"a": 1.5, "b": 1.5} and outcome.p == 1
    assert ranking.friedman(values).mean["b"] == pytest.approx(1.1)


# ---- win rates -----------------------------------------------------------------------------------


def test_win_rate_by_hand():
    """8 of 10: centre (0.8 + 0.19207) / 1.38415, half 1.95996 / 1.38415 sqrt(0.016 + 0.009604)."""
    rate = groups.win_rate(np.array([1.0] * 8 + [-1.0] * 2))
    assert rate == pytest.approx((0.8, 0.4902, 0.9433), abs=1e-4)
    assert str(rate) == "80 % (49 to 94)"
    assert groups.win_rate(np.array([1.0, 0.0, -2.0, 0.0])).value == 0.5
    assert np.isnan(groups.win_rate(np.array([]))).all()


@given(st.integers(1, 40).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_win_rate_is_scipys_wilson(won):
    wins, n = won
    rate = groups.win_rate(np.array([1.0] * wins + [-1.0] * (n - wins)))
    known = stats.binomtest(wins, n).proportion_ci(method="wilson")
    assert rate == pytest.approx((wins / n, known.low, known.high), abs=1e-12)
    assert rate.turned() == pytest.approx((1 - wins / n, 1 - known.high, 1 - known.low), abs=1e-12)


def test_a_smaller_error_is_a_win():
    table = pd.DataFrame({"ours": [1.0, 2.0, 3.0, 9.0], "other": [2.0, 3.0, 4.0, 5.0]})
    assert ranking.compare_to_baseline(table, "ours").loc["other", "rate"].value == 0.25
    assert ranking.compare_to_baseline(table, "ours", True).loc["other", "rate"].value == 0.75


# ---- equivalence, and Holm over a table ----------------------------------------------------------


def test_differences_below_the_margin_are_equivalent():
    rng = np.random.default_rng(3)
    base = rng.normal(100, 5, 30)
    table = pd.DataFrame(
        {
            "ours": base,
            "slightly": base - 0.5 + rng.normal(0, 0.1, 30),
            "clearly": base - 5 + rng.normal(0, 0.1, 30),
            "noisy": base + rng.normal(0, 20, 30),
        }
    )
    found = ranking.compare_to_baseline(table, "ours", margin=0.01)["verdict"].to_dict()
    assert found == {"slightly": "equivalent", "clearly": "better", "noisy": "not shown"}
    without = ranking.compare_to_baseline(table, "ours")["verdict"]
    assert without["slightly"] == "better"  # 0.5 %, and sure


@given(st.floats(-3, 3), st.floats(0.01, 2), st.floats(0, 4))
def test_equivalent_is_the_whole_interval_inside(centre, half, margin):
    low, high = centre - half, centre + half
    test = results.Paired(centre, (low, high), 0.5, 9, 4, 5)
    assert (test.verdict(margin=margin) == "equivalent") == (max(abs(low), abs(high)) < margin)


def long(seed=4, images=20):
    rng = np.random.default_rng(seed)
    names = {"ours": 0.0, "near": 0.35, "far": 2.0}
    return pd.DataFrame(
        [
            (f"i{image}", method, metric, 5 + rng.normal() - shift * sign)
            for metric, sign in (("EN", 1), ("SF", 1), ("MSE", -1))
            for image in range(images)
            for method, shift in names.items()
        ],
        columns=["image", "method", "metric", "value"],
    )


def test_holm_takes_all_cells_of_a_table():
    frame = long()
    found = ranking.compare_all(frame, "ours")
    assert len(found) == 6 and found.index.names == ["metric", "method"]
    ordered = np.sort(found["p"])
    by_hand = np.maximum.accumulate(np.minimum(ordered * [6, 5, 4, 3, 2, 1], 1))
    assert np.sort(found["p_holm"]) == pytest.approx(by_hand)
    alone = ranking.compare_to_baseline(
        frame[frame["metric"] == "EN"].pivot(index="image", columns="method", values="value"),
        "ours",
    )
    assert found.loc["EN", "p"].to_dict() == alone["p"].to_dict()
    assert (found.loc["EN", "p_holm"] >= alone["p_holm"]).all()
    assert (found.xs("far", level="method")["verdict"] == "better").all()  # MSE: smaller
    grouped = ranking.compare_all(frame.assign(group=frame["image"].str[-1]), "ours")
    assert (grouped["groups"] == 10).all() and (grouped["images"] == 20).all()


# ---- the experiments take groups -----------------------------------------------------------------


def test_ablations_draw_whole_drives():
    """The same images counted as four drives of three give a wider interval than as twelve."""
    rng = np.random.default_rng(5)
    delta = np.repeat(rng.normal(size=(4, 1)), 3, axis=0) + np.zeros((1, 5))
    drive = np.repeat(range(4), 3)
    alone = np.diff(ablations.hierarchical_interval(delta))
    whole = np.diff(ablations.hierarchical_interval(delta, groups_of_images=drive))
    assert whole == pytest.approx(alone * np.sqrt(3), rel=0.15)
    assert ablations.hierarchical_interval(delta[::3]) == pytest.approx(
        ablations.hierarchical_interval(delta, groups_of_images=drive)
    )


def trainings(seeds, shift, drives=8):
    rng = np.random.default_rng(6)
    return pd.DataFrame(
        [
            (variant, seed, f"i{i}", f"drive {i % drives}", "EN", 5 + step + rng.normal(0, 1e-3))
            for variant, step in (("full", 0.0), ("other", shift))
            for seed in range(seeds)
            for i in range(16)
        ],
        columns=["variant", "seed", "image", "group", "metric", "value"],
    )


@pytest.mark.parametrize(
    "seeds, shift, drives, verdict",
    [
        (5, 0.01, 8, "equivalent"),  # 0.2 % of 5
        (5, 0.5, 8, "better"),
        (4, 0.01, 8, "indicative: better"),
        (5, 0.5, 5, groups.TOO_FEW),
    ],
)
def test_verdicts_over_trainings(seeds, shift, drives, verdict):
    table = ablations.differences(trainings(seeds, shift, drives), "full", margin=0.01)
    other = table.set_index("variant").loc["other"]
    assert other["verdict"] == verdict and "margin" not in table
    assert other["rate"] == groups.win_rate(np.ones(seeds))


def test_detections_are_drawn_by_drives():
    """Every drive shows its own rate of hits: frames as drives are more certain than they may."""
    rng = np.random.default_rng(7)
    truth, found, drive = [], [], np.repeat(range(8), 10)
    for number in drive:
        box = rng.uniform(0, 40, 2)
        corners = np.array([[*box, *box + 20]])
        hit = rng.random() < (0.95 if number % 2 else 0.15)
        truth.append(Boxes(corners, ["person"]))
        found.append(Boxes(corners + (0 if hit else 100), ["person"], np.array([0.9])))
    rows = {"Infrared": truth_as_found(truth), "LP": found}

    def compared(**options):
        return detection_table.compare_to_baseline(
            rows, truth, ("person",), draws=300, **options
        ).loc["LP"]

    alone, whole = compared(), compared(groups_of_images=drive)
    assert whole["high"] - whole["low"] > 1.5 * (alone["high"] - alone["low"])
    assert compared(groups_of_images=drive // 2)["verdict"] == groups.TOO_FEW
    assert compared(margin=200.0)["verdict"] == "equivalent"
    ends = [
        detection_table.scores(rows, truth, ("person",), 300, groups_of_images=labels)
        .query("method == 'LP' and convention == 'moe-fusion' and metric == 'mAP'")
        .iloc[0]
        for labels in (None, drive)
    ]
    assert ends[1]["high"] - ends[1]["low"] > ends[0]["high"] - ends[0]["low"]


def truth_as_found(truth):
    return [Boxes(one.corners, one.labels, np.array([0.9])) for one in truth]


def test_scores_of_a_set_carry_its_groups(tmp_path):
    folder = write_pairs(tmp_path / "set", ["190001", "190002", "200001"])
    for path in folder.glob("*/*.png"):
        noise = np.random.default_rng(len(path.name)).integers(0, 256, (24, 32))
        Image.fromarray(noise.astype(np.uint8)).save(path)
    pairs = open_pairs(folder, "llvip")
    sources = protocol.write_sources(pairs, tmp_path / "sources")
    comparison.fuse({"average": methods.get("average")}, pairs, sources, tmp_path, progress=False)
    frame, _ = comparison.score(
        ["average"], sources, tmp_path, ["EN"], ["standard"], progress=False
    )
    assert groups.of(frame).to_dict() == {"190001": "19", "190002": "19", "200001": "20"}


def test_a_cell_without_values_is_no_test():
    frame = long()
    frame.loc[(frame["metric"] == "SF") & (frame["method"] == "near"), "value"] = np.nan
    found = ranking.compare_all(frame, "ours")
    assert found.loc[("SF", "near"), ["p_holm", "verdict"]].tolist() == [1.0, "–"]
    assert found["p_holm"].min() == pytest.approx(5 * found["p"].min())  # not six


def test_means_and_intervals_of_a_table():
    frame = long().assign(group=lambda table: table["image"].str[-1])
    found = results.mean_intervals(frame).set_index(["metric", "method"])
    part = frame[(frame["metric"] == "EN") & (frame["method"] == "far")]
    ends = results.interval(part["value"], groups=part["group"])
    assert found.loc[("EN", "far")].tolist() == pytest.approx([part["value"].mean(), *ends])
    alone = results.mean_intervals(frame.drop(columns="group"))
    assert alone["low"].iloc[2] == results.interval(part["value"])[0]
