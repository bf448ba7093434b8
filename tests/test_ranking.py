"""Ranks, Friedman's test and what follows it, rank correlation; the comparison of many methods
around them.
"""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from fusionlib import methods, metrics, published, ranking
from fusionlib.datasets import catalog, open_pairs
from fusionlib.experiments import comparison, protocol
from fusionlib.figures import ranking as figures_ranking


def values(rng, images=12, names="abcd", shift=0.0, ties=False):
    table = rng.normal(size=(images, len(names))) + shift * np.arange(len(names))
    return pd.DataFrame(table.round(0) if ties else table, columns=list(names))


# ---- ranks of means ------------------------------------------------------------------------------


def test_equal_numbers_as_printed_share_the_better_rank():
    means = pd.DataFrame(
        {"EN": [7.00004, 7.00001, 6.5, 6.0, np.nan], "MSE": [3.0, 1.0, 2.0, 4.0, 1.0]},
        index=list("abcde"),
    )
    rank = ranking.ranks(means)
    assert list(rank["EN"].iloc[:4]) == [1, 1, 3, 4] and rank["EN"].isna().iloc[4]
    assert list(rank["MSE"]) == [4, 1, 3, 5, 1]  # the smaller the better
    text = ranking.format_with_ranks(means, convention="standard")
    assert list(text) == ["EN [bits] ↑", "MSE [gray levels²] ↓"]
    assert list(text["EN [bits] ↑"]) == ["7.0000¹", "7.0000¹", "6.5000³", "6.0000", "–"]


@given(st.integers(0, 2**32 - 1), st.sampled_from([-3.0, 0.5, 2.0]))
def test_ranks_do_not_depend_on_scale_or_order(seed, factor):
    rng = np.random.default_rng(seed)
    means = pd.DataFrame({"EN": rng.permutation(6) * 1.0}, index=list("abcdef"))
    rank = ranking.ranks(means)["EN"]
    assert sorted(rank) == [1, 2, 3, 4, 5, 6]
    scaled = ranking.ranks(means * factor)["EN"]
    assert (scaled == (rank if factor > 0 else 7 - rank)).all()
    shuffled = ranking.ranks(means.iloc[rng.permutation(6)])["EN"]
    assert (shuffled.reindex(rank.index) == rank).all()


def test_standing_says_by_how_much_a_method_is_not_first():
    means = pd.DataFrame(
        {"EN": [3.0, 2.0, 1.0, 9.0], "SF": [3.0, 1.0, 2.0, np.nan]},
        index=["A", "B", "C", "lacking"],
    )
    said = {name: ranking.rank_summary(means, name) for name in means.index}
    assert said["A"] == "A: table rank 1.50 over 2 metrics among 4 rows, first."
    assert said["lacking"].endswith("2.50 over 2 metrics among 4 rows, 1.00 behind A (1.50).")
    means.loc["absent"] = np.nan
    assert ranking.rank_summary(means, "absent") == ""
    assert ranking.rank_summary(means.loc[["A"]], "A") == ""


def test_means_over_fewer_images_say_so():
    means = pd.DataFrame({"EN": [1.0, 2.0], "SCD": [np.nan, 3.0]}, index=["a", "b"])
    counts = pd.DataFrame({"EN": [3, 3], "SCD": [0, 2]}, index=["a", "b"])
    text = ranking.format_with_ranks(means, 1, counts)
    assert text.to_numpy().tolist() == [["1.0²", "–"], ["2.0¹", "3.0¹ (2)"]]


def test_each_metric_says_itself_which_way_is_better():
    smaller = {"MSE", "RMSE", "CE", "Qcv", "Nabf"}
    for convention in metrics.CONVENTIONS.values():
        for name, metric in convention.items():
            assert (
                metric.larger_is_better is (name not in smaller) is ranking.larger_is_better(name)
            )
            assert str(metric) == metric and "larger_is_better" not in metric.options
    others = [ranking.larger_is_better(column) for column in ("seconds", "w1", "mAP")]
    assert others == [False, None, True]


def test_the_report_points_the_way_of_each_column():
    columns = ["EN", "MSE", "RMSE", "seconds", "w1"]
    heads = [ranking.headed(column) for column in columns]
    assert heads == ["EN ↑", "MSE ↓", "RMSE ↓", "seconds ↓", "w1"]


def test_units_are_those_of_the_sentences():
    words = {"bits": "in bits", "nats": "in nats", "gray levels": "0..255", "dB": "dB"}
    for convention, named in metrics.CONVENTIONS.items():
        for name, metric in named.items():
            assert ranking.headed(name, convention).startswith(name)
            relative = "[0, 1]" in metric or "8-bit arithmetic" in metric
            if metric.unit in ("bits", "nats", "gray levels", "dB") and name not in (
                "PSNR",
                "RMSE",
            ):
                assert words[metric.unit] in metric and not relative, (convention, name)
            if not metric.unit:
                assert relative or not {"EN", "SF", "SD", "MI", "AG"} & {name}, (convention, name)


# ---- Friedman and Nemenyi ------------------------------------------------------------------------


@pytest.mark.parametrize("ties", [False, True])
def test_friedman_is_scipys(ties):
    table = values(np.random.default_rng(0), shift=0.5, ties=ties)
    found = ranking.friedman(table)
    known = stats.friedmanchisquare(*table.to_numpy().T)
    assert found.statistic == pytest.approx(known.statistic) and found.p == pytest.approx(
        known.pvalue
    )
    assert found.mean.sum() == pytest.approx(len(table.columns) * (len(table.columns) + 1) / 2)
    assert found.mean.index[0] == "d"  # the largest values


def test_smaller_is_better_turns_the_order_round():
    table = values(np.random.default_rng(1), shift=1.0)
    up, down = ranking.friedman(table), ranking.friedman(table, smaller=True)
    assert list(up.mean.index) == list(down.mean.index)[::-1] and up.p == pytest.approx(down.p)


def test_critical_difference_is_demsars():
    """Demsar 2006, table 5(a): q = 2.569 for 4 methods at 5 %; his example, 14 data sets, has
    1.25.
    """
    assert ranking.critical_difference(4, 14) == pytest.approx(
        2.569 * np.sqrt(4 * 5 / (6 * 14)), abs=1e-3
    )
    assert ranking.critical_difference(10, 30) == pytest.approx(
        3.164 * np.sqrt(10 * 11 / (6 * 30)), abs=2e-3
    )


def test_groups_are_the_largest_runs():
    mean = pd.Series({"a": 1.0, "b": 1.5, "c": 2.2, "d": 4.0, "e": 4.3})
    assert ranking.groups(mean, 1.0) == [("a", "b"), ("b", "c"), ("d", "e")]
    assert ranking.groups(mean, 9.0) == [("a", "b", "c", "d", "e")]
    assert ranking.groups(mean, 0.1) == []


def test_nothing_to_tell_apart_and_nothing_at_all():
    same = ranking.friedman(pd.DataFrame(np.ones((5, 3)), columns=list("abc")))
    assert same.p == 1 and same.groups == [("a", "b", "c")]
    alone = ranking.friedman(pd.DataFrame({"a": [1.0, 2.0]}))
    assert alone.p == 1 and alone.groups == [] and alone.mean["a"] == 1
    with pytest.raises(ValueError, match="at least one image and one method, got 0 images"):
        ranking.friedman(pd.DataFrame(columns=["a"]))


def test_an_undefined_value_ranks_last():
    table = pd.DataFrame({"a": [np.nan, np.nan], "b": [1.0, 2.0], "c": [2.0, 1.0]})
    assert (
        ranking.friedman(table).mean["a"] == 3
        and ranking.friedman(table, smaller=True).mean["a"] == 3
    )


def test_the_test_sees_a_difference_and_not_more():
    """Of 200 comparisons without any difference about 5 % are called one; with a large one all
    are.
    """
    rng = np.random.default_rng(2)
    false = np.mean([ranking.friedman(values(rng)).p < 0.05 for _ in range(200)])
    true = np.mean([ranking.friedman(values(rng, shift=1.5)).p < 0.05 for _ in range(20)])
    assert false < 0.12 and true == 1


def test_over_metrics_weighs_metrics_alike():
    frame = pd.DataFrame(
        [
            (image, method, metric, value)
            for image in "xy"
            for metric, scale in (("EN", 1), ("MI", 1000))
            for method, value in (("a", 3 * scale), ("b", 2 * scale), ("c", scale))
        ],
        columns=["image", "method", "metric", "value"],
    )
    assert ranking.over_metrics(frame).loc["x"].to_dict() == {"a": 1, "b": 2, "c": 3}
    # the same values, but small is good
    turned = frame.assign(metric=frame["metric"].replace("MI", "MSE"))
    assert ranking.over_metrics(turned).loc["x"].to_dict() == {"a": 2, "b": 2, "c": 2}


# ---- Holm, Wilcoxon, order -----------------------------------------------------------------------


def test_holm_by_hand():
    assert ranking.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert ranking.holm([0.6, 0.5]) == pytest.approx([1.0, 1.0]) and len(ranking.holm([])) == 0


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_keeps_the_order_between_p_and_bonferroni(p):
    adjusted = ranking.holm(p)
    assert (adjusted >= np.array(p) - 1e-12).all() and (
        adjusted <= np.minimum(1, len(p) * np.array(p)) + 1e-12
    ).all()
    assert (np.diff(adjusted[np.argsort(p, kind="stable")]) >= -1e-12).all()


def test_comparison_with_the_baseline():
    rng = np.random.default_rng(3)
    table = pd.DataFrame(
        {"ours": rng.normal(size=20) + 3, "worse": rng.normal(size=20), "equal": 0.0}
    )
    table["equal"] = table["ours"] + rng.permutation([1e-3, -1e-3] * 10)
    found = ranking.compare_to_baseline(table, "ours")
    assert found["verdict"].to_dict() == {"worse": "better", "equal": "not shown"}
    assert found.loc["worse", "low"] > 0 and (found["p_holm"] >= found["p"]).all()
    assert (
        ranking.compare_to_baseline(table, "ours", smaller=True).loc["worse", "verdict"] == "worse"
    )
    assert (
        ranking.compare_to_baseline(table.assign(copy=np.nan), "ours").loc["copy", "verdict"] == "–"
    )
    with pytest.raises(ValueError, match="expected one of ours, worse, equal, got 'x'"):
        ranking.compare_to_baseline(table, "x")


def test_agreement_of_orders():
    one = pd.DataFrame(
        {"EN": [1.0, 2.0, 3.0, 4.0], "SD": [1.0, 2.0, 3.0, np.nan]}, index=list("abcd")
    )
    found = ranking.agreement(one, one.iloc[::-1] * 2)
    assert (
        found.loc["EN", ["methods", "kendall", "spearman"]].tolist() == [4, 1, 1]
        and found.loc["SD", "methods"] == 3
    )
    assert ranking.agreement(one, -one)["kendall"].tolist() == [-1, -1]
    # two methods have no order to speak of
    assert np.isnan(ranking.agreement(one, one.loc[["a", "b"]])["kendall"]).all()


def test_trivial_baseline_ranks_name_the_best_trivial_row():
    means = pd.DataFrame(
        {"EN": [5.0, 6.0, 7.0, 4.0], "SCD": [np.nan, np.nan, 1.0, 2.0]},
        index=["infrared", "average", "DenseFuse", "AUIF"],
    )
    found = ranking.trivial_baseline_ranks(means, comparison.TRIVIAL)
    assert found.loc["EN"].to_dict() == {
        "row": "average",
        "value": 6.0,
        "rank": 2,
        "ahead_of": 1,
        "methods": 2,
    }
    assert "SCD" not in found.index


# ---- figures -------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2, 5, 14])
def test_every_method_is_on_the_critical_difference_plot(count):
    table = values(np.random.default_rng(4), names=[f"method {i}" for i in range(count)], shift=0.3)
    ranks = ranking.friedman(table)
    figure = figures_ranking.critical_difference(ranks)
    words = " ".join(text.get_text() for text in figure.axes[0].texts)
    assert all(name in words for name in table) and f"{ranks.mean.iloc[0]:.2f}" in words
    figures_ranking.plt.close(figure)


# ---- many methods --------------------------------------------------------------------------------


class Broken:
    """A method's function that fails on the second pair."""

    def __init__(self):
        self.calls = 0

    def __call__(self, a, b):
        self.calls += 1
        if self.calls == 2:
            raise RuntimeError("out of memory")
        return a


def test_one_method_fails_and_the_others_go_on(tmp_path):
    pairs = open_pairs(limit=2, size=(40, 48))
    sources = protocol.write_sources(pairs, tmp_path / "sources")
    chosen = {
        "broken": methods.Method("broken", Broken()),
        "SwinFuse": comparison.get("SwinFuse", str(tmp_path)),
        "infrared": comparison.get("infrared"),
    }
    status = comparison.fuse(chosen, pairs, sources, tmp_path / "fused", progress=False)
    assert status["broken"] == f"failed: ValueError: {pairs[1].name}: out of memory"
    assert status["infrared"] == ""
    assert status["SwinFuse"].startswith("no weights: ")
    scores, problems = comparison.score(
        ["infrared"], sources, tmp_path / "fused", ["EN", "SCD"], ["moe-fusion"], progress=False
    )
    assert not problems and len(scores) == 4
    # The copy is exact, although the coloured image had to clip: SCD of a copied source has no
    # value.
    assert scores[scores["metric"] == "SCD"]["value"].isna().all()


def test_generated_pairs_are_held_out_and_repeatable():
    one, two = open_pairs(limit=2), open_pairs(limit=2)
    assert [pair.name for pair in one] == ["scene-1000", "scene-1001"] and one[
        0
    ].infrared.shape == (96, 128)
    assert (one[1].visible == two[1].visible).all() and len(open_pairs()) == 8


def test_only_the_papers_own_images_carry_the_name_of_its_split():
    assert (
        comparison.split_of("LLVIP", "test")
        == comparison.split_of("FLIR-aligned", "test")
        == "evaluation"
    )
    assert (
        comparison.split_of("M3FD", "test") == "test"
        and comparison.split_of("LLVIP", "train") == "train"
        and comparison.split_of("LLVIP", "") == ""
    )
    assert comparison.split_of("FLIR-aligned", "FLIR-1013") == "evaluation"
    assert comparison.split_of("FLIR-aligned", "FLIR-4129") == "FLIR-4129"
    table = published.table("moe-fusion", 1)
    printed = {name for name in catalog.names() if catalog.is_evaluation(name, "test")}
    assert printed < set(table["dataset"]) and set(table["split"]) == {"evaluation"}


def test_other_sizes_and_variants_of_what_was_fused(tmp_path, monkeypatch):
    """Each network in its variants at the size of the table, its default alone at other sizes."""
    variants = {"default": 0.5, "strong": 0.8, "without weights": None}
    made = {
        name: methods.Method(
            "TarDAL", lambda a, b, w=weight: a * w + b * (1 - w), name, tuple(variants)
        )
        for name, weight in variants.items()
    }
    monkeypatch.setattr(methods, "get", lambda name, variant, *_: made[variant])
    monkeypatch.setattr(
        methods, "missing_weights", lambda one: "none" * one.variant.startswith("without")
    )
    pairs = open_pairs(limit=2)
    sources = protocol.write_sources(pairs, tmp_path / "sources")
    done = {"average": methods.METHODS["average"][""], "TarDAL": made["default"]}
    comparison.fuse(done, pairs, sources, tmp_path / "fused", progress=False)
    given = (done, pairs, sources, tmp_path / "fused", "native")
    assert comparison.alternatives(*given, []) == []
    tried = comparison.alternatives(*given, ["native", "resize-back"], every_variant=True)
    labels = [("default", "native"), ("strong", "native"), ("default", "resize-back")]
    assert [(one.variant, one.resolution) for one in tried] == labels
    assert tried[0].fused == tmp_path / "fused/TarDAL/gray", "not fused twice"
    table = protocol.tabulate(tried, ["EN", "SD"], ["moe-fusion"], progress=False)
    assert list(table["variant"].unique()) == [", ".join(label) for label in labels]
    assert set(table["n_images"]) == {2} and table.groupby("metric")["value"].nunique().min() == 3
    digits = table[table["variant"] == "strong, native"].assign(method="TarDAL")
    digits = digits.assign(printed=[f"{value:.6f}" for value in digits["value"]])
    digits["value"] = digits["printed"].astype(float)
    best = protocol.find(digits, tried, ["moe-fusion"], progress=False).iloc[0]
    assert (best["variant"], best["agree"]) == ("strong", 1)


def test_overlap_of_training_and_test():
    chosen = {name: comparison.get(name) for name in ("average", "DIDFuse", "YDTR", "TarDAL")}
    on_roadscene = comparison.overlap(chosen, "roadscene")["overlap"]  # made of frames of FLIR
    assert on_roadscene.to_dict() == {
        "average": "none known",
        "DIDFuse": "same data set",
        "YDTR": "not known",
        "TarDAL": "none known",
    }
    assert comparison.overlap(chosen, "M3FD").loc["TarDAL", "overlap"] == "same data set"
    assert set(comparison.overlap(chosen, "my own")["overlap"]) == {"none known", "not known"}
